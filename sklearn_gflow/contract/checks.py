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
    "check_container",
    "check_weights",
    "validate_data",
]

# With any other option scikit-learn may change an array.
_OPTIONS = {"reset", "skip_check_array", "dtype", "order", "ensure_all_finite", "accept_sparse"}


def validate_data(
    estimator: BaseEstimator, X: Any = "no_validation", y: Any = "no_validation", **options: Any
) -> Any:
    """`sklearn.utils.validation.validate_data`, after a look at the names of the columns.

    Raises
    ------
    ValueError
        If two columns have one name, so that names do not tell them apart, or as `check_container`.
    """
    if isinstance(y, str) and _comes_back(estimator, X, options):
        return X
    check_container(X)
    names = list(getattr(X, "columns", ()))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"X has more than one column of the name {twice!r}; rename them")
    return validation.validate_data(estimator, X, y, **options)


def check_container(X: Any) -> None:
    """Refuse what holds columns and is neither an array nor a frame.

    Raises
    ------
    ValueError
        If X is a table or a batch of pyarrow.
    """
    if hasattr(X, "column_names") and hasattr(X, "to_pandas"):
        raise ValueError(
            "X is a table of pyarrow; hand over X.to_pandas(), or pyarrow.dataset.dataset(X), of "
            "which estimators read a part at a time"
        )


def _comes_back(estimator: BaseEstimator, X: Any, options: dict[str, Any]) -> bool:
    """Whether scikit-learn would look at X and hand it back as it is.

    That is so of a frame with the names of ``fit`` that is not to become an array, and of an array
    in memory with as many columns as in ``fit`` and, where it is looked at, finite numbers of a
    type that is asked for. scikit-learn needs longer to find this out than a network to predict a
    row.
    """
    if options.get("reset", True) or not options.keys() <= _OPTIONS:
        return False
    names, as_it_is = getattr(estimator, "feature_names_in_", None), "skip_check_array" in options
    if as_it_is and names is not None:
        return np.array_equal(getattr(X, "columns", ()), names)
    if type(X) is not np.ndarray or X.ndim != 2 or not X.size or names is not None:
        return False
    if X.shape[1] != estimator.n_features_in_:
        return False
    return as_it_is or _is_read_already(X, options)


def _is_read_already(X: np.ndarray, options: dict[str, Any]) -> bool:
    """Whether an array with two axes holds finite numbers as they are asked for."""
    dtypes, order = options.get("dtype"), options.get("order")
    if not isinstance(dtypes, list) or X.dtype not in dtypes:
        return False
    if order is not None and not X.flags.c_contiguous:
        return False
    # The sum is no number where one of its terms is none: gaps, too, are left to scikit-learn.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


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
