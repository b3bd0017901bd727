"""Losses ℓ(x, y) of a row of outputs and targets: squares, log-losses, Huber, quantiles, deviances.

Each is written in the distance from where it is least, so that nothing cancels near there and
nothing overflows far from it before the loss itself does. What a loss must offer is in `cost`.
Symbols: docs/notation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.geometry.cost import Loss, RowCost, SquaredError

__all__ = [
    "BinaryLogLoss",
    "CrossEntropy",
    "Gamma",
    "Huber",
    "LogLoss",
    "Poisson",
    "Quantile",
    "SquaredLoss",
]

# Up to this |d| the series of e^d − 1 − d is taken; with so many terms it is exact to rounding.
_SERIES_BELOW, _SERIES_TERMS = 0.3, 13


class CrossEntropy(RowCost):
    """C(x) = −(1/N) Σᵢ wᵢ Σ_q y_iq log softmax(xᵢ)_q, outputs being logits.

    Parameters
    ----------
    targets : Tensor of shape (n_samples, n_outputs)
        Class probabilities y, rows summing to one. Where all are positive, as after label
        smoothing, the cost has a minimum.
    weights : Tensor of shape (n_samples,), optional
        Sample weights w; the output map's coordinates are then W^½x.
    """

    def __init__(self, targets: Tensor, weights: Tensor | None = None) -> None:
        super().__init__(LogLoss(), targets, weights)


@dataclass(frozen=True)
class SquaredLoss(Loss):
    """ℓ = |x − y|²/2, whose cost is the `SquaredError`."""

    linear = bounded = squared = True

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return (x - y).square().sum(1) / 2

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """x − y."""
        return x - y

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """1."""
        return x.new_full((), 1.0)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """y."""
        return y

    def cost(self, targets: Tensor, weights: Tensor | None = None) -> SquaredError:
        """C(x) = |x − y|²/(2N), in the coordinates W^½x where it is Euclidean."""
        if weights is None:
            return SquaredError(targets.reshape(-1), float(len(targets)))
        weighed = targets * weights.sqrt()[:, None]
        return SquaredError(weighed.reshape(-1), float(weights.sum()))


@dataclass(frozen=True)
class LogLoss(Loss):
    """ℓ = −Σ_q y_q log softmax(x)_q of class probabilities y, with ∂²ℓ/∂x² = diag(p) − ppᵀ ≤ ½."""

    unit = 0.5
    bounded = True
    # Its curvature p(1 − p) falls as labels are learnt: a ridge that suits the start holds back all
    # that follows. Without any, rounding decides fits of small networks, and steps are many. This
    # one is 3e-5 at α = ½. On real tables of 300 rows a thousand times as much has lower log-loss,
    # and does not learn the sign of a quick sine (docs/user_guide.md, "Probabilities").
    ridge = 1.2e-4
    # Of 0.1 and 0.3 the better one in four of five tables; of many rows 1 is better than either
    # (docs/benchmarks/blocks_trials.md).
    block_ridge, largest_block_ridge = 0.1, 1.0

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return -(y * torch.log_softmax(x, dim=1)).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """softmax(x) − y."""
        return torch.softmax(x, dim=1) - y

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """½, which bounds the eigenvalues of diag(p) − ppᵀ."""
        return x.new_full((), 0.5)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """log y − mean(log y) + mean(x), row by row: the flow conserves the mean logit."""
        log_y = _log_ahead(y, torch.log_softmax(x, dim=1), floor)
        return log_y - log_y.mean(1, keepdim=True) + x.mean(1, keepdim=True)

    def attained(self, y: Tensor) -> bool:
        """Whether all probabilities are positive."""
        return bool((y > 0).all())


@dataclass(frozen=True)
class BinaryLogLoss(Loss):
    """ℓ = Σ_q of log(1 + e^{x}) − yx: outputs are logits of labels that do not exclude each other.

    Or there is one output, the logit of the second of two classes.

    ∂²ℓ/∂x² = p(1 − p) ≤ ¼ with p = 1/(1 + e^{−x}).
    """

    unit = 0.25
    bounded = True
    # As of `LogLoss`: of two classes this is its loss in the difference of their logits.
    ridge, block_ridge, largest_block_ridge = (
        LogLoss.ridge, LogLoss.block_ridge, LogLoss.largest_block_ridge
    )  # fmt: skip

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row, as −y log p − (1 − y) log(1 − p), of which no part is a difference."""
        log_p = torch.nn.functional.logsigmoid
        return -(y * log_p(x) + (1 - y) * log_p(-x)).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """p − y."""
        return torch.sigmoid(x) - y

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """¼, which bounds p(1 − p)."""
        return x.new_full((), 0.25)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """log y − log(1 − y), output by output."""
        log_p = torch.nn.functional.logsigmoid
        return _log_ahead(y, log_p(x), floor) - _log_ahead(1 - y, log_p(-x), floor)

    def attained(self, y: Tensor) -> bool:
        """Whether no label is certain."""
        return bool(((y > 0) & (y < 1)).all())


@dataclass(frozen=True)
class Huber(Loss):
    """ℓ = Σ_q of (x − y)²/2 up to |x − y| = δ, and of δ(|x − y| − δ/2) beyond (Huber, 1964).

    Parameters
    ----------
    delta : float
        δ, in units of the targets. 1.35 keeps 95 % of the efficiency of the mean where errors
        are normal with variance 1.
    """

    delta: float = 1.35
    bounded = True

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"delta of Huber must be positive, got {self.delta}")

    @property
    def reach(self) -> float:
        """3δ: four standard deviations of normal errors."""
        return 3 * self.delta

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return torch.nn.functional.huber_loss(x, y, reduction="none", delta=self.delta).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """x − y, cut at ±δ."""
        return (x - y).clamp(-self.delta, self.delta)

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """1, the curvature near y and a bound on that beyond δ, which is zero."""
        return x.new_full((), 1.0)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """y."""
        return y


@dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss of a quantile, smoothed at its kink; its least value is zero.

    ℓ = Σ_q of q·r + s·log(1 + e^{−r/s}) − s·H(q) with r = y − x, the convolution of the pinball
    loss with the density of a logistic variable of scale s (Zheng, 2011; He, Pan, Tan and Zhou,
    2023). H(q) = −q log q − (1−q) log(1−q).

    In the distance d = (x − y)/s − log(q/(1−q)) from the least loss it is s·(log(1 + u) − qd) with
    u = q(e^d − 1). For d > 0 this is the same with 1 − q for q and −d for d, so that nothing
    overflows, and with R(d) = e^d − 1 − d it is s·(q R(d) − R(log(1 + u))), where nothing cancels.

    Parameters
    ----------
    level : float
        q in (0, 1): 0.5 is the median.
    width : float
        s, in units of the targets.
    """

    level: float = 0.5
    width: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level of Quantile must be in (0, 1), got {self.level}")
        if not self.width > 0:
            raise ValueError(f"width of Quantile must be positive, got {self.width}")

    @property
    def reach(self) -> float:
        """100 s: five standard deviations of normal errors, where 1/density is the unit."""
        return 100 * self.width

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        d = (x - y) / self.width - self._logit
        q = torch.where(d > 0, d.new_full((), 1 - self.level), d.new_full((), self.level))
        d = -d.abs()
        log_share = torch.log1p(q * torch.expm1(d))
        return self.width * (q * _remainder(d) - _remainder(log_share)).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """σ((x − y)/s) − q, σ being the logistic function."""
        return torch.sigmoid((x - y) / self.width) - self.level

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """1/(4s), that at the kink and a bound on all others."""
        return x.new_full((), 0.25 / self.width)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """y + s·log(q/(1−q))."""
        return y + self.width * self._logit

    @property
    def _logit(self) -> float:
        return math.log(self.level / (1 - self.level))


@dataclass(frozen=True)
class Poisson(Loss):
    """Half the Poisson deviance, outputs being logarithms of means: Σ_q of e^x − y − y(x − log y).

    In the distance d = x − log y from the least loss it is y(e^d − 1 − d), and its derivative
    y(e^d − 1): without cancellation, and zero where the least loss is.
    """

    link = "log"
    domain = "nonnegative"

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        d = x - y.log()
        return torch.where(y > 0, y * _remainder(d), x.exp()).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """e^x − y."""
        return torch.where(y > 0, y * torch.expm1(x - y.log()), x.exp())

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """e^x."""
        return x.exp()

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """log y; of a count of zero it is −∞."""
        return _log_ahead(y, x, floor)

    def attained(self, y: Tensor) -> bool:
        """Whether all counts are positive."""
        return bool((y > 0).all())


@dataclass(frozen=True)
class Gamma(Loss):
    """Half the gamma deviance, outputs being logarithms of means: Σ_q of y/e^x − 1 − log y + x.

    In the distance d = log y − x from the least loss it is e^d − 1 − d, without cancellation.
    """

    link = "log"
    domain = "positive"

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return _remainder(y.log() - x).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """1 − y/e^x."""
        return -torch.expm1(y.log() - x)

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """y/e^x."""
        return (y.log() - x).exp()

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """log y."""
        return y.log()


def _log_ahead(y: Tensor, log_now: Tensor, floor: float) -> Tensor:
    """log y, where y below ``floor`` counts as ``floor``, or as e^{−1} times what it is now.

    The second keeps the stand-in ahead: a flow that has passed log floor would otherwise be sent
    back, and one that has just reached it would find no way left.
    """
    return torch.maximum(y.log(), (log_now - 1).clamp_max(math.log(floor)))


def _remainder(d: Tensor) -> Tensor:
    """e^d − 1 − d, by its series where the difference cancels."""
    small = d.abs() < _SERIES_BELOW
    series = torch.ones_like(d)
    for k in range(_SERIES_TERMS, 2, -1):
        series = 1 + torch.where(small, d, 0.0) / k * series
    return torch.where(small, d * d / 2 * series, torch.expm1(d) - d)
