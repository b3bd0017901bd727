"""The outputs of a family at the rows of a table, as one flat vector x(θ) (2.8)–(2.9).

Sample weights enter here and nowhere else: downstream the formulas of the paper hold as they are
for W^½x and W^½D. What other modules may ask is in `maps`; symbols are in docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sklearn_gflow.geometry.maps import Family, Linearization, TangentMap
from sklearn_gflow.geometry.rows import take

__all__ = ["OutputMap", "Tangent"]

# DᵀD is summed in so many of its rows at a time, and only up to the diagonal.
_SQUARE = 1024


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
        Subtracted from the outputs; f_θ₀(X) makes the model start at zero. Of a mean of members it
        may be that of each, shape (n_samples, n_members, n_outputs).
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
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.X)

    @property
    def n_outputs(self) -> int:
        """Q."""
        return self.family.n_outputs

    @property
    def size(self) -> int:
        """Q·N, the dimension of output space."""
        return self.n_samples * self.n_outputs

    @property
    def origin(self) -> Tensor:
        """Zero in output space."""
        return torch.zeros(self.size, dtype=self.dtype, device=self.X.device)

    @property
    def dtype(self) -> torch.dtype:
        """In which θ is taken and x(θ) given."""
        return self.X.dtype

    @property
    def weighted(self) -> bool:
        """Whether samples have weights."""
        return self.weights is not None

    @property
    def total_weight(self) -> float:
        """N of the clock (2.52) and of the cost (2.48): the sum of the weights."""
        return float(len(self.X) if self.weights is None else self.weights.sum())

    def weigh(self, values: Tensor) -> Tensor:
        """W^½ on values of shape (n_samples, n_outputs), flattened to (Q·N,)."""
        if self.weights is not None:
            values = values * self.weights.sqrt()[:, None]
        return values.reshape(-1)

    def unweigh(self, x: Tensor) -> Tensor:
        """W^−½ on a vector of output space: plain values, shape (n_samples, n_outputs)."""
        values = x.view(len(self.X), self.n_outputs)
        return values if self.weights is None else values / self.weights.sqrt()[:, None]

    def outputs(self, theta: Tensor) -> Tensor:
        """x(θ), shape (Q·N,)."""
        return self._place(self.family.outputs(theta, self.X))

    def linearize(self, theta: Tensor) -> Tangent:
        """x(θ) with D at one θ."""
        inner = self.family.linearize(theta, self.X)
        return Tangent(self, inner, self._place(inner.outputs))

    def _place(self, values: Tensor) -> Tensor:
        if self.offset is None:
            return self.weigh(values)
        return self.weigh(values - (self.offset if self.offset.ndim == 2 else self.offset.mean(1)))

    def member(self, number: int) -> OutputMap:
        """That of one member, where this is the mean of several."""
        offset = self.offset
        if offset is not None and offset.ndim == 3:
            offset = offset[:, number]
        return OutputMap(self.family.member, self.X, offset, self.weights)

    def plain(self, samples: Tensor | slice = slice(None)) -> OutputMap:
        """f_θ at some of the samples, without weights and without the offset."""
        return OutputMap(self.family, take(self.X, samples))

    def hidden(self, theta: Tensor) -> tuple[Tensor, Tensor] | None:
        """See `Family.hidden`."""
        return self.family.hidden(theta, self.X)


@dataclass(frozen=True)
class Tangent(TangentMap):
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

    # What is an attribute of a tangent is here that of its map.
    @property
    def n_samples(self) -> int:  # type: ignore[override]
        """Number of samples."""
        return self.output_map.n_samples

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        """Q."""
        return self.output_map.n_outputs

    @property
    def n_params(self) -> int:  # type: ignore[override]
        """K."""
        return self.output_map.n_params

    @property
    def total_weight(self) -> float:
        """N: the sum of the weights."""
        return self.output_map.total_weight

    @property
    def sample_weights(self) -> Tensor:
        """Of the samples, shape (n_samples,)."""
        weights = self.output_map.weights
        return super().sample_weights if weights is None else weights

    def unweigh(self, x: Tensor) -> Tensor:
        """W^−½ on a vector of output space: plain values, shape (n_samples, n_outputs)."""
        return self.output_map.unweigh(x)

    @property
    def members(self) -> Sequence[tuple[OutputMap, Tangent]]:
        """The output maps whose mean this is, and each at its θ; none where it is no mean."""
        maps = [self.output_map.member(number) for number in range(len(self.inner.members))]
        return [
            (one, Tangent(one, inner, one._place(inner.outputs)))
            for one, inner in zip(maps, self.inner.members, strict=True)
        ]

    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (Q·N,)."""
        return self.output_map.weigh(self.inner.push(v))

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (K,)."""
        values = u.view_as(self.inner.outputs)
        return self.inner.pull(self.output_map.weigh(values).view_as(values))

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
        return self._held[0] @ u if self._held else super().gram_times(u)

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
        """The diagonal of G, shape (Q·N,), without G unless that is held."""
        if self._held:
            return self._held[0].diagonal().clone()
        diagonal = self.inner.gram_diagonal()
        root = self._root_weights()
        return diagonal if root is None else diagonal * root * root

    def jacobian(self) -> Tensor:
        """D, shape (Q·N, K)."""
        root = self._root_weights()
        D = self.inner.jacobian()
        return D if root is None else D * root[:, None]

    def normal_matrix(self) -> Tensor:
        """DᵀD, shape (K, K), summed over panels of D: at most an eighth of it stands beside it."""
        K, n_samples = self.n_params, self.n_samples
        matrix = self.outputs.new_zeros((K, K))
        rows_of_panel = max(1, K // (8 * self.n_outputs))
        samples = torch.arange(n_samples, device=self.outputs.device)
        for some in samples.split(rows_of_panel):
            D = self.inner.take(some).jacobian()
            if (weights := self.output_map.weights) is not None:
                D *= torch.repeat_interleave(weights[some].sqrt(), self.n_outputs)[:, None]
            for start in range(0, K, _SQUARE):  # of the symmetric sum one triangle is enough
                columns = slice(start, start + _SQUARE)
                matrix[columns, : columns.stop].addmm_(D[:, columns].mT, D[:, : columns.stop])
        for start in range(0, K, _SQUARE):
            columns = slice(start, start + _SQUARE)
            matrix[:start, columns] = matrix[columns, :start].mT
        return matrix

    def _root_weights(self) -> Tensor | None:
        weights = self.output_map.weights
        if weights is None:
            return None
        return torch.repeat_interleave(weights.sqrt(), self.output_map.family.n_outputs)
