"""Classical integrators over the same fields, through scipy: what the theorems are tested with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sklearn_gflow.dynamics.fields import parameter_field
from sklearn_gflow.dynamics.flow import FlowOptions, Monitor, Observer, mean_diagonal, metric_scale
from sklearn_gflow.dynamics.step import Point
from sklearn_gflow.dynamics.time import t_from_tau, tau_from_t
from sklearn_gflow.dynamics.trajectory import Outcome, Trajectory
from sklearn_gflow.geometry import (
    Cost,
    FactorizationError,
    OutputMap,
    TangentFactor,
    factorize,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["METHODS", "Companion", "reference_flow"]

METHODS = ("RK45", "DOP853", "Radau", "LSODA")

# t = 1 − e^{−τ} cannot tell later times apart in float64.
_LAST_TAU = 36.0


class Companion(Protocol):
    """A further state that is integrated along with θ, such as Prop. 2.5's deviation."""

    def initial(self, point: Point) -> Tensor:
        """Its value at the start, shape (m,)."""

    def rate(self, tau: float, point: Point, factor: TangentFactor, state: Tensor) -> Tensor:
        """Its derivative in τ."""

    def columns(self, tau: float, point: Point, state: Tensor) -> dict[str, float]:
        """What it adds to the history."""


def reference_flow(
    output_map: OutputMap,
    cost: Cost,
    theta: Tensor,
    options: FlowOptions = FlowOptions(),
    *,
    method: str = "DOP853",
    t_end: float = 1.0,
    clock: str = "tau",
    times: Sequence[float] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    companions: Sequence[Companion] = (),
    observers: Sequence[Observer] = (),
    monitor: Monitor | None = None,
) -> Trajectory:
    """Integrate θ' = V_θ,α (2.37) by `scipy.integrate.solve_ivp`.

    Parameters
    ----------
    output_map : OutputMap
        θ ↦ x(θ).
    cost : Cost
        C(x).
    theta : Tensor of shape (K,)
        θ₀; not changed.
    options : FlowOptions
        As for `flow`. The flow ends early where |r| ≤ tol·|r₀|, or after ``max_iter`` steps;
        ``n_iter_no_change`` has no meaning here.
    method : {"RK45", "DOP853", "Radau", "LSODA"}
        Of scipy. Radau and LSODA difference the field in all K parameters: for small nets.
    t_end : float
        End in t, in (0, 1]. 1.0 stands for τ = 36, the last time that t < 1 can tell.
    clock : {"tau", "t"}
        Variable of integration: τ = s/N, or t itself, where the field is V/(1 − t) (2.58).
    times : sequence of float, optional
        Times in (0, t_end] to report, by the integrator's dense output; by default its steps.
    rtol, atol : float
        Tolerances of scipy.
    companions : sequence of Companion
        Further states to integrate.
    observers : sequence of Observer
        Sources of further columns, shown the reported points.
    monitor : Monitor, optional
        Chooses the solution among the reported points, and may end the report.

    Returns
    -------
    Trajectory
        ``step_error`` is NaN: scipy does not report it.

    Raises
    ------
    ValueError
        If ``method`` or ``clock`` is none of the above.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if clock not in ("tau", "t"):
        raise ValueError(f"clock must be 'tau' or 't', got {clock!r}")
    start = Point.at(output_map, cost, 0.0, theta)
    system = _System(output_map, cost, options, start, companions, clock)
    tau_end = min(float(tau_from_t(t_end)), _LAST_TAU)
    to_clock = (lambda tau: tau) if clock == "tau" else t_from_tau
    end = float(to_clock(tau_end))
    grid = None
    if times is not None:
        grid = [0.0, *np.minimum(to_clock(tau_from_t(times)), end)]
    try:
        solution = solve_ivp(
            system.rate,
            (0.0, end),
            system.initial(),
            method=method,
            t_eval=grid,
            events=[_Terminal(system.convergence), _StepLimit(options.max_iter)],
            rtol=rtol,
            atol=atol,
        )
    except FactorizationError as error:
        failed = system.trajectory()
        failed.outcome, failed.detail = Outcome.FACTORIZATION_FAILED, str(error)
        return failed
    return system.read(solution, observers, monitor, method, end)


@dataclass
class _Terminal:
    """An event of scipy's that ends the integration."""

    function: Callable[[float, np.ndarray], float]
    terminal: bool = True

    def __call__(self, time: float, state: np.ndarray) -> float:
        return self.function(time, state)


@dataclass
class _StepLimit:
    """An event that falls on step number ``max_iter``: scipy has no bound on steps.

    scipy evaluates events once a step, and again at earlier times to locate a root; so only
    times later than all before count.
    """

    max_iter: int
    terminal: bool = True
    n_steps: int = 0
    latest: float = 0.0
    limit: float = math.inf

    def __call__(self, time: float, state: np.ndarray) -> float:
        if time > self.latest and math.isinf(self.limit):
            self.latest, self.n_steps = time, self.n_steps + 1
            if self.n_steps >= self.max_iter:
                self.limit = time
        return 1.0 if math.isinf(self.limit) else self.limit - time


@dataclass
class _System:
    """The right-hand side as scipy wants it: flat float64 vectors (θ, companions)."""

    output_map: OutputMap
    cost: Cost
    options: FlowOptions
    origin: Point
    companions: Sequence[Companion]
    clock: str
    scale: float = field(init=False)
    ridge: float = field(init=False)
    initial_residual: float = field(init=False)

    def __post_init__(self) -> None:
        self.scale = metric_scale(self.origin.tangent, self.options)
        unit = mean_diagonal(self.origin.tangent) if self.options.damping else 0.0
        self.ridge = self.options.damping * unit
        self.initial_residual = norm(self.origin.velocity)

    def trajectory(self) -> Trajectory:
        return Trajectory(self.output_map.total_weight, self.scale)

    def initial(self) -> np.ndarray:
        states = [companion.initial(self.origin) for companion in self.companions]
        self.sizes = [len(state) for state in states]
        return torch.cat([self.origin.theta, *states]).double().cpu().numpy()

    def rate(self, time: float, state: np.ndarray) -> np.ndarray:
        point, factor, parts = self._at(time, state)
        # In τ the field is N·V; in t it is N·V/(1 − t).
        speed = self.cost.total_weight
        rates = [
            speed
            * parameter_field(
                point.tangent, factor, self.cost, self.options.alpha, scale=self.scale
            )
        ]
        for companion, part in zip(self.companions, parts, strict=True):
            rates.append(companion.rate(point.tau, point, factor, part))
        flat = torch.cat(rates).double().cpu().numpy()
        return flat if self.clock == "tau" else flat / (1 - time)

    def convergence(self, time: float, state: np.ndarray) -> float:
        point, _ = self._point(time, state)
        residual = norm(point.velocity)
        return residual - self.options.tol * self.initial_residual

    def read(
        self,
        solution: Any,
        observers: Sequence[Observer],
        monitor: Monitor | None,
        method: str,
        end: float,
    ) -> Trajectory:
        """Evaluate the reported points again, with rank and condition."""
        trajectory = self.trajectory()
        if monitor is not None:
            observers = (*observers, monitor)
        before: tuple[Point, TangentFactor] | None = None
        for time, state in zip(solution.t, solution.y.T, strict=True):
            point, factor, parts = self._at(float(time), state)
            trajectory.record(point, math.nan, keep_path=self.options.store_path)
            trajectory.rank[-1], trajectory.condition[-1] = factor.rank, factor.condition
            for companion, part in zip(self.companions, parts, strict=True):
                trajectory.add_columns(companion.columns(point.tau, point, part))
            for observer in observers:
                seen = observer.step(*before, point) if before else observer.start(point)
                trajectory.add_columns(seen)
            before = point, factor
            if monitor is not None and monitor.finished:
                break
        trajectory.solvers.append(method)
        if monitor is not None:
            trajectory.selected = monitor.best
        converged, limited = (len(times) > 0 for times in solution.t_events)
        if not solution.success:
            trajectory.outcome = Outcome.STEP_UNDERFLOW
            trajectory.detail = str(solution.message)
        elif monitor is not None and monitor.finished:
            trajectory.outcome = monitor.outcome
        elif converged:
            trajectory.outcome = Outcome.CONVERGED
        elif limited and solution.t[-1] < end:
            trajectory.outcome = Outcome.MAX_ITER
        return trajectory

    def _point(self, time: float, state: np.ndarray) -> tuple[Point, Tensor]:
        tau = time if self.clock == "tau" else float(tau_from_t(time))
        like = self.origin.theta
        flat = torch.tensor(state, dtype=like.dtype, device=like.device)
        return Point.at(self.output_map, self.cost, tau, flat[: len(like)]), flat[len(like) :]

    def _at(self, time: float, state: np.ndarray) -> tuple[Point, TangentFactor, list[Tensor]]:
        point, rest = self._point(time, state)
        factor = factorize(
            point.tangent,
            point.velocity,
            solver=self.options.solver,
            rcond=self.options.rcond,
            ridge=self.ridge,
        )
        return point, factor, list(torch.split(rest, self.sizes))
