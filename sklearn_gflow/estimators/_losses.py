"""Losses as estimators see them: from y in the user's units to targets, and from outputs back.

A loss by name is an entry of `NUMBERS` (for regressors) or `LABELS` (for classifiers). The formulas
of the losses are in `geometry.losses`; here is in which units targets are handed to them, at which
constant a model starts, and how outputs become predictions, probabilities and scores.
Notation: docs/notation.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, softmax

from sklearn_gflow.estimators._tensors import host_tensor, to_numpy
from sklearn_gflow.geometry import Loss
from sklearn_gflow.geometry.losses import (
    BinaryLogLoss,
    Gamma,
    Huber,
    LogLoss,
    Poisson,
    Quantile,
    SquaredLoss,
)

__all__ = [
    "LABELS",
    "NUMBERS",
    "LossOfLabels",
    "LossOfNumbers",
    "best_constant",
    "check_domain",
    "inverse_link",
    "inverse_link_slope",
    "loss_of_labels",
    "mean_and_deviation",
]

Units = tuple[np.ndarray, np.ndarray]
"""Centre and scale of each column of y."""
UnitsOf = Callable[[np.ndarray, np.ndarray | None], Units]
"""(y, weights) -> units."""

# The standard deviation of a normal variable over its median absolute deviation.
_NORMAL_DEVIATION = 1.4826
# The density at a quantile is estimated from the quantiles this far below and above.
_QUANTILE_SPAN = 0.1
# Of the interval in which a root is sought: outliers may be 1e150 units away.
_MOST_HALVINGS = 10_000


def best_constant(loss: Loss, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The output, the same for every row, of least cost; shape (n_outputs,)."""
    if loss.squared:
        return np.average(targets, axis=0, weights=weights)
    return np.array([_root(loss, column[:, None], weights) for column in targets.T])


def _root(loss: Loss, column: np.ndarray, weights: np.ndarray | None) -> float:
    """Where the derivative of the cost of a constant is zero: between the rows' own minima."""
    y = host_tensor(column)
    own = loss.minimizer(y.new_zeros(y.shape), y, np.finfo(float).tiny)
    least, most = float(own.min()), float(own.max())

    def slope(x: float) -> float:
        return float(
            np.average(to_numpy(loss.gradient(y.new_full(y.shape, x), y))[:, 0], weights=weights)
        )

    if not slope(least) < 0 < slope(most):  # where all rows have the same minimum
        return least
    return float(brentq(slope, least, most, xtol=1e-14, rtol=1e-14, maxiter=_MOST_HALVINGS))


# -- numbers -----------------------------------------------------------------------------------


_OUTSIDE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "real": lambda y: np.zeros(y.shape, dtype=bool),
    "nonnegative": lambda y: y < 0,
    "positive": lambda y: y <= 0,
}
"""Which numbers are not in a domain."""


def check_domain(loss: Loss, name: str, y: np.ndarray) -> None:
    """Hold y, shape (n_samples, n_outputs), to the domain of a loss.

    Raises
    ------
    ValueError
        Naming the loss, the domain and a value outside of it.
    """
    outside = _OUTSIDE[loss.domain](y)
    if outside.any():
        raise ValueError(
            f"loss={name!r} needs {loss.domain} targets, and y has the value {y[outside][0]:g}; "
            "take another loss, or transform y"
        )


def inverse_link(loss: Loss, outputs: np.ndarray) -> np.ndarray:
    """Predictions from outputs, in the units of the targets."""
    return np.exp(outputs) if loss.link == "log" else outputs


def inverse_link_slope(loss: Loss, outputs: np.ndarray) -> np.ndarray:
    """Derivatives of these predictions in the outputs."""
    return np.exp(outputs) if loss.link == "log" else np.ones_like(outputs)


@dataclass(frozen=True)
class LossOfNumbers:
    """A loss, and the units in which it is given targets.

    Units are such that the mean curvature at the start is about 1: the clock, the ridge and
    ``t_end`` then mean the same for all losses.

    Attributes
    ----------
    name : str
        For messages.
    loss : Loss
        ℓ.
    units : callable
        (y of shape (n_samples, n_outputs), weights or None) -> (centre, scale) of each column.
    """

    name: str
    loss: Loss
    units: UnitsOf

    @classmethod
    def of(cls, loss: str | Loss, quantile: float) -> LossOfNumbers:
        """The loss that a regressor's parameters name, or a user's own.

        Raises
        ------
        ValueError
            If a user's own has a link or a domain that is not known.
        """
        if isinstance(loss, str):
            named = NUMBERS[loss]
            return cls(loss, named.make(quantile), named.units(quantile))
        for trait, known in (("link", _UNITS_OF_LINK), ("domain", _OUTSIDE)):
            if (value := getattr(loss, trait)) not in known:
                raise ValueError(
                    f"loss={loss!r} has the {trait} {value!r}; it must be one of {sorted(known)}"
                )
        return cls(type(loss).__name__, loss, _UNITS_OF_LINK[loss.link])

    def start(self, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """The constant of least cost, where a model begins."""
        if self.loss.squared:  # the mean is zero in its units, up to rounding
            return np.zeros(targets.shape[1])
        return best_constant(self.loss, targets, weights)


def mean_and_deviation(y: np.ndarray, weights: np.ndarray | None) -> Units:
    """Mean and standard deviation; of a constant column its value and 1."""
    mean = np.average(y, axis=0, weights=weights)
    # Divided by a power of two, which rounds nothing, squares stay in the range of numbers.
    power = np.frexp(np.abs(y - mean).max(axis=0))[1]
    shares = np.ldexp(y - mean, -power)
    deviation = np.ldexp(np.sqrt(np.average(shares**2, axis=0, weights=weights)), power)
    # A constant column has no deviation. Its value, not its mean, is the centre, so that targets
    # are zero and not the rounding of the mean.
    constant = np.ptp(y, axis=0) == 0
    return np.where(constant, y[0], mean), np.where(constant, 1.0, deviation)


def zero_and_mean(y: np.ndarray, weights: np.ndarray | None) -> Units:
    """No shift, and the mean: outputs are then logarithms of multiples of it."""
    return np.zeros(y.shape[1]), np.average(y, axis=0, weights=weights)


def median_and_deviation(y: np.ndarray, weights: np.ndarray | None) -> Units:
    """Median and the standard deviation that normal errors with that median deviation have."""
    median = _quantile(y, 0.5, weights)
    deviation = _NORMAL_DEVIATION * _quantile(np.abs(y - median), 0.5, weights)
    # The median deviation is zero where more than half of the values are the same.
    return median, np.where(deviation > 0, deviation, mean_and_deviation(y, weights)[1])


def _quantile(y: np.ndarray, level: float, weights: np.ndarray | None) -> np.ndarray:
    # With this method of numpy a weight of k is k copies.
    found: np.ndarray = np.quantile(y, level, axis=0, weights=weights, method="inverted_cdf")
    return found


def quantile_and_sparsity(level: float) -> UnitsOf:
    """A quantile, and 1/density there, by which the pinball loss curves (Koenker, 2005, 3.4)."""
    span = min(_QUANTILE_SPAN, level / 2, (1 - level) / 2)

    def units(y: np.ndarray, weights: np.ndarray | None) -> Units:
        between = _quantile(y, level + span, weights) - _quantile(y, level - span, weights)
        deviation = mean_and_deviation(y, weights)[1]
        return _quantile(y, level, weights), np.where(between > 0, between / (2 * span), deviation)

    return units


_UNITS_OF_LINK: dict[str, UnitsOf] = {"identity": mean_and_deviation, "log": zero_and_mean}
"""Those of a user's loss."""


class NamedLoss(NamedTuple):
    """A loss of a regressor by name.

    ``make`` and ``units`` are given the level of the quantile, which most of them do not need;
    ``told`` stands in the docstrings.
    """

    make: Callable[[float], Loss]
    units: Callable[[float], UnitsOf]
    told: str


NUMBERS: dict[str, NamedLoss] = {
    "squared_error": NamedLoss(
        lambda _: SquaredLoss(),
        lambda _: mean_and_deviation,
        "|x − y|²/2 (2.48), predictions are means.",
    ),
    "huber": NamedLoss(
        lambda _: Huber(),
        lambda _: median_and_deviation,
        "linear beyond 1.35 robust standard deviations of y, for outliers.",
    ),
    "poisson": NamedLoss(
        lambda _: Poisson(),
        lambda _: zero_and_mean,
        "half the deviance with a logarithmic link, for counts.",
    ),
    "gamma": NamedLoss(
        lambda _: Gamma(),
        lambda _: zero_and_mean,
        "half the deviance with a logarithmic link, for positive numbers.",
    ),
    "quantile": NamedLoss(
        Quantile,
        quantile_and_sparsity,
        "the pinball loss, smoothed over a fiftieth of 1/density of y at the quantile.",
    ),
}
"""Losses of a regressor."""


# -- labels ------------------------------------------------------------------------------------


class LossOfLabels(ABC):
    """A loss of class labels, coded as rows of numbers."""

    loss: Loss

    @abstractmethod
    def codes(self, n_classes: int, smoothing: float) -> np.ndarray:
        """Targets of each class, shape (n_classes, n_outputs)."""

    @abstractmethod
    def start(self, mean: np.ndarray) -> np.ndarray:
        """The constant of least cost, from the mean of the targets."""

    @abstractmethod
    def points(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs in the space of the targets, where classes collapse."""

    @abstractmethod
    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """What decides: one column for two classes, positive for the second; else one a class."""

    @abstractmethod
    def probabilities(self, scores: np.ndarray, n_seen: float) -> np.ndarray:
        """Class probabilities, given the number of samples that were trained on."""

    @abstractmethod
    def by_class(self, outputs: np.ndarray) -> np.ndarray:
        """A column for each class, also where one output stands for two."""

    @staticmethod
    def decided(scores: np.ndarray) -> np.ndarray:
        """Class index of each row."""
        return (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)

    def told(self, targets: np.ndarray) -> np.ndarray:
        """Class index of each row, from its code."""
        return self.decided(self.scores(targets))


def _smoothed(n_classes: int, smoothing: float) -> np.ndarray:
    return (1 - smoothing) * np.eye(n_classes) + smoothing / n_classes


class SquaredErrorOfLabels(LossOfLabels):
    """The squared distance to one-hot labels; two classes need one output only."""

    loss = SquaredLoss()

    def codes(self, n_classes: int, smoothing: float) -> np.ndarray:
        codes = _smoothed(n_classes, smoothing)
        return codes[:, 1:] if n_classes == 2 else codes

    def start(self, mean: np.ndarray) -> np.ndarray:
        return mean

    def points(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] - 0.5 if outputs.shape[1] == 1 else outputs

    def by_class(self, outputs: np.ndarray) -> np.ndarray:
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def probabilities(self, scores: np.ndarray, n_seen: float) -> np.ndarray:
        """The nearest point of the simplex, mixed with one sample spread over the classes."""
        if scores.ndim == 1:
            scores = np.stack([0.5 - scores, 0.5 + scores], axis=1)
        projected = project_to_simplex(scores)
        return (n_seen * projected + 1 / scores.shape[1]) / (n_seen + 1)


class LogLossOfLabels(LossOfLabels):
    """The cross-entropy of softmax, outputs being logits; two classes need one only."""

    loss: Loss = LogLoss()

    def codes(self, n_classes: int, smoothing: float) -> np.ndarray:
        return _smoothed(n_classes, smoothing)

    def start(self, mean: np.ndarray) -> np.ndarray:
        return np.log(mean)

    def points(self, outputs: np.ndarray) -> np.ndarray:
        return softmax(outputs, axis=1)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs

    def by_class(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def probabilities(self, scores: np.ndarray, n_seen: float) -> np.ndarray:
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        probabilities: np.ndarray = softmax(scores, axis=1)
        return probabilities


class LogLossOfTwo(LogLossOfLabels):
    """The cross-entropy of two classes, the output being the logit of the second.

    The loss depends on the difference of two logits alone. Their mean would only double what is
    factorised.
    """

    loss = BinaryLogLoss()

    def codes(self, n_classes: int, smoothing: float) -> np.ndarray:
        return super().codes(n_classes, smoothing)[:, 1:]

    def start(self, mean: np.ndarray) -> np.ndarray:
        return np.asarray(logit(mean))

    def points(self, outputs: np.ndarray) -> np.ndarray:
        return np.asarray(expit(outputs))

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0]

    def by_class(self, outputs: np.ndarray) -> np.ndarray:
        return np.hstack([-outputs / 2, outputs / 2])

    def told(self, targets: np.ndarray) -> np.ndarray:
        return self.decided(targets[:, 0] - 0.5)


LABELS: dict[str, LossOfLabels] = {
    "squared_error": SquaredErrorOfLabels(),
    "log_loss": LogLossOfLabels(),
}
"""Losses of a classifier by name."""


def loss_of_labels(name: str, n_classes: int) -> LossOfLabels:
    """The loss of that name for so many classes."""
    return LogLossOfTwo() if name == "log_loss" and n_classes == 2 else LABELS[name]


def project_to_simplex(points: np.ndarray) -> np.ndarray:
    """Nearest point of the probability simplex, row by row.

    The projection is max(p − ν, 0); ν is found among the sorted coordinates (Held, Wolfe and
    Crowder, 1974).
    """
    # The projection is that of points shifted by one number. Below the largest coordinate by one or
    # more none is left, and large numbers would drown the one.
    points = np.maximum(points - points.max(axis=1, keepdims=True), -1)
    descending = -np.sort(-points, axis=1)
    counts = np.arange(1, points.shape[1] + 1, dtype=points.dtype)
    levels = (np.cumsum(descending, axis=1) - 1) / counts
    support = (descending > levels).sum(axis=1, keepdims=True)
    return np.maximum(points - np.take_along_axis(levels, support - 1, axis=1), 0)
