"""Plain values as JSON and arrays, and back; digests of arrays, and parameters in words.

Plain are None, truth values, numbers, text, arrays, tensors, and lists, tuples and dicts of these.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_gflow.estimators._tensors import to_numpy

__all__ = ["Reader", "Writer", "digest", "in_words", "on_device"]

_DIGEST_BYTES = 8


class Writer:
    """Makes forms of plain values: what JSON holds, and arrays that the forms name."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def form(self, value: Any) -> Any:
        """The form of a value."""
        if isinstance(value, dict):
            return {"dict": {name: self.form(part) for name, part in value.items()}}
        if isinstance(value, Tensor):
            return {"tensor": self._named(to_numpy(value))}
        if isinstance(value, np.ndarray):
            return {"array": self._named(value)}
        if isinstance(value, list) and value and all(type(part) is float for part in value):
            return {"floats": self._named(np.array(value))}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.form(part) for part in value]}
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(float(value))}
        return value

    def _named(self, array: np.ndarray) -> str:
        name = str(len(self.arrays))
        self.arrays[name] = array
        return name


class Reader:
    """Makes plain values of forms again.

    Parameters
    ----------
    arrays : dict of ndarray
        As a `Writer` left them.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.kinds: dict[str, Callable[[Any], Any]] = {
            "dict": lambda parts: {name: self.value(part) for name, part in parts.items()},
            "tensor": lambda name: torch.from_numpy(arrays[name]),
            "array": lambda name: arrays[name],
            "floats": lambda name: arrays[name].tolist(),
            "list": lambda parts: [self.value(part) for part in parts],
            "tuple": lambda parts: tuple(self.value(part) for part in parts),
            "float": float,
        }

    def value(self, form: Any) -> Any:
        """The value of a form."""
        if not isinstance(form, dict):
            return form
        ((kind, content),) = form.items()
        return self.kinds[kind](content)


def on_device(value: Any, device: torch.device) -> Any:
    """The same with all tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: on_device(part, device) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([on_device(part, device) for part in value])
    return value


def digest(*parts: Any) -> str:
    """A short digest of arrays and of anything that says what it is by ``repr``."""
    made = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype != object:
            made.update(repr((part.shape, part.dtype.str)).encode())
            made.update(np.ascontiguousarray(part).tobytes())
        else:
            part = part.tolist() if isinstance(part, np.ndarray) else part
            made.update(repr(part).encode())
    return made.hexdigest()


def in_words(value: Any) -> str:
    """What a parameter is, the same in every process: without addresses, and arrays by digests."""
    if isinstance(value, np.random.RandomState):
        kind, keys, *rest = value.get_state(legacy=True)
        return f"RandomState({digest(kind, keys, rest)})"
    if isinstance(value, np.ndarray):
        return f"array({digest(value)})"
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, list | tuple):
        return f"[{', '.join(in_words(part) for part in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {in_words(part)}' for k, part in value.items())}}}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    state = in_words(vars(value)) if hasattr(value, "__dict__") else ""
    return f"{type(value).__module__}.{type(value).__qualname__}({state})"
