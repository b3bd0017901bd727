import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from sklearn_gflow.dynamics import (
    Adaptive,
    Callback,
    Fixed,
    FlowOptions,
    Outcome,
    Trajectory,
    equal_steps,
    flow,
    mean_diagonal,
)
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, eigen
from tests import oracles
from tests.dynamics.problems import Flow

ALPHAS = [0.0, 0.3, 1.0]


class TestLawOfTheLine:
    """α = 1, full rank: x̃(t) = (1−t)x₀ + t·y (2.57)."""

    @pytest.mark.slow
    def test_loss_in_400_equal_steps(self):
        path = flow(*Flow(30, (4, 40, 1)).pieces, equal_steps(400, 0.9))
        ratio = np.array(path.loss) / path.loss[0]
        np.testing.assert_allclose(ratio, (1 - path.t) ** 2, rtol=1e-4)
        np.testing.assert_allclose(path.t, np.linspace(0, 0.9, 401), atol=1e-12)

    @pytest.mark.slow
    def test_outputs_in_400_equal_steps(self):
        problem = Flow(10, (4, 30, 2))
        path = flow(*problem.pieces, equal_steps(400, 0.9))
        y = problem.y.reshape(-1)
        for t, x in zip(path.t, path.outputs, strict=True):
            assert float((x - t * y).norm()) <= 1e-5 * float(y.norm())

    def test_weights_do_not_bend_the_line(self):
        weights = torch.linspace(0.1, 3, 10, dtype=torch.float64)
        path = flow(*Flow(10, (4, 30, 1), weights=weights).pieces, equal_steps(100, 0.9))
        np.testing.assert_allclose(np.array(path.loss) / path.loss[0], (1 - path.t) ** 2, rtol=1e-3)

    @pytest.mark.slow
    def test_second_order(self):
        counts, problem = [50, 100, 200, 400], Flow(8, (3, 30, 1))
        errors = []
        for count in counts:
            path = flow(*problem.pieces, equal_steps(count, 0.9))
            ratio = np.array(path.loss) / path.loss[0]
            errors.append(np.abs(np.sqrt(ratio) - (1 - path.t)).max())
        order = oracles.observed_order([1 / count for count in counts], errors)
        assert order == pytest.approx(2, abs=0.25)

    @pytest.mark.slow
    @pytest.mark.parametrize("solver", ["auto", "eigh"])
    def test_diabetes_to_the_end(self, solver):
        X, y = load_diabetes(return_X_y=True)
        X, y = torch.from_numpy((X - X.mean(0)) / X.std(0)), torch.from_numpy(y - y.mean())
        problem = Flow(sizes=(10, 64, 64, 1), bias=0.3, X=X, y=(y / y.std())[:, None])
        options = FlowOptions(alpha=1.0, solver=solver)
        path = flow(*problem.pieces, Adaptive(math.inf), options)
        assert path.outcome is Outcome.CONVERGED
        assert path.n_steps <= 20
        assert 2 * path.loss[-1] <= 1e-20
        assert path.t[-1] == 1


FLOWS = {  # and how far in τ
    "full_rank": (Flow(4, (3, 12, 1), seed=2), 1.0),
    "weighted": (
        Flow(4, (3, 12, 1), seed=2, weights=torch.tensor([1.0, 3, 0.5, 2]).double()),
        1.0,
    ),
    "duplicate_rows": (
        Flow(sizes=(3, 12, 1), seed=2, X=oracles.problem(4, (3, 1))[1][[0, 1, 2, 3, 3, 0]]),
        1.0,
    ),
    "fewer_parameters": (Flow(40, (2, 2, 2), seed=2, spread=2.0, bias=1.0), 0.1),
}


class TestAgainstAnIndependentIntegration:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", FLOWS)
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_parameters_converge_with_first_order(self, alpha, name):
        # Of first order at α = 1 too: the chord puts x back on its line, not θ on its path.
        problem, tau_end = FLOWS[name]
        expected = oracles.reference_flow(
            problem.theta, problem.X, problem.sizes, "tanh", problem.y,
            alpha=alpha, c=3.0, tau_end=tau_end, weights=problem.weights,
        )  # fmt: skip
        counts, errors = [20, 40, 80], []
        for count in counts:
            schedule = Fixed([tau_end * k / count for k in range(1, count + 1)])
            options = FlowOptions(alpha=alpha, metric_scale=3.0)
            path = flow(*problem.pieces, schedule, options)
            errors.append(float((path.theta - expected).norm()))
        order = oracles.observed_order([1 / count for count in counts], errors)
        assert order == pytest.approx(1, abs=0.15)
        assert errors[-1] < 0.01 * float((expected - problem.theta).norm())

    def test_default_metric_scale_is_the_mean_diagonal(self):
        problem = Flow(5, (3, 6, 2))
        c = float((problem.D**2).sum()) / 10
        path = flow(*problem.pieces, Adaptive(0.5), FlowOptions(alpha=0.2))
        assert path.scale == pytest.approx(c)
        same = flow(*problem.pieces, Adaptive(0.5), FlowOptions(alpha=0.2, metric_scale=c))
        torch.testing.assert_close(path.theta, same.theta)

    def test_mean_diagonal_counts_copies_as_weights(self):
        theta, X = oracles.problem(3, (2, 4, 1))
        network = LayeredNetwork((2, 4, 1))
        weights = torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64)
        heavy = OutputMap(network, X, weights=weights).linearize(theta)
        copied = OutputMap(network, torch.cat([X, X[1:2], X[1:2]])).linearize(theta)
        assert mean_diagonal(heavy) == pytest.approx(mean_diagonal(copied))
        G = copied.gram()
        assert mean_diagonal(copied) == pytest.approx(float(G.diagonal().mean()))


class TestWeightsAreCopies:
    X = 3 * oracles.problem(5, (2, 1))[1]

    @pytest.mark.slow
    @pytest.mark.parametrize("damping", [0.0, 0.1])
    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("schedule", [lambda: Adaptive(2.0, 1e-3), lambda: equal_steps(5, 0.8)])
    def test_weight_k_is_k_copies(self, alpha, schedule, damping):
        index = [0, 1, 1, 2, 3, 3, 3, 4]
        y = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
        counts = torch.tensor([1.0, 2, 1, 3, 1], dtype=torch.float64)
        heavy = Flow(sizes=(2, 10, 1), X=self.X, y=y, weights=counts)
        copied = Flow(sizes=(2, 10, 1), X=self.X[index], y=y[index])
        options = FlowOptions(alpha=alpha, damping=damping)
        left = flow(*heavy.pieces, schedule(), options)
        right = flow(*copied.pieces, schedule(), options)
        torch.testing.assert_close(left.theta, right.theta, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(left.loss, right.loss, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(left.s, right.s, rtol=1e-7)
        assert left.n_steps == right.n_steps > 1


class Shifted(LayeredNetwork):
    """Outputs that do not go with their derivative after the first time."""

    shift = 10.0

    def outputs(self, theta, X):
        first, self.asked = not getattr(self, "asked", False), True
        return super().outputs(theta, X) + (0.0 if first else self.shift)

    def linearize(self, theta, X):
        return replace(super().linearize(theta, X), outputs=self.outputs(theta, X))


class NotFinite(Shifted):
    shift = math.nan


class TestOutcome:
    SIZES = (2, 12, 1)

    def test_reached_end(self):
        path = flow(*Flow().pieces, Adaptive(0.7))
        assert path.outcome is Outcome.REACHED_END
        assert path.tau[-1] == pytest.approx(0.7, rel=1e-15)
        assert path.outcome.complete

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_equal_steps_reach_the_end_of_time(self, alpha):
        schedule = equal_steps(5, 1.0)
        path = flow(*Flow().pieces, schedule, FlowOptions(alpha=alpha))
        assert path.outcome is Outcome.REACHED_END
        assert np.abs(path.t[:, None] - [0.2, 0.4, 0.6, 0.8, 1]).min(0) == pytest.approx(0)
        assert path.n_steps == 5 or schedule.cuts > 0

    def test_converged(self):
        path = flow(*Flow().pieces, Adaptive(math.inf), FlowOptions(tol=1e-6))
        assert path.outcome is Outcome.CONVERGED
        assert (path.loss[-1] / path.loss[0]) ** 0.5 <= 1e-6
        assert path.outcome.complete

    def test_targets_at_the_start_have_converged(self):
        path = flow(*Flow(y=torch.zeros(6, 1).double()).pieces, Adaptive(1.0), FlowOptions(tol=0))
        assert (path.outcome, path.n_steps) == (Outcome.CONVERGED, 0)

    @pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", "svd"])
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_equilibrium(self, alpha, solver):
        X = oracles.problem(4, (2, 1))[1]
        y = torch.tensor([1.0, -1, 2, 0, 3], dtype=torch.float64)[:, None]
        problem = Flow(sizes=(2, 12, 1), X=X[[0, 1, 2, 3, 3]], y=y)
        options = FlowOptions(alpha=alpha, solver=solver, tol=1e-7)
        path = flow(*problem.pieces, Adaptive(math.inf), options)
        assert path.outcome is Outcome.EQUILIBRIUM
        assert path.outcome.complete
        # What is left are the two labels' distances from their mean.
        assert path.loss[-1] == pytest.approx(2 * 1.5**2 / 10, rel=1e-6)
        assert path.rank[-1] == 4

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_damped_equilibrium(self, alpha):
        X = oracles.problem(4, (2, 1))[1]
        y = torch.tensor([1.0, -1, 2, 0, 3], dtype=torch.float64)[:, None]
        problem = Flow(sizes=(2, 12, 1), X=X[[0, 1, 2, 3, 3]], y=y)
        options = FlowOptions(alpha=alpha, damping=0.01, tol=1e-7)
        path = flow(*problem.pieces, Adaptive(math.inf), options)
        assert path.outcome is Outcome.EQUILIBRIUM
        assert path.loss[-1] == pytest.approx(2 * 1.5**2 / 10, rel=1e-6)

    def test_equilibria_do_not_depend_on_alpha(self):
        problem = Flow(7, (2, 1))
        expected = oracles.pinv_solve(problem.D, problem.y.reshape(-1))
        for alpha in (0.0, 0.5, 1.0):
            path = flow(*problem.pieces, Adaptive(math.inf), FlowOptions(alpha=alpha))
            assert path.outcome is Outcome.EQUILIBRIUM
            torch.testing.assert_close(path.theta - problem.theta, torch.from_numpy(expected))

    def test_max_iter(self):
        path = flow(*Flow().pieces, equal_steps(5, 0.5), FlowOptions(max_iter=3))
        assert (path.outcome, path.n_steps) == (Outcome.MAX_ITER, 3)
        assert not path.outcome.complete

    def test_stalled(self):
        options = FlowOptions(tol=1e-2, n_iter_no_change=4)
        path = flow(*Flow().pieces, equal_steps(100, 0.5), options)  # each gains 5e-3
        assert (path.outcome, path.n_steps) == (Outcome.STALLED, 4)
        path = flow(*Flow().pieces, equal_steps(100, 0.5), FlowOptions(tol=4e-3))
        assert path.outcome is Outcome.REACHED_END
        assert not Outcome.STALLED.complete

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_step_underflow(self, alpha):
        problem = Flow(family=Shifted(self.SIZES))
        path = flow(*problem.pieces, Adaptive(1.0), FlowOptions(alpha=alpha))
        assert (path.outcome, path.n_steps) == (Outcome.STEP_UNDERFLOW, 0)
        assert not path.outcome.complete

    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("schedule", [Adaptive(1.0), Fixed([1.0])])
    def test_diverged_on_a_step(self, alpha, schedule):
        problem = Flow(family=NotFinite(self.SIZES))
        path = flow(*problem.pieces, schedule, FlowOptions(alpha=alpha))
        assert (path.outcome, path.n_steps) == (Outcome.DIVERGED, 0)
        assert torch.equal(path.theta, problem.theta)
        assert not path.outcome.complete

    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
    def test_diverged_at_the_start(self, value):
        problem = Flow(y=torch.full((6, 1), value, dtype=torch.float64))
        assert flow(*problem.pieces, Adaptive(1.0)).outcome is Outcome.DIVERGED

    def test_factorization_failed(self, monkeypatch):
        def fails(A):
            raise torch.linalg.LinAlgError("no luck")

        monkeypatch.setattr(eigen, "_eigh", fails)
        path = flow(*Flow().pieces, Adaptive(1.0), FlowOptions(alpha=0.5, solver="eigh"))
        assert path.outcome is Outcome.FACTORIZATION_FAILED
        assert path.detail == "eigh: no luck"
        assert not path.outcome.complete


class TestAdaptiveFlow:
    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("seed", range(4))
    def test_never_keeps_a_step_that_raises_the_loss(self, alpha, seed):
        problem = Flow(12, (3, 4, 1), seed=seed, spread=20.0, activation="silu")
        options = FlowOptions(alpha=alpha, max_iter=40)
        path = flow(*problem.pieces, Adaptive(30.0), options)
        assert path.n_steps >= 1
        assert (np.diff(path.loss) <= 0).all()
        assert np.nanmax(path.step_error) <= 0.05
        assert path.detail == ""

    def test_equal_steps_that_raise_the_loss_are_told(self):
        problem = Flow(12, (3, 4, 1), spread=20.0, activation="silu", seed=1)
        schedule = equal_steps(3, 0.9)
        path = flow(*problem.pieces, schedule, FlowOptions(alpha=1.0))
        rises = int((np.diff(path.loss) > 0).sum())
        assert rises > 0
        assert schedule.cuts > 0
        told = f"{rises} steps raised the loss, {schedule.cuts} steps were cut short"
        assert path.detail == told

    def test_equal_steps_that_would_blow_up_lead_downwards(self):
        # In one step as long as that, the loss would rise by a factor of thousands.
        for n_steps in (1, 3, 10):
            problem = Flow(12, (3, 4, 1), spread=40.0, activation="silu", seed=3)
            path = flow(*problem.pieces, equal_steps(n_steps, 0.9), FlowOptions(alpha=1.0))
            assert path.loss[-1] < path.loss[0]
            times = np.linspace(0, 0.9, n_steps + 1)
            assert np.abs(path.t[:, None] - times).min(0) == pytest.approx(0, abs=1e-12)

    def test_step_error_is_within_tolerance_and_below_it_with_less(self):
        problem = Flow(20, (3, 30, 1))
        coarse, fine = (
            flow(*problem.pieces, Adaptive(2.0, tolerance=tol), FlowOptions(alpha=0.3))
            for tol in (0.05, 0.001)
        )
        assert np.nanmax(fine.step_error) <= 0.001
        assert fine.n_steps > coarse.n_steps


class Recorder(Callback):
    def __init__(self):
        self.calls = []

    def start(self, event):
        self.calls.append(event)
        return {"first": event.point.loss, "second": -1.0}

    def step(self, event):
        self.calls.append(event)
        return {"first": event.point.loss, "second": event.factor.rank}


class TestTrajectory:
    def test_columns_have_one_entry_a_point(self):
        recorder = Recorder()
        path = flow(*Flow().pieces, equal_steps(4, 0.5), callbacks=[recorder])
        history = path.history()
        assert set(history) >= {"t", "s", "loss", "rank", "condition", "step_error"}
        assert {len(column) for column in history.values()} == {5}
        assert all(column.dtype == np.float64 for column in history.values())
        assert len(path.outputs) == 5
        assert path.n_steps == 4
        np.testing.assert_allclose(history["first"], history["loss"])
        np.testing.assert_allclose(history["second"], [-1, 6, 6, 6, 6])

    def test_callbacks_see_the_step(self):
        recorder, problem = Recorder(), Flow()
        path = flow(*problem.pieces, equal_steps(3, 0.5), callbacks=[recorder])
        assert recorder.calls[0].point.theta is problem.theta
        for k, event in enumerate(recorder.calls[1:], start=1):
            before, factor, after = event.before, event.factor, event.point
            assert (before.tau, after.tau) == (path.tau[k - 1], path.tau[k])
            torch.testing.assert_close(after.outputs, path.outputs[k])
            D = oracles.jacobian(before.theta, problem.X, problem.sizes, "tanh")
            assert factor.rank == np.linalg.matrix_rank(D.numpy())

    def test_clocks(self):
        weights = torch.tensor([1.0, 2, 1, 1, 1, 0.5], dtype=torch.float64)
        path = flow(*Flow(weights=weights).pieces, Fixed([0.5, 1.5]))
        np.testing.assert_allclose(path.tau, [0, 0.5, 1.5])
        np.testing.assert_allclose(path.s, 6.5 * np.array([0, 0.5, 1.5]))
        np.testing.assert_allclose(path.t, 1 - np.exp([0, -0.5, -1.5]))

    def test_rank_and_condition_of_the_points(self):
        problem = Flow()
        options = FlowOptions(alpha=0.5, solver="eigh")
        path = flow(*problem.pieces, equal_steps(2, 0.5), options)
        sigma = torch.linalg.svdvals(problem.D)
        assert path.rank[:2] == [6, 6]
        assert path.condition[0] == pytest.approx(float(sigma[0] / sigma[-1]) ** 2)
        assert math.isnan(path.rank[2])
        assert math.isnan(path.step_error[0])
        assert path.solver == "eigh"

    def test_loss_and_outputs_are_those_of_theta(self):
        problem = Flow(7, (3, 10, 2))
        path = flow(*problem.pieces, equal_steps(3, 0.5), FlowOptions(alpha=0.5, store_path=True))
        start = oracles.forward(problem.theta, problem.X, problem.sizes, "tanh")
        for theta, x, loss in zip(path.thetas, path.outputs, path.loss, strict=True):
            model = oracles.forward(theta, problem.X, problem.sizes, "tanh") - start
            torch.testing.assert_close(x, model.reshape(-1), rtol=1e-12, atol=1e-13)
            assert loss == pytest.approx(float(((model - problem.y) ** 2).sum()) / 14)

    def test_theta_is_not_changed(self):
        for alpha in ALPHAS:
            problem = Flow()
            before = problem.theta.clone()
            path = flow(*problem.pieces, Adaptive(1.0), FlowOptions(alpha=alpha))
            assert torch.equal(problem.theta, before)
            assert not torch.equal(path.theta, before)

    def test_path_is_kept_where_asked_for(self):
        problem = Flow()
        kept = flow(*problem.pieces, equal_steps(4, 0.5), FlowOptions(store_path=True))
        last = flow(*problem.pieces, equal_steps(4, 0.5))
        assert (len(kept.thetas), len(last.thetas)) == (5, 1)
        assert torch.equal(kept.thetas[0], problem.theta)
        assert torch.equal(kept.theta, last.theta)

    def test_solvers_are_named_in_the_order_of_their_use(self):
        path = Trajectory(1.0, 1.0, solvers=["cholesky", "eigh", "cholesky", "svd → eigh"])
        assert path.solver == "cholesky → eigh → svd → eigh"


def test_float32():
    problem = Flow()
    X, y = problem.X.float(), problem.y.float()
    theta = problem.theta.float()
    network = LayeredNetwork(problem.sizes)
    output_map = OutputMap(network, X, network.outputs(theta, X))
    cost = type(problem.cost)(output_map.weigh(y), 6.0)
    path = flow(output_map, cost, theta, Adaptive(math.inf), FlowOptions(tol=1e-4))
    assert path.outcome is Outcome.CONVERGED
    assert path.theta.dtype == torch.float32
