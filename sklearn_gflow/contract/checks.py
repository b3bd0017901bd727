"""The border to scikit-learn: its private helpers, and the checks that all rooms share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import validation
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

__all__ = [
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
        If there is not a number for each row, one is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    try:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if "sample_weight" in str(error):
            raise
        raise ValueError(
            f"sample_weight must be numbers, one for each row of X: {error}"
        ) from error
    if (weights < 0).any():
        raise ValueError("sample_weight has negative values; weights must be zero or positive")
    if not weights.any():
        raise ValueError(
            "sample_weight is zero for every row; at least one weight must be positive"
        )
    return weights
