"""f(G)·r for the Gram G = DDᵀ: back ends, rank, projector, D⁺. The only home of ``rcond``.

Everything that the flows ask of G is one scalar function f on its spectrum, zero on its kernel.
`factorize` prepares G (or DᵀD, or D itself) once; the result then applies any f any number of
times: ``lift`` is Dᵀ f(G) r, ``project`` is P r. Since Dᵀ f(DDᵀ) = f(DᵀD) Dᵀ, the smaller of the
two matrices will do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from sklearn_gflow.geometry.krylov import Krylov, numbers_held
from sklearn_gflow.geometry.maps import Linearization, TangentMap
from sklearn_gflow.geometry.symmetric import (
    FactorizationError,
    GramFunction,
    Spectrum,
    SymmetricFactor,
    ascending_eigenvalues,
    diagonal_in,
    eigh_somewhere,
    factor_symmetric,
    summarize,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = [
    "PSEUDOINVERSE",
    "SOLVERS",
    "FactorizationError",
    "GramFunction",
    "Spectrum",
    "TangentFactor",
    "factorize",
    "forms_gram",
    "gram_eigenvectors",
    "gram_spectrum",
    "relative_threshold",
    "tangent_spectrum",
    "working_bytes",
]

SOLVERS = ("auto", "cholesky", "eigh", "svd", "shared", "krylov")

PSEUDOINVERSE = GramFunction(1.0)


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
    ascending = ascending_eigenvalues(gram)
    threshold = relative_threshold(rcond, gram.dtype, len(gram), squared=True)
    return summarize(ascending.flip(0), threshold)


def gram_eigenvectors(gram: Tensor, *, rcond: float | None = None) -> tuple[Tensor, Tensor]:
    """(Λ, V) of G = VΛVᵀ.

    Parameters
    ----------
    gram : Tensor of shape (m, m)
        Symmetric, positive semidefinite.
    rcond : float or None
        See `relative_threshold`.

    Returns
    -------
    eigenvalues : Tensor of shape (m,)
        Ascending; zero where they do not count towards the rank.
    vectors : Tensor of shape (m, m)
        Orthonormal columns.

    Raises
    ------
    FactorizationError
        If they could not be had in any precision on any device.
    """
    eigenvalues, V, _ = eigh_somewhere(gram)
    threshold = relative_threshold(rcond, gram.dtype, len(gram), squared=True)
    rank = summarize(eigenvalues.flip(0), threshold).rank
    eigenvalues[: len(eigenvalues) - rank] = 0
    return eigenvalues, V


def tangent_spectrum(
    linearization: Linearization | TangentMap,
    *,
    gram: Tensor | None = None,
    rcond: float | None = None,
) -> Spectrum:
    """All Q·N eigenvalues of G = DDᵀ, rank and condition, through the smaller of DDᵀ and DᵀD.

    Parameters
    ----------
    linearization : Linearization or TangentMap
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


# -- Factors of D at one θ -------------------------------------------------------------------


class TangentFactor(ABC):
    """D at one θ, ready for any f: Dᵀ f(G) r and P r.

    Attributes
    ----------
    rank : float
        Rank of D by the threshold; NaN where the back end does not see it.
    damped : bool
        Whether DD⁺ ≠ P: a ridge stands in f, and D⁺ is that of a ridge regression, or outputs
        share one kernel.
    tried : str
        Back ends that failed before.
    """

    rank: float
    damped: bool
    tried: str = ""
    factor: SymmetricFactor

    @property
    def condition(self) -> float:
        """λ_max/λ_min of G over its range; for Cholesky an estimate from below, made when read."""
        return self.factor.condition

    @property
    @abstractmethod
    def solver(self) -> str:
        """What was used up to now, fallbacks included."""

    @abstractmethod
    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        """Dᵀ f(DDᵀ) r, shape (K,), of r, shape (Q·N,). With f = 1/λ: D⁺r."""

    @abstractmethod
    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        """f(DDᵀ) r on the range of D; of a vector, shape (Q·N,), or of columns."""

    def lift_all(self, *terms: tuple[GramFunction, Tensor]) -> Tensor:
        """Σ Dᵀ f(DDᵀ) r over pairs (f, r)."""
        return _total(self.lift(f, r) for f, r in terms)

    @abstractmethod
    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (Q·N,), of v, shape (K,)."""

    def move(self, f: GramFunction, r: Tensor) -> tuple[Tensor, Tensor]:
        """(Δθ, DΔθ) of Δθ = Dᵀ f(DDᵀ) r, of a vector."""
        displacement = self.lift(f, r)
        return displacement, self.push(displacement)

    @abstractmethod
    def project(self, r: Tensor) -> Tensor:
        """P r = DD⁺r (A.8); of a vector, shape (Q·N,), or of columns."""

    def at_rest(self, r: Tensor, tolerance: float) -> bool:
        """Whether |P r| ≤ tolerance, so that the flow of r stands still."""
        return norm(self.project(r)) <= tolerance


class _RowSide(TangentFactor):
    """Through G = DDᵀ, for Q·N ≤ K."""

    def __init__(self, tangent: TangentMap, factor: SymmetricFactor, *, damped: bool) -> None:
        self.tangent, self.factor, self.damped = tangent, factor, damped
        self.rank = factor.rank

    @property
    def solver(self) -> str:
        return self.tried + self.factor.name

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.lift_all((f, r))

    def lift_all(self, *terms: tuple[GramFunction, Tensor]) -> Tensor:
        return self.tangent.pull(_total(self.factor.apply(f, r) for f, r in terms))

    def push(self, v: Tensor) -> Tensor:
        return self.tangent.push(v)

    def move(self, f: GramFunction, r: Tensor) -> tuple[Tensor, Tensor]:
        """With G at hand DDᵀz costs a product, where a pass over the network costs several."""
        z = self.factor.apply(f, r)
        return self.tangent.pull(z), self.factor.times(z)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, r)

    def project(self, r: Tensor) -> Tensor:
        return self.factor.project(r)


class _Krylov(TangentFactor):
    """Through products D(Dᵀv): no matrix of the size of G, of D or of DᵀD, and no rank."""

    rank = condition = math.nan

    def __init__(self, tangent: TangentMap, probe: Tensor, ridge: float) -> None:
        self.tangent, self.krylov = tangent, Krylov(tangent, probe, ridge)
        self.damped = ridge > 0

    @property
    def solver(self) -> str:
        return self.krylov.name

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.tangent.pull(self.krylov.apply(f, r))  # Dᵀ takes the kernel out

    def push(self, v: Tensor) -> Tensor:
        return self.tangent.push(v)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        if r.ndim > 1:
            return torch.stack([self.apply(f, column) for column in r.mT], dim=1)
        return self.krylov.apply(f, r if self.damped else self.project(r))

    def project(self, r: Tensor) -> Tensor:
        if r.ndim > 1:
            return torch.stack([self.project(column) for column in r.mT], dim=1)
        return self.krylov.project(r)

    def at_rest(self, r: Tensor, tolerance: float) -> bool:
        """Spares the solve where |P r| ≥ |Dᵀr|/σ_max, with tr G ≥ σ_max², has the answer."""
        pulled = norm(self.tangent.pull(r))
        if not self.damped and pulled > tolerance * math.sqrt(self.krylov.trace):
            return False
        return super().at_rest(r, tolerance)


class _Shared(TangentFactor):
    """Through K̄ where G ≈ K̄ ⊗ 1_Q: one N×N factor for the Q columns of r, and no rank.

    An approximation, good in wide networks with a ridge: f(K̄) ⊗ 1 stands for f(G), while Dᵀ is
    exact. The flow then rests where D⁺r = 0 at full rank, but goes there another way.
    """

    rank = math.nan
    damped = True

    def __init__(self, tangent: TangentMap, factor: SymmetricFactor) -> None:
        self.tangent, self.factor = tangent, factor

    @property
    def solver(self) -> str:
        return f"{self.factor.name} of the shared kernel"

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.lift_all((f, r))

    def lift_all(self, *terms: tuple[GramFunction, Tensor]) -> Tensor:
        """Dᵀ z, z = Σ f(K̄)r, times the ratio of zᵀK̄z to zᵀGz (the ridge is in both).

        K̄ averages over outputs: where they move together G exceeds it, by up to Q, and steps
        as long as K̄ suggests would diverge. For f = 1/λ this is a step of conjugate gradients
        preconditioned by K̄, and zᵀGz = |Dᵀz|² makes it as good as free.
        """
        z = _total(self.apply(f, r) for f, r in terms)
        lifted = self.tangent.pull(z)
        columns, ridge = self._columns(z), self.factor.ridge * (z @ z)
        suggested = torch.vdot(z, (self.tangent.shared_gram @ columns).reshape(-1)) + ridge
        measured = lifted @ lifted + ridge
        return lifted * (suggested / measured) if measured > 0 else lifted

    def push(self, v: Tensor) -> Tensor:
        return self.tangent.push(v)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, self._columns(r)).reshape(r.shape)

    def project(self, r: Tensor) -> Tensor:
        return self.factor.project(self._columns(r)).reshape(r.shape)

    def _columns(self, r: Tensor) -> Tensor:
        """R, shape (N, Q·m), of m vectors r, shape (Q·N,) or (Q·N, m), sample-major."""
        return r.reshape(self.tangent.n_samples, -1)


class _ParameterSide(TangentFactor):
    """Through DᵀD, for K < Q·N: Dᵀ f(DDᵀ) = f(DᵀD) Dᵀ."""

    def __init__(self, D: Tensor, factor: SymmetricFactor, *, damped: bool) -> None:
        self.D, self.factor, self.damped = D, factor, damped
        self.rank = factor.rank

    @property
    def solver(self) -> str:
        return f"{self.tried}{self.factor.name} of DᵀD"

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, self.D.mT @ r)

    def push(self, v: Tensor) -> Tensor:
        return self.D @ v

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
        _, self.rank, self._condition, _ = summarize(sigma.square(), threshold)
        self.U, self.sigma, self.Vh = U[:, : self.rank], sigma[: self.rank], Vh[: self.rank]
        self.ridge, self.damped = ridge, ridge > 0

    @property
    def condition(self) -> float:
        return self._condition

    @property
    def solver(self) -> str:
        return "svd"

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        values = self.sigma * f(self.sigma.square() + self.ridge)
        return diagonal_in(self.Vh.mT, values, self.U, r)

    def push(self, v: Tensor) -> Tensor:
        return diagonal_in(self.U, self.sigma, self.Vh.mT, v)  # of v in the range of Dᵀ, as Δθ is

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return diagonal_in(self.U, f(self.sigma.square() + self.ridge), self.U, r)

    def project(self, r: Tensor) -> Tensor:
        return self.U @ (self.U.mT @ r)


def factorize(
    tangent: TangentMap,
    probe: Tensor,
    *,
    solver: str = "auto",
    eigenvectors: bool = False,
    once: bool = False,
    rcond: float | None = None,
    ridge: float = 0.0,
) -> TangentFactor:
    """Prepare f(G) for D at one θ.

    Parameters
    ----------
    tangent : TangentMap
        x(θ) and D.
    probe : Tensor of shape (Q·N,)
        A vector that f(G) will be applied to, the residual for instance; a shifted factor
        must solve for it before it is accepted.
    solver : {"auto", "cholesky", "eigh", "svd", "shared", "krylov"}
        "auto" and "cholesky" try a Cholesky factorisation and turn to eigenvectors where D has
        not full rank; "cholesky", with G and without ``rcond``, first tries a jitter of 1e2, 1e3
        and 1e4 times eps times the mean of the diagonal, with the residual as the judge.
        G is used for Q·N ≤ K, else DᵀD. "svd" decomposes D. "shared" takes G for K̄ ⊗ 1_Q, an
        approximation that leaves one N×N matrix to factorise; with one output it is "auto".
        "krylov" forms no matrix: iterations on products D(Dᵀv), see `Krylov`.
    eigenvectors : bool
        Whether f of many vectors will be asked for, for which eigenvectors are best; otherwise
        a Cholesky factor does, with one Krylov space a vector for the smooth part of f.
    once : bool
        Whether f is asked for once: a Cholesky factor then applies its smooth part by a
        rational series, to a vector or to columns.
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
    ValueError
        If "krylov" is to cut the spectrum at ``rcond``.
    """
    if solver == "krylov":
        return _without_matrix(tangent, probe, rcond=rcond, ridge=ridge)
    size, n_params = tangent.outputs.numel(), tangent.n_params
    dtype = tangent.outputs.dtype
    if rcond is not None and ridge:  # a damped Cholesky factor would not truncate at rcond
        eigenvectors = True
    if solver == "shared":
        return _share(
            tangent, probe, eigenvectors=eigenvectors, once=once, rcond=rcond, ridge=ridge
        )
    if solver == "svd":
        try:
            return _Svd(tangent.jacobian(), rcond, ridge)
        except torch.linalg.LinAlgError:
            fallback = factorize(tangent, probe, solver="eigh", rcond=rcond, ridge=ridge)
            fallback.tried = "svd → "
            return fallback
    threshold = relative_threshold(rcond, dtype, min(size, n_params), squared=True)
    method = "eigh" if eigenvectors else solver
    if method == "cholesky" and rcond is not None:  # nor would a jitter
        method = "auto"
    if forms_gram(tangent, solver):
        return _RowSide(
            tangent,
            factor_symmetric(
                tangent.gram(), probe, solver=method, threshold=threshold, ridge=ridge, once=once
            ),
            damped=ridge > 0,
        )
    D = tangent.jacobian()
    if method == "cholesky":  # the residual certifies D⁺ where Dᵀ is applied last, not here
        method = "auto"
    if ridge:  # the projector of a damped Cholesky factor of DᵀD would be damped too
        method = "eigh"
    return _ParameterSide(
        D,
        factor_symmetric(D.mT @ D, D.mT @ probe, solver=method, threshold=threshold, ridge=ridge),
        damped=ridge > 0,
    )


def forms_gram(tangent: TangentMap, solver: str) -> bool:
    """Whether `factorize` takes G, and neither DᵀD nor D, K̄ or products."""
    if solver == "shared" and tangent.n_outputs == 1:
        solver = "auto"
    of_gram = solver in ("auto", "cholesky", "eigh")
    return of_gram and tangent.outputs.numel() <= tangent.n_params


def _without_matrix(
    tangent: TangentMap, probe: Tensor, *, rcond: float | None, ridge: float
) -> TangentFactor:
    if rcond is not None:
        raise ValueError(
            f"solver='krylov' sees no singular values to cut at rcond={rcond}; set rcond=None"
        )
    return _Krylov(tangent, probe, ridge)


def _share(
    tangent: TangentMap,
    probe: Tensor,
    *,
    eigenvectors: bool,
    once: bool,
    rcond: float | None,
    ridge: float,
) -> TangentFactor:
    if tangent.n_outputs == 1:
        return factorize(
            tangent, probe, eigenvectors=eigenvectors, once=once, rcond=rcond, ridge=ridge
        )
    kernel = tangent.shared_gram.clone()  # the factor takes its memory
    threshold = relative_threshold(rcond, kernel.dtype, len(kernel), squared=True)
    # The probe is for a jitter, which "auto" does not try.
    method = "eigh" if eigenvectors else "auto"
    factor = factor_symmetric(
        kernel, probe, solver=method, threshold=threshold, ridge=ridge, once=once
    )
    return _Shared(tangent, factor)


def _total(tensors: Iterable[Tensor]) -> Tensor:
    first, *others = tensors
    return sum(others, start=first)


def working_bytes(size: int, n_params: int, itemsize: int, solver: str) -> int:
    """Peak memory of `factorize`, in bytes: a matrix, its eigenvectors, and scratch of that size.

    A Cholesky factor takes the memory of its matrix. In a flow the Gram of the next point stands
    beside it, and activations; that is less.

    For "krylov" it is a bound on all that is held at any time, besides activations: columns of
    G and the basis of a Krylov space.

    Parameters
    ----------
    size : int
        Q·N; N for "shared".
    n_params : int
        K.
    itemsize : int
        Bytes of one number.
    solver : str
        As in `factorize`.
    """
    jacobian = size * n_params
    if solver == "krylov":
        return itemsize * numbers_held(size)
    if solver == "svd":
        return 3 * itemsize * jacobian
    if size <= n_params or solver == "shared":
        return 3 * itemsize * size**2
    return itemsize * (jacobian + 3 * n_params**2)
