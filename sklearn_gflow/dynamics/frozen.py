"""The flow with D frozen, over any time h: in closed form for the squared error."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sklearn_gflow.geometry import PSEUDOINVERSE, CrossEntropy, GramFunction, TangentFactor
from sklearn_gflow.geometry.vectors import norm

__all__ = ["cross_entropy_motion", "exponential"]

_CURVATURE = 0.5  # of the cross-entropy, N·∇ₓ²C = diag(p) − ppᵀ ≤ ½
# Of substeps, relative to the length of the whole way. Errors of order two are cheap to avoid;
# with a stiff spectrum the order falls to one, and a step may err by more than this anyway.
_TOLERANCE, _STIFF_TOLERANCE = 1e-5, 1e-3
_FIRST_SUBSTEP = 1e-2
_FOREVER = 1e4
_AT_REST = 1e-6


def exponential(alpha: float, h: float, scale: float) -> GramFunction:
    """f(λ) = (1 − e^{−h(α + (1−α)λ/c)})/λ, the flow of the squared error over a time h.

    With D frozen, r = y − x obeys r' = −(α + (1−α)G/c) P r (2.41), so that Δθ = Dᵀ f(G) r and
    Δx = (1 − e^{−h(α + (1−α)G/c)}) P r, exactly. Written as a multiple of 1/λ plus a smooth
    function: 1 − e^{−hα}e^{−κλ} = (1 − e^{−hα}) + e^{−hα}(1 − e^{−κλ}), κ = h(1−α)/c.

    Parameters
    ----------
    alpha : float
        α of (2.32).
    h : float
        Step in τ = s/N; ∞ gives the pseudoinverse, a Gauss–Newton step.
    scale : float
        c, the unit of λ.

    Returns
    -------
    GramFunction
    """
    if math.isinf(h):
        return PSEUDOINVERSE
    inverse, decay, kappa = -math.expm1(-h * alpha), math.exp(-h * alpha), h * (1 - alpha) / scale
    if kappa == 0:
        return GramFunction(inverse)
    return GramFunction(
        inverse, lambda lam: -decay * torch.expm1(-kappa * lam) / lam, turn=1 / kappa
    )


def cross_entropy_motion(
    x: Tensor, factor: TangentFactor, cost: CrossEntropy, alpha: float, h: float, scale: float
) -> Tensor:
    """Δx of x' = N·m(G) P (−∇ₓC(x)) (2.41) over a time h, with m(λ) = α + (1−α)λ/c, G frozen.

    ∇ₓC is not linear in x, and the spectrum of G makes the equation stiff. With κ = ½, which
    bounds the curvature of the cost, x' = −κ m(G) x + m(G) P n(x) has a mild remainder n, and
    exponential steps of second order (Cox and Matthews, 2002) carry it to the end: the first
    of their two stages is `exponential` with h·κ in place of h.

    Parameters
    ----------
    x : Tensor of shape (Q·N,)
        Outputs at the start of the step.
    factor : TangentFactor
        Of D there; with eigenvectors, for α < 1.
    cost : CrossEntropy
        C.
    alpha, h, scale : float
        As for `exponential`.

    Returns
    -------
    Tensor of shape (Q·N,)
    """

    def spread(weight: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        """weight(m(G)) P v."""
        if alpha == 1:
            return weight(v.new_ones(())) * factor.project(v)
        f = GramFunction(0.0, lambda lam: weight(alpha + (1 - alpha) * lam / scale))
        return factor.apply(f, v)

    def velocity(z: Tensor) -> Tensor:
        return -cost.total_weight * cost.gradient(z)

    tolerance = (_TOLERANCE if alpha == 1 else _STIFF_TOLERANCE) * cost.distance(x)
    z, g, left, step = x, velocity(x), min(h, _FOREVER), min(h, _FIRST_SUBSTEP)
    while left > 0:
        step = min(step, left)
        first = z + spread(partial(_first_stage, step), g)
        remainder = velocity(first) - g + _CURVATURE * (first - z)
        change = spread(partial(_second_stage, step), remainder)
        error = norm(change)
        if not math.isfinite(error):  # the step counts as non-finite, and a shorter one is tried
            return torch.full_like(x, math.nan)
        if error <= tolerance:
            left -= step
            z = first + change
            g = velocity(z)
            if norm(factor.project(g)) <= _AT_REST * tolerance:
                break
        step *= min(max(0.9 * (tolerance / error) ** 0.5 if error else 5.0, 0.2), 5.0)
    return z - x


def _first_stage(h: float, m: Tensor) -> Tensor:
    return -torch.expm1(-h * _CURVATURE * m) / _CURVATURE


def _second_stage(h: float, m: Tensor) -> Tensor:
    return h * m * _phi2(h * _CURVATURE * m)


def _phi2(z: Tensor) -> Tensor:
    """(e^{−z} − 1 + z)/z², by its series where the difference cancels."""
    small = z < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 0.5 - z / 6 + z * z / 24, (torch.expm1(-safe) + safe) / safe**2)
