"""Layered networks with gains: a factor for each column of the inputs and each hidden neuron.

Gains add no functions to those of layered networks. They change how a flow moves among them: a
column, or a neuron, that matters gets longer as a whole, and the more it is used the sooner. The
Gram is that of the layers and a few columns more. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.geometry.layered import LayeredLinearization, LayeredNetwork
from sklearn_gflow.geometry.maps import Family, Linearization

__all__ = ["GainLinearization", "GainNetwork"]


class _Parts(NamedTuple):
    """A vector of all parameters, in parts that are views of it.

    Attributes
    ----------
    layers : Tensor
        Weights and biases, as `LayeredNetwork` has them.
    columns : Tensor of shape (n_features,)
        ρ, one a column.
    neurons : list of Tensor of shape (n_l,)
        σ_l, one a neuron, of each hidden layer.
    """

    layers: Tensor
    columns: Tensor
    neurons: list[Tensor]


class GainNetwork(Family):
    """The family of layered networks with a_l = φ(e^{σ_l} ∘ (W_lᵀ a_{l−1} + b_l)), a₀ = e^ρ ∘ x.

    θ is that of the layers, then ρ, then the σ_l of the hidden layers. All gains begin with 1.

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers, inputs and outputs included: ``(n_features, …, n_outputs)``.
    activation : str
        φ, a key of ``ACTIVATIONS``.
    """

    any_precision = True

    def __init__(self, sizes: Sequence[int], activation: str = "tanh") -> None:
        self.network = LayeredNetwork(sizes, activation)
        self.n_features, self.n_outputs = self.network.n_features, self.network.n_outputs
        self._counts = [self.network.n_params, *self.network.sizes[:-1]]
        self.n_params = sum(self._counts)

    def initial(self, generator: torch.Generator, *, input_scale: float = 1.0) -> Tensor:
        """The start of the layers, and ρ = σ = 0."""
        start = self.network.initial(generator, input_scale=input_scale)
        return torch.cat([start, start.new_zeros(self.n_params - len(start))])

    def parts(self, theta: Tensor) -> _Parts:
        """Views of θ, or of a vector of its length."""
        layers, columns, *neurons = theta.split(self._counts)
        return _Parts(layers, columns, neurons)

    def folded(self, theta: Tensor) -> Tensor:
        """θ of the layered network that this one is: gains are multiplied into its weights."""
        layers, columns, neurons = self.parts(theta)
        folded = layers.clone()
        for depth, (W, b) in enumerate(self.network.layers(folded)):
            if not depth:
                W.mul_(columns.exp()[:, None])
            if depth < len(neurons):
                W.mul_(neurons[depth].exp())
                b.mul_(neurons[depth].exp())
        return folded

    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""
        return self.at(theta)(X)

    def at(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """X ↦ f_θ(X), with the gains in the weights."""
        return self.network.at(self.folded(theta))

    def linearize(self, theta: Tensor, X: Tensor) -> GainLinearization:
        """f_θ(X) with its first derivative in θ."""
        flat, columns, neurons = self.parts(theta)
        *hidden, (last, bias) = layers = list(self.network.layers(flat))
        inputs, slopes, reached = [X * columns.exp()], [], []
        for (W, b), sigma in zip(hidden, neurons, strict=True):
            u, gain = torch.addmm(b, inputs[-1], W), sigma.exp()
            z = u * gain
            inputs.append(self.network.activation.value(z))
            slopes.append(self.network.activation.slope(z, inputs[-1]) * gain)
            reached.append(u)
        outputs = torch.addmm(bias, inputs[-1], last)
        plain = LayeredLinearization(self.network, layers, inputs, slopes, outputs)
        return GainLinearization(self, plain, reached)

    def input_gradients(self, theta: Tensor, X: Tensor) -> Tensor:
        """∂f_θ/∂x at each row of X, shape (n_samples, n_outputs, n_features)."""
        return self.network.input_gradients(self.folded(theta), X)

    @property
    def signature(self) -> Any:
        """That of the layers, and that they have gains."""
        return type(self).__name__, self.network.signature

    @property
    def row_numbers(self) -> int:
        """Those of the layers, and what neurons receive."""
        return self.network.row_numbers + self.n_features + sum(self.network.sizes[1:-1])

    def fitted_attributes(self, theta: Tensor) -> dict[str, Any]:
        """Weights and biases with the gains in them, and the gains."""
        _, columns, neurons = self.parts(theta)
        return {
            **self.network.fitted_attributes(self.folded(theta)),
            "input_gains_": columns.exp(),
            "neuron_gains_": [sigma.exp() for sigma in neurons],
        }

    def hidden(self, theta: Tensor, X: Tensor) -> tuple[Tensor, Tensor] | None:
        """Activations of the last hidden layer, and the weights of the layer above."""
        return self.network.hidden(self.folded(theta), X)


@dataclass(frozen=True)
class GainLinearization(Linearization):
    """A network with gains at one θ and one X, to first order.

    Attributes
    ----------
    family : GainNetwork
        Which it is.
    plain : LayeredLinearization
        With respect to weights and biases: gains are in its inputs and slopes.
    reached : list of Tensor of shape (n_samples, n_l)
        u_l = W_lᵀ a_{l−1} + b_l of the hidden layers.
    """

    family: GainNetwork
    plain: LayeredLinearization
    reached: list[Tensor]

    @property
    def outputs(self) -> Tensor:  # type: ignore[override]
        """f_θ(X)."""
        return self.plain.outputs

    @property
    def n_params(self) -> int:
        """K."""
        return self.family.n_params

    def push(self, v: Tensor) -> Tensor:
        """D·v: a gain moves the outputs as all weights that it multiplies do."""
        layers, columns, neurons = self.family.parts(v)
        layers = layers.clone()
        for depth, (dW, db) in enumerate(self.family.network.layers(layers)):
            W, b = self.plain.layers[depth]
            if not depth:
                dW.addcmul_(W, columns[:, None])
            if depth < len(neurons):
                dW.addcmul_(W, neurons[depth])
                db.addcmul_(b, neurons[depth])
        return self.plain.push(layers)

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, the adjoint of `push`."""
        pulled = self.plain.pull(u)
        layers = zip(self.plain.layers, self.family.network.layers(pulled), strict=True)
        columns, neurons = [], []
        for depth, ((W, b), (dW, db)) in enumerate(layers):
            product = W * dW
            if not depth:
                columns.append(product.sum(1))
            if depth < len(self.reached):
                neurons.append(product.sum(0) + b * db)
        return torch.cat([pulled, *columns, *neurons])

    def gram(self) -> Tensor:
        """DDᵀ: that of the layers, and one product more."""
        rows = self._by_gains().flatten(0, 1)
        return self.plain.gram().addmm_(rows, rows.mT)

    def cross_gram(self, other: GainLinearization) -> Tensor:
        """Θ(xᵢ, yⱼ) (3.14) between two sample sets at one θ."""
        left, right = (side._by_gains().flatten(0, 1) for side in (self, other))
        return self.plain.cross_gram(other.plain).addmm_(left, right.mT)

    def shared_gram(self) -> Tensor:
        """K̄, in which the sum over many outputs is estimated as in layered networks."""
        kernel = self.plain.shared_gram()
        for rows in self._shared_by_gains():
            kernel.addmm_(rows, rows.mT)
        return kernel

    def gram_diagonal(self) -> Tensor:
        """The diagonal of DDᵀ."""
        return self.plain.gram_diagonal() + self._by_gains().square().sum(2).reshape(-1)

    def jacobian(self) -> Tensor:
        """D."""
        return torch.cat([self.plain.jacobian(), self._by_gains().flatten(0, 1)], dim=1)

    def take(self, samples: Tensor) -> GainLinearization:
        """The same θ at some of the samples."""
        reached = [u[samples] for u in self.reached]
        return GainLinearization(self.family, self.plain.take(samples), reached)

    def _by_columns(self, delta: Tensor) -> Tensor:
        """∂x_q/∂ρ = e^ρ∘x ∘ W₁δ₁^q, of sensitivities with an axis of outputs or combinations."""
        W, _ = self.plain.layers[0]
        return (delta @ W.mT) * self.plain.inputs[0][:, None, :]

    def _by_gains(self) -> Tensor:
        """∂x_q by ρ and by the σ_l, δ_l^q ∘ u_l; shape (n_samples, n_outputs, n_gains)."""
        deltas = self.plain.sensitivities()
        if not deltas:  # the weights are the sensitivities of a network without a hidden layer
            W, _ = self.plain.layers[0]
            return W.mT * self.plain.inputs[0][:, None, :]
        by_neurons = [d * u[:, None, :] for d, u in zip(deltas, self.reached, strict=True)]
        return torch.cat([self._by_columns(deltas[0]), *by_neurons], dim=2)

    def _shared_by_gains(self) -> list[Tensor]:
        """Rows whose products add up to the part of the gains in K̄."""
        shared, root = self.plain.shared_sensitivities(), math.sqrt(self.family.n_outputs)
        if len(shared) < 2:  # that of the last hidden layer has no axis of outputs any more
            return [self._by_gains().flatten(1) / root]
        parts = [
            delta.unflatten(1, (-1, u.shape[1]))
            for delta, u in zip(shared, self.reached, strict=True)
        ]
        by_neurons = [
            (delta * u[:, None, :]).flatten(1) for delta, u in zip(parts, self.reached, strict=True)
        ]
        return [self._by_columns(parts[0]).flatten(1), *by_neurons]
