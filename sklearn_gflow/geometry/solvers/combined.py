"""A back end of blocks over ranks: each rank solves for its own block, and the steps are combined.

The union of the blocks has the Gram G, of which the ranks factorise the blocks G_r on the diagonal.
With u = (u₁, …, u_R) from these, Δθ = γ Σ D_rᵀu_r, where γ is that of the step of conjugate
gradients on G + μ that is preconditioned by the blocks:

    γ = Σ_r (|D_rᵀu_r|² + μ|u_r|²) / (|Σ_r D_rᵀu_r|² + μ|u|²).

It is 1 where the steps are orthogonal, 1/R where all are the same, and costs one message with the
step. The symbols are those of docs/notation.md; μ is the ridge.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import FactorizationError, GramFunction
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.ranks import ShardedTangent
from sklearn_gflow.geometry.sharded import Sharded
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor

__all__ = ["CombinedSolver"]


class _CombinedFactor(TangentFactor):
    """The factors of all ranks, each of its own block; None where this rank has no rows."""

    rank = condition = math.nan

    def __init__(self, tangent: ShardedTangent, own: TangentFactor | None, ridge: float) -> None:
        self.tangent, self.own, self.ridge = tangent, own, ridge
        self.damped = ridge > 0

    @property
    def solver(self) -> str:
        size = self.tangent.ranks.size
        return f"{'none' if self.own is None else self.own.solver} on each of {size} ranks"

    def lift(self, f: GramFunction, r: Any) -> Tensor:
        return self.lift_all((f, r))

    def lift_all(self, *terms: tuple[GramFunction, Any]) -> Tensor:
        if self.own is None:
            step = self.tangent.theta.new_zeros(self.tangent.n_params + 2)
        else:
            lifted, u = self.own.lift_with_dual(*((f, r.own) for f, r in terms))
            pulled = self.ridge * (u @ u)
            step = torch.cat([lifted, torch.stack([lifted @ lifted + pulled, pulled])])
        step = self.tangent.ranks.sum(step)
        step, apart, pulled = step[:-2], step[-2], step[-1]
        together = step @ step + pulled
        return step if together == 0 else step * (apart / together)

    def push(self, v: Tensor) -> Any:
        return self.tangent.push(v)

    def apply(self, f: GramFunction, r: Any) -> Any:
        return self._on_block(r, lambda own: own.apply(f, r.own))

    def project(self, r: Any) -> Any:
        return self._on_block(r, lambda own: own.project(r.own))

    def _on_block(self, r: Any, of_own: Any) -> Any:
        return Sharded(r.own if self.own is None else of_own(self.own), r.shares)


class CombinedSolver(Solver):
    """One back end on each rank, for its own block.

    Parameters
    ----------
    own : Solver
        That of a block.
    """

    sees_rank = exact = False

    def __init__(self, own: Solver) -> None:
        self.own, self.name, self.takes_rcond = own, f"{own.name} on ranks", own.takes_rcond

    def forms(self, shape: Shape) -> str:
        """No matrix of all ranks."""
        return ""

    def entries(self, shape: Shape) -> int:
        """Those of a block."""
        return self.own.entries(shape)

    def working_bytes(self, shape: Shape, itemsize: int) -> int:
        """Those of a block."""
        return self.own.working_bytes(shape, itemsize)

    def factorize(self, tangent: TangentMap, probe: Any, request: Request) -> TangentFactor:
        """Each rank for its own block; all of them fail where one does."""
        assert isinstance(tangent, ShardedTangent)
        own, failure = None, ""
        if len(probe.own):
            try:
                own = self.own.factorize(tangent.own, probe.own, request)
            except FactorizationError as error:
                failure = str(error)
        if not tangent.ranks.all(not failure):
            raise FactorizationError(failure or "that of another rank could not be factorised")
        return _CombinedFactor(tangent, own, request.ridge)
