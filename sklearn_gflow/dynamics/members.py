"""Members of a mean of networks, which flow side by side: each by itself, over the same rows.

The Gram of a mean is the mean of the members' Grams over their number M. In the unit M c a member
flows as the mean does in the unit c, but with its own residual in place of that of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import Cost, DifferentiableMap, TangentMap

__all__ = ["StepOfOne", "side_by_side"]

StepOfOne = Callable[[DifferentiableMap, Point, int, Tensor | None], Tensor | None]
"""(map, point, M, last step) ↦ Δθ of one network; None where it is not to be had."""


def side_by_side(
    output_map: DifferentiableMap, cost: Cost, point: Point, last: Tensor | None, step_of: StepOfOne
) -> Tensor | None:
    """Δθ of all members, one behind the other; of what is no mean its own.

    Parameters
    ----------
    output_map, cost, point
        Of the mean.
    last : Tensor of shape (K,) or None
        The last step of all members.
    step_of : callable
        Makes the step of one.
    """
    parts = point.tangent.members
    if not parts:
        return step_of(output_map, point, 1, last)
    lasts = [None] * len(parts) if last is None else last.chunk(len(parts))
    steps = [
        step_of(one, _at(tangent, cost, point.tau, theta), len(parts), own)
        for (one, tangent), theta, own in zip(
            parts, point.theta.chunk(len(parts)), lasts, strict=True
        )
    ]
    found = [step for step in steps if step is not None]
    return torch.cat(found) if len(found) == len(steps) else None


def _at(tangent: TangentMap, cost: Cost, tau: float, theta: Tensor) -> Point:
    """Where a member is; no step asks for its loss, and that of the mean is known."""
    return Point(tau, theta, tangent, math.nan, cost.residual(tangent.outputs))
