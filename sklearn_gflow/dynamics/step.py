"""The exponential step: D frozen over a step, the flow then followed to its end (any α, any h).

`FrozenFlow` says where a step of length h leads to first order; here the network takes it, and how
far its outputs are from the frozen flow's is the error of the step. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sklearn_gflow.dynamics.frozen import FrozenFlow
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    Cost,
    DifferentiableMap,
    OutputMap,
    TangentFactor,
    TangentMap,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Step", "Stepper", "chord"]

# A chord is repeated while it leaves more than this share of the motion, and while each of them
# leaves at most this share of what it found.
_ENOUGH, _CONTRACTION = 0.1, 0.5
_MOST_CHORDS = 5
# Outputs in float32 will do while the way that is left is so many of their roundings.
_FAR = 5e3


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
        What D's change over the step did to the outputs, of |x* − x₀|; see `Stepper`.
    chord : Tensor of shape (Q·N,) or None
        The defects that chords corrected, all in all; None where there was none.
    """

    h: float
    theta: Tensor
    tangent: TangentMap
    loss: float
    error: float
    chord: Tensor | None = None

    @property
    def finite(self) -> bool:
        """Whether outputs and loss are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.error)


@dataclass(frozen=True)
class Stepper:
    """Exponential steps of any length from one point, all with one factorisation.

    The outputs miss the x + Δx of the frozen flow by what D⁺ does to θ: a small mode moves as fast
    as a large one there, on a way in θ that is longer by the root of their ratio. For α > 0 the
    step is therefore corrected towards them by the `chord`, with the factor at hand; with a ridge,
    which holds such modes back, at α = 1 alone. One chord leaves O(h³) of a defect of O(h²).

    What is left of it is the error at α = 1, where the flow's own outputs are x + Δx wherever D has
    full rank. Below, the change of G moves them as well, to second order by

        e = φ(αh) (1−α)/c (G(θ + Δθ) − G(θ)) ∫(s/h) r(s) ds,    φ(z) = (1 − e^{−z})/z,

    with r along the frozen flow, while G changes as s/h; each mode forgets at the rate α or faster.
    The error is then |x(θ + Δθ) − (x + Δx) − e|. Without a chord the defect stands for both.

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
    single : OutputMap, optional
        The output map in float32, where `Schedule.rough` asks for it and there is one.
    exact : callable, optional
        Makes the same of a factor in the precision of the map, where this one is in float32.
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
    single: OutputMap | None = None
    exact: Callable[[], Stepper] | None = None

    @cached_property
    def frozen(self) -> FrozenFlow:
        """The flow with D held fixed at the point."""
        return FrozenFlow(
            self.factor, self.cost, self.point.outputs, self.point.residual,
            self.alpha, self.scale, self.ridge, self.limit,
        )  # fmt: skip

    def outputs(self, theta: Tensor, distance: float) -> Tensor:
        """x(θ), in float32 where that hardly changes a distance from the targets."""
        if self.single is None or distance < self._far:
            return self.output_map.outputs(theta)
        return self.single.outputs(theta.to(self.single.dtype)).to(theta.dtype)

    @cached_property
    def _far(self) -> float:
        assert self.single is not None
        offset = self.single.offset
        size = norm(self.limit) + (0.0 if offset is None else norm(offset))
        return _FAR * torch.finfo(self.single.dtype).eps * size

    @property
    def order(self) -> int:
        """Power of the displacement that the error of one step goes with."""
        return 3 if self.alpha == 1 else 2

    @property
    def closed_form(self) -> bool:
        """Whether the frozen flow is at hand at every time, and needs not be integrated."""
        return self.cost.linear

    def step(self, h: float) -> Step:
        """One step of length h in τ."""
        displacement, motion = self.frozen.move(h)
        target = self.point.outputs + motion
        theta = self.point.theta + displacement
        # Where the step is accepted its end is the next point, which needs D there as well: the
        # output map is linearised once, here or by the last chord.
        defects = None
        if self.corrected:
            theta, tangent, defects = chord(
                self.output_map, self.factor, theta, target, norm(motion)
            )
        else:
            tangent = self.output_map.linearize(theta)
        missed = tangent.outputs - target
        if self.corrected and self.alpha < 1:
            missed = missed - self._change_of_kernel(h, tangent)
        error = norm(missed) / self.distance
        return Step(h, theta, tangent, self.cost.value(tangent.outputs), error, defects)

    @property
    def corrected(self) -> bool:
        """Whether a chord follows the step."""
        return self.alpha == 1 or (self.alpha > 0 and not self.ridge)

    def _change_of_kernel(self, h: float, end: TangentMap) -> Tensor:
        """By how much the change of G moves the outputs beyond those of the frozen flow."""
        moment, start = self.frozen.moment(h), self.point.tangent
        change = end.push(end.pull(moment)) - start.push(start.pull(moment))
        z = self.alpha * h  # which is 0 for an α that is hardly any, and ∞ at h = ∞
        forgotten = -math.expm1(-z) / z if z else 1.0
        return change.mul_(forgotten * (1 - self.alpha) / self.scale)

    def rise(self, error: float) -> float:
        """By how much an error of the outputs may raise the loss, to second order."""
        slope = norm(self.point.residual)
        return error * (slope + self.cost.unit * error / 2) / self.cost.total_weight

    def after(self, step: Step) -> Point:
        """The point that a step leads to."""
        return Point.of(step.tangent, self.cost, self.point.tau + step.h, step.theta)

    def vetoed(self, step: Step) -> bool:
        """Whether a callback rejects a step that is good otherwise."""
        return self.accepts is not None and not self.accepts(self.point, self.after(step))


def chord(
    output_map: DifferentiableMap,
    factor: TangentFactor,
    theta: Tensor,
    target: Tensor,
    motion: float,
) -> tuple[Tensor, TangentMap, Tensor]:
    """Correct θ towards outputs by θ ← θ + D⁺(target − x(θ)), the factor being that of a θ nearby.

    One correction is all that a step needs whose error is small beside it. More follow where
    little of the way would be left otherwise, as long as they gain: modes that are hardly resolved
    bend the way in θ so much that the steps would be a thousand times shorter.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).
    factor : TangentFactor
        Of D.
    theta : Tensor of shape (K,)
        Where to begin; not changed.
    target : Tensor of shape (Q·N,)
        Outputs to be reached.
    motion : float
        Length of the way there, by which defects are judged.

    Returns
    -------
    theta : Tensor of shape (K,)
        After the last correction.
    tangent : TangentMap
        The output map there.
    corrected : Tensor of shape (Q·N,)
        Sum of the defects that were corrected.
    """
    defect = target - output_map.outputs(theta)
    corrected = torch.zeros_like(defect)
    left = norm(defect)
    for _ in range(_MOST_CHORDS):
        theta = theta + factor.lift(PSEUDOINVERSE, defect)
        corrected += defect
        tangent = output_map.linearize(theta)
        defect, before = target - tangent.outputs, left
        left = norm(defect)
        if not _ENOUGH * motion < left <= _CONTRACTION * before:  # which is false of NaN
            break
    return theta, tangent, corrected


def displacement(point: Point, frozen: FrozenFlow, h: float, kept: Tensor | None) -> Tensor:
    """Δθ of the frozen flow, plus (1 − D⁺D) s, s being what momentum keeps of the last step."""
    target, smooth = frozen.split(h)
    if kept is not None:
        target = target - point.tangent.push(kept)
    terms = [(PSEUDOINVERSE, target)]
    if smooth is not None:
        terms.append((smooth, point.residual))
    lifted = frozen.factor.lift_all(*terms)
    return lifted if kept is None else lifted + kept
