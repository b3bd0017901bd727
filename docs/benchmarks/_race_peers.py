"""The competitors of the race, each a function of a problem and a stopwatch, and their settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import scipy.optimize
import torch
from _race_problems import SEED, Problem, Residuals, Stopwatch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from torch_levenberg_marquardt.damping import StandardDampingStrategy
from torch_levenberg_marquardt.loss import MSELoss
from torch_levenberg_marquardt.training import LevenbergMarquardtModule

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.dynamics import Adaptive, Callback, Event, Fast, FlowOptions, Schedule, flow
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError

Runner = Callable[[Problem, Stopwatch], None]


@dataclass(frozen=True)
class TimedSquaredError(SquaredError):
    """The squared error of the package, with each value stamped."""

    watch: Stopwatch | None = None

    def value(self, x: torch.Tensor) -> float:
        """C(x) = MSE/2."""
        value = super().value(x)
        self.watch.see_once(x, 2 * value)
        return value

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """y − x, which says how far it is where no value is asked for."""
        residual = super().residual(x)
        self.watch.see_once(x, float(residual @ residual) / len(residual))
        return residual


class Grams(Callback):
    """Counts factorisations: one at the start, and one after each step."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def start(self, event: Event) -> dict[str, float]:
        """That of the first step."""
        self.watch.linearized()
        return {}

    def step(self, event: Event) -> dict[str, float]:
        """That of the next step."""
        self.watch.linearized()
        return {}


def run_flow(race: Problem, watch: Stopwatch, *, schedule: Callable[[], Schedule]) -> None:
    """Run the flow at α = 1 up to t = 1."""
    X, y = torch.from_numpy(race.X), torch.from_numpy(race.y)
    theta = torch.from_numpy(race.theta)
    network = LayeredNetwork(race.sizes)
    output_map = OutputMap(network, X, network.outputs(theta, X))
    cost = TimedSquaredError(y, output_map.total_weight, watch)
    flow(output_map, cost, theta, schedule(), FlowOptions(alpha=1.0), [Grams(watch)])


def run_fit(race: Problem, watch: Stopwatch, *, schedule: str) -> None:
    """Fit the estimator: on to its own tolerance, rank and spectrum at the end included."""
    model = AdaptedFlowRegressor(
        race.hidden, alpha=1.0, t_end=1.0, schedule=schedule, random_state=SEED
    )
    model.fit(race.X, race.y)
    watch.linearizations = model.n_iter_
    watch.evaluations = len(model.loss_curve_)
    watch.see(2 * model.loss_)


class TimedMSELoss(MSELoss):
    """The loss of torch-levenberg-marquardt, with each value stamped."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def forward(self, y_pred: torch.Tensor, y_true: torch.Tensor) -> torch.Tensor:
        """MSE."""
        loss = super().forward(y_pred, y_true)
        self.watch.see(float(loss))
        return loss


def torch_network(race: Problem) -> torch.nn.Sequential:
    """The network as a torch module, at θ₀."""
    modules: list[torch.nn.Module] = []
    for W, b in race.layers:
        linear = torch.nn.Linear(*W.shape, dtype=torch.float64)
        linear.weight.data.copy_(torch.from_numpy(W.T.copy()))
        linear.bias.data.copy_(torch.from_numpy(b))
        modules += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*modules[:-1])


def run_lm(race: Problem, watch: Stopwatch, *, damping: dict, solve: str = "cholesky") -> None:
    """Run the LM of torch-levenberg-marquardt, full batch, without its progress bar."""
    X, targets = torch.from_numpy(race.X), torch.from_numpy(race.targets)[:, None]
    module = LevenbergMarquardtModule(
        torch_network(race),
        loss_fn=TimedMSELoss(watch),
        damping_strategy=StandardDampingStrategy(**damping),
        solve_method=solve,
    )
    stop = False
    while not stop:
        watch.linearized()
        _, _, stop, _ = module.training_step(X, targets)


def run_scipy(
    race: Problem, watch: Stopwatch, *, jac: str, tr_options: dict | None = None, **options: object
) -> None:
    """Run scipy.optimize.least_squares with the exact Jacobian and tolerances out of the way."""
    residuals = Residuals(race, watch)
    scipy.optimize.least_squares(
        residuals,
        race.theta,
        jac=getattr(residuals, jac),
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=10**6,
        tr_options=tr_options or {},
        **options,
    )


class TimedMLP(MLPRegressor):
    """MLPRegressor from a given start, with each value of its loss stamped."""

    def _init_coef(self, fan_in: int, fan_out: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        W, b = next(self.start_)
        return W.astype(dtype), b.astype(dtype)

    def _backprop(self, *args: object) -> tuple:
        result = super()._backprop(*args)
        self.watch_.linearized()
        self.watch_.see(2 * result[0])
        return result


def run_mlp(race: Problem, watch: Stopwatch, *, options: dict | None = None) -> None:
    """Run MLPRegressor(solver="lbfgs"), continued by warm_start whenever L-BFGS stops.

    L-BFGS-B stops at a relative decrease of 2e-9 of the loss, which MLPRegressor has no
    parameter for; ``options`` reach `scipy.optimize.minimize` past it.
    """
    model = TimedMLP(
        hidden_layer_sizes=race.hidden,
        activation="tanh",
        solver="lbfgs",
        alpha=0.0,
        tol=0.0,
        max_iter=10**9,
        max_fun=10**9,
        warm_start=True,
    )
    model.start_, model.watch_ = iter(race.layers), watch
    with _minimize_with(options or {}), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(race.X, race.targets)
        before = np.inf
        while watch.best < before:  # until a whole fit brings no gain
            before = watch.best
            model.fit(race.X, race.targets)


def _minimize_with(options: dict) -> AbstractContextManager:
    if not options:
        return nullcontext()
    original = scipy.optimize.minimize

    def minimize(*args: object, **kwargs: object) -> object:
        return original(*args, **{**kwargs, "options": {**kwargs["options"], **options}})

    return mock.patch("scipy.optimize.minimize", minimize)


# -- Settings ----------------------------------------------------------------------------------


def lm_settings() -> dict[str, Runner]:
    """Damping strategies, start values, factors and solvers of torch-levenberg-marquardt.

    Its Jacobian without vmap is left out: on the two smaller problems it took about twice the
    best time or more, and at 2,000 rows it would hold 2,000 × 2,000 × 128 numbers, 4 GB, a layer.
    """
    damping: dict[str, dict] = {
        "as it comes (1e-3, ÷10, ×10)": {},
        "start 1": {"starting_value": 1.0},
        "start 1e-2, ÷5, ×3": {"starting_value": 1e-2, "dec_factor": 0.2, "inc_factor": 3.0},
        "start 1e-1, ÷100, ×5": {"starting_value": 0.1, "dec_factor": 0.01, "inc_factor": 5.0},
        "start 1e-1, ÷100, ×5, no floor": {
            "starting_value": 0.1,
            "dec_factor": 0.01,
            "inc_factor": 5.0,
            "min_value": 1e-16,
        },
        "Fletcher": {"damping_mode": "fletcher"},
        "Fletcher, start 1e-2": {"damping_mode": "fletcher", "starting_value": 1e-2},
        "adaptive": {"damping_mode": "adaptive"},
    }
    settings: dict[str, Runner] = {
        f"Cholesky, damping {name}": partial(run_lm, damping=options)
        for name, options in damping.items()
    }
    settings["QR, damping as it comes"] = partial(run_lm, damping={}, solve="qr")
    settings["LU, damping as it comes"] = partial(run_lm, damping={}, solve="solve")
    return settings


def scipy_settings() -> dict[str, Runner]:
    """Trust-region solvers, forms of the Jacobian and LSMR tolerances of least_squares."""
    products = partial(run_scipy, jac="operator", method="trf", tr_solver="lsmr")
    dense = partial(run_scipy, jac="dense", method="trf", tr_solver="lsmr")
    return {
        **{
            f"trf, lsmr, J as products, LSMR tolerance {tol:.0e}": partial(
                products, tr_options={"atol": tol, "btol": tol}
            )
            for tol in (1e-3, 1e-4, 1e-5, 1e-2, 1e-10)
        },
        "trf, lsmr, J as products": products,
        "trf, lsmr, J as products, at most 100 LSMR iterations": partial(
            products, tr_options={"maxiter": 100}
        ),
        "trf, lsmr, J as products, not regularised": partial(
            products, tr_options={"regularize": False}
        ),
        "trf, lsmr, J dense": dense,
        "trf, lsmr, J dense, x_scale='jac'": partial(dense, x_scale="jac"),
        "trf, exact, J dense": partial(run_scipy, jac="dense", method="trf", tr_solver="exact"),
        "trf, exact, J dense, x_scale='jac'": partial(
            run_scipy, jac="dense", method="trf", tr_solver="exact", x_scale="jac"
        ),
        "dogbox, lsmr, J as products": partial(
            run_scipy, jac="operator", method="dogbox", tr_solver="lsmr"
        ),
        "lm (MINPACK)": partial(run_scipy, jac="dense", method="lm", x_scale=1.0),
    }


def mlp_settings() -> dict[str, Runner]:
    """MLPRegressor as it is, and with options handed to L-BFGS past it."""
    options: dict[str, dict] = {
        "ftol=0": {"ftol": 0.0},
        "ftol=0, maxcor=30": {"ftol": 0.0, "maxcor": 30},
        "ftol=0, maxcor=100": {"ftol": 0.0, "maxcor": 100},
        "as it is": {},
    }
    return {name: partial(run_mlp, options=values) for name, values in options.items()}


def optimistix_settings() -> dict[str, Runner]:
    """Those of optimistix.LevenbergMarquardt."""
    return _jax().levenberg_marquardt_settings()


def broyden_settings() -> dict[str, Runner]:
    """Those of the self-scaled Broyden methods of ssbroyden-optimistix."""
    return _jax().broyden_settings()


def _jax() -> Any:
    """JAX reads how many threads it may have when it is imported."""
    try:
        import _race_jax
    except ImportError as error:
        raise ImportError(
            "two peers run in JAX; run pip install 'sklearn-gflow[bench-race]'"
        ) from error
    return _race_jax


OURS = "this package, `flow`"
LOOSE = "this package, `flow` to a step tolerance of 0.4"
FAST = "this package, `flow` by `Fast`"
FITS = "this package, whole `fit`", 'this package, whole `fit`, `schedule="fast"`'
OWN: dict[str, Runner] = {
    OURS: partial(run_flow, schedule=partial(Adaptive, np.inf)),
    LOOSE: partial(run_flow, schedule=partial(Adaptive, np.inf, 0.4)),
    FAST: partial(run_flow, schedule=Fast),
    FITS[0]: partial(run_fit, schedule="adaptive"),
    FITS[1]: partial(run_fit, schedule="fast"),
}
PEERS: dict[str, Callable[[], dict[str, Runner]]] = {
    "LM in torch": lm_settings,
    "LM of optimistix": optimistix_settings,
    "scipy `least_squares`": scipy_settings,
    "`MLPRegressor(lbfgs)`": mlp_settings,
    "SSBroyden": broyden_settings,
}
