"""Where rows come from; walks, of who has a share of them.

Who shares the rows of a flow need not hear of the others after each block. From one θ each goes
over some blocks of its own, one after the other, and their ways are then joined to one step, from
which all go on. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import Cost, DifferentiableMap

__all__ = ["RowSource", "Walk", "walked"]


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


class Walk(RowSource, Protocol):
    """The rows of one who walks, and how ways are joined."""

    def parts(self, rows: Tensor, share: float) -> Sequence[tuple[DifferentiableMap, Cost] | None]:
        """The parts of a block, in order; None for one of which only others have rows.

        Block and parts have a share of the rows of the largest ones.
        """

    def summed(self, *numbers: float) -> Sequence[float]:
        """The sums of some numbers of all who walk."""

    def joined(self, way: Tensor, loss: float) -> tuple[Tensor, float]:
        """The ways of all as one, the same for all, and the sum of their losses."""


def walked(
    walk: Walk,
    rows: Tensor,
    share: float,
    theta: Tensor,
    momentum: float,
    last_step: Tensor | None,
    step: Callable[[DifferentiableMap, Cost, Point], Tensor | None],
) -> tuple[Tensor, float, Tensor]:
    """Go over the parts of a block, and join the way with those of others.

    Where momentum alone leads from the last step is the same for all. It is taken out of the ways
    before they are joined, and then gone once.

    Parameters
    ----------
    walk : Walk
        The parts.
    rows : Tensor of int
        The block.
    share : float
        Of the rows of the largest blocks that it has.
    theta : Tensor of shape (K,)
        Where all begin.
    momentum : float
        Share of the last step that each part keeps.
    last_step : Tensor of shape (K,) or None
        That of all before.
    step : callable
        Δθ of a part at a point; None where it is not to be had. The way is then not finite, for
        all who walk.

    Returns
    -------
    Δθ : Tensor of shape (K,)
        The joined way.
    loss : float
        N·C of the parts of all, each before its step.
    last_step : Tensor of shape (K,)
        The mean step of a part.
    """
    parts = walk.parts(rows, share)
    here, loss = theta, 0.0
    own = [part for part in parts if part is not None]
    for output_map, cost in own:
        point = Point.at(output_map, cost, 0.0, here.to(output_map.dtype))
        loss += point.loss * cost.total_weight
        moved = step(output_map, cost, point)
        here = here + (math.nan if moved is None else moved)

    def coasted(count: int) -> Tensor | float:
        """Where momentum alone leads in so many parts."""
        shares = sum(momentum**k for k in range(1, count + 1))
        return 0.0 if last_step is None else shares * last_step

    way, loss = walk.joined(here - theta - coasted(len(own)), loss)
    way = way + coasted(len(parts))
    return way, loss, way / len(parts)
