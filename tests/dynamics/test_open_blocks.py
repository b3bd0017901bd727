"""Flows over blocks without an end of their own: means of iterates, rows apart, a closing epoch."""

import math
from itertools import pairwise

import pytest
import torch

from sklearn_gflow.dynamics import (
    BlockOptions,
    Callback,
    Epoch,
    FlowOptions,
    Outcome,
    WhileGaining,
    block_flow,
    open_epochs,
)
from sklearn_gflow.dynamics.iterates import Iterates
from sklearn_gflow.geometry.losses import Gamma, Huber, LogLoss, Poisson, Quantile, SquaredLoss
from tests.dynamics import test_blocks
from tests.dynamics.problems import Flow
from tests.dynamics.test_blocks import Source
from tests.dynamics.test_costs import Rows

KEEP = {"alpha": 0.5, "damping": 0.1, "store_path": True}


def run(problem, epochs, blocks, *, source=None, callbacks=(), closing=None, **options):
    return block_flow(
        Source(problem) if source is None else source, problem.theta, epochs,
        FlowOptions(**{**KEEP, **options}), blocks, probe=(problem.map, problem.cost),
        callbacks=callbacks, closing=closing,
    )  # fmt: skip


class Script:
    """Losses of the points of a flow, as a list."""

    def __init__(self, *losses):
        self.left = list(losses)

    def __call__(self, point):
        return self.left.pop(0)


class TestIterates:
    def test_weights_grow_as_a_power(self):
        # Of scalars 0, …, 0, 1 at place k the mean is the weight of k.
        def weight(k, n):
            iterates = Iterates.at(torch.zeros(1), averaged=True)
            for j in range(1, n + 1):
                iterates = iterates.moved(torch.tensor([float(j == k) - float(j == k + 1)]))
            return float(iterates.shown)

        assert sum(weight(k, 20) for k in range(1, 21)) == pytest.approx(1, rel=1e-5)
        assert weight(400, 400) / weight(200, 400) == pytest.approx(2**6, rel=0.06)

    def test_the_start_weighs_nothing(self):
        iterates = Iterates.at(torch.full((2,), 5.0), averaged=True)
        assert torch.equal(iterates.shown, iterates.last)
        moved = iterates.moved(torch.ones(2))
        assert torch.equal(moved.shown, moved.last)

    def test_without_a_mean_the_last_is_shown(self):
        moved = Iterates.at(torch.zeros(2), averaged=False).moved(torch.ones(2))
        assert torch.equal(moved.shown, torch.ones(2))


class TestOpenEpochs:
    def test_steps_fall_and_their_times_add_up_without_bound(self):
        epochs = open_epochs(4000, 2.0)
        assert epochs[0].first == 2
        assert epochs[4].first == pytest.approx(1)
        assert all(one.last == after.first for one, after in pairwise(epochs))
        assert sum(epoch.length for epoch in epochs) > 50

    def test_the_mean_is_recorded_and_the_last_goes_on(self):
        # One block an epoch: the path without a mean tells all iterates.
        problem, epochs = Flow(n=8), [Epoch(0.3, 0.3)] * 4
        plain = run(problem, epochs, BlockOptions(8))
        averaged = run(problem, epochs, BlockOptions(8, averaged=True))
        iterates = Iterates.at(problem.theta, averaged=True)
        for theta, before, found in zip(
            plain.thetas[1:], plain.thetas, averaged.thetas[1:], strict=False
        ):
            iterates = iterates.moved(theta - before)
            torch.testing.assert_close(found, iterates.shown, rtol=1e-12, atol=1e-14)

    def test_an_epoch_undone_leaves_no_trace_in_the_mean(self):
        class Refuses(Callback):
            def accepts(self, before, after):
                return after.tau - before.tau <= 0.2

        problem = Flow(n=8)
        refused = run(
            problem, [Epoch(0.4, 0.4)], BlockOptions(8, averaged=True), callbacks=[Refuses()]
        )
        halved = run(problem, [Epoch(0.2, 0.2)] * 2, BlockOptions(8, averaged=True))
        torch.testing.assert_close(refused.theta, halved.theta, rtol=1e-12, atol=1e-14)

    def test_divergence_is_undone(self):
        problem = test_blocks.TestDivergence().unstable()
        blocks = BlockOptions(3, averaged=True)
        done = run(problem, [Epoch(8.0, 8.0)] * 4, blocks, alpha=1.0, damping=1e-3, max_iter=8)
        assert done.extra["undone"][-1] > 0
        assert "epochs raised the loss and were undone" in done.detail
        assert max(done.loss) <= 1.1 * done.loss[0] + 1e-6


class TestRowsApart:
    def closed(self, *losses, size=3):
        problem, callback = Flow(n=8), WhileGaining(Script(*losses))
        source, blocks = Source(problem), BlockOptions(size, averaged=True, apart=torch.arange(2))
        path = run(
            problem, [Epoch(0.2, 0.2)] * 9, blocks,
            source=source, callbacks=[callback], closing=Epoch(0.1, 0.0),
        )  # fmt: skip
        return path, source

    def test_no_block_has_them_before_the_closing_epoch(self):
        path, source = self.closed(5, 4, 3, 3, 3, 3, 3)
        before, closing = source.asked[:-3], source.asked[-3:]
        assert {row for block in before for row in block} == set(range(2, 8))
        assert sorted(row for block in closing for row in block) == list(range(8))
        assert path.outcome is Outcome.NOTHING_GAINED
        assert path.tau[-1] == pytest.approx(0.2 * 5 + 0.05)

    def test_the_closing_epoch_begins_at_the_best_point_and_is_the_solution(self):
        path, _ = self.closed(5, 3, 4, 4, 4, 4, size=8)
        assert (path.n_steps, path.solution) == (5, 5)
        problem = Flow(n=8)
        again = block_flow(
            Source(problem), path.thetas[1], [Epoch(0.1, 0.0)],
            FlowOptions(**KEEP, metric_scale=path.scale), BlockOptions(8),
            probe=(problem.map, problem.cost),
        )  # fmt: skip
        torch.testing.assert_close(path.theta, again.theta, rtol=1e-9, atol=1e-11)

    def test_a_closing_epoch_that_fails_leaves_the_best_point(self):
        problem = Flow(n=8)
        closing = []

        def spoilt(rows):
            if isinstance(rows, slice):
                return 1.0
            closing.extend(rows.tolist())
            return -1e9 if 0 in closing else 1.0  # row 0 is apart until then

        path = run(
            problem, [Epoch(0.2, 0.2)] * 9, BlockOptions(8, averaged=True, apart=torch.arange(1)),
            source=Source(problem, spoilt=spoilt), closing=Epoch(0.1, 0.0),
            callbacks=[WhileGaining(Script(5, 3, 4, 4, 4, 4))],
        )  # fmt: skip
        assert path.solution == 1
        assert torch.equal(path.theta, path.thetas[1])
        assert "epochs raised the loss and were undone" in path.detail

    def test_epochs_used_up_are_closed_too(self):
        problem = Flow(n=8)
        path = run(
            problem, [Epoch(0.1, 0.1)] * 2, BlockOptions(8), closing=Epoch(0.1, 0.0),
            callbacks=[WhileGaining(Script(3, 2, 1, 1))],
        )  # fmt: skip
        assert (path.outcome, path.n_steps, path.solution) == (Outcome.REACHED_END, 3, 3)

    def test_a_flow_without_a_best_point_is_not_closed(self):
        problem = Flow(n=8)
        path = run(problem, [Epoch(0.1, 0.1)], BlockOptions(8), closing=Epoch(0.1, 0.0))
        assert (path.outcome, path.n_steps) == (Outcome.REACHED_END, 1)


class TestWhileGaining:
    @pytest.mark.parametrize(
        ("losses", "n_steps", "best"),
        [
            ([3, 2, 2, 2, 2, 2], 4, 1),  # three points at least
            ([*range(20, 9, -1), *[10] * 9], 15, 10),  # half as many as led to the best
            ([1, 1 - 1e-3, 1 - 1.5e-3, 1 - 1.8e-3, 0], 3, 3),  # small gains are taken
            ([1, *[1 - 1e-3 * k for k in range(1, 9)], *[9] * 9], 10, 8),  # and may add up
            ([math.nan] * 9, 3, 0),
        ],
    )
    def test_ends(self, losses, n_steps, best):
        path = run(
            Flow(n=8), [Epoch(1e-3, 1e-3)] * 30, BlockOptions(8),
            callbacks=[WhileGaining(Script(*losses))],
        )  # fmt: skip
        assert path.outcome is Outcome.NOTHING_GAINED
        assert path.outcome.complete
        assert (path.n_steps, path.solution) == (n_steps, best)


class TestParabola:
    @pytest.mark.parametrize("loss", [SquaredLoss(), LogLoss(), Huber(0.7)])
    def test_lies_above_a_bounded_loss_and_touches_it(self, loss):
        assert loss.bounded
        generator = torch.Generator().manual_seed(0)
        x, step = torch.randn(2, 12, generator=generator).double()
        targets = torch.softmax(torch.randn(4, 3, generator=generator).double(), dim=1)
        cost = loss.cost(targets)
        parabola = cost.parabola(x)

        def gap(s):
            return loss.unit * parabola.value(x + s * step) - cost.value(x + s * step)

        assert all(gap(s) >= gap(0.0) - 1e-12 for s in (-5.0, -1.0, -0.1, 0.1, 1.0, 5.0))
        torch.testing.assert_close(loss.unit * parabola.residual(x), cost.residual(x))

    def test_losses_of_unbounded_or_steeper_curvature_have_none(self):
        assert not any(loss.bounded for loss in (Quantile(), Poisson(), Gamma()))

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.0, 0.5])
    def test_steps_along_it_converge_to_the_flow_of_the_cost(self, alpha):
        problem, ends = Flow(6, (3, 10, 2), seed=2), {}
        for count, parabolic in [(400, False), (10, True), (20, True), (40, True)]:
            ends[count] = block_flow(
                Rows(problem, "cross-entropy"), problem.theta,
                [Epoch(1 / count, 1 / count)] * count,
                FlowOptions(alpha=alpha, damping=0.1, solver="eigh"),
                BlockOptions(3, shuffle=False, parabolic=parabolic),
                probe=(problem.map, problem.cost),
            ).theta  # fmt: skip
        gaps = [float((ends[count] - ends[400]).norm()) for count in (10, 20, 40)]
        assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.2)
        assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.25)


class TestSampledLoss:
    def test_it_is_that_of_the_probe_and_asks_for_no_other_rows(self):
        problem, few = Flow(n=12), Flow(n=5)
        source, chunks = Source(problem), []
        inner = source.block
        source.block = lambda rows: chunks.append(isinstance(rows, slice)) or inner(rows)
        trajectory = block_flow(
            source, problem.theta, open_epochs(3), FlowOptions(**KEEP),
            BlockOptions(4, averaged=True, sampled=True), probe=(few.map, few.cost),
        )  # fmt: skip
        at = [few.cost.value(few.map.outputs(theta)) for theta in trajectory.thetas]
        assert trajectory.loss == pytest.approx(at, rel=1e-12)
        assert not any(chunks)
