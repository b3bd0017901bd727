"""Independent tasks of a search, on as many workers as joblib is told to use.

`joblib.parallel_config` says which: processes, threads, a Dask cluster. Arguments come to another
process as joblib sends them, large arrays as maps of one file that all workers share.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from sklearn_gflow.estimators._allocation import kept_memory
from sklearn_gflow.estimators._reports import warn
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._threads import few_threads

__all__ = ["Workers"]

T = TypeVar("T")

# So many times in a row workers may be lost without a result in between. Dask runs tasks of a lost
# worker again by itself, but cancels those whose table was there.
_LOSSES = 2


@dataclass(frozen=True)
class Workers:
    """What runs the tasks of a search.

    Attributes
    ----------
    n_jobs : int or None
        As in scikit-learn.
    """

    n_jobs: int | None

    @property
    def alone(self) -> bool:
        """Whether this process does all of it, one after the other."""
        return effective_n_jobs(self.n_jobs) <= 1

    def each(
        self,
        function: Callable[..., T],
        arguments: Sequence[tuple[Any, ...]],
        done: Callable[[int, T], None] = lambda place, result: None,
    ) -> list[T]:
        """The results of a function for several arguments, in their order.

        ``done(place, result)`` is told of each as soon as it and those before it are there. Tasks
        whose worker was killed are done again by others.

        Raises
        ------
        RuntimeError
            If workers are killed again and again.
        """
        found: list[T] = []
        # All of them for few tasks too: processes would be ended now and started again later.
        n_workers = effective_n_jobs(self.n_jobs)
        if min(n_workers, len(arguments)) <= 1:
            for task in arguments:
                found.append(function(*task))
                done(len(found) - 1, found[-1])
            return found
        n_threads = max(1, torch.get_num_threads() // n_workers)
        run = delayed(partial(_run, function, os.getpid(), n_threads))
        # Ray's backend hands out all results at the end.
        gradual = getattr(get_active_backend()[0], "supports_return_generator", False)
        parallel = partial(Parallel, n_jobs=n_workers, return_as="generator" if gradual else "list")
        lost = 0
        while len(found) < len(arguments):
            calls = (run(*task) for task in arguments[len(found) :])
            try:
                for result, told in parallel()(calls):
                    found.append(result)
                    done(len(found) - 1, result)
                    lost = 0
                    for message, category in told:
                        warn(message, category)
            except (BrokenExecutor, CancelledError) as error:
                lost += 1
                if lost > _LOSSES:
                    raise RuntimeError(
                        f"workers of n_jobs={self.n_jobs} were killed {lost} times in a row, most "
                        "often because memory ran out; lower n_jobs, or set batch_size"
                    ) from error
        return found


def _run(
    function: Callable[..., T], parent: int, n_threads: int, *arguments: Any
) -> tuple[T, list[tuple[str, type[Warning]]]]:
    """A task as a worker runs it: the result, and what the user is to be warned of."""
    if os.getpid() == parent:
        with undisturbed(), few_threads(n_threads):
            return function(*arguments), []
    # Under the filters of the user, which scikit-learn has brought here.
    with undisturbed(), kept_memory(), warnings.catch_warnings(record=True) as told:
        result = function(*arguments)
    return result, [(str(one.message), one.category) for one in told]
