"""Tables of numbers alone, checked by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sklearn_gflow.contract import _check_feature_names_in, validate_data

__all__ = ["name_of_column", "read_numbers", "too_large"]


def read_numbers(
    estimator: BaseEstimator, X: ArrayLike, *, reset: bool, gaps: bool = False, sparse: bool = False
) -> Any:
    """X in float64, or float32 where it is; `estimator` remembers its columns, or holds them to it.

    Where X may be ``sparse`` and is, it comes as CSR.

    Raises
    ------
    ValueError
        If X is no table of numbers, or has not the columns of ``fit``.
    """
    finite = "allow-nan" if gaps else True
    dtypes = [np.float64, np.float32]
    try:
        # scikit-learn first looks at the sum, which is no number where parts of it overflow, and
        # float128 may overflow on its way. It then looks at each number.
        with np.errstate(over="ignore", invalid="ignore"):
            checked = validate_data(
                estimator, X, dtype=dtypes, ensure_all_finite=finite, reset=reset,
                accept_sparse="csr" if sparse else False,
            )  # fmt: skip
    except OverflowError as error:
        raise ValueError(too_large(_first_too_large(X))) from error
    return checked


def too_large(name: str) -> str:
    """What to say of a column of Python numbers."""
    return (
        f"column {name!r} holds a number that is too large for a float; scale the column, or "
        "replace the number by a smaller one"
    )


def name_of_column(estimator: BaseEstimator, j: int) -> str:
    """That of ``fit``, or its position behind an x."""
    return str(_check_feature_names_in(estimator)[j])


def _first_too_large(X: Any) -> str:
    """The name of the first column that holds a number that is no float."""
    table = np.atleast_2d(np.asarray(X, dtype=object))
    names = getattr(X, "columns", [f"x{j}" for j in range(table.shape[1])])
    found = (name for name, x in zip(names, table.T, strict=True) if not _are_floats(x))
    return str(next(found))


def _are_floats(column: np.ndarray) -> bool:
    try:
        column.astype(np.float64)
    except OverflowError:
        return False
    except (TypeError, ValueError):  # something else is wrong with this one
        return True
    return True
