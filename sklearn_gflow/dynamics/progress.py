"""When a flow has converged, and when it no longer gets anywhere.

The loops in the full batch and over blocks ask the same `Progress`. Notation: docs/notation.md.
"""

from __future__ import annotations

import math

from sklearn_gflow.dynamics.options import FlowOptions
from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.state import Resumable

__all__ = ["Progress"]


class Progress(Resumable):
    """Convergence by the residual r = −N∇ₓC, patience by the loss.

    The residual of a cost can stand still while its loss falls, as that of the Huber loss far
    from the labels. So gains are those of √(C − C*), with C* the least cost, relative to the one
    at the start: for the squared error this is |r|/|r₀|.

    Parameters
    ----------
    residual, loss : float
        |r| and C at the start.
    least : float
        C*.
    options : FlowOptions
        ``tol``, ``max_iter`` and ``n_iter_no_change`` of the flow.
    """

    changing = ("_waited",)

    def __init__(self, residual: float, loss: float, least: float, options: FlowOptions) -> None:
        self.options, self.initial, self.least = options, residual, least
        self._unit = self._height(loss)
        self._waited = 0

    def converged(self, residual: float) -> bool:
        """Whether |r| ≤ tol·|r₀|."""
        return residual <= self.options.tol * self.initial

    def count(self, before: float, after: float) -> None:
        """Take note of the losses before and after a step or an epoch."""
        gain = self._height(before) - self._height(after)
        self._waited = 0 if gain > self.options.tol * self._unit else self._waited + 1

    def exhausted(self, n_steps: int) -> Outcome | None:
        """Whether the steps, or the patience with steps that gain nothing, are used up."""
        if n_steps >= self.options.max_iter:
            return Outcome.MAX_ITER
        return Outcome.STALLED if self._waited >= self.options.n_iter_no_change else None

    def _height(self, loss: float) -> float:
        return math.sqrt(max(loss - self.least, 0.0))
