"""The border to scikit-learn: its private helpers, and the checks that all rooms share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import validation
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: there are no callbacks to support."""


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "_check_feature_names_in",
    "_fit_context",
    "check_weights",
    "validate_data",
]


def validate_data(
    estimator: BaseEstimator, X: Any = "no_validation", *args: Any, **options: Any
) -> Any:
    """`sklearn.utils.validation.validate_data`, after a look at the names of the columns.

    Raises
    ------
    ValueError
        If two columns have one name, so that names do not tell them apart.
    """
    names = list(getattr(X, "columns", ()))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"X has more than one column of the name {twice!r}; rename them")
    return validation.validate_data(estimator, X, *args, **options)


def check_weights(sample_weight: ArrayLike | None, X: np.ndarray) -> np.ndarray | None:
    """Sample weights as float64, or None.

    Raises
    ------
    ValueError
        If a weight is negative, not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if (weights < 0).any():
        raise ValueError("sample_weight has negative values; weights must be zero or positive")
    if not weights.any():
        raise ValueError(
            "sample_weight is zero for every row; at least one weight must be positive"
        )
    return weights
