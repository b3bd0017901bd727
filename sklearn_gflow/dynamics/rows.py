"""Rows in blocks: where they come from, and how they are cut. Notation: docs/notation.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sklearn_gflow.dynamics.trajectory import Carried
from sklearn_gflow.geometry import Cost, DifferentiableMap

__all__ = ["BlockOptions", "Cuts", "RowSource"]


class RowSource(Protocol):
    """Rows, handed out in blocks."""

    @property
    def n_samples(self) -> int:
        """Number of rows."""

    @property
    def total_weight(self) -> float:
        """N: the sum of their weights."""

    def block(self, rows: Tensor | slice) -> tuple[DifferentiableMap, Cost]:
        """The output map of some rows and the cost on it, in the precision of the steps."""


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
    """

    batch_size: int
    shuffle: bool = True
    momentum: float = 0.0
    seed: int = 0
    carried: Carried | None = None
    averaged: bool = False
    parabolic: bool = False
    apart: Tensor | None = None


class Cuts:
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
    def state(self) -> Tensor:
        """Of the generator."""
        return self._generator.get_state()

    def take_all(self) -> None:
        """Cut all rows from now on."""
        self._rows = torch.arange(self.n_samples)

    def epoch(self) -> list[Tensor]:
        """The blocks of an epoch; rows ascend in a block, for sources on disk."""
        n_blocks = math.ceil(len(self._rows) / self.options.batch_size)
        if not self.options.shuffle:
            return list(self._rows.tensor_split(n_blocks))
        order = torch.randperm(len(self._rows), generator=self._generator)
        return [self._rows[places.sort().values] for places in order.tensor_split(n_blocks)]
