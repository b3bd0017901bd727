"""Stopping by a score or a loss: which point of a flow is the solution, and when it may end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.trajectory import Outcome
from sklearn_gflow.geometry import TangentFactor

__all__ = ["BestPoint", "LossReached"]


class BestPoint:
    """A monitor of `flow` and `block_flow` that keeps the point of the highest score.

    Parameters
    ----------
    judge : callable
        Point ↦ (score, loss). A higher score is better; between equal scores the lower loss.
    name : str
        Of the columns "{name}_score" and "{name}_loss" in the history.
    patience : int
        The flow may end after this many points in a row that bring no improvement.
    tol : float
        By how much the score must rise to count as an improvement, or the loss fall at equal
        scores.
    """

    outcome = Outcome.EARLY_STOPPED

    def __init__(
        self,
        judge: Callable[[Point], tuple[float, float]],
        name: str,
        patience: int,
        tol: float = 0.0,
    ) -> None:
        self.judge, self.name, self.patience, self.tol = judge, name, patience, tol
        self.waited = 0

    def start(self, point: Point) -> Mapping[str, float]:
        """Score and loss at the start."""
        self._index, self._theta, self._best = 0, point.theta, (-math.inf, math.inf)
        self._bar = self._best  # what an improvement is measured against
        self.seen = 0
        return self.see(point)

    def step(self, before: Point, factor: TangentFactor, after: Point) -> Mapping[str, float]:
        """Score and loss at a point."""
        return self.see(after)

    @property
    def finished(self) -> bool:
        """Whether the score has not improved for ``patience`` points."""
        return self.waited >= self.patience

    @property
    def best(self) -> tuple[int, Tensor]:
        """Index and θ of the first point of the highest score."""
        return self._index, self._theta

    def see(self, point: Point) -> Mapping[str, float]:
        """Score and loss at the next point."""
        score, loss = self.judge(point)
        if _better((score, loss), self._best, 0.0):
            self._index, self._theta, self._best = self.seen, point.theta, (score, loss)
        improved = _better((score, loss), self._bar, self.tol)
        if improved:
            self._bar = score, loss
        self.waited = 0 if improved else self.waited + 1
        self.seen += 1
        return {f"{self.name}_score": score, f"{self.name}_loss": loss}


class LossReached:
    """A monitor of `flow` that ends it at the first point whose loss is at most a bound.

    Parameters
    ----------
    bound : float
        C (2.48).
    """

    outcome = Outcome.LOSS_REACHED

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def start(self, point: Point) -> Mapping[str, float]:
        """Look at the start."""
        self.best, self.finished = (0, point.theta), point.loss <= self.bound
        return {}

    def step(self, before: Point, factor: TangentFactor, after: Point) -> Mapping[str, float]:
        """Look at a point."""
        self.best = self.best[0] + 1, after.theta
        self.finished = after.loss <= self.bound
        return {}


def _better(one: tuple[float, float], other: tuple[float, float], tol: float) -> bool:
    (score, loss), (bar, loss_bar) = one, other
    return score > bar + tol or (score == bar and loss < loss_bar - tol)
