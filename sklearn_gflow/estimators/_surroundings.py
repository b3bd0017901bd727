"""What surrounds a call: modes of torch that would change a fit, a machine that is full, a fork.

All of it is set aside for this thread and for the time of a call, but for the threads of a forked
process, which no call could bring back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import numpy as np
import torch

from sklearn_gflow.exceptions import GramMemoryError

__all__ = ["each_undisturbed", "undisturbed"]

T = TypeVar("T")
_END = object()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run a call as if torch and numpy were in their ordinary modes.

    Under ``inference_mode`` no derivative can be taken, ``autocast`` computes in half precision,
    a default device would take what belongs on the host, and numpy may be told to raise where a
    number becomes zero. Its warnings are silent: what is not finite is looked for where it counts,
    and told in words of ours. These modes belong to a thread, and so they can be set aside without
    any other noticing.

    Raises
    ------
    GramMemoryError
        In place of what the allocators of numpy and torch raise.
    """
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
        modes.enter_context(np.errstate(all="ignore"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        # torch.get_default_device fails in torch 2.6 once a default device was taken back.
        if torch.empty(0).device.type != "cpu":
            modes.enter_context(torch.device("cpu"))
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, GramMemoryError) or not _is_full(error):
                raise
            raise GramMemoryError(
                f"memory ran out on the way: {str(error).splitlines()[0]}; set batch_size or "
                "dtype='float32', lower hidden_layer_sizes, or hand over fewer rows"
            ) from error


def _is_full(error: BaseException) -> bool:
    """Whether an allocator raised it; that of torch on the CPU has no class for it."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def each_undisturbed(items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, each of which is made undisturbed; the caller's turn is not."""
    while True:
        with undisturbed():
            item = next(items, _END)
        if item is _END:
            return
        yield item  # type: ignore[misc]


def _one_thread() -> None:
    # A forked process has none of the threads that torch computes with, and waits for them for
    # ever. With one thread it does not ask for them.
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)
