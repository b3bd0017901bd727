"""A numeric column and functions of it side by side: what the encoders have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import (
    DocumentedHere,
    FittedState,
    Interval,
    _check_feature_names_in,
    _fit_context,
    parameter,
)
from sklearn_gflow.inputs._numbers import name_of_column, read_numbers
from sklearn_gflow.inputs._statistics import distinct, mean_and_deviation, weighted_rows

__all__ = ["BLOCKS", "FEATURES", "BesideRaw", "FewValues"]

_HALF: Final = np.sqrt(0.5)
# So many rows are encoded at once.
_CHUNK: Final = 1024

FEATURES: Final = {
    "n_features_in_": ("int", "Number of columns in ``fit``."),
    "feature_names_in_": ("ndarray of str", "Their names, where all are strings."),
}

BLOCKS: Final = {
    "encoded_": (
        "ndarray of bool of shape (n_features_in_,)",
        "Which columns are encoded; the others are passed through.",
    ),
    "mean_": ("ndarray of shape (n_features_in_,)", "Mean of each column."),
    "scale_": ("ndarray of shape (n_features_in_,)", "Standard deviation of each column."),
    "component_means_": (
        "list of ndarray",
        "For each column the means of its components, which are subtracted.",
    ),
    "component_scale_": (
        "ndarray of shape (n_features_in_,)",
        "For each column the factor of its components; zero where there are none.",
    ),
}


@dataclass(eq=False, repr=False, kw_only=True)
class FewValues:
    """Which columns are left alone."""

    min_distinct: int = parameter(
        8,
        [Interval(Integral, 2, None, closed="left")],
        "int",
        """
        Columns with fewer distinct values are passed through as they are: of an indicator no
        function tells more than the column itself, and of few levels little more.
        """,
    )

    def _is_encoded(self, x: np.ndarray) -> bool:
        return len(distinct(x)) >= self.min_distinct


class BesideRaw(DocumentedHere, FittedState, TransformerMixin, BaseEstimator, ABC):
    """Each column and components of it, which share its variance equally between them.

    The column x, with mean m and standard deviation σ, becomes m + (x − m)/√2 and components of
    mean zero whose variances add up to σ²/2. The sum of squares over the rows, which is what the
    column gives to the trace of the first layer's kernel, stays as it was.
    """

    n_features_in_: int
    encoded_: np.ndarray
    mean_: np.ndarray
    scale_: np.ndarray
    component_means_: list[np.ndarray]
    component_scale_: np.ndarray
    _component_name: str  # what stands between the name of the column and the number
    _cure = "scale the column first, by SmoothRobustScaler for instance"

    @abstractmethod
    def _is_encoded(self, x: np.ndarray) -> bool:
        """Whether a column has enough values; `_learn` may still pass it through."""

    @abstractmethod
    def _learn(self, rows: np.ndarray, weights: np.ndarray) -> None:
        """Write the fitted attributes that the components are made of."""

    @abstractmethod
    def _components(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Components of the columns at some places, one column after the other, not scaled yet."""

    @abstractmethod
    def _slopes(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Derivatives of these components in their columns."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the components of each column and their scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence.

        Returns
        -------
        self : object
            Fitted.

        Raises
        ------
        ValueError
            If a parameter, the data or the weights are out of range.
        """
        found = self._blank()
        found._fit(X, sample_weight)
        return self._take_over(found)

    def _fit(self, X: ArrayLike, sample_weight: ArrayLike | None) -> None:
        """Write fitted attributes one after the other."""
        checked = read_numbers(self, X, reset=True)
        rows, weights = weighted_rows(checked, sample_weight)
        moments = [mean_and_deviation(x, weights) for x in rows.T]
        self.mean_, self.scale_ = np.array(moments).T
        self.encoded_ = np.array([self._is_encoded(x) for x in rows.T])
        self._learn(rows, weights)
        self.component_means_ = [np.empty(0)] * len(moments)
        self.component_scale_ = np.zeros(len(moments))
        for j in np.flatnonzero(self.encoded_).tolist():
            with np.errstate(all="ignore"):  # what is not finite is told below
                components = self._components(np.array([j]), rows[:, [j]])
                means = np.average(components, axis=0, weights=weights)
                total = np.average(((components - means) ** 2).sum(axis=1), weights=weights)
                scale = _HALF * self.scale_[j] / np.sqrt(total)
            if not np.isfinite(scale):
                raise self._beyond(j)
            self.component_means_[j] = means
            self.component_scale_[j] = scale

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Put the components of each column beside it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            In float32 where X is.

        Raises
        ------
        ValueError
            If the data are out of range.
        """
        check_is_fitted(self)
        checked = read_numbers(self, X, reset=False)
        raw, counts = self._layout()
        found = np.empty((len(checked), counts.sum() + len(counts)), checked.dtype)
        for start in range(0, len(checked), _CHUNK):
            rows = slice(start, start + _CHUNK)
            found[rows] = self._beside(checked[rows], raw, counts)
        if not np.isfinite(found).all():
            beyond = int(np.argmin(np.isfinite(found).all(axis=0)))
            raise self._beyond(int(np.searchsorted(raw, beyond, side="right")) - 1)
        return found

    def derivative(self, X: ArrayLike) -> np.ndarray:
        """Derivative of each column that comes out in the one that it is made of.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            In the order of ``transform``, in float32 where X is. At an edge of a bin it is the one
            to the right, as everywhere where only one-sided derivatives exist.

        Raises
        ------
        ValueError
            If the data are out of range.
        """
        check_is_fitted(self)
        checked = read_numbers(self, X, reset=False)
        raw, counts = self._layout()
        places = np.flatnonzero(self.encoded_)
        found = np.empty((len(checked), counts.sum() + len(counts)), checked.dtype)
        found[:, raw] = np.where(self.encoded_, _HALF, 1.0)
        with np.errstate(all="ignore"):  # an angle beyond all numbers has no cosine to be told
            slopes = self._slopes(places, checked[:, places].astype(np.float64))
            components = np.repeat(self.component_scale_, counts) * slopes
            found[:, _beside_all(raw, found.shape[1])] = components
        return found

    def _layout(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each column stands, and how many components come behind it."""
        counts = np.array([len(means) for means in self.component_means_])
        return np.cumsum(1 + counts) - counts - 1, counts

    def _beside(self, X: np.ndarray, raw: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """All columns that rows become, those of X at the places ``raw``."""
        places = np.flatnonzero(self.encoded_)
        found = np.empty((len(X), counts.sum() + len(counts)))
        found[:, raw] = X
        x = found[:, raw[places]]  # float64: edges of bins that differ there may not in float32
        mean, scale = self.mean_[places], np.repeat(self.component_scale_, counts)
        with np.errstate(all="ignore"):  # what is not finite is told by the caller
            found[:, raw[places]] = mean + _HALF * (x - mean)
            components = self._components(places, x) - np.concatenate(self.component_means_)
            found[:, _beside_all(raw, found.shape[1])] = scale * components
            return found.astype(X.dtype)

    def _beyond(self, j: int) -> ValueError:
        """What to say where components of a column are not finite."""
        return ValueError(
            f"the components of column {name_of_column(self, j)!r} are beyond the range of "
            f"floating-point numbers; {self._cure}"
        )

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that come out.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns that go in, if ``fit`` has not seen them.

        Returns
        -------
        ndarray of str objects
        """
        check_is_fitted(self)
        names: list[str] = []
        inputs = _check_feature_names_in(self, input_features)
        for name, means in zip(inputs, self.component_means_, strict=True):
            names += [name, *(f"{name}_{self._component_name}{k}" for k in range(len(means)))]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _beside_all(raw: np.ndarray, n_columns: int) -> np.ndarray:
    """Which columns stand beside those at the places ``raw``, as a mask."""
    mask = np.ones(n_columns, dtype=bool)
    mask[raw] = False
    return mask
