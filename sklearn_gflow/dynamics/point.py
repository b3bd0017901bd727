"""A point of a flow."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sklearn_gflow.geometry import Cost, OutputMap, Tangent

__all__ = ["Point"]


@dataclass(frozen=True)
class Point:
    """A point of the flow: τ, θ, and the output map there to first order."""

    tau: float
    theta: Tensor
    tangent: Tangent
    loss: float
    velocity: Tensor

    @classmethod
    def at(cls, output_map: OutputMap, cost: Cost, tau: float, theta: Tensor) -> Point:
        """Evaluate the output map and the cost at θ."""
        return cls.of(output_map.linearize(theta), cost, tau, theta)

    @classmethod
    def of(cls, tangent: Tangent, cost: Cost, tau: float, theta: Tensor) -> Point:
        """The point of an output map that is evaluated already."""
        x = tangent.outputs
        # −N∇ₓC: y − x for the squared error. The N turns s into τ.
        velocity = -cost.total_weight * cost.gradient(x)
        return cls(tau, theta, tangent, cost.value(x), velocity)

    @property
    def outputs(self) -> Tensor:
        """x(θ), shape (Q·N,)."""
        return self.tangent.outputs
