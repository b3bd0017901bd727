"""Callbacks of a flow: columns of its record, progress, early stopping, a veto on steps.

All flows, in the full batch, over blocks and by classical integrators, call the same `Callback`.
They show it an `Event` at the start and after each step, mark or epoch. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.state import Resumable, State
from sklearn_gflow.geometry import TangentFactor

if TYPE_CHECKING:
    from sklearn_gflow.dynamics.trajectory import Trajectory

__all__ = ["Callback", "Callbacks", "Event"]


@dataclass(frozen=True)
class Event:
    """A flow has come to a point.

    Attributes
    ----------
    point : Point
        Where it is. Over blocks the loss is that of all rows, and the outputs are those of the
        rows that the trajectory records. At the start and at the ends of steps its tangent holds
        the Gram where a callback asked for it (``uses_gram``); at marks it does not.
    before : Point or None
        The recorded point before; None at the start.
    factor : TangentFactor or None
        Of D at ``before``, where the flow has one; over blocks it has not.
    state : Tensor or None
        What `Callback.rate` was integrated to, by the integrators that do so.
    columns : dict of float
        What the callbacks in front of this one have just said of the point.
    error : float
        Of the step, relative to |x* − x₀|; NaN where the flow knows none.
    origin : Point or None
        At the start of a flow that goes on with another: where that began, at a time before zero.
    """

    point: Point
    before: Point | None = None
    factor: TangentFactor | None = None
    state: Tensor | None = None
    columns: Mapping[str, float] = field(default_factory=dict)
    error: float = math.nan
    origin: Point | None = None


class Callback(Resumable):
    """Base of all callbacks of a flow. Each method does nothing unless it is overridden.

    The order of calls is `start`, then for each step `accepts` and `step`, with ``outcome`` read
    after each of them, and `end`. Columns have a value at every point or at none. A flow that goes
    on from a state it was left in calls `start` and then `restore`: what steps change is named in
    ``changing``.

    Attributes
    ----------
    uses_gram : bool
        Whether it applies the Gram at points. The flow then forms the Gram that the next
        factorisation needs before it calls.
    outcome : Outcome or None
        Why the flow is to end now; None lets it go on.
    best : (int, Tensor) or None
        Index and θ of the solution among the points up to now; None leaves it to the last one.
    """

    uses_gram: bool = False
    outcome: Outcome | None = None
    best: tuple[int, Tensor] | None = None

    def start(self, event: Event) -> Mapping[str, float]:
        """Look at the start; returns columns of the record there."""
        return {}

    def step(self, event: Event) -> Mapping[str, float]:
        """Look at a point after it; returns columns of the record there."""
        return {}

    def accepts(self, before: Point, after: Point) -> bool:
        """Whether the step between two points, which is good otherwise, may be taken."""
        return True

    def end(self, trajectory: Trajectory) -> None:
        """Called once, when the flow has ended or was interrupted."""

    # -- a further state, for the integrators that carry one along with θ --------------------------

    def initial(self, event: Event) -> Tensor | None:
        """Value of that state at the start, shape (m,); None if there is none."""
        return None

    def rate(self, point: Point, factor: TangentFactor, state: Tensor) -> Tensor:
        """Derivative of that state in τ, shape (m,)."""
        raise TypeError(f"{type(self).__name__} has an initial state and no rate")


class Callbacks(Callback):
    """Several callbacks as one; the first of them that has an outcome or a best point decides."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = tuple(callbacks)
        self.uses_gram = any(callback.uses_gram for callback in self.callbacks)

    # What is an attribute of a callback is here read off several of them.
    @property
    def outcome(self) -> Outcome | None:  # type: ignore[override]
        """What the first callback that has one says."""
        outcomes = (callback.outcome for callback in self.callbacks)
        return next((outcome for outcome in outcomes if outcome is not None), None)

    @property
    def best(self) -> tuple[int, Tensor] | None:  # type: ignore[override]
        """What the first callback that has one says."""
        points = (callback.best for callback in self.callbacks)
        return next((point for point in points if point is not None), None)

    def start(self, event: Event) -> Mapping[str, float]:
        """Show the event to all callbacks; returns the columns of all of them."""
        columns: dict[str, float] = {}
        for callback in self.callbacks:
            columns = {**columns, **callback.start(replace(event, columns=columns))}
        return columns

    def step(self, event: Event) -> Mapping[str, float]:
        """Show the event to all callbacks; returns the columns of all of them."""
        columns: dict[str, float] = {}
        for callback in self.callbacks:
            columns = {**columns, **callback.step(replace(event, columns=columns))}
        return columns

    def state(self) -> State:
        """That of each one that has a state: others may come and go."""
        return {"each": [callback.state() for callback in self._with_state()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hand each its own."""
        for callback, own in zip(self._with_state(), state["each"], strict=True):
            callback.restore(own)

    def _with_state(self) -> list[Callback]:
        return [callback for callback in self.callbacks if callback.state()]

    def accepts(self, before: Point, after: Point) -> bool:
        """Whether all accept."""
        return all(callback.accepts(before, after) for callback in self.callbacks)

    @property
    def veto(self) -> bool:
        """Whether one of them may reject a step."""
        return any(type(c).accepts is not Callback.accepts for c in self.callbacks)

    def end(self, trajectory: Trajectory) -> None:
        """Tell all of them, also where one of them raises."""
        with ExitStack() as stack:
            for callback in reversed(self.callbacks):
                stack.callback(callback.end, trajectory)
