"""Costs C(x) on output space, and the losses ℓ(x, y) of a row that they are sums of.

A `Cost` says everything that a flow asks: its value, its gradient, whether that is linear in x,
how curved it is, and where Euclidean gradient flow on it ends. Vectors are those of the output map,
W^½x with the sample weights w; a `Loss` sees plain values, row by row. A new loss is a subclass of
`Loss`: nothing else in this room and in `dynamics` has to know of it. Symbols: docs/notation.md.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.geometry.vectors import norm

__all__ = [
    "Cost",
    "CrossEntropy",
    "Gamma",
    "Huber",
    "LogLoss",
    "Loss",
    "Poisson",
    "Quantile",
    "RowCost",
    "SquaredError",
    "SquaredLoss",
]

# Where a least loss is at infinity, as that of a certain label, smaller targets count as this in
# the unit of step errors: a way without an end cannot be a unit.
_NEARLY_ZERO = 0.01

# Of e^d − 1 − d: with so many terms the series is exact to rounding up to there.
_SERIES_BELOW, _SERIES_TERMS = 0.3, 13


class Cost(ABC):
    """A cost that depends on θ through the outputs x alone (Thm 2.3), C(x) = (1/N) Σ wᵢ ℓᵢ(xᵢ).

    Attributes
    ----------
    total_weight : float
        N of the clock: the sum of the sample weights.
    linear : bool
        Whether N∇ₓC(x) = x − y with some y: the flow with D held fixed then has a closed form.
    unit : float
        A typical eigenvalue of N∇ₓ²C, which is 1 for the squared error. A ridge pulls with the
        force of such a cost.
    """

    total_weight: float
    linear: bool = False
    unit: float = 1.0

    @abstractmethod
    def value(self, x: Tensor) -> float:
        """C(x), of x, shape (Q·N,)."""

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC(x), shape (Q·N,)."""

    @abstractmethod
    def curvature(self, x: Tensor) -> float:
        """The largest eigenvalue of N∇ₓ²C(x), or a bound on it."""

    @abstractmethod
    def minimizer(self, x: Tensor) -> Tensor:
        """Where Euclidean gradient flow from x ends, shape (Q·N,)."""

    @abstractmethod
    def distance(self, x: Tensor) -> float:
        """Length of the way from x to there, the unit of step errors."""

    @property
    def attained(self) -> bool:
        """Whether that point is a minimum, and not a stand-in for one at infinity."""
        return True

    def residual(self, x: Tensor) -> Tensor:
        """r = −N∇ₓC(x), which is y − x for the squared error. The N turns s into τ = s/N."""
        return -self.total_weight * self.gradient(x)

    def least(self, x: Tensor) -> float:
        """The least value that Euclidean gradient flow from x can reach."""
        return self.value(self.minimizer(x))


@dataclass(frozen=True)
class SquaredError(Cost):
    """C(x) = |x − y|²/(2N) (2.48), with N the sum of the sample weights.

    Parameters
    ----------
    targets : Tensor of shape (Q·N,)
        y, in the coordinates of the output map (times W^½ where there are weights).
    total_weight : float
        N.
    """

    targets: Tensor
    total_weight: float

    linear = True

    def value(self, x: Tensor) -> float:
        """C(x)."""
        residual = self.targets - x
        return float(residual @ residual) / (2 * self.total_weight)

    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC = (x − y)/N."""
        return (x - self.targets) / self.total_weight

    def curvature(self, x: Tensor) -> float:
        """N∇ₓ²C = 1 everywhere."""
        return 1.0

    def minimizer(self, x: Tensor) -> Tensor:
        """y, from everywhere."""
        return self.targets

    def distance(self, x: Tensor) -> float:
        """|y − x|."""
        return norm(self.targets - x)

    def least(self, x: Tensor) -> float:
        """Zero."""
        return 0.0


class Loss(ABC):
    """ℓ(x, y) of a row: outputs x and targets y as arrays of shape (n_samples, n_outputs).

    Attributes
    ----------
    linear : bool
        See `Cost`.
    unit : float
        See `Cost`.
    link : {"identity", "log"}
        What takes predictions to outputs: the logarithm where outputs are logarithms of means.
    domain : {"real", "nonnegative", "positive"}
        What targets may be.
    """

    linear: bool = False
    unit: float = 1.0
    link: str = "identity"
    domain: str = "real"

    @abstractmethod
    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row, shape (n_samples,)."""

    @abstractmethod
    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """∂ℓ/∂x, shape (n_samples, n_outputs)."""

    @abstractmethod
    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """A bound on the eigenvalues of ∂²ℓ/∂x² of each row or each output, any shape."""

    @abstractmethod
    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """Where gradient flow on ℓ from x ends, shape (n_samples, n_outputs).

        Where that is at infinity for some targets, these count as ``floor``, or as less where x is
        there already: the stand-in lies ahead of x.
        """

    def attained(self, y: Tensor) -> bool:
        """Whether the least loss is at a finite x for all targets."""
        return True

    def cost(self, targets: Tensor, weights: Tensor | None = None) -> Cost:
        """C(x) = (1/N) Σᵢ wᵢ ℓ(xᵢ, yᵢ) with targets of shape (n_samples, n_outputs)."""
        return RowCost(self, targets, weights)


class RowCost(Cost):
    """C(x) = (1/N) Σᵢ wᵢ ℓ(xᵢ, yᵢ) of a loss of rows.

    Parameters
    ----------
    loss : Loss
        ℓ.
    targets : Tensor of shape (n_samples, n_outputs)
        y, plain values.
    weights : Tensor of shape (n_samples,), optional
        Sample weights w; the output map's coordinates are then W^½x.
    """

    def __init__(self, loss: Loss, targets: Tensor, weights: Tensor | None = None) -> None:
        self.loss, self.targets, self.weights = loss, targets, weights
        self.linear, self.unit = loss.linear, loss.unit
        self.total_weight = float(len(targets) if weights is None else weights.sum())

    @property
    def attained(self) -> bool:
        """Whether the least cost is at a finite x."""
        return self.loss.attained(self.targets)

    def value(self, x: Tensor) -> float:
        """C(x)."""
        losses = self.loss.value(self._plain(x), self.targets)
        weighted = losses if self.weights is None else self.weights * losses
        return float(weighted.sum()) / self.total_weight

    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC = W^½ ∂ℓ/∂x / N: the chain rule through W^−½ leaves one root of w."""
        gradient = self.loss.gradient(self._plain(x), self.targets)
        return self._weigh(gradient) / self.total_weight

    def curvature(self, x: Tensor) -> float:
        """The largest of all rows; weights cancel out of N∇ₓ²C."""
        return float(self.loss.curvature(self._plain(x), self.targets).max())

    def minimizer(self, x: Tensor) -> Tensor:
        """Where Euclidean gradient flow from x ends; a stand-in where that is at infinity."""
        return self._minimizer(x, torch.finfo(x.dtype).eps)

    def distance(self, x: Tensor) -> float:
        """|x* − x|, where targets whose x* is at infinity count as if it was not far."""
        return norm(self._minimizer(x, _NEARLY_ZERO) - x)

    def _minimizer(self, x: Tensor, floor: float) -> Tensor:
        return self._weigh(self.loss.minimizer(self._plain(x), self.targets, floor))

    def _plain(self, x: Tensor) -> Tensor:
        values = x.view_as(self.targets)
        return values if self.weights is None else values / self.weights.sqrt()[:, None]

    def _weigh(self, values: Tensor) -> Tensor:
        if self.weights is not None:
            values = values * self.weights.sqrt()[:, None]
        return values.reshape(-1)


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


class SquaredLoss(Loss):
    """ℓ = |x − y|²/2, whose cost is the `SquaredError`."""

    linear = True

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return (x - y).square().sum(1) / 2

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """x − y."""
        return x - y

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """1."""
        return x.new_tensor(1.0)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """y."""
        return y

    def cost(self, targets: Tensor, weights: Tensor | None = None) -> SquaredError:
        """C(x) = |x − y|²/(2N), in the coordinates W^½x where it is Euclidean."""
        if weights is None:
            return SquaredError(targets.reshape(-1), float(len(targets)))
        weighed = targets * weights.sqrt()[:, None]
        return SquaredError(weighed.reshape(-1), float(weights.sum()))


class LogLoss(Loss):
    """ℓ = −Σ_q y_q log softmax(x)_q of class probabilities y, with ∂²ℓ/∂x² = diag(p) − ppᵀ ≤ ½."""

    unit = 0.5

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return -(y * torch.log_softmax(x, dim=1)).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """softmax(x) − y."""
        return torch.softmax(x, dim=1) - y

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """½, which bounds the eigenvalues of diag(p) − ppᵀ."""
        return x.new_tensor(0.5)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """log y − mean(log y) + mean(x), row by row: the flow conserves the mean logit."""
        log_y = _log_ahead(y, torch.log_softmax(x, dim=1), floor)
        return log_y - log_y.mean(1, keepdim=True) + x.mean(1, keepdim=True)

    def attained(self, y: Tensor) -> bool:
        """Whether all probabilities are positive."""
        return bool((y > 0).all())


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

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        return torch.nn.functional.huber_loss(x, y, reduction="none", delta=self.delta).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """x − y, cut at ±δ."""
        return (x - y).clamp(-self.delta, self.delta)

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """1, the curvature near y and a bound on that beyond δ, which is zero."""
        return x.new_tensor(1.0)

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

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ of each row."""
        d = (x - y) / self.width - self._logit
        q = torch.where(d > 0, d.new_tensor(1 - self.level), d.new_tensor(self.level))
        d = -d.abs()
        log_share = torch.log1p(q * torch.expm1(d))
        return self.width * (q * _remainder(d) - _remainder(log_share)).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """σ((x − y)/s) − q, σ being the logistic function."""
        return torch.sigmoid((x - y) / self.width) - self.level

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """1/(4s), that at the kink and a bound on all others."""
        return x.new_tensor(0.25 / self.width)

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """y + s·log(q/(1−q))."""
        return y + self.width * self._logit

    @property
    def _logit(self) -> float:
        return math.log(self.level / (1 - self.level))


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
    """log y, with targets below ``floor`` as log floor, or as one less than it is now.

    Without the second a flow that has passed the stand-in would be told to go back, and where it
    meets it, that there is no way left.
    """
    return torch.maximum(y.log(), (log_now - 1).clamp_max(math.log(floor)))


def _remainder(d: Tensor) -> Tensor:
    """e^d − 1 − d, by its series where the difference cancels."""
    small = d.abs() < _SERIES_BELOW
    series = torch.ones_like(d)
    for k in range(_SERIES_TERMS, 2, -1):
        series = 1 + torch.where(small, d, 0.0) / k * series
    return torch.where(small, d * d / 2 * series, torch.expm1(d) - d)
