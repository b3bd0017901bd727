"""Large tables on their way to predictions: checked, scaled and encoded a chunk at a time.

What is held of a table is a chunk for each thread, whatever its precision, its order or its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from sklearn_gflow.estimators._inputs import FLOATS, FittedInputs, as_table, is_frame
from sklearn_gflow.estimators._partitions import PartitionedRows, are_partitions
from sklearn_gflow.estimators._reading import TransformedRows, row_chunks
from sklearn_gflow.estimators._validation import validate_data

__all__ = ["streamed"]


class _FrameRows:
    """Rows of a frame of pandas or polars, read as those of an array are."""

    def __init__(self, frame: Any) -> None:
        self.frame, self.dtype = frame, np.dtype(np.float64)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: slice) -> Any:
        return self.frame.iloc[rows] if hasattr(self.frame, "iloc") else self.frame[rows]


def streamed(inputs: FittedInputs, estimator: BaseEstimator, X: Any) -> Any:
    """X as columns of the network, see `FittedInputs.read`; of many rows when they are asked for.

    Raises
    ------
    ValueError
        If X has other columns than in ``fit``. What is wrong with the numbers of a large table is
        told when they are read.
    """
    rows = _rows_of(inputs, estimator, X)
    if rows is None or len(list(row_chunks(len(rows)))) < 2:
        return inputs.read(estimator, X)
    check: Callable[[Any], Any]
    if inputs.table is not None:
        check = inputs.table.transform
    else:
        check = partial(check_array, dtype=FLOATS, order="C", estimator=estimator, input_name="X")

    def transform(some: Any) -> Any:
        return inputs.applied(check(some))

    first = transform(rows[:1])
    return TransformedRows(rows, transform, first.shape[1], first.dtype)


def _rows_of(inputs: FittedInputs, estimator: BaseEstimator, X: Any) -> Any:
    """The rows of a frame, or of an array of numbers with two axes; None where others read them."""
    if isinstance(X, PartitionedRows) or are_partitions(X):
        return None
    if is_frame(X):
        return _FrameRows(as_table(estimator, X, reset=False))
    plain = type(X) in (np.ndarray, np.memmap) and X.ndim == 2 and X.dtype.kind in "fiub"
    if not plain or inputs.table is not None:
        return None
    return validate_data(estimator, X, skip_check_array=True, reset=False)
