"""Rows of a sparse table: they stay sparse, and are made dense only a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils.sparsefuncs import mean_variance_axis

__all__ = ["SparseRows", "dense", "mean_and_variance", "row_kinds"]


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of numbers, most of them zero, with what arrays of rows are asked for.

    Attributes
    ----------
    values, places, ends : ndarray
        Data, indices and pointers of a CSR array without duplicates.
    n_columns : int
        How many columns.
    """

    values: np.ndarray
    places: np.ndarray
    ends: np.ndarray
    n_columns: int

    @classmethod
    def of(cls, matrix: Any) -> SparseRows:
        """Those of any sparse array or matrix."""
        rows = csr_array(matrix)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        return cls(rows.data, rows.indices, rows.indptr, int(rows.shape[1]))

    @property
    def matrix(self) -> Any:
        """A CSR array of the same memory."""
        return csr_array((self.values, self.places, self.ends), shape=self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.n_columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.values.dtype

    @property
    def size(self) -> int:
        """How many numbers are held."""
        return self.values.size

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, rows: slice | np.ndarray) -> SparseRows:
        return SparseRows.of(self.matrix[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("sparse rows become an array by toarray() alone, so that none does unseen")

    def __mul__(self, factors: np.ndarray) -> SparseRows:
        """The columns multiplied by factors."""
        return replace(self, values=self.values * factors[self.places])

    def astype(self, dtype: Any) -> SparseRows:
        """The same in another precision."""
        return replace(self, values=self.values.astype(dtype))

    def is_finite(self) -> bool:
        """Whether all numbers are."""
        return bool(np.isfinite(self.values).all())

    def transformed(self, transform: Callable[[Any], Any]) -> SparseRows:
        """What a transformer makes of the matrix."""
        return SparseRows.of(transform(self.matrix))

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
