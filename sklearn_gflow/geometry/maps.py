"""What families of functions and output maps must offer; everything else here is built on it.

A `Family` gives f_θ(X) and a `Linearization` of it, on arrays of shape (n_samples, n_outputs). A
`DifferentiableMap` places the outputs on a training set in one flat vector x(θ) (2.8)–(2.9), and a
`TangentMap` is that map at one θ, to first order. The symbols are those of docs/notation.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from sklearn_gflow.geometry.gradients import gradients_of_rows

__all__ = ["DifferentiableMap", "Family", "Linearization", "OutputSpace", "TangentMap"]


class Linearization(ABC):
    """A family at one θ and one X, to first order. Samples × outputs come as two axes.

    What is not abstract has a default, made of what is: a family overrides it where it knows a
    faster way.
    """

    outputs: Tensor
    """f_θ(X), shape (n_samples, n_outputs)."""
    members: Sequence[Linearization] = ()
    """Those whose mean this is; none where it is no mean."""

    @property
    @abstractmethod
    def n_params(self) -> int:
        """K."""

    @abstractmethod
    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (n_samples, n_outputs), of v, shape (n_params,)."""

    @abstractmethod
    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (n_params,), of u, shape (n_samples, n_outputs)."""

    @abstractmethod
    def cross_gram(self, other: Any) -> Tensor:
        """Θ(xᵢ, yⱼ) (3.14) with another sample set at the same θ, shape (n·Q, m·Q)."""

    @abstractmethod
    def take(self, samples: Tensor) -> Linearization:
        """The same θ at some of the samples."""

    def gram(self) -> Tensor:
        """DDᵀ (3.15), shape (n_samples·n_outputs, n_samples·n_outputs), sample-major."""
        return self.cross_gram(self)

    def shared_gram(self) -> Tensor:
        """K̄ = (1/Q) Σ_q G[(·,q), (·,q)], shape (n_samples, n_samples): G ≈ K̄ ⊗ 1_Q."""
        n, Q = self.outputs.shape
        return self.gram().view(n, Q, n, Q).diagonal(dim1=1, dim2=3).mean(-1)

    def gram_diagonal(self) -> Tensor:
        """The diagonal of DDᵀ, shape (n_samples·n_outputs,)."""
        samples = torch.arange(len(self.outputs), device=self.outputs.device)
        blocks = [self.take(samples[i : i + 1]).gram().diagonal() for i in range(len(samples))]
        return torch.cat(blocks)

    def jacobian(self) -> Tensor:
        """D (2.12), shape (n_samples·n_outputs, n_params)."""
        size = self.outputs.numel()
        rows = torch.eye(size, dtype=self.outputs.dtype, device=self.outputs.device)
        return torch.stack([self.pull(row.view_as(self.outputs)) for row in rows])


class Family(ABC):
    """A family of functions f_θ: ℝᴹ → ℝ^Q (2.1).

    Attributes
    ----------
    n_params : int
        K.
    n_outputs : int
        Q.
    any_precision : bool
        Whether it computes in the precision of θ and X, whatever that is. Steps over row blocks
        are then computed in float32 where a ridge drowns the rounding, and small eigenvalues
        are looked at in float64.
    sparse_inputs : bool
        Whether X may be a sparse COO tensor. Of a family that asks for dense inputs, rows of a
        sparse table are made dense, a block or a chunk at a time.
    n_members : int
        Of how many it is the mean; see `MeanFamily`.
    """

    n_params: int
    n_outputs: int
    any_precision: bool = False
    sparse_inputs: bool = False
    n_members: int = 1

    @abstractmethod
    def initial(self, generator: torch.Generator, *, input_scale: float = 1.0) -> Tensor:
        """Draw a start θ₀, shape (n_params,).

        Parameters
        ----------
        generator : torch.Generator
            Source of randomness.
        input_scale : float
            Scale of the inputs' weights at the start, for families that have such weights: the
            smaller, the smoother the start.
        """

    @abstractmethod
    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""

    @abstractmethod
    def linearize(self, theta: Tensor, X: Tensor) -> Linearization:
        """f_θ(X) with its first derivative in θ."""

    def at(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """X ↦ f_θ(X), for calls with many X."""
        return partial(self.outputs, theta)

    def offsets(self, theta: Tensor, X: Tensor) -> Tensor:
        """What is subtracted where the model starts at zero: f_θ(X), of a mean that of each member.

        Shape (n_samples, n_outputs), or (n_samples, n_members, n_outputs).
        """
        return self.outputs(theta, X)

    @property
    def member(self) -> Family:
        """The family of the members of a mean; itself where it is no mean."""
        return self

    # -- what an estimator asks besides; a family overrides what it has an answer to ---------------

    def input_gradients(self, theta: Tensor, X: Tensor) -> Tensor:
        """∂f_θ/∂x at each row of X, shape (n_samples, n_outputs, n_features)."""
        return gradients_of_rows(lambda x: self.outputs(theta, x), X)

    @property
    def signature(self) -> Any:
        """What two families must share for θ of the one to be θ of the other."""
        return type(self).__name__, self.n_params, self.n_outputs

    @property
    def row_numbers(self) -> int:
        """How many numbers a linearization keeps for each row, by which memory is checked."""
        return self.n_outputs

    def check_rows(self, theta: Tensor, X: Tensor) -> None:
        """Hold f_θ to the contract of a family on some rows.

        Raises
        ------
        ValueError
            If outputs have another shape than (n_samples, n_outputs) or another dtype than θ, are
            not finite or not the same twice, or depend on other rows.
        """
        outputs = self.outputs(theta, X)
        if outputs.shape != (len(X), self.n_outputs):
            raise ValueError(
                f"module must map inputs of shape {tuple(X.shape)} to outputs of shape "
                f"{(len(X), self.n_outputs)}, got {tuple(outputs.shape)}"
            )
        if outputs.dtype != theta.dtype:
            raise ValueError(
                f"module must give outputs in the precision of its inputs, {theta.dtype}, and gave "
                f"{outputs.dtype}"
            )
        # What is out of range is reported by the flow, which knows what it started from.
        tolerance = torch.finfo(X.dtype).eps ** 0.5
        again, alone = self.outputs(theta, X), [self.outputs(theta, row[None]) for row in X]
        if not torch.allclose(outputs, again, tolerance**1.5, tolerance**1.5, equal_nan=True):
            raise ValueError(
                "module gives other outputs when it is asked again: leave out what is drawn or "
                "counted in forward, such as noise or dropout that stays on in evaluation mode"
            )
        if not torch.allclose(outputs, torch.cat(alone), tolerance, tolerance, equal_nan=True):
            raise ValueError(
                "module gives a row another output in company than alone: an output must depend "
                "on its own input alone"
            )

    def fitted_attributes(self, theta: Tensor) -> dict[str, Any]:
        """θ by the names under which an estimator shows it, such as "coefs_"; as tensors."""
        return {"parameters_": {"theta": theta}}

    def hidden(self, theta: Tensor, X: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the last layer receives, (n_samples, width), and its weights, (width, n_outputs).

        None where there is no such layer.
        """
        return None

    def state(self) -> dict[str, Tensor]:
        """What f depends on besides θ, such as buffers of a module: kept with a fit."""
        return {}

    def restored(self, state: dict[str, Tensor]) -> Family:
        """The family with the state of a fit."""
        return self


class OutputSpace(Protocol):
    """Where all outputs on a training set lie: flat vectors of shape (Q·N,), sample-major.

    With sample weights w the vectors are W^½ times plain values, in which the formulas of the
    paper hold as they are.
    """

    @property
    def n_samples(self) -> int:
        """Number of samples."""

    @property
    def n_outputs(self) -> int:
        """Q."""

    @property
    def n_params(self) -> int:
        """K."""

    @property
    def total_weight(self) -> float:
        """N of the clock (2.52) and of the cost (2.48): the sum of the weights."""

    def unweigh(self, x: Tensor) -> Tensor:
        """W^−½ on a vector: plain values, shape (n_samples, n_outputs)."""


class TangentMap(ABC):
    """An output map at one θ, to first order, on the vectors of its `OutputSpace`.

    What is not abstract has a default, made of products with D and Dᵀ: a map overrides it where
    it knows a faster way.

    Attributes
    ----------
    n_samples, n_outputs, n_params : int
        N, Q and K.
    outputs : Tensor of shape (Q·N,)
        x(θ).
    """

    n_samples: int
    n_outputs: int
    n_params: int
    outputs: Tensor

    @abstractmethod
    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (Q·N,), of v, shape (K,)."""

    @abstractmethod
    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (K,), of u, shape (Q·N,)."""

    @property
    def sample_weights(self) -> Tensor:
        """w, shape (n_samples,)."""
        return self.outputs.new_ones(self.n_samples)

    @property
    def total_weight(self) -> float:
        """N of the clock (2.52): the sum of the weights."""
        return float(self.sample_weights.sum())

    def unweigh(self, x: Tensor) -> Tensor:
        """W^−½ on a vector: plain values, shape (n_samples, n_outputs)."""
        return x.view(self.n_samples, self.n_outputs) / self.sample_weights.sqrt()[:, None]

    @property
    def members(self) -> Sequence[tuple[DifferentiableMap, TangentMap]]:
        """The output maps whose mean this is, and each at its θ; none where it is no mean."""
        return ()

    def hold_gram(self) -> None:
        """Form G ahead, for products, until `gram` hands it over; a map may decline."""
        return

    def gram(self) -> Tensor:
        """G = DDᵀ, shape (Q·N, Q·N), the caller's to overwrite: one that was held is no longer."""
        return self.gram_times(self._identity())

    def gram_times(self, u: Tensor) -> Tensor:
        """G·u of columns, shape (Q·N, m)."""
        return torch.stack([self.push(self.pull(column)) for column in u.mT], dim=1)

    @property
    def shared_gram(self) -> Tensor:
        """K̄, shape (n_samples, n_samples): the mean over outputs of the diagonal blocks of G."""
        blocks = self.gram().view(self.n_samples, self.n_outputs, self.n_samples, self.n_outputs)
        return blocks.diagonal(dim1=1, dim2=3).mean(-1)

    def columns(self, samples: Tensor) -> Tensor:
        """Columns of G of some samples, shape (Q·N, Q·len(samples))."""
        units = self._identity().view(-1, self.n_samples, self.n_outputs)[:, samples]
        return self.gram_times(units.flatten(1))

    def gram_diagonal(self) -> Tensor:
        """The diagonal of G, shape (Q·N,)."""
        return self.jacobian().square().sum(1)

    def trace(self) -> float:
        """Trace of G."""
        return float(self.gram_diagonal().sum())

    def jacobian(self) -> Tensor:
        """D, shape (Q·N, K)."""
        return torch.stack([self.pull(row) for row in self._identity()])

    def normal_matrix(self) -> Tensor:
        """DᵀD, shape (K, K), the caller's to overwrite."""
        D = self.jacobian()
        return D.mT @ D

    def _identity(self) -> Tensor:
        size = len(self.outputs)
        return torch.eye(size, dtype=self.outputs.dtype, device=self.outputs.device)


class DifferentiableMap(OutputSpace, Protocol):
    """θ ↦ x(θ), all outputs on a training set in one vector (2.9)."""

    @property
    def dtype(self) -> torch.dtype:
        """In which θ is taken and x(θ) given."""

    def outputs(self, theta: Tensor) -> Tensor:
        """x(θ), shape (Q·N,)."""

    def linearize(self, theta: Tensor) -> TangentMap:
        """x(θ) with D at one θ."""
