"""The back end that decomposes D itself, D = U diag(σ) Vᵀ.

Products such as DDᵀ square the singular values and lose half of the digits; here a σ is resolved
down to eps·σ_max instead of its root. Where the decomposition fails, the eigenvectors of the
smaller product stand in. The symbols are those of docs/notation.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import (
    FactorizationError,
    GramFunction,
    diagonal_in,
    summarize,
)
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor
from sklearn_gflow.geometry.solvers.gram import EIGH
from sklearn_gflow.geometry.spectrum import relative_threshold

__all__ = ["SVD"]


class _SvdFactor(TangentFactor):
    """Through D = U diag(σ) Vᵀ: resolves σ down to eps·σ_max instead of its root."""

    squared = False

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
        # Exact for v in the range of Dᵀ, where all Δθ lie.
        return diagonal_in(self.U, self.sigma, self.Vh.mT, v)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return diagonal_in(self.U, f(self.sigma.square() + self.ridge), self.U, r)

    def project(self, r: Tensor) -> Tensor:
        return self.U @ (self.U.mT @ r)


class _SvdSolver(Solver):
    """Forms D and decomposes it; eigenvectors where that fails."""

    name = "svd"
    told = "decomposes D, whose small singular values it resolves best."

    def forms(self, shape: Shape) -> str:
        return "D"

    def working_bytes(self, shape: Shape, itemsize: int) -> int:
        return 3 * itemsize * shape.size * shape.n_params

    def factorize(self, tangent: TangentMap, probe: Tensor, request: Request) -> TangentFactor:
        try:
            return _SvdFactor(tangent.jacobian(), request.rcond, request.ridge)
        except (torch.linalg.LinAlgError, FactorizationError):
            fallback = EIGH.factorize(tangent, probe, request)
            fallback.tried = "svd → "
            return fallback


SVD = _SvdSolver()
