"""The back end that factorises one N×N kernel for all Q outputs, G ≈ K̄ ⊗ 1_Q.

K̄ is the mean over outputs of the diagonal blocks of G. In wide networks the approximation is good;
the lengths of steps are measured against G itself, so that the flow cannot diverge by it. The
symbols are those of docs/notation.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import GramFunction
from sklearn_gflow.geometry.ladder import SymmetricFactor, factor_symmetric
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers.base import Request, Shape, Solver, TangentFactor, total
from sklearn_gflow.geometry.spectrum import relative_threshold

__all__ = ["SHARED"]

# Relative accuracy of a series for f(K̄). K̄ itself stands for G only within some percent, and half
# of the terms are enough for this.
_TOLERANCE = 1e-3


class _SharedFactor(TangentFactor):
    """Through K̄ where G ≈ K̄ ⊗ 1_Q: one N×N factor for the Q columns of r, and no rank.

    An approximation, good in wide networks with a ridge: f(K̄) ⊗ 1 stands for f(G), while Dᵀ is
    exact. At full rank the flow has the same points of rest, but goes there another way.
    """

    rank = math.nan
    damped = True

    def __init__(self, tangent: TangentMap, factor: SymmetricFactor) -> None:
        self.tangent, self.factor = tangent, factor

    @property
    def condition(self) -> float:
        return self.factor.condition

    @property
    def solver(self) -> str:
        return f"{self.factor.name} of the shared kernel"

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.lift_all((f, r))

    def lift_all(self, *terms: tuple[GramFunction, Tensor]) -> Tensor:
        return self.lift_with_dual(*terms)[0]

    def lift_with_dual(self, *terms: tuple[GramFunction, Tensor]) -> tuple[Tensor, Tensor]:
        """Dᵀ z and z, z = Σ f(K̄)r, times the ratio of zᵀK̄z to zᵀGz (the ridge is in both).

        K̄ averages over outputs: where they move together G exceeds it, by up to Q, and steps
        as long as K̄ suggests would diverge. For f = 1/λ this is a step of conjugate gradients
        preconditioned by K̄. It costs little, because zᵀGz = |Dᵀz|².
        """
        z = total(self.apply(f, r) for f, r in terms)
        lifted = self.tangent.pull(z)
        columns, ridge = self._columns(z), self.factor.ridge * (z @ z)
        suggested = torch.vdot(z, (self.tangent.shared_gram @ columns).reshape(-1)) + ridge
        measured = lifted @ lifted + ridge
        # Where nothing was measured there is nothing to scale either.
        factor = torch.where(measured == 0, measured, suggested / measured)
        return lifted * factor, z * factor

    def push(self, v: Tensor) -> Tensor:
        return self.tangent.push(v)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return self.factor.apply(f, self._columns(r)).reshape(r.shape)

    def project(self, r: Tensor) -> Tensor:
        return self.factor.project(self._columns(r)).reshape(r.shape)

    def _columns(self, r: Tensor) -> Tensor:
        """R, shape (N, Q·m), of m vectors r, shape (Q·N,) or (Q·N, m), sample-major.

        Column by column in memory, as LAPACK solves: what is added up then lies alike.
        """
        return r.reshape(self.tangent.n_samples, -1).mT.contiguous().mT


class _SharedSolver(Solver):
    """Climbs the ladder of Cholesky and eigenvectors on K̄."""

    name = "shared"
    told = (
        "takes the same kernel for each of the Q outputs, the mean K̄ of theirs: f(K̄)⊗1 for f(G), "
        "an approximation for wide networks that factorises N×N instead of QN×QN and knows no "
        "rank. In the full batch it needs ``damping``."
    )
    sees_rank = exact = False

    def forms(self, shape: Shape) -> str:
        return "K̄"

    def entries(self, shape: Shape) -> int:
        return shape.n_samples * min(shape.n_samples, shape.n_params)

    def working_bytes(self, shape: Shape, itemsize: int) -> int:
        return 3 * itemsize * shape.n_samples**2

    def needs_ridge(self, shape: Shape) -> bool:
        """Whether there are several outputs: G and K̄ then differ in their small eigenvalues."""
        return shape.n_outputs > 1

    def factorize(self, tangent: TangentMap, probe: Tensor, request: Request) -> TangentFactor:
        kernel = tangent.shared_gram.clone()  # which the factor overwrites
        threshold = relative_threshold(request.rcond, kernel.dtype, len(kernel), squared=True)
        factor = factor_symmetric(
            kernel,
            threshold=threshold,
            ridge=request.ridge,
            eigenvectors=request.needs_eigenvectors,
            once=request.once,
            tolerance=max(_TOLERANCE, request.tolerance or 0.0),
        )
        return _SharedFactor(tangent, factor)


SHARED = _SharedSolver()
