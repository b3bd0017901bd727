"""How many threads a piece of work takes: those of torch inside it, or one for each piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from sklearn_gflow.estimators._surroundings import undisturbed

__all__ = ["few_threads", "in_threads"]


@contextmanager
def few_threads(n_threads: int) -> Iterator[None]:
    """Let torch compute with few threads in this thread; joblib sees to other processes."""
    torch.get_num_threads()  # the first call in a thread sets their number
    with threadpool_limits(n_threads, user_api="openmp"):
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
