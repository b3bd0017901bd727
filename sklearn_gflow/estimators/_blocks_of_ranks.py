"""Rows of all ranks in blocks.

Up to four ranks walk: each goes over blocks of its own before they hear of each other. More ranks
solve together, a block of each at a time. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sklearn_gflow.dynamics import BlockOptions, FlowOptions
from sklearn_gflow.estimators._rows import TableRows
from sklearn_gflow.geometry import (
    CombinedSolver,
    Cost,
    OutputMap,
    Ranks,
    ShardedCost,
    ShardedMap,
    Shares,
    joined_ways,
    solver_for,
)

__all__ = ["BlocksOfRanks"]

# So many ranks walk. The joined way of more is too short of what each of them wanted.
_WALKING = 4
# Rows that each of two ranks goes over before it hears of the other, but not more than a quarter of
# its epoch: a message takes as long as a block of 256 rows. With half of an epoch a table that is
# learnt to the end lost three spreads of a seed, and so do three or more ranks by longer walks
# (docs/scaling.md).
_ROWS_OF_A_WALK, _FEWEST_WALKS = 2048, 4


class BlocksOfRanks:
    """Rows of all ranks, handed out in blocks: one of each rank at a time.

    All ranks cut a table of one size, as large as the largest share, so that they cut it alike and
    have as many blocks. Where a rank has fewer rows, places are empty and its blocks smaller.
    The rows that are kept apart come first.

    Parameters
    ----------
    own : TableRows
        The rows of this rank.
    ranks : Ranks
        Who takes part.
    apart, trained : ndarray of int
        Which of the rows are kept apart, and which are not.
    """

    def __init__(
        self, own: TableRows, ranks: Ranks, apart: np.ndarray, trained: np.ndarray
    ) -> None:
        self.own, self.ranks = own, ranks
        self._apart, self._trained = (ranks.counts(len(rows)) for rows in (apart, trained))
        self.n_apart, most = max(self._apart), max(self._trained)
        self._places = torch.full((self.n_apart + most,), -1)
        self._places[: len(apart)] = torch.from_numpy(apart)
        self._places[self.n_apart : self.n_apart + len(trained)] = torch.from_numpy(trained)
        data = own.data
        weights = np.ones(len(data.X)) if data.weights is None else data.weights
        weight = float(weights[apart].sum() + weights[trained].sum())
        self.total_weight, n_weighted = ranks.sums(weight, float(data.weights is not None))
        self._weighted = n_weighted > 0

    def options(
        self, options: FlowOptions, blocks: BlockOptions
    ) -> tuple[FlowOptions, BlockOptions]:
        """Those of one process, with what becomes of them here."""
        if blocks.apart is not None:
            blocks = replace(blocks, apart=torch.arange(self.n_apart))
        solver = solver_for(options.solver, self.own.family.n_outputs)
        if self.ranks.size > _WALKING:
            return replace(options, solver=CombinedSolver(solver)), blocks
        size, parts = self.ranks.size, 1
        if size == 2:
            n_blocks = math.ceil((self.n_samples - self.n_apart) / blocks.batch_size)
            parts = min(_ROWS_OF_A_WALK // blocks.batch_size, n_blocks // _FEWEST_WALKS)
        # R ranks take 1/R of the steps. What their blocks miss adds up over more of them: a half of
        # each step is kept by one, two thirds by two ranks, four fifths by four.
        return options, replace(
            blocks,
            batch_size=max(1, parts) * blocks.batch_size,
            momentum=size / (size + 1),
            walk=_WalkOfRank(self, blocks.batch_size),
        )

    def here(self, cut: Tensor) -> Tensor:
        """The rows of this rank at some places."""
        places = self._places[cut]
        return places[places >= 0]

    @property
    def n_samples(self) -> int:
        """Rows of the table that all ranks cut."""
        return len(self._places)

    def block(self, rows: Tensor | slice) -> tuple[ShardedMap, ShardedCost]:
        """The output map and the cost of a block of each rank."""
        cut = torch.arange(self.n_samples)[rows]
        output_map, cost = self.own.block(self.here(cut))
        shares = Shares(self.ranks, self._counts(cut))
        weight = float(shares.total)
        if self._weighted:
            weight = self.ranks.sums(output_map.total_weight)[0]
        sharded = ShardedMap(output_map, shares, weight)
        return sharded, ShardedCost(cost, sharded.space, weight)

    def _counts(self, cut: Tensor) -> tuple[int, ...]:
        """How many of the places hold a row, on each rank."""
        if len(set(self._apart)) == len(set(self._trained)) == 1:
            return (len(cut),) * len(self._apart)
        place, later = cut[:, None], cut[:, None] >= self.n_apart
        apart = ~later & (place < torch.tensor(self._apart))
        trained = later & (place - self.n_apart < torch.tensor(self._trained))
        return tuple((apart | trained).sum(0).tolist())


@dataclass(frozen=True)
class _WalkOfRank:
    """The walk of one rank over blocks of its own; see `sklearn_gflow.dynamics.Walk`.

    Parameters
    ----------
    source : BlocksOfRanks
        The rows.
    rows : int
        Of a part at most.
    """

    source: BlocksOfRanks
    rows: int

    @cached_property
    def _own(self) -> Tensor:
        return self.source.here(torch.arange(self.source.n_samples))

    @property
    def n_samples(self) -> int:
        """Rows of this rank."""
        return len(self._own)

    @property
    def total_weight(self) -> float:
        """N: the sum of the weights of all ranks."""
        return self.source.total_weight

    def block(self, rows: Tensor | slice) -> tuple[OutputMap, Cost]:
        """The output map of some rows of this rank and the cost on it."""
        return self.source.own.block(self._own[rows])

    def summed(self, *numbers: float) -> list[float]:
        """The sums of some numbers over ranks."""
        return self.source.ranks.sums(*numbers)

    def parts(self, rows: Tensor, share: float) -> list[tuple[OutputMap, Cost] | None]:
        """Those of a block, as far as they are here; the rows of each lie all over it."""
        count = math.ceil(len(rows) / max(1, round(share * self.rows)))
        own = [self.source.here(rows[start::count]) for start in range(count)]
        return [self.source.own.block(part) if len(part) else None for part in own]

    def joined(self, way: Tensor, loss: float) -> tuple[Tensor, float]:
        """The ways of all ranks as one, and the sum of their losses."""
        source = self.source
        return joined_ways(source.ranks, way.to(source.own.targets.dtype), loss)
