"""Invariant fibres of the log-loss: what its flow conserves, and the one minimum on each.

Symbols: docs/notation.md; m are mean logits, one a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Event
from sklearn_gflow.geometry import TangentFactor
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Fibre", "FibreDrift"]


@dataclass(frozen=True)
class Fibre:
    """All outputs with the same mean logit, sample by sample: {x : mean(xᵢ) = mᵢ}.

    The gradient of the log-loss sums to zero in every sample. At α = 1 and full rank the flow
    x' = −∇ₓC therefore stays on the fibre of its start, on which C is strictly convex; with
    positive labels it has one minimum there, x* = log y − mean(log y) + m [1]_.

    .. [1] Chen, Muñoz Ewald, arXiv:2408.01517, third version.

    Parameters
    ----------
    means : Tensor of shape (n_samples,)
        m.
    targets : Tensor of shape (n_samples, n_outputs)
        y, class probabilities; a column for each class.

    Raises
    ------
    ValueError
        If there is one column: the logit of two classes is not conserved, and no fibre is left.
    """

    means: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.targets.shape[1] < 2:
            raise ValueError("targets must have a column for each class, got one column")

    @classmethod
    def through(cls, x: Tensor, targets: Tensor) -> Fibre:
        """The fibre on which plain outputs lie, shape (n_samples, n_outputs) or flat."""
        return cls(x.view_as(targets).mean(1), targets)

    @property
    def minimum(self) -> Tensor:
        """x*, shape (n_samples, n_outputs); infinite where a label is zero."""
        log_y = self.targets.log()
        return log_y - log_y.mean(1, keepdim=True) + self.means[:, None]

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the fibre, shape (n_samples, n_outputs)."""
        values = x.view_as(self.targets)
        return values - (values.mean(1) - self.means)[:, None]

    def distance(self, x: Tensor) -> float:
        """|x − its projection|."""
        return norm(x.view_as(self.targets) - self.project(x))

    def kept_by(self, factor: TangentFactor) -> float:
        """|(1 − E)P E|/|P E| of the projector P on ran D, E taking mean logits out of each sample.

        Zero where P and E commute, as at full rank or with equal inputs: P∇ₓC then sums to zero in
        every sample, and the flow keeps to the fibre although rank is lost. Dense: P is formed.
        """
        n_samples, Q = self.targets.shape
        like = self.targets
        eye = torch.eye(n_samples * Q, dtype=like.dtype, device=like.device)
        blocks = eye.view(n_samples, Q, -1)
        moved = factor.project((blocks - blocks.mean(1, keepdim=True)).reshape(eye.shape))
        means = moved.view(n_samples, Q, -1).mean(1) * Q**0.5
        size = norm(moved)
        return norm(means) / size if size else 0.0


class FibreDrift(Callback):
    """A column "fibre_drift" of a flow: |m − m₀| √Q/|x − x₀|, the share of it that left the fibre.

    Parameters
    ----------
    targets : Tensor of shape (n_samples, n_outputs)
        y, class probabilities.
    """

    def __init__(self, targets: Tensor) -> None:
        self.targets = targets

    def start(self, event: Event) -> Mapping[str, float]:
        """Remember the fibre of the start."""
        point = event.origin or event.point
        self.origin = point.tangent.unweigh(point.outputs)
        self.fibre = Fibre.through(self.origin, self.targets)
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """How far a point is from it."""
        x = event.point.tangent.unweigh(event.point.outputs)
        moved = norm(x - self.origin)
        return {"fibre_drift": self.fibre.distance(x) / moved if moved else 0.0}
