"""Flows in dual form: the same path, and Δθ = Dᵀu step by step."""

import math

import pytest
import torch

from sklearn_gflow.dynamics import Adaptive, Fixed, FlowOptions, dual_steps, flow
from sklearn_gflow.geometry import LogLoss
from tests.dynamics.dual import problem

WAYS = {
    "adapted": {"alpha": 1.0},
    "adapted, with a ridge": {"alpha": 1.0, "damping": 0.1},
    "between": {"alpha": 0.5},
    "between, with a ridge": {"alpha": 0.5, "damping": 0.1},
    "standard": {"alpha": 0.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_path_is_that_of_the_flow(way, weighted):
    output_map, cost, theta = problem(n_outputs=2, weighted=weighted)
    options = FlowOptions(**WAYS[way])
    trajectory = flow(output_map, cost, theta, Adaptive(1.5, marks=(0.2, 0.9)), options)
    assert trajectory.n_steps > len(trajectory.step_taus)  # the marks are points, and no steps
    steps = list(dual_steps(output_map, cost, theta, trajectory.step_taus, options))
    way_of = trajectory.theta - theta
    assert (steps[-1].end.theta - trajectory.theta).norm() < 1e-8 * way_of.norm()
    for step in steps:
        moved = step.end.theta - step.point.theta
        assert (step.point.tangent.pull(step.dual) - moved).norm() < 1e-9 * moved.norm()


def test_a_solution_between_the_steps_is_reached_by_a_shorter_last_one():
    output_map, cost, theta = problem()
    options = FlowOptions(alpha=0.5, damping=0.1)
    trajectory = flow(output_map, cost, theta, Adaptive(2.0, marks=(0.1, 0.7)), options)
    at = trajectory.tau.index(0.7)
    trajectory.selected = at, trajectory.thetas[-1]
    taus = trajectory.step_taus
    assert taus[-1] == 0.7
    assert taus == sorted(taus)
    *_, last = dual_steps(output_map, cost, theta, taus, options)
    assert torch.allclose(last.end.outputs, trajectory.outputs[at], atol=1e-9)


def test_a_flow_that_goes_on_at_infinity_is_followed_there():
    output_map, cost, theta = problem()
    options = FlowOptions(alpha=1.0, tol=1e-12)
    trajectory = flow(output_map, cost, theta, Adaptive(math.inf), options)
    taus = trajectory.step_taus
    assert taus.count(math.inf) > 1
    *_, last = dual_steps(output_map, cost, theta, taus, options)
    assert last.h == math.inf
    assert (last.end.theta - trajectory.theta).norm() < 1e-8 * (trajectory.theta - theta).norm()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_shared_kernel_has_the_dual_of_what_it_moved(alpha):
    output_map, cost, theta = problem(n_outputs=2)
    options = FlowOptions(alpha=alpha, damping=0.1, solver="shared")
    taus = flow(output_map, cost, theta, Adaptive(1.5), options).step_taus
    for step in dual_steps(output_map, cost, theta, taus, options):
        moved = step.end.theta - step.point.theta
        assert (step.point.tangent.pull(step.dual) - moved).norm() < 1e-9 * moved.norm()


def test_other_costs_have_a_dual_too():
    output_map, _, theta = problem(n_outputs=1)
    labels = (output_map.X[:, :1] > 0).double()
    cost = LogLoss().cost(labels, None)
    options = FlowOptions(alpha=0.5, damping=0.1)
    taus = flow(output_map, cost, theta, Fixed([0.3, 1.0]), options).step_taus
    for step in dual_steps(output_map, cost, theta, taus, options):
        moved = step.end.theta - step.point.theta
        assert (step.point.tangent.pull(step.dual) - moved).norm() < 1e-9 * moved.norm()
