"""Costs that contract tests go over: those of the package, and two of a user's own.

A case says how its targets are drawn and what cost is made of them. Whoever adds a cost adds a line
to `COSTS`, and every contract holds for it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.geometry import (
    BinaryLogLoss,
    Cost,
    CrossEntropy,
    Gamma,
    Huber,
    Loss,
    Poisson,
    Quantile,
    RowCost,
    SquaredError,
    SquaredLoss,
)


class LogCosh(Loss):
    """ℓ = Σ_q log cosh(x − y): a user's loss of rows."""

    def value(self, x, y):
        d = (x - y).abs()
        return (d + torch.log1p(torch.expm1(-2 * d) / 2)).sum(1)

    def gradient(self, x, y):
        return torch.tanh(x - y)

    def curvature(self, x, y):
        return 1 - torch.tanh(x - y) ** 2

    def minimizer(self, x, y, floor):
        return y


class Correlated(Cost):
    """N·C = Σᵢ wᵢ zᵢᵀAzᵢ/2 with z = W^−½x − y: a user's cost, whose outputs err together."""

    def __init__(self, targets, weights):
        n_outputs = targets.shape[1]
        self.targets = targets
        self.root = torch.ones(len(targets), 1).to(targets)
        if weights is not None:
            self.root = weights.sqrt()[:, None]
        self.total_weight = float((self.root**2).sum())
        self.A = torch.eye(n_outputs).to(targets) + 0.5

    def _error(self, x):
        return x.view_as(self.targets) - self.root * self.targets

    def value(self, x):
        z = self._error(x)
        return float((z * (z @ self.A)).sum()) / (2 * self.total_weight)

    def gradient(self, x):
        return (self._error(x) @ self.A).reshape(-1) / self.total_weight

    def curvature(self, x):
        return 1 + 0.5 * self.targets.shape[1]

    def minimizer(self, x):
        return (self.root * self.targets).reshape(-1)

    def distance(self, x):
        return float((self.minimizer(x) - x).norm())


@dataclass(frozen=True)
class Case:
    """How the targets of a cost are drawn, shape (n_samples, n_outputs), and the cost on them."""

    targets: Callable[[torch.Generator, tuple[int, int]], Tensor]
    cost: Callable[[Tensor, Tensor | None], Cost]

    def draw(self, n_samples: int, n_outputs: int, seed: int = 0) -> Tensor:
        return self.targets(torch.Generator().manual_seed(seed), (n_samples, n_outputs))


def squared_error(targets, weights=None):
    if weights is None:
        return SquaredError(targets.reshape(-1), float(len(targets)))
    weighed = weights.sqrt()[:, None] * targets
    return SquaredError(weighed.reshape(-1), float(weights.sum()))


def of_rows(loss):
    return lambda targets, weights=None: RowCost(loss, targets, weights)


def normal(generator, shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def smoothed_labels(generator, shape):
    """Class probabilities, 0.85 and more for one class and as much for all others."""
    labels = torch.randint(shape[1], (shape[0],), generator=generator)
    certain = torch.nn.functional.one_hot(labels, shape[1]).double()
    return 0.85 * certain + 0.15 / shape[1]


def uncertain_indicators(generator, shape):
    """0.1 or 0.9, each label by itself."""
    return 0.1 + 0.8 * torch.randint(2, shape, generator=generator).double()


def counts(generator, shape):
    """From 1 to 5."""
    return torch.randint(1, 6, shape, generator=generator).double()


def positive(generator, shape):
    return normal(generator, shape).exp()


COSTS = {
    "squared error": Case(normal, squared_error),
    "squared error of rows": Case(normal, of_rows(SquaredLoss())),
    "cross-entropy": Case(smoothed_labels, CrossEntropy),
    "binary log-loss": Case(uncertain_indicators, of_rows(BinaryLogLoss())),
    "huber": Case(normal, of_rows(Huber(0.5))),
    "quantile 0.3": Case(normal, of_rows(Quantile(0.3, 0.2))),
    "quantile 0.9": Case(normal, of_rows(Quantile(0.9, 0.2))),
    "poisson": Case(counts, of_rows(Poisson())),
    "gamma": Case(positive, of_rows(Gamma())),
    "user's loss": Case(normal, of_rows(LogCosh())),
    "user's cost": Case(normal, Correlated),
}


def weights_of(n_samples: int, weighted: bool) -> Tensor | None:
    """None, or weights between ½ and 3."""
    return torch.linspace(0.5, 3, n_samples, dtype=torch.float64) if weighted else None
