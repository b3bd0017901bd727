"""What is measured of large tables: each case in a process of its own, whose memory is its own."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _blocks_scaling import peak_memory

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.geometry import PSEUDOINVERSE, SOLVERS, LayeredNetwork, OutputMap, factorize

TEST_ROWS = 50_000
N_FEATURES = 20
PREDICTED = 10_000_000
Case = dict[str, Any]

# -- tables ------------------------------------------------------------------------------------


def smooth(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Twelve tanh ridges, a product and a sine of columns, and a tenth of noise."""
    made, rng = np.random.default_rng(7), np.random.default_rng(seed)
    ridges = made.standard_normal((N_FEATURES, 12)).astype(np.float32) / np.sqrt(N_FEATURES)
    heights = made.standard_normal(12).astype(np.float32)
    X = rng.standard_normal((n, N_FEATURES), dtype=np.float32)
    y = np.tanh(2 * X @ ridges.astype(np.float32)) @ heights
    y += np.sin(2 * X[:, 0]) * X[:, 1] + X[:, 2] * X[:, 3]
    return X, y / np.float32(2.4) + np.float32(0.1) * rng.standard_normal(n, dtype=np.float32)


def grown(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The sum of twenty random trees of depth four, and three tenths of noise."""
    made, rng = np.random.default_rng(7), np.random.default_rng(seed)
    X = rng.random((n, N_FEATURES), dtype=np.float32)
    y, every, n_trees, depth = np.zeros(n, np.float32), np.arange(n), 20, 4
    for _ in range(n_trees):
        columns = made.integers(N_FEATURES, size=(depth, 2**depth))
        cuts = made.uniform(0.2, 0.8, (depth, 2**depth)).astype(np.float32)
        node = np.zeros(n, np.int64)
        for level in range(depth):
            node = 2 * node + (X[every, columns[level][node]] > cuts[level][node])
        y += made.standard_normal(2**depth).astype(np.float32)[node]
    y /= np.float32(np.sqrt(n_trees))
    return X, y + np.float32(0.3) * rng.standard_normal(n, dtype=np.float32)


TABLES: dict[str, Callable[[int, int], tuple[np.ndarray, np.ndarray]]] = {
    "smooth": smooth,
    "grown": grown,
}

# -- fits --------------------------------------------------------------------------------------


def entrant(case: Case) -> Any:
    """The model of a case, as its own pages advise."""
    threads = torch.get_num_threads()
    if case["entrant"] == "LightGBM":
        from lightgbm import LGBMClassifier, LGBMRegressor  # the extra "bench"

        kind = LGBMClassifier if case["classes"] else LGBMRegressor
        return kind(n_jobs=threads, verbose=-1, random_state=0)
    kind = AdaptedFlowClassifier if case["classes"] else AdaptedFlowRegressor
    return kind(random_state=0, **case["parameters"])


def fit(case: Case) -> Case:
    """Seconds, test score and memory of one fit."""
    rows, test = (TABLES[case["table"]](n, seed) for n, seed in [(case["rows"], 1), (TEST_ROWS, 2)])
    if case["classes"]:
        rows, test = ((X, y > 0) for X, y in (rows, test))
    (X, y), model = rows, entrant(case)
    before = peak_memory()
    seconds, _ = timed(lambda: model.fit(X, y))
    return {
        "seconds": seconds,
        "score": float(model.score(*test)),
        "epochs": getattr(model, "n_iter_", None),
        "data": X.nbytes + y.nbytes,
        "before": before,
        "peak": peak_memory(),
    }


# -- predictions -------------------------------------------------------------------------------


def predict(case: Case) -> Case:
    """Seconds and memory of predictions of a network 2×100, for many rows at once."""
    X, y = smooth(3000, 1)
    given = {"max_iter": 2, "random_state": 0, "dtype": case["precision"]}
    if case["method"] == "predict":
        model: Any = AdaptedFlowRegressor(**given).fit(X, y)
    else:
        model = AdaptedFlowClassifier(**given).fit(X, y > 0)
    with tempfile.TemporaryDirectory() as folder:
        table = filled(case, Path(folder))
        gc.collect()
        forget_peak()
        before = resident()
        seconds, found = timed(lambda: getattr(model, case["method"])(table))
        peak = peak_memory()
    held = 0 if case["place"] == "map" else table.nbytes
    return {
        "seconds": seconds,
        "result": found.nbytes,
        "beyond": peak - before - found.nbytes,
        "table": held,
    }


def filled(case: Case, folder: Path) -> np.ndarray:
    """Random rows in memory, or in a file that is mapped."""
    shape, dtype = (case["rows"], N_FEATURES), np.dtype(case["dtype"])
    path = folder / "table"
    mapped = case["place"] == "map"
    table = np.memmap(path, dtype, "w+", shape=shape) if mapped else np.empty(shape, dtype)
    rng = np.random.default_rng(3)
    for start in range(0, len(table), 100_000):
        part = table[start : start + 100_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    if not mapped:
        return table
    table.flush()
    return np.memmap(path, dtype, "r", shape=shape)


# -- a step without a matrix ---------------------------------------------------------------------


def step(case: Case) -> Case:
    """Seconds and memory of D⁺r at the start of a network 2×100, without a ridge."""
    X, y = (torch.from_numpy(part).double() for part in smooth(case["rows"], 3))
    network = LayeredNetwork((N_FEATURES, 100, 100, 1))
    theta = network.initial(torch.Generator().manual_seed(0), input_scale=case["init_scale"])
    before = peak_memory()
    tangent = OutputMap(network, X).linearize(theta)
    r = (y - y.mean()) / y.std()
    solver = SOLVERS["krylov"].within(case["memory"])

    def solve() -> tuple[torch.Tensor, str]:
        factor = factorize(tangent, r, solver=solver)
        return factor.lift(PSEUDOINVERSE, r), factor.solver

    processor = time.process_time()
    seconds, (theta, solver_) = timed(solve)
    processor = time.process_time() - processor
    left = r - tangent.push(theta)
    return {
        "seconds": seconds,
        "processor": processor,
        "solver": solver_,
        "left": float(left.norm() / r.norm()),
        "peak": peak_memory() - before,
    }


# -- processes ---------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Case], Case]] = {"fit": fit, "predict": predict, "step": step}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def resident() -> int:
    """Resident memory of this process now, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def forget_peak() -> None:
    """Let the largest resident memory be that of now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
