"""Quantiles and moments of a column, under which a weight of k is k copies of the row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sklearn_gflow.contract import check_weights

__all__ = ["alike", "distinct", "mean_and_deviation", "quantiles", "weighted_rows"]

# So many roundings make no difference: what a column is must not hang on its last bits.
_ROUNDINGS = 64


def weighted_rows(X: np.ndarray, sample_weight: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """The rows that count, in float64, and their weights.

    Raises
    ------
    ValueError
        If a weight is negative, not finite, or all are zero.
    """
    weights = check_weights(sample_weight, X)
    if weights is None:
        return X.astype(np.float64), np.ones(len(X))
    # A weight of zero is the absence of the row, also where distinct values are counted.
    present = weights > 0
    # Only ratios matter. In units of a power of two, which changes no digit, sums stay finite.
    shares = np.ldexp(weights, -np.frexp(weights.max())[1])
    return X[present].astype(np.float64), shares[present]


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
