"""A search on two workers: processes of joblib, and a cluster of Dask; workers that are killed.

python docs/benchmarks/clusters.py --out docs/benchmarks/clusters.md
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import psutil
import torch
from _machine import header
from distributed import Client, LocalCluster
from sklearn.datasets import make_friedman1

from sklearn_gflow import AdaptedFlowRegressorCV

GRID = {
    "encodings": [None, "piecewise"], "alphas": [0.1, 0.5, 1.0], "init_scales": [0.3, 1.0],
    "t_ends": [0.5, 0.9], "cv": 3, "ensemble": False,
}  # fmt: skip
WORKERS = 2


def search(X: np.ndarray, y: np.ndarray) -> tuple[float, AdaptedFlowRegressorCV]:
    """Seconds, and the search."""
    begun = time.perf_counter()
    found = AdaptedFlowRegressorCV((64, 64), random_state=0, **GRID).fit(X, y)
    return time.perf_counter() - begun, found


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """This process does all of it."""
    with joblib.parallel_config(n_jobs=1):
        yield


@contextlib.contextmanager
def loky() -> Iterator[None]:
    """Processes of joblib."""
    with joblib.parallel_config("loky", n_jobs=WORKERS, inner_max_num_threads=1):
        yield


@contextlib.contextmanager
def dask() -> Iterator[None]:
    """A cluster on this machine."""
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


@contextlib.contextmanager
def killed(after: float) -> Iterator[None]:
    """A process that computes for this one is killed after so many seconds."""

    def kill() -> None:
        workers = [one for one in psutil.Process().children(recursive=True) if busy(one)]
        if workers:
            os.kill(random.choice(workers).pid, signal.SIGKILL)

    timer = threading.Timer(after, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def busy(process: psutil.Process) -> bool:
    """Whether a process has computed for a second; helpers of the pools never do."""
    try:
        return sum(process.cpu_times()[:2]) > 1
    except psutil.NoSuchProcess:
        return False


def same(one: AdaptedFlowRegressorCV, other: AdaptedFlowRegressorCV, X: np.ndarray) -> bool:
    """Whether two searches scored and predict alike, to the bit."""
    scores = (found.cv_results_["mean_test_score"] for found in (one, other))
    return np.array_equal(*scores) and np.array_equal(one.predict(X), other.predict(X))


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    X, y = make_friedman1(arguments.rows, 20, noise=1.0, random_state=0)
    lines, times, found = [], {}, {}
    for backend in (alone, loky, dask):
        with backend():
            cold, found[backend] = search(X, y)
            warm = [search(X, y)[0] for _ in range(arguments.repeats)]
        times[backend] = statistics.median(warm)
        equal = "" if backend is alone else "yes" if same(found[alone], found[backend], X) else "NO"
        ratio = times[alone] / times[backend]
        lines.append(
            f"| {backend.__doc__.rstrip('.')} | {cold:.1f} | {times[backend]:.1f} "
            f"({min(warm):.1f}–{max(warm):.1f}) | {ratio:.2f} | {equal} |"
        )
        print(lines[-1], flush=True)
    kept = []
    for backend in (loky, dask):
        survived, named = 0, "joblib" if backend is loky else "Dask"
        with backend():
            search(X, y)
            for _ in range(arguments.kills):
                with killed(random.uniform(0.2, 0.8) * times[backend]):
                    survived += same(found[alone], search(X, y)[1], X)
        kept.append(f"{survived} of {arguments.kills} ({named})")
        print(kept[-1], flush=True)
    page = f"""# A search on two workers

`AdaptedFlowRegressorCV`, 12 candidates over three folds, {arguments.rows} rows of 20 columns, two
layers of 64. Each worker has one thread. "First" includes the start of the workers' libraries; the
others are medians of {arguments.repeats}, with least and most.

{header()}

| who computes | first, s | then, s | times as fast as alone | the same to the bit |
|---|---|---|---|---|
{chr(10).join(lines)}

A search on the cluster took {times[dask] / times[loky]:.2f} of the time of joblib's processes.

**Kills.** In each of several searches a worker was killed at a random moment (SIGKILL). Searches
that ended with the result of one machine, to the bit: {", ".join(kept)}.
"""
    if arguments.out is None:
        print(page)
    else:
        arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
