"""A flow that goes on from a state is the one that was never stopped, to the bit."""

import copy

import pytest
import torch

from sklearn_gflow.diagnostics import Deviation, KernelDrift
from sklearn_gflow.dynamics import (
    Adaptive,
    BestPoint,
    BlockOptions,
    Epoch,
    Fixed,
    FlowOptions,
    LossReached,
    WhileGaining,
    WhileMeanGains,
    block_flow,
    flow,
)
from sklearn_gflow.geometry import LayeredNetwork, MeanFamily, OutputMap, SquaredError
from tests.dynamics.problems import Flow
from tests.dynamics.test_callbacks import PROBLEM, Rows

pytestmark = pytest.mark.slow


class Kept:
    """Keeps every state that a flow hands over."""

    def __init__(self, state=None):
        self.state, self.states, self.ends = state, [], 0

    def keep(self, state, *, ended=False):
        self.states.append(copy.deepcopy(state()))
        self.ends += ended


def callbacks():
    return [
        KernelDrift(n_probes=2),
        Deviation(PROBLEM.cost.targets, alpha=1.0),
        BestPoint(lambda point: (-point.loss, point.loss), "own", 50),
        LossReached(1e-12),
    ]


def whole_batch(schedule, alpha, keeper):
    options = FlowOptions(alpha=alpha, store_path=True)
    return flow(*PROBLEM.pieces, schedule, options, callbacks(), keeper=keeper)


def over_blocks(momentum, keeper):
    probe = (PROBLEM.map, PROBLEM.cost)
    best = [BestPoint(lambda point: (-point.loss, point.loss), "own", 50)]
    epochs = [Epoch(h, h / 2) for h in (0.5, 0.4, 0.3)]
    return block_flow(
        Rows(), PROBLEM.theta, epochs, FlowOptions(alpha=0.5, damping=0.1),
        BlockOptions(3, momentum=momentum), probe=probe, callbacks=best, keeper=keeper,
    )  # fmt: skip


def open_ended(keeper):
    """Means over blocks, until rows that are kept apart gain nothing, and once over all rows."""
    probe = (PROBLEM.map, PROBLEM.cost)
    callback = WhileGaining(lambda point: point.loss)
    return block_flow(
        Rows(), PROBLEM.theta, [Epoch(h, h) for h in [0.3] * 6], FlowOptions(alpha=0.5, damping=1),
        BlockOptions(2, averaged=True, apart=torch.tensor([1, 3])), probe=probe,
        callbacks=[callback], closing=Epoch(0.2, 0.0), keeper=keeper,
    )  # fmt: skip


def growing(keeper):
    """Blocks that double from epoch to epoch."""
    epochs = [Epoch(0.5, 0.4, 0.25), Epoch(0.4, 0.3, 0.5), Epoch(0.3, 0.2)]
    return block_flow(
        Rows(), PROBLEM.theta, epochs, FlowOptions(alpha=0.5, damping=0.1),
        BlockOptions(4, momentum=0.5, averaged=True), probe=(PROBLEM.map, PROBLEM.cost),
        keeper=keeper,
    )  # fmt: skip


def mean_of_two(keeper):
    """Two networks side by side, of which one is better alone."""
    family = MeanFamily(LayeredNetwork((2, 6, 1)), 2)
    theta = family.initial(torch.Generator().manual_seed(0))
    output_map = OutputMap(family, PROBLEM.X, family.offsets(theta, PROBLEM.X))

    class Blocks(Rows):
        def block(self, rows):
            one = OutputMap(family, PROBLEM.X[rows], output_map.offset[rows])
            return one, SquaredError(PROBLEM.y[rows].reshape(-1), one.total_weight)

    callback = WhileMeanGains(lambda point: [point.loss, 0.9 * point.loss, point.loss], 9)
    return block_flow(
        Blocks(), theta, [Epoch(h, h) for h in [0.3] * 6], FlowOptions(alpha=0.5, damping=1),
        BlockOptions(2, momentum=0.5, averaged=True), probe=(output_map, PROBLEM.cost),
        callbacks=[callback], keeper=keeper,
    )  # fmt: skip


FLOWS = {
    "mean of two": mean_of_two,
    "open-ended blocks": open_ended,
    "growing blocks": growing,
    "adaptive": lambda keeper: whole_batch(Adaptive(3.0, 1e-3, [0.1, 0.5]), 0.5, keeper),
    "adapted flow": lambda keeper: whole_batch(Adaptive(3.0, 1e-3), 1.0, keeper),
    "given times": lambda keeper: whole_batch(Fixed([0.1, 0.4, 1.0, 2.0]), 0.3, keeper),
    "blocks": lambda keeper: over_blocks(0.0, keeper),
    "blocks with momentum": lambda keeper: over_blocks(0.5, keeper),
}


@pytest.mark.parametrize("name", FLOWS)
def test_goes_on_from_every_state(name):
    run, kept = FLOWS[name], Kept()
    whole = run(None)
    run(kept)
    assert len(kept.states) > 4
    assert kept.ends == 1 + (name == "open-ended blocks")
    for k, state in enumerate(kept.states):
        after = Kept(state)
        again = run(after)
        assert len(after.states) <= len(kept.states) - k
        assert again.outcome is whole.outcome
        assert again.detail == whole.detail
        assert again.solver == whole.solver
        assert again.solution == whole.solution
        assert torch.equal(again.theta, whole.theta)
        assert all(torch.equal(a, b) for a, b in zip(again.outputs, whole.outputs, strict=True))
        assert repr(again.history()) == repr(whole.history())


def test_a_state_is_plain():
    """Numbers, text, None, tensors, and lists, tuples and dicts of these."""

    def check(value):
        if isinstance(value, dict):
            assert all(isinstance(name, str) for name in value)
            value = list(value.values())
        if isinstance(value, list | tuple):
            for part in value:
                check(part)
            return
        assert value is None or isinstance(value, bool | int | float | str | torch.Tensor)

    for run in FLOWS.values():
        run(kept := Kept())
        for state in kept.states:
            check(state)


def test_a_problem_is_not_changed_by_what_goes_on():
    problem, kept = Flow(), Kept()
    before = problem.theta.clone()
    flow(*problem.pieces, Fixed([0.1, 0.2]), FlowOptions(), keeper=kept)
    flow(*problem.pieces, Fixed([0.1, 0.2]), FlowOptions(), keeper=Kept(kept.states[0]))
    assert torch.equal(problem.theta, before)
