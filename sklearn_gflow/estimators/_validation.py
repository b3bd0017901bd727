"""Checks of parameters and rows, beside those that all rooms share.

Errors name the parameter and what to change. What depends on several parameters, or on the shape of
the table, is refused in `_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import assert_all_finite

from sklearn_gflow import contract
from sklearn_gflow.contract import HasMethods, Interval, StrOptions, _fit_context
from sklearn_gflow.estimators._reading import TransformedRows, check_map, on_disk, read, row_chunks
from sklearn_gflow.estimators._tensors import readable

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "_fit_context",
    "check_alpha",
    "check_fast",
    "check_known",
    "check_labels",
    "check_schedule",
    "check_streamed",
    "check_weights",
    "hold_out",
    "numbers_of",
    "validate_data",
]


def validate_data(
    estimator: BaseEstimator, X: Any, y: Any = "no_validation", **options: Any
) -> Any:
    """X, or X and y, as scikit-learn checks them; a table on disk is read a chunk at a time.

    Raises
    ------
    ValueError
        If they are no numbers that can be read, or not those of ``fit``.
    """
    X, y = readable(X, "X"), readable(y, "y")
    mapped = on_disk(X) is not None
    allow_nan = options.get("ensure_all_finite") == "allow-nan"
    if mapped:
        check_map(X)
        options["ensure_all_finite"] = False
    if on_disk(y) is not None:
        y = read(y, slice(None))
    if mapped and X.ndim == 2 and X.size and _is_converted(X, options):
        # Whoever looks at the shape alone converts nothing.
        stand_in = np.broadcast_to(np.zeros(1), X.shape)
        checked = contract.validate_data(estimator, stand_in, y, **{**options, "order": None})
        dtype = X.dtype if X.dtype in options["dtype"] else np.dtype(np.float64)
        as_numbers = partial(np.ascontiguousarray, dtype=dtype)
        found = TransformedRows(X, as_numbers, X.shape[1], dtype)
        checked = (found, checked[1]) if isinstance(checked, tuple) else found
    else:
        checked = contract.validate_data(estimator, X, y, **options)
        found = checked[0] if isinstance(checked, tuple) else checked
    if options.get("y_numeric"):  # objects become numbers after scikit-learn has looked at them
        assert_all_finite(checked[1], estimator_name=type(estimator).__name__, input_name="y")
    told = {"estimator_name": type(estimator).__name__, "input_name": "X"}
    looked_at = mapped and not options.get("skip_check_array")
    for rows in row_chunks(len(found)) if looked_at else ():
        assert_all_finite(read(found, rows), allow_nan=allow_nan, **told)
    return checked


def _is_converted(X: np.ndarray, options: Mapping[str, Any]) -> bool:
    """Whether scikit-learn would copy an array of numbers in another precision or order."""
    if X.dtype.kind not in "fiub" or "dtype" not in options:
        return False
    ordered = X.flags.c_contiguous or options.get("order") is None
    return X.dtype not in options["dtype"] or not ordered


def check_labels(labels: Any, name: str) -> None:
    """Hold labels to one kind, before numpy makes strings of numbers that stand beside strings.

    Raises
    ------
    ValueError
        If they are missing, or strings and numbers.
    """
    labels = readable(labels, name)
    dtype = getattr(labels, "dtype", None)
    if labels is None or (isinstance(dtype, np.dtype) and dtype.kind != "O"):
        return
    values = np.array(labels, dtype=object).ravel().tolist()
    kinds = sorted({_kind(value) for value in values})
    if kinds == ["numbers"] and any(value != value for value in values):
        kinds = ["NaN", "numbers"]
    if len(kinds) > 1 or {"NoneType", "NAType"} & {*kinds}:
        raise ValueError(
            f"{name} has labels that are {' and '.join(kinds)}, which have no common order; make "
            "all of them strings or all of them numbers, and leave out rows without a label"
        )


def check_known(labels: np.ndarray, classes: np.ndarray, name: str, cure: str) -> None:
    """Hold labels against the classes that there are.

    Raises
    ------
    ValueError
        If some are not among them, or are of another kind.
    """
    if labels.dtype.kind == "O" or labels.dtype.kind != classes.dtype.kind:
        check_labels([*classes.tolist(), *np.ravel(labels).tolist()], f"y with {name}")
    if len(unknown := np.setdiff1d(labels, classes)):
        raise ValueError(
            f"{name} has labels that are not among the classes: {unknown.tolist()}; {cure}"
        )


def numbers_of(y: Any) -> Any:
    """Targets that are objects as float64, so that a missing one is told by the name of y.

    Raises
    ------
    ValueError
        If one is missing for which floating-point numbers have no mark.
    """
    if getattr(getattr(y, "dtype", None), "kind", "") != "O":
        return y
    try:
        return np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        if any(type(value).__name__ == "NAType" for value in np.ravel(y).tolist()):
            raise ValueError("y contains NA; leave out the rows without a target") from None
        return y  # scikit-learn says what is wrong with them


def _kind(value: Any) -> str:
    if isinstance(value, Real | np.bool_):
        return "numbers"
    return "strings" if isinstance(value, str) else type(value).__name__


def check_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """Sample weights as float64, or None; see `sklearn_gflow.contract.check_weights`."""
    return contract.check_weights(readable(sample_weight, "sample_weight"), X)


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
    if isinstance(schedule, Integral):
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


def check_fast(
    given: Mapping[str, Any], alpha: float, t_end: float, *, squared: bool, whole: bool
) -> None:
    """Hold ``schedule="fast"`` to the flow whose end it goes to.

    Raises
    ------
    ValueError
        Naming all that has to be set.
    """
    if not (isinstance(given["schedule"], str) and given["schedule"] == "fast"):
        return
    cures = {
        "alpha=1.0": alpha == 1,
        "t_end=1.0": t_end == 1,
        "loss='squared_error'": squared,
        "batch_size=None": whole,
        "method='exponential'": given["method"] == "exponential",
    }
    lacking = [cure for cure, holds in cures.items() if not holds]
    if lacking:
        raise ValueError(
            "schedule='fast' goes to the end of the adapted flow of the squared error in the full "
            f"batch, whatever the way; set {', '.join(lacking)}, or schedule='adaptive'"
        )


def check_streamed(given: Mapping[str, Any]) -> None:
    """Refuse what needs all rows at once, where they are never all in memory.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    at_once = {
        "batch_size": given["batch_size"] is None,
        "method": given["method"] != "exponential",
        "early_stopping": given["early_stopping"] == "loo",
    }
    for name, asked in at_once.items():
        if asked:
            raise ValueError(
                f"{name}={given[name]!r} takes all rows at once, and X lies in partitions that are "
                "read a few at a time; set batch_size='auto', method='exponential' and "
                "early_stopping=True or False, or hand over X.compute()"
            )


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
