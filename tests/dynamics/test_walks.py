"""Walks over blocks: of one who walks alone they are the flow over these blocks."""

from dataclasses import replace

import pytest
import torch

from sklearn_gflow.dynamics import BlockOptions, Epoch, FlowOptions, Outcome, block_flow
from sklearn_gflow.geometry import FactorizationError
from tests.dynamics.problems import Flow
from tests.dynamics.test_blocks import Source

PROBLEM = Flow(n=12)


class Walk(Source):
    """Who walks over a problem alone, so many rows a part; some parts are not here."""

    def __init__(self, problem, size, lost=()):
        super().__init__(problem)
        self.size, self.lost = size, lost

    def parts(self, rows, share):
        parts = [self.block(part) for part in rows.split(round(share * self.size))]
        return [None if k in self.lost else part for k, part in enumerate(parts)]

    def summed(self, *numbers):
        return numbers

    def joined(self, way, loss):
        return way, loss


def theta(blocks, epochs=3, share=1.0):
    epochs = [Epoch(0.5, 0.5, share)] * epochs
    options = FlowOptions(alpha=0.5, damping=0.1)
    source = Source(PROBLEM) if blocks.walk is None else blocks.walk
    probe = PROBLEM.map, PROBLEM.cost
    return block_flow(source, PROBLEM.theta, epochs, options, blocks, probe=probe)


def same(found, expected):
    torch.testing.assert_close(found.theta, expected.theta, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_a_walk_of_one_block_is_a_block(momentum):
    plain = BlockOptions(4, momentum=momentum)
    same(theta(replace(plain, walk=Walk(PROBLEM, 4))), theta(plain))


def test_a_walk_goes_over_one_block_after_the_other():
    plain = BlockOptions(3, shuffle=False)
    same(theta(replace(plain, batch_size=6, walk=Walk(PROBLEM, 3))), theta(plain))


def test_parts_of_smaller_blocks_are_smaller():
    plain = BlockOptions(6, shuffle=False)
    walking = replace(plain, batch_size=12, walk=Walk(PROBLEM, 6))
    same(theta(walking, share=0.5), theta(plain, share=0.5))


def test_within_a_walk_momentum_is_that_of_blocks():
    plain = BlockOptions(3, shuffle=False, momentum=0.6)
    found = theta(replace(plain, batch_size=12, walk=Walk(PROBLEM, 3)), epochs=1)
    same(found, theta(plain, epochs=1))


def test_where_only_others_have_rows_momentum_leads_on():
    """The last of three parts is not here: a step of its own is two thirds of the way."""
    blocks = BlockOptions(12, shuffle=False, momentum=0.6, walk=Walk(PROBLEM, 4, lost=[2]))
    first, second = theta(blocks, epochs=1), theta(blocks, epochs=2)
    way = first.theta - PROBLEM.theta
    torch.testing.assert_close(first.carried.last_step, way / 3)
    torch.testing.assert_close(second.carried.last_step, (second.theta - first.theta) / 3)


def test_a_part_that_cannot_be_factorised_loses_the_way_of_all(monkeypatch):
    def fails(*args, **options):
        raise FactorizationError("none of them")

    monkeypatch.setattr("sklearn_gflow.dynamics.block_step.factorize", fails)
    found = theta(BlockOptions(6, walk=Walk(PROBLEM, 3)))
    assert found.outcome is Outcome.DIVERGED
    assert torch.equal(found.theta, PROBLEM.theta)
    assert "raised the loss and were undone" in found.detail
