"""A schedule for those who want the end of the flow and not its path: as few Grams as will do.

Notation: docs/notation.md; r = y − x.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.schedule import Adaptive
from sklearn_gflow.dynamics.step import Step, Stepper
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Fast"]

# The defect of a move, in units of it, that the first one after a factorisation aims at, and that
# later ones do. What a move leaves may be as long as the move and at right angles to the way.
_FIRST_DEFECT, _DEFECT = 0.5, 0.7
_LARGEST_CUT, _LARGEST_GROWTH = 0.3, 2.0
# A move has to bring at least this share of the way that it was to go.
_LEAST_GAIN = 0.1
_SHORTEST = 0.02
# A factorisation takes as long as about so many moves, and a factor is given up where the next move
# is to gain less than so many times the mean over all that was spent on it.
_FACTORISATION, _PATIENCE = 10.0, 2.0
# So many moves are remembered as secants, and none that left more than this share of its direction.
_SECANTS, _MOST_LEFT = 5, 0.95


class _Place(NamedTuple):
    """Where a move has led."""

    theta: Tensor
    outputs: Tensor
    residual: Tensor
    distance: float  # |r|


@dataclass
class Fast(Adaptive):
    """Many moves with one factor: at α = 1 to τ = ∞, of a cost whose gradient is linear in x.

    A move is an Euler step η of the flow whose D⁺ lags behind, θ ← θ + η D⁺(y − x(θ)), and costs
    an evaluation of the network and a solve. What moves have shown of D since corrects it, by
    Broyden's rank-one updates. η follows from the defect of the move before, and is
    1 in the end, where moves are chords of Newton's method. A factor is kept while the next move is
    to gain more of ln |r| than factorisation and moves did on average, so that a flow to the end
    takes four to six Grams, where one that keeps to its path takes seven to twelve. Since each move
    corrects what the last one missed, D⁺ is in float32 where that resolves all of its modes, and so
    are the outputs while the targets are far. Where no move is good, or
    a callback rejects where they led, steps are those of `Adaptive`.

    A step is what was done with one factor. Outputs leave the line from x₀ to y on the way, and
    the clock of moves is that of the distance that is left, τ = ln |r₀|/|r|, as on the line.

    Parameters
    ----------
    tau_end : float
        ∞.
    tolerance : float
        Of the steps of `Adaptive`.
    """

    changing: ClassVar[tuple[str, ...]] = (*Adaptive.changing, "_bend")
    rough: ClassVar[bool] = True

    tau_end: float = math.inf
    _bend: float = 0.0  # defect of a first move, in units of it, for each length that θ went

    def take(self, stepper: Stepper) -> Step | Outcome:
        """Move as long as it pays.

        Raises
        ------
        ValueError
            If the flow is another than that of α = 1 and a linear cost.
        """
        if stepper.alpha < 1 or not stepper.cost.linear:
            raise ValueError("Fast follows the flow of α = 1 of the squared error; use Adaptive")
        if stepper.point.tau == 0:
            self._bend = 0.0
        end = self._moved(stepper)
        step = None if end is None else self._step(stepper, end)
        if step is None or stepper.vetoed(step):
            return super().take(stepper if stepper.exact is None else stepper.exact())
        return step

    def marks_within(self, start: float, end: float) -> list[float]:
        """No marks: where the flow is on the way of a step is not known."""
        return []

    def _step(self, stepper: Stepper, end: _Place) -> Step | None:
        """The moves as one step, whose error is how far its end is from the line.

        None where they came no nearer, which outputs in float32 may have hidden.
        """
        tangent = stepper.output_map.linearize(end.theta)
        before, after = norm(stepper.point.residual), norm(stepper.cost.residual(tangent.outputs))
        if not after < before:
            return None
        h = math.log(before / after) if after else math.inf
        missed = tangent.outputs - stepper.point.outputs - stepper.frozen.move(h)[1]
        loss = stepper.cost.value(tangent.outputs)
        return Step(h, end.theta, tangent, loss, norm(missed) / stepper.distance)

    def _moved(self, stepper: Stepper) -> _Place | None:
        """Where moves with the factor led; None where the first one would not do."""
        point = stepper.point
        start = place = _Place(
            point.theta, point.outputs, point.residual, norm(point.residual)
        )  # fmt: skip
        direction, way = stepper.frozen.move(math.inf)
        eta, spent = self._first(norm(direction)), _FACTORISATION
        secants = _Secants()
        while True:
            after, defect = _move(stepper, place, direction, way, eta)
            spent += 1
            first = place is start
            if first and math.isfinite(defect):
                self._bend = defect / (eta * norm(direction))
            if not after.distance < (1 - _LEAST_GAIN * eta) * place.distance:  # or NaN
                if not first:
                    return place
                eta *= max(min(0.5, _FIRST_DEFECT / defect), 1e-2) if defect < math.inf else 0.1
                if eta < _SHORTEST:
                    return None
                continue
            following = _following(eta, defect)
            gain = _gain(place, after) * following / eta
            place = after
            if gain * spent < _PATIENCE * _gain(start, place):
                return place
            lifted, way = stepper.frozen.gauss_newton(place.residual)
            direction = secants.after(direction, eta, lifted)
            eta = following

    def _first(self, length: float) -> float:
        """η of the first move, whose defect grows with the length that θ goes."""
        bend = self._bend * length
        return min(1.0, max(_SHORTEST, _FIRST_DEFECT / bend)) if bend else 1.0


class _Secants:
    """Broyden's corrections of D⁺ by the moves that were made with it.

    B, which stands for D, is to map each move s to the motion Δx of the outputs there, and changes
    in no direction at right angles to s (Broyden's first update). By Sherman and Morrison

        B⁻¹ ← B⁻¹ + a sᵀB⁻¹,    a = (s − B⁻¹Δx)/(sᵀB⁻¹Δx),

    and no solve is needed besides that for the next residual r₊: after s = ηB⁻¹r, Δx = r − r₊.
    """

    def __init__(self) -> None:
        self.updates: deque[tuple[Tensor, Tensor]] = deque(maxlen=_SECANTS)  # (a, s)

    def after(self, direction: Tensor, eta: float, lifted: Tensor) -> Tensor:
        """B⁻¹r₊ after a move of η times a direction B⁻¹r; D⁺r₊ is what was lifted."""
        following = lifted
        for a, s in self.updates:
            following = following + a * (s @ following)
        seen = direction - following  # B⁻¹Δx
        along = direction @ seen
        if not bool(along > (1 - _MOST_LEFT) * (direction @ direction)):  # or NaN
            return following
        a = (eta * direction - seen) / (eta * along)
        self.updates.append((a, eta * direction))
        return following + a * (eta * direction @ following)


def _move(
    stepper: Stepper, place: _Place, direction: Tensor, way: Tensor, eta: float
) -> tuple[_Place, float]:
    """Where a move leads, and by how much outputs miss the way that they were to go, of it."""
    theta = place.theta.add(direction, alpha=eta)
    outputs = stepper.outputs(theta, place.distance)
    residual = stepper.cost.residual(outputs)
    defect = norm(outputs - place.outputs - eta * way) / (eta * norm(way) or math.inf)
    return _Place(theta, outputs, residual, norm(residual)), defect


def _following(eta: float, defect: float) -> float:
    """η of the next move, by the defect of the last one."""
    growth = _DEFECT / defect if defect else math.inf
    return min(1.0, eta * min(_LARGEST_GROWTH, max(_LARGEST_CUT, growth)))


def _gain(before: _Place, after: _Place) -> float:
    """ln |r| before, less after."""
    return math.log(before.distance / after.distance) if after.distance else math.inf
