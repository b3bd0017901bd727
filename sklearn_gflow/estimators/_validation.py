"""The border: numpy ↔ torch, device, dtype, seeds, memory, and scikit-learn's private helpers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, validation
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from sklearn_gflow.exceptions import GramMemoryError
from sklearn_gflow.geometry import Shape, solver_for

__all__ = [
    "FULL_BATCH_SIZE",
    "Interval",
    "StrOptions",
    "_fit_context",
    "block_rows",
    "block_solver",
    "check_alpha",
    "check_device",
    "check_fitted_data",
    "check_gram_memory",
    "check_schedule",
    "check_weights",
    "hold_out",
    "module_with_seed",
    "place_module",
    "seed_generator",
    "to_numpy",
    "to_tensor",
    "validate_data",
]

validate_data: Callable[..., Any] = validation.validate_data

FULL_BATCH_SIZE = 2000
_BLOCK_ROWS = 256
_SHARED_OUTPUTS = 3  # from so many on, blocks share one kernel across outputs

_DTYPES = {"float64": torch.float64, "float32": torch.float32}
_ITEMSIZES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}


def check_alpha(alpha: float) -> float:
    """α as a float; True and False, which pass for numbers, are mistakes here."""
    if isinstance(alpha, bool | np.bool_):
        raise ValueError(f"alpha must be a number in [0, 1], got the boolean {alpha}")
    return float(alpha)


def check_schedule(schedule: Any, t_end: float) -> list[float] | None:
    """The times t of the steps; None leaves them to the flow."""
    if isinstance(schedule, str):
        return None
    if isinstance(schedule, bool | np.bool_):
        raise ValueError(
            f"schedule must be 'adaptive', a number of steps or a sequence of times, got {schedule}"
        )
    if np.ndim(schedule) == 0:
        return [float(t) for t in np.linspace(0, t_end, int(schedule) + 1)[1:]]
    try:
        times = np.asarray(schedule, dtype=np.float64)
    except (TypeError, ValueError):
        times = np.empty(0)
    increasing = times.ndim == 1 and times.size > 0 and bool((np.diff(times) > 0).all())
    if not (increasing and times[0] > 0 and times[-1] <= t_end):
        raise ValueError(
            "schedule must be an increasing sequence of times in (0, t_end], here "
            f"(0, {t_end}]; got {schedule!r}"
        )
    return [float(t) for t in times]


def check_device(device: str) -> torch.device:
    """The torch device of that name, if there is one on this machine.

    Raises
    ------
    ValueError
        If torch does not know the name, or has no such device here.
    """
    try:
        checked = torch.device(device)
        torch.ones(1, device=checked).item()  # "meta" has no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={device!r} is not available ({reason}); use device='cpu'"
        ) from error
    return checked


def check_weights(sample_weight: ArrayLike | None, X: np.ndarray) -> np.ndarray | None:
    """Sample weights as float64, or None.

    Raises
    ------
    ValueError
        If a weight is negative, not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if (weights < 0).any():
        raise ValueError("sample_weight has negative values; weights must be zero or positive")
    if not weights.any():
        raise ValueError(
            "sample_weight is zero for every row; at least one weight must be positive"
        )
    return weights


def block_rows(
    batch_size: Any,
    n_samples: int,
    n_outputs: int,
    n_params: int,
    *,
    solver: str,
    method: str,
    damping: float,
    block_damping: float,
    dtype: str,
    device: torch.device,
    chunk: bool = False,
) -> int | None:
    """Rows of a block; None for the full batch, which a block of all rows is too.

    "auto" takes the full batch while the matrix that is factorised and the one that it is made
    of have at most ``FULL_BATCH_SIZE``² entries: up to that many outputs, and more with few
    parameters. With ``solver="krylov"`` there is no such matrix, and "auto" takes the full batch
    while its vectors fit. A chunk is part of something larger, and "auto" cuts it whatever its
    size.

    Raises
    ------
    ValueError
        If blocks are asked for together with something that has the full batch only, or
        ``solver="shared"`` together with a classical integrator, or without a ridge.
    """
    if solver == "shared" and method != "exponential":
        raise ValueError(
            f"solver='shared' is an approximation, and method={method!r} is there as a reference; "
            "set solver='auto', or method='exponential'"
        )
    # Small eigenvalues of G are not those of K̄: without a ridge the flow would crawl.
    if solver == "shared" and n_outputs > 1 and block_damping == 0:
        raise ValueError("solver='shared' needs a ridge; set damping > 0, or damping='auto'")
    if solver == "shared" and n_outputs > 1 and batch_size is None and damping == 0:
        raise ValueError(
            "solver='shared' needs a ridge in the full batch; set damping > 0, or batch_size"
        )
    if solver == "shared" and n_outputs > 1 and batch_size == "auto" and damping == 0:
        return _BLOCK_ROWS  # where the ridge is there by default
    size = n_samples * (1 if solver == "shared" else n_outputs)
    if batch_size is None or (batch_size != "auto" and batch_size >= n_samples):
        return None
    if batch_size == "auto":
        small = size * min(size, n_params) <= FULL_BATCH_SIZE**2
        if solver == "krylov":
            shape = Shape(n_samples, n_outputs, n_params)
            needed = solver_for(solver, n_outputs).working_bytes(shape, _ITEMSIZES[dtype])
            small = needed <= _available_bytes(device)
        return None if (small and not chunk) or method != "exponential" else _BLOCK_ROWS
    if method != "exponential":
        raise ValueError(
            f"method={method!r} integrates the full batch; set batch_size=None, or "
            "method='exponential' for blocks"
        )
    return int(batch_size)


def hold_out(
    n_samples: int, fraction: float, random_state: Any, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to train on and of those held out; by class where there are labels.

    Raises
    ------
    ValueError
        If a part would be empty, or a class absent from one.
    """
    try:
        training, held_out = train_test_split(
            np.arange(n_samples), test_size=fraction, random_state=random_state, stratify=labels
        )
    except ValueError as error:
        raise ValueError(
            f"early_stopping=True cannot hold out validation_fraction={fraction} of {n_samples} "
            f"rows ({error}); change validation_fraction, hand over X_val and y_val, or set "
            "early_stopping='loo', which needs no split"
        ) from error
    return np.sort(training), np.sort(held_out)


def block_solver(solver: str, n_outputs: int) -> str:
    """The solver in blocks: what "auto" means there with that many outputs."""
    return "shared" if solver == "auto" and n_outputs >= _SHARED_OUTPUTS else solver


def check_gram_memory(
    n_samples: int,
    n_outputs: int,
    n_params: int,
    dtype: str,
    solver: str,
    device: torch.device,
    *,
    batch_size: int | None = None,
    stores: bool = False,
    leave_one_out: bool = False,
) -> None:
    """Refuse a Gram that would not fit, before anything of its size is allocated.

    Raises
    ------
    GramMemoryError
        Naming the bytes and the parameters to change.
    """
    rows = n_samples if batch_size is None else batch_size
    itemsize = _ITEMSIZES[dtype]
    if leave_one_out and solver == "krylov":  # it asks for eigenvectors
        solver = "eigh"
    shape = Shape(rows, n_outputs, n_params)
    needed = solver_for(solver, n_outputs).working_bytes(shape, itemsize)
    # A Gram that is stored is formed with few parameters too.
    kept = 3 * itemsize * (rows * n_outputs) ** 2 if stores and batch_size is None else 0
    needed, forced = max(needed, kept), kept > needed
    available = _available_bytes(device)
    if needed <= available:
        return
    if leave_one_out:
        kind, cures = "leave-one-out", ["set early_stopping=True (a search: cv=5)"]
    elif batch_size is None:
        kind, cures = "full-batch training", ["set batch_size, to 'auto' for instance"]
    else:
        kind, cures = "training in blocks", ["lower batch_size"]
    if dtype == "float64":
        cures.insert(0, "set dtype='float32'")
    if solver == "svd":
        cures.insert(0, "set solver='auto'")
    if forced:
        cures.insert(0, "set store_gram=False")
    full_batch, matrix_free = batch_size is None and not leave_one_out, solver == "krylov"
    needed_free = solver_for("krylov", n_outputs).working_bytes(shape, itemsize)
    if full_batch and not (forced or matrix_free) and needed_free <= available:
        cures.append("set solver='krylov'")
    purpose = "the Gram and its factorisation"
    if matrix_free and not forced:
        purpose = "columns of the Gram"
    raise GramMemoryError(
        f"{kind} on {rows} rows × {n_outputs} outputs needs {needed} bytes "
        f"for {purpose}, and {available} bytes are available on {device}; " + ", or ".join(cures)
    )


def _available_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: the physical memory bounds what can be had
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63 // 4096
        return pages * 4096


def seed_generator(random_state: Any) -> torch.Generator:
    """A generator of its own for torch, seeded by scikit-learn's rules; on the CPU always."""
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return torch.Generator().manual_seed(int(seed))


def module_with_seed(
    factory: Callable[[int, int], torch.nn.Module], n_features: int, n_outputs: int, seed: int
) -> torch.nn.Module:
    """A module with reproducible random parameters; torch's global generator stays as it was.

    Raises
    ------
    TypeError
        If the factory makes something else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = factory(n_features, n_outputs)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            "module must be a callable (n_features, n_outputs) -> torch.nn.Module; it returned "
            f"{type(module).__name__}"
        )
    return module


def place_module(module: torch.nn.Module, dtype: str, device: str) -> torch.nn.Module:
    """The module itself, moved to a device and a precision."""
    return module.to(device=check_device(device), dtype=_DTYPES[dtype])


def to_tensor(array: ArrayLike | Tensor, dtype: str, device: torch.device) -> Tensor:
    """A tensor with its own memory: read-only and foreign-endian arrays are copied too."""
    if not isinstance(array, Tensor):
        with np.errstate(over="ignore"):  # what is out of range is infinite, which flows report
            array = torch.from_numpy(np.array(array, dtype=dtype, order="C"))
    return array.to(dtype=_DTYPES[dtype], device=device)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """An array on the host with its own memory."""
    return tensor.detach().cpu().numpy().copy()


def check_fitted_data(estimator: BaseEstimator, X: ArrayLike) -> np.ndarray:
    """X for a fitted estimator: numbers, two axes, the features of ``fit``."""
    checked: np.ndarray = validate_data(
        estimator, X, dtype=[np.float64, np.float32], order="C", reset=False
    )
    return checked
