import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_gflow.diagnostics import LeaveOneOut
from sklearn_gflow.dynamics import Point
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError
from tests import oracles

ALPHAS = [0.0, 0.01, 0.3, 1.0]
TAUS = [0.0, 1e-3, 0.7, 20.0, math.inf]
C = 2.5
RNG = np.random.default_rng(0)


def features(n, n_outputs, K, condition=30.0):
    """D of shape (n, Q, K) with singular values from 1 to 1/condition."""
    rank = min(n * n_outputs, K)
    return oracles.matrix(n * n_outputs, K, rank, condition=condition).reshape(n, n_outputs, K)


def copied(D):
    """Rows 0 and 1 of the inputs twice: D has not full rank, and each copy tells of the other."""
    return torch.cat([D, D[:2]])


CASES = {
    "full_rank": features(9, 1, 30),
    "two_outputs": features(6, 2, 40),
    "fewer_parameters": features(12, 1, 5),
    "two_outputs_fewer_parameters": features(7, 2, 6),
    "copies": copied(features(7, 1, 30)),
    "stiff": features(9, 1, 30, condition=1e4),
}


def closed_form(D, y, weights, *, estimated_mean=True):
    _, n_outputs, K = D.shape
    root = torch.from_numpy(np.repeat(np.sqrt(weights), n_outputs))
    weighted = root[:, None] * D.reshape(-1, K)
    eigenvalues, V = torch.linalg.eigh(weighted @ weighted.mT)
    eigenvalues[eigenvalues < 1e-13 * eigenvalues[-1]] = 0
    w = torch.from_numpy(weights)
    mean = np.average(y, axis=0, weights=weights) if estimated_mean else 0.0
    return LeaveOneOut(eigenvalues, V, torch.from_numpy(y - mean), w, estimated_mean)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_equals_refits_of_the_linear_model(name, weighted, ridge, alpha):
    D = CASES[name]
    y = np.random.default_rng(1).normal(size=D.shape[:2]) + 3
    weights = np.random.default_rng(2).uniform(0.2, 3, len(y)) if weighted else np.ones(len(y))
    for tau in TAUS:
        refits = oracles.left_out_residuals(D, y, weights, alpha=alpha, tau=tau, c=C, ridge=ridge)
        found = closed_form(D, y, weights).residuals(alpha, tau, C, ridge)
        np.testing.assert_allclose(
            found, refits, rtol=1e-8, atol=1e-8 * np.abs(refits).max(), err_msg=f"τ = {tau}"
        )


@pytest.mark.slow
@given(
    alpha=st.floats(0.01, 1), tau=st.floats(-3, 3.5), ridge=st.floats(-5, 1),
    name=st.sampled_from(["full_rank", "stiff"]),
)  # fmt: skip
@settings(deadline=None, max_examples=60, derandomize=True)
def test_fit_of_the_damped_flow_holds_everywhere(alpha, tau, ridge, name):
    """Exponents of τ and μ over seven and six decades."""
    D, weights = CASES[name], np.ones(9)
    y = np.random.default_rng(1).normal(size=D.shape[:2])
    flow_of = {"alpha": alpha, "tau": 10**tau, "ridge": 10**ridge}
    refits = oracles.left_out_residuals(D, y, weights, c=C, **flow_of)
    found = closed_form(D, y, weights).residuals(scale=C, **flow_of)
    np.testing.assert_allclose(found, refits, atol=1e-8 * np.abs(refits).max())


@pytest.mark.slow
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("name", ["full_rank", "fewer_parameters", "two_outputs", "copies"])
def test_training_loss_is_that_of_the_frozen_flow(name, ridge, alpha, tau):
    D = CASES[name]
    y, weights = RNG.normal(size=D.shape[:2]), RNG.uniform(0.2, 3, len(D))
    root = np.repeat(np.sqrt(weights), D.shape[1])
    centred = y - np.average(y, axis=0, weights=weights)
    r, weighted = root * centred.reshape(-1), root[:, None] * D.reshape(-1, D.shape[2]).numpy()
    if math.isinf(tau):
        moved = oracles.project(weighted, r, rtol=1e-10)
    else:
        _, moved = oracles.frozen_flow(weighted, r, tau, alpha, C, ridge)
    expected = np.square(r - moved).sum() / (2 * weights.sum())
    found = closed_form(D, y, weights).training_loss(alpha, tau, C, ridge)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_without_an_estimated_mean():
    D, y, weights = CASES["two_outputs"], np.ones((6, 2)), np.ones(6)
    refits = oracles.left_out_residuals(
        D, y, weights, alpha=0.3, tau=1.0, c=C, estimated_mean=False
    )
    found = closed_form(D, y, weights, estimated_mean=False).residuals(0.3, 1.0, C)
    np.testing.assert_allclose(found, refits, rtol=1e-9)


def test_interpolant_is_the_shortcut_of_kernel_regression():
    D, y, weights = CASES["full_rank"], RNG.normal(size=(9, 1)), np.ones(9)
    G = (D[:, 0] @ D[:, 0].mT).numpy()
    inverse = np.linalg.inv(G)
    expected = (inverse @ y)[:, 0] / np.diag(inverse)
    found = closed_form(D, y, weights, estimated_mean=False).residuals(0.5, math.inf, C)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)


def test_weight_counts_as_copies_left_out_together():
    D, y = features(5, 1, 20), RNG.normal(size=(5, 1))
    weights = np.array([1.0, 3.0, 1.0, 2.0, 1.0])
    rows = np.repeat(np.arange(5), weights.astype(int))
    found = closed_form(D, y, weights).residuals(0.1, 2.0, C)
    for i in range(5):
        kept = rows[rows != i]
        # One more row, of a target that the others cannot see, is the place of row i.
        new_D, new_y = torch.cat([D[kept], D[i][None]]), np.concatenate([y[kept], y[[i]]])
        ones = np.ones(len(new_y))
        last = oracles.left_out_residuals(new_D, new_y, ones, alpha=0.1, tau=2.0, c=C)[-1]
        np.testing.assert_allclose(found[i], last, rtol=1e-9)


def test_shortcut_of_the_propagator_is_another_quantity():
    """At α = 1 and full rank r_i/R_ii is the target itself; leaving out predicts better."""
    theta, X = oracles.problem(40, (2, 60, 1))
    y = torch.sin(X[:, :1])
    D = oracles.jacobian(theta, X, (2, 60, 1), "tanh")[:, None]
    left_out = closed_form(D, y.numpy(), np.ones(40)).residuals(1.0, 3.0, C)
    assert float(left_out.square().mean()) < 0.2 * float(y.var())


def test_at_a_point_of_a_network():
    sizes, weights = (2, 20, 2), torch.linspace(0.5, 2, 8, dtype=torch.float64)
    theta, X = oracles.problem(8, sizes)
    network = LayeredNetwork(sizes)
    output_map = OutputMap(network, X, network.outputs(theta, X), weights)
    y = torch.from_numpy(RNG.normal(size=(8, 2)))
    centred = y - (weights[:, None] * y).sum(0) / weights.sum()
    cost = SquaredError(output_map.weigh(centred), output_map.total_weight)
    found = LeaveOneOut.at(Point.at(output_map, cost, 0.0, theta)).residuals(0.1, 1.5, C)
    D = oracles.jacobian(theta, X, sizes, "tanh").reshape(8, 2, -1)
    expected = oracles.left_out_residuals(D, y, weights, alpha=0.1, tau=1.5, c=C)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("estimated_mean", [False, True])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_shared_kernel_is_exact_where_outputs_do_not_touch(alpha, tau, estimated_mean):
    """Q outputs with the same features each, G = K̄ ⊗ 1: one small matrix does for the large one."""
    D = torch.kron(features(7, 1, 20)[:, 0], torch.eye(3, dtype=torch.float64)).view(7, 3, -1)
    y = np.random.default_rng(1).normal(size=(7, 3)) + 3
    weights = np.random.default_rng(2).uniform(0.2, 3, 7)
    exact = closed_form(D, y, weights, estimated_mean=estimated_mean)
    one = closed_form(features(7, 1, 20), y[:, :1], weights)
    shared = LeaveOneOut(
        one.eigenvalues, one.vectors, exact.residual, exact.weights, estimated_mean
    )
    np.testing.assert_allclose(
        shared.residuals(alpha, tau, C), exact.residuals(alpha, tau, C), rtol=1e-8, atol=1e-9
    )


def test_shared_kernel_of_a_network():
    """With one output it is the Gram; with four of a wide net it comes close to it."""
    for n_outputs, tolerance in ((1, 1e-8), (4, 0.15)):
        sizes = (3, 400, n_outputs)
        theta, X = oracles.problem(10, sizes)
        network = LayeredNetwork(sizes)
        output_map = OutputMap(network, X, network.outputs(theta, X))
        y = torch.from_numpy(np.random.default_rng(0).normal(size=(10, n_outputs)))
        cost = SquaredError(output_map.weigh(y - y.mean(0)), output_map.total_weight)
        start = Point.at(output_map, cost, 0.0, theta)
        exact = LeaveOneOut.at(start).residuals(0.1, 1.5, C)
        shared = LeaveOneOut.at(start, shared=True).residuals(0.1, 1.5, C)
        distance = torch.linalg.vector_norm(shared - exact) / torch.linalg.vector_norm(exact)
        assert float(distance) <= tolerance


def test_nothing_to_learn_from():
    y = np.arange(4.0)[:, None]
    found = closed_form(torch.zeros(4, 1, 3), y, np.ones(4)).residuals(0.5, 2.0, C)
    np.testing.assert_allclose(found[:, 0], (y[:, 0] - y.mean()) * 4 / 3)


class TestNotFinite:
    def left_out(self, eigenvalues=None):
        D = features(6, 1, 20)[:, 0]
        found, V = torch.linalg.eigh(D @ D.mT)
        y, ones = torch.from_numpy(RNG.normal(size=(6, 1))), torch.ones(6, dtype=torch.float64)
        return LeaveOneOut(found if eigenvalues is None else eigenvalues, V, y, ones)

    @pytest.mark.parametrize("alpha", [0.0, 0.3])
    @pytest.mark.parametrize("tau", [0.0, 0.7, math.inf])
    @pytest.mark.parametrize("broken", [{"scale": math.nan}, {"ridge": math.nan}])
    def test_arguments(self, alpha, tau, broken):
        arguments = {"scale": C, "ridge": 0.1} | broken
        assert self.left_out().residuals(alpha, tau, **arguments).isnan().all()

    @pytest.mark.parametrize("tau", [0.0, 0.7, math.inf])
    def test_eigenvalues_are_not_taken_for_zero(self, tau):
        broken = self.left_out(torch.full((6,), math.nan, dtype=torch.float64))
        assert broken.residuals(0.3, tau, C).isnan().all()
        assert math.isnan(broken.training_loss(0.3, tau, C))


@pytest.mark.parametrize(
    "extreme",
    [{"tau": 1e-300}, {"tau": 1e300}, {"ridge": 1e300}, {"scale": 1e-300}, {"scale": 1e300}],
)
def test_extremes_need_few_windows(extreme):
    left_out = closed_form(CASES["full_rank"], RNG.normal(size=(9, 1)), np.ones(9))
    arguments = {"alpha": 0.5, "tau": 1.0, "scale": C, "ridge": 0.1} | extreme
    assert left_out.residuals(**arguments).isfinite().all()
    assert len(left_out._windows) < 60


def test_at_no_time_nothing_is_learnt():
    y = RNG.normal(size=(9, 1))
    left_out = closed_form(CASES["full_rank"], y, np.ones(9))
    at_once = left_out.residuals(0.5, 1e-300, C, 0.1)
    torch.testing.assert_close(at_once, left_out.residuals(0.5, 0.0, C, 0.1), rtol=0, atol=1e-8)
