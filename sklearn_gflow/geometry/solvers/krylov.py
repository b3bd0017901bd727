"""The back end without a matrix: products D(Dᵀv) only, in memory that is linear in Q·N.

The iterations, their preconditioner and their accuracy are in `geometry.krylov`; here is what makes
a factor of them. No rank is seen and no singular value can be cut. The symbols are those of
docs/notation.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import GramFunction
from sklearn_gflow.geometry.krylov import Krylov, numbers_held
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor
from sklearn_gflow.geometry.vectors import norm

__all__ = ["KRYLOV"]


class _KrylovFactor(TangentFactor):
    """Through products D(Dᵀv): no matrix of the size of G, of D or of DᵀD, and no rank."""

    rank = condition = math.nan

    def __init__(self, tangent: TangentMap, probe: Tensor, ridge: float) -> None:
        self.tangent, self.krylov = tangent, Krylov(tangent, probe, ridge)
        self.damped = ridge > 0

    @property
    def solver(self) -> str:
        return self.krylov.name

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.tangent.pull(self.krylov.apply(f, r))  # Dᵀ maps the kernel of G to zero

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
        """Whether |P r| ≤ tolerance, without a solve where |P r| ≥ |Dᵀr|/√(tr G) tells."""
        pulled = norm(self.tangent.pull(r))
        if not self.damped and pulled > tolerance * math.sqrt(self.krylov.trace):
            return False
        return super().at_rest(r, tolerance)


class _KrylovSolver(Solver):
    """Iterations on products, to an accuracy that the factor states in its name."""

    name = "krylov"
    told = (
        "forms no matrix and iterates on products with D and Dᵀ, in memory linear in the outputs "
        "(11 kB for each in float64), to a residual that ``solver_`` tells. From thousands of "
        "outputs on it is the fastest with ``damping``, without it slower than Cholesky. It knows "
        "no rank and takes no ``rcond``."
    )
    sees_rank = takes_rcond = False
    matrix_free = True

    def forms(self, shape: Shape) -> str:
        return ""

    def entries(self, shape: Shape) -> int:
        return 0

    def working_bytes(self, shape: Shape, itemsize: int) -> int:
        """Bound on all that is held at any time, besides activations.

        Columns of G and the basis of a Krylov space.
        """
        return itemsize * numbers_held(shape.size)

    def factorize(self, tangent: TangentMap, probe: Tensor, request: Request) -> TangentFactor:
        return _KrylovFactor(tangent, probe, request.ridge)


KRYLOV = _KrylovSolver()
