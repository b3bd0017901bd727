"""Numbers that are not finite end a flow, or stand in its record as NaN: never as a default."""

import math
from dataclasses import replace

import pytest
import torch

from sklearn_gflow.diagnostics import Deviation, KernelDrift, kernel_drift, positive_definite
from sklearn_gflow.dynamics import (
    Adaptive,
    BestPoint,
    BlockOptions,
    Epoch,
    Fixed,
    FlowOptions,
    LossReached,
    Outcome,
    block_flow,
    flow,
    follow_path,
    linear_path,
    mean_diagonal,
    metric_scale,
    reference_flow,
)
from sklearn_gflow.dynamics.callbacks import Event
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.progress import Progress
from sklearn_gflow.geometry import (
    SOLVERS,
    FactorizationError,
    LayeredNetwork,
    OutputMap,
    SquaredError,
)
from tests.dynamics.problems import Flow

SIZES = (2, 12, 1)
FAILED = (Outcome.DIVERGED, Outcome.FACTORIZATION_FAILED)


class Spoilt(LayeredNetwork):
    """Finite outputs, and derivatives that are not, once θ is ``far`` from ``origin``."""

    def __init__(self, value, origin=None, far=0.0):
        super().__init__(SIZES)
        self.value, self.origin, self.far = value, origin, far

    def linearize(self, theta, X):
        done = super().linearize(theta, X)
        if self.origin is not None and float((theta - self.origin).norm()) <= self.far:
            return done
        return replace(done, slopes=[slope * self.value for slope in done.slopes])


def problem(value=math.nan, **where):
    return Flow(family=Spoilt(value, **where))


class Rows:
    def __init__(self, pieces):
        self.map, self.cost, _ = pieces
        self.n_samples, self.total_weight = len(self.map.X), self.cost.total_weight

    def block(self, rows):
        output_map = OutputMap(self.map.family, self.map.X[rows], self.map.offset[rows])
        return output_map, SquaredError(self.cost.targets[rows], float(len(output_map.X)))


def adaptive(pieces, options):
    return flow(*pieces, Adaptive(1.0), options)


def fixed(pieces, options):
    return flow(*pieces, Fixed([0.5, 1.0]), options)


def blocks(pieces, options):
    probe = pieces[:2]
    return block_flow(
        Rows(pieces), pieces[2], [Epoch(0.5, 0.5)] * 2, options, BlockOptions(3), probe=probe
    )


def reference(pieces, options):
    return reference_flow(*pieces, options, t_end=0.5)


FLOWS = [adaptive, fixed, blocks, reference]


@pytest.mark.parametrize("run", FLOWS)
class TestDerivatives:
    @pytest.mark.parametrize("scale", [None, 1.0])
    @pytest.mark.parametrize("damping", [0.0, 0.1])
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_from_the_start_no_step_is_taken(self, run, value, alpha, damping, scale):
        spoilt = problem(value)
        options = FlowOptions(alpha=alpha, damping=damping, metric_scale=scale)
        path = run(spoilt.pieces, options)
        assert path.outcome in FAILED
        assert not path.outcome.complete
        assert torch.equal(path.theta, spoilt.theta)
        assert len(path.tau) == 1
        # With the unit of the start the scale is no number either, and no 1.0 in its place.
        assert math.isfinite(path.scale) is (scale is not None)
        assert math.isnan(path.rank[0])

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_whatever_the_solver(self, run, solver):
        options = FlowOptions(alpha=0.3, solver=solver, metric_scale=1.0, damping=0.1)
        path = run(problem().pieces, options)
        assert path.outcome in FAILED
        assert len(path.tau) == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    def test_on_the_way(self, run, alpha):
        origin = Flow().theta
        path = run(problem(origin=origin, far=1e-2).pieces, FlowOptions(alpha=alpha))
        assert path.outcome in FAILED
        assert path.theta.isfinite().all()
        assert all(map(math.isfinite, path.loss))


class InfiniteError(SquaredError):
    """Its value overflows at the start, while its gradient does not."""

    def value(self, x):
        return super().value(x) if x.any() else math.inf


class LostError(SquaredError):
    def gradient(self, x):
        return super().gradient(x) * math.nan


@pytest.mark.parametrize("cost", [InfiniteError, LostError])
@pytest.mark.parametrize("run", [adaptive, fixed, reference])
def test_costs_that_are_not_finite_at_the_start(run, cost):
    plain = Flow()
    pieces = plain.map, cost(plain.cost.targets, plain.cost.total_weight), plain.theta
    path = run(pieces, FlowOptions(alpha=0.3))
    assert path.outcome is Outcome.DIVERGED
    assert len(path.tau) == 1


class TestUnits:
    def test_of_a_gram_that_is_not_finite(self):
        for value in (math.nan, math.inf):
            spoilt = problem(value)
            tangent = spoilt.map.linearize(spoilt.theta)
            for unit in (mean_diagonal(tangent), mean_diagonal(tangent, shared=True)):
                assert not math.isfinite(unit)
            assert not math.isfinite(metric_scale(tangent, FlowOptions()))
            assert metric_scale(tangent, FlowOptions(metric_scale=2.0)) == 2.0

    def test_of_no_gram_at_all(self):
        class Constant(LayeredNetwork):
            def linearize(self, theta, X):
                done = super().linearize(theta, X)
                return replace(done, inputs=[0 * a for a in done.inputs])

            def gram_diagonal(self):
                return torch.zeros(6)

        tangent = problem(0.0).map.linearize(Flow().theta)
        assert mean_diagonal(tangent) > 0  # the last layer is left
        nothing = _Traceless(tangent)
        assert mean_diagonal(nothing) == 1.0


class _Traceless:
    """A tangent map of a network that ignores its parameters."""

    total_weight, n_outputs = 6.0, 1

    def __init__(self, tangent):
        self.tangent = tangent

    def trace(self):
        return 0.0


class TestProgress:
    def test_nan_is_no_progress_and_no_convergence(self):
        progress = Progress(1.0, 1.0, 0.0, FlowOptions(n_iter_no_change=3))
        assert not progress.converged(math.nan)
        for _ in range(3):
            assert progress.exhausted(1) is None
            progress.count(1.0, math.nan)
        assert progress.exhausted(1) is Outcome.STALLED

    def test_a_start_that_is_nan_has_not_converged(self):
        for start in (math.nan, math.inf):
            progress = Progress(start, start, 0.0, FlowOptions())
            assert not progress.converged(math.nan)
        assert not Progress(math.nan, 1.0, 0.0, FlowOptions()).converged(0.0)

    def test_loss_below_the_least_is_no_progress(self):
        progress = Progress(1.0, 1.0, 0.5, FlowOptions(n_iter_no_change=1))
        progress.count(0.5, 0.4)
        assert progress.exhausted(1) is Outcome.STALLED


def point(value=1.0, tau=0.0):
    """A point whose loss, outputs and derivatives are all multiplied by a value."""
    plain = Flow(family=Spoilt(value))
    at = Point.at(plain.map, plain.cost, tau, plain.theta)
    tangent = replace(at.tangent, outputs=at.outputs * value)
    return replace(at, tangent=tangent, loss=at.loss * value)


class TestCallbacks:
    def test_a_loss_that_is_nan_reaches_no_bound(self):
        reached = LossReached(math.inf)
        reached.start(Event(point(math.nan)))
        assert reached.outcome is None

    def test_a_score_that_is_nan_is_never_the_best(self):
        scores = iter([(1.0, 0.0), (math.nan, math.nan), (math.nan, 0.0)])
        best = BestPoint(lambda _: next(scores), "test", patience=2)
        best.start(Event(point()))
        for _ in range(2):
            columns = best.step(Event(point(), point()))
            assert math.isnan(columns["test_score"])
        assert best.best[0] == 0
        assert best.outcome is Outcome.EARLY_STOPPED

    def test_deviation(self):
        for targets in (torch.full((6,), math.nan), torch.zeros(6)):
            watch = Deviation(targets.double())
            start = watch.start(Event(point()))
            assert all(math.isnan(value) == bool(targets.isnan().any()) for value in start.values())
        # The length of no way at all is 1: the columns are then lengths themselves.
        assert start == {"deviation": 0.0, "predicted_deviation": 0.0}
        watch = Deviation(torch.ones(6).double())
        watch.start(Event(point()))
        assert math.isnan(watch.step(Event(point(math.nan), point()))["deviation"])

    def test_kernel_drift(self):
        for first, second in [(math.nan, 1.0), (1.0, math.nan)]:
            drift = KernelDrift()
            drift.start(Event(point(first)))
            assert math.isnan(drift.step(Event(point(second), point(first)))["ntk_drift"])
        nan = torch.full((3, 3), math.nan)
        assert math.isnan(kernel_drift(nan, torch.eye(3)))
        assert math.isnan(kernel_drift(torch.eye(3), nan))

    def test_definiteness(self):
        with pytest.raises(FactorizationError, match="eigh"):
            positive_definite(torch.full((3, 3), math.nan, dtype=torch.float64))
        nothing = positive_definite(torch.zeros(3, 3, dtype=torch.float64))
        assert (nothing.positive, nothing.margin) == (False, 0.0)


def test_kernel_of_blocks_that_is_not_finite_leaves_nan():
    plain, spoilt = Flow(), problem()
    path = block_flow(
        Rows(plain.pieces), plain.theta, [Epoch(0.1, 0.1)] * 2, FlowOptions(alpha=0.3),
        BlockOptions(3), probe=(plain.map, plain.cost), kernel=spoilt.map,
    )  # fmt: skip
    assert (path.outcome, path.n_steps) == (Outcome.REACHED_END, 2)
    assert all(map(math.isnan, path.rank + path.condition))


def test_steering_with_derivatives_that_are_not_finite():
    spoilt = problem()
    start = spoilt.map.outputs(spoilt.theta)
    path = linear_path(start, start + 1)
    steering = follow_path(spoilt.map, spoilt.theta, path, [0.0, 0.5, 1.0])
    assert steering.outcome in FAILED
    assert torch.equal(steering.theta, spoilt.theta)
