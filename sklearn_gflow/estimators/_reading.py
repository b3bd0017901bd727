"""Rows that are read when they are asked for: from maps of files, from partitions, transformed.

Notation: docs/notation.md.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from sklearn_gflow.dynamics import Runs
from sklearn_gflow.estimators._partitions import PartitionedRows

__all__ = [
    "SelectedRows",
    "TransformedRows",
    "by_rows",
    "check_map",
    "in_partitions",
    "is_lazy",
    "on_disk",
    "read",
    "row_chunks",
    "runs_of",
]

# So many rows are evaluated at once.
_CHUNK = 8192
# Of maps with more bytes pages are let go after they were read.
_LARGE_BYTES = 2**28
# So many rows of a map are read here and there before its pages are let go: of each row the system
# may map a whole page of two megabytes.
_TOUCHED = 64


class TransformedRows:
    """The rows of an array as columns of the network, made when they are asked for.

    Parameters
    ----------
    X : ndarray or SparseRows of shape (n_samples, n_features)
        May be mapped from disk.
    transform : callable
        Makes columns of the network of some rows.
    n_columns : int
        How many.
    dtype : dtype, optional
        Theirs, where it is not that of X.
    """

    def __init__(
        self, X: Any, transform: Callable[[Any], np.ndarray], n_columns: int, dtype: Any = None
    ) -> None:
        self.X, self.transform = X, transform
        self.shape, self.dtype = (len(X), n_columns), np.dtype(dtype or X.dtype)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.transform(read(self.X, rows))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True, eq=False)
class SelectedRows:
    """Some rows of a table that is mapped from disk or lies in partitions, read when asked for.

    Attributes
    ----------
    X : ndarray, PartitionedRows or TransformedRows
        The table.
    index : ndarray of int
        The rows, in the order of the table.
    """

    X: Any
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.X.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.X.dtype

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice | np.ndarray) -> Any:
        return read(self.X, self.index[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def _source(X: Any) -> Any:
    """The table that rows are read from."""
    while isinstance(X, TransformedRows | SelectedRows):
        X = X.X
    return X


def in_partitions(X: Any) -> PartitionedRows | None:
    """The partitions that rows are read from; None where there are none."""
    source = _source(X)
    return source if isinstance(source, PartitionedRows) else None


def is_lazy(X: Any) -> bool:
    """Whether rows are read from a file or from partitions when they are asked for."""
    return in_partitions(X) is not None or on_disk(X) is not None


def runs_of(X: Any) -> Runs | None:
    """The rows of each partition, and how many are held at once; None of other tables."""
    source = in_partitions(X)
    if source is None:
        return None
    lengths, at_once = source.sizes, source.rows_at_once
    if isinstance(X, SelectedRows):
        lengths = np.bincount(source.partition_of(X.index), minlength=len(lengths))
        at_once = at_once * len(X) // len(source)  # the others of a partition are held too
    return Runs(tuple(lengths.tolist()), at_once)


def on_disk(array: Any) -> np.memmap | None:
    """The map of a file that an array is, or is made of; None where it is in memory."""
    found, owner = None, _source(array)
    while isinstance(owner, np.ndarray):
        found = owner if isinstance(owner, np.memmap) else found
        owner = owner.base
    return found


def check_map(array: Any) -> None:
    """Refuse to read a map whose file has become shorter, at which the process would be killed.

    Raises
    ------
    ValueError
        Naming the file and the bytes.
    """
    mapped = on_disk(array)
    if mapped is None or not isinstance(mapped.base, mmap.mmap):
        return
    needed, there = mapped.offset + mapped.nbytes, mapped.base.size()
    if there < needed:
        raise ValueError(
            f"{mapped.filename} has {there} bytes, and the table that is mapped from it needs "
            f"{needed}; the file was cut while it was in use, map it again when it is whole"
        )


def read(array: Any, rows: Any) -> Any:
    """Rows of a table; of one on disk in memory, a chunk at a time and each after a check."""
    if on_disk(array) is None:
        return array[rows]
    check_map(array)
    in_order = isinstance(rows, slice) and rows.step in (None, 1)
    index = range(len(array))[rows] if isinstance(rows, slice) else np.asarray(rows)
    found = np.empty((len(index), *array.shape[1:]), array.dtype)
    for chunk in row_chunks(len(index), _CHUNK if in_order else _TOUCHED):
        check_map(array)
        some = index[chunk]
        first = some[0]
        found[chunk] = array[first : first + len(some)] if in_order else array[some]
        _release(array)
    return found


def _release(array: Any) -> None:
    """Let go of the pages of a large map that were read: they count as memory of the process.

    They stay in the file, and in the cache of the system while it has room. Of a map that keeps
    changes to itself they would be lost.
    """
    mapped = on_disk(array)
    if mapped is None or mapped.nbytes <= _LARGE_BYTES or mapped.mode == "c":
        return
    if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.base.madvise(mmap.MADV_DONTNEED)


def by_rows(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """A function of each row, of some at a time: what it needs on its way stays small."""
    if len(values) <= _CHUNK:
        return function(values)
    first = function(values[:_CHUNK])
    found = np.empty((len(values), *first.shape[1:]), first.dtype)
    found[:_CHUNK] = first
    for rows in islice(row_chunks(len(values), _CHUNK), 1, None):
        found[rows] = function(values[rows])
    return found


def row_chunks(n_samples: int, size: int = _CHUNK) -> Iterator[slice]:
    """Runs of rows, as many as are evaluated at once."""
    for start in range(0, n_samples, size):
        yield slice(start, start + size)
