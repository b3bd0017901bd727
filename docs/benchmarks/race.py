"""Race to zero training loss: this package and its peers from one start, on one problem.

All train the same tanh network from the same weights θ₀ on the same standardised data, until
the training MSE is 1e-10·var(y). The model of this package is f_θ − f_θ₀; the peers get the
targets y + f_θ₀(X) instead, which is the same problem. Every competitor reports each value of
its loss to a stopwatch at the moment it has computed it; the run ends when the target or the
budget is met. What is timed starts with arrays (X, y, θ₀) and includes all set-up.

A peer runs once with each of several settings; the best of them enters the timed repetitions,
in which the competitors take turns. Run ``python docs/benchmarks/race.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from unittest import mock

import numpy as np
import scipy.optimize
import threadpoolctl
import torch
from _machine import header
from scipy.sparse.linalg import LinearOperator
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from torch_levenberg_marquardt.damping import StandardDampingStrategy
from torch_levenberg_marquardt.loss import MSELoss
from torch_levenberg_marquardt.training import LevenbergMarquardtModule

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.dynamics import Adaptive, FlowOptions, flow
from sklearn_gflow.estimators._validation import seed_generator
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError

TARGET = 1e-10  # times var(y), which is 1
SEED = 0
FINALISTS, CLOSE = 3, 1.3  # that many settings of a peer, this close to its best, run thrice
OUT = Path(__file__).with_suffix(".md")

# -- The stopwatch -----------------------------------------------------------------------------


class Finish(Exception):  # noqa: N818 -- a way out of a peer's loop, no error
    """The run has met its target or used up its budget."""


@dataclass
class Stopwatch:
    """Times one run from within: each value of the loss is stamped when it is known.

    Attributes
    ----------
    budget : float
        Seconds after which a run is ended.
    best : float
        Least MSE seen.
    seconds : float
        When the target was met; ∞ if it was not.
    elapsed : float
        Length of the run.
    evaluations, linearizations : int
        How often the loss, and a Jacobian, Gram or gradient, was computed.
    """

    budget: float
    best: float = np.inf
    seconds: float = np.inf
    elapsed: float = np.nan
    evaluations: int = 0
    linearizations: int = 0
    _start: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Start again at zero, for a run with preparations that should not count."""
        self._start = time.perf_counter()

    def see(self, mse: float) -> None:
        """Note a value of the training MSE."""
        now = time.perf_counter() - self._start
        self.evaluations += 1
        self.best = min(self.best, mse)
        if mse <= TARGET:
            self.seconds = now
            raise Finish
        if now > self.budget:
            raise Finish

    def linearized(self) -> None:
        """Count a Jacobian, Gram or gradient."""
        self.linearizations += 1

    def stop(self) -> None:
        """Note the end of the run."""
        self.elapsed = time.perf_counter() - self._start

    @property
    def reached(self) -> bool:
        """Whether the target was met."""
        return self.seconds < np.inf


# -- The problems ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Standardised data, a network and its start."""

    name: str
    X: np.ndarray
    y: np.ndarray
    hidden: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of all layers."""
        return (self.X.shape[1], *self.hidden, 1)

    @cached_property
    def theta(self) -> np.ndarray:
        """θ₀, as `AdaptedFlowRegressor` draws it for ``random_state=SEED``."""
        return LayeredNetwork(self.sizes).initial(seed_generator(SEED)).numpy()

    @cached_property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """θ₀ as (weights, biases), layer by layer."""
        return list(unpack(self.theta, self.sizes))

    @cached_property
    def targets(self) -> np.ndarray:
        """y + f_θ₀(X): from θ₀ the peers start at the outputs zero too, the mean of y."""
        return self.y + forward(self.theta, self.sizes, self.X)[-1][:, 0]


def standardized(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1."""
    return (values - values.mean(0)) / values.std(0)


def problem(name: str) -> Problem:
    """Build a problem by its name."""
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
        return Problem("diabetes 442×10, net 2×64", standardized(X), standardized(y), (64, 64))
    n = {"friedman1-1000": 1000, "friedman1-2000": 2000}[name]
    X, y = make_friedman1(n, n_features=10, noise=1.0, random_state=SEED)
    title = f"friedman1 {n:,}×10, net 2×128"
    return Problem(title, standardized(X), standardized(y), (128, 128))


PROBLEMS = ("diabetes", "friedman1-1000", "friedman1-2000")

# -- The network in NumPy: what scipy.optimize is handed ---------------------------------------


def unpack(theta: np.ndarray, sizes: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Views of θ as (weights, biases), layer by layer."""
    start = 0
    for n_in, n_out in itertools.pairwise(sizes):
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        yield theta[start:middle].reshape(n_in, n_out), theta[middle:end]
        start = end


def forward(theta: np.ndarray, sizes: Sequence[int], X: np.ndarray) -> list[np.ndarray]:
    """Inputs of all layers, and the outputs."""
    values = [X]
    for W, b in unpack(theta, sizes):
        z = values[-1] @ W
        z += b
        values.append(np.tanh(z, out=z) if len(values) < len(sizes) - 1 else z)
    return values


class Residuals:
    """r(θ) = f_θ(X) − targets with its exact Jacobian: dense, or as products J·v and Jᵀ·u."""

    def __init__(self, race: Problem, watch: Stopwatch) -> None:
        self.sizes, self.X, self.targets, self.watch = race.sizes, race.X, race.targets, watch
        self.theta: np.ndarray | None = None
        self.values: list[np.ndarray] = []

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """r(θ), timed; the activations are kept for the Jacobian at the same θ."""
        self._evaluate(theta)
        r = self.values[-1][:, 0] - self.targets
        self.watch.see(float(r @ r) / len(r))
        return r

    def dense(self, theta: np.ndarray) -> np.ndarray:
        """J, by one backward pass of all samples."""
        self._linearize(theta)
        J = np.empty((len(self.X), len(theta)))
        delta = np.ones((len(self.X), 1))
        end = len(theta)
        for depth, (W, _) in reversed(list(enumerate(unpack(theta, self.sizes)))):
            a = self.values[depth]
            middle, start = end - W.shape[1], end - W.shape[1] - W.size
            J[:, middle:end] = delta
            block = J[:, start:middle].reshape(len(J), *W.shape)  # a view
            np.multiply(a[:, :, None], delta[:, None, :], out=block)
            if depth:
                delta = (delta @ W.T) * (1 - a * a)
            end = start
        return J

    def operator(self, theta: np.ndarray) -> LinearOperator:
        """J as a forward pass of tangents and a backward pass of cotangents."""
        self._linearize(theta)
        layers, inputs = list(unpack(theta.copy(), self.sizes)), self.values[:-1]
        slopes = [1 - a * a for a in inputs[1:]]
        return LinearOperator(
            (len(self.X), len(theta)),
            matvec=lambda v: self._push(layers, inputs, slopes, v.ravel()),
            rmatvec=lambda u: self._pull(layers, inputs, slopes, u.ravel()),
            dtype=np.float64,
        )

    def _evaluate(self, theta: np.ndarray) -> None:
        if self.theta is None or not np.array_equal(theta, self.theta):
            self.theta, self.values = theta.copy(), forward(theta, self.sizes, self.X)

    def _linearize(self, theta: np.ndarray) -> None:
        self.watch.linearized()
        self._evaluate(theta)

    def _push(self, layers: list, inputs: list, slopes: list, v: np.ndarray) -> np.ndarray:
        z_dot = np.zeros(())
        for depth, (dW, db) in enumerate(unpack(v, self.sizes)):
            tangent = inputs[depth] @ dW + db
            z_dot = tangent + (z_dot * slopes[depth - 1]) @ layers[depth][0] if depth else tangent
        return z_dot[:, 0]

    def _pull(self, layers: list, inputs: list, slopes: list, u: np.ndarray) -> np.ndarray:
        parts, delta = [], u[:, None]
        for depth in reversed(range(len(layers))):
            parts += [delta.sum(0), (inputs[depth].T @ delta).ravel()]
            if depth:
                delta = (delta @ layers[depth][0].T) * slopes[depth - 1]
        return np.concatenate(parts[::-1])


# -- The competitors: each takes a problem and a stopwatch -------------------------------------

Runner = Callable[[Problem, Stopwatch], None]


@dataclass(frozen=True)
class TimedSquaredError(SquaredError):
    """The squared error of the package, with each value stamped."""

    watch: Stopwatch | None = None

    def value(self, x: torch.Tensor) -> float:
        """C(x) = MSE/2."""
        value = super().value(x)
        self.watch.see(2 * value)
        return value

    def gradient(self, x: torch.Tensor) -> torch.Tensor:
        """∇ₓC, once a point of the flow."""
        self.watch.linearized()
        return super().gradient(x)


def run_flow(race: Problem, watch: Stopwatch, *, tolerance: float = 0.05) -> None:
    """Run the flow at α = 1 up to t = 1."""
    X, y = torch.from_numpy(race.X), torch.from_numpy(race.y)
    theta = torch.from_numpy(race.theta)
    network = LayeredNetwork(race.sizes)
    output_map = OutputMap(network, X, network.outputs(theta, X))
    cost = TimedSquaredError(y, output_map.total_weight, watch)
    flow(output_map, cost, theta, Adaptive(np.inf, tolerance), FlowOptions(alpha=1.0))


def run_fit(race: Problem, watch: Stopwatch) -> None:
    """Fit the estimator: on to its own tolerance, rank and spectrum at the end included."""
    model = AdaptedFlowRegressor(race.hidden, alpha=1.0, t_end=1.0, random_state=SEED)
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


OURS = "this package, `flow`"
LOOSE = "this package, `flow` to a step tolerance of 0.4"
FIT = "this package, whole `fit`"
OWN: dict[str, Runner] = {OURS: run_flow, LOOSE: partial(run_flow, tolerance=0.4), FIT: run_fit}
PEERS: dict[str, Callable[[], dict[str, Runner]]] = {
    "LM in torch": lm_settings,
    "scipy `least_squares`": scipy_settings,
    "`MLPRegressor(lbfgs)`": mlp_settings,
}

# -- The race ----------------------------------------------------------------------------------


@dataclass
class Entry:
    """A competitor in the timed repetitions, with the setting that it runs with."""

    name: str
    setting: str
    runner: Runner
    runs: list[Stopwatch] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        """Whether every run met the target."""
        return all(run.reached for run in self.runs)

    @property
    def median(self) -> float:
        """Median seconds to the target; ∞ if a run missed it."""
        return median(self.runs) if self.reached else np.inf


def timed(runner: Runner, race: Problem, budget: float) -> Stopwatch:
    """One run, after the threads of the one before have come to rest."""
    gc.collect()
    time.sleep(0.1)
    watch = Stopwatch(budget)
    watch.start()
    try:
        runner(race, watch)
    except Finish:
        pass
    finally:
        watch.stop()
    return watch


Trials = dict[str, list[Stopwatch] | str]


def trials(race: Problem, settings: dict[str, Runner], budget: float) -> Trials:
    """Run each setting once, for at most twice as long as the best so far; close ones thrice.

    The value of a setting that the peer refuses is its message.
    """
    found: Trials = {}
    limit = budget
    for name, runner in settings.items():
        try:
            timed(runner, race, min(limit, 1.0))  # first calls load and warm up
            run = timed(runner, race, limit)
        except ValueError as error:
            found[name] = f"refused ({error})"
            print(f"    {name}: {found[name]}", flush=True)
            continue
        found[name] = [run]
        if run.reached:
            limit = min(limit, max(2 * run.seconds, 0.5))
        print(f"    {name}: {in_words([run])}", flush=True)
    finalists = _finalists(found)
    for name in 2 * finalists if len(finalists) > 1 else ():
        found[name] += [timed(settings[name], race, limit)]
    return found


def _finalists(found: Trials) -> list[str]:
    """The best few settings whose first run came close to the fastest."""
    names = ranked(found)[:FINALISTS]
    return [name for name in names if median(found[name]) <= CLOSE * median(found[names[0]])]


def ranked(found: Trials) -> list[str]:
    """Settings in order: by time to the target, then by the loss that they came to."""
    runs = {name: run for name, run in found.items() if not isinstance(run, str)}
    return sorted(runs, key=lambda name: (median(runs[name]), min(r.best for r in runs[name])))


def median(runs: Sequence[Stopwatch]) -> float:
    """Median seconds to the target, a miss counting as ∞."""
    return statistics.median(run.seconds for run in runs)


@dataclass
class Result:
    """What came out on one problem."""

    race: Problem
    entries: list[Entry]
    tried: dict[str, Trials]


def run_problem(name: str, repeats: int, budget: float, quick: bool) -> Result:
    """Find each peer's best setting, then let all run in turns."""
    race = problem(name)
    print(race.name, flush=True)
    entries = [Entry(title, "", runner) for title, runner in OWN.items()]
    tried = {}
    for title, make in PEERS.items():
        print(f"  {title}", flush=True)
        settings = dict(itertools.islice(make().items(), 1 if quick else None))
        tried[title] = trials(race, settings, budget)
        best = ranked(tried[title])[0]
        entries.append(Entry(title, best, settings[best]))
    for entry in entries:
        timed(entry.runner, race, min(budget, 2.0))
    for repeat in range(repeats):
        for entry in entries:
            if repeat and not entry.reached:  # a miss costs the whole budget: once is enough
                continue
            entry.runs.append(timed(entry.runner, race, budget))
            print(f"  {repeat + 1}/{repeats} {entry.name}: {in_words(entry.runs[-1:])}", flush=True)
    return Result(race, entries, tried)


# -- The report --------------------------------------------------------------------------------


def in_words(runs: Sequence[Stopwatch]) -> str:
    """Time to the target, or how far the runs came."""
    if median(runs) < np.inf:
        return seconds(median(runs))
    last = runs[-1]
    return f"not in {seconds(last.elapsed)} ({last.best:.1e})"


def seconds(value: float) -> str:
    """Three digits, with the unit."""
    return f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def row(entry: Entry, unit: float) -> str:
    """A line of the table."""
    last, spread = entry.runs[-1], ""
    if entry.reached:
        times = [run.seconds for run in entry.runs]
        clock, ratio = seconds(entry.median), f"{entry.median / unit:.1f}"
        spread = f"{min(times):.3g} – {max(times):.3g}"
    else:
        ended = next(run for run in entry.runs if not run.reached)
        clock, ratio = f"> {seconds(ended.elapsed)}", f"> {ended.elapsed / unit:.0f}"
        last = ended
    cells = [
        entry.name,
        clock,
        spread,
        ratio,
        f"{last.best:.1e}",
        f"{last.linearizations}",
        f"{last.evaluations}",
        entry.setting,
    ]
    return "| " + " | ".join(cells) + " |"


def section(result: Result) -> str:
    """The tables of one problem."""
    unit = result.entries[0].median
    lines = [
        f"## {result.race.name}",
        "",
        f"{len(result.race.theta):,} parameters; {len(result.entries[0].runs)} repetitions.",
        "",
        "| competitor | time to target | least – most, s | ÷ `flow` | MSE/var(y) | J, G or ∇C |"
        " losses | setting |",
        "|---|---|---|---|---|---|---|---|",
        *(row(entry, unit) for entry in result.entries),
        "",
        "Settings that were tried (where the best came close, the median of three runs), each run",
        "being ended at twice the best time so far:",
        "",
    ]
    for peer, found in result.tried.items():
        runs = [
            f"{name}: {run if isinstance(run, str) else in_words(run)}"
            for name, run in found.items()
        ]
        lines.append(f"- {peer}. " + "; ".join(runs) + ".")
    return "\n".join([*lines, ""])


def summary(results: Sequence[Result]) -> str:
    """Best peer over this package, problem by problem."""
    lines = [
        "| problem | best peer | its time | `flow` | ratio | `flow`, tolerance 0.4 | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, loose, *others = [entry for entry in result.entries if entry.name != FIT]
        finished = [entry for entry in others if entry.reached]
        if finished:
            best = min(finished, key=lambda entry: entry.median)
            cells = [result.race.name, best.name, seconds(best.median)]
            for own in (ours, loose):
                cells += [seconds(own.median), f"**{best.median / own.median:.1f}**"]
        else:
            cells = [result.race.name, "none met the target in the budget", ""]
            cells += [seconds(ours.median), "", seconds(loose.median), ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


PREAMBLE = f"""\
# Race to zero training loss

Time until the training MSE is {TARGET:g}·var(y), from the same start θ₀, with the same tanh
network in float64, on the same standardised data, full batch. This package trains f_θ − f_θ₀; the
peers get the targets y + f_θ₀(X), which is the same problem. Each loss is stamped at the moment it
is computed, in the same way for all, and a run ends at the target. Only the whole `fit` goes on to
its own tolerance, and computes rank, Gram and spectrum at the end; its row is the time of the call.

The flow runs with the steps of the estimators, whose error stays below 5 % of the way |y − x₀|, and
with steps to a tolerance of 0.4: a path that need not be the line of the theory goes in fewer.

Each peer runs with the best of the settings listed below its table; the repetitions alternate
between the competitors in one process, and medians are given. A peer that missed the target ran
once. "J, G or ∇C" counts Jacobians, Grams or gradients, "losses" the evaluations of the loss (for
the whole `fit`: points of the path).

`least_squares` gets the exact Jacobian, in closed form in NumPy: as a dense matrix or as products.
`MLPRegressor` stops at a relative decrease of the loss of 2e-9 (an option of L-BFGS that it does
not hand on); it is continued by `warm_start` whenever it stops, or given `ftol=0` past its
interface.
"""


def main() -> None:
    """Run the race and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a run")
    parser.add_argument("--quick", action="store_true", help="one setting a peer, no trials")
    parser.add_argument("--threads", type=int, help="of torch and BLAS; default: as they are")
    parser.add_argument("--out", type=Path, default=OUT, help="where the table goes")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        threadpoolctl.threadpool_limits(arguments.threads)
    results = []
    for name in arguments.problems:
        results.append(run_problem(name, arguments.repeats, arguments.budget, arguments.quick))
        parts = [PREAMBLE, header(), "", summary(results), "", *map(section, results)]
        arguments.out.write_text("\n".join(parts))
    print(summary(results))


if __name__ == "__main__":
    main()
