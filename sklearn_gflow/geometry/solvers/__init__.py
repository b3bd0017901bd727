"""The back ends for f(G)·r, and the one door that chooses among them.

Each file here is one back end, which answers for itself what it forms, needs and cannot do; this
one has their names and what a name means in a given case. A new back end is a class in a file of
its own and a line in `SOLVERS`. The symbols are those of docs/notation.md.
"""

from __future__ import annotations

from torch import Tensor

from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor
from sklearn_gflow.geometry.solvers.gram import AUTO, CHOLESKY, EIGH
from sklearn_gflow.geometry.solvers.krylov import KRYLOV
from sklearn_gflow.geometry.solvers.shared import SHARED
from sklearn_gflow.geometry.solvers.svd import SVD

__all__ = ["SOLVERS", "Request", "Shape", "Solver", "TangentFactor", "factorize", "solver_for"]

SOLVERS: dict[str, Solver] = {
    solver.name: solver for solver in (AUTO, CHOLESKY, EIGH, SVD, SHARED, KRYLOV)
}

# In blocks "auto" factorises the kernel that outputs share from so many outputs on.
_SHARED_OUTPUTS = 3


def solver_for(solver: str | Solver, n_outputs: int, *, in_blocks: bool = False) -> Solver:
    """The back end that a name means for so many outputs.

    With one output "shared" has nothing to share, and is "auto". In blocks "auto" is "shared"
    from three outputs on.

    Parameters
    ----------
    solver : str or Solver
        A name in `SOLVERS`. A back end of one's own stands for itself.
    n_outputs : int
        Q.
    in_blocks : bool
        Whether the flow goes over blocks of rows.

    Returns
    -------
    Solver

    Raises
    ------
    ValueError
        If no back end has that name.
    """
    if isinstance(solver, str):
        if solver not in SOLVERS:
            raise ValueError(f"solver={solver!r} is none of {', '.join(map(repr, SOLVERS))}")
        solver = SOLVERS[solver]
    if solver is AUTO and in_blocks and n_outputs >= _SHARED_OUTPUTS:
        return SHARED
    if solver is SHARED and n_outputs == 1:
        return AUTO
    return solver


def factorize(
    tangent: TangentMap,
    probe: Tensor,
    *,
    solver: str | Solver = "auto",
    eigenvectors: bool = False,
    once: bool = False,
    tolerance: float | None = None,
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
    solver : {"auto", "cholesky", "eigh", "svd", "shared", "krylov"} or Solver
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
    tolerance : float, optional
        How accurate that part has to be, relatively; by default as the precision allows. To a low
        accuracy a small Krylov space leads sooner than a series, where G is large.
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
        If G is not finite, or eigenvectors could not be had in any precision on any device.
    ValueError
        If no back end has that name, or the one that has cannot cut the spectrum at ``rcond``.
    """
    chosen = solver_for(solver, tangent.n_outputs)
    if rcond is not None and not chosen.takes_rcond:
        raise ValueError(
            f"solver={chosen.name!r} sees no singular values to cut at rcond={rcond}; "
            "set rcond=None"
        )
    request = Request(
        eigenvectors=eigenvectors, once=once, tolerance=tolerance, rcond=rcond, ridge=ridge
    )
    return chosen.factorize(tangent, probe, request)
