"""How many threads a piece of work takes: those of torch inside it, or one for each piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from sklearn_gflow.estimators._surroundings import undisturbed

__all__ = ["few_threads", "in_threads", "threads_of_blocks"]

# Blocks of at most so many rows and networks of at most so many parameters have small matrices. On
# 16 cores with nothing else to do a fit of 100,000 rows took 5.4 s of one thread and 5.2 s of two,
# which is twice the processor time; beside other work two waited for each other, 30 times as long.
_SMALL_ROWS, _SMALL_NETWORK = 512, 50_000


@contextmanager
def few_threads(n_threads: int) -> Iterator[None]:
    """Let torch compute with few threads in this thread; joblib sees to other processes."""
    torch.get_num_threads()  # the first call in a thread sets their number
    with threadpool_limits(n_threads, user_api="openmp"):
        yield


@contextmanager
def threads_of_blocks(n_rows: int, n_params: int, device: torch.device) -> Iterator[None]:
    """One thread where the matrices of blocks are so small that others would only wait."""
    small = n_rows <= _SMALL_ROWS and n_params <= _SMALL_NETWORK and device.type == "cpu"
    if not small or torch.get_num_threads() == 1:
        yield
        return
    with few_threads(1):
        yield


def in_threads(work: Callable[[Any], None], pieces: Sequence[Any]) -> None:
    """Do all pieces of work, side by side in as many threads as torch computes with.

    Small operations gain little by threads inside them, and wait long for each other where the
    cores have other work besides. A single piece has all threads inside it.

    Raises
    ------
    Exception
        What a piece raises; those that have not begun are left out then.
    """
    n_threads = min(torch.get_num_threads(), len(pieces))
    if n_threads <= 1:
        for piece in pieces:
            work(piece)
        return

    ended: list[bool] = []

    def each(own: Sequence[Any]) -> None:
        with undisturbed(), few_threads(1):
            for piece in own:
                if ended:
                    return
                work(piece)

    with ThreadPoolExecutor(n_threads) as pool:
        # Each takes every so manieth piece, so that together they go through a table in its order.
        running = [pool.submit(each, pieces[k::n_threads]) for k in range(n_threads)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:  # where one has failed, or the user has interrupted it, the others need not go on
            ended.append(True)
    for one in running:
        one.result()
