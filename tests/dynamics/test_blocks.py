import math

import pytest
import torch

from sklearn_gflow.dynamics import (
    BlockOptions,
    Epoch,
    Fixed,
    FlowOptions,
    Outcome,
    block_flow,
    decaying_epochs,
    flow,
    timed_epochs,
)
from sklearn_gflow.geometry import FactorizationError, OutputMap, SquaredError
from tests.dynamics.problems import Flow


class Source:
    """The rows of a problem as blocks, with a record of the blocks that were asked for."""

    def __init__(self, problem, *, spoilt=lambda rows: 1.0):
        self.problem, self.spoilt, self.asked = problem, spoilt, []

    @property
    def n_samples(self):
        return len(self.problem.X)

    @property
    def total_weight(self):
        return self.problem.map.total_weight

    def block(self, rows):
        if not isinstance(rows, slice):
            self.asked.append(rows.tolist())
        p = self.problem
        weights = None if p.weights is None else p.weights[rows]
        output_map = OutputMap(p.network, p.X[rows], p.map.offset[rows], weights)
        targets = p.y[rows] * self.spoilt(rows)
        return output_map, SquaredError(output_map.weigh(targets), output_map.total_weight)


class FirstRows(Source):
    """The first four rows of a problem alone."""

    @property
    def n_samples(self):
        return 4


def run(problem, epochs, blocks, *, source=None, theta=None, **options):
    source = Source(problem) if source is None else source
    return block_flow(
        source,
        problem.theta if theta is None else theta,
        epochs,
        FlowOptions(**options),
        blocks,
        probe=(problem.map, problem.cost),
        kernel=problem.map,
    )


class TestEpochs:
    @pytest.mark.parametrize("t_end", [0.05, 0.5, 0.95, 0.999])
    def test_times_add_up_to_the_end(self, t_end):
        tau_end = -math.log1p(-t_end)
        epochs = decaying_epochs(tau_end)
        assert sum(epoch.length for epoch in epochs) == pytest.approx(tau_end, rel=1e-12)
        assert epochs[0].first <= 1 + 1e-12
        assert epochs[-1].last == pytest.approx(0, abs=1e-12)
        assert len(epochs) == math.ceil(2 * tau_end)

    def test_number_of_epochs(self):
        epochs = decaying_epochs(3.0, 5)
        assert len(epochs) == 5
        assert sum(epoch.length for epoch in epochs) == pytest.approx(3.0)
        assert decaying_epochs(math.inf, 5)[0].first == 1

    def test_no_end(self):
        with pytest.raises(ValueError, match="need a finite tau_end, or n_epochs"):
            decaying_epochs(math.inf)

    @pytest.mark.parametrize("epoch", [Epoch(0.5, 0.3), Epoch(0.2, 0.2), Epoch(0.1, 0.0)])
    def test_steps_have_the_length_of_the_epoch_as_their_mean(self, epoch):
        for n_blocks in (1, 2, 7):
            steps = epoch.steps(n_blocks)
            assert len(steps) == n_blocks
            assert sum(steps) / n_blocks == pytest.approx(epoch.length)
            assert steps == sorted(steps, reverse=True)

    def test_halves_take_the_same_time(self):
        first, second = Epoch(0.5, 0.3).halves()
        assert first.length + second.length == pytest.approx(0.4)
        assert (first.first, second.last) == (0.25, 0.15)
        assert first.last == second.first

    def test_given_times(self):
        assert [epoch.length for epoch in timed_epochs([0.5, 2.0])] == [0.5, 1.5]
        assert timed_epochs([math.inf])[0].steps(3) == [math.inf] * 3


class TestOneBlock:
    @pytest.mark.slow
    @pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2, 1, 3, 1, 2]).double()])
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
    def test_is_the_full_batch(self, alpha, weights):
        problem = Flow(weights=weights)
        taus = [0.1, 0.5, 1.5]
        full = flow(*problem.pieces, Fixed(taus), FlowOptions(alpha=alpha))
        block = run(problem, timed_epochs(taus), BlockOptions(6), alpha=alpha)
        torch.testing.assert_close(block.theta, full.theta, rtol=1e-9, atol=1e-11)
        assert block.loss == pytest.approx(full.loss, rel=1e-9)
        assert block.tau == pytest.approx(full.tau)
        assert block.scale == pytest.approx(full.scale)
        assert block.rank[:-1] == full.rank[:-1]


class TestSplitting:
    @pytest.mark.slow
    def test_blocks_at_alpha_zero_converge_to_the_flow(self):
        # At α = 0 the fields of the blocks add up to the field of all rows.
        problem, gaps = Flow(n=8), []
        full = flow(*problem.pieces, Fixed([0.01 * k for k in range(1, 101)]), FlowOptions(alpha=0))
        for n in (10, 20, 40):
            taus = [k / n for k in range(1, n + 1)]
            block = run(problem, timed_epochs(taus), BlockOptions(3, shuffle=False), alpha=0.0)
            gaps.append(float((block.theta - full.theta).norm()))
        assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.25)
        assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.25)

    def test_a_block_moves_as_its_alpha_says(self):
        # One short step of one block, seen on its own outputs: r' = −r at α = 1.
        problem = Flow(n=5)
        for alpha, momentum in [(1.0, 0.0), (1.0, 0.9)]:
            block = run(
                problem, [Epoch(1e-4, 1e-4)], BlockOptions(5, momentum=momentum), alpha=alpha
            )
            before, after = (problem.y.reshape(-1) - x for x in block.outputs)
            torch.testing.assert_close(after, math.exp(-1e-4) * before, rtol=1e-6, atol=1e-7)

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
    def test_momentum_does_not_move_what_a_block_sees(self, alpha):
        # A linear family has one D, so that what holds to first order holds exactly.
        problem, h, momentum = Flow(n=8, sizes=(12, 1)), 0.4, 0.8
        first, last = slice(0, 4), slice(4, 8)
        plain, kept = (
            run(problem, [Epoch(h, h)], BlockOptions(4, momentum=mu, shuffle=False), alpha=alpha)
            for mu in (0.0, momentum)
        )
        moved = kept.theta - plain.theta
        assert float((problem.D[first] @ moved).norm()) > 1e-3
        assert float((problem.D[last] @ moved).norm()) < 1e-12
        # All of it is what the last block does not see of the step of the first.
        blocks, source = BlockOptions(4, shuffle=False), FirstRows(problem)
        alone = run(problem, [Epoch(h, h)], blocks, source=source, alpha=alpha)
        step = alone.theta - problem.theta
        unseen = step - torch.linalg.pinv(problem.D[last]) @ (problem.D[last] @ step)
        torch.testing.assert_close(moved, momentum * unseen, rtol=1e-9, atol=1e-12)


class TestCutting:
    @pytest.mark.parametrize(("n", "size"), [(10, 3), (10, 10), (10, 4), (7, 1), (9, 8)])
    def test_every_row_once_an_epoch_in_even_blocks(self, n, size):
        problem = Flow(n=n)
        source = Source(problem)
        run(problem, [Epoch(1e-3, 1e-3)] * 3, BlockOptions(size), source=source)
        per_epoch = math.ceil(n / size)
        assert len(source.asked) == 3 * per_epoch
        for start in range(0, len(source.asked), per_epoch):
            blocks = source.asked[start : start + per_epoch]
            assert sorted(row for block in blocks for row in block) == list(range(n))
            lengths = {len(block) for block in blocks}
            assert max(lengths) <= size
            assert max(lengths) - min(lengths) <= 1
            assert all(block == sorted(block) for block in blocks)

    def test_shuffle_and_seed(self):
        def asked(**options):
            source = Source(problem)
            run(problem, [Epoch(0.1, 0.1)] * 2, BlockOptions(4, **options), source=source)
            return source.asked

        problem = Flow(n=12)
        assert asked(seed=1) == asked(seed=1)
        assert asked(seed=1) != asked(seed=2)
        assert asked()[:3] != asked()[3:]
        ordered = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert asked(shuffle=False) == ordered * 2

    @pytest.mark.slow
    def test_blocks_of_one_row_learn(self):
        problem = Flow(n=12, sizes=(2, 20, 1))
        epochs = decaying_epochs(5.0, 50)
        done = run(problem, epochs, BlockOptions(1), alpha=1.0, damping=0.01, n_iter_no_change=99)
        assert done.outcome is Outcome.REACHED_END
        assert done.loss[-1] < 0.5 * done.loss[0]

    def test_precision_of_the_start_is_kept(self):
        problem = Flow(n=8)
        before = problem.theta.clone()
        done = run(problem, [Epoch(0.1, 0.1)], BlockOptions(4))
        assert done.theta.dtype == torch.float64
        torch.testing.assert_close(problem.theta, before, rtol=0, atol=0)


class TestEnds:
    def test_reached(self):
        done = run(Flow(n=8), decaying_epochs(1.0), BlockOptions(4))
        assert done.outcome is Outcome.REACHED_END
        assert done.tau[-1] == pytest.approx(1.0)
        assert done.n_steps == len(done.extra["undone"]) - 1 == 2
        assert all(math.isnan(error) for error in done.step_error)

    def test_most_epochs(self):
        done = run(Flow(n=8), decaying_epochs(3.0), BlockOptions(4), max_iter=2)
        assert (done.outcome, done.n_steps) == (Outcome.MAX_ITER, 2)

    def test_converged(self):
        problem = Flow(n=6, sizes=(2, 30, 1))
        done = run(problem, [Epoch(0.5, 0.5)] * 400, BlockOptions(6), tol=1e-3)
        assert done.outcome is Outcome.CONVERGED
        assert math.sqrt(done.loss[-1] / done.loss[0]) <= 1e-3

    def test_stalled(self):
        problem = Flow(n=8)
        done = run(problem, [Epoch(1e-12, 1e-12)] * 9, BlockOptions(4), n_iter_no_change=3)
        assert (done.outcome, done.n_steps) == (Outcome.STALLED, 3)

    def test_factorisation_that_fails(self, monkeypatch):
        def fails(*args, **options):
            raise FactorizationError("no luck")

        monkeypatch.setattr("sklearn_gflow.dynamics.block_step.factorize", fails)
        problem = Flow(n=8)
        done = run(problem, [Epoch(0.1, 0.1)], BlockOptions(4))
        assert done.outcome is Outcome.FACTORIZATION_FAILED
        assert done.detail == "no luck"
        torch.testing.assert_close(done.theta, problem.theta, rtol=0, atol=0)


class TestDivergence:
    def unstable(self):
        """Blocks that contradict each other: long steps thrash, short ones find the middle."""
        X = torch.linspace(-1, 1, 6).double()[:, None].repeat(4, 2)
        y = torch.cat([torch.full((12,), 1.2), torch.full((12,), -0.8)]).double()[:, None]
        return Flow(X=X, y=y, sizes=(2, 20, 1), bias=0.1)

    @pytest.mark.slow
    def test_is_undone_and_reported(self):
        problem = self.unstable()
        done = run(problem, [Epoch(8.0, 8.0)] * 2, BlockOptions(3), alpha=1.0, damping=1e-3)
        assert done.extra["undone"][-1] > 0
        assert "epochs raised the loss and were undone" in done.detail
        for k, loss in enumerate(done.loss[1:], start=1):
            assert loss <= 1.5 * min(done.loss[:k]) + 1e-6
            assert loss <= 1.1 * done.loss[0] + 1e-6

    def test_time_is_made_up_for(self):
        problem = self.unstable()
        done = run(
            problem, [Epoch(2.0, 2.0)], BlockOptions(3), alpha=1.0, damping=0.1, max_iter=10**4,
            n_iter_no_change=10**4,
        )  # fmt: skip
        assert done.extra["undone"][-1] > 0
        assert done.outcome is Outcome.REACHED_END
        assert done.tau[-1] == pytest.approx(2.0)

    def test_without_end(self):
        # A source whose blocks pull away from what the loss is measured by.
        problem = Flow(n=8)
        source = Source(problem, spoilt=lambda rows: 1.0 if isinstance(rows, slice) else -1e6)
        done = run(problem, [Epoch(0.5, 0.5)], BlockOptions(4), source=source, alpha=1.0)
        assert done.outcome is Outcome.STEP_UNDERFLOW
        assert done.n_steps == 0
        torch.testing.assert_close(done.theta, problem.theta, rtol=0, atol=0)

    def test_is_seen_within_the_epoch(self):
        # Of 64 blocks the first steps go far off; the blocks after them meet what they did.
        X = torch.linspace(-1, 1, 64).double()[:, None]
        problem = Flow(X=X, y=torch.sin(3 * X), sizes=(1, 20, 1))
        source = Source(problem, spoilt=lambda rows: 1.0 if isinstance(rows, slice) else 30.0)
        done = run(problem, [Epoch(0.5, 0.5)], BlockOptions(1), source=source, alpha=1.0)
        assert done.extra["undone"] == [0.0]
        assert "11 epochs raised the loss" in done.detail
        assert len(source.asked) < 11 * 16

    def test_one_heavy_row_is_no_divergence(self):
        # It holds nearly all of the loss, and so does its block; the epoch stays.
        problem = Flow(n=12, sizes=(2, 20, 1))
        problem.y[5] = 100.0
        done = run(problem, [Epoch(0.1, 0.1)], BlockOptions(2), alpha=1.0, damping=0.1)
        assert done.extra["undone"] == [0.0, 0.0]

    def test_not_finite(self):
        problem = Flow(n=8)
        source = Source(problem, spoilt=lambda rows: 1.0 if isinstance(rows, slice) else math.inf)
        done = run(problem, [Epoch(0.5, 0.5)], BlockOptions(4), source=source)
        # No step is made from a residual that is not finite: nothing moved.
        assert done.outcome is Outcome.DIVERGED
        torch.testing.assert_close(done.theta, problem.theta, rtol=0, atol=0)
        start = run(problem, [Epoch(0.5, 0.5)], BlockOptions(4), theta=problem.theta * math.nan)
        assert start.outcome is Outcome.DIVERGED
