"""Functions of a positive semidefinite matrix A by its resolvents (p + A)⁻¹, the same for many.

Time is cut into windows [Λᵏ, Λᵏ⁺¹), and each has nodes p around the negative real axis. Whoever has
the resolvents at the nodes of a window can evaluate f(A) for all times in it. Notation:
docs/notation.md; Λ is here the ratio of the ends of a window.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

__all__ = ["FIT_NODES", "contour", "ridge_fit", "ridge_terms", "window", "windows_of"]

# Λ, the ratio of the ends of a window. Smaller and larger ones need more nodes for each octave.
_WINDOW = 8.0
# Nodes of a window where weights are fitted: the errors are then below 5e-9, and with half of them
# below 1e-6.
FIT_NODES = 20
# So many windows beyond those of all modes matter to a fit.
_MARGIN = 8
# Singular values of a fit up to this multiple of the largest are left out.
_RESOLVED = 1e-14
# The grid that is fitted on has so many points in a decade of λ, and ends at these log₁₀ λ, in
# units of the first and of the last window.
_POINTS = 40
_LARGEST, _SMALLEST = 7, -3


def window(time: float) -> int:
    """The window that a time is in; those beyond the range of numbers are in the last ones."""
    within = min(max(time, sys.float_info.min), sys.float_info.max)
    return math.floor(math.log(within, _WINDOW))


def contour(k: int, nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes s(u) = μ(iu + 1)² and s'(u)Δu/πi, with f(t) ≈ Re Σ e^{st} f̂(s) s'(u)Δu/πi.

    The inverse Laplace transform for all t of window k, by the midpoint rule on a parabola, with
    an error of exp(−2πn/√(8Λ+1)) (Weideman and Trefethen 2007). The half u < 0 is the conjugate.

    Parameters
    ----------
    k : int
        The window.
    nodes : int
        n.
    like : Tensor
        Of the real dtype and the device that are wanted.

    Returns
    -------
    s, weights : Tensor of shape (nodes,), complex
    """
    root = math.sqrt(8 * _WINDOW + 1)
    mu, spacing = math.pi * nodes / (4 * root * _WINDOW ** (k + 1)), root / nodes
    u = (torch.arange(nodes, dtype=like.dtype, device=like.device) + 0.5) * spacing
    z = torch.complex(torch.ones_like(u), u)
    return mu * z**2, (2 * mu * spacing / math.pi) * z


def ridge_fit(
    g: Callable[[Tensor], Tensor], first: int, last: int, nodes: int = FIT_NODES
) -> Tensor:
    """Weights w with g(λ) ≈ Re Σ wⱼλ/(λ + pⱼ) on λ ≥ 0, by least squares.

    Each term is what ridge regression with the ridge pⱼ fits along a mode λ. The poles are the
    nodes of every window from the first to the last.

    Parameters
    ----------
    g : callable
        λ ↦ g(λ), elementwise, in float64; g(0) = 0, bounded, with what happens to it between
        1/Λ of the last window's λ and Λ of the first one's.
    first, last : int
        Windows, of 1/λ.
    nodes : int
        Of each.

    Returns
    -------
    Tensor of shape ((last − first + 1) · nodes,), complex
    """
    grid, U, solution = _least_squares(last - first + 1, nodes)
    # Uᵀg comes first: it has small numbers where V/Σ has large ones. V/Σ times Uᵀ, multiplied out,
    # would lose them in rounding.
    real, imaginary = (solution @ (U.mT @ g(grid / _WINDOW**first))).chunk(2)
    return torch.complex(real, imaginary)


def windows_of(turns: Sequence[float], ridge: float, eigenvalues: Tensor) -> tuple[int, int]:
    """The first and the last window, of 1/λ, that a fit of a g(λ) with a pole at −ridge takes.

    They go from the largest λ that matters to the smallest, and past the pole. Turns far from all
    modes, as 1e-300, would ask for hundreds of windows.

    Parameters
    ----------
    turns : sequence of float
        The 1/λ at which something happens to g, besides the pole.
    ridge : float
        Positive.
    eigenvalues : Tensor
        Ascending, those of A.
    """
    positive = eigenvalues[eigenvalues > 0]
    soonest, latest = 0, 0
    if len(positive):
        soonest = window(1 / float(positive[-1])) - _MARGIN
        latest = window(1 / float(positive[0])) + _MARGIN
    pole = max(window(1 / ridge), soonest)
    found = [min(max(window(turn), soonest), latest) for turn in turns]
    return min([pole, *found]), max([pole + 1, *found])


def ridge_terms(
    g: Callable[[Tensor], Tensor],
    turns: Sequence[float],
    ridge: float,
    eigenvalues: Tensor,
    nodes: int = FIT_NODES,
) -> tuple[Tensor, Tensor]:
    """Weights w and poles p with g(λ) ≈ Re Σ wⱼλ/(λ + pⱼ), see `ridge_fit` and `windows_of`.

    Parameters
    ----------
    g : callable
        As for `ridge_fit`.
    turns : sequence of float
        The 1/λ at which something happens to g, besides the pole.
    ridge : float
        It has a pole at −ridge.
    eigenvalues : Tensor
        Ascending, those at which g is wanted; weights and poles are on their device.
    nodes : int
        Of each window.

    Returns
    -------
    weights, poles : Tensor of shape (n_p,), complex
    """
    first, last = windows_of(turns, ridge, eigenvalues)
    poles = [contour(k, nodes, eigenvalues)[0] for k in range(first, last + 1)]
    return ridge_fit(g, first, last, nodes).to(eigenvalues.device), torch.cat(poles)


@cache
def _least_squares(n_windows: int, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """λ, U and V/Σ for so many windows from that of 1 on: others are these in other units."""
    like = torch.empty(0, dtype=torch.float64)
    poles = torch.cat([contour(k, nodes, like)[0] for k in range(n_windows)])
    smallest = _SMALLEST - n_windows * math.log10(_WINDOW)
    n_points = math.ceil(_POINTS * (_LARGEST - smallest))
    decades = torch.linspace(smallest, _LARGEST, n_points, dtype=torch.float64)
    grid = torch.cat([like.new_zeros(1), 10**decades])
    terms = grid[:, None] / (grid[:, None] + poles)
    U, sigma, Vh = torch.linalg.svd(torch.cat([terms.real, -terms.imag], 1), full_matrices=False)
    kept = sigma > _RESOLVED * sigma[0]
    return grid, U[:, kept], Vh[kept].mT / sigma[kept]
