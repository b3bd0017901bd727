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
from sklearn.datasets import make_friedman1

from sklearn_gflow import AdaptedFlowRegressor

OUT = Path(__file__).with_suffix(".md")


class Case(NamedTuple):
    """A fit to be timed."""

    name: str
    rows: int
    parameters: dict[str, Any]


CASES = (
    Case("full batch, α = ½", 2000, {"batch_size": None}),
    Case("full batch, α = ½", 8000, {"batch_size": None}),
    Case("full batch, α = 1, 6 steps", 8000, {"batch_size": None, "alpha": 1.0, "schedule": 6}),
    Case("blocks of 256 rows, 6 epochs", 100_000, {"t_end": 0.95}),
    Case("blocks of 2,048 rows, 6 epochs", 100_000, {"t_end": 0.95, "batch_size": 2048}),
)


def fitted(case: Case, device: str, dtype: str) -> tuple[float, np.ndarray]:
    """(seconds, predictions of 1,000 rows) of the second of two fits."""
    X, y = make_friedman1(case.rows, n_features=10, noise=1.0, random_state=0)
    model = AdaptedFlowRegressor(
        (128, 128), random_state=0, device=device, dtype=dtype, **case.parameters
    )
    model.fit(X, y)
    start = time.perf_counter()
    model.fit(X, y)  # fitted attributes are arrays, so that all kernels have ended
    return time.perf_counter() - start, model.predict(X[:1000])


def table() -> str:
    """One line for each case and precision."""
    lines = [
        "| fit | rows | precision | CPU | GPU | CPU ÷ GPU | predictions differ by |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for dtype in ("float64", "float32"):
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
    name = torch.cuda.get_device_name()
    page = f"# CPU and GPU\n\n{header()}\n- Device: {name}\n\n{table()}\n"
    arguments.out.write_text(page.replace(", no GPU used", ""))


if __name__ == "__main__":
    main()
