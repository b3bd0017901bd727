"""Quantile bins and a ramp for each: piecewise-linear functions of a column."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from sklearn_gflow.contract import Interval, described, parameter
from sklearn_gflow.inputs._beside import BLOCKS, FEATURES, BesideRaw, FewValues
from sklearn_gflow.inputs._statistics import distinct, quantiles

__all__ = ["PiecewiseLinearEncoder"]

_EDGES = {
    "bin_edges_": (
        "list of ndarray",
        "For each column the edges of its bins, increasing; empty where it is passed through.",
    ),
}


@described(_EDGES, BLOCKS, FEATURES)
@dataclass(eq=False, repr=False, kw_only=True)
class PiecewiseLinearEncoder(FewValues, BesideRaw):
    """Numeric columns with ramps over quantile bins beside them.

    Ramp k of a column is 0 to the left of its k-th bin, 1 to the right of it and linear inside, so
    that a linear function of the ramps is a piecewise-linear function of the column [1]_. A
    network can then bend sharply in one column, as trees do, where a smooth start would not.

    The block of a column keeps its share of the first layer's kernel: the column, with mean m, is
    shrunk to m + (x − m)/√2, and the ramps, of which the mean is subtracted, are scaled so that
    the sum of the variances of all is the variance of the column. A table of standardised columns
    stays standardised in that sense.

    See Also
    --------
    PeriodicEncoder : Cosines in the place of ramps.
    sklearn.preprocessing.KBinsDiscretizer : Indicators of bins.
    sklearn.preprocessing.SplineTransformer : Smoother functions that add up to one.

    References
    ----------
    .. [1] Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep
       Learning", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_gflow import PiecewiseLinearEncoder
    >>> X = np.column_stack([np.arange(9.0), np.arange(9) % 2])
    >>> encoder = PiecewiseLinearEncoder(n_bins=2).fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'x0_bin0', 'x0_bin1', 'x1']
    >>> float(encoder.transform(X)[:, :3].var(axis=0).sum().round(9)), float(X[:, 0].var().round(9))
    (6.666666667, 6.666666667)
    """

    n_bins: int = parameter(
        6,
        [Interval(Integral, 1, None, closed="left")],
        "int",
        """
        Bins of a column, between quantiles at equal steps. Where quantiles coincide there are
        fewer. Many follow sharp bends, and noise too.
        """,
    )

    _component_name = "bin"

    def _learn(self, rows: np.ndarray, weights: np.ndarray) -> None:
        levels = np.linspace(0, 1, self.n_bins + 1)
        self.bin_edges_: list[np.ndarray] = [
            distinct(quantiles(x, weights, levels)) if encoded else np.empty(0)
            for x, encoded in zip(rows.T, self.encoded_, strict=True)
        ]

    def _components(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        x, left, right = self._bins(places, X)
        # Cut before dividing: far from a narrow bin the quotient would overflow.
        ramps: np.ndarray = (np.clip(x, left, right) - left) / (right - left)
        return ramps

    def _slopes(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        x, left, right = self._bins(places, X)
        # An edge belongs to the bin on its right: there the derivative is the one to the right.
        return np.where((left <= x) & (x < right), 1 / (right - left), 0.0)

    def _bins(self, places: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The number of each bin's column, (n_samples, n_bins), and the edges of the bin."""
        edges = [self.bin_edges_[j] for j in places]
        left = np.concatenate([one[:-1] for one in edges] or [np.empty(0)])
        right = np.concatenate([one[1:] for one in edges] or [np.empty(0)])
        x = np.repeat(X, np.array([len(one) - 1 for one in edges], dtype=int), axis=1)
        return x, left, right
