"""f(A)·b of one vector b from its Krylov space, for smooth f: the method of Lanczos.

A comes as products with vectors alone, so that the space serves a matrix, a Cholesky factor and
a tangent map alike. The symbols are those of docs/notation.md; V is an orthonormal basis of the
space, and the tridiagonal T = VᵀAV is what f is taken of.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sklearn_gflow.geometry.eigen import small_eigh
from sklearn_gflow.geometry.functions import SMOOTH_TOLERANCE, smooth_tolerance
from sklearn_gflow.geometry.vectors import norm, room_for

__all__ = ["Lanczos"]

# The change of the result is looked at after so many iterations.
_STRIDE = 8


class Lanczos:
    """f(A)·b from the Krylov space of A and b, for smooth f, with full reorthogonalisation.

    The space grows until the result stands still. Its superlinear convergence suits tangent
    kernels, whose few large eigenvalues are found first; f must not have its weight at the small
    ones, as 1/λ has.

    Parameters
    ----------
    product : callable
        v ↦ Av, A symmetric.
    b : Tensor of shape (m,)
        A vector.
    tolerance : float
        Relative change over the last few dimensions at which the result stands still; not below
        the rounding of the dtype.
    largest : int, optional
        Bound on the dimension of the space, by default m.
    stride : int
        By so many dimensions the space grows before the change of the result is looked at.

    Attributes
    ----------
    change : float
        Of the last result; above the tolerance if the space was not allowed to grow further, NaN
        if the result is.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        b: Tensor,
        *,
        tolerance: float = SMOOTH_TOLERANCE,
        largest: int | None = None,
        stride: int = _STRIDE,
    ) -> None:
        self.product, self.b, self.stride = product, b, stride
        self.size = norm(b)
        self.tolerance = max(tolerance, smooth_tolerance(b.dtype))
        self.largest = len(b) if largest is None else min(largest, len(b))
        # The basis has its vectors as rows, which are contiguous.
        self.V = room_for(b, min(stride, self.largest), axis=0)
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.exhausted = self.size == 0
        self.change = 0.0
        if not self.exhausted:
            self.V[0] = b / self.size

    def apply(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """f(A)·b; NaN where it is not finite.

        Raises
        ------
        FactorizationError
            If no eigenvalue routine succeeds on T.
        """
        before = self._coefficients(f, len(self.diagonal) - self.stride)
        while True:
            coefficients = self._coefficients(f, len(self.diagonal))
            if not bool(coefficients.isfinite().all()):
                self.change = math.nan
                return torch.full_like(self.b, math.nan)
            self.change = 0.0 if self.exhausted else _change(before, coefficients)
            if self.change <= self.tolerance or len(self.diagonal) == self.largest:
                break
            before = coefficients
            self._extend()
        return self.V[: len(coefficients)].mT @ coefficients.to(self.V.device)

    def _coefficients(self, f: Callable[[Tensor], Tensor], k: int) -> Tensor:
        """|b|·f(T)e₁ for the tridiagonal T of k dimensions: f(A)·b in the basis.

        NaN where a product with A, b itself or f is not finite. T is so small that it stays on the
        CPU, where its numbers are.
        """
        dtype = self.b.dtype
        if k <= 0:
            return torch.empty(0, dtype=dtype)
        if not all(map(math.isfinite, self.diagonal + self.off_diagonal)):
            return torch.full((k,), math.nan, dtype=dtype)
        T = torch.diag(torch.tensor(self.diagonal[:k], dtype=dtype))
        off = torch.tensor(self.off_diagonal[: k - 1], dtype=dtype)
        T += torch.diag(off, 1) + torch.diag(off, -1)
        ritz, S = small_eigh(T)
        # Rounding can leave a Ritz value of a tiny eigenvalue at or below zero.
        tiny = torch.finfo(ritz.dtype).tiny
        return self.size * (S @ (f(ritz.clamp_min(tiny)) * S[0]))

    def _extend(self) -> None:
        """Some more dimensions; the basis ends where the space is invariant.

        The numbers of T are read together, so that a device goes on without waiting for each.
        """
        first = len(self.diagonal)
        last = min(first + self.stride, self.largest)
        numbers = []
        for k in range(first, last):
            w = self.product(self.V[k])
            numbers.append(w @ self.V[k])
            basis = self.V[: k + 1]
            for _ in range(2):  # orthogonalising twice is enough (Kahan)
                w = w - basis.mT @ (basis @ w)
            beta = torch.linalg.vector_norm(w)
            numbers.append(beta)
            if k + 1 == self.largest:
                break
            if k + 1 == len(self.V):
                more = min(len(self.V), self.largest - len(self.V))
                self.V = torch.cat([self.V, torch.empty_like(self.V[:more])])
            self.V[k + 1] = w / beta
        self._take_in(torch.stack(numbers).tolist())

    def _take_in(self, numbers: list[float]) -> None:
        """Diagonal and off-diagonal of T in turn, up to where the space is invariant."""
        eps = torch.finfo(self.b.dtype).eps
        for alpha, beta in zip(numbers[::2], numbers[1::2], strict=True):
            self.diagonal.append(alpha)
            k = len(self.diagonal)
            floor = len(self.b) * eps * max(self.diagonal)
            self.exhausted = beta <= floor or k == len(self.b)
            if self.exhausted or k == self.largest:
                return
            self.off_diagonal.append(beta)


def _change(before: Tensor, after: Tensor) -> float:
    """|after − before|/|after|, of coefficients in a growing basis."""
    if not len(before):
        return math.inf
    difference = after.clone()
    difference[: len(before)] -= before
    size = norm(after)
    return norm(difference) / size if size else 0.0
