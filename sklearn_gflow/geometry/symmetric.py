"""Factors of one symmetric positive semidefinite matrix A: f(A)·b, rank, condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import scipy.linalg
import torch
from torch import Tensor

from sklearn_gflow.geometry.vectors import norm

__all__ = [
    "Cholesky",
    "Eigh",
    "FactorizationError",
    "GramFunction",
    "Lanczos",
    "Spectrum",
    "SymmetricFactor",
    "ascending_eigenvalues",
    "diagonal_in",
    "eigh_somewhere",
    "factor_symmetric",
    "rational_series",
    "summarize",
]

# Accepted relative residual of a solve that needed a shifted factor.
_CERTIFIED_RESIDUAL = 1e-8
_JITTERS = (1e2, 1e3, 1e4)  # times eps times the mean of the diagonal
_REFINEMENTS = 3
_ESTIMATE_ITERATIONS = 2
_MIRROR_ROWS = 128
_AND_LANCZOS = " + lanczos"
_SMOOTH_TOLERANCE = 1e-10  # of smooth(A)·b, or the rounding of the dtype
_LANCZOS_CHECK = 8  # iterations between looks at the change
_AND_SERIES = " + rational series"
_SERIES_POLE = 8.0  # over the turn of f: 12 terms give six digits of (1 − e^{−λ})/λ, 23 ten
_SERIES_NODES = 64  # and as many terms at most


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
    """

    inverse: float
    smooth: Callable[[Tensor], Tensor] | None = None
    turn: float | None = None

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

    def times(self, b: Tensor) -> Tensor:
        """A·b, without the ridge."""
        return diagonal_in(self.V, self.eigenvalues, self.V, b)


class _InPlace:
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
        # LAPACK counts by columns: what it calls lower is the upper triangle of the rows.
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
        rows = self._symm(1.0, self.columns, b.numpy().T, side=True, lower=False)  # bᵀA
        return torch.from_numpy(rows.T)

    def solve(self, b: Tensor) -> Tensor:
        """(A + ridge + jitter)⁻¹b of a vector, or of columns."""
        self._show(self.diagonal_of_L)
        return _cholesky_solve(self.L, b)

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


class _OutOfPlace:
    """A, and L of A + jitter = LLᵀ, by torch: what `_InPlace` is on one core of a CPU."""

    def __init__(self, A: Tensor, ridge: float, jitter: float) -> None:
        self.A, self.original = A, A.diagonal().clone()
        A.diagonal().add_(ridge)
        L = self.shifted(jitter)
        if L is None:
            self.restore()
            raise torch.linalg.LinAlgError("not positive definite")
        self.L = L

    def times(self, b: Tensor) -> Tensor:
        return self.A @ b

    def solve(self, b: Tensor) -> Tensor:
        return _cholesky_solve(self.L, b)

    def shifted(self, amount: float) -> Tensor | None:
        L, info = torch.linalg.cholesky_ex(_shift(self.A, amount))
        return None if int(info) else L

    def restore(self) -> Tensor:
        self.A.diagonal().copy_(self.original)
        return self.A


_Triangles = _InPlace | _OutOfPlace


class Cholesky:
    """A = LLᵀ, of full rank by the threshold; any f, the smooth part by Lanczos or a series.

    With a ridge in A, the full rank is the ridge's: the rank of A without it stays unknown (NaN).

    Parameters
    ----------
    triangles : _InPlace or _OutOfPlace
        The matrix, ridge included, and its factor.
    name : str
        Of the back end.
    ridge : float
        What A holds besides the Gram.
    once : bool
        f of each vector is asked for once: a series then costs less than a Krylov space, which
        serves all f of one vector.
    """

    def __init__(
        self, triangles: _Triangles, name: str, ridge: float = 0.0, *, once: bool = False
    ) -> None:
        self.triangles, self.name, self.ridge, self.once = triangles, name, ridge, once
        self.rank: float = math.nan if ridge else len(triangles.L)
        self._krylov: Lanczos | None = None

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """(λ_min from above, λ_max from below), by a few steps of inverse and power iteration."""
        return _extreme_eigenvalues(self.triangles)

    @property
    def condition(self) -> float:
        """λ_max/λ_min, estimated from below."""
        smallest, largest = self.extremes
        return largest / smallest

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A)·b of a vector, or of columns."""
        solved = f.inverse * self.solve(b) if f.inverse else torch.zeros_like(b)
        return solved if f.smooth is None else solved + self._smooth(f, b)

    def _smooth(self, f: GramFunction, b: Tensor) -> Tensor:
        assert f.smooth is not None
        if self.once and f.turn is not None:
            series = rational_series(self.triangles, f.smooth, f.turn, b)
            if series is not None:
                self._used(_AND_SERIES)
                return series
        if b.ndim > 1:
            return torch.stack([self._smooth(f, column) for column in b.mT], dim=1)
        if self._krylov is None or not torch.equal(self._krylov.b, b):
            self._krylov = Lanczos(self.triangles.times, b)
            self._used(_AND_LANCZOS)
        return self._krylov.apply(f.smooth)

    def _used(self, method: str) -> None:
        self.name = self.name.removesuffix(method) + method

    def solve(self, b: Tensor) -> Tensor:
        """A⁻¹b."""
        return self.triangles.solve(b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁻¹b = b; with a ridge (A − ridge)A⁻¹b, what ridge regression fits to b."""
        return b - self.ridge * self.solve(b) if self.ridge else b

    def times(self, b: Tensor) -> Tensor:
        """A·b, without the ridge."""
        product = self.triangles.times(b)
        return product.sub_(b, alpha=self.ridge) if self.ridge else product


def rational_series(
    triangles: _Triangles, f: Callable[[Tensor], Tensor], turn: float, b: Tensor
) -> Tensor | None:
    """f(A)·b by Chebyshev polynomials in y = (σ − λ)/(σ + λ), σ = 8·turn; b may have columns.

    y takes all λ ≥ 0 to (−1, 1], so that the number of terms follows from f and the precision
    and not from the spectrum of A (rational Chebyshev functions, Boyd 1987). Each is a solve
    with one Cholesky factor of A + σ.

    Parameters
    ----------
    triangles : _InPlace or _OutOfPlace
        Of A.
    f : callable
        λ ↦ f(λ), bounded on λ ≥ 0, falling from about λ = turn.
    turn : float
        That λ.
    b : Tensor of shape (m,) or (m, k)
        Vectors.

    Returns
    -------
    Tensor like b, or None
        None where the series is too long, or A + σ is not positive definite.
    """
    sigma = _SERIES_POLE * turn
    weights = _chebyshev_coefficients(lambda y: f(sigma * (1 - y) / (1 + y)), _tolerance(b.dtype))
    L = triangles.shifted(sigma) if weights else None
    if L is None:
        return None

    def times_y(v: Tensor) -> Tensor:  # (σ − A)(σ + A)⁻¹ = 2σ(σ + A)⁻¹ − 1
        return _cholesky_solve(L, v).mul_(2 * sigma).sub_(v)

    previous, current = b, times_y(b)
    total = weights[0] * previous + weights[1] * current
    for weight in weights[2:]:  # T_{k+1}(y) = 2y T_k(y) − T_{k−1}(y)
        previous, current = current, times_y(current).mul_(2).sub_(previous)
        total.add_(current, alpha=weight)
    return total


@cache
def _chebyshev_nodes() -> tuple[Tensor, Tensor]:
    """Nodes y_j = cos θ_j, and cos kθ_j, which takes values there to coefficients."""
    angles = (torch.arange(_SERIES_NODES, dtype=torch.float64) + 0.5) * math.pi / _SERIES_NODES
    transform = torch.cos(torch.outer(torch.arange(_SERIES_NODES, dtype=torch.float64), angles))
    transform *= 2 / _SERIES_NODES
    transform[0] /= 2
    return torch.cos(angles), transform


def _chebyshev_coefficients(g: Callable[[Tensor], Tensor], tolerance: float) -> list[float]:
    """Of g on [−1, 1], two at least, up to the tolerance times its size; none if too many."""
    nodes, transform = _chebyshev_nodes()
    coefficients = transform @ g(nodes)
    counts = (coefficients.abs() > tolerance * coefficients.abs().max()).nonzero()
    length = int(counts[-1]) + 1 if len(counts) else 0
    # A tail that reaches the last nodes is no tail: higher terms hide in it.
    return coefficients[: max(length, 2)].tolist() if 0 < length <= _SERIES_NODES // 2 else []


def _tolerance(dtype: torch.dtype) -> float:
    return max(_SMOOTH_TOLERANCE, 100 * torch.finfo(dtype).eps)


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
        tolerance: float = _SMOOTH_TOLERANCE,
        largest: int | None = None,
    ) -> None:
        self.product, self.b = product, b
        self.size = norm(b)
        self.tolerance = max(tolerance, _tolerance(b.dtype))
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
            beta = norm(w)
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
    size = norm(after)
    return norm(difference) / size if size else 0.0


class _ShiftedCholesky(Cholesky):
    """A + jitter = LLᵀ, the jitter taken out again by refinement against A.

    A solution u of Au = b that passes the residual test gives Dᵀu = D⁺b: it lies in ran Dᵀ,
    where D is injective. The residual is the certificate; the rank stays unknown (NaN).
    """

    def __init__(self, triangles: _Triangles, name: str) -> None:
        super().__init__(triangles, name)
        self.rank = math.nan

    @property
    def condition(self) -> float:
        """Unknown: the factor is that of another matrix."""
        return math.nan

    def solve(self, b: Tensor) -> Tensor:
        """A⁺b for b in the range of A."""
        u = self.triangles.solve(b)
        for _ in range(_REFINEMENTS):
            u = u + self.triangles.solve(b - self.triangles.times(u))
        return u

    def project(self, b: Tensor) -> Tensor:
        """AA⁺b: A takes out what the shifted solve puts into its kernel."""
        return self.triangles.times(self.solve(b))

    def residual(self, b: Tensor) -> float:
        """|b − A·solve(b)|/|b|."""
        size = torch.linalg.vector_norm(b)
        return float(torch.linalg.vector_norm(b - self.project(b)) / size)


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
            eigenvalues, V = _eigh(A.to(device=device, dtype=dtype))
        except (torch.linalg.LinAlgError, scipy.linalg.LinAlgError) as error:
            failures.append(f"{name}: {error}")
        else:
            return eigenvalues.to(A), V.to(A), name
    raise FactorizationError("; ".join(failures))


def _eigh(A: Tensor) -> tuple[Tensor, Tensor]:
    """Λ, V of A = VΛVᵀ; on one core SciPy's LAPACK takes about two thirds of the time."""
    if not _on_one_core(A):
        return torch.linalg.eigh(A)
    eigenvalues, V = scipy.linalg.eigh(A.numpy(), driver="evd", check_finite=False)
    return torch.from_numpy(eigenvalues), torch.from_numpy(V)


def ascending_eigenvalues(A: Tensor) -> Tensor:
    """Eigenvalues of A."""
    if not _on_one_core(A):
        return torch.linalg.eigvalsh(A)
    ascending = scipy.linalg.eigh(A.numpy(), eigvals_only=True, driver="evr", check_finite=False)
    return torch.from_numpy(ascending)


def _extreme_eigenvalues(triangles: _Triangles) -> tuple[float, float]:
    """Estimates of λ_min (from above) and λ_max (from below) of A = LLᵀ."""
    L = triangles.L
    start = torch.cos(torch.arange(len(L), dtype=L.dtype, device=L.device))
    high = low = start / torch.linalg.vector_norm(start)
    for _ in range(_ESTIMATE_ITERATIONS):
        high = torch.nn.functional.normalize(triangles.times(high), dim=0)
    for _ in range(_ESTIMATE_ITERATIONS):
        solved = triangles.solve(low)
        smallest = float(low @ solved) / float(solved @ solved)  # Rayleigh quotient of A⁻¹low
        low = torch.nn.functional.normalize(solved, dim=0)
    return smallest, float(high @ triangles.times(high))


def factor_symmetric(
    A: Tensor, probe: Tensor, *, solver: str, threshold: float, ridge: float, once: bool = False
) -> SymmetricFactor:
    """Climb the ladder: Cholesky, shifted Cholesky (where asked for by name), eigenvectors.

    A is overwritten: a Cholesky factor takes its memory.
    """
    if not math.isfinite(float(A.trace())):
        raise FactorizationError("its diagonal holds numbers that are not finite")
    if solver != "eigh":
        factor = _cholesky(A, threshold, ridge, once=once)
        if factor is None and solver == "cholesky":
            factor = _shifted_cholesky(A, probe, ridge)
        if factor is not None:
            return factor
    return Eigh(A, threshold, ridge)


def _cholesky(A: Tensor, threshold: float, ridge: float, *, once: bool) -> Cholesky | None:
    """The factor at full rank; otherwise None, and A is what it was."""
    trace = float(A.trace()) + ridge * len(A)
    triangles = _triangles(A, ridge)
    if triangles is None:
        return None
    factor = Cholesky(triangles, "cholesky", ridge, once=once)
    # λ_min ≥ ridge and λ_max ≤ tr A may say enough: then no estimate is made.
    if ridge > threshold**2 * trace:
        return factor
    smallest, largest = factor.extremes
    if smallest > threshold**2 * largest:
        return factor
    triangles.restore()
    return None


def _shifted_cholesky(A: Tensor, probe: Tensor, ridge: float) -> Cholesky | None:
    """The factor with the least jitter that solves for the probe; or None, and A is what it was."""
    unit = (float(A.diagonal().mean()) + ridge) * torch.finfo(A.dtype).eps
    for jitter in _JITTERS:
        triangles = _triangles(A, ridge, jitter * unit)
        if triangles is not None:
            factor = _ShiftedCholesky(triangles, "cholesky with jitter")
            if factor.residual(probe) <= _CERTIFIED_RESIDUAL:
                return factor
            triangles.restore()
    return None


def _triangles(A: Tensor, ridge: float, jitter: float = 0.0) -> _Triangles | None:
    """A + ridge, in the memory of A, and its factor; None where it is not positive definite."""
    try:
        return (_InPlace if _on_one_core(A) else _OutOfPlace)(A, ridge, jitter)
    except torch.linalg.LinAlgError:
        return None


def _on_one_core(A: Tensor) -> bool:
    """Whether SciPy's LAPACK may serve, which takes about two thirds of the time of torch's.

    On more cores the threads of the two libraries would wait for each other.
    """
    return A.device.type == "cpu" and torch.get_num_threads() == 1


def _factor_in_place(A: Tensor) -> bool:
    """Lᵀ of A = LLᵀ in place of the upper triangle, the rest untouched; whether there is one."""
    columns = A.numpy().T
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (columns,))
    _, info = potrf(columns, lower=True, clean=False, overwrite_a=True)
    return not info


def _mirror_lower(A: Tensor) -> None:
    """Copy the lower triangle of A onto the upper one, in panels that stay in cache."""
    for start in range(0, len(A), _MIRROR_ROWS):
        rows = slice(start, start + _MIRROR_ROWS)
        A[:start, rows] = A[rows, :start].mT
        square = A[rows, rows]
        square.copy_(square.tril() + square.tril(-1).mT)


def _shift(A: Tensor, amount: float) -> Tensor:
    if amount == 0:
        return A
    shifted = A.clone()
    shifted.diagonal().add_(amount)
    return shifted
