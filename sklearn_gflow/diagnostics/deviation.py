"""Rank loss: how far outputs are from the straight line, measured and by Prop. 2.5.

Where D has not full rank the outputs cannot follow the line; the ranges of D alone predict by how
much they miss it. Notation: docs/notation.md; P^⊥ = 1 − P.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Event
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.time import t_from_tau
from sklearn_gflow.geometry import TangentFactor
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Deviation", "unreachable_loss"]


class Deviation(Callback):
    """|x̃(t) − line(t)|/|y − x₀| along a flow, with line(t) = (1−t)x₀ + t·y (2.51).

    Measured, and predicted from the projectors P_t on ran D alone (2.58)–(2.60): the deviation
    e(t) = x̃(t) − line(t) obeys

        e' = −P_t e/(1−t) + P_t^⊥(x₀ − y),    e(0) = 0,

    and over a step with P held fixed, exactly,

        e(t₂) = P^⊥e(t₁) + (1−t₂)/(1−t₁)·P e(t₁) + (t₂−t₁)·P^⊥(x₀ − y).

    With a ridge DD⁺ stands for P: it says what a step does to the outputs. A callback of `flow`,
    where it steps, and of `reference_flow`, where the equation is integrated. The prediction is of
    the adapted flow (α = 1); otherwise it is NaN. In a flow that goes on with another, x₀ and t are
    those of the first one, and the prediction begins anew with the P^⊥-part of what is measured.

    Parameters
    ----------
    targets : Tensor of shape (Q·N,)
        y, in the coordinates of the output map.
    alpha : float
        α of the flow.
    """

    changing = ("predicted", "begins_anew")

    def __init__(self, targets: Tensor, alpha: float = 1.0) -> None:
        self.targets = targets
        self.alpha = alpha

    def start(self, event: Event) -> Mapping[str, float]:
        """Begin at x₀, where the deviation is zero."""
        if event.state is None:
            self.initial(event)
        return self._columns(event.point)

    def initial(self, event: Event) -> Tensor:
        """Remember x₀; e there is zero."""
        first = event.origin or event.point
        self.origin, self.begun = first.outputs, first.tau
        self.way = self.targets - first.outputs
        self.length = norm(self.way) or 1.0
        self.predicted = self._measured(event.point)
        self.begins_anew = event.origin is not None
        return self.predicted

    def step(self, event: Event) -> Mapping[str, float]:
        """Carry the prediction over one step with P held fixed; at α = 1, where it is one."""
        if event.state is not None:
            self.predicted = event.state
        elif self.alpha == 1 and event.before is not None and event.factor is not None:
            before, after = (self._since(p) for p in (event.before, event.point))
            self.predicted = self._carried(before, after, event.factor)
        return self._columns(event.point)

    def rate(self, point: Point, factor: TangentFactor, state: Tensor) -> Tensor:
        """de/dτ = −P e + (1−t)P^⊥(x₀ − y)."""
        outside = factor.fitted(self.way) - self.way
        return math.exp(-self._since(point)) * outside - factor.fitted(state)

    def _since(self, point: Point) -> float:
        """τ from x₀ on; from one that lies at ∞ no time is short of it."""
        return point.tau - self.begun

    def _carried(self, start: float, end: float, factor: TangentFactor) -> Tensor:
        """e at the end of a step from one time τ to another."""
        e, shrink = self.predicted, math.exp(start - end)
        # t₂ − t₁ = (1−t₁)(1 − e^{−h}), also where t has stopped moving in float64.
        growth = -math.exp(-start) * math.expm1(start - end)
        if start == end:  # at t = 1 a further step is a Gauss–Newton step
            shrink, growth = 0.0, 0.0
        if self.begins_anew:  # errors of steps, which ran D takes back, are no part of a prediction
            shrink, self.begins_anew = 0.0, False
        Pe = factor.fitted(e)
        outside = factor.fitted(self.way) - self.way  # P^⊥(x₀ − y)
        return (e - Pe) + shrink * Pe + growth * outside

    def _measured(self, point: Point) -> Tensor:
        """x̃(t) − line(t)."""
        t = float(t_from_tau(self._since(point)))
        return point.outputs - torch.lerp(self.origin, self.targets, t)

    def _columns(self, point: Point) -> dict[str, float]:
        """Measured and predicted deviation at a point."""
        measured = norm(self._measured(point)) / self.length
        predicted = norm(self.predicted) / self.length
        return {
            "deviation": measured,
            "predicted_deviation": predicted if self.alpha == 1 else math.nan,
        }


def unreachable_loss(factor: TangentFactor, residual: Tensor, total_weight: float) -> float:
    """½|P^⊥(x − y)|²/N, the part of the cost (2.48) that no step in ran D lowers.

    Parameters
    ----------
    factor : TangentFactor
        Of D.
    residual : Tensor of shape (Q·N,)
        x − y.
    total_weight : float
        N.
    """
    outside = residual - factor.project(residual)
    return float(outside @ outside) / (2 * total_weight)
