"""Derivatives of outputs in the inputs, of every family, against torch.func and differences."""

import pytest
import torch
from torch import nn

from sklearn_gflow.geometry import LayeredNetwork, ModuleFamily
from sklearn_gflow.geometry.gradients import gradients_of_rows
from tests.families import FAMILIES
from tests.oracles import ACTIVATIONS


def rows(n_features, n=5):
    return torch.randn(n, n_features, generator=torch.Generator().manual_seed(1)).double()


def differences(f, X, h=1e-6):
    """∂f_q/∂xⱼ of each row by central differences, shape (n_samples, n_outputs, n_features)."""
    columns = []
    for j in range(X.shape[1]):
        step = torch.zeros_like(X)
        step[:, j] = h
        columns.append((f(X + step) - f(X - step)) / (2 * h))
    return torch.stack(columns, dim=2)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_knows_its_slopes(name):
    case = FAMILIES[name]
    family = case.family()
    theta, X = family.initial(torch.Generator().manual_seed(0)), rows(case.n_features)

    def of_row(x):
        return case.function(theta, x[None])[0]

    expected = torch.stack([torch.func.jacrev(of_row)(x) for x in X])
    found = family.input_gradients(theta, X)
    assert found.shape == (len(X), case.n_outputs, case.n_features)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"relu"}))
def test_layered_networks_against_differences(activation):
    network = LayeredNetwork((3, 6, 5, 2), activation)
    theta, X = network.initial(torch.Generator().manual_seed(0)), rows(3)
    expected = differences(lambda X: network.outputs(theta, X), X)
    found = network.input_gradients(theta, X)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_modules_against_differences():
    def made():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3)).double()

    family = ModuleFamily.copied(made(), 3, torch.empty(0, dtype=torch.float64))
    theta, X = family.initial(torch.Generator().manual_seed(0)), rows(4)
    expected = differences(lambda X: family.outputs(theta, X), X)
    found = family.input_gradients(theta, X)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_a_linear_network_has_its_weights_for_slopes():
    network = LayeredNetwork((3, 2))
    theta = network.initial(torch.Generator().manual_seed(0))
    W = theta[:6].reshape(3, 2)
    found = network.input_gradients(theta, rows(3))
    torch.testing.assert_close(found, W.mT.expand(5, 2, 3))


def test_inputs_are_left_as_they_are():
    X = rows(2)
    with torch.no_grad():
        found = gradients_of_rows(lambda X: X**2 @ torch.ones(2, 1, dtype=X.dtype), X)
    torch.testing.assert_close(found[:, 0], 2 * X)
    assert not X.requires_grad
    assert not found.requires_grad


def test_an_output_that_ignores_its_inputs_is_flat():
    X = rows(2)
    found = gradients_of_rows(lambda X: torch.stack([X[:, 0], 0 * X[:, 1]], dim=1), X)
    assert torch.equal(found[:, 0], torch.tensor([[1.0, 0.0]]).double().expand(5, 2))
    assert not found[:, 1].any()
