"""Quantiles and moments of a column, under which a weight of k is k copies of the row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array
from scipy.stats import norm

from sklearn_gflow.contract import check_weights

__all__ = [
    "centre_and_scale",
    "mean_and_deviation",
    "quantiles",
    "sparse_scales",
    "weighted_rows",
]

_NORMAL_RANGE = float(norm.ppf(0.75) - norm.ppf(0.25))  # 1.349


def weighted_rows(X: Any, sample_weight: ArrayLike | None) -> tuple[Any, np.ndarray]:
    """The rows that count, in float64, and their weights.

    Raises
    ------
    ValueError
        If a weight is negative, not finite, or all are zero.
    """
    weights = check_weights(sample_weight, X)
    if weights is None:
        return X.astype(np.float64), np.ones(X.shape[0])
    # A weight of zero is the absence of the row, also where distinct values are counted.
    present = weights > 0
    # Only ratios matter. In units of a power of two, which changes no digit, sums stay finite.
    shares = np.ldexp(weights, -np.frexp(weights.max())[1])
    return X[present].astype(np.float64), shares[present]


def quantiles(x: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Values of x at the levels of its distribution function.

    NumPy interpolates between values only where there are no weights, and a weighted column and
    its copies would then disagree. So weights are always given, ones too.
    """
    found: np.ndarray = np.quantile(x, levels, weights=weights, method="inverted_cdf")
    return found


def mean_and_deviation(x: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation; the latter is zero of a constant, not merely small."""
    low, high = float(x.min()), float(x.max())
    if low == high:
        return low, 0.0
    if np.isinf(high - low):
        mean, deviation = mean_and_deviation(x / 4, weights)
        return 4 * mean, 4 * deviation
    # In units of the range, so that squares neither overflow nor vanish.
    shares = (x - low) / (high - low)
    mean = np.average(shares, weights=weights)
    variance = np.average((shares - mean) ** 2, weights=weights)
    return float(low + mean * (high - low)), float(np.sqrt(variance) * (high - low))


def centre_and_scale(x: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Median and scale of the values that are there; (0, 1) of none."""
    present = ~np.isnan(x)
    if not present.any():
        return 0.0, 1.0
    x, weights = x[present], weights[present]
    least, most = float(x.min()), float(x.max())
    if least < most and ((x == least) | (x == most)).all():
        return least, min(most - least, np.finfo(np.float64).max)
    low, median, high = quantiles(x, weights, np.array([0.25, 0.5, 0.75]))
    width = float(high) - float(low)
    if np.isinf(width):
        width = np.finfo(np.float64).max
    scale = width / _NORMAL_RANGE or mean_and_deviation(x, weights)[1] or 1.0
    return float(median), float(scale)


def sparse_scales(X: Any, weights: np.ndarray) -> np.ndarray:
    """The scales of the columns of a sparse table that `centre_and_scale` gives of a dense one.

    Where less than a quarter of a column is not zero its quartiles are zero, and its scale comes
    from sums over its numbers. Other columns are made dense one by one.
    """
    X = csc_array(X)
    X.sum_duplicates()
    n_rows, n_columns = X.shape
    column = np.repeat(np.arange(n_columns), np.diff(X.indptr))
    w, total = weights[X.indices], weights.sum()
    low, high = np.zeros(n_columns), np.zeros(n_columns)
    np.minimum.at(low, column, X.data)
    np.maximum.at(high, column, X.data)
    with np.errstate(all="ignore"):
        width = high - low
        shares = (X.data - low[column]) / width[column]
        at_zero, present = -low / width, np.bincount(column, w, n_columns)
        absent = total - present
        mean = (np.bincount(column, w * shares, n_columns) + absent * at_zero) / total
        squares = np.bincount(column, w * (shares - mean[column]) ** 2, n_columns)
        variance = (squares + absent * (at_zero - mean) ** 2) / total
        scales = np.sqrt(variance) * width
    # Numbers that are all the same beside zeros.
    counts = np.bincount(column[X.data != 0], minlength=n_columns)
    at_end = (X.data == low[column]) | (X.data == high[column])
    inside = np.bincount(column[~at_end & (X.data != 0)], minlength=n_columns)
    two = (inside == 0) & ((low == 0) | (high == 0)) & (counts < n_rows)
    scales[two] = width[two]
    scales[counts == 0] = 1.0
    for j in np.flatnonzero(((present >= total / 4) & ~two) | ~np.isfinite(scales)):
        scales[j] = centre_and_scale(X[:, [j]].toarray()[:, 0], weights)[1]
    return scales
