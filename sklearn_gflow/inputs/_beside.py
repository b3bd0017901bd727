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


class BesideRaw(FittedState, TransformerMixin, BaseEstimator, ABC):
    """Each column and components of it, which share its variance equally between them.

    The column x, with mean m and standard deviation σ, becomes m + (x − m)/√2 and components of
    mean zero whose variances add up to σ²/2. The sum of squares over the rows, which is what the
    column gives to the trace of the first layer's kernel, stays as it was.
    """

    min_distinct: int
    n_features_in_: int
    encoded_: np.ndarray
    mean_: np.ndarray
    scale_: np.ndarray
    component_means_: list[np.ndarray]
    component_scale_: np.ndarray
    _doc_link_module = "sklearn_gflow"
    _component_name: str  # what stands between the name of the column and the number
    _cure = "scale the column first, by SmoothRobustScaler for instance"

    @abstractmethod
    def _learn(self, rows: np.ndarray, weights: np.ndarray) -> None:
        """Write the fitted attributes that the components are made of."""

    @abstractmethod
    def _components(self, j: int, x: np.ndarray) -> np.ndarray:
        """Components of values of column j, shape (n, n_components), before they are scaled."""

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
        self.encoded_ = np.array([len(distinct(x)) >= self.min_distinct for x in rows.T])
        self._learn(rows, weights)
        self.component_means_ = [np.empty(0)] * len(moments)
        self.component_scale_ = np.zeros(len(moments))
        for j in np.flatnonzero(self.encoded_).tolist():
            with np.errstate(all="ignore"):  # what is not finite is told below
                components = self._components(j, rows[:, j])
                means = np.average(components, axis=0, weights=weights)
                total = np.average(((components - means) ** 2).sum(axis=1), weights=weights)
                scale = _HALF * self.scale_[j] / np.sqrt(total)
            self.component_means_[j] = means
            self.component_scale_[j] = self._finite(j, scale)

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
        return np.hstack([self._block(j, x) for j, x in enumerate(checked.T)])

    def _block(self, j: int, x: np.ndarray) -> np.ndarray:
        """All columns that column j becomes, in its precision."""
        if not self.encoded_[j]:
            return x[:, None]
        dtype = x.dtype
        x = x.astype(np.float64)  # edges of bins that differ in float64 may not in float32
        with np.errstate(all="ignore"):  # what is not finite is told below
            raw = self.mean_[j] + _HALF * (x - self.mean_[j])
            components = self._components(j, x) - self.component_means_[j]
            block = np.column_stack([raw, self.component_scale_[j] * components]).astype(dtype)
        return self._finite(j, block)

    def _finite(self, j: int, found: np.ndarray) -> np.ndarray:
        """What was computed of column j."""
        if not np.isfinite(found).all():
            raise ValueError(
                f"the components of column {name_of_column(self, j)!r} are beyond the range of "
                f"floating-point numbers; {self._cure}"
            )
        return found

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
