"""Quantiles and moments of a column, under which a weight of k is k copies of the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array
from scipy.stats import norm
from sklearn.utils import gen_batches

from sklearn_gflow.contract import check_weights

__all__ = [
    "alike",
    "centre_and_scale",
    "distinct",
    "few_columns",
    "mean_and_deviation",
    "quantiles",
    "sparse_scales",
    "weighted_rows",
]

# So many roundings make no difference: what a column is must not hang on its last bits.
_ROUNDINGS = 64
# Of so many columns quantiles are taken at once: copies in float64 of more would take much memory,
# and the medians of scikit-learn take seven times theirs.
_COLUMNS_AT_ONCE = 32
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


def few_columns(n_columns: int) -> Iterator[slice]:
    """Columns of which quantiles are taken at once."""
    found: Iterator[slice] = gen_batches(n_columns, _COLUMNS_AT_ONCE)
    return found


def alike(a: ArrayLike, b: ArrayLike, size: float = 0.0) -> np.ndarray:
    """Whether numbers differ by no more than roundings of themselves, or of numbers of a size."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    largest = np.maximum(np.maximum(np.abs(a), np.abs(b)), size)
    near: np.ndarray = np.abs(a / 2 - b / 2) <= _ROUNDINGS * np.finfo(np.float64).eps / 2 * largest
    return near


def distinct(x: np.ndarray) -> np.ndarray:
    """The different values of x, ascending; of those that are alike the least, and one NaN."""
    found: np.ndarray = np.unique(x)
    known = found[~np.isnan(found)]
    if len(known) < 2:
        return found
    # Beside zero, where a scaled column has its median, roundings are those of typical values.
    typical = float(np.sort(np.abs(known))[len(known) // 2])
    again = alike(found[1:], found[:-1], typical)  # false of NaN, which stays
    return found[np.concatenate([[True], ~again])]


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
    at_end = alike(X.data, low[column]) | alike(X.data, high[column])
    inside = np.bincount(column[~at_end & (X.data != 0)], minlength=n_columns)
    two = (inside == 0) & ((low == 0) | (high == 0)) & (counts < n_rows)
    scales[two] = width[two]
    scales[counts == 0] = 1.0
    for j in np.flatnonzero(((present >= total / 4) & ~two) | ~np.isfinite(scales)):
        scales[j] = centre_and_scale(X[:, [j]].toarray()[:, 0], weights)[1]
    return scales
