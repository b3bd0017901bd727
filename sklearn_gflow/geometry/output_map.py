"""What a family of functions must offer, and the output map θ ↦ x(θ) made of it (2.8)–(2.9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Family", "Linearization", "OutputMap", "Tangent"]


class Linearization(Protocol):
    """A family at one θ and one X, to first order. Samples × outputs come as two axes."""

    @property
    def n_params(self) -> int:
        """K."""

    @property
    def outputs(self) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""

    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (n_samples, n_outputs), of v, shape (n_params,)."""

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (n_params,), of u, shape (n_samples, n_outputs)."""

    def gram(self) -> Tensor:
        """DDᵀ (3.15), shape (n_samples·n_outputs, n_samples·n_outputs), sample-major."""

    def shared_gram(self) -> Tensor:
        """K̄ = (1/Q) Σ_q G[(·,q), (·,q)], shape (n_samples, n_samples): G ≈ K̄ ⊗ 1_Q."""

    def gram_diagonal(self) -> Tensor:
        """The diagonal of DDᵀ, shape (n_samples·n_outputs,)."""

    def jacobian(self) -> Tensor:
        """D (2.12), shape (n_samples·n_outputs, n_params)."""

    def cross_gram(self, other: Any) -> Tensor:
        """Θ(xᵢ, yⱼ) (3.14) with another sample set at the same θ, shape (n·Q, m·Q)."""

    def take(self, samples: Tensor) -> Linearization:
        """The same θ at some of the samples."""


class Family(Protocol):
    """A family of functions f_θ: ℝᴹ → ℝ^Q (2.1)."""

    @property
    def n_params(self) -> int:
        """K."""

    @property
    def n_outputs(self) -> int:
        """Q."""

    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""

    def linearize(self, theta: Tensor, X: Tensor) -> Linearization:
        """f_θ(X) with its first derivative in θ."""


@dataclass(frozen=True)
class OutputMap:
    """x(θ) = W^½ (f_θ(X) − offset), flattened sample by sample (2.9).

    The weights are a metric on output space: in the coordinates W^½x it is Euclidean again, so
    everything downstream, the paper's formulas included, holds for W^½D without knowing of
    weights. A weight of k then equals k copies of a row.

    Parameters
    ----------
    family : Family
        The functions f_θ.
    X : Tensor of shape (n_samples, n_features)
        Training inputs.
    offset : Tensor of shape (n_samples, n_outputs), optional
        Subtracted from the outputs; f_θ₀(X) makes the model start at zero.
    weights : Tensor of shape (n_samples,), optional
        Positive sample weights; None means one each.

    Raises
    ------
    ValueError
        If a weight is not positive: drop such rows, W^½ would lose their outputs.
    """

    family: Family
    X: Tensor
    offset: Tensor | None = None
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and not bool((self.weights > 0).all()):
            raise ValueError("weights must be positive; drop the rows whose weight is zero")

    @property
    def n_params(self) -> int:
        """K."""
        return self.family.n_params

    @property
    def size(self) -> int:
        """Q·N, the dimension of output space."""
        return len(self.X) * self.family.n_outputs

    @property
    def total_weight(self) -> float:
        """N of the clock (2.52) and of the cost (2.48): the sum of the weights."""
        return float(len(self.X) if self.weights is None else self.weights.sum())

    def scale(self, values: Tensor) -> Tensor:
        """W^½ on values of shape (n_samples, n_outputs), flattened to (Q·N,)."""
        if self.weights is not None:
            values = values * self.weights.sqrt()[:, None]
        return values.reshape(-1)

    def unscale(self, x: Tensor) -> Tensor:
        """W^−½ on a vector of output space: plain values, shape (n_samples, n_outputs)."""
        values = x.view(len(self.X), self.family.n_outputs)
        return values if self.weights is None else values / self.weights.sqrt()[:, None]

    def outputs(self, theta: Tensor) -> Tensor:
        """x(θ), shape (Q·N,)."""
        return self._place(self.family.outputs(theta, self.X))

    def linearize(self, theta: Tensor) -> Tangent:
        """x(θ) with D at one θ."""
        inner = self.family.linearize(theta, self.X)
        return Tangent(self, inner, self._place(inner.outputs))

    def _place(self, values: Tensor) -> Tensor:
        return self.scale(values if self.offset is None else values - self.offset)


@dataclass(frozen=True)
class Tangent:
    """The output map at one θ, to first order, on flat vectors: x, D·v, Dᵀ·u, DDᵀ, D.

    Attributes
    ----------
    outputs : Tensor of shape (Q·N,)
        x(θ).
    """

    output_map: OutputMap
    inner: Linearization
    outputs: Tensor
    _held: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def n_params(self) -> int:
        """K."""
        return self.output_map.n_params

    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (Q·N,)."""
        return self.output_map.scale(self.inner.push(v))

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (K,)."""
        values = u.view_as(self.inner.outputs)
        return self.inner.pull(self.output_map.scale(values).view_as(values))

    def hold_gram(self) -> None:
        """Form G ahead, for products, until `gram` hands it over."""
        self._held.append(self.gram())

    def gram(self) -> Tensor:
        """G = DDᵀ, shape (Q·N, Q·N), the caller's to overwrite: one that was held is no longer."""
        if self._held:
            return self._held.pop()
        gram = self.inner.gram()
        root = self._root_weights()
        return gram if root is None else gram.mul_(root[:, None]).mul_(root)

    def gram_times(self, u: Tensor) -> Tensor:
        """G·u of columns, shape (Q·N, m); where G is not held, by two passes each."""
        if self._held:
            return self._held[0] @ u
        return torch.stack([self.push(self.pull(column)) for column in u.mT], dim=1)

    @cached_property
    def shared_gram(self) -> Tensor:
        """K̄, shape (N, N): the mean over outputs of the diagonal blocks of G."""
        kernel = self.inner.shared_gram()
        weights = self.output_map.weights
        if weights is None:
            return kernel
        root = weights.sqrt()
        return kernel.mul_(root[:, None]).mul_(root)

    def columns(self, samples: Tensor) -> Tensor:
        """Columns of G of some samples, shape (Q·N, Q·len(samples))."""
        columns = self.inner.cross_gram(self.inner.take(samples))
        root = self._root_weights()
        if root is None:
            return columns
        at_samples = root.view(self.inner.outputs.shape)[samples].reshape(-1)
        return columns.mul_(root[:, None]).mul_(at_samples)

    def gram_diagonal(self) -> Tensor:
        """The diagonal of G, shape (Q·N,), without G."""
        diagonal = self.inner.gram_diagonal()
        root = self._root_weights()
        return diagonal if root is None else diagonal * root * root

    def trace(self) -> float:
        """Trace of G, without G."""
        return float(self.gram_diagonal().sum())

    def jacobian(self) -> Tensor:
        """D, shape (Q·N, K)."""
        root = self._root_weights()
        D = self.inner.jacobian()
        return D if root is None else D * root[:, None]

    def _root_weights(self) -> Tensor | None:
        weights = self.output_map.weights
        if weights is None:
            return None
        return torch.repeat_interleave(weights.sqrt(), self.output_map.family.n_outputs)
