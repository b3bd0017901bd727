"""The competitors of the race that run in JAX, compiled before they are timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
import ssbroyden_optimistix as sso  # switches JAX to double precision
from _race_problems import Problem, Stopwatch

Runner = Callable[[Problem, Stopwatch], None]

NO_TAGS: frozenset[object] = frozenset()
_MOST_BYTES, _COPIES = 4e9, 7  # for the inverse Hessian of a quasi-Newton step


def _residuals(layers: Any, data: tuple[Any, Any]) -> Any:
    """f_θ(X) − targets."""
    a, targets = data
    for W, b in layers[:-1]:
        a = jnp.tanh(a @ W + b)
    W, b = layers[-1]
    return (a @ W + b)[:, 0] - targets


def _cost(layers: Any, data: tuple[Any, Any]) -> Any:
    """|r|²/2N, whose gradient the quasi-Newton methods follow."""
    return 0.5 * jnp.mean(_residuals(layers, data) ** 2)


def _with_aux(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, None]]:
    return lambda layers, data: (function(layers, data), None)


@jax.jit
def _mse(layers: Any, data: tuple[Any, Any]) -> Any:
    return jnp.mean(_residuals(layers, data) ** 2)


class Stepped:
    """A solver of optimistix, one compiled step after the other.

    Its own loop is compiled whole, and no value of the loss can be seen in it. A step ends with the
    next point to be tried; its loss is evaluated at once, by a forward pass of its own, so that
    the last step does not linearise the target that it has met.
    """

    def __init__(self, solver: Any, function: Callable[[Any, Any], Any]) -> None:
        self.solver, self.function = solver, _with_aux(function)
        self._compiled: dict[str, tuple[Any, ...]] = {}

    def __call__(self, race: Problem, watch: Stopwatch) -> None:
        """Run it from θ₀."""
        if race.name not in self._compiled:
            self._compiled[race.name] = self._compile(race)
            watch.start()
        step, state = self._compiled[race.name]
        data = jnp.asarray(race.X), jnp.asarray(race.targets)
        layers = [(jnp.asarray(W), jnp.asarray(b)) for W, b in race.layers]
        done = False
        while not done:
            watch.linearized()
            layers, state, done = step(layers, state, data)
            watch.see(float(_mse(state.y_eval, data)))

    def _compile(self, race: Problem) -> tuple[Any, ...]:
        """One step as a compiled function, and the state before the first."""
        data = jnp.asarray(race.X), jnp.asarray(race.targets)
        layers = [(jnp.asarray(W), jnp.asarray(b)) for W, b in race.layers]
        arguments = self.function, layers, data, {}
        shapes = eqx.filter_eval_shape(self.function, layers, data)
        state = self.solver.init(*arguments, *shapes, NO_TAGS)
        dynamic, static = eqx.partition(state, eqx.is_array)

        @jax.jit
        def compiled(layers: Any, dynamic: Any, data: Any) -> tuple[Any, Any, Any]:
            state = eqx.combine(dynamic, static)
            new, state, _ = self.solver.step(self.function, layers, data, {}, state, NO_TAGS)
            done, _ = self.solver.terminate(self.function, new, data, {}, state, NO_TAGS)
            return new, eqx.filter(state, eqx.is_array), done

        def step(layers: Any, state: Any, data: Any) -> tuple[Any, Any, bool]:
            new, dynamic, done = compiled(layers, eqx.filter(state, eqx.is_array), data)
            return new, eqx.combine(dynamic, static), bool(done)

        jax.block_until_ready(compiled(layers, dynamic, data)[0])
        _mse(layers, data)
        return step, state


def _levenberg_marquardt(linear_solver: Any, growth: float, first: float) -> Any:
    """optimistix.LevenbergMarquardt: by what a good step divides the damping, and the first one."""
    solver = optx.LevenbergMarquardt(rtol=1e-15, atol=1e-15, linear_solver=linear_solver)
    search = _TrustRegion(high_constant=growth, first=first)
    return eqx.tree_at(lambda one: one.search, solver, search)


class _TrustRegion(optx.ClassicalTrustRegion):
    first: float = 1.0

    def init(self, y: Any, f_info_struct: Any) -> Any:
        state = super().init(y, f_info_struct)
        return eqx.tree_at(lambda one: one.step_size, state, jnp.array(1 / self.first))


def levenberg_marquardt_settings() -> dict[str, Runner]:
    """Linear solvers, tolerances, growth of the trust region and first damping."""
    settings = {}
    for tol, growth, first in (
        (1e-3, 3.5, 1.0), (1e-3, 10.0, 1.0), (1e-3, 10.0, 0.1), (3e-3, 3.5, 1.0),
        (1e-4, 10.0, 1.0), (1e-2, 3.5, 1.0),
    ):  # fmt: skip
        solver = _levenberg_marquardt(lx.LSMR(rtol=tol, atol=1e-12), growth, first)
        settings[f"LSMR to {tol:.0e}, damping {first:g}, ÷{growth:g}"] = Stepped(solver, _residuals)
    normal = lx.Normal(lx.CG(rtol=1e-3, atol=1e-12))
    settings["normal equations by CG to 1e-3"] = Stepped(
        _levenberg_marquardt(normal, 10.0, 1.0), _residuals
    )
    settings["QR, as it comes"] = Stepped(_levenberg_marquardt(lx.QR(), 3.5, 1.0), _residuals)
    return settings


class Stored(Stepped):
    """A quasi-Newton method with a dense inverse Hessian."""

    def __call__(self, race: Problem, watch: Stopwatch) -> None:
        """Run it from θ₀, where its matrices fit."""
        needed = _COPIES * 8 * len(race.theta) ** 2
        if needed > _MOST_BYTES:
            raise ValueError(f"inverse Hessians of {needed / 1e9:.0f} GB")
        super().__call__(race, watch)


def broyden_settings() -> dict[str, Runner]:
    """Members of the family, and where the line search begins."""
    zooms = {"": None, ", the line search from longer steps": "increase"}
    settings: dict[str, Runner] = {}
    for ending, guess in zooms.items():
        search = None if guess is None else sso.Zoom(initial_guess_strategy=guess)
        solver = sso.SSBroyden(rtol=0.0, atol=0.0, search=search)
        settings[f"as it comes{ending}"] = Stored(solver, _cost)
    settings["SSBFGS"] = Stored(sso.SSBFGS(rtol=0.0, atol=0.0), _cost)
    return settings
