"""Costs C(x) on output space and their output gradients ∇ₓC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sklearn_gflow.geometry.vectors import norm

__all__ = ["Cost", "CrossEntropy", "SquaredError"]


class Cost(Protocol):
    """A cost that depends on θ through the outputs x alone (Thm 2.3)."""

    @property
    def total_weight(self) -> float:
        """N of the clock: the sum of the sample weights."""

    def value(self, x: Tensor) -> float:
        """C(x)."""

    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC(x), shape (Q·N,)."""

    def minimizer(self, x: Tensor) -> Tensor:
        """Where Euclidean gradient flow from x ends, shape (Q·N,)."""

    def distance(self, x: Tensor) -> float:
        """Length of the way from x to there, the unit of step errors."""


@dataclass(frozen=True)
class SquaredError:
    """C(x) = |x − y|²/(2N) (2.48), with N the sum of the sample weights.

    Parameters
    ----------
    targets : Tensor of shape (Q·N,)
        y, in the coordinates of the output map (scaled by W^½ where there are weights).
    total_weight : float
        N.
    """

    targets: Tensor
    total_weight: float

    def value(self, x: Tensor) -> float:
        """C(x)."""
        residual = self.targets - x
        return float(residual @ residual) / (2 * self.total_weight)

    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC = (x − y)/N."""
        return (x - self.targets) / self.total_weight

    def minimizer(self, x: Tensor) -> Tensor:
        """y, from everywhere."""
        return self.targets

    def distance(self, x: Tensor) -> float:
        """|y − x|."""
        return norm(self.targets - x)


@dataclass(frozen=True)
class CrossEntropy:
    """C(x) = −(1/N) Σᵢ wᵢ Σ_q y_iq log softmax(xᵢ)_q, outputs being logits.

    Parameters
    ----------
    targets : Tensor of shape (n_samples, n_outputs)
        Class probabilities y, rows summing to one. Where all are positive, as after label
        smoothing, the cost has a minimum.
    weights : Tensor of shape (n_samples,), optional
        Sample weights w; the output map's coordinates are then W^½x.
    """

    targets: Tensor
    weights: Tensor | None = None

    @property
    def total_weight(self) -> float:
        """N."""
        return float(len(self.targets) if self.weights is None else self.weights.sum())

    def value(self, x: Tensor) -> float:
        """C(x)."""
        losses = -(self.targets * torch.log_softmax(self._logits(x), dim=1)).sum(1)
        weighted = losses if self.weights is None else self.weights * losses
        return float(weighted.sum()) / self.total_weight

    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC = W^½(softmax − y)/N: the chain rule through W^−½ leaves one root of w."""
        difference = torch.softmax(self._logits(x), dim=1) - self.targets
        return self._scale(difference) / self.total_weight

    def minimizer(self, x: Tensor) -> Tensor:
        """log y − mean(log y) + mean(x), sample by sample: the flow conserves the mean logit.

        Labels that are zero count as eps: the minimum is at infinity.
        """
        return self._minimizer(x, torch.finfo(x.dtype).eps)

    def distance(self, x: Tensor) -> float:
        """|x* − x|, where labels below 1 % count as 1 %: the way to a certain label has no end."""
        return norm(self._minimizer(x, 0.01) - x)

    def _minimizer(self, x: Tensor, floor: float) -> Tensor:
        log_y = self.targets.clamp_min(floor).log()
        mean = self._logits(x).mean(1, keepdim=True)
        return self._scale(log_y - log_y.mean(1, keepdim=True) + mean)

    def _logits(self, x: Tensor) -> Tensor:
        values = x.view_as(self.targets)
        return values if self.weights is None else values / self.weights.sqrt()[:, None]

    def _scale(self, values: Tensor) -> Tensor:
        if self.weights is not None:
            values = values * self.weights.sqrt()[:, None]
        return values.reshape(-1)
