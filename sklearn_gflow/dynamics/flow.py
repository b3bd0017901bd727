"""The one time loop: the flow (2.37) of V_θ,α by exponential steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.schedule import Schedule
from sklearn_gflow.dynamics.step import Step, Stepper
from sklearn_gflow.dynamics.trajectory import Outcome, Trajectory
from sklearn_gflow.geometry import (
    Cost,
    CrossEntropy,
    FactorizationError,
    OutputMap,
    Shape,
    Tangent,
    TangentFactor,
    factorize,
    solver_for,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["FlowOptions", "Observer", "flow", "mean_diagonal", "metric_scale", "of_many_vectors"]


class Observer(Protocol):
    """Reads further columns off a flow while the factorisations are at hand.

    A column has a value at every point or at none. At the start and at the ends of steps the
    tangent holds the Gram where the next factorisation will need it; at marks it does not.
    """

    def start(self, point: Point) -> Mapping[str, float]:
        """Columns at the start."""

    def step(self, before: Point, factor: TangentFactor, after: Point) -> Mapping[str, float]:
        """Columns at ``after``, reached from ``before`` with the factor of that step's D."""


class Monitor(Observer, Protocol):
    """An observer that chooses the solution among the points, and may end the flow."""

    @property
    def outcome(self) -> Outcome:
        """Why the flow ended, if it did so for the monitor."""

    @property
    def finished(self) -> bool:
        """Whether the flow may end."""

    @property
    def best(self) -> tuple[int, Tensor]:
        """Index and θ of the best point up to now."""


@dataclass(frozen=True)
class FlowOptions:
    """Constants of a flow.

    Parameters
    ----------
    alpha : float
        α of (2.32): 0 the standard flow, 1 the adapted one.
    solver : str
        See `factorize`.
    rcond : float or None
        See `relative_threshold`.
    damping : float
        Ridge added to G, relative to the mean of its diagonal.
    metric_scale : float or None
        c, the unit in which the eigenvalues of G are measured: the flow is
        θ' = −N(α(DᵀD)⁺ + (1−α)/c)∇C in τ. None: the mean of the diagonal of G at the start,
        tr(G₀)/QN. 1.0: the field of the paper.
    tol : float
        The flow has converged at |r| ≤ tol·|r₀|, and is in equilibrium at |P r| ≤ tol·|r₀|.
    max_iter : int
        Bound on the number of accepted steps.
    n_iter_no_change : int
        This many steps in a row that bring |r|/|r₀| down by less than ``tol`` end the flow.
    store_path : bool
        Keep θ of every point.
    """

    alpha: float = 1.0
    solver: str = "auto"
    rcond: float | None = None
    damping: float = 0.0
    metric_scale: float | None = None
    tol: float = 1e-10
    max_iter: int = 500
    n_iter_no_change: int = 10
    store_path: bool = False


def flow(
    output_map: OutputMap,
    cost: Cost,
    theta: Tensor,
    schedule: Schedule,
    options: FlowOptions = FlowOptions(),
    observers: Sequence[Observer] = (),
    monitor: Monitor | None = None,
) -> Trajectory:
    """Follow θ' = −(α(DᵀD)⁺ + (1−α)1)∇θC (2.31)–(2.32) from θ.

    Parameters
    ----------
    output_map : OutputMap
        θ ↦ x(θ).
    cost : Cost
        C(x).
    theta : Tensor of shape (K,)
        θ₀; not changed.
    schedule : Schedule
        `Adaptive` or `Fixed`.
    options : FlowOptions
        α, solver, tolerances.
    observers : sequence of Observer
        Sources of further columns.
    monitor : Monitor, optional
        Chooses the solution, and may end the flow.

    Returns
    -------
    Trajectory
        Failure is an outcome of it, never an exception.
    """
    watched = len(observers) > 0
    if monitor is not None:
        observers = (*observers, monitor)
    point = Point.at(output_map, cost, 0.0, theta)
    trajectory = Trajectory(output_map.total_weight, metric_scale(point.tangent, options))
    loop = _Loop(
        output_map, cost, schedule, options, observers, monitor, trajectory, point,
        ridge=options.damping * mean_diagonal(point.tangent) if options.damping else 0.0,
        limit=cost.minimizer(point.outputs),
        distance=cost.distance(point.outputs),
        initial_residual=norm(point.velocity),
        hold_gram=watched and _forms_gram(point.tangent, options),
    )  # fmt: skip
    del point  # the activations of the start would stay in memory while the flow goes on
    loop.run()
    if monitor is not None:
        trajectory.selected = monitor.best
    return trajectory


def metric_scale(start: Tangent, options: FlowOptions) -> float:
    """c of the flow from a start: the option, or tr(G₀)/QN."""
    return mean_diagonal(start) if options.metric_scale is None else options.metric_scale


def mean_diagonal(tangent: Tangent, *, shared: bool = False) -> float:
    """tr(G)/QN, with N the sum of the weights: copies of a row count as its weight does.

    Of a network that ignores its parameters (G = 0) it is 1. ``shared`` reads it off K̄, for
    which no output is differentiated alone: tr(G)/Q = tr(K̄).
    """
    if shared:
        trace = float(tangent.shared_gram.trace())
    else:
        trace = tangent.trace() / tangent.n_outputs
    mean = trace / tangent.total_weight
    return 1.0 if mean == 0 else mean


def _forms_gram(tangent: Tangent, options: FlowOptions) -> bool:
    return solver_for(options.solver, tangent.n_outputs).forms(Shape.of(tangent)) == "G"


def of_many_vectors(options: FlowOptions, cost: Cost) -> bool:
    """Whether a step asks for the smooth part of f (α < 1) of more vectors than the residual.

    The stages of the cross-entropy are such vectors, and the columns of a shared kernel.
    """
    many = isinstance(cost, CrossEntropy) or options.solver == "shared"
    return options.alpha < 1 and many


@dataclass
class _Loop:
    """State of one run of `flow`."""

    output_map: OutputMap
    cost: Cost
    schedule: Schedule
    options: FlowOptions
    observers: Sequence[Observer]
    monitor: Monitor | None
    trajectory: Trajectory
    point: Point
    ridge: float
    limit: Tensor
    distance: float
    initial_residual: float
    hold_gram: bool
    patience: int = 0
    rises: int = 0

    def run(self) -> None:
        self._hold(self.point.tangent)
        self._record(
            self.point, math.nan, [observer.start(self.point) for observer in self.observers]
        )
        while (outcome := self._finished(self.point)) is None:
            advanced = self._advance(self.point)
            if isinstance(advanced, Outcome):
                outcome = advanced
                break
            self.point = advanced
        self.trajectory.outcome, self.trajectory.end = outcome, self.point.tangent
        if self.rises:
            self.trajectory.detail = f"{self.rises} steps raised the loss"

    def _finished(self, point: Point) -> Outcome | None:
        options = self.options
        if not math.isfinite(self.initial_residual + self.trajectory.scale):
            return Outcome.DIVERGED
        if norm(point.velocity) <= options.tol * self.initial_residual:
            return Outcome.CONVERGED
        if self.monitor is not None and self.monitor.finished:
            return self.monitor.outcome
        if self.schedule.ended(point.tau):
            return Outcome.REACHED_END
        if self.trajectory.n_steps >= options.max_iter:
            return Outcome.MAX_ITER
        if self.patience >= options.n_iter_no_change:
            return Outcome.STALLED
        return None

    def _advance(self, point: Point) -> Point | Outcome:
        """Factorise, check for an equilibrium, step, record the marks and the end."""
        options = self.options
        try:
            factor = factorize(
                point.tangent,
                point.velocity,
                solver=options.solver,
                eigenvectors=of_many_vectors(options, self.cost),
                rcond=options.rcond,
                ridge=self.ridge,
            )
        except FactorizationError as error:
            self.trajectory.detail = str(error)
            return Outcome.FACTORIZATION_FAILED
        self.trajectory.rank[-1], self.trajectory.condition[-1] = factor.rank, factor.condition
        if factor.at_rest(point.velocity, options.tol * self.initial_residual):
            self.trajectory.solvers.append(factor.solver)
            return Outcome.EQUILIBRIUM
        stepper = Stepper(
            point, factor, self.output_map, self.cost,
            options.alpha, self.trajectory.scale, self.limit, self.distance,
        )  # fmt: skip
        step = self.schedule.take(stepper)
        self.trajectory.solvers.append(factor.solver)
        if isinstance(step, Outcome):
            return step
        after = self._follow(stepper, step)
        self._count(point, after)
        return after

    def _follow(self, stepper: Stepper, step: Step) -> Point:
        """Record the marks of a step and its end, unless the monitor is content before."""
        point, start = stepper.point, stepper.point.tau
        marks = self.schedule.marks_within(start, start + step.h)
        for part in (*(stepper.step(mark - start) for mark in marks), step):
            after = Point.of(part.tangent, self.cost, start + part.h, part.theta)
            if part is step:
                self._hold(after.tangent)
            columns = [observer.step(point, stepper.factor, after) for observer in self.observers]
            self._record(after, part.error, columns)
            point = after
            if self.monitor is not None and self.monitor.finished:
                break
        return point

    def _hold(self, tangent: Tangent) -> None:
        """Form G ahead of its factorisation, which overwrites it: observers apply it before."""
        if self.hold_gram:
            tangent.hold_gram()

    def _record(self, point: Point, error: float, columns: Sequence[Mapping[str, float]]) -> None:
        self.trajectory.record(point, error, keep_path=self.options.store_path)
        for values in columns:
            self.trajectory.add_columns(values)

    def _count(self, before: Point, after: Point) -> None:
        gain = norm(before.velocity) - norm(after.velocity)
        self.patience = 0 if gain > self.options.tol * self.initial_residual else self.patience + 1
        self.rises += after.loss > before.loss
