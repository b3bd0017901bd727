"""The same fits on the CPU and on a CUDA device: seconds, and how far predictions are apart.

Each fit runs once on each device before it is timed. Without a CUDA device it says so and writes
nothing. Run ``python docs/benchmarks/gpu.py --help``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _machine import header
from sklearn.datasets import make_classification, make_friedman1

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.geometry.triangles import double_is_slow

OUT = Path(__file__).with_suffix(".md")
HIDDEN = (128, 128)
BOTH, DOUBLE = ("float64", "float32"), ("float64",)


class Case(NamedTuple):
    """A fit to be timed; of labels where there are classes."""

    name: str
    rows: int
    parameters: dict[str, Any]
    dtypes: tuple[str, ...] = DOUBLE
    n_classes: int = 0


CASES = (
    Case("full batch, α = ½", 2000, {"batch_size": None}, BOTH),
    Case("full batch, α = ½", 8000, {"batch_size": None}, BOTH),
    Case("full batch, α = 1, 6 steps", 8000, {"batch_size": None, "alpha": 1.0, "schedule": 6}),
    Case("without a matrix, α = ½", 10_000, {"batch_size": None, "solver": "krylov"}),
    Case("blocks of 256 rows, 6 epochs", 50_000, {"t_end": 0.95}),
    Case("blocks of 2,048 rows, 6 epochs", 50_000, {"t_end": 0.95, "batch_size": 2048}),
    Case("26 classes, blocks of 256 rows, 6 epochs", 20_000, {"t_end": 0.95}, n_classes=26),
)


def table_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets."""
    if not case.n_classes:
        return make_friedman1(case.rows, n_features=10, noise=1.0, random_state=0)
    return make_classification(
        case.rows, n_features=20, n_informative=12, n_classes=case.n_classes, random_state=0
    )


def fitted(case: Case, device: str, dtype: str) -> tuple[float, np.ndarray]:
    """(seconds, predictions of 1,000 rows) of the second of two fits."""
    X, y = table_of(case)
    kind = AdaptedFlowClassifier if case.n_classes else AdaptedFlowRegressor
    model = kind(HIDDEN, random_state=0, device=device, dtype=dtype, **case.parameters)
    model.fit(X, y)
    start = time.perf_counter()
    model.fit(X, y)  # fitted attributes are arrays, so that all kernels have ended
    seconds = time.perf_counter() - start
    predict = model.decision_function if case.n_classes else model.predict
    return seconds, predict(X[:1000])


def table() -> str:
    """One line for each case and precision."""
    lines = [
        "| fit | rows | precision | CPU | GPU | CPU ÷ GPU | predictions differ by |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for dtype in case.dtypes:
            (cpu, expected), (gpu, found) = (fitted(case, d, dtype) for d in ("cpu", "cuda"))
            gap = np.abs(found - expected).max() / expected.std()
            lines.append(
                f"| {case.name} | {case.rows:,} | {dtype} | {cpu:.2f} s | {gpu:.2f} s | "
                f"{cpu / gpu:.1f} | {gap:.0e} σ |"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    """Measure and write the page, where there is a device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where the page goes")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is at hand: nothing was measured")
        return
    factors = "float32, refined" if double_is_slow(torch.device("cuda")) else "float64"
    page = (
        f"# CPU and GPU\n\n{header()}\n- Device: {torch.cuda.get_device_name()}; factors of "
        f"matrices in float64 are made in {factors}\n\n{table()}\n"
    )
    arguments.out.write_text(page.replace(", no GPU used", ""))


if __name__ == "__main__":
    main()
