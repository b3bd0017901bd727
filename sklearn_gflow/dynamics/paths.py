"""Prescribed output paths (3.1)–(3.7): find θ(s) with x(θ(s)) on a path of one's own.

The velocity of the path is lifted by D⁺ step by step, and what has drifted off the path is put
back. Here velocity means x'(s), the derivative of the prescribed path. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.interpolate import make_interp_spline
from torch import Tensor

from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    DifferentiableMap,
    FactorizationError,
    TangentFactor,
    TangentMap,
    factorize,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Path", "Steering", "follow_path", "linear_path", "sampled_path"]

Path = Callable[[float], Tensor]
"""A path s ↦ x(s), a vector of output space, shape (Q·N,)."""

_MAX_HALVINGS = 30


def linear_path(x0: Tensor, y: Tensor) -> Path:
    """(1 − t)x₀ + t·y (2.51), the path of the adapted flow, for t in [0, 1]."""
    return lambda t: torch.lerp(x0, y, t)


def sampled_path(times: ArrayLike, samples: Sequence[Tensor]) -> Path:
    """The interpolating spline, cubic where there are four samples, through x(s) given at times.

    Parameters
    ----------
    times : array-like of shape (n,)
        Increasing.
    samples : sequence of n Tensors of shape (Q·N,)
        x at these times.

    Returns
    -------
    Path
    """
    like = samples[0]
    values = torch.stack(list(samples)).double().cpu().numpy()
    spline = make_interp_spline(np.asarray(times), values, k=min(3, len(values) - 1))
    return lambda s: torch.tensor(spline(s), dtype=like.dtype, device=like.device)


@dataclass
class Steering:
    """The record of a steered network. Index 0 is the start, index k the k-th time.

    Attributes
    ----------
    times : list of float
        s.
    outputs : list of Tensor of shape (Q·N,)
        x(θ(s)).
    thetas : list of Tensor of shape (K,)
        θ(s).
    drift : list of float
        |x(θ(s)) − x(s)|/|x(T) − x(0)|.
    infeasible : list of float
        |P^⊥x'|/|x'| on the way to the time, the largest of its steps: 0 where x' ∈ ran D (3.3),
        1 where D cannot follow at all. NaN at the start.
    rank : list of float
        Of D, at the last step's beginning.
    outcome : Outcome
        Why it stopped.
    """

    outcome: Outcome = Outcome.REACHED_END
    times: list[float] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    thetas: list[Tensor] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    infeasible: list[float] = field(default_factory=list)
    rank: list[float] = field(default_factory=list)

    @property
    def theta(self) -> Tensor:
        """θ at the end."""
        return self.thetas[-1]


def follow_path(
    output_map: DifferentiableMap,
    theta: Tensor,
    path: Path,
    times: Sequence[float],
    *,
    tol: float = 1e-6,
    feasibility: float = 1e-3,
    solver: str = "auto",
    rcond: float | None = None,
) -> Steering:
    """Solve θ' = D⁺x'(s) (3.5), with the drift off the path put back at every step.

    A step from s to s + h moves θ by D⁺(x(s + h) − x(θ)): the secant of the path plus the drift
    so far, so that errors do not accumulate. It is corrected by chords with the same factor, and
    halved where these do not bring the outputs within ``tol`` of the path.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).
    theta : Tensor of shape (K,)
        θ₀, with x(θ₀) = x(0); not changed.
    path : Path
        s ↦ x(s). `linear_path` and `sampled_path` make some.
    times : sequence of float
        Increasing and starting where the path does; all later ones are reported.
    tol : float
        Accepted drift, relative to |x(T) − x(0)|.
    feasibility : float
        The path has left ran D where |P^⊥x'| exceeds this multiple of |x'|.
    solver, rcond
        See `factorize`.

    Returns
    -------
    Steering
        Its outcome is LEFT_RANGE where the path left ran D, as it may from one start and not
        from another (Remark 3.1).

    Raises
    ------
    ValueError
        If the path does not start at x(θ₀), or ``times`` does not increase.
    """
    if len(times) < 2 or not bool((np.diff(times) > 0).all()):
        raise ValueError("times must increase and hold the start and at least one later time")
    span = norm(path(times[-1]) - path(times[0])) or 1.0
    tangent = output_map.linearize(theta)
    offset = norm(tangent.outputs - path(times[0])) / span
    if offset > tol:
        raise ValueError(
            f"path must start at the outputs x(θ₀); it starts {offset:.3g} of its length away"
        )
    steering = Steering()
    steering.times.append(times[0])
    steering.outputs.append(tangent.outputs)
    steering.thetas.append(theta)
    steering.drift.append(offset)
    steering.infeasible.append(math.nan)
    steering.rank.append(math.nan)
    pilot = _Pilot(output_map, path, span, tol, feasibility, solver, rcond)
    for start, end in pairwise(times):
        outcome = pilot.drive(steering, start, end)
        if outcome is not None:
            steering.outcome = outcome
            break
    return steering


@dataclass
class _Pilot:
    """Constants of one call of `follow_path`."""

    output_map: DifferentiableMap
    path: Path
    span: float
    tol: float
    feasibility: float
    solver: str
    rcond: float | None

    def drive(self, steering: Steering, start: float, end: float) -> Outcome | None:
        """Steer from one reported time to the next, in as many steps as it takes."""
        theta, s, h, worst = steering.theta, start, end - start, 0.0
        while s < end:
            tangent = self.output_map.linearize(theta)
            velocity = self.path(min(s + h, end)) - self.path(s)
            try:
                factor = factorize(tangent, velocity, solver=self.solver, rcond=self.rcond)
            except FactorizationError:
                return Outcome.FACTORIZATION_FAILED
            step = self._step(theta, tangent, factor, s, min(h, end - s))
            if step is None:
                return Outcome.STEP_UNDERFLOW
            theta, h_taken, infeasible = step
            worst = max(worst, infeasible)
            s, h = (end if s + h_taken >= end else s + h_taken), 2 * h_taken
            if infeasible > self.feasibility:
                self._record(steering, s, theta, worst, factor.rank)
                return Outcome.LEFT_RANGE
        self._record(steering, end, theta, worst, factor.rank)
        return None

    def _step(
        self, theta: Tensor, tangent: TangentMap, factor: TangentFactor, s: float, h: float
    ) -> tuple[Tensor, float, float] | None:
        """The longest of h, h/2, … that ends on the path, with its infeasible part."""
        for _ in range(_MAX_HALVINGS):
            velocity = self.path(s + h) - self.path(s)
            beyond = velocity - factor.project(velocity)
            infeasible = norm(beyond) / (norm(velocity) or 1.0)
            # A step is not shortened for what D cannot reach at all: its goal is the part of the
            # way that lies in ran D.
            goal = self.path(s + h) if infeasible <= self.feasibility else None
            if goal is None:
                goal = tangent.outputs + factor.project(velocity)
            moved = theta + factor.lift(PSEUDOINVERSE, goal - tangent.outputs)
            for _ in range(2):
                defect = goal - self.output_map.outputs(moved)
                moved = moved + factor.lift(PSEUDOINVERSE, defect)
            defect = factor.project(goal - self.output_map.outputs(moved))
            if norm(defect) <= self.tol * self.span:
                return moved, h, infeasible
            h /= 2
        return None

    def _record(
        self, steering: Steering, s: float, theta: Tensor, infeasible: float, rank: float
    ) -> None:
        outputs = self.output_map.outputs(theta)
        steering.times.append(s)
        steering.outputs.append(outputs)
        steering.thetas.append(theta)
        steering.drift.append(norm(outputs - self.path(s)) / self.span)
        steering.infeasible.append(infeasible)
        steering.rank.append(rank)
