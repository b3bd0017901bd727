"""The border between numpy and torch: arrays, devices, precisions and seeds.

All other files of this room call these functions where an array becomes a tensor or the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "ITEMSIZES",
    "check_device",
    "generator_of",
    "host_tensor",
    "made_with_seed",
    "readable",
    "seed_of",
    "sparse_tensor",
    "to_numpy",
    "to_tensor",
]

_DTYPES = {"float64": torch.float64, "float32": torch.float32}
ITEMSIZES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}


def check_device(device: str) -> torch.device:
    """The torch device of that name, if there is one on this machine; "auto" finds one.

    "auto" is CUDA where torch has it, and the CPU elsewhere. That of Apple has no float64, and is
    taken where it is named only.

    Raises
    ------
    ValueError
        If torch does not know the name, or has no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        checked = torch.device(device)
        if checked.type == "cpu":  # which is always there
            return checked
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


class _Seeded(TorchDispatchMode):
    """Hands every random operation of torch in this thread a generator at a seed.

    Seeding torch's global generator and setting it back would disturb whoever draws from it in
    another thread, and two such fits at once would leave it where neither found it. A dispatch
    mode is seen by its own thread alone, and the global generator is not touched at all. The
    numbers are those that the global generator would give at the seed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        func = _with_generator(func)
        into = args[0] if args and isinstance(args[0], Tensor) else None
        takes = any(argument.name == "generator" for argument in func._schema.arguments)
        if takes and kwargs.get("generator") is None:
            device = kwargs.get("device") or ("cpu" if into is None else into.device)
            kwargs["generator"] = self._at(torch.device(device))
        # Numbers are drawn in torch's own default precision, so that another default of the
        # user's rounds them and does not exchange them.
        default = torch.get_default_dtype()
        if into is None and kwargs.get("dtype") == default:
            return func(*args, **{**kwargs, "dtype": torch.float32}).to(default)
        if into is not None and into.dtype == default and func._schema.is_mutable:
            return into.copy_(func(into.float(), *args[1:], **kwargs))
        return func(*args, **kwargs)

    def _at(self, device: torch.device) -> torch.Generator | None:
        if device.type == "meta":  # without values there is nothing to draw
            return None
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]


def _with_generator(func: Any) -> Any:
    """The variant of a random operation that takes a generator, where it has one."""
    name = func._overloadname
    sought = "generator" if name == "default" else f"{name}_generator"
    return getattr(func.overloadpacket, sought, func)


def made_with_seed(factory: Callable[[int, int], Any], sizes: tuple[int, int], seed: int) -> Any:
    """What a factory makes from ``sizes``, with reproducible random parameters.

    torch's global generator is neither used nor moved.
    """
    with _Seeded(seed):
        return factory(*sizes)


def to_tensor(array: ArrayLike | Tensor, dtype: str, device: torch.device) -> Tensor:
    """A tensor with its own memory: read-only and foreign-endian arrays are copied too."""
    if not isinstance(array, Tensor):
        with np.errstate(over="ignore"):  # numbers out of range become infinite, which flows report
            array = torch.from_numpy(np.array(array, dtype=dtype, order="C"))
    return array.to(dtype=_DTYPES[dtype], device=device)


def sparse_tensor(matrix: Any, dtype: str, device: torch.device) -> Tensor:
    """A coalesced COO tensor of a CSR array without duplicates."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    places = torch.from_numpy(np.stack([rows, matrix.indices.astype(np.int64)]))
    values = to_tensor(matrix.data, dtype, device)
    return torch.sparse_coo_tensor(
        places.to(device), values, matrix.shape, is_coalesced=True, check_invariants=False
    )


def readable(array: Any, name: str) -> Any:
    """What a user hands over; of a tensor the array.

    Raises
    ------
    ValueError
        If a tensor has to become another before it can be read as an array.
    """
    if isinstance(array, list) and array and isinstance(array[0], Tensor):
        return [readable(row, name) for row in array]
    if not isinstance(array, Tensor):
        return array
    if array.requires_grad:
        raise ValueError(
            f"{name} is a tensor that requires a gradient, which a fit has none of; hand over "
            f"{name}.detach()"
        )
    try:
        return array.numpy()
    except (TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{name} is a tensor that is no array ({reason}); hand over a dense one of numbers on "
            f"the host, such as {name}.cpu().double()"
        ) from error


def host_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the host, of the memory of a native array where that can be written."""
    return torch.from_numpy(np.require(array, requirements="W"))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """An array on the host with its own memory."""
    return tensor.detach().cpu().numpy().copy()
