"""Members of a mean flow over blocks as each would alone, and end together."""

import math

import pytest
import torch

from sklearn_gflow.dynamics import (
    BlockOptions,
    Epoch,
    FlowOptions,
    Outcome,
    WhileMeanGains,
    block_flow,
)
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import LayeredNetwork, LogLoss, MeanFamily, OutputMap
from sklearn_gflow.geometry.losses import SquaredLoss

SIZES, N = (3, 8, 2), 12
LOSSES = {"squared": SquaredLoss(), "cross-entropy": LogLoss()}


def drawn(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Rows:
    """Rows in blocks, as a family sees them that starts at θ₀."""

    def __init__(self, family, theta, loss, *, weighted=False):
        self.family, self.loss, self.X = family, loss, drawn(N, 3, seed=1)
        self.targets = torch.softmax(drawn(N, 2, seed=2), dim=1)
        self.offset = family.offsets(theta, self.X)
        self.weights = torch.linspace(0.5, 2, N).double() if weighted else torch.ones(N).double()

    n_samples = N

    @property
    def total_weight(self):
        return float(self.weights.sum())

    def block(self, rows):
        weights = self.weights[rows]
        output_map = OutputMap(self.family, self.X[rows], self.offset[rows], weights)
        return output_map, self.loss.cost(self.targets[rows], weights)


def starts(n_members):
    family = MeanFamily(LayeredNetwork(SIZES), n_members)
    return family, family.initial(torch.Generator().manual_seed(0))


def follow(family, theta, loss, scale, *, blocks=None, epochs=3, callbacks=(), weighted=False,
           closing=None, **options):  # fmt: skip
    rows = Rows(family, theta, loss, weighted=weighted)
    return block_flow(
        rows, theta, [Epoch(0.5, 0.4)] * epochs, FlowOptions(metric_scale=scale, **options),
        blocks or BlockOptions(4, momentum=0.5, parabolic=True, averaged=True),
        probe=rows.block(slice(None)), callbacks=callbacks, closing=closing,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.5, "damping": 0.1, "solver": "shared"},
        {"alpha": 0.5, "damping": 0.1},
        {"alpha": 0.0, "damping": 0.0},
        {"alpha": 1.0, "damping": 0.0},  # with chords
    ],
    ids=["shared", "damped", "standard", "adapted"],
)
def test_each_flows_as_it_would_alone(loss, weighted, options):
    (family, theta), scale = starts(2), 3.0
    mean = follow(family, theta, loss, scale, weighted=weighted, **options)
    members = [
        # The Gram of the mean is the mean of theirs over two, and so is its unit.
        follow(LayeredNetwork(SIZES), part, loss, 2 * scale, weighted=weighted, **options)
        for part in theta.chunk(2)
    ]
    assert torch.equal(mean.theta, torch.cat([member.theta for member in members]))
    outputs = sum(member.outputs[-1] for member in members) / 2
    torch.testing.assert_close(mean.outputs[-1], outputs, rtol=1e-12, atol=1e-12)
    assert mean.carried.last_step.shape == theta.shape


def test_the_mean_of_one_is_that_one():
    network, mean = LayeredNetwork(SIZES), MeanFamily(LayeredNetwork(SIZES), 1)
    theta = network.initial(torch.Generator().manual_seed(0))
    X = drawn(N, 3, seed=1)
    one, other = (
        Point.at(OutputMap(family, X), LogLoss().cost(torch.ones(N, 2) / 2, None), 0.0, theta)
        for family in (network, mean)
    )
    assert torch.equal(one.outputs, other.outputs)


def test_a_block_without_a_factor_ends_all():
    family, theta = starts(2)
    theta[-1] = math.nan  # of the last member alone
    path = follow(family, theta, SquaredLoss(), 1.0, alpha=0.5, damping=0.1)
    assert path.outcome is Outcome.DIVERGED


class TestWhileMeanGains:
    def run(self, *losses, share=3, closing=None):
        left = [list(one) if isinstance(one, tuple) else [one] for one in losses]
        callback = WhileMeanGains(lambda point: left.pop(0), share)
        family, theta = starts(2)
        path = follow(
            family, theta, SquaredLoss(), 1.0, epochs=12, callbacks=[callback], alpha=0.0,
            closing=closing, blocks=BlockOptions(N, averaged=True),
        )  # fmt: skip
        return path, callback

    @pytest.mark.parametrize(
        ("losses", "share", "n_steps", "outcome"),
        [
            ((9, 8, 7, 6.9, 6), 3, 3, Outcome.MAX_ITER),  # its share, and no rate beyond it
            ((9, 8, 7, 6, 5, 4, 3.9), 3, 6, Outcome.MAX_ITER),  # more, while each point brings much
            ((9, 8, 8, 8, 8), 9, 4, Outcome.NOTHING_GAINED),
        ],
    )
    def test_ends(self, losses, share, n_steps, outcome):
        path, callback = self.run(*losses, share=share)
        assert (path.n_steps, path.outcome, callback.alone) == (n_steps, outcome, None)

    def test_a_member_that_is_better_is_to_go_alone(self):
        closing = Epoch(0.1, 0.0)
        losses = [(9, 9, 9), (8, 1, 9), (7, 1, 9), (6, 1, 9), (5, 6, 4.8)]
        path, callback = self.run(*losses, (4, 6, 3.7), share=9, closing=closing)
        assert (path.n_steps, callback.alone) == (5, 1)  # no closing epoch
        assert path.outcome is Outcome.NOTHING_GAINED
        path, callback = self.run(*losses[:4], (5, 4, 6), share=9, closing=closing)
        assert (path.n_steps, callback.alone) == (4, 0)
