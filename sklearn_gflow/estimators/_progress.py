"""What a fit tells while it runs: to scikit-learn's callbacks, and to readers of `verbose`.

A fit is a tree of tasks, as `sklearn.callback` has it. A flow is a hundred of them: one for each
percent of its way, so that a bar shows how far it is, whatever the number of its steps. Each task
may also print lines. Without callbacks and with ``verbose=0`` nothing of this exists for a flow.
Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from sklearn_gflow.dynamics import Callback, Event, Outcome, t_from_tau

__all__ = ["FLOW", "UNTOLD", "Clock", "Task", "Teller"]

FLOW = 100
"""Subtasks of a flow."""

# Below this level of `verbose` lines are printed only where nothing was said for so many seconds.
_SILENCE = 3.0

Clock = Callable[[float], float]
"""Share of the way of a flow, from its time τ."""

Teller = Callable[[Clock], Callback]
"""Makes the callback that tells of a flow."""

Fitted = Callable[[], Mapping[str, Any]]
"""Fitted attributes, which are made where somebody wants to see them."""

Reconstruction = Callable[[Tensor], Mapping[str, Any]]
"""Fitted attributes of an estimator that predicts as a flow does at a point θ."""


@dataclass(frozen=True)
class _Call:
    """The call of ``fit`` that all tasks belong to."""

    estimator: Any
    X: Any
    y: Any
    sample_weight: Any

    def shown(self) -> dict[str, Any]:
        """What hooks of callbacks are shown of it."""
        weights = self.sample_weight
        metadata = None if weights is None else {"sample_weight": weights}
        return {"estimator": self.estimator, "X": self.X, "y": self.y, "metadata": metadata}

    def __reduce__(self) -> Any:
        # Another process is handed its own rows, and need not see all of them.
        return _Call, (self.estimator, None, None, None)


@dataclass
class _Lines:
    """Printed lines of a fit."""

    verbose: int
    last: float = field(default_factory=monotonic)

    def say(self, line: str, level: int) -> None:
        """Print a line of that level, or of any where the silence has lasted too long."""
        now = monotonic()
        if self.verbose and (level <= self.verbose or now - self.last > _SILENCE):
            # In time also where the output goes to a file or a pipe.
            print(line, flush=True)
            self.last = now


@dataclass(eq=False)
class Task:
    """A part of a fit, which begins when it is entered as a context, maybe by another process.

    It ends where nothing was raised: what is interrupted has no end, and callbacks are told by
    their ``teardown``.

    Attributes
    ----------
    n_parts : int
        Number of subtasks; 0 of a leaf.
    level : int
        That of the lines which steps of a flow print.
    place : str
        What lines begin with.
    about : str
        What is said when it begins.
    """

    _call: _Call | None
    _context: Any  # scikit-learn's, None where no callbacks are set
    _lines: _Lines
    n_parts: int
    level: int = 1
    place: str = ""
    about: str = ""
    _n_made: int = 0

    @classmethod
    def begun(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_parts: int,
        *,
        name: str = "fit",
        level: int = 1,
    ) -> Task:
        """The task of a whole call, of so many subtasks."""
        call = context = None
        if getattr(estimator, "_skl_callbacks", None):
            call = _Call(estimator, X, y, sample_weight)
            context = estimator._init_callback_context(task_name=name, max_subtasks=n_parts)
        return cls(call, context, _Lines(int(estimator.verbose)), n_parts, level).__enter__()

    def subtask(self, name: str, n_parts: int = 0, about: str = "") -> Task:
        """A part of this task, which has so many parts itself."""
        self._n_made += 1
        context = self._context
        if context is not None:
            full_name = f"{name}: {about}" if about else name
            context = context.subcontext(task_name=full_name, max_subtasks=n_parts)
        place = f"{self.place}, {name}" if self.place else name
        return replace(self, _context=context, n_parts=n_parts, place=place, about=about, _n_made=0)

    def numbered(self, noun: str, n_parts: int = 0, about: str = "") -> Task:
        """A part whose name has its number among the parts of this task, and what it is about."""
        return self.subtask(f"{noun} {self._n_made + 1} of {self.n_parts}", n_parts, about)

    def end(self, fitted: Mapping[str, Any] | Fitted | None = None) -> bool:
        """The task is done; whether a callback wants its neighbours to be left out.

        Fitted attributes are those of an estimator that predicts as if the fit ended here.
        """
        if self._context is None or self._call is None:
            return False
        stop: bool = self._context.call_on_fit_task_end(
            **self._call.shown(), reconstruction_attributes=fitted
        )
        return stop

    def __enter__(self) -> Self:
        if self._context is not None and self._call is not None:
            self._context.call_on_fit_task_begin(**self._call.shown())
        if self.about:
            self.say(self.about)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self.end()

    @property
    def verbose(self) -> int:
        """As the parameter."""
        return self._lines.verbose

    def say(self, line: str, level: int = 1) -> None:
        """Print a line, where ``verbose`` is that high."""
        self._lines.say(f"{self.place}: {line}" if self.place else line, level)

    def teller(
        self,
        fitted: Reconstruction | None = None,
        *,
        flow: int = 0,
        n_flows: int = 1,
        since: float | None = None,
    ) -> Teller | None:
        """What tells of a flow, the one of that number among the flows of this task.

        None where nobody listens. ``since`` is the time t of a path that the flow continues.
        """
        if self._context is None and not self._lines.verbose:
            return None
        return lambda clock: _Told(
            self, lambda tau: (flow + min(clock(tau), 1.0)) / n_flows, fitted, since
        )

    def advance(self, share: float, name: str, fitted: Fitted | None) -> bool:
        """Count the percents up to a share of the way; whether a callback wants the flow to end.

        All of them end at once, since a step is long or short. Only the last one is shown what was
        fitted: at the others no point of the flow is known.
        """
        reached, stop = math.floor(FLOW * share + 1e-9), False
        while self._context is not None and self._n_made < reached:
            task = self.subtask(name).__enter__()
            stop |= task.end(fitted if self._n_made == reached else None)
        return stop


UNTOLD = Task(None, None, _Lines(0), 0)
"""A task that nobody is told of."""


class _Told(Callback):
    """Tells a task of a flow."""

    def __init__(
        self, task: Task, share: Clock, fitted: Reconstruction | None, since: float | None
    ) -> None:
        self.task, self.share, self.fitted, self.since = task, share, fitted, since

    def start(self, event: Event) -> dict[str, float]:
        """The loss at the start, unless it was told as the end of the path before."""
        self.outcome = None
        if self.since is None:
            self.task.say(self._line(event), self.task.level)
        return {}

    def step(self, event: Event) -> dict[str, float]:
        """Time, loss and scores; at level 2 also what the factorisation tells."""
        line, task = self._line(event), self.task
        task.say(line + (_factor(event) if task.verbose > 1 else ""), task.level)
        fitted = None if self.fitted is None else partial(self.fitted, event.point.theta)
        if task.advance(self.share(event.point.tau), line, fitted):
            self.outcome = Outcome.STOPPED
        return {}

    def _line(self, event: Event) -> str:
        t = float(t_from_tau(event.point.tau))
        if self.since is not None:  # times τ add up
            t = 1 - (1 - self.since) * (1 - t)
        numbers = {"t": t, "loss": event.point.loss}
        scores = {k.replace("_", " "): v for k, v in event.columns.items() if "score" in k}
        return ", ".join(f"{name} = {value:.6g}" for name, value in {**numbers, **scores}.items())


def _factor(event: Event) -> str:
    """Rank and condition at the point before, where they are known."""
    factor = event.factor
    if factor is None:
        return ""
    known = {"rank": factor.rank, "condition": factor.condition}
    told = [f"{name} = {value:.4g}" for name, value in known.items() if math.isfinite(value)]
    return ", ".join(["", *told]) + f" ({factor.solver})"
