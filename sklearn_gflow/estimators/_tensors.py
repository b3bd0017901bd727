"""The border between numpy and torch: arrays, devices, precisions and seeds.

All other files of this room call these functions where an array becomes a tensor or the reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import Tensor

__all__ = [
    "ITEMSIZES",
    "check_device",
    "generator_of",
    "host_tensor",
    "made_with_seed",
    "placed",
    "seed_of",
    "to_numpy",
    "to_tensor",
]

_DTYPES = {"float64": torch.float64, "float32": torch.float32}
ITEMSIZES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}


def check_device(device: str) -> torch.device:
    """The torch device of that name, if there is one on this machine.

    Raises
    ------
    ValueError
        If torch does not know the name, or has no such device here.
    """
    try:
        checked = torch.device(device)
        torch.ones(1, device=checked).item()  # which "meta" tensors, without values, refuse
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={device!r} is not available ({reason}); use device='cpu'"
        ) from error
    return checked


def seed_of(random_state: Any) -> int:
    """A seed for torch, drawn by scikit-learn's rules."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def generator_of(seed: int) -> torch.Generator:
    """A generator of its own for torch; on the CPU always."""
    return torch.Generator().manual_seed(seed)


def made_with_seed(factory: Callable[[int, int], Any], sizes: tuple[int, int], seed: int) -> Any:
    """What a factory makes from ``sizes``, with reproducible random parameters.

    torch's global generator stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory(*sizes)


def placed(module: torch.nn.Module, dtype: str, device: torch.device) -> torch.nn.Module:
    """The module itself, moved to a device and a precision."""
    return module.to(device=device, dtype=_DTYPES[dtype])


def to_tensor(array: ArrayLike | Tensor, dtype: str, device: torch.device) -> Tensor:
    """A tensor with its own memory: read-only and foreign-endian arrays are copied too."""
    if not isinstance(array, Tensor):
        with np.errstate(over="ignore"):  # numbers out of range become infinite, which flows report
            array = torch.from_numpy(np.array(array, dtype=dtype, order="C"))
    return array.to(dtype=_DTYPES[dtype], device=device)


def host_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the host, of the memory of a native array where that can be written."""
    return torch.from_numpy(np.require(array, requirements="W"))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """An array on the host with its own memory."""
    return tensor.detach().cpu().numpy().copy()
