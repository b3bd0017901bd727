"""Indicators of values that many rows share."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from sklearn_gflow.contract import Interval, described, parameter
from sklearn_gflow.inputs._beside import BLOCKS, FEATURES, BesideRaw
from sklearn_gflow.inputs._statistics import distinct

__all__ = ["FrequentValueEncoder"]

_VALUES = {
    "frequent_values_": (
        "list of ndarray",
        "For each column the values that have an indicator, increasing; empty where it is passed "
        "through.",
    ),
    "lower_edges_": (
        "list of ndarray",
        "For each of these values from where on a number is nearer to it than to other values of "
        "the column.",
    ),
    "upper_edges_": ("list of ndarray", "The same to the right, where others begin."),
}


@described(_VALUES, BLOCKS, FEATURES)
@dataclass(eq=False, repr=False, kw_only=True)
class FrequentValueEncoder(BesideRaw):
    """Numeric columns that are mostly one value, with indicators of their frequent values.

    Amounts that most rows do not have are such columns: a capital gain, a claim. Where other values
    come again and again they are names rather than numbers, and what they tell hangs on the exact
    value. A smooth function of the column cannot tell neighbours apart, since its scale is that of
    all of them; trees can [1]_. Other columns are passed through.

    An indicator is 1 where a number is nearer to its value than to all others that ``fit`` has seen
    in the column, so that roundings do not matter. The block of a column keeps its share of the
    first layer's kernel: the column, with mean m, is shrunk to m + (x − m)/√2, and the indicators,
    of which the mean is subtracted, are scaled so that the sum of the variances of all is the
    variance of the column.

    See Also
    --------
    PiecewiseLinearEncoder : Ramps over quantile bins, for columns of many values.
    TableEncoder : Indicators of the levels of categories.

    References
    ----------
    .. [1] Grinsztajn, Oyallon, Varoquaux, "Why do tree-based models still outperform deep learning
       on typical tabular data?", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_gflow import FrequentValueEncoder
    >>> X = np.repeat([0.0, 5.0, 7.0, 9.0], [6, 1, 2, 1])[:, None]
    >>> encoder = FrequentValueEncoder(min_values=2, min_frequency=0.2).fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'x0_value0', 'x0_value1']
    >>> encoder.frequent_values_[0].tolist()
    [0.0, 7.0]
    """

    min_spike: float = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="left")],
        "float",
        "Columns of which no value has more than this share of the rows are passed through.",
    )
    min_frequency: float = parameter(
        0.0005,
        [Interval(Real, 0, 1, closed="neither")],
        "float",
        "Share of the rows from which on a value is frequent.",
    )
    min_values: int = parameter(
        20,
        [Interval(Integral, 1, None, closed="left")],
        "int",
        """
        Columns with fewer frequent values are passed through: a smooth function tells them apart.
        """,
    )
    max_values: int = parameter(
        100,
        [Interval(Integral, 1, None, closed="left")],
        "int",
        "Of more values the most frequent ones have indicators.",
    )

    _component_name = "value"

    def _is_encoded(self, x: np.ndarray) -> bool:
        return len(distinct(x)) >= self.min_values

    def _learn(self, rows: np.ndarray, weights: np.ndarray) -> None:
        empty = np.empty(0)
        self.frequent_values_: list[np.ndarray] = [empty] * rows.shape[1]
        self.lower_edges_: list[np.ndarray] = [empty] * rows.shape[1]
        self.upper_edges_: list[np.ndarray] = [empty] * rows.shape[1]
        for j in np.flatnonzero(self.encoded_).tolist():
            values = distinct(rows[:, j])
            edges = np.concatenate([[-np.inf], values[:-1] / 2 + values[1:] / 2, [np.inf]])
            place = np.searchsorted(edges, rows[:, j], side="right") - 1
            shares = np.bincount(place, weights, len(values)) / weights.sum()
            kept = self._frequent(shares)
            self.encoded_[j] = shares.max() > self.min_spike and len(kept) >= self.min_values
            if self.encoded_[j]:
                self.frequent_values_[j] = values[kept]
                self.lower_edges_[j], self.upper_edges_[j] = edges[kept], edges[kept + 1]

    def _frequent(self, shares: np.ndarray) -> np.ndarray:
        """Places of the values that have an indicator, ascending."""
        most = np.argsort(-shares, kind="stable")[: self.max_values]
        return np.sort(most[shares[most] >= self.min_frequency])

    def _components(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        lower = np.concatenate([self.lower_edges_[j] for j in places] or [np.empty(0)])
        upper = np.concatenate([self.upper_edges_[j] for j in places] or [np.empty(0)])
        counts = np.array([len(self.lower_edges_[j]) for j in places], dtype=int)
        x = np.repeat(X, counts, axis=1)
        return ((lower <= x) & (x < upper)).astype(np.float64)

    def _slopes(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        n_components = sum(len(self.lower_edges_[j]) for j in places)
        return np.zeros((len(X), n_components))
