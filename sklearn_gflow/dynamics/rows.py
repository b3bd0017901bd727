"""Rows in blocks: where they come from, and how they are cut. Notation: docs/notation.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.dynamics.epochs import Epoch
from sklearn_gflow.dynamics.iterates import Iterates
from sklearn_gflow.dynamics.state import Resumable, State
from sklearn_gflow.dynamics.trajectory import Carried
from sklearn_gflow.dynamics.walks import RowSource, Walk
from sklearn_gflow.geometry import Cost, DifferentiableMap

__all__ = [
    "AllRows", "BlockOptions", "Cuts", "Place", "RowSource", "Runs", "evaluated", "in_chunks",
]  # fmt: skip

# The loss is evaluated on so many rows at once: the activations of more would not fit in the cache.
_EVALUATED_ROWS = 2048


class Runs(NamedTuple):
    """How rows lie in partitions, of which only a few are in memory at once.

    Attributes
    ----------
    lengths : tuple of int
        Rows of each partition, in the order of the rows.
    at_once : int
        How many rows are in memory at once; those of one partition in any case.
    """

    lengths: tuple[int, ...]
    at_once: int


@dataclass(frozen=True)
class BlockOptions:
    """What a flow over blocks has beyond `FlowOptions`.

    Parameters
    ----------
    batch_size : int
        Largest number of rows a block; blocks differ by one row at most, so that no block is
        a short rest with a long step.
    shuffle : bool
        Draw new blocks in every epoch; otherwise they are runs of rows in their order.
    momentum : float
        μ in [0, 1): share of the last step that a block keeps where it does not see it,
        Δθ = Dᵀ f(G) r + μ(1 − D⁺D) Δθ_last. The outputs of the block move as without it.
    seed : int
        Of the blocks.
    carried : Carried or None
        What another flow has left to this one, in place of the seed.
    averaged : bool
        Record, and hand to callbacks, the mean of the iterates that `Iterates` describes, in place
        of θ after the last block.
    parabolic : bool
        Whether a cost whose curvature is bounded, as that of the log-loss, is replaced in each step
        by the `Cost.parabola` above it. Integrating the frozen flow costs 30 times as much.
    apart : Tensor of int or None
        Rows that no block has, until the closing epoch of `block_flow`.
    runs : Runs or None
        Partitions of the rows. Where they are not all in memory at once, an epoch goes over them
        in random order, and mixes rows of those that are.
    walk : Walk or None
        Where others have rows of each block too: its parts, and how steps are joined. Source and
        ``batch_size`` are then those of all parts together.
    sampled : bool
        The loss of the probe stands for that of all rows, which is then never evaluated.
    """

    batch_size: int
    shuffle: bool = True
    momentum: float = 0.0
    seed: int = 0
    carried: Carried | None = None
    averaged: bool = False
    parabolic: bool = False
    apart: Tensor | None = None
    runs: Runs | None = None
    walk: Walk | None = None
    sampled: bool = False


class Place(NamedTuple):
    """Between two blocks of an epoch.

    Attributes
    ----------
    epoch : Epoch
        The lengths of its steps.
    generator : Tensor
        State of the generator before the epoch was cut.
    iterates : Iterates
        Where the flow is.
    done : int
        Number of blocks that have flowed.
    met : float
        What these had of the loss.
    """

    epoch: Epoch
    generator: Tensor
    iterates: Iterates
    done: int = 0
    met: float = 0.0

    def plain(self) -> tuple[Any, ...]:
        """The same as tuples alone."""
        return (tuple(self.epoch), self.generator, self.iterates.plain(), *self[3:])

    @classmethod
    def of(cls, plain: tuple[Any, ...]) -> Place:
        """From such tuples."""
        epoch, generator, iterates, done, met = plain
        return cls(Epoch(*epoch), generator, Iterates(*iterates), done, met)


class Cuts(Resumable):
    """The blocks of one epoch after the other.

    Parameters
    ----------
    options : BlockOptions
        Size, order and seed of the blocks, and the rows that none of them has.
    n_samples : int
        Number of rows.
    """

    def __init__(self, options: BlockOptions, n_samples: int) -> None:
        self.options, self.n_samples = options, n_samples
        present = torch.ones(n_samples, dtype=torch.bool)
        if options.apart is not None:
            present[options.apart] = False
        self._rows = present.nonzero()[:, 0]
        self._generator = torch.Generator()
        if options.carried is None:
            self._generator.manual_seed(options.seed)
        else:
            self._generator.set_state(options.carried.generator)

    @property
    def generator(self) -> Tensor:
        """State of the generator."""
        return self._generator.get_state()

    @generator.setter
    def generator(self, state: Tensor) -> None:
        self._generator.set_state(state.cpu())  # it lives there, wherever θ does

    def state(self) -> State:
        """That of the generator."""
        return {"generator": self.generator}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set it back."""
        self.generator = state["generator"]

    def take_all(self) -> None:
        """Cut all rows from now on."""
        self._rows = torch.arange(self.n_samples)

    def epoch(self, share: float = 1.0) -> list[Tensor]:
        """The blocks of an epoch, of a share of the largest number of rows at most.

        Rows ascend in a block, for sources on disk.
        """
        n_blocks = math.ceil(len(self._rows) / max(1, round(share * self.options.batch_size)))
        if not self.options.shuffle:
            return list(self._rows.tensor_split(n_blocks))
        order = torch.cat([self._mixed(rows) for rows in self._windows()])
        return [rows.sort().values for rows in order.tensor_split(n_blocks)]

    def _mixed(self, rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=self._generator)]

    def _windows(self) -> list[Tensor]:
        """Rows that are in memory together, in the order in which they are read."""
        runs = self.options.runs
        if runs is None or self.n_samples <= runs.at_once:
            return [self._rows]
        ends = torch.tensor(runs.lengths).cumsum(0)
        of_run = torch.bucketize(self._rows, ends, right=True)
        counts = torch.bincount(of_run, minlength=len(ends)).tolist()
        parts, held = self._rows.split(counts), 0
        windows: list[list[Tensor]] = [[]]
        for k in torch.randperm(len(parts), generator=self._generator).tolist():
            held += runs.lengths[k]
            if windows[-1] and held > runs.at_once:
                windows.append([])
                held = runs.lengths[k]
            windows[-1].append(parts[k])
        return [torch.cat(window) for window in windows]


class AllRows(NamedTuple):
    """C, the least C and |r|, of all rows, or of those that stand for them."""

    loss: float
    least: float
    residual: float

    def of_all(self, walk: Walk) -> AllRows:
        """From what each who walks has of them."""
        loss, least, square = walk.summed(self.loss, self.least, self.residual**2)
        return AllRows(loss, least, math.sqrt(square))


def evaluated(
    parts: Iterable[tuple[DifferentiableMap, Cost]], total_weight: float, theta: Tensor
) -> AllRows:
    """Loss, the least loss and |r| at θ, of rows in parts whose weights add up to a total."""
    loss = least = square = 0.0
    for output_map, cost in parts:
        x = output_map.outputs(theta.to(output_map.dtype))
        loss += cost.total_weight * cost.value(x)
        least += cost.total_weight * cost.least(x)
        residual = cost.residual(x)
        square += float(residual @ residual)
    return AllRows(loss / total_weight, least / total_weight, math.sqrt(square))


def in_chunks(source: RowSource) -> Iterator[tuple[DifferentiableMap, Cost]]:
    """All rows, as many at once as are evaluated together."""
    for start in range(0, source.n_samples, _EVALUATED_ROWS):
        yield source.block(slice(start, min(start + _EVALUATED_ROWS, source.n_samples)))
