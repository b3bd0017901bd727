"""Training rows: as the user gave them, as the network sees them, and handed out in blocks.

A table may be mapped from disk, or lie in partitions, and is then never copied whole.
Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from torch import Tensor

from sklearn_gflow.estimators._partitions import PartitionedRows
from sklearn_gflow.estimators._reading import (
    SelectedRows,
    TransformedRows,
    is_lazy,
    on_disk,
    read,
    row_chunks,
)
from sklearn_gflow.estimators._sparse import SparseRows, row_kinds
from sklearn_gflow.estimators._tensors import sparse_tensor, to_tensor
from sklearn_gflow.geometry import Cost, Family, Loss, OutputMap
from sklearn_gflow.geometry.rows import take

__all__ = [
    "Rows",
    "TableRows",
    "TrainingData",
    "as_tensor",
    "chunks_for",
    "few",
    "known_rows",
    "subsample",
    "transformed",
]

# So many rows are evaluated at once.
_CHUNK = 8192
# Tables of at most so many bytes are transformed at once, and copied once in the precision of the
# blocks; of larger ones columns and tensors are made block by block.
_HELD_BYTES = 2**28
# Of fewer bytes one row is not transformed first, which says how large the result will be.
_FEW_BYTES = 2**20
# So many numbers of sparse rows are made dense at once.
_DENSE_ENTRIES = 2**24


@dataclass(frozen=True)
class Rows:
    """Rows of positive weight as the user gave them: an array of numbers, or a table.

    Where there are several labels a row, y is dense, and was not if ``sparse_labels``. A weight of
    1 was one of ``unit``.
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray | None
    sparse_labels: bool = False
    unit: float = 1.0

    @property
    def total_weight(self) -> float:
        """Number of the rows, or the sum of their weights."""
        return float(len(self.y) if self.weights is None else self.weights.sum())

    def counted(self) -> Rows:
        """The same with weights that can be numbers of copies.

        Rows that are there are there once at least: weights whose mean is below one are relative,
        and are multiplied so that it is one.

        Raises
        ------
        ValueError
            If the weights have no finite sum.
        """
        if self.weights is None:
            return self
        with np.errstate(over="ignore"):
            mean = self.weights.mean()
        if not np.isfinite(mean):
            raise ValueError(
                "sample_weight has a sum beyond the range of float64; divide it by a constant"
            )
        if mean >= 1:
            return self
        shares = self.weights / self.weights.max()  # weights that are all alike become ones exactly
        return replace(self, weights=shares / shares.mean(), unit=float(mean))

    def take(self, index: np.ndarray) -> Rows:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[index]
        index = np.flatnonzero(index) if index.dtype == bool else index  # polars knows no mask
        if is_lazy(self.X):
            X: Any = SelectedRows(self.X, index)
        else:
            held = isinstance(self.X, np.ndarray | SparseRows)
            X = read(self.X, index) if held else _safe_indexing(self.X, index)
        return replace(self, X=X, y=self.y[index], weights=weights)


def transformed(X: Any, transform: Callable[[Any], Any]) -> Any:
    """Rows under a transform: at once, or when they are asked for where they would take much."""
    if isinstance(X, SparseRows):
        return transform(X)
    if isinstance(X, SelectedRows):
        return replace(X, X=transformed(X.X, transform))
    if isinstance(X, PartitionedRows):
        return X.mapped(transform)
    if isinstance(X, np.ndarray) and on_disk(X) is None and X.nbytes <= _FEW_BYTES:
        return transform(X)
    first = transform(X[:1])
    if isinstance(X, TransformedRows):
        before = X.transform
        return TransformedRows(
            X.X, lambda rows: transform(before(rows)), first.shape[1], first.dtype
        )
    if on_disk(X) is not None or len(X) * first.nbytes > _HELD_BYTES:
        return TransformedRows(X, transform, first.shape[1])
    found = np.empty((len(X), first.shape[1]), first.dtype)
    for rows in row_chunks(len(X)):  # what a transform needs on its way stays small
        found[rows] = transform(X[rows])
    return found


def known_rows(
    X: Any, transform: Callable[[Any], Any], index: np.ndarray, values: np.ndarray
) -> Any:
    """Rows of partitions or of a map under a transform that others have: these rows are known."""
    if isinstance(X, SelectedRows):
        return replace(X, X=known_rows(X.X, transform, X.index[index], values))
    if isinstance(X, PartitionedRows):
        return X.mapped(transform, (index, values))
    return transformed(X, transform)


@dataclass(frozen=True)
class TrainingData:
    """Rows of positive weight, with targets as the network sees them.

    Attributes
    ----------
    X : ndarray or SparseRows of shape (n_samples, n_features)
        May be mapped from disk: blocks of rows are read as they are needed.
    targets : ndarray of shape (n_samples, n_outputs)
    weights : ndarray of shape (n_samples,) or None
    start : ndarray of shape (n_outputs,)
        Output of the model for every input, before training.
    """

    X: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    start: np.ndarray

    @property
    def total_weight(self) -> float:
        """N: number of the rows, or the sum of their weights."""
        return float(len(self.X) if self.weights is None else self.weights.sum())

    def take(self, rows: np.ndarray) -> TrainingData:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return TrainingData(read(self.X, rows), self.targets[rows], weights, self.start)

    @property
    def n_made_dense(self) -> int:
        """Numbers of a row that a family without sparse inputs adds to what it takes."""
        return int(self.X.shape[1]) if isinstance(self.X, SparseRows) else 0

    def in_memory(self) -> TrainingData:
        """The same with arrays of its own, where they are maps of a file."""
        X: Any = self.X
        if on_disk(X) is not None:
            lazy = isinstance(X, TransformedRows)
            X = TransformedRows(np.array(X.X), X.transform, X.shape[1]) if lazy else np.array(X)
        weights = None if self.weights is None else np.array(self.weights)
        return TrainingData(X, np.array(self.targets), weights, np.array(self.start))

    def stretched(self, factors: np.ndarray) -> TrainingData:
        """The same with the columns multiplied by factors."""
        return replace(self, X=transformed(self.X, lambda X: X * factors.astype(X.dtype)))

    def distinct(self) -> TrainingData:
        """Each row once, with the weight of all its copies."""
        first, copy = row_kinds(self.X, self.targets)
        if len(first) == len(self.targets):
            return self
        weights = np.bincount(copy, weights=self.weights).astype(float)
        return replace(self.take(first), weights=weights)


class TableRows:
    """The rows of a table as the blocks of a flow.

    A table in memory is copied once, in the precision of the blocks. One that is mapped from
    disk, or large, becomes tensors block by block.

    Parameters
    ----------
    family : Family
        The functions f_θ.
    data : TrainingData
        The rows.
    reference : Tensor of shape (K,)
        θ₀, in the precision and on the device of the blocks.
    dtype : str
        That precision.
    loss : Loss
        ℓ of a row.
    """

    def __init__(
        self,
        family: Family,
        data: TrainingData,
        reference: Tensor,
        dtype: str,
        loss: Loss,
    ) -> None:
        self.family, self.data, self.loss = family, data, loss
        self.dtype, self.device = dtype, reference.device
        # The model is f_θ − f_θ₀ + start. It begins at the start, as a last layer of zeros would
        # make it do, but no block of D is zero.
        start = self._tensor(data.start)
        self.targets = self._tensor(data.targets)
        self.weights = None if data.weights is None else self._tensor(data.weights)
        by_block = isinstance(data.X, SparseRows) or is_lazy(data.X)
        size = math.prod(data.X.shape) * reference.element_size()
        self.X = None if by_block or size > _HELD_BYTES else self._tensor(data.X)
        # In one tensor from the beginning: small ones that are kept between large ones that are not
        # would keep the allocator from giving anything back.
        of_each = () if family.n_members == 1 else (family.n_members,)
        self.offset = self.targets.new_empty((len(data.X), *of_each, family.n_outputs))
        for chunk in chunks_for(data.X, sparse=family.sparse_inputs):
            self.offset[chunk] = family.offsets(reference, self._inputs(chunk)) - start

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.data.X)

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return self.data.total_weight

    def block(self, rows: Tensor | slice) -> tuple[OutputMap, Cost]:
        """The output map of some rows and the cost on it."""
        weights = None if self.weights is None else self.weights[rows]
        output_map = OutputMap(self.family, self._inputs(rows), self.offset[rows], weights)
        return output_map, self.loss.cost(self.targets[rows], weights)

    def _inputs(self, rows: Tensor | slice) -> Tensor:
        if self.X is not None:
            return take(self.X, rows)
        some = read(self.data.X, rows if isinstance(rows, slice) else rows.numpy())
        return as_tensor(self.family, some, self.dtype, self.device)

    def _tensor(self, array: Any) -> Tensor:
        return to_tensor(array, self.dtype, self.device)


def few(n_samples: int, size: int) -> np.ndarray:
    """Places of so many rows, from the first to the last."""
    return np.unique(np.linspace(0, n_samples - 1, size).astype(int))


def chunks_for(X: Any, size: int = _CHUNK, *, sparse: bool) -> Iterator[slice]:
    """Runs of rows for a family with ``sparse`` inputs or without: fewer of those made dense."""
    if isinstance(X, SparseRows) and not sparse:
        size = max(1, min(size, _DENSE_ENTRIES // X.shape[1]))
    return row_chunks(len(X), size)


def as_tensor(family: Family, X: Any, dtype: str, device: torch.device) -> Tensor:
    """Rows as a family takes them: sparse where they are and it can, otherwise dense."""
    if not isinstance(X, SparseRows):
        return to_tensor(X, dtype, device)
    if family.sparse_inputs:
        return sparse_tensor(X.matrix, dtype, device)
    return to_tensor(X.toarray(), dtype, device)


def subsample(
    n_samples: int, size: int, generator: torch.Generator, labels: np.ndarray | None = None
) -> np.ndarray:
    """Indices of ``size`` random rows, in random order; all of them if there are no more.

    One row of each label comes first, whatever ``size``.
    """
    order = torch.randperm(n_samples, generator=generator).numpy()
    if labels is not None:
        _, first = np.unique(labels[order], return_index=True)
        order = np.concatenate([order[first], np.delete(order, first)])
        size = max(size, len(first))
    return order[:size]
