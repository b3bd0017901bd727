"""The one time loop of the full batch: the flow (2.37) of V_θ,α by exponential steps.

It factorises the Gram at each point, takes a step as long as its `Schedule` says, and tells its
`Callback`s. Options are in `options`, what a step is in `step`. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Callbacks, Event
from sklearn_gflow.dynamics.frozen import steps_need_eigenvectors
from sklearn_gflow.dynamics.options import FlowOptions, mean_diagonal, metric_scale
from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.point import Origin, Point
from sklearn_gflow.dynamics.progress import Progress
from sklearn_gflow.dynamics.schedule import Schedule
from sklearn_gflow.dynamics.state import Keeper, State
from sklearn_gflow.dynamics.step import Step, Stepper
from sklearn_gflow.dynamics.trajectory import Trajectory
from sklearn_gflow.geometry import (
    Cost,
    DifferentiableMap,
    FactorizationError,
    OutputMap,
    TangentFactor,
    factorize,
    factorize_in_single,
    in_single,
    resolved_in_single,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["flow"]

# A way that is not longer than so many roundings of the outputs counts as no way.
_ROUNDINGS = 16


def flow(
    output_map: DifferentiableMap,
    cost: Cost,
    theta: Tensor,
    schedule: Schedule,
    options: FlowOptions = FlowOptions(),
    callbacks: Sequence[Callback] = (),
    origin: Origin | None = None,
    keeper: Keeper | None = None,
) -> Trajectory:
    """Follow θ' = −(α(DᵀD)⁺ + (1−α)1)∇θC (2.31)–(2.32) from θ.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).
    cost : Cost
        C(x).
    theta : Tensor of shape (K,)
        θ₀; not changed.
    schedule : Schedule
        `Adaptive`, `Fixed` or `Fast`.
    options : FlowOptions
        α, solver, tolerances.
    callbacks : sequence of Callback
        They add columns, may reject a step, end the flow, and say which point is the solution.
    origin : Origin, optional
        Where the flow began that this one goes on with; by default it begins here.
    keeper : Keeper, optional
        Of the state of this flow, between its steps.

    Returns
    -------
    Trajectory
        Failure is an outcome of it, never an exception.
    """
    hung = Callbacks(callbacks)
    point = Point.at(output_map, cost, 0.0, theta)
    begun = point if origin is None else origin.point(output_map, cost)
    trajectory = Trajectory(output_map.total_weight, metric_scale(begun.tangent, options))
    distance = cost.distance(begun.outputs)
    forms = options.forms(point.tangent)
    plain = options.solver == "auto" and options.rcond is None and not options.damping
    single = in_single(output_map) if schedule.rough and plain and forms == "G" else None
    loop = _Loop(
        output_map, cost, schedule, options, hung, trajectory, point,
        ridge=options.damping * mean_diagonal(begun.tangent) if options.damping else 0.0,
        limit=cost.minimizer(begun.outputs),
        distance=distance,
        settled=distance <= _rounding(begun.outputs),
        progress=Progress(
            norm(begun.residual), begun.loss, cost.least(begun.outputs), options
        ),
        hold_gram=hung.uses_gram and forms == "G" and single is None,
        single=single,
    )  # fmt: skip
    start = Event(point, origin=None if begun is point else begun)
    del point, begun  # or their activations would stay in memory while the flow goes on
    try:
        loop.begin(start)
        del start
        if keeper is not None and keeper.state is not None:
            loop.restore(keeper.state)
        loop.run(keeper)
    finally:
        hung.end(trajectory)
    trajectory.selected = hung.best
    return trajectory


def _rounding(outputs: Tensor) -> float:
    return _ROUNDINGS * torch.finfo(outputs.dtype).eps * norm(outputs)


@dataclass
class _Loop:
    """State of one run of `flow`."""

    output_map: DifferentiableMap
    cost: Cost
    schedule: Schedule
    options: FlowOptions
    callbacks: Callbacks
    trajectory: Trajectory
    point: Point
    ridge: float
    limit: Tensor
    distance: float
    settled: bool  # there is no way to go, hence no unit for the error of a step
    progress: Progress
    hold_gram: bool
    single: OutputMap | None = None
    rises: int = 0

    def begin(self, start: Event) -> None:
        """Record the start, and show it to the callbacks."""
        self._hold(self.point)
        self.trajectory.record(self.point, math.nan, keep_path=self.options.store_path)
        self.trajectory.add_columns(self.callbacks.start(start))

    def state(self) -> State:
        """All that steps have changed; θ and τ stand in the record."""
        parts = self._parts()
        return {"rises": self.rises, **{name: part.state() for name, part in parts.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to where the flow was left."""
        self.rises = state["rises"]
        for name, part in self._parts().items():
            part.restore(state[name])
        tau, theta = self.trajectory.tau[-1], self.trajectory.thetas[-1]
        self.point = Point.at(self.output_map, self.cost, tau, theta)
        self._hold(self.point)

    def _parts(self) -> dict[str, Any]:
        return {
            "trajectory": self.trajectory, "schedule": self.schedule,
            "progress": self.progress, "callbacks": self.callbacks,
        }  # fmt: skip

    def run(self, keeper: Keeper | None) -> None:
        while (outcome := self._finished()) is None:
            advanced = self._advance(self.point)
            if isinstance(advanced, Outcome):
                outcome = advanced
                break
            self.progress.count(self.point.loss, advanced.loss)
            self.rises += advanced.loss > self.point.loss
            self.point = advanced
            if keeper is not None:
                keeper.keep(self.state)
        if keeper is not None:
            keeper.keep(self.state, ended=True)
        self.trajectory.outcome, self.trajectory.end = outcome, self.point.tangent
        notes = [(self.rises, "raised the loss"), (self.schedule.cuts, "were cut short")]
        told = ", ".join(f"{count} steps {what}" for count, what in notes if count)
        self.trajectory.detail = self.trajectory.detail or told

    def _finished(self) -> Outcome | None:
        start = self.progress.initial + self.trajectory.loss[0]
        if not math.isfinite(start + self.trajectory.scale):
            return Outcome.DIVERGED
        if self.settled or self.progress.converged(norm(self.point.residual)):
            return Outcome.CONVERGED
        if self.callbacks.outcome is not None:
            return self.callbacks.outcome
        if self.schedule.ended(self.point.tau):
            return Outcome.REACHED_END
        return self.progress.exhausted(self.trajectory.n_steps)

    def _advance(self, point: Point) -> Point | Outcome:
        """Factorise, check for an equilibrium, step, record the marks and the end."""
        try:
            stepper = self._stepper(point)
            factor = stepper.factor
            self.trajectory.rank[-1], self.trajectory.condition[-1] = factor.rank, factor.condition
            resting = factor.at_rest(point.residual, self.options.tol * self.progress.initial)
            step = Outcome.EQUILIBRIUM if resting else self.schedule.take(stepper)
        except FactorizationError as error:
            self.trajectory.detail = str(error)
            return Outcome.FACTORIZATION_FAILED
        self.trajectory.solvers.append(factor.solver)
        return step if isinstance(step, Outcome) else self._follow(stepper, step)

    def _stepper(self, point: Point) -> Stepper:
        """Steps from a point; by a factor in float32 where that will do for schedule and Gram."""
        if self.single is None:
            return self._exact_stepper(point)
        before = self.trajectory.condition[-2:-1]
        # Where the factor before needed float64, this one will, until the condition is better.
        attempt = all(map(resolved_in_single, before))
        factor = factorize_in_single(self.single, point.theta) if attempt else None
        stepper = self._exact_stepper(point) if factor is None else self._by(factor, point)
        exact = None if factor is None else partial(self._exact_stepper, point)
        return replace(stepper, single=self.single, exact=exact)

    def _exact_stepper(self, point: Point) -> Stepper:
        options = self.options
        factor = factorize(
            point.tangent,
            point.residual,
            solver=options.solver,
            eigenvectors=steps_need_eigenvectors(
                point.tangent, self.cost, options, damped=self.ridge > 0
            ),
            rcond=options.rcond,
            ridge=self.ridge,
        )
        return self._by(factor, point)

    def _by(self, factor: TangentFactor, point: Point) -> Stepper:
        return Stepper(
            point, factor, self.output_map, self.cost,
            self.options.alpha, self.trajectory.scale, self.limit, self.distance, self.ridge,
            accepts=self.callbacks.accepts if self.callbacks.veto else None,
        )  # fmt: skip

    def _follow(self, stepper: Stepper, step: Step) -> Point:
        """Record the marks of a step and its end, unless a callback ends the flow before."""
        before, start = stepper.point, stepper.point.tau
        marks = self.schedule.marks_within(start, start + step.h)
        for part in (*(stepper.step(mark - start) for mark in marks), step):
            after = stepper.after(part)
            if part is step:
                self._hold(after)
            columns = self.callbacks.step(Event(after, before, stepper.factor, error=part.error))
            self.trajectory.record(after, part.error, keep_path=self.options.store_path)
            self.trajectory.add_columns(columns)
            if part is step:
                self.trajectory.ends.append(self.trajectory.n_steps)
            before = after
            if self.callbacks.outcome is not None:
                break
        return before

    def _hold(self, point: Point) -> None:
        """Form G ahead of its factorisation, which overwrites it: callbacks apply it before."""
        if self.hold_gram:
            point.tangent.hold_gram()
