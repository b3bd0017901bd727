"""Any ``torch.nn.Module`` as a family of functions, with Jacobian products by ``torch.func``.

The Gram is made of rows of D, in chunks that bound the memory. A module needs nothing but to treat
each row on its own. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vjp, vmap

from sklearn_gflow.geometry.gradients import gradients_of_rows
from sklearn_gflow.geometry.maps import Family, Linearization

__all__ = ["ModuleFamily", "ModuleLinearization"]

# Jacobian rows are made in chunks of at most this many bytes.
_CHUNK_BYTES = 128 * 2**20


class ModuleFamily(Family):
    """f_θ given by a module: convolutions, residual connections, tied weights and all.

    The module runs in evaluation mode (no dropout). Parameters that do not require gradients
    stay as they are; a parameter that is used twice counts once.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n_samples, n_features) to (n_samples, n_outputs), each row on its own. Kept, and
        put into evaluation mode.
    n_outputs : int
        Q.
    chunk_bytes : int
        Bound on the Jacobian rows held at one time.

    Raises
    ------
    ValueError
        If a layer computes statistics over the batch: its outputs depend on other samples'
        inputs, so that x(θ) is not a family of functions of one input (2.1). Or if no parameter
        can be trained.
    """

    def __init__(self, module: nn.Module, n_outputs: int, chunk_bytes: int = _CHUNK_BYTES) -> None:
        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"module has the batch-statistics layer {name!r} ({type(layer).__name__}): an "
                    "output must depend on its own input alone; use LayerNorm or GroupNorm"
                )
        self.module = module.eval()
        self.n_outputs = n_outputs
        self.chunk_bytes = chunk_bytes
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError("module has no parameter that requires a gradient")
        self.shapes = {name: p.shape for name, p in trained.items()}
        self.n_params = sum(p.numel() for p in trained.values())

    def initial(
        self, generator: torch.Generator | None = None, *, input_scale: float = 1.0
    ) -> Tensor:
        """The module's own parameters as θ, shape (n_params,): nothing is drawn or scaled."""
        parameters = dict(self.module.named_parameters())
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.shapes])

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of θ by the module's names."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = torch.split(theta, sizes)
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def fitted_attributes(self, theta: Tensor) -> dict[str, Any]:
        """Parameters by the module's names."""
        return {"parameters_": self.parameters(theta)}

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers of the module."""
        return self.module.state_dict()

    def restored(self, state: dict[str, Tensor]) -> ModuleFamily:
        """The module, with parameters and buffers of a fit."""
        self.module.load_state_dict(state)
        return self

    def call(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), differentiable."""
        outputs: Tensor = functional_call(self.module, self.parameters(theta), (X,))
        return outputs

    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""
        with torch.no_grad():
            return self.call(theta, X)

    def input_gradients(self, theta: Tensor, X: Tensor) -> Tensor:
        """∂f_θ/∂x at each row of X, shape (n_samples, n_outputs, n_features)."""
        return gradients_of_rows(lambda x: self.call(theta, x), X)

    def linearize(self, theta: Tensor, X: Tensor) -> ModuleLinearization:
        """f_θ(X) with its Jacobian products."""
        return ModuleLinearization(self, theta, X, self.outputs(theta, X))


@dataclass(frozen=True)
class ModuleLinearization(Linearization):
    """A module at one θ and one X, to first order: x, D·v, Dᵀ·u, DDᵀ."""

    family: ModuleFamily
    theta: Tensor
    X: Tensor
    outputs: Tensor

    @property
    def n_params(self) -> int:
        """K."""
        return self.family.n_params

    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (n_samples, n_outputs)."""
        # u ↦ Dᵀu is linear, and its own pullback is D: more layers have second derivatives in
        # reverse mode than have a forward mode.
        pullback = vjp(lambda theta: self.family.call(theta, self.X), self.theta)[1]
        push = vjp(lambda u: pullback(u)[0], torch.zeros_like(self.outputs))[1]
        pushed: Tensor = push(v)[0]
        return pushed.detach()

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (n_params,)."""
        pullback = vjp(lambda theta: self.family.call(theta, self.X), self.theta)[1]
        pulled: Tensor = pullback(u)[0]
        return pulled.detach()

    def gram(self) -> Tensor:
        """DDᵀ (3.15), shape (n·Q, n·Q), sample-major."""
        return self.cross_gram(self)

    def cross_gram(self, other: ModuleLinearization) -> Tensor:
        """Θ(xᵢ, yⱼ) (3.14) with another sample set at the same θ, shape (n·Q, m·Q).

        Jacobian rows come in chunks; where one chunk does not hold them all, those of ``other``
        are made once for each chunk of this one.
        """
        Q = self.family.n_outputs
        kernel = self.outputs.new_empty((len(self.X) * Q, len(other.X) * Q))
        for rows in self._chunks():
            left = self._jacobian_of(rows)
            for columns in other._chunks():
                if other is self and columns.start > rows.start:
                    break
                right = left if other is self and columns == rows else other._jacobian_of(columns)
                block = left @ right.mT
                kernel[_expand(rows, Q), _expand(columns, Q)] = block
                if other is self:
                    kernel[_expand(columns, Q), _expand(rows, Q)] = block.mT
        return kernel

    def take(self, samples: Tensor) -> ModuleLinearization:
        """The same θ at some of the samples."""
        return ModuleLinearization(self.family, self.theta, self.X[samples], self.outputs[samples])

    def shared_gram(self) -> Tensor:
        """K̄ = (1/Q) Σ_q of the blocks G[(·,q), (·,q)], shape (n, n), from Jacobian rows."""
        kernel = self.outputs.new_empty((len(self.X), len(self.X)))
        for rows in self._chunks():
            left = self._jacobian_of(rows).view(rows.stop - rows.start, -1)
            for columns in self._chunks():
                if columns.start > rows.start:
                    break
                right = self._jacobian_of(columns).view(columns.stop - columns.start, -1)
                block = left @ right.mT / self.family.n_outputs
                kernel[rows, columns], kernel[columns, rows] = block, block.mT
        return kernel

    def gram_diagonal(self) -> Tensor:
        """Diagonal of DDᵀ, shape (n·Q,)."""
        return torch.cat([self._jacobian_of(rows).square().sum(1) for rows in self._chunks()])

    def jacobian(self) -> Tensor:
        """D (2.12), shape (n·Q, K)."""
        return torch.cat([self._jacobian_of(rows) for rows in self._chunks()])

    def _chunks(self) -> Iterator[slice]:
        a_row = self.n_params * self.family.n_outputs * self.theta.element_size()
        step = max(1, self.family.chunk_bytes // a_row)
        for start in range(0, len(self.X), step):
            yield slice(start, min(start + step, len(self.X)))

    def _jacobian_of(self, rows: slice) -> Tensor:
        """Rows of D of some samples, shape (len·Q, K)."""

        def one_output(theta: Tensor, x: Tensor) -> Tensor:
            return self.family.call(theta, x[None])[0]

        D: Tensor = vmap(jacrev(one_output), in_dims=(None, 0))(self.theta, self.X[rows])
        return D.detach().flatten(0, 1)


def _expand(rows: slice, n_outputs: int) -> slice:
    return slice(rows.start * n_outputs, rows.stop * n_outputs)
