"""The ladder of Cholesky and eigenvectors, on G = DDᵀ or on DᵀD, whichever is smaller.

Since Dᵀ f(DDᵀ) = f(DᵀD) Dᵀ, the smaller of the two matrices will do. The rungs of the ladder are in
`ladder`; here are the two sides, and the solvers "auto", "cholesky" and "eigh", which differ in
the rung that they begin with. The symbols are those of docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sklearn_gflow.geometry.eigen import Eigh
from sklearn_gflow.geometry.functions import GramFunction
from sklearn_gflow.geometry.ladder import SymmetricFactor, factor_symmetric
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor, total
from sklearn_gflow.geometry.spectrum import relative_threshold

__all__ = ["AUTO", "CHOLESKY", "EIGH"]


class _Side(TangentFactor):
    """Through one symmetric matrix, whose factor knows rank and condition."""

    def __init__(self, factor: SymmetricFactor, *, damped: bool) -> None:
        self.factor, self.rank, self.damped = factor, factor.rank, damped

    @property
    def condition(self) -> float:
        return self.factor.condition


class _RowSide(_Side):
    """Through G = DDᵀ, for Q·N ≤ K."""

    def __init__(self, tangent: TangentMap, factor: SymmetricFactor, *, damped: bool) -> None:
        super().__init__(factor, damped=damped)
        self.tangent = tangent

    @property
    def solver(self) -> str:
        return self.tried + self.factor.name

    @property
    def eigenvectors(self) -> tuple[Tensor, Tensor] | None:
        return self.factor.whole if isinstance(self.factor, Eigh) else None

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.lift_all((f, r))

    def lift_all(self, *terms: tuple[GramFunction, Tensor]) -> Tensor:
        return self.lift_with_dual(*terms)[0]

    def lift_with_dual(self, *terms: tuple[GramFunction, Tensor]) -> tuple[Tensor, Tensor]:
        u = total(self.factor.apply(f, r) for f, r in terms)
        return self.tangent.pull(u), u

    def push(self, v: Tensor) -> Tensor:
        return self.tangent.push(v)

    def push_dual(self, u: Tensor, v: Tensor) -> Tensor:
        return self.factor.times(u)

    def move(self, f: GramFunction, r: Tensor) -> tuple[Tensor, Tensor]:
        """With G at hand DDᵀz costs a product, where a pass over the network costs several."""
        z = self.factor.apply(f, r)
        return self.tangent.pull(z), self.factor.times(z)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, r)

    def project(self, r: Tensor) -> Tensor:
        return self.factor.project(r)


class _ParameterSide(_Side):
    """Through DᵀD, for K < Q·N: Dᵀ f(DDᵀ) = f(DᵀD) Dᵀ."""

    def __init__(self, D: Tensor, factor: SymmetricFactor, *, damped: bool) -> None:
        super().__init__(factor, damped=damped)
        self.D = D

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


@dataclass(frozen=True)
class _Ladder(Solver):
    """Cholesky, a shifted Cholesky, eigenvectors: the first that the rank of D allows.

    Parameters
    ----------
    name : str
        By which it is asked for.
    told : str
        See `Solver`.
    eigenvectors : bool
        Begin with the last rung.
    jitter : bool
        Try the rung in the middle: of G, where no ``rcond`` is given.
    """

    name: str
    told: str
    eigenvectors: bool = False
    jitter: bool = False

    def forms(self, shape: Shape) -> str:
        return "G" if shape.size <= shape.n_params else "DᵀD"

    def working_bytes(self, shape: Shape, itemsize: int) -> int:
        """A Cholesky factor takes the memory of its matrix; eigenvectors need three times that."""
        squares = 3 * itemsize * shape.smaller**2
        if shape.size <= shape.n_params:
            return squares
        return itemsize * shape.size * shape.n_params + squares

    def factorize(self, tangent: TangentMap, probe: Tensor, request: Request) -> TangentFactor:
        shape = Shape.of(tangent)
        threshold = relative_threshold(
            request.rcond, tangent.outputs.dtype, shape.smaller, squared=True
        )
        eigenvectors = self.eigenvectors or request.needs_eigenvectors
        ridge = request.ridge
        if shape.size <= shape.n_params:
            # A factor with a jitter knows nothing of singular values, so that it cannot cut any.
            jitter = self.jitter and request.rcond is None
            factor = factor_symmetric(
                tangent.gram(),
                threshold=threshold,
                ridge=ridge,
                eigenvectors=eigenvectors,
                jitter_for=probe if jitter else None,
                once=request.once,
                tolerance=request.tolerance,
            )
            return _RowSide(tangent, factor, damped=ridge > 0)
        D = tangent.jacobian()
        factor = factor_symmetric(
            D.mT @ D,
            threshold=threshold,
            ridge=ridge,
            # With a ridge eigenvectors are taken, because the projector of a Cholesky factor of
            # DᵀD + ridge would be damped. A jitter is not tried: a small residual certifies D⁺r
            # only if Dᵀ is applied after the solve, and here it is applied before.
            eigenvectors=eigenvectors or bool(ridge),
        )
        return _ParameterSide(D, factor, damped=ridge > 0)


AUTO = _Ladder(
    "auto",
    "Cholesky at full rank, with a Krylov space for the smooth part of f at ``alpha < 1``, and "
    "eigenvectors otherwise, of the smaller of DDᵀ and DᵀD; in blocks from three outputs on "
    '"shared".',
)
CHOLESKY = _Ladder(
    "cholesky",
    "tries a jitter before it turns to eigenvectors, and then reports no rank.",
    jitter=True,
)
EIGH = _Ladder("eigh", "eigenvectors always.", eigenvectors=True)
