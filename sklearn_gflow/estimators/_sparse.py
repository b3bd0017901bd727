"""Rows of a sparse table: they stay sparse, and are made dense only a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils.sparsefuncs import mean_variance_axis

__all__ = ["SparseRows", "dense", "mean_and_variance", "row_kinds"]


class SparseRows:
    """Rows of numbers, most of them zero, with what arrays of rows are asked for.

    Parameters
    ----------
    matrix : sparse array or matrix of shape (n_samples, n_features)
        Anything that becomes a CSR array.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = csr_array(matrix)
        self.matrix.sum_duplicates()
        self.shape, self.dtype = self.matrix.shape, self.matrix.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice | np.ndarray) -> SparseRows:
        return SparseRows(self.matrix[rows])

    def __mul__(self, factors: np.ndarray) -> SparseRows:
        """The columns multiplied by factors."""
        return self.with_values(self.matrix.data * factors[self.matrix.indices])

    def with_values(self, values: np.ndarray) -> SparseRows:
        """Other numbers in the same places."""
        matrix = self.matrix
        return SparseRows(csr_array((values, matrix.indices, matrix.indptr), matrix.shape))

    def transformed(self, transform: Callable[[Any], Any]) -> SparseRows:
        """What a transformer makes of the matrix."""
        return SparseRows(transform(self.matrix))

    def toarray(self) -> np.ndarray:
        """The rows as an array."""
        array: np.ndarray = self.matrix.toarray()
        return array


def dense(X: Any) -> np.ndarray:
    """Rows as an array."""
    return X.toarray() if isinstance(X, SparseRows) else np.asarray(X)


def mean_and_variance(X: Any, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each column."""
    if isinstance(X, SparseRows):
        mean, variance = mean_variance_axis(X.matrix, axis=0, weights=weights)
        return mean, variance
    mean = np.average(X, axis=0, weights=weights)
    return mean, np.average((X - mean) ** 2, axis=0, weights=weights)


def row_kinds(*tables: Any) -> tuple[np.ndarray, np.ndarray]:
    """The first of each kind of row, sorted by what they hold, and the kind of each row.

    Parameters
    ----------
    *tables : ndarray or SparseRows of shape (n_samples, n_columns)
        Columns that tell rows from each other, side by side.
    """
    if any(isinstance(table, SparseRows) for table in tables):
        keys = np.empty(len(tables[0]), dtype=object)
        keys[:] = [b"".join(parts) for parts in zip(*map(_as_bytes, tables), strict=True)]
        found = np.unique(keys, return_index=True, return_inverse=True)
    else:
        table = np.hstack([np.asarray(table) for table in tables])
        found = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return found[1], found[2].ravel()


def _as_bytes(table: Any) -> list[bytes]:
    """All that a row holds as one object: of a sparse one its places and its numbers."""
    if not isinstance(table, SparseRows):
        return [row.tobytes() for row in np.asarray(table)]
    matrix = table.matrix.copy()
    matrix.eliminate_zeros()
    pieces = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    return [
        matrix.indices[start:end].tobytes() + matrix.data[start:end].tobytes()
        for start, end in pieces
    ]
