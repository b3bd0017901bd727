"""A flow followed once more, step by step in dual form: Δθ = Dᵀu, a number for each output.

In this form it is known what each training row contributed to a step. `diagnostics.influence`
reads predictions, and what they would be without a row, off it. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from sklearn_gflow.dynamics.frozen import FrozenFlow, steps_need_eigenvectors
from sklearn_gflow.dynamics.options import FlowOptions, mean_diagonal, metric_scale
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.step import Stepper
from sklearn_gflow.geometry import PSEUDOINVERSE, Cost, DifferentiableMap, factorize

__all__ = ["DualStep", "dual_steps"]


@dataclass(frozen=True)
class DualStep:
    """A step of a flow, from a point with the output map D.

    Attributes
    ----------
    point, end : Point
        Where it begins and where it ends.
    h : float
        Its length in τ.
    dual : Tensor of shape (Q·N,)
        u with Δθ = Dᵀu, in the coordinates W^½x.
    frozen : FrozenFlow
        The flow with D held fixed that it followed, with α, c and the ridge.
    """

    point: Point
    end: Point
    h: float
    dual: Tensor
    frozen: FrozenFlow


def dual_steps(
    output_map: DifferentiableMap,
    cost: Cost,
    theta: Tensor,
    taus: Sequence[float],
    options: FlowOptions = FlowOptions(),
    *,
    eigenvectors: bool = False,
) -> Iterator[DualStep]:
    """Take the steps of the full batch's flow that end at given times.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).
    cost : Cost
        C(x).
    theta : Tensor of shape (K,)
        θ₀.
    taus : sequence of float
        Where the steps end, in τ, increasing; the last ones may be ∞. Those at which `flow`
        recorded the ends of its steps lead to the same points.
    options : FlowOptions
        Those of that flow.
    eigenvectors : bool
        Whether factors have eigenvectors where their back end knows how, because who reads the
        steps asks for them. The steps are the same to rounding.

    Yields
    ------
    DualStep

    Raises
    ------
    FactorizationError
        If the Gram of a point could not be factorised.
    """
    point = Point.at(output_map, cost, 0.0, theta)
    scale = metric_scale(point.tangent, options)
    ridge = options.damping * mean_diagonal(point.tangent) if options.damping else 0.0
    limit, distance = cost.minimizer(point.outputs), cost.distance(point.outputs)
    for tau in taus:
        factor = factorize(
            point.tangent, point.residual, solver=options.solver, rcond=options.rcond, ridge=ridge,
            eigenvectors=eigenvectors
            or steps_need_eigenvectors(point.tangent, cost, options, damped=ridge > 0),
        )  # fmt: skip
        stepper = Stepper(
            point, factor, output_map, cost, options.alpha, scale, limit, distance, ridge
        )
        # At τ = ∞ a flow goes on by Gauss–Newton steps, which end there as well.
        h = tau - point.tau if math.isfinite(point.tau) else math.inf
        step = stepper.step(h)
        dual = stepper.frozen.dual(h)
        if step.chord is not None:
            dual = dual + factor.lift_with_dual((PSEUDOINVERSE, step.chord))[1]
        end = stepper.after(step)
        yield DualStep(point, end, h, dual, stepper.frozen)
        point = end
