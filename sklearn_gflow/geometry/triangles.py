"""A symmetric positive definite matrix A beside its Cholesky factor L, A = LLᵀ.

On one core of a CPU both live in the memory of A (`InPlace`), elsewhere side by side
(`OutOfPlace`). The two offer the same: products with A, solves, factors of A + σ, and A again.
The symbols are those of docs/notation.md.
"""

from __future__ import annotations

import math

import scipy.linalg
import torch
from torch import Tensor

from sklearn_gflow.geometry.eigen import on_one_core

__all__ = ["InPlace", "OutOfPlace", "Triangles", "cholesky_solve", "triangles"]

_PANEL = 128


class InPlace:
    """A in the lower triangle of one matrix, and L of A + jitter = LLᵀ in the upper, transposed.

    LAPACK reads and writes one triangle, so that a factor takes no memory besides that of the
    matrix, and A·v reads half as much. The triangles share the diagonal: it is A's or L's,
    whichever was asked for last.

    Parameters
    ----------
    A : Tensor of shape (m, m)
        Symmetric, on the CPU; overwritten. Left as it was where it cannot be factorised.
    ridge, jitter : float
        Added to A; to what is factorised besides.

    Raises
    ------
    torch.linalg.LinAlgError
        If A + ridge + jitter is not positive definite.
    """

    def __init__(self, A: Tensor, ridge: float, jitter: float) -> None:
        self.matrix, self.original = A, A.diagonal().clone()
        self.diagonal = self.original + ridge
        # LAPACK stores matrices by columns: its lower triangle is the upper one of A's rows.
        self.columns = A.numpy().T
        self._symv, self._symm = scipy.linalg.get_blas_funcs(("symv", "symm"), (self.columns,))
        A.diagonal().add_(ridge + jitter)
        if not _factor_in_place(A):
            self.restore()
            raise torch.linalg.LinAlgError("not positive definite")
        self.L, self.diagonal_of_L = A.mT, A.diagonal().clone()
        self._shown = self.diagonal_of_L

    def _show(self, diagonal: Tensor) -> None:
        if self._shown is not diagonal:
            self.matrix.diagonal().copy_(diagonal)
            self._shown = diagonal

    def times(self, b: Tensor) -> Tensor:
        """(A + ridge)·b of a vector, or of columns."""
        self._show(self.diagonal)
        if b.ndim == 1:
            return torch.from_numpy(self._symv(1.0, self.columns, b.numpy(), lower=False))
        transposed = self._symm(1.0, self.columns, b.numpy().T, side=True, lower=False)  # bᵀA
        return torch.from_numpy(transposed.T)

    def solve(self, b: Tensor) -> Tensor:
        """(A + ridge + jitter)⁻¹b of a vector, or of columns."""
        self._show(self.diagonal_of_L)
        return cholesky_solve(self.L, b)

    def shifted(self, amount: float) -> Tensor | None:
        """L of A + ridge + amount, in memory of its own, its upper triangle undefined."""
        shifted = self.matrix.mT.contiguous()
        shifted.diagonal().copy_(self.diagonal).add_(amount)
        return shifted.mT if _factor_in_place(shifted) else None

    def restore(self) -> Tensor:
        """A again, without the ridge, in the memory of the factor; there is no factor any more."""
        _mirror_lower(self.matrix)
        self.matrix.diagonal().copy_(self.original)
        return self.matrix


class OutOfPlace:
    """A, and L of A + jitter = LLᵀ, by torch: what `InPlace` is on one core of a CPU.

    Parameters and errors are those of `InPlace`.
    """

    def __init__(self, A: Tensor, ridge: float, jitter: float) -> None:
        self.A, self.original = A, A.diagonal().clone()
        A.diagonal().add_(ridge)
        L = self.shifted(jitter)
        if L is None:
            self.restore()
            raise torch.linalg.LinAlgError("not positive definite")
        self.L = L

    def times(self, b: Tensor) -> Tensor:
        """(A + ridge)·b of a vector, or of columns."""
        return self.A @ b

    def solve(self, b: Tensor) -> Tensor:
        """(A + ridge + jitter)⁻¹b of a vector, or of columns."""
        return cholesky_solve(self.L, b)

    def shifted(self, amount: float) -> Tensor | None:
        """L of A + ridge + amount."""
        L, info = torch.linalg.cholesky_ex(_shift(self.A, amount))
        return None if int(info) or not _is_finite(L) else L

    def restore(self) -> Tensor:
        """A again, without the ridge."""
        self.A.diagonal().copy_(self.original)
        return self.A


Triangles = InPlace | OutOfPlace


def triangles(
    A: Tensor, ridge: float, jitter: float = 0.0, *, frugal: bool = False
) -> Triangles | None:
    """A + ridge, in the memory of A, and its factor; None where it is not positive definite.

    Where there is no factor, A is left as it was. A ``frugal`` factor takes no memory of its own on
    any number of cores, where another would be faster.
    """
    in_place = A.device.type == "cpu" if frugal else on_one_core(A)
    try:
        return (InPlace if in_place else OutOfPlace)(A, ridge, jitter)
    except torch.linalg.LinAlgError:
        return None


def cholesky_solve(L: Tensor, b: Tensor) -> Tensor:
    """(LLᵀ)⁻¹b of a vector, or of columns."""
    # Two triangular solves are, for one right-hand side, about ten times faster than potrs.
    half = torch.linalg.solve_triangular(L, b.view(len(b), -1), upper=False)
    return torch.linalg.solve_triangular(L.mT, half, upper=True).view_as(b)


def _factor_in_place(A: Tensor) -> bool:
    """Lᵀ of A = LLᵀ in place of the upper triangle, the rest untouched; whether there is one."""
    columns = A.numpy().T
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (columns,))
    _, info = potrf(columns, lower=True, clean=False, overwrite_a=True)
    return not info and _is_finite(A)


def _is_finite(L: Tensor) -> bool:
    """Whether all numbers of a factor are finite: one that is not spreads to the last pivot.

    Some libraries take a NaN for a positive pivot, and report success.
    """
    return math.isfinite(float(L[-1, -1]))


def _mirror_lower(A: Tensor) -> None:
    """Copy the lower triangle of A onto the upper one, in panels that stay in cache."""
    for start in range(0, len(A), _PANEL):
        panel = slice(start, start + _PANEL)
        A[:start, panel] = A[panel, :start].mT
        square = A[panel, panel]
        square.copy_(square.tril() + square.tril(-1).mT)


def _shift(A: Tensor, amount: float) -> Tensor:
    if amount == 0:
        return A
    shifted = A.clone()
    shifted.diagonal().add_(amount)
    return shifted
