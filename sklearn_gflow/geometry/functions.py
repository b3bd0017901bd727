"""Functions of the Gram, and what is said of its eigenvalues: rank, condition.

A flow asks of G = DDᵀ for nothing but f(G)·r with a scalar f that is zero on the kernel of G
(docs/architecture.md, "One function of the Gram"). `GramFunction` is that f, `Spectrum` the
summary of eigenvalues, and `FactorizationError` says that they could not be had. The symbols are
those of docs/notation.md; A stands for any symmetric positive semidefinite matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "PSEUDOINVERSE",
    "SMOOTH_TOLERANCE",
    "FactorizationError",
    "GramFunction",
    "Spectrum",
    "diagonal_in",
    "smooth_tolerance",
    "summarize",
]

# Relative accuracy of smooth(A)·b, unless the rounding of the dtype is larger.
SMOOTH_TOLERANCE = 1e-10


class FactorizationError(ArithmeticError):
    """Every way of factorising the Gram failed; the message lists them."""


@dataclass(frozen=True)
class GramFunction:
    """f(λ) = inverse/λ + smooth(λ) on the range of G, 0 on its kernel.

    The two parts are told apart because a Cholesky factor can apply the first alone.

    Parameters
    ----------
    inverse : float
        Coefficient of 1/λ, the pseudoinverse.
    smooth : callable, optional
        λ ↦ smooth(λ), elementwise on a tensor of eigenvalues.
    turn : float, optional
        About the λ from which smooth(λ) falls. Where it is known, and smooth is as tame as
        (1 − e^{−λ/turn})/λ, a series in 1/(λ + 8·turn) can stand for it.
    profile : (float, callable), optional
        (a, φ) with smooth(λ) = a·φ(λ/turn): the coefficients of that series are then a times those
        of φ, which are computed once for all steps.
    """

    inverse: float
    smooth: Callable[[Tensor], Tensor] | None = None
    turn: float | None = None
    profile: tuple[float, Callable[[Tensor], Tensor]] | None = None

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Evaluate f at the given positive eigenvalues."""
        values = self.inverse / eigenvalues
        return values if self.smooth is None else values + self.smooth(eigenvalues)


PSEUDOINVERSE = GramFunction(1.0)


class Spectrum(NamedTuple):
    """Eigenvalues of G, descending, with its rank and the condition number on its range.

    ``threshold`` is relative, on singular values of D: eigenvalues up to its square times the
    largest do not count towards the rank.
    """

    eigenvalues: Tensor
    rank: int
    condition: float
    threshold: float


def summarize(descending: Tensor, threshold: float) -> Spectrum:
    """Rank and condition of descending eigenvalues; the threshold is one on their square roots.

    Raises
    ------
    FactorizationError
        If an eigenvalue is not finite: no rank can be read off it.
    """
    if not bool(descending.isfinite().all()):
        raise FactorizationError("its eigenvalues are not finite")
    largest = float(descending[0])
    rank = int((descending > threshold**2 * largest).sum()) if largest > 0 else 0
    condition = largest / float(descending[rank - 1]) if rank else math.inf
    return Spectrum(descending, rank, condition, threshold)


def diagonal_in(left: Tensor, values: Tensor, right: Tensor, b: Tensor) -> Tensor:
    """left · diag(values) · rightᵀ · b, of a vector or of columns."""
    return left @ (values.view(-1, *[1] * (b.ndim - 1)) * (right.mT @ b))


def smooth_tolerance(dtype: torch.dtype) -> float:
    """Relative accuracy that smooth(A)·b can have in a precision."""
    return max(SMOOTH_TOLERANCE, 100 * torch.finfo(dtype).eps)
