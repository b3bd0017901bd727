"""Proposition 2.4: at full rank the adapted flow is linear interpolation (2.57) in t."""

import math

import numpy as np
import pytest
import torch

from sklearn_gflow.dynamics import (
    Fixed,
    FlowOptions,
    Point,
    exponential,
    flow,
    reference_flow,
)
from tests import oracles
from tests.theory.problems import Problem, adapted_flow, factor_at, off_the_line, relative

pytestmark = pytest.mark.slow

TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.999)
ARCHITECTURES = {
    "one hidden layer, tanh": (6, (3, 16, 2), "tanh"),
    "two hidden layers, silu": (5, (2, 8, 8, 2), "silu"),
    "three hidden layers, softplus": (8, (4, 10, 8, 6, 1), "softplus"),
}


def problem(name):
    n, sizes, activation = ARCHITECTURES[name]
    return Problem.draw(n, sizes, activation, seed=11)


@pytest.mark.parametrize("clock", ["tau", "t"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_move_on_the_line(name, clock, measured):
    p = problem(name)
    path = adapted_flow(p.map, p.cost, p.theta, TIMES, clock=clock)
    np.testing.assert_allclose(path.t, [0, *TIMES], atol=1e-12)
    assert set(path.rank) == {float(p.map.size)}
    measured("distance from the line, of |y − x₀|", off_the_line(path, p.target), at_most=1e-7)
    # The rank and x(θ) are the oracle's too, all the way.
    for theta, x in zip(path.thetas, path.outputs, strict=True):
        assert np.linalg.matrix_rank(p.D(theta)) == p.map.size
        assert relative(x, p.outputs(theta)) <= 1e-12


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_falls_as_the_square(name, measured):
    p = problem(name)
    path = adapted_flow(p.map, p.cost, p.theta, TIMES)
    law = np.array(path.loss) / path.loss[0] / (1 - path.t) ** 2 - 1
    measured("|C(t)/C(0)/(1−t)² − 1|", np.abs(law[:-2]).max(), at_most=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_in_the_time_s_of_the_paper(name, measured):
    """(2.50): x(s) = y + e^{−s/N}(x₀ − y), with s as the trajectory states it."""
    p = problem(name)
    path = adapted_flow(p.map, p.cost, p.theta, TIMES)
    N, x0 = len(p.X), p.outputs()
    np.testing.assert_allclose(path.s, -N * np.log1p(-path.t), rtol=1e-12)  # (2.53)
    gaps = [
        np.linalg.norm(x.numpy() - p.target - math.exp(-s / N) * (x0 - p.target))
        for s, x in zip(path.s, path.outputs, strict=True)
    ]
    measured("x(s) against (2.50)", max(gaps) / np.linalg.norm(x0 - p.target), at_most=1e-7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_standard_flow_bends(name, measured):
    """The line is α = 1's own: at α = 0 the same start leaves it."""
    p = problem(name)
    options = FlowOptions(alpha=0.0, tol=0.0)
    path = reference_flow(
        p.map, p.cost, p.theta, options, t_end=0.9, times=TIMES[:9], rtol=1e-8, atol=1e-8
    )
    measured("standard flow off the line", off_the_line(path, p.target), at_least=0.1)


def test_weighted_samples_keep_to_the_line(measured):
    """The weights change the metric of output space and the clock, not the line."""
    p = problem("one hidden layer, tanh")
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0, 1.0, 0.25], dtype=torch.float64)
    weighted = type(p.map)(p.map.family, p.X, None, weights)
    cost = type(p.cost)(weighted.weigh(p.y), weighted.total_weight)
    path = adapted_flow(weighted, cost, p.theta, TIMES)
    gap = off_the_line(path, weighted.weigh(p.y).numpy())
    measured("distance from the line, with weights", gap, at_most=1e-7)


# -- the exponential step's order -------------------------------------------------------------
#
# A step moves θ by D⁺m, m = (1 − e^{−h})r, which leaves the outputs off the line by
# ½D²x[D⁺m, D⁺m] + … = O(h²). The chord D⁺(x + m − x(θ + D⁺m)) takes that out up to the change
# of D over the step, O(h)·O(h²): defect O(h³) a step, O(h²) after 1/h of them. θ itself is of
# order one: the chord lies in ran Dᵀ, where the outputs decide, and the part of θ'' in ker D,
# which no output sees, stays O(h²) a step. Without the chord (α < 1) all is of order one.

COUNTS = (24, 48, 96, 192)
TAU_END = 1.0


def nearby(name):
    """Labels at a quarter of the way: D changes less, and the leading order shows sooner."""
    p = problem(name)
    p.y = torch.lerp(p.map.family.outputs(p.theta, p.X), p.y, 0.25)
    return p


def exponential_orders(p, alpha):
    """Slopes of the errors in x and in θ at τ = 1, against the length of equal steps in τ."""
    options = FlowOptions(alpha=alpha, tol=0.0, store_path=True)
    t_end = -math.expm1(-TAU_END)
    exact = reference_flow(
        p.map, p.cost, p.theta, options, t_end=t_end, times=[t_end], rtol=1e-11, atol=1e-11
    )
    x_errors, theta_errors = [], []
    for count in COUNTS:
        taus = [TAU_END * (k + 1) / count for k in range(count)]
        path = flow(p.map, p.cost, p.theta, Fixed(taus), options)
        assert path.n_steps == count
        x_errors.append(float((path.outputs[-1] - exact.outputs[-1]).norm()))
        theta_errors.append(float((path.theta - exact.theta).norm()))
    steps = [TAU_END / count for count in COUNTS]
    return (
        oracles.observed_order(steps, x_errors),
        oracles.observed_order(steps, theta_errors),
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_order_of_the_exponential_step(name, measured):
    outputs, parameters = exponential_orders(nearby(name), 1.0)
    measured("slope in x at α = 1, less 2", abs(outputs - 2), at_most=0.1)
    measured("slope in θ at α = 1, less 1", abs(parameters - 1), at_most=0.1)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9])
def test_order_without_the_chord(alpha, measured):
    outputs, parameters = exponential_orders(nearby("one hidden layer, tanh"), alpha)
    measured("slope in x at α < 1, less 1", abs(outputs - 1), at_most=0.1)
    measured("slope in θ at α < 1, less 1", abs(parameters - 1), at_most=0.1)


@pytest.mark.parametrize("h", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_step_is_exact_for_frozen_jacobian(alpha, h, measured):
    """x + Δx = x + (1 − e^{−h(α + (1−α)G/c)})Pr against one dense matrix exponential, any h."""
    p, c = problem("one hidden layer, tanh"), 4.0
    point = Point.at(p.map, p.cost, 0.0, p.theta)
    factor = factor_at(point.tangent, point.residual)
    delta = factor.lift(exponential(alpha, h, c), point.residual)
    expected, motion = oracles.frozen_flow(p.D(), p.target - p.outputs(), h, alpha, c)
    measured("Δx of the frozen flow", relative(point.tangent.push(delta), motion), at_most=1e-9)
    measured("Δθ of the frozen flow", relative(delta, expected), at_most=1e-8)


def test_exponential_flow_comes_to_the_line(measured):
    """From the line itself: the same slope, without an integrator in between."""
    p = nearby("two hidden layers, silu")
    gaps = []
    for count in COUNTS:
        taus = [TAU_END * (k + 1) / count for k in range(count)]
        path = flow(p.map, p.cost, p.theta, Fixed(taus), FlowOptions(alpha=1.0, tol=0.0))
        gaps.append(off_the_line(path, p.target))
    slope = oracles.observed_order([TAU_END / count for count in COUNTS], gaps)
    measured("slope of the distance from the line, less 2", abs(slope - 2), at_most=0.1)
    measured("distance from the line with 192 steps", gaps[-1], at_most=1e-3)
