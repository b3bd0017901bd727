"""The exponential step: D frozen over a step, the flow then followed to its end (any α, any h).

`FrozenFlow` says where a step of length h leads to first order; here the network takes it, and how
far its outputs are from the frozen flow's is the error of the step. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sklearn_gflow.dynamics.frozen import FrozenFlow
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import PSEUDOINVERSE, Cost, DifferentiableMap, TangentFactor, TangentMap
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Step", "Stepper"]


@dataclass(frozen=True)
class Step:
    """A step of length h: where it leads and how far the outputs are from the frozen-D flow.

    Attributes
    ----------
    h : float
        Length in τ.
    theta : Tensor of shape (K,)
        θ at its end.
    tangent : TangentMap
        The output map there.
    loss : float
        C there.
    error : float
        |x(θ + Δθ) − (x + Δx)| / |x* − x₀|: what D's change over the step did.
    """

    h: float
    theta: Tensor
    tangent: TangentMap
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
        Where the steps begin.
    factor : TangentFactor
        Of ``point.tangent``.
    output_map, cost
        As for the flow.
    alpha, scale, ridge : float
        α, c and μ.
    limit : Tensor of shape (Q·N,)
        Where Euclidean gradient flow from x₀ ends: y for the squared error.
    distance : float
        |x* − x₀|, the unit of errors.
    accepts : callable, optional
        ``(point, its follower) -> bool``: the veto of others on a step.
    """

    point: Point
    factor: TangentFactor
    output_map: DifferentiableMap
    cost: Cost
    alpha: float
    scale: float
    limit: Tensor
    distance: float
    ridge: float = 0.0
    accepts: Callable[[Point, Point], bool] | None = None

    @cached_property
    def frozen(self) -> FrozenFlow:
        """The flow with D held fixed at the point."""
        return FrozenFlow(
            self.factor, self.cost, self.point.outputs, self.point.residual,
            self.alpha, self.scale, self.ridge, self.limit,
        )  # fmt: skip

    @property
    def order(self) -> int:
        """Power of the displacement that the error of one step goes with."""
        return 3 if self.alpha == 1 else 2

    def step(self, h: float) -> Step:
        """One step of length h in τ."""
        displacement, motion = self.frozen.move(h)
        target = self.point.outputs + motion
        theta = self.point.theta + displacement
        if self.alpha == 1:
            defect = target - self.output_map.outputs(theta)
            theta = theta + self.factor.lift(PSEUDOINVERSE, defect)
        # Where the step is accepted its end is the next point, which needs D there as well: the
        # output map is linearised once, here.
        tangent = self.output_map.linearize(theta)
        error = norm(tangent.outputs - target) / self.distance
        return Step(h, theta, tangent, self.cost.value(tangent.outputs), error)

    def after(self, step: Step) -> Point:
        """The point that a step leads to."""
        return Point.of(step.tangent, self.cost, self.point.tau + step.h, step.theta)

    def vetoed(self, step: Step) -> bool:
        """Whether a callback rejects a step that is good otherwise."""
        return self.accepts is not None and not self.accepts(self.point, self.after(step))
