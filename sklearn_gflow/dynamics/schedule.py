"""How a flow chooses its steps: by the error of each, or at times given in advance.

Times are τ = s/N unless they are called t; see `time`. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.state import Resumable, State
from sklearn_gflow.dynamics.step import Step, Stepper
from sklearn_gflow.dynamics.time import tau_from_t
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Adaptive", "Fixed", "Schedule", "equal_steps"]

# Steps shorter than this share of the way that is left would be lost in rounding.
_SHORTEST = 1e-13
_ROUNDING = 1e-13
_SAFETY = 0.9
_LARGEST_CUT, _SMALLEST_CUT = 0.1, 0.8
# By so much a step may be longer than the one before, once τ = ∞ was too far.
_GROWTH_FROM_BEYOND = 2.0
# A step to a given time is not cut into more than 2 to this power.
_MOST_HALVINGS = 20


class Schedule(Protocol):
    """Chooses the lengths of the steps.

    Attributes
    ----------
    cuts : int
        Steps that did not go where they were told to.
    rough : bool
        Whether it looks where D⁺ has led, and corrects that, so that float32 will do for it.
    """

    cuts: int
    rough: ClassVar[bool]

    def ended(self, tau: float) -> bool:
        """Whether a flow at τ has come to the end time."""

    def take(self, stepper: Stepper) -> Step | Outcome:
        """Take the next step, or say why there is none."""

    def marks_within(self, start: float, end: float) -> Sequence[float]:
        """Times inside a step from start to end that are recorded too."""

    def state(self) -> State:
        """See `Resumable`."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Resumable`."""


@dataclass
class Adaptive(Resumable):
    """Steps as long as their error, in units of |x* − x₀|, is within the tolerance.

    Lengths are compared as displacements of the outputs: the error goes with a power of |Δx|,
    which is |r|(1 − e^{−h}) at α = 1 and bounded by |r| always. The first try is the longest
    step, since a rejected one costs no Gram and no factorisation.

    Parameters
    ----------
    tau_end : float
        End of the flow; may be ∞.
    tolerance : float
        Accepted error of one step. A step that raises the loss is never accepted.
    marks : sequence of float
        Increasing times to record, on the way of a step: shorter steps with the factor of the
        whole one, more exact than it is, and without a Gram.
    """

    changing: ClassVar[tuple[str, ...]] = ("cuts", "_allowed", "_growth")
    rough: ClassVar[bool] = False

    tau_end: float
    tolerance: float = 0.05
    marks: Sequence[float] = ()
    cuts: int = 0  # always: lengths are its own
    _allowed: float = math.inf  # displacement that the next step may have
    _growth: float = math.inf  # by how much it may be longer than the one before

    def ended(self, tau: float) -> bool:
        """Whether τ is at a finite end; at ∞ the flow goes on, by Gauss–Newton steps."""
        return math.isfinite(self.tau_end) and _reached(tau, self.tau_end)

    def take(self, stepper: Stepper) -> Step | Outcome:
        """Take the longest step that is accepted."""
        point = stepper.point
        if point.tau == 0:  # the length that an earlier flow was allowed does not count
            self._allowed, self._growth = math.inf, math.inf
        remaining = self.tau_end - point.tau if math.isfinite(point.tau) else math.inf
        size = norm(point.residual) / stepper.distance
        whole = -math.expm1(-remaining)
        progress = min(whole, self._allowed / size)
        best_error, vetoed = math.inf, False
        while progress > _SHORTEST * whole:
            h = -math.log1p(-progress) if progress < whole else remaining
            step = stepper.step(h)
            ratio = (self.tolerance / step.error) ** (1 / stepper.order) if step.error else math.inf
            if self._good(step, point.loss):
                vetoed = stepper.vetoed(step)
                if not vetoed:
                    self._allowed = min(_SAFETY * ratio, self._growth) * progress * size
                    return step
            if math.isinf(h) and not stepper.closed_form:
                # A frozen flow that is integrated is dear to τ = ∞. Where that was too far it is
                # not tried again soon, however small the error of a short step is.
                self._growth = _GROWTH_FROM_BEYOND
            best_error = min(best_error, step.error if step.finite else math.inf)
            cut = _SAFETY * ratio if step.finite else 0.0
            progress *= min(max(cut, _LARGEST_CUT), _SMALLEST_CUT)
            del step  # its activations go before those of the next try are made
        return Outcome.REJECTED if vetoed else self._failure(best_error)

    def _good(self, step: Step, loss: float) -> bool:
        return step.finite and step.error <= self.tolerance and step.loss <= loss

    def _failure(self, best_error: float) -> Outcome:
        """Why no step was good, by the smallest error among those that were tried."""
        if math.isinf(best_error):
            return Outcome.DIVERGED
        return Outcome.STALLED if best_error <= self.tolerance else Outcome.STEP_UNDERFLOW

    def marks_within(self, start: float, end: float) -> list[float]:
        """The marks after start and before end."""
        after = (mark for mark in self.marks if not _reached(start, mark))
        return [mark for mark in after if not _reached(mark, end)]


@dataclass
class Fixed(Resumable):
    """Steps to given times. Where one would blow up, several shorter ones lead there.

    Parameters
    ----------
    taus : sequence of float
        Increasing and positive; the last may be ∞.
    tolerance : float
        An error of the outputs, of |x* − x₀|. A step that raises the loss by more than such an
        error may do is cut in halves, as is one that leaves the finite numbers.
    """

    changing: ClassVar = ("cuts",)
    rough: ClassVar[bool] = False

    taus: Sequence[float]
    tolerance: float = 0.05
    cuts: int = 0

    def ended(self, tau: float) -> bool:
        """Whether τ is at the last of the times."""
        return _reached(tau, self.taus[-1])

    @classmethod
    def at_times(cls, times: Sequence[float]) -> Fixed:
        """Steps to the given values of t in (0, 1]."""
        return cls([float(tau) for tau in tau_from_t(times)])

    def take(self, stepper: Stepper) -> Step | Outcome:
        """Step to the next time, or towards it as far as the loss allows."""
        point = stepper.point
        if point.tau == 0:
            self.cuts = 0
        remaining = next(end for end in self.taus if not _reached(point.tau, end)) - point.tau
        highest = point.loss + stepper.rise(self.tolerance * stepper.distance)
        for halvings in range(_MOST_HALVINGS + 1):
            progress = -math.expm1(-remaining) / 2**halvings
            step = stepper.step(-math.log1p(-progress) if halvings else remaining)
            if step.finite and step.loss <= highest:
                self.cuts += halvings > 0
                return Outcome.REJECTED if stepper.vetoed(step) else step
        return Outcome.STEP_UNDERFLOW if step.finite else Outcome.DIVERGED

    def marks_within(self, start: float, end: float) -> Sequence[float]:
        """No marks: steps end at all of the times."""
        return ()


def _reached(tau: float, end: float) -> bool:
    # Sums of steps miss their end by rounding, and no further step as short as that is taken.
    return tau >= end * (1 - _ROUNDING)


def equal_steps(n_steps: int, t_end: float) -> Fixed:
    """``n_steps`` equal steps in t up to ``t_end``."""
    return Fixed.at_times(np.linspace(0, t_end, n_steps + 1)[1:].tolist())
