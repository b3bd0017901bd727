"""One step of one block of rows: the frozen flow of the block, with what momentum keeps.

The loop over blocks is in `blocks`. Notation: docs/notation.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_gflow.dynamics.frozen import FrozenFlow, needs_eigenvectors
from sklearn_gflow.dynamics.options import FlowOptions
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.step import chord, displacement
from sklearn_gflow.geometry import Cost, DifferentiableMap, factorize
from sklearn_gflow.geometry.vectors import norm

__all__ = ["block_step"]

# Relative accuracy of the smooth part of a step in single precision.
_ACCURACY = 1e-3


def block_step(
    output_map: DifferentiableMap,
    cost: Cost,
    point: Point,
    h: float,
    options: FlowOptions,
    scale: float,
    kept: Tensor | None = None,
) -> tuple[Tensor, str]:
    """Δθ of the frozen flow of a block over a time h, and the back end that gave it.

    Parameters
    ----------
    output_map, cost : DifferentiableMap, Cost
        Of the rows of the block.
    point : Point
        Where the block begins.
    h : float
        Length of the step in τ.
    options : FlowOptions
        α, solver and the ridge, which is relative to the mean of the diagonal of G.
    scale : float
        c.
    kept : Tensor of shape (K,), optional
        What momentum keeps of the last step where the block does not see it.

    Returns
    -------
    (Tensor of shape (K,), str)

    Raises
    ------
    FactorizationError
        If G has numbers that are not finite, or no factor.
    """
    ridge = options.ridge(point.tangent)
    factor = factorize(
        point.tangent,
        point.residual,
        solver=options.solver,
        eigenvectors=needs_eigenvectors(cost, options.alpha, damped=ridge > 0),
        once=True,
        tolerance=_ACCURACY if point.outputs.dtype == torch.float32 else None,
        rcond=options.rcond,
        ridge=ridge,
    )
    frozen = FrozenFlow(factor, cost, point.outputs, point.residual, options.alpha, scale, ridge)
    step = displacement(point, frozen, h, kept)
    if options.alpha > 0 and not ridge:
        _, motion = frozen.move(h)
        target, size = point.outputs + motion, norm(motion)
        end, *_ = chord(output_map, factor, point.theta + step, target, size)
        step = end - point.theta
    return step, factor.solver
