"""Encodings by name, and the one that is chosen where the user leaves it to us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_gflow.inputs import FrequentValueEncoder, PeriodicEncoder, PiecewiseLinearEncoder

__all__ = ["AUTOMATIC", "ENCODINGS", "bins_beside", "encoder_of", "frequent_values", "ramps_of"]

ENCODINGS: Mapping[str, Callable[[int], Any]] = {
    "piecewise": lambda seed: PiecewiseLinearEncoder(),
    "periodic": lambda seed: PeriodicEncoder(random_state=seed),
}
"""Encodings by name, made with a seed."""

AUTOMATIC = "auto"
"""Indicators of frequent values, where there are such columns; or ramps."""

# Of fewer rows too little repeats.
_ROWS_THAT_REPEAT = 1000
# Values of three rows have an indicator. The fewer rows a value may have, the better, from 2,500
# to 29,000 rows of adult (docs/benchmarks/frequent_values.md); fewer than three may be chance.
_MET_AGAIN = 2.5

# Ramps over blocks: bins of a column, and of all columns together, each of which is a column of the
# network; of few bins there is another encoding.
_MOST_BINS, _MOST_RAMPS, _LEAST_BINS = 24, 500, 4
# By default a bin for so many rows; of fewer rows or more, ramps were not measured
# (docs/benchmarks/blocks_trials.md).
_ROWS_OF_A_BIN, _LEAST_ROWS, _MOST_ROWS = 200, 2000, 50_000


def encoder_of(encoding: Any, seed: int) -> Any:
    """A transformer that is not fitted yet, or None."""
    if encoding is None:
        return None
    encoder = ENCODINGS[encoding](seed) if isinstance(encoding, str) else clone(encoding)
    if isinstance(encoder, PeriodicEncoder) and encoder.random_state is None:
        encoder.set_params(random_state=seed)
    return encoder


def frequent_values(numbers: np.ndarray, weights: np.ndarray | None) -> FrequentValueEncoder | None:
    """The encoder, fitted to columns of numbers; None where it passes all of them through."""
    if len(numbers) < _ROWS_THAT_REPEAT or not numbers.shape[1]:
        return None
    encoder = FrequentValueEncoder(min_frequency=_MET_AGAIN / len(numbers))
    encoder.fit(numbers, sample_weight=weights)
    return encoder if encoder.encoded_.any() else None


def bins_beside(n_columns: int) -> int:
    """Bins of each of so many columns; 0 where there are none, or too many for ramps."""
    bins = min(_MOST_BINS, _MOST_RAMPS // max(1, n_columns))
    return bins if n_columns and bins >= _LEAST_BINS else 0


def ramps_of(numbers: np.ndarray, n_samples: int, weights: np.ndarray | None) -> Any:
    """The encoder, fitted to columns of numbers; None of tables that have too few or many.

    ``numbers`` are those of all samples, or of some.
    """
    bins = min(bins_beside(numbers.shape[1]), n_samples // _ROWS_OF_A_BIN)
    if not bins or not _LEAST_ROWS <= n_samples <= _MOST_ROWS:
        return None
    encoder = PiecewiseLinearEncoder(n_bins=bins).fit(numbers, sample_weight=weights)
    return encoder if encoder.encoded_.any() else None
