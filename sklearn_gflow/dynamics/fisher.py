"""The Fisher end: the generalised Gauss–Newton flow of a cost, and what lies before it.

With H = N∇ₓ²C and M = (1−β)1 + βH the field

    θ' = −(α(DᵀMD)⁺ + (1−α)/c) ∇θC

is the paper's (2.31) at β = 0, and at α = β = 1 that of natural gradient and generalised
Gauss–Newton. It is again V_θ,α: of M^½D, and of the gradient M^{−½}∇ₓC. So flows need not know of
it, and `fisher` hands them a map and a cost in these coordinates. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sklearn_gflow.geometry import Cost, DifferentiableMap, TangentMap
from sklearn_gflow.geometry.eigen import roots_of_blocks
from sklearn_gflow.geometry.gradients import gradients_of_rows

__all__ = ["FisherCost", "FisherMap", "FisherTangent", "fisher"]


def fisher(
    output_map: DifferentiableMap, cost: Cost, beta: float = 1.0
) -> tuple[FisherMap, FisherCost]:
    """A map and a cost whose α-flow is that of M = (1−β)1 + βN∇ₓ²C.

    For `reference_flow`, `parameter_field` and `output_field`: ``reference_flow(*fisher(output_map,
    cost, beta), theta, options)``. Losses, outputs and times of the record are those of C; the
    residual by which it converges is that of M^{−½}. Not for the exponential steps of `flow`, which
    would hold M fixed.

    At α = 1 and full rank of D the outputs obey x' = −M⁻¹∇ₓC for β < 1, and at β = 1 the same up
    to the kernel of H, in which the least θ' decides. The gradient itself then goes straight to
    zero, ∇ₓC(x̃(t)) = (1−t)∇ₓC(x₀): of the log-loss the probabilities move on the line from those
    of the start to the labels. Equilibria are those of the paper's family, Dᵀ∇ₓC = 0, for every
    rank, if ∇ₓC is in the range of M.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).
    cost : Cost
        C, convex, a sum over rows.
    beta : float
        β in [0, 1].

    Returns
    -------
    FisherMap, FisherCost

    Raises
    ------
    ValueError
        If ``beta`` is not in [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1], got {beta}")
    whitened = FisherCost(cost, output_map.n_outputs, beta)
    return FisherMap(output_map, whitened), whitened


class FisherCost(Cost):
    """C with the gradient M^{−½}∇ₓC.

    Parameters
    ----------
    cost : Cost
        C.
    n_outputs : int
        Q.
    beta : float
        β.
    """

    def __init__(self, cost: Cost, n_outputs: int, beta: float) -> None:
        self.cost, self.n_outputs, self.beta = cost, n_outputs, beta
        self.total_weight, self.unit = cost.total_weight, cost.unit

    @property
    def attained(self) -> bool:
        """That of C."""
        return self.cost.attained

    def value(self, x: Tensor) -> float:
        """C(x)."""
        return self.cost.value(x)

    def gradient(self, x: Tensor) -> Tensor:
        """M^{−½}∇ₓC."""
        return times_blocks(self.roots(x)[1], self.cost.gradient(x))

    def curvature(self, x: Tensor) -> float:
        """That of C, in the coordinates of x."""
        return self.cost.curvature(x)

    def minimizer(self, x: Tensor) -> Tensor:
        """That of C."""
        return self.cost.minimizer(x)

    def distance(self, x: Tensor) -> float:
        """That of C."""
        return self.cost.distance(x)

    def metric(self, x: Tensor) -> Tensor:
        """M = (1−β)1 + βN∇ₓ²C, its blocks, shape (n_samples, Q, Q)."""
        rows = x.view(-1, self.n_outputs)  # which do not see each other in the gradient
        blocks = self.total_weight * gradients_of_rows(
            lambda values: self.cost.gradient(values.reshape(-1)).view_as(values), rows
        )
        unit = torch.eye(self.n_outputs, dtype=x.dtype, device=x.device)
        return (1 - self.beta) * unit + self.beta * (blocks + blocks.mT) / 2

    def roots(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """M^½ and M^{−½}, block by block."""
        return roots_of_blocks(self.metric(x))


@dataclass(frozen=True)
class FisherMap:
    """θ ↦ x(θ) with M^½D for D.

    Parameters
    ----------
    inner : DifferentiableMap
        θ ↦ x(θ) with D.
    cost : FisherCost
        Which says what M is.
    """

    inner: DifferentiableMap
    cost: FisherCost

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.inner.n_samples

    @property
    def n_outputs(self) -> int:
        """Q."""
        return self.inner.n_outputs

    @property
    def n_params(self) -> int:
        """K."""
        return self.inner.n_params

    @property
    def total_weight(self) -> float:
        """N."""
        return self.inner.total_weight

    @property
    def dtype(self) -> torch.dtype:
        """Of θ and x."""
        return self.inner.dtype

    def unweigh(self, x: Tensor) -> Tensor:
        """W^−½ on a vector."""
        return self.inner.unweigh(x)

    def outputs(self, theta: Tensor) -> Tensor:
        """x(θ), shape (Q·N,)."""
        return self.inner.outputs(theta)

    def linearize(self, theta: Tensor) -> FisherTangent:
        """x(θ) with M^½D."""
        tangent = self.inner.linearize(theta)
        return FisherTangent(tangent, self.cost.roots(tangent.outputs)[0])


class FisherTangent(TangentMap):
    """x(θ) with M^½D for D.

    Parameters
    ----------
    inner : TangentMap
        x(θ) with D.
    root : Tensor of shape (n_samples, Q, Q)
        M^½.
    """

    def __init__(self, inner: TangentMap, root: Tensor) -> None:
        self.inner, self.root, self.outputs = inner, root, inner.outputs
        self.n_samples, self.n_outputs = inner.n_samples, inner.n_outputs
        self.n_params = inner.n_params

    @property
    def sample_weights(self) -> Tensor:
        """w."""
        return self.inner.sample_weights

    def push(self, v: Tensor) -> Tensor:
        """M^½D·v."""
        return times_blocks(self.root, self.inner.push(v))

    def pull(self, u: Tensor) -> Tensor:
        """DᵀM^½·u."""
        return self.inner.pull(times_blocks(self.root, u))

    def gram(self) -> Tensor:
        """M^½GM^½."""
        return self._gram.clone()

    def gram_diagonal(self) -> Tensor:
        """Its diagonal."""
        return self._gram.diagonal()

    def jacobian(self) -> Tensor:
        """M^½D."""
        return times_blocks(self.root, self.inner.jacobian())

    @cached_property
    def _gram(self) -> Tensor:
        half = times_blocks(self.root, self.inner.gram())
        return times_blocks(self.root, half.mT)


def times_blocks(blocks: Tensor, u: Tensor) -> Tensor:
    """A block-diagonal matrix times a vector or columns."""
    parts = u.reshape(len(blocks), blocks.shape[-1], -1)
    return (blocks @ parts).reshape(u.shape)
