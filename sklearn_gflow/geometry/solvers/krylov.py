"""The back end that needs no matrix: products D(Dᵀv), in memory that is linear in Q·N.

The iterations, their preconditioner and their accuracy are in `geometry.krylov`; here is what makes
a factor of them. Without a ridge columns of G are a weak preconditioner, and a Cholesky factor of
the smaller of DDᵀ and DᵀD takes their place where there is memory for it
(`geometry.least_squares`). No rank is seen and no singular value can be cut. The symbols are those
of docs/notation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import FactorizationError, GramFunction
from sklearn_gflow.geometry.krylov import Krylov, numbers_held
from sklearn_gflow.geometry.least_squares import (
    LeastSquares,
    SmallerSide,
    least_squares,
    numbers_of_side,
)
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor
from sklearn_gflow.geometry.vectors import norm

__all__ = ["KRYLOV"]

# Up to so many outputs their columns, all of them, are a preconditioner that needs no other.
_FEW_OUTPUTS = 1024
# Up to this size LAPACK counts the entries of a matrix.
_LARGEST_SIDE = 32_768


class _KrylovFactor(TangentFactor):
    """Through products D(Dᵀv): no matrix of the size of G, of D or of DᵀD, and no rank."""

    rank = condition = math.nan

    def __init__(self, tangent: TangentMap, probe: Tensor, ridge: float) -> None:
        self.tangent, self.krylov = tangent, Krylov(tangent, probe, ridge)
        self.damped = ridge > 0

    @property
    def solver(self) -> str:
        return self.tried + self.krylov.name

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


class _SideFactor(_KrylovFactor):
    """The same without a ridge, D⁺ by least squares that a factor of the smaller side carries."""

    def __init__(self, tangent: TangentMap, probe: Tensor) -> None:
        super().__init__(tangent, probe, 0.0)
        self.side = SmallerSide(tangent)
        self._solved: tuple[Tensor, float, LeastSquares] | None = None

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        smooth = self._smooth(f, r)
        lifted = r.new_zeros(self.tangent.n_params) if smooth is None else self.tangent.pull(smooth)
        if f.inverse:
            lifted += f.inverse * self._solution(r, f.inverse).theta
        return lifted

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        if r.ndim > 1 or not f.inverse:
            return super().apply(f, r)
        u = f.inverse * self.side.outputs(self._solution(r, f.inverse).theta)
        smooth = self._smooth(f, self.project(r))
        return u if smooth is None else u + smooth

    def project(self, r: Tensor) -> Tensor:
        return super().project(r) if r.ndim > 1 else r - self._solution(r, 1.0).residual

    def _smooth(self, f: GramFunction, r: Tensor) -> Tensor | None:
        """What f is beside its inverse, of r."""
        return None if f.smooth is None else self.krylov.apply(GramFunction(0.0, f.smooth), r)

    def _solution(self, r: Tensor, weight: float) -> LeastSquares:
        """D⁺r, which is to be multiplied by the weight; that of the first vector is kept."""
        accuracy, unit = self.krylov.accuracy_for(r, weight)
        again = self._solved is not None and torch.equal(self._solved[0], r)
        if self._solved is not None and again and accuracy >= self._solved[1]:
            return self._solved[2]
        solution = least_squares(self.tangent, self.side, r, accuracy)
        if unit:
            self.krylov.reach(abs(weight) * solution.left / unit)
        if self._solved is None or again:
            self._solved = r, accuracy, solution
        return solution


@dataclass(frozen=True)
class _KrylovSolver(Solver):
    """Iterations on products, to an accuracy that the factor states in its name.

    Parameters
    ----------
    spare : int
        Bytes that a factor may take beyond `working_bytes`; see `within`.
    """

    spare: int = 0

    name = "krylov"
    told = (
        "iterates on products with D and Dᵀ, in memory linear in the outputs (11 kB for each in "
        "float64), to a residual that ``solver_`` tells. From thousands of outputs on it is the "
        "fastest with ``damping``. Without it the iterations want a Cholesky factor of the smaller "
        "of DDᵀ and DᵀD, which is made where there is memory for one such matrix, and are slow "
        "elsewhere. It knows no rank and takes no ``rcond``."
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

    def within(self, n_bytes: int) -> Solver:
        return _KrylovSolver(n_bytes)

    def factorize(self, tangent: TangentMap, probe: Tensor, request: Request) -> TangentFactor:
        if not request.ridge and self._has_room(Shape.of(tangent), probe.element_size()):
            try:
                return _SideFactor(tangent, probe)
            except FactorizationError:
                fallback = _KrylovFactor(tangent, probe, request.ridge)
                fallback.tried = "cholesky → "
                return fallback
        return _KrylovFactor(tangent, probe, request.ridge)

    def _has_room(self, shape: Shape, itemsize: int) -> bool:
        """Whether there is memory for the smaller side of D, and use for it."""
        needed = itemsize * numbers_of_side(shape.size, shape.n_params)
        return needed <= self.spare and shape.size > _FEW_OUTPUTS and shape.smaller <= _LARGEST_SIDE


KRYLOV = _KrylovSolver()
