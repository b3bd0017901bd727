"""The exponential step: D frozen over a step, the flow then integrated exactly (any α, any h)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sklearn_gflow.dynamics.frozen import cross_entropy_motion, exponential
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    Cost,
    CrossEntropy,
    OutputMap,
    Tangent,
    TangentFactor,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Step", "Stepper"]


@dataclass(frozen=True)
class Step:
    """A step of length h: where it leads and how far the outputs are from the frozen-D flow.

    Attributes
    ----------
    error : float
        |x(θ + Δθ) − (x + Δx)| / |y − x₀|: what D's change over the step did.
    """

    h: float
    theta: Tensor
    tangent: Tangent
    loss: float
    error: float

    @property
    def finite(self) -> bool:
        """Whether outputs and loss are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.error)


@dataclass(frozen=True)
class Stepper:
    """Exponential steps of any length from one point, all with one factorisation.

    At α = 1 the frozen-D outputs x + Δx are the flow's own wherever D has full rank. The step
    is therefore corrected once towards them by the chord Δθ ← Δθ + D⁺(x + Δx − x(θ + Δθ)),
    with the factor at hand: the defect of one step falls from O(h²) to O(h³).

    Parameters
    ----------
    point : Point
    factor : TangentFactor
        Of ``point.tangent``.
    output_map, cost
        As for the flow.
    alpha, scale : float
        α and c.
    limit : Tensor of shape (Q·N,)
        Where Euclidean gradient flow from x₀ ends: y for the squared error.
    distance : float
        |y − x₀|, the unit of errors.
    """

    point: Point
    factor: TangentFactor
    output_map: OutputMap
    cost: Cost
    alpha: float
    scale: float
    limit: Tensor
    distance: float

    @property
    def order(self) -> int:
        """Power of the displacement that the error of one step goes with."""
        return 3 if self.alpha == 1 else 2

    def step(self, h: float) -> Step:
        """One step of length h in τ."""
        displacement, motion = self._frozen_flow(h)
        target = self.point.outputs + motion
        theta = self.point.theta + displacement
        if self.alpha == 1:
            defect = target - self.output_map.outputs(theta)
            theta = theta + self.factor.lift(PSEUDOINVERSE, defect)
        # An accepted step is the next point: what that needs is evaluated here, once.
        tangent = self.output_map.linearize(theta)
        error = norm(tangent.outputs - target) / self.distance
        return Step(h, theta, tangent, self.cost.value(tangent.outputs), error)

    def _frozen_flow(self, h: float) -> tuple[Tensor, Tensor]:
        """(Δθ, Δx = DΔθ) of the flow with D frozen."""
        if isinstance(self.cost, CrossEntropy):
            motion = self._cross_entropy_motion(self.cost, h)
            if self.factor.damped:
                return self.factor.move(PSEUDOINVERSE, motion)
            return self.factor.lift(PSEUDOINVERSE, motion), motion
        f = exponential(self.alpha, h, self.scale)
        if f.smooth is None:  # one direction for all h: a shorter step costs no solve
            displacement, motion = self._gauss_newton
            return f.inverse * displacement, f.inverse * motion
        return self.factor.move(f, self.point.velocity)

    def _cross_entropy_motion(self, cost: CrossEntropy, h: float) -> Tensor:
        x = self.point.outputs
        if self.alpha == 1 and math.isinf(h) and self.factor.rank == len(x):
            # The way is known to its end. The limit is that of x₀: the flow conserves mean
            # logits, but the errors of the steps before did not.
            return self.limit - x
        return cross_entropy_motion(x, self.factor, cost, self.alpha, h, self.scale)

    @cached_property
    def _gauss_newton(self) -> tuple[Tensor, Tensor]:
        velocity = self.point.velocity
        if self.factor.damped:
            return self.factor.move(PSEUDOINVERSE, velocity)
        return self.factor.lift(PSEUDOINVERSE, velocity), self.factor.project(velocity)  # DD⁺ = P
