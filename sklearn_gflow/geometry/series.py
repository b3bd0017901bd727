"""f(A)·b by a rational Chebyshev series, for smooth f that are asked for once.

The series costs a solve a term with one Cholesky factor of A + σ, and the number of terms does
not depend on the spectrum of A. The symbols are those of docs/notation.md; σ is the pole of the
series, and y = (σ − λ)/(σ + λ) its variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import GramFunction, smooth_tolerance
from sklearn_gflow.geometry.triangles import Triangles

__all__ = ["rational_series"]

# The pole σ over the turn of f. Then 12 terms give six digits of (1 − e^{−λ})/λ, and 23 give ten.
_SERIES_POLE = 8.0
_SERIES_NODES = 64


def rational_series(
    triangles: Triangles, f: GramFunction, b: Tensor, tolerance: float | None = None
) -> Tensor | None:
    """s(A)·b by Chebyshev polynomials in y = (σ − λ)/(σ + λ), σ = 8·turn; b may have columns.

    y takes all λ ≥ 0 to (−1, 1], so that the number of terms follows from f and the precision
    and not from the spectrum of A (rational Chebyshev functions, Boyd 1987). Each is a solve
    with one Cholesky factor of A + σ.

    Parameters
    ----------
    triangles : InPlace, OutOfPlace or Refined
        Of A.
    f : GramFunction
        Of which s is the smooth part, bounded on λ ≥ 0 and falling from about λ = turn.
    b : Tensor of shape (m,) or (m, k)
        Vectors.
    tolerance : float, optional
        Accuracy relative to the largest coefficient; by default that of the precision of b.

    Returns
    -------
    Tensor like b, or None
        None where the series is too long, its coefficients are beyond the dtype of b, or A + σ is
        not positive definite.
    """
    assert f.turn is not None
    sigma = _SERIES_POLE * f.turn
    weights = _weights(f, max(tolerance or 0.0, smooth_tolerance(b.dtype)))
    if max(map(abs, weights), default=0.0) > torch.finfo(b.dtype).max:
        return None
    resolvent = triangles.resolvent(sigma) if weights else None
    if resolvent is None:
        return None

    # T_{k+1}(y) = 2y T_k(y) − T_{k−1}(y), with y = (σ − A)(σ + A)⁻¹ = 2σ(σ + A)⁻¹ − 1
    previous, current = b, resolvent(b).mul_(2 * sigma).sub_(b)
    total = weights[0] * previous + weights[1] * current
    for weight in weights[2:]:
        following = resolvent(current).mul_(4 * sigma).sub_(current, alpha=2).sub_(previous)
        previous, current = current, following
        total.add_(current, alpha=weight)
    return total


@cache
def _chebyshev_nodes() -> tuple[Tensor, Tensor]:
    """Nodes y_j = cos θ_j, and cos kθ_j, which takes values there to coefficients."""
    angles = (torch.arange(_SERIES_NODES, dtype=torch.float64) + 0.5) * math.pi / _SERIES_NODES
    transform = torch.cos(torch.outer(torch.arange(_SERIES_NODES, dtype=torch.float64), angles))
    transform *= 2 / _SERIES_NODES
    transform[0] /= 2
    return torch.cos(angles), transform


def _weights(f: GramFunction, tolerance: float) -> list[float]:
    """Coefficients of the smooth part of f."""
    assert f.smooth is not None
    assert f.turn is not None
    if f.profile is None:
        return _chebyshev_coefficients(f.smooth, f.turn, tolerance)
    size, phi = f.profile
    return [size * weight for weight in _coefficients_of_profile(phi, tolerance)]


@lru_cache(maxsize=16)
def _coefficients_of_profile(
    phi: Callable[[Tensor], Tensor], tolerance: float
) -> tuple[float, ...]:
    return tuple(_chebyshev_coefficients(phi, 1.0, tolerance))


def _chebyshev_coefficients(
    f: Callable[[Tensor], Tensor], turn: float, tolerance: float
) -> list[float]:
    """Of f in y, two at least, up to the tolerance times their size; none if too many."""
    nodes, transform = _chebyshev_nodes()
    coefficients = transform @ f(_SERIES_POLE * turn * (1 - nodes) / (1 + nodes))
    counts = (coefficients.abs() > tolerance * coefficients.abs().max()).nonzero()
    length = int(counts[-1]) + 1 if len(counts) else 0
    # Where the coefficients have not fallen by half of the nodes, terms beyond the last node alias
    # with those before it, and the series cannot be trusted.
    return coefficients[: max(length, 2)].tolist() if 0 < length <= _SERIES_NODES // 2 else []
