"""The flow with D frozen, over any time h: in closed form for the squared error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sklearn_gflow.geometry import PSEUDOINVERSE, CrossEntropy, GramFunction, TangentFactor

__all__ = ["cross_entropy_motion", "exponential"]

# The classical solvers see a finite end; at this many units of τ every mode that moves has moved.
_FOREVER = 1e6
_TOLERANCES = {"rtol": 1e-8, "atol": 1e-10}


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
    return GramFunction(inverse, lambda lam: -decay * torch.expm1(-kappa * lam) / lam)


def cross_entropy_motion(
    x: Tensor, factor: TangentFactor, cost: CrossEntropy, alpha: float, h: float, scale: float
) -> Tensor:
    """Δx of x' = −N(α1 + (1−α)G/c) P ∇ₓC(x) (2.41) over a time h, G frozen.

    ∇ₓC is not linear in x, so scipy integrates the outputs. At α = 1 the equation is not stiff
    (the curvature of C bounds its rates) and its limit h = ∞ at full rank is known; with
    α < 1 the spectrum of G makes it stiff.

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
    if alpha == 1 and math.isinf(h) and factor.rank == len(x):
        return cost.minimizer(x) - x
    span = (0.0, min(h, _FOREVER))
    like: dict[str, Any] = {"dtype": x.dtype, "device": x.device}

    def velocity(outputs: np.ndarray) -> Tensor:
        return -cost.total_weight * cost.gradient(torch.tensor(outputs, **like))

    start = x.cpu().numpy()
    if alpha == 1:
        path = solve_ivp(
            lambda _, z: factor.project(velocity(z)).cpu().numpy(),
            span, start, method="LSODA", t_eval=span[1:], **_TOLERANCES,
        )  # fmt: skip
    else:
        family = GramFunction(0.0, lambda lam: alpha + (1 - alpha) * lam / scale)
        matrix = factor.apply(family, torch.eye(len(x), **like))
        n, Q = cost.targets.shape

        def jacobian(_: float, z: np.ndarray) -> np.ndarray:
            blocks = cost.curvature(torch.tensor(z, **like))
            product = -torch.einsum("anq,nqr->anr", matrix.view(-1, n, Q), blocks)
            return product.reshape(len(x), -1).cpu().numpy()

        path = solve_ivp(
            lambda _, z: (matrix @ velocity(z)).cpu().numpy(),
            span, start, method="BDF", jac=jacobian, t_eval=span[1:], rtol=1e-4, atol=1e-6,
        )  # fmt: skip
    if not path.success:  # the step then counts as non-finite, and a shorter one is tried
        return torch.full_like(x, math.nan)
    return torch.tensor(path.y[:, -1], **like) - x
