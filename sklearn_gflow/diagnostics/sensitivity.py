"""How much of a solution rounding decides: what the last bits of D move, accumulated along a flow.

D⁺ moves a mode of G with the eigenvalue λ on a way in θ that is longer by the root of λ_max/λ, and
the rounding of G, eps·λ_max, is seen by it enlarged by λ_max/λ. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping

import torch
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Event
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.time import t_from_tau
from sklearn_gflow.geometry import PSEUDOINVERSE, Cost, TangentFactor
from sklearn_gflow.geometry.functions import smooth_tolerance
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Sensitivity"]

# Up to this share of a step the condition alone bounds what rounding does to it, without a solve.
_HARMLESS = 1e-9
# By how much an error in θ grows over a step, per share of the motion that D's change takes in it;
# fitted to perturbed fits, see docs/reliability.md.
_GROWTH = 0.2
_SEED = 0


class Sensitivity(Callback):
    """An estimate of |δθ|/|Δθ| along a flow, δθ being what rounding does to its way Δθ.

    G is known to eps·tr G. A step Δθ = Dᵀz is therefore known to D⁺e with a random e of length
    eps·tr G·|z|; from a decomposition of D itself, of length eps·(tr G)^½·|Δθ|. With ρ the ratio
    of this to |Δθ|, and q the error of the step relative to its motion, which measures how much D
    changes, errors add up as

        S ← (1 + q/5) S + ρ,

    at most to 1. Of z only D⁺'s part counts, (1 − e^{−αh}) G⁺r, ridge included: smooth functions
    of G are as well determined as G, and the accuracy to which they are applied is a part of ρ.
    Where eps times the condition says that ρ is small nothing is solved.

    It is what this flow loses: one that goes on with another begins at zero. The column
    "sensitivity" is NaN from where the condition is not known, or steps have no error.

    Parameters
    ----------
    cost : Cost
        C.
    alpha : float
        α of the flow.
    """

    changing = ("value", "before_step", "spread")

    def __init__(self, cost: Cost, alpha: float) -> None:
        self.cost, self.alpha = cost, alpha

    def start(self, event: Event) -> Mapping[str, float]:
        """Nothing is lost at the start."""
        self.distance = self.cost.distance(event.point.outputs)
        self.value = self.before_step = 0.0
        self.spread: float | None = None
        self.direction: Tensor | None = None
        self.factor: weakref.ref[TangentFactor] | None = None
        return {"sensitivity": 0.0}

    def step(self, event: Event) -> Mapping[str, float]:
        """After a step, or at a mark within one, which has the factor of its step."""
        if event.factor is None or event.before is None:
            return {"sensitivity": math.nan}
        # A reference that keeps the factor alive would keep the memory of a Gram.
        if self.factor is None or self.factor() is not event.factor:
            self.factor, self.origin = weakref.ref(event.factor), event.before.tau
            self.where = event.before.theta, event.before.outputs, event.before.residual
            self.before_step = self.value
        grown = self.before_step * (1 + _GROWTH * self._bend(event))
        self.value = min(grown + self._rounding(event.factor, event.before, event.point), 1.0)
        if math.isnan(grown):  # which `min` may not see
            self.value = math.nan
        return {"sensitivity": self.value}

    def _bend(self, event: Event) -> float:
        """q: the error of the step, relative to the motion of the outputs."""
        motion = norm(event.point.outputs - self.where[1])
        return event.error * self.distance / motion if motion else 0.0

    def _rounding(self, factor: TangentFactor, before: Point, after: Point) -> float:
        """ρ: what rounding of D does to a step, relative to its length."""
        start, _, residual = self.where
        eps = torch.finfo(start.dtype).eps
        # Several steps may begin at τ = ∞.
        h = after.tau - self.origin if math.isfinite(self.origin) else math.inf
        lifted = float(t_from_tau(self.alpha * h)) if self.alpha else 0.0
        smooth = smooth_tolerance(start.dtype) if self.alpha < 1 else 0.0
        bound = lifted * eps * factor.condition
        length = norm(after.theta - start)
        if not bound > _HARMLESS or not length:
            return smooth + bound if length else 0.0
        if self.spread is None:
            self.spread = before.tangent.trace()
        if factor.squared:
            size = self.spread * lifted * norm(factor.apply(PSEUDOINVERSE, residual))
        else:
            size = math.sqrt(self.spread) * length
        if self.direction is None:  # drawn on the CPU, and taken to the device of the flow once
            self.direction = _direction(residual)
        moved = norm(factor.lift(PSEUDOINVERSE, eps * size * self.direction))
        return smooth + moved / length


def _direction(like: Tensor) -> Tensor:
    """A random unit vector, the same in every call."""
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.randn(len(like), generator=generator, dtype=torch.float64).to(like)
    return drawn / norm(drawn)
