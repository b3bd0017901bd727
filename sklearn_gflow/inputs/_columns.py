"""The columns of an array or a data frame, read one by one: numbers or levels of a category.

Frames of pandas and polars are told by what they can do; neither library is imported.
"""

from __future__ import annotations

import re
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sklearn_gflow.contract import validate_data
from sklearn_gflow.inputs._numbers import too_large

__all__ = ["Column", "origins_of", "read_columns"]

_DIGITS = 9
_NUMBER = re.compile(rf"\d{{{_DIGITS}}}")
_CATEGORIES = ("categor", "enum")  # "category" in pandas, "Categorical" and "Enum" in polars


class Column(NamedTuple):
    """A column with its name and whether its own type says that it is a category."""

    name: str
    values: np.ndarray
    categorical: bool

    def holds_numbers(self) -> bool:
        """Whether these are numbers; truth values count, as zeros and ones.

        Raises
        ------
        TypeError
            If they are neither numbers nor levels of a category.
        """
        if self.values.dtype.kind in "mMcV":
            raise TypeError(
                f"column {self.name!r} has type {self.values.dtype}, which is neither a number nor "
                "a category; make numbers or strings of it, or leave it out"
            )
        if self.categorical or self.values.dtype.kind in "UST":
            return False
        if self.values.dtype.kind in "fiub":
            return True
        if self._all_strings():
            return False
        present = [value for value in self.values.tolist() if not _is_missing(value)]
        return all(isinstance(value, Real | np.bool_) for value in present)

    def numbers(self) -> np.ndarray:
        """Floating-point values, in float32 where they are; what is missing is NaN.

        Raises
        ------
        ValueError
            If there is anything but numbers, or infinity or more than a float holds among them.
        """
        if self.values.dtype.kind in "fiub":
            single = self.values.dtype == np.float32
            with np.errstate(over="ignore"):  # what is longer than float64 may become infinity
                found = self.values.astype(np.float32 if single else np.float64)
        else:
            found = np.array([self._number(value) for value in self.values.tolist()], np.float64)
        if np.isinf(found).any():
            raise ValueError(
                f"column {self.name!r} contains infinity; replace it by a number, or by NaN if it "
                "stands for a missing value"
            )
        return found

    def _number(self, value: Any) -> float:
        if _is_missing(value):
            return np.nan
        if not isinstance(value, Real | np.bool_):
            raise ValueError(
                f"column {self.name!r} was one of numbers in fit and now holds {value!r}; give it "
                "numbers, or fit again"
            )
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(too_large(self.name)) from error

    def has_numbers(self) -> np.ndarray:
        """Which entries are numbers: neither missing, nor truth values, nor levels."""
        if self.categorical or self.values.dtype.kind in "bUST":
            return np.zeros(len(self.values), dtype=bool)
        if self.values.dtype.kind in "fiu":
            return ~np.isnan(self.values)
        if self._all_strings():
            return np.zeros(len(self.values), dtype=bool)
        return np.array([
            isinstance(value, Real) and not isinstance(value, bool | np.bool_)
            and not _is_missing(value)
            for value in self.values.tolist()
        ], dtype=bool)  # fmt: skip

    def levels(self) -> np.ndarray:
        """Python objects, and None for what is missing."""
        if self._all_strings():
            return self.values
        found = np.empty(len(self.values), dtype=object)
        found[:] = [None if _is_missing(value) else value for value in self.values.tolist()]
        return found

    def _all_strings(self) -> bool:
        """Whether there are strings alone, of which none is missing nor a number."""
        return self.values.dtype.kind == "O" and set(map(type, self.values.tolist())) == {str}

    def count_levels(self) -> int:
        """How many different levels there are; what is missing is one.

        Raises
        ------
        TypeError
            If they have no common order, which scikit-learn's encoders need.
        """
        levels = self.levels()
        kinds = {type(level) for level in levels} - {type(None)}
        if not any(all(issubclass(kind, common) for kind in kinds) for common in (str, Real)):
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(
                f"column {self.name!r} holds levels of type {names}; only strings alone or numbers "
                "alone have an order: make strings of them"
            )
        return len(set(levels))


def read_columns(estimator: BaseEstimator, X: ArrayLike, *, reset: bool) -> list[Column]:
    """The columns of X, whose names and number `estimator` remembers, or holds against X.

    Raises
    ------
    ValueError
        If there are no rows or no columns, or not those of ``fit``.
    """
    by_position = hasattr(X, "iloc")  # of pandas
    if not by_position and not hasattr(X, "get_column"):  # nor of polars
        return _of_array(estimator, X, reset=reset)
    frame: Any = validate_data(estimator, X, skip_check_array=True, reset=reset)
    if (by_position and frame.ndim != 2) or 0 in frame.shape:
        raise ValueError(
            f"X has shape {frame.shape}; a table needs at least one row and one column"
        )
    names = list(frame.columns)
    series = [frame.iloc[:, j] if by_position else frame.get_column(n) for j, n in enumerate(names)]
    return [
        Column(str(name), np.asarray(one), str(one.dtype).lower().startswith(_CATEGORIES))
        for name, one in zip(names, series, strict=True)
    ]


def _of_array(estimator: BaseEstimator, X: ArrayLike, *, reset: bool) -> list[Column]:
    """The columns of anything but a frame."""
    # NumPy would make strings of the numbers of a list that has both.
    nested = not hasattr(X, "dtype") and np.asarray(X).dtype.kind in "US"
    checked = validate_data(
        estimator, X, dtype=object if nested else None, ensure_all_finite=False, reset=reset
    )
    return [Column(f"x{j}", column, False) for j, column in enumerate(checked.T)]


def origins_of(transformer: Any, n_features: int) -> np.ndarray:
    """The column that each column of a fitted transformer's output is made of.

    Read off the names of the output, in which scikit-learn's transformers repeat those of the input
    that they are given; the first of several, and −1 where a name repeats none.

    Raises
    ------
    AttributeError
        If its output, or that of a transformer inside it, has no names.
    """
    numbers = np.array([f"{j:0{_DIGITS}d}" for j in range(n_features)], dtype=object)
    names = transformer.get_feature_names_out(numbers)
    found = (_NUMBER.search(name) for name in names)
    return np.array([-1 if one is None else int(one.group()) for one in found])


def _is_missing(value: Any) -> bool:
    """None, NaN, and the marks of pandas, which compare to nothing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and bool(value != value)
