"""Any ``torch.nn.Module`` as a family of functions, with Jacobian products by ``torch.func``.

The Gram is made of rows of D, in chunks that bound the memory. A module needs nothing but to treat
each row on its own. Notation: docs/notation.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        put into evaluation mode; see `copied`.
    n_outputs : int
        Q.
    chunk_bytes : int
        Bound on the Jacobian rows held at one time.

    Raises
    ------
    ValueError
        If a layer computes statistics over the batch: its outputs depend on other samples'
        inputs, so that x(θ) is not a family of functions of one input (2.1). If a layer does not
        know its size yet, or is compiled. Or if no parameter can be trained, or one is complex.
    """

    def __init__(self, module: nn.Module, n_outputs: int, chunk_bytes: int = _CHUNK_BYTES) -> None:
        _refuse_layers(module)
        self.module = module.eval()
        self.n_outputs = n_outputs
        self.chunk_bytes = chunk_bytes
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError("module has no parameter that requires a gradient")
        if name := next((name for name, p in trained.items() if p.is_complex()), None):
            raise ValueError(f"module has the complex parameter {name!r}; use pairs of real ones")
        self.shapes = {name: p.shape for name, p in trained.items()}
        self.n_params = sum(p.numel() for p in trained.values())

    @classmethod
    def copied(cls, module: nn.Module, n_outputs: int, like: Tensor) -> ModuleFamily:
        """The family of a copy of a module, in the precision and on the device of a tensor.

        The module itself may be a net that its owner goes on to use. Tensors that are plain
        attributes, which `torch.nn.Module.to` leaves out, are moved too.

        Raises
        ------
        ValueError
            If the module cannot be copied, or is none of a family.
        """
        _refuse_layers(module)
        with _told("cannot be copied, for which its tensors need values and no history"):
            own = copy.deepcopy(module).to(like.device)
        own = own.double() if like.dtype == torch.float64 else own.float()
        for layer, _, name, value in _plain_attributes(own):
            dtype = like.dtype if value.is_floating_point() else value.dtype
            setattr(layer, name, value.to(device=like.device, dtype=dtype))
        return cls(own, n_outputs)

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
        """Tensors of the module that are not trained: buffers, plain attributes, fixed parameters.

        Buffers that a ``state_dict`` leaves out belong to them.
        """
        fixed = {name: p for name, p in self.module.named_parameters() if name not in self.shapes}
        plain = {f"{path}{name}": value for _, path, name, value in _plain_attributes(self.module)}
        tensors = {**fixed, **dict(self.module.named_buffers()), **plain}
        return {name: value.detach() for name, value in tensors.items()}

    def restored(self, state: dict[str, Tensor]) -> ModuleFamily:
        """The module, with the state of a fit.

        Raises
        ------
        ValueError
            If the module has other tensors than those.
        """
        own = self.state()
        shapes, expected = ({k: v.shape for k, v in tensors.items()} for tensors in (own, state))
        if shapes != expected:
            raise ValueError(
                f"module has fixed tensors {_listed(shapes)} now, and had {_listed(expected)} "
                "when it was fitted; hand over a callable that makes the same module each time"
            )
        for name, value in state.items():
            own[name].copy_(value)
        return self

    def check_rows(self, theta: Tensor, X: Tensor) -> None:
        """Hold the module to the contract of a family on some rows, and its derivatives too.

        Raises
        ------
        ValueError
            If the module cannot be evaluated or differentiated, if its outputs are none of a
            family, or if its derivatives are not those of its outputs.
        """
        with _told(f"cannot be evaluated on inputs of shape {tuple(X.shape)}"):
            outputs = self.outputs(theta, X)
        if not isinstance(outputs, Tensor):
            raise ValueError(f"module must return a tensor, and returned {type(outputs).__name__}")
        if not outputs.isfinite().all():
            raise ValueError(
                "module gives outputs that are not finite before it is trained; scale the "
                "features, for instance with StandardScaler, or mend its start"
            )
        super().check_rows(theta, X)
        generator = torch.Generator().manual_seed(0)
        v, u = (
            torch.randn(shape, generator=generator, dtype=theta.dtype).to(theta.device)
            for shape in (theta.shape, outputs.shape)
        )
        with _told("can be evaluated, and torch.func cannot differentiate it"):
            tangent = self.linearize(theta, X)
            pulled = tangent.pull(u)
            rows = [tangent._jacobian_of(chunk) @ v for chunk in tangent._chunks()]
        pushed = torch.cat(rows).view_as(u)
        allowed = torch.finfo(X.dtype).eps ** 0.5 * (pulled.norm() * v.norm())
        if not (torch.dot(pulled, v) - (u * pushed).sum()).abs() <= allowed:
            raise ValueError(
                "module has other derivatives for a row alone than for rows in company: an "
                "output must depend on its own input alone"
            )
        self._check_slope(theta, X, v, pushed)

    def _check_slope(self, theta: Tensor, X: Tensor, v: Tensor, pushed: Tensor) -> None:
        """Hold D·v to differences of the outputs, where these go straight."""
        eps = torch.finfo(theta.dtype).eps
        step = eps ** (1 / 3) * max(float(theta.square().mean().sqrt()), 1e-3)
        before, here, after = (self.outputs(theta + h * v, X) for h in (-step, 0.0, step))
        ahead, behind = after - here, here - before
        # At a kink, as of a rectifier, the two differ, and no derivative is that of both.
        noise = 100 * eps * here.abs()
        straight = (ahead - behind).abs() <= 0.1 * (ahead.abs() + behind.abs()) + noise
        measured = ((ahead + behind) / 2)[straight]
        stated = step * pushed[straight]
        allowed = 0.1 * torch.maximum(measured.norm(), stated.norm()) + noise[straight].norm()
        if not (measured - stated).norm() <= allowed:
            raise ValueError(
                "module has derivatives that are not those of its outputs, as under "
                "torch.no_grad(), after detach() or in a backward pass of one's own: the flow "
                "follows derivatives; leave these out, or fix the parameters below them by "
                "requires_grad_(False)"
            )

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
        with _told("has a layer without a second derivative, which products with D need"):
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


def _refuse_layers(module: nn.Module) -> None:
    """Refuse layers that make no family, before anything is asked of them."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "module is compiled by torch.jit, so that its parameters cannot be replaced; hand over "
            "the module that it was compiled from"
        )
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"module has the batch-statistics layer {name!r} ({type(layer).__name__}): an "
                "output must depend on its own input alone; use LayerNorm or GroupNorm"
            )
    for name, parameter in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(parameter):
            raise ValueError(
                f"module is lazy: {name!r} has no shape yet; the callable is told n_features and "
                "n_outputs, use them for layers of a given size"
            )


def _plain_attributes(module: nn.Module) -> Iterator[tuple[nn.Module, str, str, Tensor]]:
    """(layer, path, name, value) of the tensors that are neither parameters nor buffers."""
    for path, layer in module.named_modules():
        for name, value in list(vars(layer).items()):
            if isinstance(value, Tensor):
                yield layer, f"{path}." if path else "", name, value


@contextmanager
def _told(fault: str) -> Iterator[None]:
    """Say of what a user's module raises what it means here."""
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"module {fault}: {reason}") from error


def _listed(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()) or "none"
