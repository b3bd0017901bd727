"""Classical integrators over the same fields, through scipy: what the theorems are tested with.

The state that scipy sees is θ, followed by what callbacks integrate along with it.
Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.integrate import Radau, solve_ivp
from scipy.linalg.lapack import get_lapack_funcs
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Callbacks, Event
from sklearn_gflow.dynamics.fields import parameter_field
from sklearn_gflow.dynamics.options import FlowOptions, mean_diagonal, metric_scale
from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.point import Origin, Point
from sklearn_gflow.dynamics.time import t_from_tau, tau_from_t
from sklearn_gflow.dynamics.trajectory import Trajectory
from sklearn_gflow.geometry import (
    Cost,
    DifferentiableMap,
    FactorizationError,
    TangentFactor,
    factorize,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["METHODS", "reference_flow"]

METHODS = ("RK45", "DOP853", "Radau", "LSODA")

# Those that solve with a Jacobian, for which LAPACK wants finite numbers.
_IMPLICIT = ("Radau", "LSODA")

# So often is the field evaluated for a step at most, and so often for each number of the state by
# those with a Jacobian. Steps that are rejected are no steps to ``max_iter``.
_EVALUATIONS, _DIFFERENCES = 100, 10

# Of an end before this one squares of lengths of steps would be zero: it is the unit of time then.
_SHORT = 1e-100

# t = 1 − e^{−τ} cannot tell later times apart in float64.
_LAST_TAU = 36.0


def reference_flow(
    output_map: DifferentiableMap,
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
    callbacks: Sequence[Callback] = (),
    origin: Origin | None = None,
) -> Trajectory:
    """Integrate θ' = V_θ,α (2.37) by `scipy.integrate.solve_ivp`.

    Parameters
    ----------
    output_map : DifferentiableMap
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
    callbacks : sequence of Callback
        They are shown the reported points, and may end the report. Their `Callback.rate` is
        integrated along. A step is scipy's own: they cannot reject it.
    origin : Origin, optional
        Where the flow began that this one goes on with; by default it begins here.

    Returns
    -------
    Trajectory
        ``step_error`` is NaN: scipy does not report it.

    Raises
    ------
    ValueError
        If ``method`` or ``clock`` is none of the above, or a callback may reject steps.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if clock not in ("tau", "t"):
        raise ValueError(f"clock must be 'tau' or 't', got {clock!r}")
    hung = Callbacks(callbacks)
    if hung.veto:
        raise ValueError(
            f"callbacks cannot reject the steps of method={method!r}; take the exponential method"
        )
    start = Point.at(output_map, cost, 0.0, theta)
    begun = None if origin is None else origin.point(output_map, cost)
    system = _System(output_map, cost, options, start, callbacks, clock, begun)
    try:
        trajectory = _integrate(system, hung, method, t_end, times, rtol, atol)
    finally:
        hung.end(system.trajectory)
    trajectory.selected = hung.best
    return trajectory


def _integrate(
    system: _System,
    hung: Callbacks,
    method: str,
    t_end: float,
    times: Sequence[float] | None,
    rtol: float,
    atol: float,
) -> Trajectory:
    """Let scipy go to the end, and read off the points that are reported."""
    trajectory, clock = system.trajectory, system.clock
    initial = system.begin()
    tau_end = min(float(tau_from_t(t_end)), _LAST_TAU)
    if (outcome := _no_way(system, hung, tau_end)) is not None:
        trajectory.outcome = outcome
        return trajectory
    to_clock = (lambda tau: tau) if clock == "tau" else t_from_tau
    end = float(to_clock(tau_end))
    system.implicit = method in _IMPLICIT
    a_step = _EVALUATIONS + (_DIFFERENCES * len(initial) if system.implicit else 0)
    system.evaluations_left = system.options.max_iter * a_step
    grid = None
    if times is not None:
        grid = np.array([0.0, *np.minimum(to_clock(tau_from_t(times)), end)])
    system.unit = unit = end if end < _SHORT else 1.0
    try:
        # Trial steps may overflow: they are rejected, or the outcome tells.
        with np.errstate(all="ignore"):
            solution = solve_ivp(
                system.rate,
                (0.0, end / unit),
                initial,
                method=_QuietRadau if method == "Radau" else method,
                t_eval=None if grid is None else grid / unit,
                events=[_Terminal(system.convergence), _StepLimit(system.options.max_iter)],
                rtol=rtol,
                atol=atol,
            )
        system.read(solution, hung)
    except FactorizationError as error:
        trajectory.outcome, trajectory.detail = Outcome.FACTORIZATION_FAILED, str(error)
        return trajectory
    except _BrokenOffError as error:
        trajectory.outcome = error.outcome
        return trajectory
    trajectory.solvers.append(method)
    trajectory.outcome = _outcome(solution, hung, end / unit, trajectory.loss[-1])
    if not solution.success:
        trajectory.detail = str(solution.message)
    return trajectory


def _no_way(system: _System, hung: Callbacks, tau_end: float) -> Outcome | None:
    """Why there is nothing to integrate, where there is not."""
    if not math.isfinite(system.scale + system.initial_residual + system.origin.loss):
        return Outcome.DIVERGED
    if hung.outcome is None and system.too_fast(tau_end):
        return Outcome.STEP_UNDERFLOW
    return hung.outcome


def _outcome(solution: Any, hung: Callbacks, end: float, loss: float) -> Outcome:
    if not math.isfinite(loss):
        return Outcome.DIVERGED
    converged, limited = (len(times) > 0 for times in solution.t_events)
    if hung.outcome is not None:  # the record ends at its point, whatever scipy met later
        return hung.outcome
    if not solution.success:
        return Outcome.STEP_UNDERFLOW
    if converged:
        return Outcome.CONVERGED
    return Outcome.MAX_ITER if limited and solution.t[-1] < end else Outcome.REACHED_END


class _BrokenOffError(ArithmeticError):
    """The integrator has no way back, or finds none: it is left in the middle of a step."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class _QuietRadau(Radau):
    """Radau that tries a shorter step where its matrix is singular, without a warning of it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lu = self._lu

    def _lu(self, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.nlu += 1
        (getrf,) = get_lapack_funcs(("getrf",), (A,))
        lu, pivots, _ = getrf(A, overwrite_a=True)
        return lu, pivots


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
    """The right-hand side as scipy wants it: flat float64 vectors (θ, states of callbacks)."""

    output_map: DifferentiableMap
    cost: Cost
    options: FlowOptions
    origin: Point
    callbacks: Sequence[Callback]
    clock: str
    begun: Point | None = None
    implicit: bool = False
    unit: float = 1.0  # of the time that scipy sees
    evaluations_left: float = math.inf
    scale: float = field(init=False)
    ridge: float = field(init=False)
    initial_residual: float = field(init=False)
    trajectory: Trajectory = field(init=False)

    def __post_init__(self) -> None:
        begun = self.begun or self.origin
        self.scale = metric_scale(begun.tangent, self.options)
        unit = mean_diagonal(begun.tangent) if self.options.damping else 0.0
        self.ridge = self.options.damping * unit
        self.initial_residual = norm(begun.residual)
        self.trajectory = Trajectory(self.output_map.total_weight, self.scale)

    def begin(self) -> np.ndarray:
        """Record the start and show it to the callbacks; returns the state there."""
        event = Event(self.origin, origin=self.begun)
        states = [callback.initial(event) for callback in self.callbacks]
        self.sizes = [0 if state is None else len(state) for state in states]
        self._show(event, states)
        parts = [state for state in states if state is not None]
        return torch.cat([self.origin.theta, *parts]).double().cpu().numpy()

    def rate(self, time: float, state: np.ndarray) -> np.ndarray:
        if self.evaluations_left <= 0:
            raise _BrokenOffError(Outcome.STEP_UNDERFLOW)
        self.evaluations_left -= 1
        point, factor, parts = self._at(time, state)
        # In τ the field is N·V; in t it is N·V/(1 − t).
        field = parameter_field(
            point.tangent, factor, self.cost, self.options.alpha, scale=self.scale
        )
        rates = [self.cost.total_weight * field]
        for callback, part in zip(self.callbacks, parts, strict=True):
            if part is not None:
                rates.append(callback.rate(point, factor, part))
        flat = torch.cat(rates).double().cpu().numpy()
        if self.implicit and not np.isfinite(flat).all():
            raise _BrokenOffError(Outcome.DIVERGED)
        flat *= self.unit
        return flat if self.clock == "tau" else flat / (1 - self.unit * time)

    def too_fast(self, tau_end: float) -> bool:
        """Whether τ cannot tell apart the times at which the standard flow moves at its start.

        An integrator would take its shortest steps for ever.
        """
        tangent, r = self.origin.tangent, self.origin.residual
        pulled = tangent.pull(r / (norm(r) or 1.0))
        rate = (1 - self.options.alpha) * float(pulled @ pulled) / self.scale
        return rate * tau_end * torch.finfo(torch.float64).eps > 1

    def convergence(self, time: float, state: np.ndarray) -> float:
        point, _ = self._point(time, state)
        return norm(point.residual) - self.options.tol * self.initial_residual

    def read(self, solution: Any, hung: Callbacks) -> None:
        """Evaluate the reported points again, with rank and condition, for record and callbacks."""
        before, former = self.origin, None
        for time, state in zip(solution.t, solution.y.T, strict=True):
            point, factor, parts = self._at(float(time), state)
            if time > 0:  # since `begin` has shown the start
                self._show(Event(point, before, former), parts)
                before = point
            former = factor
            self.trajectory.rank[-1] = factor.rank
            self.trajectory.condition[-1] = factor.condition
            if hung.outcome is not None or not math.isfinite(point.loss):
                break

    def _show(self, event: Event, states: Sequence[Tensor | None]) -> None:
        """Record a point, with the columns of callbacks."""
        self.trajectory.record(event.point, math.nan, keep_path=self.options.store_path)
        columns: dict[str, float] = {}
        for callback, state in zip(self.callbacks, states, strict=True):
            tell = callback.start if event.before is None else callback.step
            columns = {**columns, **tell(replace(event, state=state, columns=columns))}
        self.trajectory.add_columns(columns)

    def _point(self, time: float, state: np.ndarray) -> tuple[Point, Tensor]:
        time = self.unit * time
        tau = time if self.clock == "tau" else float(tau_from_t(time))
        like = self.origin.theta
        flat = torch.tensor(state, dtype=like.dtype, device=like.device)
        return Point.at(self.output_map, self.cost, tau, flat[: len(like)]), flat[len(like) :]

    def _at(
        self, time: float, state: np.ndarray
    ) -> tuple[Point, TangentFactor, list[Tensor | None]]:
        point, rest = self._point(time, state)
        factor = factorize(
            point.tangent,
            point.residual,
            solver=self.options.solver,
            rcond=self.options.rcond,
            ridge=self.ridge,
        )
        parts = torch.split(rest, self.sizes)
        return point, factor, [part if len(part) else None for part in parts]
