"""Networks of an estimator: what its parameters build, and what a fit keeps of it.

A fit keeps numpy arrays. Torch objects are made again when they are used, so that a pickle crosses
machines and devices. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch

from sklearn_gflow.estimators._rows import row_chunks
from sklearn_gflow.estimators._tensors import made_with_seed, placed, to_numpy, to_tensor
from sklearn_gflow.geometry import Family, LayeredNetwork, Linearization, ModuleFamily

__all__ = ["Architecture", "FittedNetwork", "hidden_widths"]


def hidden_widths(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """The widths as integers.

    Raises
    ------
    ValueError
        If one of them is no positive integer.
    """
    widths = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    for width in widths:
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
            raise ValueError(
                "hidden_layer_sizes must hold positive integers, one a hidden layer; "
                f"got {hidden_layer_sizes!r}"
            )
    return tuple(int(width) for width in widths)


@dataclass(frozen=True)
class Architecture:
    """What builds a family f_θ for a table: layers, or a callable of the user's.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : str
        Of these.
    module : callable or None
        ``(n_features, n_outputs) -> torch.nn.Module or Family``, in place of the layers.
    dtype : str
        Of a module's parameters.
    """

    hidden: tuple[int, ...]
    activation: str
    module: Callable[[int, int], Any] | None
    dtype: str

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Architecture:
        """What the parameters of an estimator name."""
        module = parameters["module"]
        hidden = () if module is not None else hidden_widths(parameters["hidden_layer_sizes"])
        return cls(hidden, parameters["activation"], module, parameters["dtype"])

    def family(
        self, n_features: int, n_outputs: int, device: torch.device, seed: int = 0
    ) -> Family:
        """The functions f_θ of so many features and outputs.

        Raises
        ------
        TypeError
            If the user's callable returns neither a module nor a family.
        ValueError
            If its family has another number of outputs.
        """
        if self.module is None:
            return LayeredNetwork((n_features, *self.hidden, n_outputs), self.activation)
        made = made_with_seed(self.module, (n_features, n_outputs), seed)
        if isinstance(made, torch.nn.Module):
            return ModuleFamily(placed(made, self.dtype, device), n_outputs)
        if not isinstance(made, Family):
            raise TypeError(
                "module must be a callable (n_features, n_outputs) -> torch.nn.Module or "
                f"sklearn_gflow.geometry.Family; it returned {type(made).__name__}"
            )
        if made.n_outputs != n_outputs:
            raise ValueError(
                f"module must make a family of {n_outputs} outputs here, and made one of "
                f"{made.n_outputs}"
            )
        return made


@dataclass(frozen=True)
class FittedNetwork:
    """f_θ − f_θ₀ of a fit, as arrays.

    Attributes
    ----------
    architecture : Architecture
        What builds the family again.
    n_features, n_outputs : int
        M and Q.
    theta, reference : ndarray of shape (K,)
        θ of the solution and θ₀, whose outputs the model subtracts.
    state : dict of ndarray
        What the family depends on besides, such as buffers of a module.
    path : ndarray of shape (n_points, K) or None
        θ along the path, where it was kept.
    """

    architecture: Architecture
    n_features: int
    n_outputs: int
    theta: np.ndarray
    reference: np.ndarray
    state: dict[str, np.ndarray] = field(default_factory=dict)
    path: np.ndarray | None = None

    @property
    def dtype(self) -> str:
        """Of the computation and of predictions."""
        return self.architecture.dtype

    def family(self, device: torch.device) -> Family:
        """The functions f_θ, as they were trained."""
        family = self.architecture.family(self.n_features, self.n_outputs, device)
        return family.restored({name: torch.from_numpy(a) for name, a in self.state.items()})

    def linearize(
        self,
        X: np.ndarray,
        device: torch.device,
        theta: np.ndarray | None = None,
        dtype: str | None = None,
    ) -> Linearization:
        """f_θ(X) to first order, by default at the solution in the precision of the fit."""
        dtype = dtype or self.dtype
        at = to_tensor(self.theta if theta is None else theta, dtype, device)
        return self.family(device).linearize(at, to_tensor(X, dtype, device))

    def exact_dtype(self, device: torch.device) -> str:
        """The precision for small eigenvalues: float64, where the family is not tied to another."""
        return "float64" if self.family(device).any_precision else self.dtype

    def model(self, X: np.ndarray, device: torch.device) -> np.ndarray:
        """f_θ(X) − f_θ₀(X) at the solution, shape (n_samples, n_outputs)."""
        return next(self.models(X, device, self.theta[None]))

    def models(
        self, X: np.ndarray, device: torch.device, thetas: np.ndarray
    ) -> Iterator[np.ndarray]:
        """f_θ(X) − f_θ₀(X) for several θ."""
        family, dtype = self.family(device), self.dtype

        def outputs(theta: np.ndarray) -> np.ndarray:
            at = to_tensor(theta, dtype, device)
            parts = [
                to_numpy(family.outputs(at, to_tensor(X[rows], dtype, device)))
                for rows in row_chunks(len(X))  # X may be mapped from disk
            ]
            return np.concatenate(parts)

        start = outputs(self.reference)
        for theta in thetas:
            yield outputs(theta) - start
