"""Cosines of a column at random frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklearn_gflow.contract import Interval, described, parameter
from sklearn_gflow.inputs._beside import BLOCKS, FEATURES, BesideRaw, FewValues

__all__ = ["PeriodicEncoder"]

_COSINES = {
    "frequencies_": (
        "ndarray of shape (n_features_in_, n_components)",
        "ω of every component of every column; also of those that are passed through.",
    ),
    "phases_": ("ndarray of shape (n_features_in_, n_components)", "φ, in [0, 2π)."),
}


@described(_COSINES, BLOCKS, FEATURES)
@dataclass(eq=False, repr=False, kw_only=True)
class PeriodicEncoder(FewValues, BesideRaw):
    """Numeric columns with cosines at random frequencies beside them.

    A column x with mean m and standard deviation σ gets components cos(2πω(x − m)/σ + φ), ω from
    N(0, scale²) and φ uniform: random Fourier features of a Gaussian kernel of that column alone,
    whose length scale is σ/(2π scale).

    The block of a column keeps its share of the first layer's kernel: the column is shrunk to
    m + (x − m)/√2, and the cosines, of which the mean is subtracted, are scaled so that the sum of
    the variances of all is the variance of the column. A table of standardised columns stays
    standardised in that sense.

    See Also
    --------
    PiecewiseLinearEncoder : Ramps over quantile bins, which outliers do not spread.
    sklearn.kernel_approximation.RBFSampler : Cosines of all columns together.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_gflow import PeriodicEncoder
    >>> X = np.column_stack([np.arange(9.0), np.arange(9) % 2])
    >>> encoder = PeriodicEncoder(n_frequencies=2, random_state=0).fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'x0_cos0', 'x0_cos1', 'x1']
    >>> float(encoder.transform(X)[:, :3].var(axis=0).sum().round(9)), float(X[:, 0].var().round(9))
    (6.666666667, 6.666666667)
    """

    n_frequencies: int = parameter(
        8,
        [Interval(Integral, 1, None, closed="left")],
        "int",
        "Cosines of a column for each ``scale``.",
    )
    scale: Any = parameter(
        1.0,
        [Interval(Real, 0, None, closed="neither"), "array-like"],
        "float or sequence of float",
        """
        Standard deviation of the frequencies, in periods to a standard deviation of the column:
        the larger, the finer. Of several scales each has its ``n_frequencies``.
        """,
    )
    random_state: Any = parameter(
        None,
        ["random_state"],
        "int, RandomState instance or None",
        "Seed of frequencies and phases.",
    )

    _component_name = "cos"
    _cure = f"{BesideRaw._cure}, and choose a scale between 1e-3 and 1e3"

    def _learn(self, rows: np.ndarray, weights: np.ndarray) -> None:
        scales = np.repeat(self._scales(), self.n_frequencies)
        # Those of columns that are passed through are drawn too: the others do not depend on them.
        shape = (rows.shape[1], len(scales))
        random = check_random_state(self.random_state)
        with np.errstate(over="ignore"):  # cosines of infinity are told where they arise
            self.frequencies_: np.ndarray = scales * random.standard_normal(shape)
        self.phases_: np.ndarray = random.uniform(0, 2 * np.pi, shape)

    def _scales(self) -> np.ndarray:
        try:
            scales = np.atleast_1d(np.asarray(self.scale, dtype=np.float64))
        except (TypeError, ValueError):
            scales = np.empty(0)
        if scales.ndim != 1 or not scales.size or not ((scales > 0) & np.isfinite(scales)).all():
            raise ValueError(
                f"scale must be a positive number or a sequence of such, got {self.scale!r}"
            )
        return scales

    def _components(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        return np.cos(self._angles(places, X)).reshape(len(X), -1)

    def _slopes(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        speeds = 2 * np.pi * self.frequencies_[places] / self.scale_[places, None]
        slopes: np.ndarray = -np.sin(self._angles(places, X)) * speeds
        return slopes.reshape(len(X), -1)

    def _angles(self, places: np.ndarray, X: np.ndarray) -> np.ndarray:
        """2πω(x − m)/σ + φ, shape (n_samples, n_places, n_components)."""
        deviations = (X - self.mean_[places]) / self.scale_[places]
        frequencies, phases = self.frequencies_[places], self.phases_[places]
        angles: np.ndarray = 2 * np.pi * frequencies * deviations[:, :, None] + phases
        return angles
