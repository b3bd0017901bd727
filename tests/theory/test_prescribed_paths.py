"""Prescribed paths (3.1)–(3.7): a path of one's own in output space, and θ that realises it."""

import functools

import numpy as np
import pytest
import scipy.integrate
import torch

from sklearn_gflow.dynamics import Outcome, follow_path, linear_path, parameter_field, sampled_path
from sklearn_gflow.geometry import PSEUDOINVERSE
from tests import oracles
from tests.theory.problems import RANKS, Problem, adapted_flow, factor_at, normal, relative


@functools.cache
def problem():
    return Problem.draw(5, (3, 14, 2), seed=81)


def bent(p, seed=82):
    """From x(θ₀) by a wave to y, and its velocity."""
    x0, y, aside = p.map.outputs(p.theta), p.y.reshape(-1), normal(p.map.size, seed=seed)

    def path(s):
        return x0 + s * (y - x0) + np.sin(2 * np.pi * s) * 0.5 * aside

    def velocity(s):
        return (y - x0) + 2 * np.pi * np.cos(2 * np.pi * s) * 0.5 * aside

    return path, velocity


def lifted(p, velocity, s_end=1.0):
    """θ(s_end) of θ' = D⁺x'(s) (3.5) by DOP853 with a dense D."""

    def rate(s, theta):
        D = p.D(torch.from_numpy(theta.copy()))
        return oracles.pinv_solve(D, velocity(s), 1e-8)

    return scipy.integrate.solve_ivp(
        rate, (0, s_end), p.theta.numpy(), method="DOP853", rtol=1e-9, atol=1e-10
    ).y[:, -1]


TIMES = np.linspace(0, 1, 41).tolist()


@pytest.mark.slow
def test_outputs_keep_to_a_bent_path(measured):
    p = problem()
    path, _ = bent(p)
    steering = follow_path(p.map, p.theta, path, TIMES, tol=1e-8)
    assert steering.outcome is Outcome.REACHED_END
    assert steering.times == TIMES
    gaps = [
        relative(p.outputs(theta), path(s)) for s, theta in zip(TIMES, steering.thetas, strict=True)
    ]
    measured("x(θ(s)) against x(s)", max(gaps), at_most=1e-7)
    measured("its own drift", max(steering.drift), at_most=1e-8)
    measured("x(θ*) against y (3.4)", relative(steering.outputs[-1], p.target), at_most=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [3, 60])
def test_path_given_by_samples(n_samples, measured):
    """The spline through the samples is met at the samples, and followed in between."""
    p = problem()
    path, _ = bent(p)
    knots = np.linspace(0, 1, n_samples)
    spline = sampled_path(knots, [path(s) for s in knots])
    times = np.union1d(TIMES, knots).tolist()
    steering = follow_path(p.map, p.theta, spline, times)
    assert steering.outcome is Outcome.REACHED_END
    at = dict(zip(steering.times, steering.outputs, strict=True))
    gap = max(relative(at[s], path(s)) for s in knots)
    measured("outputs against the samples", gap, at_most=1e-5)


@pytest.mark.slow
def test_parameters_solve_the_lifted_equation(measured):
    """(3.5): θ converges to the solution of θ' = D⁺x', of order one in the step.

    The outputs are put back onto the path at every step; what remains is in ker D.
    """
    p = problem()
    path, velocity = bent(p)
    exact = lifted(p, velocity)
    counts, errors = (40, 80, 160, 320), []
    for count in counts:
        steering = follow_path(p.map, p.theta, path, np.linspace(0, 1, count + 1), tol=1e-3)
        errors.append(relative(steering.theta, exact))
    slope = oracles.observed_order([1 / count for count in counts], errors)
    measured("slope of the error in θ, less 1", abs(slope - 1), at_most=0.15)
    measured("θ against DOP853, 320 steps", errors[-1], at_most=1e-2)


def test_motion_of_parameters_lies_in_the_range(measured):
    """(3.2): each short step is D⁺ of the path's own; nothing moves in ker D."""
    p = problem()
    path, velocity = bent(p)
    h = 1e-5
    steering = follow_path(p.map, p.theta, path, [0.0, h])
    rate = (steering.theta - p.theta).numpy() / h
    expected = oracles.pinv_solve(p.D(), velocity(0.0), 1e-8)
    measured("θ'(0) against D⁺x'(0)", relative(rate, expected), at_most=1e-3)
    _, _, Vh = oracles.thin_svd(p.D())
    inside = Vh.T @ (Vh @ rate)
    measured("θ' outside ran Dᵀ", relative(inside, rate), at_most=1e-9)


@pytest.mark.parametrize("name", RANKS)
def test_standard_flow_satisfies_its_own_lift(name, measured):
    """(3.1) and footnote 1: V_θ,0 is in ran Dᵀ, so that V_θ,0 = D⁺(DV_θ,0)."""
    p, _ = RANKS[name]()
    tangent = p.map.linearize(p.theta)
    V = parameter_field(tangent, factor_at(tangent), p.cost, 0.0).numpy()
    D = p.D()
    measured("V_θ,0 against D⁺DV_θ,0", relative(oracles.pinv_solve(D, D @ V, 1e-8), V),
             at_most=1e-7)  # fmt: skip


@pytest.mark.slow
def test_linear_path_is_the_adapted_flow(measured):
    """(2.51) prescribed and the α = 1 flow are one curve in θ."""
    p = problem()
    flow = adapted_flow(p.map, p.cost, p.theta, [0.5, 0.9])
    x0 = p.map.outputs(p.theta)
    line = linear_path(x0, p.y.reshape(-1))
    assert relative(line(0.25), 0.75 * x0 + 0.25 * p.y.reshape(-1)) <= 1e-15
    exact = lifted(p, lambda _: (p.y.reshape(-1) - x0).numpy(), 0.9)
    measured("θ(0.9) of the flow against θ' = D⁺(y − x₀)", relative(flow.theta, exact),
             at_most=1e-6)  # fmt: skip
    steering = follow_path(p.map, p.theta, line, np.linspace(0, 0.9, 301))
    measured("θ(0.9) steered, 300 steps", relative(steering.theta, exact), at_most=1e-2)


def test_standing_still(measured):
    """(3.6): D⁺ is injective on ran D, so θ rests exactly where the path does."""
    p = problem()
    x0 = p.map.outputs(p.theta)
    steering = follow_path(p.map, p.theta, lambda _: x0, [0.0, 0.5, 1.0])
    assert steering.outcome is Outcome.REACHED_END
    assert torch.equal(steering.theta, p.theta)
    for name in RANKS:
        q, _ = RANKS[name]()
        D = q.D()
        v = oracles.project(D, normal(q.map.size, seed=83), 1e-8)
        sigma = oracles.thin_svd(D, 1e-8)[1]
        tangent = q.map.linearize(q.theta)
        moved = factor_at(tangent).lift(PSEUDOINVERSE, torch.from_numpy(v))
        ratio = float(moved.norm()) / np.linalg.norm(v) * sigma[0]
        measured("|D⁺v|·σ_max/|v|, v in ran D", ratio, at_least=1 - 1e-9)


# -- (3.3): what D cannot follow --------------------------------------------------------------


def forked():
    """Two samples with one input, whose paths part at s = ½."""
    p = Problem.draw(5, (3, 14, 2), seed=84)
    p.X[4] = p.X[0]
    x0 = p.map.outputs(p.theta)
    way = normal(5, 2, seed=85)
    way[4] = way[0]
    fork = torch.zeros(5, 2, dtype=torch.float64)
    fork[0], fork[4] = 0.8, -0.8

    def path(s):
        return x0 + (s * way + max(0.0, s - 0.5) * fork).reshape(-1)

    return p, path, (way + fork).reshape(-1).numpy()


def test_followed_up_to_the_fork(measured):
    p, path, beyond = forked()
    steering = follow_path(p.map, p.theta, path, TIMES)
    assert steering.outcome is Outcome.LEFT_RANGE
    assert steering.times[-2] == pytest.approx(0.5)
    measured("infeasible part before the fork", max(steering.infeasible[1:-1]), at_most=1e-6)
    D = p.D(steering.thetas[-2])
    outside = beyond - oracles.project(D, beyond, 1e-8)
    expected = np.linalg.norm(outside) / np.linalg.norm(beyond)
    gap = abs(steering.infeasible[-1] - expected)
    measured("infeasible part after the fork, against |P^⊥x'|/|x'|", gap, at_most=1e-6)
    measured("infeasible part after the fork", steering.infeasible[-1], at_least=0.1)


def test_nearest_motion_where_asked_to_go_on(measured):
    """With every velocity admitted, P x' is followed: the pair goes on between its two paths."""
    p, path, _ = forked()
    steering = follow_path(p.map, p.theta, path, TIMES, feasibility=1.0)
    assert steering.outcome is Outcome.REACHED_END
    x, goal = steering.outputs[-1].view(5, 2), path(1.0).view(5, 2)
    middle = (goal[0] + goal[4]) / 2
    measured("the pair against the middle of its paths", relative(x[0], middle), at_most=1e-6)
    measured("the others against theirs", relative(x[1:4], goal[1:4]), at_most=1e-6)


def test_check_of_the_line():
    """(3.7): x₀ − y ∈ ran D for all s, or not, by the outcome."""
    for name in RANKS:
        p, rank = RANKS[name]()
        x0 = p.map.outputs(p.theta)
        line = linear_path(x0, torch.lerp(x0, p.y.reshape(-1), 0.2))
        steering = follow_path(p.map, p.theta, line, np.linspace(0, 1, 6))
        feasible = rank == p.map.size
        assert (steering.outcome is Outcome.REACHED_END) == feasible
        assert (steering.outcome is Outcome.LEFT_RANGE) != feasible
