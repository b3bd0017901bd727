"""Layered networks: outputs, D·v, Dᵀ·u and the Gram, none of which forms the Jacobian D.

The Gram is a sum over layers of Hadamard products: ⟨a, a'⟩ + 1 of what the layer receives, times
⟨δ, δ'⟩ of the sensitivities δ = ∂x/∂z. It is computed in panels of rows. Notation:
docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.geometry import rows as of_rows
from sklearn_gflow.geometry.maps import Family, Linearization

__all__ = ["ACTIVATIONS", "Activation", "LayeredLinearization", "LayeredNetwork"]


class Activation(NamedTuple):
    """A scalar function σ and its derivative, both elementwise; ``slope(z, σ(z))`` is σ'(z).

    ``overwrite`` is σ in the memory of its argument, where torch has that.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    overwrite: Callable[[Tensor], Tensor] | None = None


def _tanh_slope(z: Tensor, a: Tensor) -> Tensor:
    return torch.addcmul(a.new_ones(()), a, a, value=-1)  # 1 − a², without a second tensor


def _silu_slope(z: Tensor, a: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(z)
    return sigmoid + a * (1 - sigmoid)


def _gelu_slope(z: Tensor, a: Tensor) -> Tensor:
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return torch.special.ndtr(z) + z * density


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(torch.tanh, _tanh_slope, torch.tanh_),
    "silu": Activation(torch.nn.functional.silu, _silu_slope),
    "gelu": Activation(torch.nn.functional.gelu, _gelu_slope),
    "softplus": Activation(torch.nn.functional.softplus, lambda z, a: torch.sigmoid(z)),
    "relu": Activation(torch.relu, lambda z, a: (z > 0).to(z.dtype), torch.relu_),
    "identity": Activation(lambda z: z, lambda z, a: torch.ones_like(z)),
}

# Rows of the Gram are made in panels of this many rows: the operands of one panel's
# Hadamard product then stay in cache, and only the lower triangle is computed. The shared kernel
# has operands enough for larger ones.
_PANEL_ROWS, _SHARED_PANEL_ROWS = 128, 256

# In the shared kernel up to this many outputs go through the hidden layers one by one. Of more
# outputs so many random combinations go, in which the sum over outputs is the expectation: with
# one, scores are those of four (docs/benchmarks/blocks_trials.md).
_OUTPUTS_ONE_BY_ONE, _PROBES = 4, 1


class LayeredNetwork(Family):
    """The family f_θ of layered networks (2.1) with one activation in all hidden layers.

    θ is one flat vector: for each layer its weights, shape (n_in, n_out) in row order, then
    its biases, shape (n_out,).

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers, inputs and outputs included: ``(n_features, …, n_outputs)``.
    activation : str
        A key of ``ACTIVATIONS``.

    Attributes
    ----------
    n_params : int
        K, the number of parameters.
    n_features, n_outputs : int
        M and Q.
    """

    any_precision = True
    sparse_inputs = True

    def __init__(self, sizes: Sequence[int], activation: str = "tanh") -> None:
        self.sizes = tuple(sizes)
        self.activation = ACTIVATIONS[activation]
        self.shapes = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.n_features = self.sizes[0]
        self.n_outputs = self.sizes[-1]
        self.n_params = sum((n_in + 1) * n_out for n_in, n_out in self.shapes)

    def initial(
        self, generator: torch.Generator, *, input_scale: float = 1.0, bias_scale: float = 0.3
    ) -> Tensor:
        """Draw a start θ₀: weights N(0, 1/n_in), hidden biases N(0, bias_scale²).

        The smaller the weights of the first layer, the smoother the network at its start. The
        output bias starts at zero: the model subtracts its initial outputs, so that bias would
        change nothing.

        Parameters
        ----------
        generator : torch.Generator
            Source of randomness; its device (the CPU, usually) is where θ₀ is drawn.
        input_scale : float
            Factor on the weights of the first layer.
        bias_scale : float
            Standard deviation of the hidden biases.

        Returns
        -------
        Tensor of shape (n_params,), float64
        """
        parts = []
        for n_in, n_out in self.shapes:
            parts.append(
                torch.randn(n_in * n_out, generator=generator, dtype=torch.float64)
                / math.sqrt(n_in)
            )
            parts.append(bias_scale * torch.randn(n_out, generator=generator, dtype=torch.float64))
        parts[0].mul_(input_scale)
        parts[-1].zero_()
        return torch.cat(parts)

    @property
    def signature(self) -> Any:
        """Widths and activation: θ of one network is θ of another with the same."""
        return self.sizes, self.activation

    @property
    def row_numbers(self) -> int:
        """Activations and slopes at two points of a flow, and sensitivities of each output."""
        return (5 + self.n_outputs) * sum(self.sizes[1:-1])

    def fitted_attributes(self, theta: Tensor) -> dict[str, Any]:
        """Weights, biases and the number of layers, by the names of `MLPRegressor`."""
        layers = list(self.layers(theta))
        return {
            "coefs_": [W for W, _ in layers],
            "intercepts_": [b for _, b in layers],
            "n_layers_": len(self.sizes),
        }

    def hidden(self, theta: Tensor, X: Tensor) -> tuple[Tensor, Tensor] | None:
        """Activations of the last hidden layer, and the weights of the layer above."""
        if X.is_sparse and len(self.shapes) == 1:  # they would be X itself, which stays sparse
            return None
        linearization = self.linearize(theta, X)
        return linearization.inputs[-1], linearization.layers[-1][0]

    def layers(self, theta: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of θ as (weights, biases), layer by layer."""
        start = 0
        for n_in, n_out in self.shapes:
            middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
            yield theta[start:middle].view(n_in, n_out), theta[middle:end]
            start = end

    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""
        return self.at(theta)(X)

    def at(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """X ↦ f_θ(X), with θ cut into layers."""
        *hidden, (last, bias) = self.layers(theta)
        activate = self.activation.overwrite or self.activation.value

        def outputs(X: Tensor) -> Tensor:
            a = X
            for W, b in hidden:
                a = activate(torch.addmm(b, a, W))
            return torch.addmm(bias, a, last)

        return outputs

    def linearize(self, theta: Tensor, X: Tensor) -> LayeredLinearization:
        """Evaluate f_θ(X) and keep what D·v, Dᵀ·u and the Gram need."""
        inputs, slopes = [X], []
        layers = list(self.layers(theta))
        for W, b in layers[:-1]:
            z = torch.addmm(b, inputs[-1], W)
            inputs.append(self.activation.value(z))
            slopes.append(self.activation.slope(z, inputs[-1]))
        W, b = layers[-1]
        outputs = torch.addmm(b, inputs[-1], W)
        return LayeredLinearization(self, layers, inputs, slopes, outputs)

    def input_gradients(self, theta: Tensor, X: Tensor) -> Tensor:
        """∂f_θ/∂x = δ₁W₁ᵀ at each row of X, shape (n_samples, n_outputs, n_features)."""
        linearization = self.linearize(theta, X)
        first = linearization.layers[0][0]
        if not linearization.slopes:
            return first.mT.expand(len(X), -1, -1)
        return linearization.sensitivities()[0] @ first.mT


@dataclass(frozen=True)
class LayeredLinearization(Linearization):
    """A layered network at one θ and one X, to first order: x, D·v, Dᵀ·u, DDᵀ.

    Attributes
    ----------
    outputs : Tensor of shape (n_samples, n_outputs)
        x(θ).
    layers : list of (weights, biases)
        Views of θ.
    inputs : list of Tensor of shape (n_samples, n_in)
        a_{l−1}, what each layer receives.
    slopes : list of Tensor of shape (n_samples, n_out)
        σ'(z_l) of the hidden layers.
    """

    network: LayeredNetwork
    layers: list[tuple[Tensor, Tensor]]
    inputs: list[Tensor]
    slopes: list[Tensor]
    outputs: Tensor
    _sensitivities: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def n_params(self) -> int:
        """K."""
        return self.network.n_params

    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (n_samples, n_outputs): one forward pass of tangents."""
        tangents = list(self.network.layers(v))
        dW, db = tangents[0]
        z_dot = torch.addmm(db, self.inputs[0], dW)  # no tangent: X does not depend on θ
        for depth, (dW, db) in enumerate(tangents[1:], start=1):
            a_dot = z_dot * self.slopes[depth - 1]
            z_dot = torch.addmm(db, self.inputs[depth], dW).addmm_(a_dot, self.layers[depth][0])
        return z_dot

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (n_params,): one backward pass of u, shape (n_samples, n_outputs)."""
        parts: list[Tensor] = []
        delta = u
        for depth in reversed(range(len(self.layers))):
            product = of_rows.transposed_product(self.inputs[depth], delta)
            parts += [delta.sum(0), product.reshape(-1)]
            if not depth:
                break
            if self._sensitivities and u.shape[1] == 1:  # they are the pull of u = 1
                delta = u * self._sensitivities[depth - 1][:, 0]
            else:
                delta = (delta @ self.layers[depth][0].mT).mul_(self.slopes[depth - 1])
        return torch.cat(parts[::-1])

    def sensitivities(self) -> list[Tensor]:
        """δ_l^q = ∂x_q/∂z_l of the hidden layers, each of shape (n_samples, n_outputs, n_l)."""
        if not self._sensitivities:
            delta = self.layers[-1][0].mT  # ∂x_q/∂a is the same for all samples
            for depth in reversed(range(len(self.slopes))):
                delta = delta * self.slopes[depth][:, None, :]
                self._sensitivities.insert(0, delta)
                if depth:  # as one product of matrices, where a batch would be a product a sample
                    rows = delta.flatten(0, 1) @ self.layers[depth][0].mT
                    delta = rows.unflatten(0, delta.shape[:2])
        return self._sensitivities

    def gram(self) -> Tensor:
        """DDᵀ, the tangent kernel (3.15), shape (n·Q, n·Q), sample-major.

        Only the lower triangle is computed; the upper one is its mirror image.
        """
        n, Q = self.outputs.shape
        gram = self.outputs.new_empty((n * Q, n * Q))
        room = _room(self, n)
        for rows in _panels(n, _PANEL_ROWS // Q):
            block = gram[rows.start * Q : rows.stop * Q, : rows.stop * Q]
            self._kernel(self, rows, slice(0, rows.stop), out=block, room=room)
            _mirror(gram, rows.start * Q, rows.stop * Q)
        return gram

    def shared_gram(self) -> Tensor:
        """K̄ = (1/Q) Σ_q of the blocks G[(·,q), (·,q)], shape (n, n), in which G ≈ K̄ ⊗ 1_Q.

        With Q > 4 outputs the sum over q is estimated in all layers but the last two, by a
        fixed draw of random signs.
        """
        *inputs, last = self.inputs
        layers = list(zip(inputs, self._shared_sensitivities(), strict=True))
        kernel = self.outputs.new_empty((len(last), len(last)))
        for rows in _panels(len(last), _SHARED_PANEL_ROWS):
            upto = slice(0, rows.stop)
            block = kernel[rows, upto]
            of_rows.inner_products(of_rows.take(last, rows), of_rows.take(last, upto), out=block)
            for a, delta in layers:
                inner = of_rows.inner_products(of_rows.take(a, rows), of_rows.take(a, upto))
                block.addcmul_(inner, delta[rows] @ delta[upto].mT)
            _mirror(kernel, rows.start, rows.stop)
        return kernel

    def _shared_sensitivities(self) -> list[Tensor]:
        """S_l with S_l S_lᵀ = (1/Q) Σ_q Δ_l^q Δ_l^qᵀ, each of n rows.

        In the last hidden layer δ^q = w_q ∘ σ', so that Σ_q ⟨δ_i^q, δ_j^q⟩ is
        Σ_k |w_k|² σ'_ik σ'_jk: one column a neuron, whatever Q. Below it all of WWᵀ enters. The
        outputs go there one by one, or with random signs ξ as columns Wξ, E[Wξ ξᵀWᵀ] = WWᵀ.
        """
        if not self.slopes:
            return []
        W, Q = self.layers[-1][0], self.network.n_outputs
        shared = [self.slopes[-1] * W.square().mean(1).sqrt()]
        signs = None if Q <= _OUTPUTS_ONE_BY_ONE else _signs(Q, W.dtype, W.device)
        columns = (W if signs is None else W @ signs) / math.sqrt(Q)
        # It is made contiguous, since every product with it would begin with a copy otherwise.
        delta = columns.mT.contiguous() * self.slopes[-1][:, None, :]
        for depth in reversed(range(len(self.slopes) - 1)):
            rows = delta.flatten(0, 1) @ self.layers[depth + 1][0].mT
            delta = rows.unflatten(0, delta.shape[:2]).mul_(self.slopes[depth][:, None, :])
            shared.insert(0, delta.flatten(1))
        return shared

    def cross_gram(self, other: LayeredLinearization) -> Tensor:
        """Θ(xᵢ, yⱼ) (3.14) between two sample sets at one θ, shape (n·Q, m·Q)."""
        (n, Q), m = self.outputs.shape, len(other.outputs)
        kernel = self.outputs.new_empty((n * Q, m * Q))
        room = _room(self, m)
        for rows in _panels(n, _PANEL_ROWS // Q):
            block = kernel[rows.start * Q : rows.stop * Q]
            self._kernel(other, rows, slice(0, m), out=block, room=room)
        return kernel

    def take(self, samples: Tensor) -> LayeredLinearization:
        """The same θ at some of the samples."""
        return LayeredLinearization(
            self.network,
            self.layers,
            [of_rows.take(a, samples) for a in self.inputs],
            [slope[samples] for slope in self.slopes],
            self.outputs[samples],
        )

    def gram_diagonal(self) -> Tensor:
        """Diagonal of DDᵀ, shape (n·Q,): squared parameter gradients, output by output."""
        norms = [of_rows.square_sums(a) + 1 for a in self.inputs]
        diagonal = norms[-1].expand_as(self.outputs).clone()
        for norm, delta in zip(norms[:-1], self.sensitivities(), strict=True):
            diagonal += norm * (delta * delta).sum(2)
        return diagonal.reshape(-1)

    def jacobian(self) -> Tensor:
        """D itself (2.12), shape (n·Q, K). For K < QN, where it is smaller than the Gram."""
        n, Q = self.outputs.shape
        identity = torch.eye(Q, dtype=self.outputs.dtype, device=self.outputs.device)
        deltas = [*self.sensitivities(), identity.expand(n, Q, Q)]
        parts = []
        for a, delta in zip(map(of_rows.dense, self.inputs), deltas, strict=True):
            parts += [
                (a[:, None, :, None] * delta[:, :, None, :]).reshape(n * Q, -1),
                delta.reshape(n * Q, -1),
            ]
        return torch.cat(parts, dim=1)

    def _kernel(
        self, other: LayeredLinearization, rows: slice, columns: slice, *, out: Tensor, room: _Room
    ) -> None:
        """Σ_l (⟨a_{l−1}, a'_{l−1}⟩ + 1)·⟨δ_l^q, δ'_l^r⟩ for some rows and columns, into ``out``."""
        Q = self.network.n_outputs
        shape = rows.stop - rows.start, columns.stop - columns.start
        left = of_rows.take(self.inputs[-1], rows)
        right = of_rows.take(other.inputs[-1], columns)
        if Q == 1:  # as plain matrices: with axes (i, q, j, r) it takes half as long again
            block = of_rows.inner_products(left, right, out=out)
        else:
            last = of_rows.inner_products(left, right)
            block = out.unflatten(0, (-1, Q)).unflatten(2, (-1, Q)).zero_()
            block.diagonal(dim1=1, dim2=3).copy_(last[..., None].expand(*last.shape, Q))
        for depth, (left, right) in enumerate(
            zip(self.sensitivities(), other.sensitivities(), strict=True)
        ):
            a, other_a = self.inputs[depth], other.inputs[depth]
            inner = of_rows.inner_products(
                of_rows.take(a, rows), of_rows.take(other_a, columns), out=room.inner(*shape)
            )
            deltas = torch.mm(
                left[rows].flatten(0, 1), right[columns].flatten(0, 1).mT,
                out=room.deltas(shape[0] * Q, shape[1] * Q),
            )  # fmt: skip
            if Q > 1:
                deltas = deltas.unflatten(0, (-1, Q)).unflatten(2, (-1, Q))
                inner = inner[:, None, :, None]
            block.addcmul_(deltas, inner)


@lru_cache(maxsize=16)
def _signs(n_outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Columns of ±1, scaled so that ξξᵀ is 1 in expectation; the same on all devices."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (n_outputs, _PROBES), generator=generator)
    return (2 * bits - 1).to(device, dtype) / math.sqrt(_PROBES)


class _Room(NamedTuple):
    """Memory for the two factors of a Hadamard product, which all panels and layers share."""

    first: Tensor
    second: Tensor

    def inner(self, n_rows: int, n_columns: int) -> Tensor:
        """For those over samples."""
        return self.first[: n_rows * n_columns].view(n_rows, n_columns)

    def deltas(self, n_rows: int, n_columns: int) -> Tensor:
        """For those over samples and outputs."""
        return self.second[: n_rows * n_columns].view(n_rows, n_columns)


def _room(linearization: LayeredLinearization, n_columns: int) -> _Room:
    outputs = linearization.outputs
    Q = outputs.shape[1]
    n_rows = min(len(outputs), max(1, _PANEL_ROWS // Q))
    return _Room(
        outputs.new_empty(n_rows * n_columns), outputs.new_empty(n_rows * n_columns * Q**2)
    )  # fmt: skip


def _mirror(matrix: Tensor, start: int, stop: int) -> None:
    """Copy a panel of rows beside the diagonal; its square on the diagonal is symmetric already."""
    if start:
        matrix[:start, start:stop] = matrix[start:stop, :start].mT


def _panels(n_samples: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    for start in range(0, n_samples, step):
        yield slice(start, min(start + step, n_samples))
