"""Encodings by name, and the one that is chosen where the user leaves it to us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_gflow.inputs import FrequentValueEncoder, PeriodicEncoder, PiecewiseLinearEncoder

__all__ = ["AUTOMATIC", "ENCODINGS", "encoder_of", "frequent_values"]

ENCODINGS: Mapping[str, Callable[[int], Any]] = {
    "piecewise": lambda seed: PiecewiseLinearEncoder(),
    "periodic": lambda seed: PeriodicEncoder(random_state=seed),
}
"""Encodings by name, made with a seed."""

AUTOMATIC = "auto"
"""Indicators of frequent values, where there are such columns."""

# Of fewer rows too little repeats.
_ROWS_THAT_REPEAT = 1000
# Values of three rows have an indicator. The fewer rows a value may have, the better, from 2,500
# to 29,000 rows of adult (docs/benchmarks/frequent_values.md); fewer than three may be chance.
_MET_AGAIN = 2.5


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
