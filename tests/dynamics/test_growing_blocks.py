"""Flows over blocks that double from epoch to epoch."""

import pytest
import torch

from sklearn_gflow.dynamics import BlockOptions, Epoch, open_epochs
from sklearn_gflow.dynamics.iterates import Iterates
from tests.dynamics.problems import Flow
from tests.dynamics.test_blocks import Source
from tests.dynamics.test_open_blocks import run


class TestShares:
    def test_blocks_double_until_they_are_the_largest(self):
        shares = [epoch.share for epoch in open_epochs(6, rows=2048)]
        assert shares == [1 / 8, 1 / 4, 1 / 2, 1, 1, 1]

    @pytest.mark.parametrize("rows", [None, 100, 256])
    def test_blocks_that_are_small_do_not_grow(self, rows):
        assert open_epochs(5, rows=rows) == open_epochs(5)
        assert {epoch.share for epoch in open_epochs(5, rows=rows)} == {1.0}

    def test_both_halves_of_an_epoch_keep_it(self):
        assert [half.share for half in Epoch(0.5, 0.3, 0.25).halves()] == [0.25, 0.25]


class TestEpochOfSmallerBlocks:
    @pytest.mark.parametrize(("share", "sizes"), [(0.25, [2] * 4), (0.5, [4, 4]), (1.0, [8])])
    def test_it_has_so_many_rows_at_most(self, share, sizes):
        problem = Flow(n=8)
        source = Source(problem)
        run(problem, [Epoch(0.1, 0.1, share)], BlockOptions(8), source=source)
        assert [len(rows) for rows in source.asked] == sizes

    def test_no_share_is_less_than_a_row(self):
        problem = Flow(n=8)
        source = Source(problem)
        run(problem, [Epoch(0.1, 0.1, 0.01)], BlockOptions(8), source=source)
        assert len(source.asked) == 8

    def test_a_row_bears_as_much_of_the_ridge(self):
        # An epoch of half blocks is one of blocks of that size with twice the relative ridge.
        epochs, problem = [Epoch(0.5, 0.3)], Flow(n=8)
        halves = [epoch._replace(share=0.5) for epoch in epochs]
        for momentum in (0.0, 0.5):
            small = run(problem, epochs, BlockOptions(4, momentum=momentum), damping=0.2)
            grown = run(problem, halves, BlockOptions(8, momentum=momentum), damping=0.1)
            assert torch.equal(small.theta, grown.theta)


class TestMeanOverBlocksThatGrow:
    def test_it_knows_no_unit(self):
        steps = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
        whole = half = Iterates.at(torch.zeros(3), averaged=True)
        for step in steps:
            whole, half = whole.moved(step), half.moved(step, 0.5)
        torch.testing.assert_close(whole.shown, half.shown)

    def test_a_block_weighs_as_the_time_that_it_stands_for(self):
        # Of 2n half steps and n whole ones the weight of the half steps is (½)⁷ of all.
        n = 400
        iterates = Iterates.at(torch.zeros(1), averaged=True)
        for k in range(2 * n):
            iterates = iterates.moved(torch.full((1,), float(k == 0)), 0.5)
        for k in range(n):
            iterates = iterates.moved(torch.full((1,), -float(k == 0)))
        assert iterates.count == 2 * n
        assert float(iterates.shown) == pytest.approx(0.5**7, rel=0.05)
