"""Costs C(x) on output space and their output gradients ∇ₓC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Cost", "SquaredError"]


class Cost(Protocol):
    """A cost that depends on θ through the outputs x alone (Thm 2.3)."""

    total_weight: float

    def value(self, x: Tensor) -> float:
        """C(x)."""

    def gradient(self, x: Tensor) -> Tensor:
        """∇ₓC(x), shape (Q·N,)."""


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
