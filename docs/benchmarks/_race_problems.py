"""The problems of the race, their network in NumPy, and the stopwatch that every run carries."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse.linalg import LinearOperator
from sklearn.datasets import load_diabetes, make_friedman1

from sklearn_gflow.estimators._tensors import generator_of, seed_of
from sklearn_gflow.geometry import LayeredNetwork

TARGET = 1e-10  # times var(y), which is 1
SEED = 0

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
    _last: object = None
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

    def see_once(self, outputs: object, mse: float) -> None:
        """Note the MSE of outputs, unless it was the last that was noted."""
        if outputs is not self._last:
            self._last = outputs
            self.see(mse)

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
        return LayeredNetwork(self.sizes).initial(generator_of(seed_of(SEED))).numpy()

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
