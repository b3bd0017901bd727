"""Rows of inputs, dense or sparse: what of them torch does in one of the two forms alone.

Sparse rows are a coalesced COO tensor. `torch.addmm(b, X, W)` takes both forms, so that outputs and
D·v need nothing of this. Products of rows with rows make a few of them dense at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dense", "inner_products", "square_sums", "take", "transposed_product"]

# So many sparse rows are made dense at once.
_DENSE_ROWS = 128


def dense(X: Tensor) -> Tensor:
    """The rows as a dense tensor."""
    return X.to_dense() if X.is_sparse else X


def take(X: Tensor, rows: Tensor | slice) -> Tensor:
    """Some of the rows."""
    if isinstance(rows, slice):
        if not X.is_sparse:
            return X[rows]
        rows = torch.arange(len(X))[rows]
    # By this name dense rows come in less than half of the time that brackets take.
    found = X.index_select(0, rows.to(X.device))
    return found.coalesce() if X.is_sparse else found


def transposed_product(X: Tensor, u: Tensor) -> Tensor:
    """Xᵀu, shape (n_features, n_columns)."""
    return torch.sparse.mm(X.t(), u) if X.is_sparse else X.mT @ u


def square_sums(X: Tensor) -> Tensor:
    """|x|² of each row, shape (n_samples, 1)."""
    if not X.is_sparse:
        return (X * X).sum(1, keepdim=True)
    sums = X.new_zeros(len(X), dtype=X.dtype).to_dense()
    return sums.index_add_(0, X.indices()[0], X.values().square())[:, None]


def inner_products(left: Tensor, right: Tensor, *, out: Tensor | None = None) -> Tensor:
    """⟨a, a'⟩ + 1 of all pairs of rows, shape (n_left, n_right); the +1 is that of a bias."""
    if not right.is_sparse:
        return torch.addmm(right.new_ones(()), left, right.mT, out=out)
    if out is None:
        out = torch.empty(len(left), len(right), dtype=right.dtype, device=right.device)
    for start in range(0, len(left), _DENSE_ROWS):
        rows = slice(start, start + _DENSE_ROWS)
        out[rows] = torch.sparse.mm(right, dense(take(left, rows)).mT).mT
    return out.add_(1)
