"""The ladder: Cholesky where A has full rank, a shifted Cholesky where asked for, eigenvectors.

One symmetric positive semidefinite matrix A comes in, one factor that applies any f goes out; each
rung that fails leads to the next, and the last one that fails raises. The symbols are those of
docs/notation.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_gflow.geometry.cholesky import Cholesky, ShiftedCholesky
from sklearn_gflow.geometry.eigen import Eigh
from sklearn_gflow.geometry.functions import FactorizationError
from sklearn_gflow.geometry.triangles import triangles

__all__ = ["SymmetricFactor", "enough_damping", "factor_symmetric"]

# Accepted relative residual of a solve that needed a shifted factor.
_CERTIFIED_RESIDUAL = 1e-8
# Jitters that are tried, in units of eps times the mean of the diagonal.
_JITTERS = (1e2, 1e3, 1e4)
# A ridge so many roundings of the trace stands above the rounding of a factor.
_ABOVE_ROUNDING = 10.0
# Two thresholds that differ by rounding alone are one.
_SAME = 1e-6

SymmetricFactor = Eigh | Cholesky


def factor_symmetric(
    A: Tensor,
    *,
    threshold: float,
    ridge: float,
    eigenvectors: bool = False,
    jitter_for: Tensor | None = None,
    once: bool = False,
    tolerance: float | None = None,
) -> SymmetricFactor:
    """Climb the ladder: Cholesky, shifted Cholesky (where asked for), eigenvectors.

    Parameters
    ----------
    A : Tensor of shape (m, m)
        Symmetric, positive semidefinite. It is overwritten: a Cholesky factor takes its memory.
    threshold : float
        Relative, on the roots of eigenvalues: what is not above it counts as zero.
    ridge : float
        Added to the eigenvalues of A before f.
    eigenvectors : bool
        Whether to begin with the last rung.
    jitter_for : Tensor of shape (m,), optional
        A vector that a shifted factor must solve for; without it none is tried.
    once : bool
        Whether each vector will be asked for once, see `Cholesky`.
    tolerance : float, optional
        How accurate functions that are asked for once have to be, see `Cholesky`.

    Returns
    -------
    Eigh or Cholesky

    Raises
    ------
    FactorizationError
        If A holds numbers that are not finite, or no eigenvalue routine succeeds.
    """
    # No entry of a Gram is larger than the largest on its diagonal, so that it is enough to look
    # there. Where other entries are not finite, no rung succeeds and the last one raises.
    trace = float(A.trace())
    if not math.isfinite(trace):
        raise FactorizationError("its diagonal holds numbers that are not finite")
    factor: Cholesky | None = None
    if not eigenvectors:
        factor = _cholesky(A, trace, threshold, ridge, once=once, tolerance=tolerance)
        if factor is None and jitter_for is not None:
            factor = _shifted_cholesky(A, jitter_for, ridge)
    return Eigh(A, threshold, ridge) if factor is None else factor


def _cholesky(
    A: Tensor,
    trace: float,
    threshold: float,
    ridge: float,
    *,
    once: bool,
    tolerance: float | None,
) -> Cholesky | None:
    """The factor at full rank; otherwise None, and A is what it was."""
    pair = triangles(A, ridge)
    if pair is None:
        return None
    factor = Cholesky(pair, "cholesky", ridge, once=once, tolerance=tolerance)
    # Since λ_min ≥ ridge and λ_max ≤ tr A, a large ridge needs no estimate of either.
    if ridge > enough_damping(len(A), A.dtype, threshold) * (trace / len(A) + ridge):
        return factor
    smallest, largest = factor.extremes
    if smallest > threshold**2 * largest:  # which is false where the estimates are NaN
        return factor
    pair.restore()
    return None


def enough_damping(size: int, dtype: torch.dtype, threshold: float = 0.0) -> float:
    """How large a ridge has to be, so that a factor of so many rows with it cuts no mode.

    A threshold that is the bound on rounding, size·eps, is far above what rounding does to a
    factor: with a ridge, modes below it are damped, and need not be cut. One that the user gave
    cuts where it says.

    Parameters
    ----------
    size : int
        Rows of the matrix.
    dtype : torch.dtype
        Its precision.
    threshold : float
        As of `factor_symmetric`.

    Returns
    -------
    float
        In units of the mean of the diagonal.
    """
    eps = torch.finfo(dtype).eps
    given = threshold**2 > (1 + _SAME) * size * eps
    return size * (threshold**2 if given else _ABOVE_ROUNDING * eps)


def _shifted_cholesky(A: Tensor, probe: Tensor, ridge: float) -> Cholesky | None:
    """The factor with the least jitter that solves for the probe; or None, and A is what it was."""
    unit = (float(A.diagonal().mean()) + ridge) * torch.finfo(A.dtype).eps
    for jitter in _JITTERS:
        pair = triangles(A, ridge, jitter * unit)
        if pair is not None:
            factor = ShiftedCholesky(pair, "cholesky with jitter")
            if factor.residual(probe) <= _CERTIFIED_RESIDUAL:  # which is false where it is NaN
                return factor
            pair.restore()
    return None
