"""Callbacks that stop a flow by a score or a loss, and say which of its points is the solution.

They keep their state from `start` on, so that one object can serve one flow after the other. What a
callback may do is in `callbacks`. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from sklearn_gflow.dynamics.callbacks import Callback, Event
from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.point import Point

__all__ = ["BestPoint", "LossReached", "WhileGaining", "WhileMeanGains"]

_SMALL_GAIN, _LEAST_WAIT = 2e-3, 3
# Of a mean: the rate of gains that are worth more than its share of time, how much better a member
# is that is followed alone, and the points between which that is asked
# (docs/benchmarks/blocks_trials.md). Later the best of several is so much better of few rows by
# chance.
_WORTH_MORE, _UNLIKE, _LOOKED_AT, _LOOKED_UNTIL = 0.04, 0.05, 4, 8


class BestPoint(Callback):
    """Keeps the point of the highest score, and ends a flow whose score stopped improving.

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

    changing = ("best", "_highest", "_bar", "_waited", "_seen")

    def __init__(
        self,
        judge: Callable[[Point], tuple[float, float]],
        name: str,
        patience: int,
        tol: float = 0.0,
    ) -> None:
        self.judge, self.name, self.patience, self.tol = judge, name, patience, tol

    def start(self, event: Event) -> Mapping[str, float]:
        """Score and loss at the start."""
        self.outcome, self.best = None, (0, event.point.theta)
        self._highest = self._bar = -math.inf, math.inf
        self._waited = self._seen = 0
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """Score and loss at the next point."""
        score, loss = self.judge(event.point)
        if _better((score, loss), self._highest, 0.0):
            self.best, self._highest = (self._seen, event.point.theta), (score, loss)
        # An improvement is measured from the last one that counted: measured from the highest
        # score, many improvements below the tolerance would never add up to one.
        improved = _better((score, loss), self._bar, self.tol)
        if improved:
            self._bar = score, loss
        self._waited = 0 if improved else self._waited + 1
        self._seen += 1
        self._look_at_patience()
        return {f"{self.name}_score": score, f"{self.name}_loss": loss}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the best point and the patience."""
        super().restore(state)
        self._look_at_patience()

    def _look_at_patience(self) -> None:
        self.outcome = Outcome.EARLY_STOPPED if self._waited >= self.patience else None


class LossReached(Callback):
    """Ends a flow at the first point whose loss is at most a bound.

    Parameters
    ----------
    bound : float
        C (2.48).
    """

    changing = ("reached",)

    def __init__(self, bound: float) -> None:
        self.bound, self.reached = bound, False

    def start(self, event: Event) -> Mapping[str, float]:
        """Look at the start."""
        self.reached = False
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """Look at a point."""
        self.reached |= event.point.loss <= self.bound
        return {}

    @property
    def outcome(self) -> Outcome | None:  # type: ignore[override]
        """Why the flow is to end, once the bound is reached."""
        return Outcome.LOSS_REACHED if self.reached else None


class WhileGaining(Callback):
    """Keeps the point of the least loss on rows held out, and lets a flow go on while that falls.

    Longer flows wait longer: one whose best point is the n-th may go on to 3n/2, and some points at
    least. What falls by less than 2 ‰ of the loss is no gain to wait for, but may be the best.

    Parameters
    ----------
    judge : callable
        Point ↦ loss.
    least_wait : int
        How many points at least.
    """

    changing: ClassVar[tuple[str, ...]] = ("best", "_least", "_bar", "_gained", "_seen")

    def __init__(self, judge: Callable[[Point], float], least_wait: int = _LEAST_WAIT) -> None:
        self.judge, self.least_wait = judge, least_wait
        self._gained = self._seen = 0

    def start(self, event: Event) -> Mapping[str, float]:
        """Loss at the start."""
        self.best = 0, event.point.theta
        self._least = self._bar = math.inf
        self._gained = self._seen = 0
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """Loss at the next point."""
        loss = self.judge(event.point)
        if loss < self._least:
            self.best, self._least = (self._seen, event.point.theta), loss
        if loss < self._bar:
            # Small gains are measured from the last that counted, so that they may add up to one.
            self._gained, self._bar = self._seen, loss - _SMALL_GAIN * abs(loss)
        self._seen += 1
        return {"held_out_loss": loss}

    @property
    def outcome(self) -> Outcome | None:  # type: ignore[override]
        """Why the flow is to end, once it has gained nothing for long."""
        waited = self._seen - 1 >= self._gained + max(self.least_wait, self._gained // 2)
        return Outcome.NOTHING_GAINED if waited else None


class WhileMeanGains(WhileGaining):
    """Lets a mean of several flows go on, which share the time that one flow would take.

    Beyond that share they go on while each point brings 4 % of the loss. Where a member alone is
    better than the mean by 5 % of the loss at the fourth to eighth point, the starts differ in what
    they can learn, and the mean ends without a best point: ``alone`` is then the number of that
    member.

    Parameters
    ----------
    judge : callable
        Point ↦ losses: of the mean, and of each member where one may be followed alone.
    share : int
        How many points each member has as its share.
    """

    changing = (*WhileGaining.changing, "alone", "_last", "_rate")

    def __init__(self, judge: Callable[[Point], list[float]], share: int) -> None:
        super().__init__(self._of_mean)
        self.judge_all, self.share = judge, share
        self.alone: int | None = None
        self._last = self._rate = math.inf

    def start(self, event: Event) -> Mapping[str, float]:
        """Loss at the start."""
        self.alone, self._last, self._rate = None, math.inf, math.inf
        return super().start(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """Loss at the next point."""
        columns = super().step(event)
        if self.alone is not None:
            self.best = None
        return columns

    @property
    def outcome(self) -> Outcome | None:  # type: ignore[override]
        """Why the flow is to end."""
        if self.alone is not None:
            return Outcome.NOTHING_GAINED
        if self._seen > self.share and self._rate < _WORTH_MORE:
            return Outcome.MAX_ITER
        return super().outcome

    def _of_mean(self, point: Point) -> float:
        loss, *members = self.judge_all(point)
        self._rate = 1 - loss / self._last if self._last else 0.0
        self._last = loss
        least = min(members, default=math.inf)
        looked_at = _LOOKED_AT <= self._seen <= _LOOKED_UNTIL
        if looked_at and least < (1 - _UNLIKE) * loss:
            self.alone = members.index(least)
        return loss


def _better(one: tuple[float, float], other: tuple[float, float], tol: float) -> bool:
    (score, loss), (bar, loss_bar) = one, other
    return score > bar + tol or (score == bar and loss < loss_bar - tol)
