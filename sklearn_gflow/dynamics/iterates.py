"""Where a flow over blocks is, and what it shows of that: θ after the last block, or a mean.

Each block pulls θ towards its own rows, by as much as its step is long. A mean over blocks forgets
that, so that steps may stay long and the flow may end at any time. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Iterates"]

# Power η of the mean: the k-th of n iterates weighs about (k/n)^η, so that a seventh of the way
# counts. With η = 2 tables that are learnt to the end were 10 % behind
# (docs/benchmarks/blocks_trials.md).
_POWER = 6


@dataclass(frozen=True)
class Iterates:
    """The iterates of a flow up to now.

    Attributes
    ----------
    last : Tensor of shape (K,)
        θ after the last block, where the next one begins.
    mean : Tensor of shape (K,) or None
        The mean of the iterates with weights that grow as k^η (Shamir and Zhang, 2013); None where
        no mean is asked for.
    count : float
        How many the mean is of, in steps of the largest blocks.
    """

    last: Tensor
    mean: Tensor | None = None
    count: float = 0.0

    @classmethod
    def at(cls, theta: Tensor, *, averaged: bool) -> Iterates:
        """A start."""
        return cls(theta, theta if averaged else None)

    @property
    def shown(self) -> Tensor:
        """θ of the model: the mean, where there is one."""
        return self.last if self.mean is None else self.mean

    def plain(self) -> tuple[Any, ...]:
        """The members, as a tuple."""
        return self.last, self.mean, self.count

    def moved(self, step: Tensor, share: float = 1.0) -> Iterates:
        """After one more block, which has a share of the rows of the largest ones."""
        last = self.last + step
        if self.mean is None:
            return Iterates(last)
        # The start weighs nothing: the first share is 1.
        weight = share * (_POWER + 1) / (self.count + share * (1 + _POWER))
        return Iterates(last, self.mean.lerp(last, weight), self.count + share)
