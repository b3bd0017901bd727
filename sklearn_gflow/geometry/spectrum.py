"""f(G)·r for the Gram G = DDᵀ: back ends, rank, projector, D⁺. The only home of ``rcond``.

Everything that the flows ask of G is one scalar function f on its spectrum, zero on its kernel.
`factorize` prepares G (or DᵀD, or D itself) once; the result then applies any f any number of
times: ``lift`` is Dᵀ f(G) r, ``project`` is P r. Since Dᵀ f(DDᵀ) = f(DᵀD) Dᵀ, the smaller of the
two matrices will do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.geometry.output_map import Linearization, Tangent

__all__ = [
    "PSEUDOINVERSE",
    "SOLVERS",
    "FactorizationError",
    "GramFunction",
    "Spectrum",
    "TangentFactor",
    "factorize",
    "gram_spectrum",
    "relative_threshold",
    "tangent_spectrum",
    "working_bytes",
]

SOLVERS = ("auto", "cholesky", "eigh", "svd")

# Accepted relative residual of a solve that needed a shifted factor.
_CERTIFIED_RESIDUAL = 1e-8
_JITTERS = (1e2, 1e3, 1e4)  # times eps times the mean of the diagonal
_REFINEMENTS = 3
_ESTIMATE_ITERATIONS = 4


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
        """F at the given positive eigenvalues."""
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


def relative_threshold(
    rcond: float | None, dtype: torch.dtype, size: int, *, squared: bool
) -> float:
    """Singular values of D up to this multiple of the largest count as zero.

    Eigenvalues of G = DDᵀ carry an absolute error of about size·eps·λ_max, so σ = √λ is not
    resolved below √(size·eps)·σ_max; singular values of D itself are, down to size·eps.

    Parameters
    ----------
    rcond : float or None
        The user's choice; None follows dtype and size. What cannot be resolved counts as zero
        whatever the choice.
    dtype : torch.dtype
        Of D.
    size : int
        The larger dimension of the matrix that is decomposed.
    squared : bool
        Whether G (or DᵀD) is decomposed; otherwise D.

    Returns
    -------
    float
        Threshold on singular values of D; its square is the one on eigenvalues of G.
    """
    noise = size * torch.finfo(dtype).eps
    resolved = math.sqrt(noise) if squared else noise
    return resolved if rcond is None else max(rcond, resolved)


def gram_spectrum(gram: Tensor, *, rcond: float | None = None) -> Spectrum:
    """Eigenvalues, rank and condition of a Gram matrix.

    Parameters
    ----------
    gram : Tensor of shape (m, m)
        Symmetric, positive semidefinite.
    rcond : float or None
        See `relative_threshold`.

    Returns
    -------
    Spectrum
        Eigenvalues descending; the condition is λ_max/λ_min over the eigenvalues that count.
    """
    ascending = torch.linalg.eigvalsh(gram)
    threshold = relative_threshold(rcond, gram.dtype, len(gram), squared=True)
    return _summarize(ascending.flip(0), threshold)


def tangent_spectrum(
    linearization: Linearization | Tangent,
    *,
    gram: Tensor | None = None,
    rcond: float | None = None,
) -> Spectrum:
    """All Q·N eigenvalues of G = DDᵀ, rank and condition, through the smaller of DDᵀ and DᵀD.

    Parameters
    ----------
    linearization : Linearization or Tangent
        D at one θ.
    gram : Tensor of shape (Q·N, Q·N), optional
        G, where it is at hand.
    rcond : float or None
        See `relative_threshold`.

    Returns
    -------
    Spectrum
    """
    size, n_params = linearization.outputs.numel(), linearization.n_params
    if size <= n_params:
        return gram_spectrum(linearization.gram() if gram is None else gram, rcond=rcond)
    D = linearization.jacobian()
    spectrum = gram_spectrum(D.mT @ D, rcond=rcond)
    missing = spectrum.eigenvalues.new_zeros(size - n_params)
    return spectrum._replace(eigenvalues=torch.cat([spectrum.eigenvalues, missing]))


def _summarize(descending: Tensor, threshold: float) -> Spectrum:
    largest = float(descending[0])
    rank = int((descending > threshold**2 * largest).sum()) if largest > 0 else 0
    condition = largest / float(descending[rank - 1]) if rank else math.inf
    return Spectrum(descending, rank, condition, threshold)


# -- Factors of one symmetric positive semidefinite matrix A ---------------------------------


class _Eigh:
    """A = V diag(λ) Vᵀ on its range: any f, rank revealed. The ridge enters f alone."""

    def __init__(self, A: Tensor, threshold: float, ridge: float) -> None:
        eigenvalues, V, self.name = _eigh_somewhere(A)
        _, self.rank, self.condition, _ = _summarize(eigenvalues.flip(0), threshold)
        start = len(eigenvalues) - self.rank
        self.eigenvalues, self.V, self.ridge = eigenvalues[start:], V[:, start:], ridge

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A + ridge)·b on the range of A."""
        return _diagonal_in(self.V, f(self.eigenvalues + self.ridge), self.V, b)

    def solve(self, b: Tensor) -> Tensor:
        """A⁺b."""
        return _diagonal_in(self.V, 1 / self.eigenvalues, self.V, b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁺b."""
        return self.V @ (self.V.mT @ b)


class _Cholesky:
    """A + ridge = LLᵀ, of full rank by the threshold: the pseudoinverse part of f alone.

    The condition is an estimate from below, by a few steps of power and inverse iteration.
    """

    def __init__(self, A: Tensor, L: Tensor, name: str, condition: float) -> None:
        self.A, self.L, self.name, self.condition = A, L, name, condition
        self.rank: float = len(L)

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A)·b for an f without a smooth part."""
        if f.smooth is not None:
            raise ValueError("a Cholesky factor applies multiples of the inverse only")
        return f.inverse * self.solve(b)

    def solve(self, b: Tensor) -> Tensor:
        """A⁻¹b."""
        return _cholesky_solve(self.L, b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁻¹b = b."""
        return b


class _ShiftedCholesky(_Cholesky):
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

    def residual(self, b: Tensor) -> float:
        """|b − A·solve(b)|/|b|."""
        size = torch.linalg.vector_norm(b)
        return float(torch.linalg.vector_norm(b - self.A @ self.solve(b)) / size)


_SymmetricFactor = _Eigh | _Cholesky


def _diagonal_in(left: Tensor, values: Tensor, right: Tensor, b: Tensor) -> Tensor:
    """left · diag(values) · rightᵀ · b, of a vector or of columns."""
    return left @ (values.view(-1, *[1] * (b.ndim - 1)) * (right.mT @ b))


def _cholesky_solve(L: Tensor, b: Tensor) -> Tensor:
    # Two triangular solves: for one right-hand side about ten times faster than potrs.
    half = torch.linalg.solve_triangular(L, b[:, None], upper=False)
    return torch.linalg.solve_triangular(L.mT, half, upper=True)[:, 0]


def _eigh_somewhere(A: Tensor) -> tuple[Tensor, Tensor, str]:
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
        low = torch.nn.functional.normalize(_cholesky_solve(L, low), dim=0)
    half = L.mT @ low  # lowᵀ A low = |Lᵀ low|², free of cancellation
    return float(half @ half), float(high @ (A @ high))


def _factor_symmetric(
    A: Tensor, probe: Tensor, *, solver: str, threshold: float, ridge: float
) -> _SymmetricFactor:
    """Climb the ladder: Cholesky, shifted Cholesky (where asked for by name), eigenvectors."""
    if solver != "eigh":
        factor = _cholesky(A, threshold, ridge)
        if factor is None and solver == "cholesky":
            factor = _shifted_cholesky(A, probe, ridge)
        if factor is not None:
            return factor
    return _Eigh(A, threshold, ridge)


def _cholesky(A: Tensor, threshold: float, ridge: float) -> _Cholesky | None:
    A = _shift(A, ridge)
    L, info = torch.linalg.cholesky_ex(A)
    if int(info):
        return None
    smallest, largest = _extreme_eigenvalues(A, L)
    if not smallest > threshold**2 * largest:
        return None
    return _Cholesky(A, L, "cholesky", largest / smallest)


def _shifted_cholesky(A: Tensor, probe: Tensor, ridge: float) -> _Cholesky | None:
    A = _shift(A, ridge)
    unit = float(A.diagonal().mean()) * torch.finfo(A.dtype).eps
    for jitter in _JITTERS:
        L, info = torch.linalg.cholesky_ex(_shift(A, jitter * unit))
        if int(info) == 0:
            factor = _ShiftedCholesky(A, L, "cholesky with jitter")
            if factor.residual(probe) <= _CERTIFIED_RESIDUAL:
                return factor
    return None


def _shift(A: Tensor, amount: float) -> Tensor:
    if amount == 0:
        return A
    shifted = A.clone()
    shifted.diagonal().add_(amount)
    return shifted


# -- Factors of D at one θ -------------------------------------------------------------------


class TangentFactor(ABC):
    """D at one θ, ready for any f: Dᵀ f(G) r and P r.

    Attributes
    ----------
    solver : str
        What was used, fallbacks included.
    rank : float
        Rank of D by the threshold; NaN where the back end does not see it.
    condition : float
        λ_max/λ_min of G over its range; an estimate from below for Cholesky.
    """

    solver: str
    rank: float
    condition: float

    @abstractmethod
    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        """Dᵀ f(DDᵀ) r, shape (K,), of r, shape (Q·N,). With f = 1/λ: D⁺r."""

    @abstractmethod
    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        """f(DDᵀ) r on the range of D; of a vector, shape (Q·N,), or of columns."""

    @abstractmethod
    def project(self, r: Tensor) -> Tensor:
        """P r = DD⁺r (A.8); of a vector, shape (Q·N,), or of columns."""


class _RowSide(TangentFactor):
    """Through G = DDᵀ, for Q·N ≤ K."""

    def __init__(self, tangent: Tangent, factor: _SymmetricFactor) -> None:
        self.tangent, self.factor = tangent, factor
        self.solver, self.rank, self.condition = factor.name, factor.rank, factor.condition

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.tangent.pull(self.factor.apply(f, r))

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, r)

    def project(self, r: Tensor) -> Tensor:
        return self.factor.project(r)


class _ParameterSide(TangentFactor):
    """Through DᵀD, for K < Q·N: Dᵀ f(DDᵀ) = f(DᵀD) Dᵀ."""

    def __init__(self, D: Tensor, factor: _SymmetricFactor) -> None:
        self.D, self.factor = D, factor
        self.solver = f"{factor.name} of DᵀD"
        self.rank, self.condition = factor.rank, factor.condition

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, self.D.mT @ r)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        # f(DDᵀ)r = D f(DᵀD) (DᵀD)⁺ Dᵀr for r in the range of D.
        return self.D @ self.factor.apply(f, self.factor.solve(self.D.mT @ r))

    def project(self, r: Tensor) -> Tensor:
        return self.D @ self.factor.solve(self.D.mT @ r)


class _Svd(TangentFactor):
    """Through D = U diag(σ) Vᵀ: resolves σ down to eps·σ_max instead of its root."""

    def __init__(self, D: Tensor, rcond: float | None, ridge: float) -> None:
        U, sigma, Vh = torch.linalg.svd(D, full_matrices=False)
        threshold = relative_threshold(rcond, D.dtype, max(D.shape), squared=False)
        _, self.rank, self.condition, _ = _summarize(sigma.square(), threshold)
        self.U, self.sigma, self.Vh = U[:, : self.rank], sigma[: self.rank], Vh[: self.rank]
        self.ridge, self.solver = ridge, "svd"

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        values = self.sigma * f(self.sigma.square() + self.ridge)
        return _diagonal_in(self.Vh.mT, values, self.U, r)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return _diagonal_in(self.U, f(self.sigma.square() + self.ridge), self.U, r)

    def project(self, r: Tensor) -> Tensor:
        return self.U @ (self.U.mT @ r)


def factorize(
    tangent: Tangent,
    probe: Tensor,
    *,
    solver: str = "auto",
    inverse_only: bool = False,
    rcond: float | None = None,
    ridge: float = 0.0,
) -> TangentFactor:
    """Prepare f(G) for D at one θ.

    Parameters
    ----------
    tangent : Tangent
        x(θ) and D.
    probe : Tensor of shape (Q·N,)
        A vector that f(G) will be applied to, the residual for instance; a shifted factor
        must solve for it before it is accepted.
    solver : {"auto", "cholesky", "eigh", "svd"}
        "auto" and "cholesky" try a Cholesky factorisation where ``inverse_only`` allows it and
        turn to eigenvectors where D has not full rank; "cholesky" first tries a jitter of 1e2, 1e3
        and 1e4 times eps times the mean of the diagonal, with the residual as the judge.
        G is used for Q·N ≤ K, else DᵀD. "svd" decomposes D.
    inverse_only : bool
        Whether f will be a multiple of 1/λ, as it is at α = 1.
    rcond : float or None
        Relative threshold on singular values of D, see `relative_threshold`.
    ridge : float
        Added to the eigenvalues of G before f; absolute.

    Returns
    -------
    TangentFactor

    Raises
    ------
    FactorizationError
        If eigenvectors could not be had in any precision on any device.
    """
    size, n_params = tangent.outputs.numel(), tangent.n_params
    dtype = tangent.outputs.dtype
    if solver == "svd":
        try:
            return _Svd(tangent.jacobian(), rcond, ridge)
        except torch.linalg.LinAlgError:
            fallback = factorize(tangent, probe, solver="eigh", rcond=rcond, ridge=ridge)
            fallback.solver = f"svd → {fallback.solver}"
            return fallback
    threshold = relative_threshold(rcond, dtype, min(size, n_params), squared=True)
    method = solver if inverse_only else "eigh"
    if size <= n_params:
        G = tangent.gram()
        return _RowSide(
            tangent,
            _factor_symmetric(G, probe, solver=method, threshold=threshold, ridge=ridge),
        )
    D = tangent.jacobian()
    if ridge:  # the projector of a damped Cholesky factor of DᵀD would be damped too
        method = "eigh"
    return _ParameterSide(
        D,
        _factor_symmetric(D.mT @ D, D.mT @ probe, solver=method, threshold=threshold, ridge=ridge),
    )


def working_bytes(size: int, n_params: int, itemsize: int, solver: str) -> int:
    """Peak memory of `factorize`, in bytes: its matrix, the factor, and scratch of that size.

    Parameters
    ----------
    size : int
        Q·N.
    n_params : int
        K.
    itemsize : int
        Bytes of one number.
    solver : str
        As in `factorize`.
    """
    jacobian = size * n_params
    if solver == "svd":
        return 3 * itemsize * jacobian
    if size <= n_params:
        return 3 * itemsize * size**2
    return itemsize * (jacobian + 3 * n_params**2)
