"""The process group that a fit is shared by: who takes part, and that all want the same.

An estimator with ``distributed="auto"`` looks for a group of `torch.distributed` that its user
started. Nothing here knows of rows; these are in `_shares`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from numbers import Integral
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from sklearn_gflow.estimators._plain import in_words
from sklearn_gflow.estimators._tensors import seed_of
from sklearn_gflow.geometry import Ranks, RanksError

__all__ = ["DISTRIBUTED", "agreed", "by_all", "in_company", "ranks_of", "tells"]

T = TypeVar("T")

DISTRIBUTED = """
Whether ranks of a process group share one fit. "auto": within a group of ``torch.distributed``
that was started before, as by ``torchrun``, each rank hands ``fit`` rows of its own, and all end
with the same model; elsewhere it changes nothing. None never looks for a group.
"""
"""What the parameter is."""

# What each rank may have for itself.
_FREE = ("checkpoint", "verbose", "random_state", "max_memory", "device")


def ranks_of(estimator: Any) -> Ranks | None:
    """The ranks that a fit is shared by; None where it is that of one process."""
    if getattr(estimator, "distributed", None) is None or not dist.is_available():
        return None
    if not dist.is_initialized() or dist.get_world_size() < 2:
        return None
    # Of this back end all messages are on GPUs.
    nccl = dist.get_backend() == "nccl"
    return Ranks(None, torch.device("cuda", torch.cuda.current_device()) if nccl else "cpu")


def by_all(ranks: Ranks, make: Callable[[], T]) -> T:
    """What each rank makes for itself; if it fails on one of them, it fails on all.

    Raises
    ------
    Exception
        The own one, or a ValueError that tells of that of another rank.
    """
    made: Any = None
    failure: Exception | None = None
    try:
        made = make()
    except RanksError:
        raise
    except Exception as error:  # noqa: BLE001 - it is raised below, when the others know of it
        failure = error
    told = ranks.objects(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, text in enumerate(told):
        if text is not None:
            raise ValueError(f"rank {rank} of the process group cannot fit: {text}")
    return cast(T, made)


def agreed(estimator: Any, ranks: Ranks) -> Any:
    """A copy of the estimator with the seed of rank 0.

    Raises
    ------
    ValueError
        If ranks have other parameters, or some that no group can follow.
    """
    _check(estimator)
    given = {declared.name: getattr(estimator, declared.name) for declared in fields(estimator)}
    words = {name: in_words(value) for name, value in given.items() if name not in _FREE}
    for rank, other in enumerate(ranks.objects(words)):
        if differing := [name for name in words if words[name] != other.get(name)]:
            name = differing[0]
            raise ValueError(
                f"{name} is {other.get(name)} on rank {rank} and {words[name]} on rank "
                f"{ranks.rank}; all ranks of a process group must fit the same estimator"
            )
    estimator = copy.copy(estimator)
    seed = estimator.random_state
    if not isinstance(seed, Integral):
        seed = seed_of(seed)
    estimator.random_state = ranks.shared(seed)
    return estimator


def tells(estimator: Any) -> bool:
    """Whether this process tells of the fit: of several ranks the first one."""
    ranks = ranks_of(estimator)
    return ranks is None or ranks.rank == 0


def _check(estimator: Any) -> None:
    """Refuse what is of one process."""
    unfit = {
        f"method={estimator.method!r}": (estimator.method != "exponential", "'exponential'"),
        "early_stopping='loo'": (estimator.early_stopping == "loo", "True or False"),
        "warm_start=True after a fit": (
            estimator.warm_start and hasattr(estimator, "n_iter_"),
            "False, or fit a new estimator",
        ),
    }
    for setting, (met, cure) in unfit.items():
        if met:
            raise ValueError(
                f"{setting} is for one process, and distributed='auto' found a process group; set "
                f"it to {cure}, or distributed=None"
            )


@contextmanager
def in_company(estimator: Any) -> Iterator[None]:
    """A call that other ranks may leave, which is then told in words of ours.

    Raises
    ------
    RuntimeError
        If a rank has ended, or did not answer within the timeout of the group.
    """
    try:
        yield
    except RanksError as error:
        kept = "" if estimator.checkpoint is None else f", from {estimator.checkpoint!r}"
        cure = (
            f"Start all of them again: the same fit goes on where rank 0 last wrote it down{kept}"
            if kept
            else "Start all of them again; with checkpoint= a fit goes on where it was left"
        )
        raise RanksError(f"{error}. {cure}.") from error
