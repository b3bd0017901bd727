"""The tangent kernel (3.14)–(3.17): blocks, definiteness, and what the α-flow makes of it."""

import numpy as np
import pytest
import torch

from sklearn_gflow.diagnostics import (
    KernelDrift,
    adapted_kernel,
    kernel_blocks,
    kernel_drift,
    positive_definite,
)
from sklearn_gflow.dynamics import Event, Point, output_field
from sklearn_gflow.geometry import LayeredNetwork
from tests import oracles
from tests.theory.problems import ALPHAS, RANKS, Problem, adapted_flow, factor_at, normal, relative


def kernel_at(problem, theta, alpha, solver="eigh", scale=1.0):
    tangent = problem.map.linearize(theta)
    return adapted_kernel(factor_at(tangent, solver=solver), tangent, alpha, scale).numpy()


# -- (3.14)–(3.15) ---------------------------------------------------------------------------


def test_blocks_are_products_of_jacobians_of_single_inputs(measured):
    # Two hidden layers: with one, Θ(x, y) is symmetric, and a transposed block would pass.
    p = Problem.draw(5, (3, 7, 5, 2), "silu", seed=51)
    others = normal(4, 3, seed=52)
    network = LayeredNetwork(p.sizes, p.activation)
    left, right = network.linearize(p.theta, p.X), network.linearize(p.theta, others)
    pairs = ((left.gram(), p.X, p.X), (left.cross_gram(right), p.X, others))
    for kernel, first, second in pairs:
        blocks = kernel_blocks(kernel, 2)
        assert blocks.shape == (len(first), len(second), 2, 2)
        assert not torch.allclose(blocks, blocks.mT)
        for i, x in enumerate(first):
            for j, y in enumerate(second):
                Df = oracles.jacobian(p.theta, x[None], p.sizes, p.activation)
                Dg = oracles.jacobian(p.theta, y[None], p.sizes, p.activation)
                measured("Θ(xᵢ, yⱼ) against (3.14)", relative(blocks[i, j], Df @ Dg.T),
                         at_most=1e-12)  # fmt: skip


@pytest.mark.parametrize("name", RANKS)
def test_kernel_matrix_is_the_gram(name, measured):
    p, _ = RANKS[name]()
    D = p.D()
    measured("DDᵀ against (3.15)", relative(p.map.linearize(p.theta).gram(), D @ D.T),
             at_most=1e-12)  # fmt: skip


# -- (3.16) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANKS)
def test_positive_definite_exactly_at_full_rank(name, measured):
    p, rank = RANKS[name]()
    gram = p.map.linearize(p.theta).gram()
    found = positive_definite(gram)
    assert found.positive == (rank == p.map.size)
    assert found.positive == (found.margin > found.threshold)
    eigenvalues = np.linalg.eigvalsh(gram.numpy())
    margin = eigenvalues[0] / eigenvalues[-1]
    measured("margin against numpy", abs(found.margin - margin), at_most=1e-12)
    if found.positive:
        u = normal(p.map.size, 200, seed=53)
        forms = ((gram @ u) * u).sum(0) / (u * u).sum(0)
        assert float(forms.min()) >= margin * eigenvalues[-1] * (1 - 1e-9)


def test_definiteness_belongs_to_the_samples():
    """One network, one θ: positive definite on some inputs, not where two of them are equal."""
    p = Problem.draw(5, (3, 20, 2), seed=54)
    assert positive_definite(p.map.linearize(p.theta).gram()).positive
    p.X[4] = p.X[0]
    assert not positive_definite(p.map.linearize(p.theta).gram()).positive


def test_margin_below_rounding_is_no_definiteness():
    """A positive smallest eigenvalue proves nothing where rounding could have made it."""
    found = positive_definite(torch.diag(torch.tensor([1.0, 1e-18], dtype=torch.float64)))
    assert found.margin == pytest.approx(1e-18)
    assert not found.positive


# -- (3.17) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "eigh", "svd"])
@pytest.mark.parametrize(
    ("sizes", "activation"),
    [((3, 16, 2), "tanh"), ((3, 8, 8, 2), "gelu"), ((3, 24, 2), "softplus")],
)
def test_adapted_kernel_is_the_identity_at_full_rank(sizes, activation, solver, measured):
    """δᵢⱼ1, whatever the network."""
    p = Problem.draw(6, sizes, activation, seed=55)
    K = kernel_at(p, p.theta, 1.0, solver)
    measured("K against δᵢⱼ1 at full rank", np.abs(K - np.eye(12)).max(), at_most=1e-8)
    blocks = kernel_blocks(torch.from_numpy(K), 2)
    for i in range(6):
        for j in range(6):
            expected = np.eye(2) if i == j else np.zeros((2, 2))
            np.testing.assert_allclose(blocks[i, j], expected, atol=1e-8)


@pytest.mark.parametrize("solver", ["auto", "eigh", "svd"])
@pytest.mark.parametrize("name", [name for name in RANKS if name != "full_rank"])
def test_adapted_kernel_is_the_projector_otherwise(name, solver, measured):
    p, rank = RANKS[name]()
    K = kernel_at(p, p.theta, 1.0, solver)
    U, _, _ = oracles.thin_svd(p.D(), 1e-8)
    measured("K against P", np.abs(K - U @ U.T).max(), at_most=1e-8)
    measured("trace of K, less the rank", abs(np.trace(K) - rank), at_most=1e-8)
    measured("|K − 1| below full rank", np.linalg.norm(K - np.eye(len(K))), at_least=1.0)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", RANKS)
def test_kernel_of_the_family(name, alpha, scale, measured):
    """αP + (1−α)G drives the outputs (2.39): V_x,α is minus it times ∇ₓC."""
    p, _ = RANKS[name]()
    K = kernel_at(p, p.theta, alpha, scale=scale)
    D = p.D()
    U, _, _ = oracles.thin_svd(D, 1e-8)
    expected = alpha * U @ U.T + (1 - alpha) / scale * D @ D.T
    measured("αP + (1−α)G/c against the oracle", relative(K, expected), at_most=1e-9)
    tangent = p.map.linearize(p.theta)
    V = output_field(tangent, factor_at(tangent, solver="eigh"), p.cost, alpha, scale=scale)
    gradient = (p.outputs() - p.target) / len(p.X)
    measured("V_x,α against −K∇ₓC", relative(V, -K @ gradient), at_most=1e-9)


@pytest.mark.slow
def test_constant_throughout_training(measured):
    """Θ drifts along the adapted flow; K does not move."""
    p = Problem.draw(6, (3, 16, 2), seed=56)
    path = adapted_flow(p.map, p.cost, p.theta, [0.25, 0.5, 0.75, 0.95])
    grams = [p.D(theta) @ p.D(theta).T for theta in path.thetas]
    for theta in path.thetas:
        K = kernel_at(p, theta, 1.0)
        measured("K against 1 along the flow", np.abs(K - np.eye(12)).max(), at_most=1e-8)
    drift = kernel_drift(torch.from_numpy(grams[0]), torch.from_numpy(grams[-1]))
    assert drift == pytest.approx(relative(grams[-1], grams[0]), rel=1e-12)
    measured("drift of Θ meanwhile", drift, at_least=0.1)


@pytest.mark.slow
def test_drift_by_probes(measured):
    """The estimate without the Gram, against the Frobenius norms."""
    p = Problem.draw(6, (3, 16, 2), seed=56)
    drift = KernelDrift(n_probes=400)
    path = adapted_flow(p.map, p.cost, p.theta, [0.95])
    exact = relative(p.D(path.theta) @ p.D(path.theta).T, p.D() @ p.D().T)

    def at(theta):
        return Event(Point.at(p.map, p.cost, 0.0, theta))

    assert drift.start(at(p.theta)) == {"ntk_drift": 0.0}
    found = drift.step(at(path.theta))["ntk_drift"]
    # Standard error of the ratio: about 1/√(2·400) for each norm.
    measured("ntk_drift by 400 probes against the exact one", abs(found / exact - 1), at_most=0.1)
