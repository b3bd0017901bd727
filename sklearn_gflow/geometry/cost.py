"""Costs C(x) on output space, and what a loss ℓ(x, y) of a row must offer that they are sums of.

A `Cost` says everything that a flow asks: its value, its gradient, whether that is linear in x,
how curved it is, and where Euclidean gradient flow on it ends. Vectors are those of the output map,
W^½x with the sample weights w; a `Loss` sees plain values, row by row. A new loss is a subclass of
`Loss`, as those of `losses`: nothing else in this room and in `dynamics` has to know of it.
Symbols: docs/notation.md.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.geometry.vectors import norm

__all__ = ["Cost", "Loss", "RowCost", "SquaredError"]

# The unit of step errors is the length of the way to the least loss, which has no end where that is
# at infinity, as for a certain label. Targets smaller than this then count as this.
_NEARLY_ZERO = 0.01


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
    bounded : bool
        Whether no eigenvalue of N∇ₓ²C exceeds ``unit`` anywhere.
    """

    total_weight: float
    linear: bool = False
    unit: float = 1.0
    bounded: bool = False

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

    def parabola(self, x: Tensor, residual: Tensor | None = None) -> SquaredError:
        """The square of curvature ``unit`` that touches C at x, divided by it.

        |x' − y|²/2N with y = x − N∇ₓC(x)/unit: where the cost is ``bounded`` ``unit`` times it lies
        above C up to a constant, so that what lowers it lowers C (Böhning and Lindsay, 1988). The
        residual is −N∇C(x), where it is at hand.
        """
        residual = self.residual(x) if residual is None else residual
        return SquaredError(x + residual / self.unit, self.total_weight)


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

    linear = bounded = True

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
    squared : bool
        Whether ℓ = |x − y|²/2 itself. Of this loss alone leave-one-out predictions and standard
        deviations have a closed form, and scores are R².
    unit, bounded : float, bool
        See `Cost`.
    link : {"identity", "log"}
        What takes predictions to outputs: the logarithm where outputs are logarithms of means.
    domain : {"real", "nonnegative", "positive"}
        What targets may be.
    ridge : float
        The ridge that suits a flow between the ends of the family by default, times α(1−α) and
        relative to the mean of the Gram's diagonal. Without one D⁺ moves the modes of noise as
        fast as those of the signal.
    block_ridge : float
        That which suits blocks of rows, for every α.
    largest_block_ridge : float or None
        What it rises to with the number of rows where the flow over blocks has no given end;
        None where it does not rise.
    reach : float
        In the unit of step errors no target counts as farther away than this. Where the gradient
        is bounded an outlier hardly pulls, and as a unit it would leave the other rows without
        error control.
    """

    linear: bool = False
    squared: bool = False
    unit: float = 1.0
    bounded: bool = False
    link: str = "identity"
    domain: str = "real"
    # The default was chosen together with those of α and t_end.
    ridge: float = 1 / 3
    # Chosen on validation parts of seven tables (docs/benchmarks/blocks_trials.md).
    block_ridge: float = 0.03
    largest_block_ridge: float | None = None

    @property
    def reach(self) -> float:
        """No bound, unless a loss has one."""
        return math.inf

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
        self.linear, self.unit, self.bounded = loss.linear, loss.unit, loss.bounded
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
        floor = torch.finfo(x.dtype).eps
        return self._weigh(self.loss.minimizer(self._plain(x), self.targets, floor))

    def distance(self, x: Tensor) -> float:
        """|x* − x|, where targets whose x* is at infinity count as if it was not far.

        So do outliers: none is farther than `Loss.reach`.
        """
        plain, reach = self._plain(x), self.loss.reach
        way = self.loss.minimizer(plain, self.targets, _NEARLY_ZERO) - plain
        return norm(self._weigh(way.clamp(-reach, reach)))

    def _plain(self, x: Tensor) -> Tensor:
        values = x.view_as(self.targets)
        return values if self.weights is None else values / self.weights.sqrt()[:, None]

    def _weigh(self, values: Tensor) -> Tensor:
        if self.weights is not None:
            values = values * self.weights.sqrt()[:, None]
        return values.reshape(-1)
