"""The border to scikit-learn: its private helpers, and the checks that all rooms share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
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

validate_data: Callable[..., Any] = validation.validate_data


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
