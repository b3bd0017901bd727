"""Columns of any unit and with outliers, brought to a common scale and a bounded range."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import (
    DocumentedHere,
    FittedState,
    Interval,
    _fit_context,
    described,
    parameter,
)
from sklearn_gflow.inputs._beside import FEATURES
from sklearn_gflow.inputs._numbers import name_of_column, read_numbers
from sklearn_gflow.inputs._statistics import (
    centre_and_scale,
    few_columns,
    sparse_scales,
    weighted_rows,
)

__all__ = ["SmoothRobustScaler"]

_FAR = 1e100  # where the bound is reached, in units of it
_AT_BOUND = 1e-16  # 1 − (share of the bound)² of what has reached it

_CENTRE = {
    "center_": ("ndarray of shape (n_features_in_,)", "Median of each column."),
    "scale_": (
        "ndarray of shape (n_features_in_,)",
        "Interquartile range of each column in units of that of a normal distribution, or what "
        "stands for it.",
    ),
}


@described(_CENTRE, FEATURES)
@dataclass(eq=False, repr=False, kw_only=True)
class SmoothRobustScaler(
    DocumentedHere, FittedState, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Scale columns by median and interquartile range, and bend outliers smoothly back.

    With z = (x − median)/s a column becomes z/√(1 + (z/clip)²), which is z near zero and stays
    within ±clip [1]_. s is the interquartile range over that of a normal distribution of variance
    one; where it is zero, the standard deviation; and 1 where that is zero too. A standardised
    normal column comes out nearly as it was. Of a column of two values, as indicators are, the
    lower is the centre and their distance the scale: they become 0 and 1, bent to 0.95. NaN are
    disregarded in ``fit`` and stay. A sparse table has the same scales and is not centred, so that
    zeros stay zeros: what comes out differs in columns alone of which a quarter is not zero, or
    that hold zeros and one negative number.

    See Also
    --------
    sklearn.preprocessing.RobustScaler : The same without the bound, in units of the range.
    sklearn.preprocessing.QuantileTransformer : Ranks, which forget all distances.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted
       Trees on Tabular Data", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_gflow import SmoothRobustScaler
    >>> X = np.array([[100.0], [101.0], [102.0], [103.0], [1e6]])
    >>> SmoothRobustScaler().fit_transform(X).round(2).ravel().tolist()
    [-1.23, -0.66, 0.0, 0.66, 3.0]
    """

    clip: float | None = parameter(
        3.0,
        [Interval(Real, 0, None, closed="neither"), None],
        "float or None",
        "The bound of what comes out; None scales only.",
    )

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn median and scale of each column.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, or NaN.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence.

        Returns
        -------
        self : SmoothRobustScaler
            Fitted.

        Raises
        ------
        ValueError
            If a parameter, the data or the weights are out of range.
        """
        found = self._blank()
        checked = read_numbers(found, X, reset=True, gaps=True, sparse=True)
        if issparse(checked):
            rows, weights = weighted_rows(checked, sample_weight)
            found.center_, found.scale_ = np.zeros(rows.shape[1]), sparse_scales(rows, weights)
            return self._take_over(found)
        pairs = []
        for some in few_columns(checked.shape[1]):  # which become float64
            rows, weights = weighted_rows(checked[:, some], sample_weight)
            pairs += [centre_and_scale(x, weights) for x in rows.T]
        found.center_, found.scale_ = np.array(pairs).T
        return self._take_over(found)

    def transform(self, X: ArrayLike) -> Any:
        """Scale and bend.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, or NaN.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In float32 where X is; sparse where X is.

        Raises
        ------
        ValueError
            If without ``clip`` a value is beyond the range of floating-point numbers, or X is
            sparse and was not in ``fit``.
        """
        check_is_fitted(self)
        rows = read_numbers(self, X, reset=False, gaps=True, sparse=True)
        if issparse(rows):
            return self._transform_sparse(rows)
        z = self._bent(self._scaled(rows), rows.dtype)
        self._check_range(rows, z, np.broadcast_to(np.arange(rows.shape[1]), rows.shape))
        return z

    def inverse_transform(self, X: ArrayLike) -> Any:
        """Columns as they were before they were scaled.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            What `transform` made, or NaN.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In float32 where X is; sparse where X is. A value z deviations from the median comes
            back to (z/clip)² roundings of its precision, and one at the bound as 10⁸ deviations.
        """
        check_is_fitted(self)
        rows = read_numbers(self, X, reset=False, gaps=True, sparse=True)
        if issparse(rows):
            found = rows.copy()
            found.data = (self._straight(rows.data) * self.scale_[rows.indices]).astype(rows.dtype)
            return found
        return (self.center_ + self.scale_ * self._straight(rows)).astype(rows.dtype, copy=False)

    def _straight(self, bent: np.ndarray) -> np.ndarray:
        """The z that `_bent` bends."""
        bent = bent.astype(np.float64)
        if self.clip is None:
            return bent
        share = np.clip(bent / self.clip, -1, 1)
        straight: np.ndarray = bent / np.sqrt(np.maximum((1 - share) * (1 + share), _AT_BOUND))
        return straight

    def derivative(self, X: ArrayLike) -> np.ndarray:
        """Derivative of each column that comes out in the one that goes in.

        It is (1 + (z/clip)²)^(−3/2)/s.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, or NaN.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In float32 where X is; NaN where X is.

        Raises
        ------
        ValueError
            If X is no table of numbers, or has not the columns of ``fit``.
        """
        check_is_fitted(self)
        rows = read_numbers(self, X, reset=False, gaps=True)
        z = self._scaled(rows)
        with np.errstate(all="ignore"):  # far outside the derivative is zero
            bent = np.ones_like(z) if self.clip is None else np.hypot(1, z / self.clip)
            slopes = np.where(np.isnan(rows), np.nan, bent**-3.0 / self.scale_)
        return slopes.astype(rows.dtype, copy=False)

    def _transform_sparse(self, X: Any) -> Any:
        """The same of a CSR matrix, whose zeros stay zeros."""
        if self.center_.any():
            raise ValueError(
                "X is sparse, and columns of the table that the scaler was fitted on have another "
                "centre than zero; fit it on sparse rows, or hand over X.toarray()"
            )
        X = X.copy()
        with np.errstate(all="ignore"):
            z = X.data / self.scale_[X.indices]
        z = self._bent(z, X.dtype)
        self._check_range(X.data, z, X.indices)
        X.data = z
        return X

    def _bent(self, z: np.ndarray, dtype: Any) -> np.ndarray:
        with np.errstate(all="ignore"):  # what is not finite is told by `_check_range`
            if self.clip is not None:
                far = self.clip * _FAR
                z = np.clip(z, -far, far)  # infinity over infinity would be no number
                share = z / self.clip
                z /= np.sqrt(1 + share * share)  # in a sixth of the time of `hypot`
            return z.astype(dtype, copy=False)

    def _check_range(self, X: np.ndarray, z: np.ndarray, columns: np.ndarray) -> None:
        finite = np.isfinite(z)
        if not finite.all() and (lost := ~finite & ~np.isnan(X)).any():
            name = name_of_column(self, int(columns[lost].min()))
            raise ValueError(
                f"column {name!r} divided by its scale is beyond the range of floating-point "
                "numbers; set clip to a number such as 3.0"
            )

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        """(x − median)/s, in quarters where the difference is more than a float holds."""
        with np.errstate(all="ignore"):  # what is not finite is told by `_check_range`
            difference = X - self.center_
            scaled: np.ndarray = difference / self.scale_
            if (beyond := np.isinf(difference)).any():
                quarters = (X / 4 - self.center_ / 4) / (self.scale_ / 4)
                scaled = np.where(beyond, quarters, scaled)
            return scaled

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
