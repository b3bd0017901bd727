"""Families that contract tests go over, each with its function f_θ(x) in plain torch.

Whoever adds a family adds a line to `FAMILIES`, and the contract of tests/geometry/test_families.py
holds for it. Oracles import nothing of the package: derivatives are those of torch.func.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from sklearn_gflow.geometry import (
    Family,
    LayeredNetwork,
    Linearization,
    MeanFamily,
    ModuleFamily,
)
from tests import oracles

_EXAMPLE = Path(__file__).parents[1] / "examples" / "scaled_inputs.py"


@dataclass(frozen=True)
class Case:
    """A family, and f_θ(X) by other means, shape (n_samples, n_outputs)."""

    family: Callable[[], Family]
    function: Callable[[Tensor, Tensor], Tensor]
    n_features: int
    n_outputs: int


# -- a user's family: as little as can be, the rest being defaults ------------------------------


class Ridges(Family):
    """f(x)_q = Σ_j θ_qj sin(x_j + θ_qj): only what is abstract, and nothing fast."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        self.n_features, self.n_outputs = n_features, n_outputs
        self.n_params = n_features * n_outputs

    def initial(self, generator, *, input_scale=1.0):
        return input_scale * torch.randn(self.n_params, generator=generator, dtype=torch.float64)

    def outputs(self, theta, X):
        return ridges(theta, X)

    def linearize(self, theta, X):
        return RidgesLinearization(theta, X, ridges(theta, X))


class RidgesLinearization(Linearization):
    def __init__(self, theta, X, outputs):
        self.theta, self.X, self.outputs = theta, X, outputs

    @property
    def n_params(self):
        return len(self.theta)

    def _slopes(self):
        """∂f_q/∂θ_qj, shape (n_samples, n_outputs, n_features)."""
        p = self.theta.view(self.outputs.shape[1], -1)
        z = self.X[:, None, :] + p
        return torch.sin(z) + p * torch.cos(z)

    def push(self, v):
        return (self._slopes() * v.view(self.outputs.shape[1], -1)).sum(2)

    def pull(self, u):
        return (self._slopes() * u[:, :, None]).sum(0).reshape(-1)

    def cross_gram(self, other):
        left, right = self._slopes(), other._slopes()
        (n, Q, _), m = left.shape, len(right)
        kernel = left.new_zeros(n, Q, m, Q)
        for q in range(Q):  # outputs share no parameter
            kernel[:, q, :, q] = left[:, q] @ right[:, q].mT
        return kernel.view(n * Q, m * Q)

    def take(self, samples):
        return RidgesLinearization(self.theta, self.X[samples], self.outputs[samples])


def ridges(theta, X):
    p = theta.view(-1, X.shape[1])
    return (p * torch.sin(X[:, None, :] + p)).sum(2)


# -- the others -----------------------------------------------------------------------------------


def layered(sizes, activation):
    return Case(
        lambda: LayeredNetwork(sizes, activation),
        lambda theta, X: oracles.forward(theta, X, sizes, activation),
        sizes[0],
        sizes[-1],
    )


class Residual(nn.Module):
    """z ↦ V(z + tanh(Uz + z)) + b with z = Wx: W is used twice, and b is fixed."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shapes = {"W": (3, 4), "U": (4, 4), "V": (4, 2), "b": (2,)}
        for name, shape in shapes.items():
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            setattr(self, name, nn.Parameter(drawn))
        self.b.requires_grad_(False)

    def forward(self, X):
        z = X @ self.W
        return (z + torch.tanh(z @ self.U + X @ self.W)) @ self.V + self.b


_FIXED = Residual().b.detach()


def residual(theta, X):
    W, U, V = theta[:12].view(3, 4), theta[12:28].view(4, 4), theta[28:].view(4, 2)
    z = X @ W
    return (z + torch.tanh(z @ U + z)) @ V + _FIXED


@cache
def example():
    """The module of examples/scaled_inputs.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("scaled_inputs", _EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


def scaled(sizes):
    return Case(
        lambda: example().ScaledInputs(sizes, "silu"),
        lambda theta, X: oracles.forward(
            theta[sizes[0] :], X * theta[: sizes[0]].exp(), sizes, "silu"
        ),
        sizes[0],
        sizes[-1],
    )


def mean(case, n_members):
    def function(theta, X):
        parts = theta.chunk(n_members)
        return sum(case.function(part, X) for part in parts) / n_members

    def family():
        return MeanFamily(case.family(), n_members)

    return Case(family, function, case.n_features, case.n_outputs)


FAMILIES = {
    "tanh, two layers": layered((3, 5, 4, 2), "tanh"),
    "silu, one output": layered((3, 6, 1), "silu"),
    "gelu": layered((2, 5, 3), "gelu"),
    "softplus": layered((3, 4, 2), "softplus"),
    "linear": layered((3, 2), "tanh"),
    "module": Case(lambda: ModuleFamily(Residual(), 2), residual, 3, 2),
    "module in chunks": Case(lambda: ModuleFamily(Residual(), 2, 1000), residual, 3, 2),
    "example": scaled((3, 5, 4, 2)),
    "example, one output": scaled((4, 6, 1)),
    "example, linear": scaled((3, 2)),
    "user's, defaults only": Case(lambda: Ridges(3, 2), ridges, 3, 2),
    "mean of networks": mean(layered((3, 5, 4, 2), "tanh"), 2),
    "mean, one output": mean(layered((3, 6, 1), "silu"), 3),
    "mean of a user's": mean(Case(lambda: Ridges(3, 2), ridges, 3, 2), 2),
}
