"""A symmetric positive definite matrix A beside its Cholesky factor L, A = LLᵀ.

On one core of a CPU both live in the memory of A (`InPlace`), elsewhere side by side
(`OutOfPlace`), on a device with slow float64 with L in float32 (`Refined`). All offer the same:
products with A, solves, solves with A + σ, and A again. The symbols are those of docs/notation.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import scipy.linalg
import torch
from torch import Tensor

from sklearn_gflow.geometry.eigen import on_one_core

__all__ = [
    "InPlace", "OutOfPlace", "Refined", "Solve", "Triangles", "cholesky_solve", "double_is_slow",
    "triangles",
]  # fmt: skip

_PANEL = 128
# Of smaller matrices the launches take the time and not the arithmetic.
_LARGE = 2000
_SLOW, _TRIALS = 8.0, 3
_REFINEMENTS = 10


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

    def resolvent(self, amount: float) -> Solve | None:
        """b ↦ (A + ridge + amount)⁻¹b, through a factor in memory of its own, if there is one."""
        shifted = self.matrix.mT.contiguous()
        shifted.diagonal().copy_(self.diagonal).add_(amount)
        return partial(cholesky_solve, shifted.mT) if _factor_in_place(shifted) else None

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
        L = _factor(_shift(A, jitter))
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

    def resolvent(self, amount: float) -> Solve | None:
        """b ↦ (A + ridge + amount)⁻¹b, if there is a factor."""
        L = _factor(_shift(self.A, amount))
        if L is None:
            return None
        return partial(cholesky_solve, L) if L.device.type == "cpu" else _by_inverse(L)

    def restore(self) -> Tensor:
        """A again, without the ridge."""
        self.A.diagonal().copy_(self.original)
        return self.A


class Refined(OutOfPlace):
    """A in float64, and L of A + jitter = LLᵀ in float32: its solves are refined against A.

    For devices on which float64 is slow, where a factor of float32 takes a small part of the time.
    A solution is as good as that of a factor in float64, by the criterion of LAPACK's ``dsposv``.
    Where the condition is beyond float32, so that this is not reached, float64 solves.

    Parameters and errors are those of `InPlace`.
    """

    def __init__(self, A: Tensor, ridge: float, jitter: float) -> None:
        self.A, self.original, self.jitter = A, A.diagonal().clone(), jitter
        A.diagonal().add_(ridge)
        L = _factor(_shift(A, jitter).float())
        if L is None:
            self.restore()
            raise torch.linalg.LinAlgError("not positive definite in float32")
        self.L = L
        size = torch.linalg.matrix_norm(A, math.inf)
        self.tolerance = math.sqrt(len(A)) * torch.finfo(A.dtype).eps * size

    def solve(self, b: Tensor) -> Tensor:
        """(A + ridge + jitter)⁻¹b of a vector, or of columns."""
        return self._refined(self.L, self.jitter, b)

    def resolvent(self, amount: float) -> Solve | None:
        """b ↦ (A + ridge + amount)⁻¹b, if there is a factor."""
        L = _factor(_shift(self.A, amount).float())
        return super().resolvent(amount) if L is None else partial(self._refined, L, amount)

    def _refined(self, L: Tensor, shift: float, b: Tensor) -> Tensor:
        """(A + ridge + shift)⁻¹b; NaN where no factor gives it."""
        x = torch.zeros_like(b)
        left = b
        for _ in range(_REFINEMENTS):
            # Numbers of any size go through float32 in units of the largest.
            unit = left.abs().amax().clamp_min(torch.finfo(b.dtype).tiny)
            x = x + unit * cholesky_solve(L, (left / unit).float()).to(b.dtype)
            left = b - self.A @ x - shift * x
            if bool((left.abs().amax(0) <= self.tolerance * x.abs().amax(0)).all()):
                return x
        exact = super().resolvent(shift)
        return torch.full_like(b, math.nan) if exact is None else exact(b)


Triangles = InPlace | OutOfPlace
Solve = Callable[[Tensor], Tensor]


def triangles(
    A: Tensor, ridge: float, jitter: float = 0.0, *, frugal: bool = False
) -> Triangles | None:
    """A + ridge, in the memory of A, and its factor; None where it is not positive definite.

    Where there is no factor, A is left as it was. A ``frugal`` factor takes no memory of its own on
    any number of cores, where another would be faster.
    """
    in_place = A.device.type == "cpu" if frugal else on_one_core(A)
    kinds: list[type[Triangles]] = [InPlace if in_place else OutOfPlace]
    if A.dtype == torch.float64 and len(A) >= _LARGE and double_is_slow(A.device):
        kinds.insert(0, Refined)
    for kind in kinds:
        with suppress(torch.linalg.LinAlgError):
            return kind(A, ridge, jitter)
    return None


@cache
def double_is_slow(device: torch.device) -> bool:
    """Whether float64 takes more than eight times as long as float32 there, measured once.

    A refined solve makes a few products with A in float64 in place of a factor of A. On a CPU the
    ratio is two, and a factor in the memory of A is better.
    """
    if device.type == "cpu":
        return False
    return _seconds(torch.float64, device) > _SLOW * _seconds(torch.float32, device)


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Of a product of matrices, the best of a few."""
    A = torch.ones((_LARGE, _LARGE), dtype=dtype, device=device)
    times = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        float((A @ A)[0, 0])  # which waits for the device
        times.append(time.perf_counter() - start)
    return min(times)


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


def _factor(A: Tensor) -> Tensor | None:
    """L of A = LLᵀ, or None; the device is asked once."""
    L, info = torch.linalg.cholesky_ex(A)
    return L if bool((info == 0) & L[-1, -1].isfinite()) else None


def _by_inverse(L: Tensor) -> Solve:
    """b ↦ (LLᵀ)⁻¹b by products with L⁻¹, which a device does at once, and substitutions row by row.

    Both are stable in the norm: what rounding leaves is a multiple of the condition number.
    """
    identity = torch.eye(len(L), dtype=L.dtype, device=L.device)
    inverse = torch.linalg.solve_triangular(L, identity, upper=False)
    return lambda b: inverse.mT @ (inverse @ b)


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
