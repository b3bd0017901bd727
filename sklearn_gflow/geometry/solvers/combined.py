"""A back end of blocks over ranks: each rank solves for its own block, and the steps are combined.

The union of the blocks has the Gram G, of which the ranks factorise the blocks G_r on the diagonal;
u = (u₁, …, u_R) is what these would do alone, (G_r + μ)u_r = t_r. The step is Δθ = Dᵀv with the v
nearest to the solution of (G + μ)v = t, in the norm of G + μ, that is a multiple γu. The gain γ is
1/R where all ranks want the same, 1 where their steps are orthogonal, and more where some want the
opposite of others. Where it is small, much of what each wanted is left: v is then made of two
vectors, u and what the ranks make of the residual of γu. With exact factors these are two steps of
conjugate gradients that are preconditioned by the blocks. The symbols are those of
docs/notation.md; μ is the ridge.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import PSEUDOINVERSE, FactorizationError, GramFunction
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.ranks import Ranks, ShardedTangent
from sklearn_gflow.geometry.sharded import Sharded
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor

__all__ = ["CombinedSolver", "joined_ways"]

# With a gain of at least this the sum of the steps is enough. So it is with two ranks.
_ENOUGH = 0.5
# Two directions whose angle has a smaller squared sine are one. And steps that cancel up to a
# smaller share of their squares leave rounding, of which no multiple is a step.
_ONE_DIRECTION = 1e-6


def joined_ways(ranks: Ranks, way: Tensor, number: float) -> tuple[Tensor, float]:
    """What each rank went alone over blocks of its own as one step, and the sum of a number.

    The step is γ Σ δ_r with γ = Σ |δ_r|² / |Σ δ_r|², one at the most: of the frozen flow of one
    block the best multiple of the sum, where the ridge is small. One message.

    Parameters
    ----------
    ranks : Ranks
        Who went.
    way : Tensor of shape (K,)
        δ_r of this rank; where it is not finite nothing is that comes back.
    number : float
        Of this rank, in the precision of ``way``.

    Returns
    -------
    (Tensor of shape (K,), float)
        With the same bits on all ranks.
    """
    total = ranks.sum(torch.cat([way, torch.stack([way @ way, way.new_tensor(number)])]))
    joined, (squares, number) = total[:-2], total[-2:].tolist()
    size = float(joined @ joined)
    return joined * min(squares / size, 1.0) if size else joined, number


class _CombinedFactor(TangentFactor):
    """The factors of all ranks, each of its own block.

    None where this rank has no rows, or ``lost`` it, since they could not be factorised.
    """

    rank = condition = math.nan

    def __init__(
        self, tangent: ShardedTangent, own: TangentFactor | None, ridge: float, *, lost: bool
    ) -> None:
        self.tangent, self.own, self.ridge, self.lost = tangent, own, ridge, lost
        self.damped = ridge > 0

    @property
    def solver(self) -> str:
        size = self.tangent.ranks.size
        return f"{'none' if self.own is None else self.own.solver} on each of {size} ranks"

    def lift(self, f: GramFunction, r: Any) -> Tensor:
        return self.lift_all((f, r))

    def lift_all(self, *terms: tuple[GramFunction, Any]) -> Tensor:
        lifted, u, t = self._alone(*terms)
        first, (aim, uu) = self._summed(lifted, t @ u, u @ u)
        along = float(first @ first) + self.ridge * uu
        if not along > _ONE_DIRECTION * aim:
            return first
        gain = aim / along
        if gain >= _ENOUGH:
            return gain * first
        rest = t - gain * (self.tangent.own.push(first) + self.ridge * u)
        z = rest if self.own is None else self.own.apply(PSEUDOINVERSE, rest)
        lifted = self.tangent.own.pull(z) if len(z) else torch.zeros_like(first)
        second, (aim_z, zz, uz) = self._summed(lifted, t @ z, z @ z, u @ z)
        across = float(first @ second) + self.ridge * uz
        beyond = float(second @ second) + self.ridge * zz
        determinant = along * beyond - across**2
        if not determinant > _ONE_DIRECTION * along * beyond:
            return gain * first
        a = (beyond * aim - across * aim_z) / determinant
        b = (along * aim_z - across * aim) / determinant
        return a * first + b * second

    def _alone(self, *terms: tuple[GramFunction, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Of this rank D_rᵀu_r, u_r and t_r.

        The first is NaN where its block has no factor: all ranks hear of it with the sum, and the
        epoch is undone as where a loss is not finite.
        """
        if self.own is None:
            like = self.tangent.theta
            nothing = like.new_full((self.tangent.n_params,), math.nan if self.lost else 0.0)
            return nothing, like.new_zeros(0), like.new_zeros(0)
        lifted, u = self.own.lift_with_dual(*((f, r.own) for f, r in terms))
        return lifted, u, self.own.push_dual(u, lifted) + self.ridge * u

    def _summed(self, v: Tensor, *numbers: Tensor) -> tuple[Tensor, list[float]]:
        """Sums over ranks of a vector of parameters and some numbers, in one message."""
        total = self.tangent.ranks.sum(torch.cat([v, torch.stack(numbers)]))
        return total[: len(v)], total[len(v) :].tolist()

    def push(self, v: Tensor) -> Any:
        return self.tangent.push(v)

    def apply(self, f: GramFunction, r: Any) -> Any:
        return self._on_block(r, lambda own: own.apply(f, r.own))

    def project(self, r: Any) -> Any:
        return self._on_block(r, lambda own: own.project(r.own))

    def _on_block(self, r: Any, of_own: Any) -> Any:
        if self.own is not None:
            return Sharded(of_own(self.own), r.shares)
        return Sharded(torch.full_like(r.own, math.nan) if self.lost else r.own, r.shares)


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
        """Each rank for its own block; what has no factor is no error, or others would wait."""
        assert isinstance(tangent, ShardedTangent)
        own, lost = None, False
        if len(probe.own):
            try:
                own = self.own.factorize(tangent.own, probe.own, request)
            except FactorizationError:
                lost = True
        return _CombinedFactor(tangent, own, request.ridge, lost=lost)
