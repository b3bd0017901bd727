"""Tables that are not in memory: what a fit from them holds, how long it takes, and what it scores.

    OMP_NUM_THREADS=1 python docs/benchmarks/out_of_core.py --out docs/benchmarks/out_of_core.md

Each fit runs in a process of its own. Needs the extra "dask", Linux, and five gigabytes of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from _machine import header

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.estimators import _partitions

KINDS = ("memory", "memmap", "Dask array", "Dask frame", "Parquet")
LARGE = {"hidden_layer_sizes": (32,), "batch_size": 1024, "max_iter": 1, "dtype": "float32"}
SMALL = {"hidden_layer_sizes": (64, 64), "batch_size": 256}
PARTS = 40


def write(folder: Path, n_rows: int, n_columns: int, seed: int = 0) -> None:
    """The table of `make_friedman1` in float32, as a map, as Parquet, and its targets."""
    X = np.memmap(folder / "X", np.float32, "w+", shape=(n_rows, n_columns))
    y = np.empty(n_rows)
    size = -(-n_rows // PARTS)
    (folder / "parquet").mkdir()
    for k, start in enumerate(range(0, n_rows, size)):
        rng = np.random.default_rng((seed, k))
        some = rng.random((min(size, n_rows - start), n_columns), dtype=np.float32)
        a, b, c, d, e = some[:, :5].T.astype(float)
        target = 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
        X[start : start + size] = some
        y[start : start + size] = target + rng.normal(size=len(some))
        frame = pd.DataFrame(some, columns=[f"x{j}" for j in range(n_columns)])
        rows = frame.assign(y=y[start : start + size])
        rows.to_parquet(folder / "parquet" / f"{k:03}.parquet", compression=None)
    np.save(folder / "y.npy", y)


def table(kind: str, folder: Path) -> tuple[Any, Any]:
    """X and y as they are handed to ``fit``."""
    y = np.load(folder / "y.npy")
    X = np.memmap(folder / "X", np.float32, "r").reshape(len(y), -1)
    if kind == "memory":
        return np.array(X), y
    if kind == "memmap":
        return X, y
    if kind == "Dask array":
        return read_by_dask(folder / "X", *X.shape), y
    if kind == "Dask frame":
        rows = dd.read_parquet(folder / "parquet")
        return rows.drop(columns="y"), rows["y"]
    return ds.dataset(folder / "parquet"), "y"


def read_by_dask(path: Path, n_rows: int, n_columns: int) -> da.Array:
    """The table as an array of Dask that reads its parts; `da.from_array` would copy the map."""
    size, parts = -(-n_rows // PARTS), []
    for start in range(0, n_rows, size):
        shape = min(size, n_rows - start), n_columns
        offset = start * n_columns * 4
        rows = dask.delayed(np.fromfile)(path, np.float32, shape[0] * n_columns, offset=offset)
        parts.append(da.from_delayed(rows.reshape(shape), shape, np.float32))
    return da.concatenate(parts)


def peak() -> int:
    """The most bytes that this process has held at once."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measured(kind: str, folder: Path, parameters: dict[str, Any], window: float) -> dict[str, Any]:
    """A fit in this process: bytes beyond those before, seconds of the processor, R² elsewhere."""
    warnings.simplefilter("ignore")
    dask.config.set(scheduler="synchronous")
    rng = np.random.default_rng(0)
    few = rng.random((2000, 5)), rng.random(2000)
    AdaptedFlowRegressor((2,), batch_size=256, max_iter=1).fit(da.from_array(few[0]), few[1])
    if window:
        bytes_of_table = (folder / "X").stat().st_size
        _partitions._WINDOW_BYTES = int(window * bytes_of_table)
    before, wall, begun = peak(), time.perf_counter(), time.process_time()
    X, y = table(kind, folder)
    flow = AdaptedFlowRegressor(**parameters).fit(X, y)
    found = {
        "bytes": peak() - before,
        "seconds": time.process_time() - begun,
        "wall": time.perf_counter() - wall,
        "epochs": flow.n_iter_,
    }
    test = folder / "test.npz"
    if test.exists():
        with np.load(test) as rows:
            columns = [f"x{j}" for j in range(rows["X"].shape[1])]
            named = hasattr(flow, "feature_names_in_")
            X_test = pd.DataFrame(rows["X"], columns=columns) if named else rows["X"]
            found["score"] = flow.score(X_test, rows["y"])
    return found


def run(kind: str, folder: Path, parameters: dict[str, Any], window: float = 0.0) -> dict[str, Any]:
    """The same in another process."""
    given = json.dumps([kind, str(folder), parameters, window])
    command = [sys.executable, __file__, "--run", given]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    print(kind, window, found, file=sys.stderr, flush=True)
    return found


def memory(n_rows: int, n_columns: int) -> str:
    """Fits of a table of gigabytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, n_rows, n_columns)
        size = (folder / "X").stat().st_size
        lines = [
            f"| {kind} | {found['bytes'] / 1e6:,.0f} | {found['seconds']:.0f} |"
            for kind in KINDS
            for found in [run(kind, folder, {**LARGE, "random_state": 0})]
        ]
    return f"""{n_rows:,} rows of {n_columns} columns in float32, {size / 1e9:.1f} GB; an epoch
with 32 hidden units and blocks of 1,024 rows, and one that closes. What a fit adds to the peak of
its process, its libraries being loaded, and seconds of one core. Partitions are of
{size / PARTS / 1e6:.0f} MB.

| X comes from | MB | seconds |
|---|---|---|
{chr(10).join(lines)}
"""


def scores(n_rows: int, n_seeds: int) -> str:
    """Fits of a table that memory holds, to its natural end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, n_rows, 20)
        other = folder / "other"
        other.mkdir()
        write(other, 20_000, 20, seed=1)
        X, y = table("memory", other)
        np.savez(folder / "test.npz", X=X, y=y)
        cases = [("memory", 0.0), ("Dask array", 0.0), ("Dask array", 0.25), ("Parquet", 0.1)]
        lines = []
        for kind, window in cases:
            found = [
                run(kind, folder, {**SMALL, "random_state": seed}, window)
                for seed in range(n_seeds)
            ]
            values = ", ".join(f"{one['score']:.4f}" for one in found)
            epochs = ", ".join(str(one["epochs"]) for one in found)
            seconds = np.mean([one["seconds"] for one in found])
            share = f"{window:.0%}" if window else "all"
            lines.append(f"| {kind} | {share} | {values} | {epochs} | {seconds:.0f} |")
    return f"""{n_rows:,} rows of 20 columns, two layers of 64, to where rows held out gain no more;
{n_seeds} seeds. "At once" is the share of the rows that are in memory together, among which blocks
are drawn.

| X comes from | at once | R² on other rows | epochs | seconds |
|---|---|---|---|---|
{chr(10).join(lines)}
"""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=500)
    parser.add_argument("--small-rows", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, folder, parameters, window = json.loads(arguments.run)
        print(json.dumps(measured(kind, Path(folder), parameters, window)))
        return
    page = f"""# Tables that are not in memory

{header()}

## What a fit holds

{memory(arguments.rows, arguments.columns)}
## What it scores

{scores(arguments.small_rows, arguments.seeds)}"""
    if arguments.out is None:
        print(page)
    else:
        arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
