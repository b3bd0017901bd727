"""Factors of one symmetric positive semidefinite matrix A: f(A)·b, rank, condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import scipy.linalg
import torch
from torch import Tensor

__all__ = [
    "Cholesky",
    "Eigh",
    "FactorizationError",
    "GramFunction",
    "Lanczos",
    "Spectrum",
    "SymmetricFactor",
    "diagonal_in",
    "eigh_somewhere",
    "factor_symmetric",
    "summarize",
]

# Accepted relative residual of a solve that needed a shifted factor.
_CERTIFIED_RESIDUAL = 1e-8
_JITTERS = (1e2, 1e3, 1e4)  # times eps times the mean of the diagonal
_REFINEMENTS = 3
_ESTIMATE_ITERATIONS = 2
_AND_LANCZOS = " + lanczos"
_LANCZOS_TOLERANCE = 1e-10  # or the rounding of the dtype
_LANCZOS_CHECK = 8  # iterations between looks at the change


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
    """

    inverse: float
    smooth: Callable[[Tensor], Tensor] | None = None

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Evaluate f at the given positive eigenvalues."""
        values = self.inverse / eigenvalues
        return values if self.smooth is None else values + self.smooth(eigenvalues)


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
    """Rank and condition of descending eigenvalues; the threshold is on their roots."""
    largest = float(descending[0])
    rank = int((descending > threshold**2 * largest).sum()) if largest > 0 else 0
    condition = largest / float(descending[rank - 1]) if rank else math.inf
    return Spectrum(descending, rank, condition, threshold)


class Eigh:
    """A = V diag(λ) Vᵀ on its range: any f, rank revealed. The ridge enters f alone."""

    def __init__(self, A: Tensor, threshold: float, ridge: float) -> None:
        eigenvalues, V, self.name = eigh_somewhere(A)
        _, self.rank, self.condition, _ = summarize(eigenvalues.flip(0), threshold)
        start = len(eigenvalues) - self.rank
        self.eigenvalues, self.V, self.ridge = eigenvalues[start:], V[:, start:], ridge

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A + ridge)·b on the range of A."""
        return diagonal_in(self.V, f(self.eigenvalues + self.ridge), self.V, b)

    def solve(self, b: Tensor) -> Tensor:
        """A⁺b."""
        return diagonal_in(self.V, 1 / self.eigenvalues, self.V, b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁺b."""
        return self.V @ (self.V.mT @ b)


class Cholesky:
    """A = LLᵀ, of full rank by the threshold; any f of a vector, the smooth part by Lanczos.

    The condition is an estimate from below, by a few steps of power and inverse iteration.
    With a ridge in A, the full rank is the ridge's: the rank of A without it stays unknown (NaN).
    """

    def __init__(
        self, A: Tensor, L: Tensor, name: str, condition: float, ridge: float = 0.0
    ) -> None:
        self.A, self.L, self.name, self.condition, self.ridge = A, L, name, condition, ridge
        self.rank: float = math.nan if ridge else len(L)
        self._krylov: Lanczos | None = None

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A)·b of a vector, or of columns; several f of one vector share one Krylov space."""
        if b.ndim > 1 and f.smooth is not None:
            return torch.stack([self.apply(f, column) for column in b.mT], dim=1)
        solved = f.inverse * self.solve(b) if f.inverse else torch.zeros_like(b)
        if f.smooth is None:
            return solved
        if self._krylov is None or not torch.equal(self._krylov.b, b):
            self._krylov = Lanczos(self.A.mv, b)
            self.name = f"{self.name.removesuffix(_AND_LANCZOS)}{_AND_LANCZOS}"
        return solved + self._krylov.apply(f.smooth)

    def solve(self, b: Tensor) -> Tensor:
        """A⁻¹b."""
        return _cholesky_solve(self.L, b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁻¹b = b; with a ridge (A − ridge)A⁻¹b, what ridge regression fits to b."""
        return b - self.ridge * self.solve(b) if self.ridge else b


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

    Attributes
    ----------
    change : float
        Of the last result; above the tolerance if the space was not allowed to grow further.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        b: Tensor,
        *,
        tolerance: float = _LANCZOS_TOLERANCE,
        largest: int | None = None,
    ) -> None:
        self.product, self.b = product, b
        self.size = float(torch.linalg.vector_norm(b))
        self.tolerance = max(tolerance, 100 * torch.finfo(b.dtype).eps)
        self.largest = len(b) if largest is None else min(largest, len(b))
        self.V = b.new_empty((min(_LANCZOS_CHECK, self.largest), len(b)))  # contiguous vectors
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.exhausted = self.size == 0
        self.change = 0.0
        if not self.exhausted:
            self.V[0] = b / self.size

    def apply(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """f(A)·b."""
        before = self._coefficients(f, len(self.diagonal) - _LANCZOS_CHECK)
        while True:
            coefficients = self._coefficients(f, len(self.diagonal))
            self.change = 0.0 if self.exhausted else _change(before, coefficients)
            if self.change <= self.tolerance or len(self.diagonal) == self.largest:
                break
            before = coefficients
            self._extend()
        return self.V[: len(coefficients)].mT @ coefficients

    def _coefficients(self, f: Callable[[Tensor], Tensor], k: int) -> Tensor:
        """|b|·f(T)e₁ for the tridiagonal T of k dimensions: f(A)·b in the basis."""
        if k <= 0:
            return self.b.new_empty(0)
        T = torch.diag(self.b.new_tensor(self.diagonal[:k]))
        off = self.b.new_tensor(self.off_diagonal[: k - 1])
        T += torch.diag(off, 1) + torch.diag(off, -1)
        ritz, S = torch.linalg.eigh(T)
        # Rounding can leave a Ritz value of a tiny eigenvalue at or below zero.
        tiny = torch.finfo(ritz.dtype).tiny
        return self.size * (S @ (f(ritz.clamp_min(tiny)) * S[0]))

    def _extend(self) -> None:
        """Some more steps; the basis ends where the space is invariant."""
        for _ in range(_LANCZOS_CHECK):
            k = len(self.diagonal)
            w = self.product(self.V[k])
            self.diagonal.append(float(w @ self.V[k]))
            basis = self.V[: k + 1]
            for _ in range(2):  # twice is enough (Kahan)
                w = w - basis.mT @ (basis @ w)
            beta = float(torch.linalg.vector_norm(w))
            floor = len(w) * torch.finfo(w.dtype).eps * max(self.diagonal)
            self.exhausted = beta <= floor or k + 1 == len(w)
            if self.exhausted or k + 1 == self.largest:
                return
            self.off_diagonal.append(beta)
            if k + 1 == len(self.V):
                more = min(len(self.V), self.largest - len(self.V))
                self.V = torch.cat([self.V, torch.empty_like(self.V[:more])])
            self.V[k + 1] = w / beta


def _change(before: Tensor, after: Tensor) -> float:
    """|after − before|/|after|, of coefficients in a growing basis."""
    if not len(before):
        return math.inf
    difference = after.clone()
    difference[: len(before)] -= before
    size = float(torch.linalg.vector_norm(after))
    return float(torch.linalg.vector_norm(difference)) / size if size else 0.0


class _ShiftedCholesky(Cholesky):
    """A + jitter = LLᵀ, the jitter taken out again by refinement against A.

    A solution u of Au = b that passes the residual test gives Dᵀu = D⁺b: it lies in ran Dᵀ,
    where D is injective. The residual is the certificate; the rank stays unknown (NaN).
    """

    def __init__(self, A: Tensor, L: Tensor, name: str) -> None:
        super().__init__(A, L, name, math.nan)
        self.rank = math.nan

    def solve(self, b: Tensor) -> Tensor:
        """A⁺b for b in the range of A."""
        u = _cholesky_solve(self.L, b)
        for _ in range(_REFINEMENTS):
            u = u + _cholesky_solve(self.L, b - self.A @ u)
        return u

    def project(self, b: Tensor) -> Tensor:
        """AA⁺b: A takes out what the shifted solve puts into its kernel."""
        return self.A @ self.solve(b)

    def residual(self, b: Tensor) -> float:
        """|b − A·solve(b)|/|b|."""
        size = torch.linalg.vector_norm(b)
        return float(torch.linalg.vector_norm(b - self.A @ self.solve(b)) / size)


SymmetricFactor = Eigh | Cholesky


def diagonal_in(left: Tensor, values: Tensor, right: Tensor, b: Tensor) -> Tensor:
    """left · diag(values) · rightᵀ · b, of a vector or of columns."""
    return left @ (values.view(-1, *[1] * (b.ndim - 1)) * (right.mT @ b))


def _cholesky_solve(L: Tensor, b: Tensor) -> Tensor:
    # Two triangular solves: for one right-hand side about ten times faster than potrs.
    half = torch.linalg.solve_triangular(L, b.view(len(b), -1), upper=False)
    return torch.linalg.solve_triangular(L.mT, half, upper=True).view_as(b)


def eigh_somewhere(A: Tensor) -> tuple[Tensor, Tensor, str]:
    """Eigendecomposition of A; in float64, then on the CPU, where the first try fails.

    Divide-and-conquer drivers have failed on low-rank float32 matrices, on CUDA above all.
    """
    attempts = [("eigh", A.dtype, A.device)]
    if A.dtype != torch.float64:
        attempts.append(("eigh in float64", torch.float64, A.device))
    if A.device.type != "cpu":
        attempts.append(("eigh in float64 on the CPU", torch.float64, torch.device("cpu")))
    failures = []
    for name, dtype, device in attempts:
        try:
            eigenvalues, V = torch.linalg.eigh(A.to(device=device, dtype=dtype))
        except torch.linalg.LinAlgError as error:
            failures.append(f"{name}: {error}")
        else:
            return eigenvalues.to(A), V.to(A), name
    raise FactorizationError("; ".join(failures))


def _extreme_eigenvalues(A: Tensor, L: Tensor) -> tuple[float, float]:
    """Estimates of λ_min (from above) and λ_max (from below) of A = LLᵀ."""
    start = torch.cos(torch.arange(len(A), dtype=A.dtype, device=A.device))
    high = low = start / torch.linalg.vector_norm(start)
    for _ in range(_ESTIMATE_ITERATIONS):
        high = torch.nn.functional.normalize(A @ high, dim=0)
        solved = _cholesky_solve(L, low)
        smallest = float(low @ solved) / float(solved @ solved)  # Rayleigh quotient of A⁻¹low
        low = torch.nn.functional.normalize(solved, dim=0)
    return smallest, float(high @ (A @ high))


def factor_symmetric(
    A: Tensor, probe: Tensor, *, solver: str, threshold: float, ridge: float
) -> SymmetricFactor:
    """Climb the ladder: Cholesky, shifted Cholesky (where asked for by name), eigenvectors."""
    if not bool(torch.isfinite(A.diagonal()).all()):
        raise FactorizationError("its diagonal holds numbers that are not finite")
    if solver != "eigh":
        factor = _cholesky(A, threshold, ridge)
        if factor is None and solver == "cholesky":
            factor = _shifted_cholesky(A, probe, ridge)
        if factor is not None:
            return factor
    return Eigh(A, threshold, ridge)


def _cholesky(A: Tensor, threshold: float, ridge: float) -> Cholesky | None:
    A = _shift(A, ridge)
    L = _triangle(A)
    if L is None:
        return None
    smallest, largest = _extreme_eigenvalues(A, L)
    if not smallest > threshold**2 * largest:
        return None
    return Cholesky(A, L, "cholesky", largest / smallest, ridge)


def _shifted_cholesky(A: Tensor, probe: Tensor, ridge: float) -> Cholesky | None:
    A = _shift(A, ridge)
    unit = float(A.diagonal().mean()) * torch.finfo(A.dtype).eps
    for jitter in _JITTERS:
        L = _triangle(_shift(A, jitter * unit))
        if L is not None:
            factor = _ShiftedCholesky(A, L, "cholesky with jitter")
            if factor.residual(probe) <= _CERTIFIED_RESIDUAL:
                return factor
    return None


def _triangle(A: Tensor) -> Tensor | None:
    """L of A = LLᵀ, its upper triangle undefined; None where A is not positive definite.

    On one core by SciPy's LAPACK, which takes about two thirds of the time of torch's. On more,
    the threads of the two libraries would wait for each other.
    """
    if A.device.type != "cpu" or torch.get_num_threads() > 1:
        L, info = torch.linalg.cholesky_ex(A)
        return None if int(info) else L
    columns = A.clone().numpy().T  # A is symmetric: LAPACK's column order costs no transposition
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (columns,))
    L, info = potrf(columns, lower=True, clean=False, overwrite_a=True)
    return None if info else torch.from_numpy(L)


def _shift(A: Tensor, amount: float) -> Tensor:
    if amount == 0:
        return A
    shifted = A.clone()
    shifted.diagonal().add_(amount)
    return shifted
