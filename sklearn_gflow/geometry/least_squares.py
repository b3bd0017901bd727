"""D⁺r in θ itself, by conjugate gradients that a factor of the smaller of DDᵀ and DᵀD carries.

Without a ridge small eigenvalues of G count as much as large ones, and no few columns of G
resolve them. One Cholesky factor does, and iterations make good what it rounds. The symbols are
those of docs/notation.md; S is the smaller of Q·N and K, and μ a shift at the rounding of G.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import FactorizationError
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.triangles import Triangles, triangles

__all__ = ["LeastSquares", "SmallerSide", "least_squares", "numbers_of_side"]

# μ begins at this multiple of eps·tr G, and grows by the second until there is a factor.
_SHIFT, _GROWTH, _MOST_SHIFTS = 10, 10, 6
_MOST_ITERATIONS, _RESTARTS = 100, 5
# DᵀD is summed over panels of D of at most this share of its own size.
_PANELS = 8
# Vectors of the larger size that are held at a time.
_VECTORS = 16


def numbers_of_side(size: int, n_params: int) -> int:
    """Bound on the numbers that `SmallerSide` and `least_squares` hold at any time.

    Parameters
    ----------
    size, n_params : int
        Q·N and K.
    """
    smaller = min(size, n_params)
    return smaller**2 + smaller**2 // _PANELS + _VECTORS * max(size, n_params)


class SmallerSide:
    """(DᵀD + μ)⁻¹ on the range of Dᵀ, by one factor of DDᵀ + μ or of DᵀD + μ.

    On the side of the rows it is Dᵀ(DDᵀ + μ)⁻²D, which has the eigenvalues λ/(λ + μ)² and asks
    nothing of the kernel of Dᵀ.

    Parameters
    ----------
    tangent : TangentMap
        D.

    Raises
    ------
    FactorizationError
        If the matrix is not finite, or no shift makes it positive definite.
    """

    def __init__(self, tangent: TangentMap) -> None:
        self.tangent = tangent
        self.of_rows = len(tangent.outputs) <= tangent.n_params
        matrix = tangent.gram() if self.of_rows else tangent.normal_matrix()
        self.factor = _factor(matrix)

    def inverse(self, s: Tensor) -> Tensor:
        """(DᵀD + μ)⁻¹s, for s in the range of Dᵀ."""
        if not self.of_rows:
            return self.factor.solve(s)
        solve = self.factor.solve
        return self.tangent.pull(solve(solve(self.tangent.push(s))))

    def outputs(self, v: Tensor) -> Tensor:
        """u = D(DᵀD)⁺v, with which Dᵀu = v, for v in the range of Dᵀ."""
        u = torch.zeros_like(self.tangent.outputs)
        for _ in range(_RESTARTS):
            u = u + self.tangent.push(self.inverse(v - self.tangent.pull(u)))
        return u


def _factor(matrix: Tensor) -> Triangles:
    """Of the matrix with the least shift that allows one, in its memory."""
    trace = float(matrix.diagonal().sum())
    if not math.isfinite(trace):
        raise FactorizationError("its diagonal holds numbers that are not finite")
    shift = _SHIFT * torch.finfo(matrix.dtype).eps * (trace or 1.0)
    for _ in range(_MOST_SHIFTS):
        factor = triangles(matrix, 0.0, shift, frugal=True)
        if factor is not None:
            return factor
        shift *= _GROWTH
    raise FactorizationError("no small shift of it is positive definite")


class LeastSquares(NamedTuple):
    """θ ≈ D⁺r, r − Dθ, and about how much of r is left in the range of D.

    All are NaN where the iteration met a number that is not finite.
    """

    theta: Tensor
    residual: Tensor
    left: float


def least_squares(
    tangent: TangentMap, side: SmallerSide, r: Tensor, accuracy: float
) -> LeastSquares:
    """θ ≈ D⁺r: the shortest of all θ with the least |r − Dθ|.

    Conjugate gradients on DᵀDθ = Dᵀr (Hestenes and Stiefel, 1952), with (DᵀD + μ)⁻¹ as the
    preconditioner, see r only through Dᵀ: rows may contradict each other. They end where what is
    left of r in the range of D is at most ``accuracy``, or where rounding leaves nothing to gain.
    Its square is measured as sᵀ(DᵀD + μ)⁻¹s, s = Dᵀ(r − Dθ), which counts eigenvalues of G below μ
    for less.

    Parameters
    ----------
    tangent : TangentMap
        D.
    side : SmallerSide
        The preconditioner.
    r : Tensor of shape (Q·N,)
        Right-hand side.
    accuracy : float
        Absolute.

    Returns
    -------
    LeastSquares
    """
    best = LeastSquares(torch.zeros_like(tangent.pull(r)), r, math.inf)
    for _ in range(_RESTARTS):  # since the residual of the recurrence drifts away from r − Dθ
        theta = best.theta + _recurrence(tangent, side, best.residual, accuracy)
        residual = r - tangent.push(theta)
        s = tangent.pull(residual)
        left = float(s @ side.inverse(s))
        if not math.isfinite(left):
            nan = torch.full_like(theta, math.nan)
            return LeastSquares(nan, torch.full_like(r, math.nan), math.nan)
        left = math.sqrt(max(left, 0.0))
        ended = left <= accuracy or left > best.left / 2
        if left < best.left:
            best = LeastSquares(theta, residual, left)
        if ended:
            break
    return best


def _recurrence(
    tangent: TangentMap, side: SmallerSide, residual: Tensor, accuracy: float
) -> Tensor:
    """What conjugate gradients add to θ."""
    s = tangent.pull(residual)
    z = side.inverse(s)
    theta, p, gamma = torch.zeros_like(z), z, float(s @ z)
    for _ in range(_MOST_ITERATIONS):
        if not gamma > accuracy**2:
            break
        q = tangent.push(p)
        along = float(q @ q)
        if not along > 0:
            break
        step = gamma / along
        theta, residual = theta + step * p, residual - step * q
        s = tangent.pull(residual)
        z = side.inverse(s)
        before, gamma = gamma, float(s @ z)
        p = z + gamma / before * p
    return theta
