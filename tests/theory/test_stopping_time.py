"""The time at which a flow's loss is at ε, known at its start (Chen, arXiv:2311.15487)."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.datasets import load_diabetes, load_iris

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.diagnostics import stopping_time
from sklearn_gflow.dynamics import Adaptive, FlowOptions, flow, reference_flow
from sklearn_gflow.geometry import CrossEntropy, SquaredError
from tests import oracles
from tests.theory.problems import RANKS, Problem, full_rank, normal, probabilities

pytestmark = pytest.mark.slow

SHARES = (0.5, 0.1, 0.01)


def at(problem, options, share, cost=None):
    """Stopping time of a share of the loss at the start."""
    cost = cost or problem.cost
    eps = share * cost.value(problem.map.outputs(problem.theta))
    return eps, stopping_time(eps, problem.map, cost, problem.theta, options)


def loss_at(problem, cost, options, tau):
    """C of the real flow at τ, by DOP853."""
    t = -math.expm1(-tau)
    path = reference_flow(
        problem.map, cost, problem.theta, options, t_end=t, times=[t], rtol=1e-9, atol=1e-9
    )
    return path.loss[-1]


def by_dense_modes(problem, eps, alpha, ridge):
    """τ by the singular values of a dense D, c and the ridge in units of the mean diagonal."""
    D, r = problem.D(), problem.target - problem.outputs()
    U, sigma, _ = oracles.thin_svd(D, 1e-8)
    lam, N = sigma**2, len(problem.X)
    c = (D**2).sum() / len(D)
    rates = lam * (alpha / (lam + ridge * c) + (1 - alpha) / c)
    inside = (U.T @ r) ** 2
    floor = (r @ r - inside.sum()) / (2 * N)

    def excess(tau):
        return math.log((floor + inside @ np.exp(-2 * tau * rates) / (2 * N)) / eps)

    if eps <= floor:
        return math.nan, floor
    return scipy.optimize.brentq(excess, 0, 1e9, xtol=1e-14), floor


@pytest.mark.parametrize("share", SHARES)
def test_adapted_flow_of_full_rank(share, measured):
    """t = 1 − √(ε/C₀), and the loss of the real flow there is ε."""
    problem, _ = full_rank()
    options = FlowOptions(alpha=1.0, tol=0.0)
    eps, found = at(problem, options, share)
    measured("t against 1 − √(ε/C₀)", abs(found.t - (1 - share**0.5)), at_most=1e-12)
    assert found.latest == pytest.approx(found.t, abs=1e-12)
    real = loss_at(problem, problem.cost, options, found.tau)
    measured("|C(t)/ε − 1| of the real flow, α = 1", abs(real / eps - 1), at_most=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", RANKS)
def test_time_by_dense_modes(name, alpha, ridge, measured):
    problem, _ = RANKS[name]()
    for share in (0.9, 0.3):
        eps, found = at(problem, FlowOptions(alpha=alpha, damping=ridge), share)
        tau, floor = by_dense_modes(problem, eps, alpha, ridge)
        gap = abs(found.floor - floor) / eps
        measured("loss out of reach, against dense modes, of ε", gap, at_most=1e-9)
        assert math.isnan(found.tau) == math.isnan(tau)
        if not math.isnan(tau):
            measured("τ against dense modes", abs(found.tau / tau - 1), at_most=1e-6)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_promise_of_full_rank_is_kept_for_every_kernel(alpha, share, measured):
    """dC/dτ ≤ −2αC: the loss at ``latest`` is at most ε, however G turns."""
    problem, _ = full_rank()
    options = FlowOptions(alpha=alpha, tol=0.0)
    eps, found = at(problem, options, share)
    assert found.tau <= -math.log1p(-found.latest)
    real = loss_at(problem, problem.cost, options, -math.log1p(-found.latest))
    measured("C/ε at the promised time", real / eps, at_most=1 + 1e-6)
    forecast = loss_at(problem, problem.cost, options, found.tau)
    measured("|ln C/ε| at the forecast time, α < 1", abs(math.log(forecast / eps)), at_most=0.6)


def test_more_outputs_than_parameters(measured):
    """K = 14 < QN = 40, labels near the reach of the network: P turns, and the forecast errs."""
    problem = Problem.draw(20, (3, 2, 2), seed=22)
    goal = problem.theta + 0.3 * normal(len(problem.theta), seed=29)
    problem.y = problem.map.family.outputs(goal, problem.X) + 0.1 * problem.y
    options = FlowOptions(alpha=1.0, tol=0.0)
    start = problem.cost.value(problem.map.outputs(problem.theta))
    _, found = at(problem, options, 0.9)
    reachable = start - found.floor
    for share in (0.75, 0.5, 0.25):
        eps = found.floor + share * reachable
        tau = stopping_time(eps, problem.map, problem.cost, problem.theta, options).tau
        gap = abs(tau + math.log(share) / 2)
        measured("τ where K < QN against −½ ln of the reachable share", gap, at_most=1e-9)
        real = loss_at(problem, problem.cost, options, tau)
        measured("|C − ε| where K < QN, of what is reachable", abs(real - eps) / reachable,
                 at_most=0.1)  # fmt: skip
    below = stopping_time(found.floor / 2, problem.map, problem.cost, problem.theta, options)
    assert math.isnan(below.t)
    assert math.isnan(below.latest)
    assert below.n_steps == 0


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cross_entropy(alpha, measured):
    problem = Problem.draw(6, (3, 16, 3), seed=1)
    cost = CrossEntropy(probabilities(6, 3, seed=2))
    options = FlowOptions(alpha=alpha, tol=0.0)
    start = cost.value(problem.map.outputs(problem.theta))
    least = cost.least(problem.map.outputs(problem.theta))
    eps = least + 0.1 * (start - least)
    found = stopping_time(eps, problem.map, cost, problem.theta, options)
    assert math.isnan(found.latest)
    assert found.floor == pytest.approx(least)
    real = loss_at(problem, cost, options, found.tau)
    measured("|C − ε|/(C₀ − C*), log-loss", abs(real - eps) / (start - least), at_most=0.05)


TABLES = {
    "α = 1": {"alpha": 1.0},
    "α = 0.5": {"alpha": 0.5, "damping": 0.0},
    "defaults": {},
    "α = 1, 3 units": {"alpha": 1.0, "hidden_layer_sizes": (3,)},
}


@pytest.mark.parametrize("name", TABLES)
def test_fits_of_diabetes_stop_when_they_are_told_to(name, measured):
    """Loss at the forecast time of exponential steps, and how many there are."""
    X, y = (part[:150] for part in load_diabetes(return_X_y=True))
    model = AdaptedFlowRegressor(**{"hidden_layer_sizes": (64,), "random_state": 0, **TABLES[name]})
    start = model.start_of(X, y)
    eps = 0.5 * start.cost.value(start.output_map.outputs(start.theta))
    found = stopping_time(eps, *start)
    path = flow(*start[:3], Adaptive(found.tau), start.options)
    measured("|ln C/ε|, diabetes", abs(math.log(path.loss[-1] / eps)), at_most=0.25)
    ratio = abs(math.log2(found.n_steps / path.n_steps))
    measured("|log₂| of steps forecast over steps taken", ratio, at_most=2.5)


def test_start_of_is_what_fit_follows():
    """C₀, θ₀ and the unit are those of the fit, with weights and with labels."""
    X, y = load_iris(return_X_y=True)
    w = np.linspace(1, 2, len(X))
    model = AdaptedFlowClassifier((8,), t_end=0.5, random_state=0)
    start = model.start_of(X, y, w)
    assert not hasattr(model, "loss_")
    model.fit(X, y, w)
    loss = start.cost.value(start.output_map.outputs(start.theta))
    assert loss == pytest.approx(model.loss_curve_[0])
    path = flow(*start[:3], Adaptive(-math.log(0.5)), start.options)
    assert path.loss[-1] == pytest.approx(model.loss_, rel=1e-9)


def test_a_loss_that_is_reached_already_and_one_that_is_none():
    problem, _ = full_rank()
    _, found = at(problem, FlowOptions(), 1.0)
    assert found.t == found.latest == found.n_steps == 0
    at_labels = SquaredError(problem.map.outputs(problem.theta), 6.0)
    found = stopping_time(1e-3, problem.map, at_labels, problem.theta)
    assert found.t == found.latest == found.n_steps == 0
    for eps in (0.0, math.nan):
        with pytest.raises(ValueError, match="eps must be a positive loss"):
            stopping_time(eps, problem.map, problem.cost, problem.theta)
    _, found = at(problem, FlowOptions(alpha=0.0), 0.5)
    assert found.latest == 1.0
    assert torch.isfinite(torch.tensor(found.tau))
