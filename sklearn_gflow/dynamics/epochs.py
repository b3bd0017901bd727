"""Epochs of a flow over row blocks: how long the steps of each are.

They decay linearly to zero, are constant between given times, or fall as 1/k without an end. The
lengths of the epochs add up to the time of the flow. Times are τ = s/N. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

__all__ = ["Epoch", "decaying_epochs", "open_epochs", "share_of", "timed_epochs"]

# Length of the first steps of decaying epochs. With ½ a flow takes twice as many epochs and reaches
# the same scores.
_FIRST_LENGTH = 1.0
# After so many epochs the steps of a flow without an end are half as long as at its start. Steps of
# constant length generalise worse, those that fall as 1/√k as well
# (docs/benchmarks/blocks_trials.md).
_HALF_LIFE = 4.0
# Rows of the blocks of the first epoch, where they grow.
_FIRST_ROWS = 256
_ROUNDING = 1e-9


class Epoch(NamedTuple):
    """One pass over the rows: step lengths from ``first`` to ``last``, linearly.

    Its blocks have at most a ``share`` of the rows of the largest ones.
    """

    first: float
    last: float
    share: float = 1.0

    @property
    def length(self) -> float:
        """Time τ of the epoch."""
        return (self.first + self.last) / 2

    def steps(self, n_blocks: int) -> list[float]:
        """Step length of each block; their mean is the length of the epoch."""
        if self.first == self.last:  # where both are ∞ the steps are those of Gauss and Newton
            return [self.first] * n_blocks
        slope = (self.last - self.first) / n_blocks
        return [self.first + slope * (k + 0.5) for k in range(n_blocks)]

    def halves(self) -> tuple[Epoch, Epoch]:
        """The same time in two epochs, with steps half as long."""
        middle = self.length
        halves = (self.first / 2, middle / 2), (middle / 2, self.last / 2)
        first, second = (Epoch(*ends, self.share) for ends in halves)
        return first, second


def decaying_epochs(tau_end: float, n_epochs: int | None = None) -> list[Epoch]:
    """Epochs whose steps decay linearly to zero and whose times add up to τ_end.

    The noise of the blocks goes with the length of the steps; at zero it has died out.

    Parameters
    ----------
    tau_end : float
        End of the flow; ∞ stands for as far as ``n_epochs`` epochs with first steps of length 1 go.
    n_epochs : int, optional
        By default as many as make the first steps at most 1 long: 6 for t = 0.95, 13 for 0.998.

    Returns
    -------
    list of Epoch

    Raises
    ------
    ValueError
        If neither an end nor a number of epochs is given.
    """
    if n_epochs is None:
        if math.isinf(tau_end):
            raise ValueError("decaying epochs need a finite tau_end, or n_epochs")
        n_epochs = max(1, math.ceil(2 * tau_end / _FIRST_LENGTH - 1e-9))
    first = _FIRST_LENGTH if math.isinf(tau_end) else 2 * tau_end / n_epochs
    edges = [first * (1 - k / n_epochs) for k in range(n_epochs + 1)]
    return [Epoch(*pair) for pair in pairwise(edges)]


def open_epochs(
    n_epochs: int, first: float = _FIRST_LENGTH, *, rows: int | None = None
) -> list[Epoch]:
    """Epochs of a flow that may end at any time: steps first/(1 + k/4) long after k epochs.

    Blocks of more than 256 rows begin with so many and double from epoch to epoch. At the start D
    changes so soon that an epoch of many small blocks learns more than one of few large ones; later
    it is the other way round (docs/benchmarks/blocks_trials.md).

    Parameters
    ----------
    n_epochs : int
        How many it takes at most.
    first : float
        Length of the first steps.
    rows : int, optional
        Of the largest blocks; by default blocks do not grow.

    Returns
    -------
    list of Epoch
    """
    edges = [first / (1 + k / _HALF_LIFE) for k in range(n_epochs + 1)]
    epochs, share = [], _FIRST_ROWS / (rows or _FIRST_ROWS)
    for pair in pairwise(edges):
        epochs.append(Epoch(*pair, min(1.0, share)))
        share = min(1.0, 2 * share)
    return epochs


def timed_epochs(taus: Sequence[float]) -> list[Epoch]:
    """Epochs of constant steps that end at the given times τ."""
    edges = [0.0, *taus]
    lengths = [end - start for start, end in pairwise(edges)]
    return [Epoch(h, h) for h in lengths]


def share_of(epochs: Sequence[Epoch], tau: float) -> float:
    """Share of the epochs that have ended at a time τ: each takes as long to compute as any other.

    Of an epoch that was cut into shorter ones it is known when the last of them has ended.
    """
    ends = list(accumulate(epoch.length for epoch in epochs))
    return bisect_right(ends, tau * (1 + _ROUNDING)) / len(ends)
