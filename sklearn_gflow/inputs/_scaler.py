"""Columns of any unit and with outliers, brought to a common scale and a bounded range."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
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
    alike,
    mean_and_deviation,
    quantiles,
    weighted_rows,
)

__all__ = ["SmoothRobustScaler"]

_FAR = 1e100  # where the bound is reached, in units of it
_NORMAL_RANGE = float(norm.ppf(0.75) - norm.ppf(0.25))  # 1.349

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
    disregarded in ``fit`` and stay.

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
        X : array-like of shape (n_samples, n_features)
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
        checked = read_numbers(found, X, reset=True, gaps=True)
        rows, weights = weighted_rows(checked, sample_weight)
        found.center_, found.scale_ = np.array([_centre_and_scale(x, weights) for x in rows.T]).T
        return self._take_over(found)

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Scale and bend.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, or NaN.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In float32 where X is.

        Raises
        ------
        ValueError
            If without ``clip`` a value is beyond the range of floating-point numbers.
        """
        check_is_fitted(self)
        X = read_numbers(self, X, reset=False, gaps=True)
        with np.errstate(all="ignore"):  # what is not finite is told below
            z = self._scaled(X)
            if self.clip is not None:
                far = self.clip * _FAR
                z = np.clip(z, -far, far)  # infinity over infinity would be no number
                z /= np.hypot(1, z / self.clip)
            z = z.astype(X.dtype, copy=False)
        finite = np.isfinite(z)
        if not finite.all() and (lost := ~finite & ~np.isnan(X)).any():
            name = name_of_column(self, int(np.flatnonzero(lost.any(axis=0))[0]))
            raise ValueError(
                f"column {name!r} divided by its scale is beyond the range of floating-point "
                "numbers; set clip to a number such as 3.0"
            )
        return z

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        """(x − median)/s, in quarters where the difference is more than a float holds."""
        difference = X - self.center_
        scaled: np.ndarray = difference / self.scale_
        if (beyond := np.isinf(difference)).any():
            quarters = (X / 4 - self.center_ / 4) / (self.scale_ / 4)
            scaled = np.where(beyond, quarters, scaled)
        return scaled

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _centre_and_scale(x: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Median and scale of the values that are there; (0, 1) of none."""
    present = ~np.isnan(x)
    if not present.any():
        return 0.0, 1.0
    x, weights = x[present], weights[present]
    least, most = float(x.min()), float(x.max())
    # Whether a column is constant, has two values or has most of its values in one must not hang
    # on the last bits of x.
    if alike(least, most):
        return least, 1.0 if least == most else max(1.0, abs(most))
    if (alike(x, least) | alike(x, most)).all():
        return least, min(most - least, np.finfo(np.float64).max)
    low, median, high = map(float, quantiles(x, weights, np.array([0.25, 0.5, 0.75])))
    width = min(high - low, np.finfo(np.float64).max)
    scale = mean_and_deviation(x, weights)[1] if alike(low, high) else width / _NORMAL_RANGE
    return median, float(scale or 1.0)
