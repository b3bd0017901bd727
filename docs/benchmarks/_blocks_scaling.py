"""How time and memory of the flow over row blocks grow with the number of rows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from sklearn_gflow import AdaptedFlowRegressor

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SCALE_EPOCHS = 2


class Stamps(io.TextIOBase):
    """A standard output that notes when each line of ``verbose`` came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, text: str) -> int:
        """Note the time of a line."""
        if text.endswith("\n"):
            self.times.append(time.perf_counter())
        return len(text)


def scale_child(n_samples: int) -> None:
    """Fit generated rows for a few epochs, and print what it took; runs in its own process."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, 20))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(n_samples)
    model = AdaptedFlowRegressor(
        (64, 64), alpha=1.0, batch_size=256, schedule=SCALE_EPOCHS, random_state=0, verbose=True
    )
    before, stamps = peak_memory(), Stamps()
    with redirect_stdout(stamps):
        model.fit(X, y)
    epochs = np.diff(stamps.times)
    result = {
        "rows": n_samples,
        "seconds": float(np.median(epochs)),
        "data": X.nbytes + y.nbytes,
        "before": before,
        "peak": peak_memory(),
    }
    print(json.dumps(result))


def peak_memory() -> int:
    """Largest resident memory of this process until now, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def scaling(script: Path, largest: int) -> list[dict[str, float]]:
    """Each size in a process of its own, whose peak memory is then its own too.

    The process runs ``script``, which hands the size of ``--child`` to `scale_child`.
    """
    found = []
    for size in (size for size in SIZES if size <= largest):
        command = [sys.executable, str(script), "--child", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(found[-1], flush=True)
    return found
