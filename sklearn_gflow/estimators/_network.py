"""Networks of an estimator: what its parameters build, and what a fit keeps of it.

A fit keeps numpy arrays. Torch objects are made again when they are used, so that a pickle crosses
machines and devices. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch

from sklearn_gflow.estimators._importance import gradients_in_columns
from sklearn_gflow.estimators._reading import read
from sklearn_gflow.estimators._rows import as_tensor, chunks_for, few
from sklearn_gflow.estimators._sparse import SparseRows, dense
from sklearn_gflow.estimators._tensors import (
    check_device,
    host_tensor,
    made_with_seed,
    sparse_tensor,
    to_numpy,
    to_tensor,
)
from sklearn_gflow.estimators._threads import in_threads
from sklearn_gflow.geometry import (
    Family,
    LayeredNetwork,
    Linearization,
    MeanFamily,
    ModuleFamily,
)

__all__ = ["Architecture", "FittedNetwork", "Witness", "few_rows", "hidden_widths"]

# So many rows bear witness of what was trained.
_WITNESSES = 4
# So many rows are predicted at once, times the bytes of a number: activations of a hundred neurons
# stay in a core's cache, and threads that share an interpreter seldom wait for it. On two cores
# 10⁷ rows took 15.8 s in float64 and 8.5 s in float32, with half of them 19.0 s and 9.7 s.
_CHUNK_BYTES = 2**14
_Function = Callable[[torch.Tensor], torch.Tensor]
_ANOTHER = (
    "module makes another network than the one that was trained when it is called again; keep what "
    "its outputs depend on in parameters, buffers or attributes that are tensors, which a fit "
    "keeps, and draw random numbers from torch, which a fit seeds"
)


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
    n_members : int
        Of so many networks the family is the mean.
    """

    hidden: tuple[int, ...]
    activation: str
    module: Callable[[int, int], Any] | None
    dtype: str
    n_members: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Architecture:
        """What the parameters of an estimator name.

        Raises
        ------
        ValueError
            If ``module`` is itself a module, and so a callable of another kind.
        """
        module = parameters["module"]
        if isinstance(module, torch.nn.Module):
            raise ValueError(
                "module must be a callable (n_features, n_outputs) -> torch.nn.Module, and is a "
                f"{type(module).__name__} itself; hand over module=lambda n_features, n_outputs: "
                "net, which trains a copy of it, or the class"
            )
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
            network = LayeredNetwork((n_features, *self.hidden, n_outputs), self.activation)
            return network if self.n_members == 1 else MeanFamily(network, self.n_members)
        made = made_with_seed(self.module, (n_features, n_outputs), seed)
        if isinstance(made, torch.nn.Module):
            return ModuleFamily.copied(made, n_outputs, to_tensor([], self.dtype, device))
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


def few_rows(X: np.ndarray) -> np.ndarray:
    """Some rows of a table, from its first to its last."""
    return np.array(dense(read(X, few(len(X), _WITNESSES))))


@dataclass(frozen=True)
class Witness:
    """Outputs of a network on a few rows, by which it is known again.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        The rows.
    outputs : ndarray of shape (n_rows, n_outputs)
        f_θ of them.
    """

    X: np.ndarray
    outputs: np.ndarray

    @classmethod
    def of(cls, family: Family, theta: torch.Tensor, X: np.ndarray, dtype: str) -> Witness:
        """What a family says of rows."""
        return cls(X, to_numpy(family.outputs(theta, to_tensor(X, dtype, theta.device))))

    def check(self, outputs: np.ndarray) -> None:
        """Hold outputs for the same rows to these.

        Raises
        ------
        ValueError
            If they differ by more than what another machine may round otherwise.
        """
        # A fit that goes on may do so in another precision.
        tolerance = max(float(np.finfo(a.dtype).eps) for a in (outputs, self.outputs)) ** 0.5
        scale = float(np.abs(self.outputs).max(initial=0.0))
        if not np.allclose(outputs, self.outputs, tolerance, tolerance * scale, equal_nan=True):
            raise ValueError(_ANOTHER)


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
    seed : int
        With which a callable of the user's makes the family again.
    trained_on : str
        The device of the fit.
    witness : Witness or None
        What the trained family of a user's callable says of a few rows, at ``theta``.
    """

    architecture: Architecture
    n_features: int
    n_outputs: int
    theta: np.ndarray
    reference: np.ndarray
    state: dict[str, np.ndarray] = field(default_factory=dict)
    path: np.ndarray | None = None
    seed: int = 0
    trained_on: str = "cpu"
    witness: Witness | None = None

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        family: Family,
        start: torch.Tensor,
        reference: np.ndarray,
        rows: np.ndarray,
        seed: int,
    ) -> FittedNetwork:
        """The network at the start of a fit; rows bear witness where a callable makes it.

        Raises
        ------
        ValueError
            If a callable of the user's makes another network the second time.
        """
        state = {name: to_numpy(value) for name, value in family.state().items()}
        network = cls(
            architecture, rows.shape[1], family.n_outputs, to_numpy(start), reference, state,
            seed=seed, trained_on=str(start.device),
            witness=None if architecture.module is None else Witness(rows, np.empty(0)),
        )  # fmt: skip
        return network.ended(family, start)

    def ended(
        self, family: Family, theta: torch.Tensor, path: np.ndarray | None = None
    ) -> FittedNetwork:
        """The same with the θ that a family has come to, and its word for it.

        Raises
        ------
        ValueError
            If a callable of the user's makes another network now.
        """
        ended = replace(self, theta=to_numpy(theta), path=path)
        if self.witness is None:
            return ended
        ended = replace(ended, witness=Witness.of(family, theta, self.witness.X, self.dtype))
        ended.family()
        return ended

    @property
    def is_layered(self) -> bool:
        """Whether it is made of layers, and no callable of the user's makes it."""
        return self.architecture.module is None

    def parts(self, family: Family | None = None) -> dict[str, Any]:
        """Arrays of θ and θ₀ by the names that the family gives them; of θ₀ with "init_" behind."""
        family = family or self.family(torch.device("cpu"))
        last, first = (
            family.fitted_attributes(host_tensor(theta)) for theta in (self.theta, self.reference)
        )
        starts = {f"{name}init_": first[name] for name in first if not isinstance(first[name], int)}
        return {name: _arrays(part) for name, part in {**last, **starts}.items()}

    @property
    def device(self) -> torch.device:
        """That of the fit; the CPU on a machine without it."""
        try:
            return check_device(self.trained_on)
        except ValueError:
            return torch.device("cpu")

    @property
    def dtype(self) -> str:
        """Of the computation and of predictions."""
        return self.architecture.dtype

    def family(self, device: torch.device | None = None) -> Family:
        """The functions f_θ, as they were trained; by default on the device of the fit.

        Raises
        ------
        ValueError
            If a callable of the user's makes others now.
        """
        device = device or self.device
        made = self.architecture.family(self.n_features, self.n_outputs, device, self.seed)
        if made.n_params != len(self.theta):
            raise ValueError(_ANOTHER)
        state = {name: torch.from_numpy(array) for name, array in self.state.items()}
        family = made.restored(state)
        if (witness := self.witness) is not None:
            theta = to_tensor(self.theta, self.dtype, device)
            witness.check(Witness.of(family, theta, witness.X, self.dtype).outputs)
        return family

    def linearize(
        self, X: np.ndarray, theta: np.ndarray | None = None, dtype: str | None = None
    ) -> Linearization:
        """f_θ(X) to first order, by default at the solution in the precision of the fit."""
        dtype, device = dtype or self.dtype, self.device
        at = to_tensor(self.theta if theta is None else theta, dtype, device)
        family = self.family(device)
        return family.linearize(at, as_tensor(family, X, dtype, device))

    @property
    def exact_dtype(self) -> str:
        """The precision for small eigenvalues: float64, where the family is not tied to another."""
        return "float64" if self.family().any_precision else self.dtype

    def model(self, X: np.ndarray) -> np.ndarray:
        """f_θ(X) − f_θ₀(X) at the solution, shape (n_samples, n_outputs)."""
        solution, reference, device = self._functions if self._are_layers else self._made()
        return self._outputs(X, lambda rows: solution(rows) - reference(rows), device)

    def models(self, X: np.ndarray, thetas: np.ndarray) -> Iterator[np.ndarray]:
        """f_θ(X) − f_θ₀(X) for several θ, of which f_θ₀ is evaluated once."""
        device = self.device
        family = self.family(device)
        start, *solutions = (
            family.at(self._tensor(theta, device)) for theta in (self.reference, *thetas)
        )
        at_start = self._outputs(X, start, device)
        for solution in solutions:
            yield self._outputs(X, solution, device) - at_start

    def input_gradients(self, X: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """∂(f_θ − f_θ₀)/∂x at the solution, chunk by chunk: (n_rows, n_outputs, n_features)."""
        device = self.device
        theta, reference = (
            to_tensor(array, self.dtype, device) for array in (self.theta, self.reference)
        )
        return gradients_in_columns(self.family(device), theta, X, self.dtype, reference)

    def _outputs(self, X: np.ndarray, function: _Function, device: torch.device) -> np.ndarray:
        """What a function says of rows, chunk by chunk: X may be mapped from disk."""
        chunk = _CHUNK_BYTES // np.dtype(self.dtype).itemsize
        if len(X) <= chunk:
            return to_numpy(function(self._tensor(read(X, slice(None)), device)))
        found = np.empty((len(X), self.n_outputs), self.dtype)

        def fill(rows: slice) -> None:
            columns, outputs = read(X, rows), found[rows]
            for some in chunks_for(columns, chunk, sparse=self._are_layers):
                outputs[some] = to_numpy(function(self._tensor(columns[some], device)))

        chunks = list(chunks_for(X, sparse=self._are_layers))
        # Only layers are known to allow several threads at once.
        if self._are_layers and device.type == "cpu":
            in_threads(fill, chunks)
        else:
            for rows in chunks:
                fill(rows)
        return found

    @cached_property
    def _functions(self) -> tuple[_Function, _Function, torch.device]:
        """Those of the solution, which threads share where they are layers."""
        return self._made()

    def _made(self) -> tuple[_Function, _Function, torch.device]:
        """f_θ at the solution, f_θ₀, and where they are computed."""
        device = self.device
        family = self.family(device)
        solution, reference = (
            family.at(self._tensor(theta, device)) for theta in (self.theta, self.reference)
        )
        return solution, reference, device

    @property
    def _are_layers(self) -> bool:
        """Whether the family is of this package, which changes no array that it is given."""
        return self.architecture.module is None

    def _tensor(self, array: Any, device: torch.device) -> torch.Tensor:
        """An array in the precision of the fit; what is no user's own needs no copy of it."""
        if isinstance(array, SparseRows):
            if self._are_layers:
                return sparse_tensor(array.matrix, self.dtype, device)
            array = array.toarray()
        values = host_tensor(np.asarray(array, self.dtype)) if self._are_layers else array
        return to_tensor(values, self.dtype, device)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or a copy holds: arrays."""
        return {name: value for name, value in vars(self).items() if name != "_functions"}


def _arrays(part: Any) -> Any:
    """Tensors in a list or a dict, or alone, as arrays."""
    if isinstance(part, torch.Tensor):
        return to_numpy(part)
    if isinstance(part, Mapping):
        return {name: _arrays(value) for name, value in part.items()}
    return [_arrays(value) for value in part] if isinstance(part, list) else part
