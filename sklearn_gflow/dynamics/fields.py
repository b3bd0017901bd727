"""The vector fields V_θ,α and V_x,α (2.31)–(2.41), and the metric h_α (2.45)–(2.46).

They are functions of a tangent map and a factor of it, and form no matrix of the size of h_α.
Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.geometry import Cost, GramFunction, TangentFactor, TangentMap

__all__ = ["Metric", "family_function", "output_field", "parameter_field"]


def family_function(alpha: float, scale: float = 1.0) -> GramFunction:
    """f(λ) = α/λ + (1−α)/c, for which Dᵀ f(G) = (α(DᵀD)⁺ + (1−α)/c) Dᵀ (2.32).

    Parameters
    ----------
    alpha : float
        α in [0, 1].
    scale : float
        c; 1 is the paper's field.
    """
    if alpha == 1:
        return GramFunction(1.0)
    return GramFunction(alpha, lambda lam: torch.full_like(lam, (1 - alpha) / scale))


def parameter_field(
    tangent: TangentMap, factor: TangentFactor, cost: Cost, alpha: float, *, scale: float = 1.0
) -> Tensor:
    """V_θ,α = −(α(DᵀD)⁺ + (1−α)/c) ∇θC (2.31), shape (K,).

    Parameters
    ----------
    tangent : TangentMap
        x(θ) and D.
    factor : TangentFactor
        Of ``tangent``.
    cost : Cost
        C.
    alpha : float
        α in [0, 1].
    scale : float
        c; 1 is the paper's field.

    Returns
    -------
    Tensor of shape (K,)
    """
    gradient = cost.gradient(tangent.outputs)
    if alpha == 0:  # −∇θC/c itself needs no factor
        return tangent.pull(gradient) * (-1 / scale)
    return -factor.lift(family_function(alpha, scale), gradient)


def output_field(
    tangent: TangentMap, factor: TangentFactor, cost: Cost, alpha: float, *, scale: float = 1.0
) -> Tensor:
    """V_x,α = −(α1 + (1−α)G/c) P ∇ₓC (2.41), shape (Q·N,).

    Parameters as for `parameter_field`, of which this is the image: D·V_θ,α = V_x,α.
    """
    return -Metric(tangent, factor, alpha, scale).raise_index(cost.gradient(tangent.outputs))


@dataclass(frozen=True)
class Metric:
    """h_α = (α1 + (1−α)G/c)⁻¹ on ran G (2.45)–(2.46), applied without forming it.

    V_x,α is minus the gradient of C in this metric; where the rank drops, it is sub-Riemannian:
    tangent vectors are those of ran G, and others are projected onto it first.

    Parameters
    ----------
    tangent : TangentMap
        x(θ) and D.
    factor : TangentFactor
        Of ``tangent``.
    alpha : float
        α in [0, 1].
    scale : float
        c; 1 is the paper's metric.
    """

    tangent: TangentMap
    factor: TangentFactor
    alpha: float
    scale: float = 1.0

    def raise_index(self, covector: Tensor) -> Tensor:
        """h_α⁻¹ = (α1 + (1−α)G/c) P: a gradient from a differential."""
        v = self.factor.project(covector)
        if self.alpha == 1:
            return v
        return self.alpha * v + self.tangent.push(self.tangent.pull(v)) * (
            (1 - self.alpha) / self.scale
        )

    def lower_index(self, vector: Tensor) -> Tensor:
        """h_α on the tangent part of a vector, which is zero on the complement of ran G."""
        alpha, scale = self.alpha, self.scale
        if alpha == 1:
            return self.factor.project(vector)
        if alpha == 0:
            return self.factor.apply(GramFunction(scale), vector)
        h = GramFunction(0.0, lambda lam: 1 / (alpha + (1 - alpha) * lam / scale))
        return self.factor.apply(h, vector)

    def inner(self, u: Tensor, v: Tensor) -> float:
        """⟨u, v⟩ = uᵀ h_α v of tangent vectors."""
        return float(self.factor.project(u) @ self.lower_index(v))

    def norm(self, v: Tensor) -> float:
        """√⟨v, v⟩."""
        return max(self.inner(v, v), 0.0) ** 0.5
