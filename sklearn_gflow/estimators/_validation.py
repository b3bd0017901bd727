"""Checks of parameters and rows, beside those that all rooms share.

Errors name the parameter and what to change. What depends on several parameters, or on the shape of
the table, is refused in `_settings`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_gflow.contract import HasMethods, Interval, StrOptions, _fit_context, check_weights

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "_fit_context",
    "check_alpha",
    "check_schedule",
    "check_weights",
    "hold_out",
]


def check_alpha(alpha: float) -> float:
    """α as a float; True and False, which pass for numbers, are mistakes here."""
    if isinstance(alpha, bool | np.bool_):
        raise ValueError(f"alpha must be a number in [0, 1], got the boolean {alpha}")
    return float(alpha)


def check_schedule(schedule: Any, t_end: float) -> list[float] | None:
    """The times t of the steps; None leaves them to the flow."""
    if isinstance(schedule, str):
        return None
    if isinstance(schedule, bool | np.bool_):
        raise ValueError(
            f"schedule must be 'adaptive', a number of steps or a sequence of times, got {schedule}"
        )
    if np.ndim(schedule) == 0:
        return [float(t) for t in np.linspace(0, t_end, int(schedule) + 1)[1:]]
    try:
        times = np.asarray(schedule, dtype=np.float64)
    except (TypeError, ValueError):
        times = np.empty(0)
    increasing = times.ndim == 1 and times.size > 0 and bool((np.diff(times) > 0).all())
    if not (increasing and times[0] > 0 and times[-1] <= t_end):
        raise ValueError(
            "schedule must be an increasing sequence of times in (0, t_end], here "
            f"(0, {t_end}]; got {schedule!r}"
        )
    return [float(t) for t in times]


def hold_out(
    n_samples: int, fraction: float, random_state: Any, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to train on and of those held out; by class where there are labels.

    Raises
    ------
    ValueError
        If a part would be empty, or a class absent from one.
    """
    try:
        training, held_out = train_test_split(
            np.arange(n_samples), test_size=fraction, random_state=random_state, stratify=labels
        )
    except ValueError as error:
        raise ValueError(
            f"early_stopping=True cannot hold out validation_fraction={fraction} of {n_samples} "
            f"rows ({error}); change validation_fraction, hand over X_val and y_val, or set "
            "early_stopping='loo', which needs no split"
        ) from error
    return np.sort(training), np.sort(held_out)
