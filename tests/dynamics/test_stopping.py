import numpy as np
import pytest
import torch

from sklearn_gflow.diagnostics import Deviation
from sklearn_gflow.dynamics import (
    Adaptive,
    BestPoint,
    FlowOptions,
    Outcome,
    equal_steps,
    flow,
    reference_flow,
)
from sklearn_gflow.dynamics.schedule import Fixed
from tests import oracles
from tests.dynamics.problems import Flow

KEEP = FlowOptions(alpha=0.3, store_path=True)


class Script:
    """Judges the points of a flow by a list."""

    def __init__(self, *judgements):
        self.left = list(judgements)

    def __call__(self, point):
        return self.left.pop(0)


def run(judge, *, steps=20, patience=3, tol=0.0):
    monitor = BestPoint(judge, "test", patience, tol)
    return flow(*Flow().pieces, equal_steps(steps, 0.9), KEEP, [monitor])


class TestBestPoint:
    def test_first_of_the_best_is_the_solution(self):
        path = run(Script((0, 1), (2, 1), (2, 1), (1, 0), (2, 2), (3, 0)))
        assert path.solution == 1
        assert torch.equal(path.theta, path.thetas[1])
        assert path.outcome is Outcome.EARLY_STOPPED
        assert path.outcome.complete
        assert path.n_steps == 4

    def test_ties_go_to_the_lower_loss(self):
        path = run(Script((1, 3), (1, 2), (1, 2.5), (0, 0), (1, 4)))
        assert path.solution == 1

    def test_patience_counts_from_the_last_improvement(self):
        path = run(Script((0, 0), (1, 0), (0, 0), (0, 0), (2, 0), (0, 0), (0, 0), (0, 0)))
        assert (path.n_steps, path.solution) == (7, 4)

    def test_small_gains_are_taken_and_not_waited_for(self):
        path = run(Script((0, 0), (0.1, 0), (0.2, 0), (0.3, 0)), tol=0.5)
        assert (path.n_steps, path.solution) == (3, 3)

    def test_small_gains_that_add_up_are_waited_for(self):
        path = run(Script(*[(0.2 * k, 0) for k in range(21)]), tol=0.5)
        assert (path.n_steps, path.solution) == (20, 20)

    def test_end_comes_first(self):
        path = run(Script((0, 0), (1, 0), (0, 0)), steps=2)
        assert path.outcome is Outcome.REACHED_END
        assert path.solution == 1

    def test_start_may_be_the_best(self):
        path = run(Script((1, 0), (0, 0), (0, 0), (0, 0)))
        assert path.solution == 0
        assert torch.equal(path.theta, path.thetas[0])

    def test_columns(self):
        path = run(Script((0, 1), (2, 3), (1, 1)), steps=2)
        assert path.extra == {"test_score": [0, 2, 1], "test_loss": [1, 3, 1]}

    def test_monitor_can_be_used_again(self):
        monitor = BestPoint(lambda point: (-point.loss, 0.0), "test", 3)
        first, second = (
            flow(*Flow(seed=seed).pieces, equal_steps(4, 0.9), KEEP, [monitor]) for seed in (0, 1)
        )
        assert first.solution == second.solution == 4
        assert not torch.equal(first.theta, second.theta)

    @pytest.mark.slow
    def test_classical_integrator(self):
        monitor = BestPoint(Script((0, 0), (1, 0), (0, 0), (0, 0)), "test", 2)
        path = reference_flow(
            *Flow().pieces, KEEP, method="RK45", times=[0.1, 0.2, 0.3, 0.4], callbacks=[monitor]
        )
        assert path.outcome is Outcome.EARLY_STOPPED
        np.testing.assert_allclose(path.t, [0, 0.1, 0.2, 0.3])
        assert torch.equal(path.theta, path.thetas[1])


class TestMarks:
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
    def test_recorded_without_another_gram(self, alpha):
        problem, marks = Flow(), (0.1, 0.2, 0.5, 1.0, 5.0)
        options = FlowOptions(alpha=alpha, store_path=True)
        path = flow(*problem.pieces, Adaptive(2.0, 1.0, marks), options)
        plain = flow(*problem.pieces, Adaptive(2.0, 1.0), options)
        assert path.tau == pytest.approx(sorted({*marks[:4], *plain.tau}))
        assert len(path.solvers) == len(plain.solvers)
        torch.testing.assert_close(path.theta, plain.theta, rtol=0, atol=0)

    def test_are_short_steps_from_the_last_factor(self):
        problem = Flow()
        path = flow(*problem.pieces, Adaptive(2.0, 10.0, (0.3,)), KEEP)
        alone = flow(*problem.pieces, Fixed([0.3]), KEEP)
        torch.testing.assert_close(path.thetas[1], alone.theta)
        assert path.step_error[1] < path.step_error[2]

    def test_deviation_is_carried_through_them(self):
        problem = Flow(40, (2, 2, 1), spread=2.0)
        ends = []
        for marks in ((), (0.05, 0.1, 0.2)):
            watch = Deviation(problem.cost.targets, 1.0)
            path = flow(
                *problem.pieces, Adaptive(0.3, 10.0, marks), FlowOptions(alpha=1.0), [watch]
            )
            ends.append([column[-1] for column in path.extra.values()])
        np.testing.assert_allclose(*ends, rtol=1e-10)
        assert ends[0][1] > 0.01

    def test_end_in_the_middle_of_a_step(self):
        monitor = BestPoint(Script((1, 0), (0, 0)), "test", 1)
        path = flow(*Flow().pieces, Adaptive(2.0, 10.0, (0.1, 0.2)), KEEP, [monitor])
        assert path.tau == [0.0, 0.1]
        assert path.outcome is Outcome.EARLY_STOPPED


def test_first_order_against_the_exact_flow():
    """Marks converge to the flow as the step tolerance falls."""
    problem = Flow(4, (3, 12, 1), seed=2)
    exact = oracles.reference_flow(
        problem.theta, problem.X, problem.sizes, "tanh", problem.y, alpha=0.3, c=3.0, tau_end=0.5
    )
    errors = []
    for tolerance in (1e-2, 1e-3, 1e-4):
        options = FlowOptions(alpha=0.3, metric_scale=3.0, store_path=True)
        path = flow(*problem.pieces, Adaptive(1.0, tolerance, (0.5,)), options)
        errors.append(float((path.thetas[path.tau.index(0.5)] - exact).norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
