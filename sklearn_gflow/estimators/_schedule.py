"""Which schedule a flow in the full batch follows. Notation: docs/notation.md."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn_gflow.dynamics import Adaptive, Fast, Fixed, Schedule, tau_from_t
from sklearn_gflow.estimators._settings import Settings

__all__ = ["schedule_to"]


def schedule_to(t_end: float, settings: Settings, marks: Sequence[float]) -> Schedule:
    """That of the settings up to another end; a flow to t = 1 alone may forget its path."""
    if (times := settings.times_until(t_end)) is not None:
        return Fixed.at_times(times)
    if settings.fast and t_end == 1:
        return Fast()
    return Adaptive(float(tau_from_t(t_end)), marks=marks)
