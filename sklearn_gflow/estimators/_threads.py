"""How many threads a piece of work takes: those of torch inside it, or one for each piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from sklearn_gflow.estimators._surroundings import undisturbed

__all__ = ["few_threads", "in_threads", "threads_of_blocks"]

# Blocks of at most so many rows and networks of at most so many parameters have small matrices. On
# 16 cores with nothing else to do a fit of 100,000 rows took 5.4 s of one thread and 5.2 s of two,
# which is twice the processor time; beside other work two waited for each other, 30 times as long.
# Two threads of OpenBLAS, which know nothing of those of torch, took three times the processor time
# of one for a Cholesky factor of 256 rows.
_SMALL_ROWS, _SMALL_NETWORK = 512, 50_000


class _ThreadsOfBLAS:
    """How many threads the BLAS of NumPy and SciPy has, which is a number of the whole process.

    Of those who limit it side by side the first sets it, and the last sets it back.
    """

    def __init__(self) -> None:
        self._lock, self._limiting = Lock(), 0

    @contextmanager
    def limited(self, n_threads: int) -> Iterator[None]:
        """Let it have so many, or as many as another has set."""
        with self._lock:
            if not self._limiting:
                self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                self._before = [library.num_threads for library in self._libraries]
                self._set([n_threads] * len(self._before))
            self._limiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._limiting -= 1
                if not self._limiting:
                    self._set(self._before)

    def _set(self, numbers: Sequence[int]) -> None:
        for library, number in zip(self._libraries, numbers, strict=True):
            library.set_num_threads(number)
            # From threadpoolctl 3.8 on other threads may not set it until this one lets go.
            getattr(library, "clear_controlling_thread", bool)()


_threads_of_blas = _ThreadsOfBLAS()
if hasattr(os, "register_at_fork"):  # a child has no thread that would open the lock
    os.register_at_fork(after_in_child=_threads_of_blas.__init__)  # type: ignore[misc]


@contextmanager
def few_threads(n_threads: int) -> Iterator[None]:
    """Let torch compute with few threads in this thread, and BLAS for it; see `threads_of_blocks`.

    joblib sees to other processes.
    """
    torch.get_num_threads()  # the first call in a thread sets their number
    openmp = ThreadpoolController().select(user_api="openmp")
    with openmp.limit(limits=n_threads), _threads_of_blas.limited(n_threads):
        yield


@contextmanager
def threads_of_blocks(n_rows: int, n_params: int, device: torch.device) -> Iterator[None]:
    """One thread where the matrices of blocks are so small that others would only wait."""
    small = n_rows <= _SMALL_ROWS and n_params <= _SMALL_NETWORK and device.type == "cpu"
    if not small:
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
