"""A point of a flow: τ, θ, the output map there to first order, and what the cost says of it.

The flows hand points to their schedules and callbacks. Notation: docs/notation.md; r = −N∇ₓC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sklearn_gflow.geometry import Cost, DifferentiableMap, TangentMap

__all__ = ["Origin", "Point"]


@dataclass(frozen=True)
class Point:
    """A point of the flow.

    Attributes
    ----------
    tau : float
        τ = s/N.
    theta : Tensor of shape (K,)
        θ.
    tangent : TangentMap
        x(θ) and D.
    loss : float
        C(x).
    residual : Tensor of shape (Q·N,)
        r = −N∇ₓC(x): y − x for the squared error.
    """

    tau: float
    theta: Tensor
    tangent: TangentMap
    loss: float
    residual: Tensor

    @classmethod
    def at(cls, output_map: DifferentiableMap, cost: Cost, tau: float, theta: Tensor) -> Point:
        """Evaluate the output map and the cost at θ."""
        return cls.of(output_map.linearize(theta), cost, tau, theta)

    @classmethod
    def of(cls, tangent: TangentMap, cost: Cost, tau: float, theta: Tensor) -> Point:
        """The point of an output map that is evaluated already."""
        x = tangent.outputs
        return cls(tau, theta, tangent, cost.value(x), cost.residual(x))

    @property
    def outputs(self) -> Tensor:
        """x(θ), shape (Q·N,)."""
        return self.tangent.outputs


class Origin(NamedTuple):
    """Where a flow began that another goes on with.

    What a flow measures at its start (c, the ridge, the unit of errors, the line, the kernel whose
    drift is told) is then measured there, so that several flows in a row are one.

    Attributes
    ----------
    theta : Tensor of shape (K,)
        θ₀.
    tau : float
        The time τ that has passed since; may be ∞.
    """

    theta: Tensor
    tau: float

    def point(self, output_map: DifferentiableMap, cost: Cost) -> Point:
        """The point there, on the clock of the flow that goes on: its time is before zero."""
        return Point.at(output_map, cost, -self.tau, self.theta)
