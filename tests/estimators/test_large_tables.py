"""What a large table takes on its way into a fit, in a process of its own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

OFFSETS = """
import numpy as np, torch
from pathlib import Path
from sklearn_gflow.estimators._rows import TableRows, TrainingData
from sklearn_gflow.geometry import LayeredNetwork
from sklearn_gflow.geometry.losses import SquaredLoss

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

n = 400_000
data = TrainingData(np.ones((n, 2), np.float32), np.ones((n, 1)), None, np.zeros(1))
family = LayeredNetwork((2, 100, 1))
theta = family.initial(torch.Generator().manual_seed(0)).float()
family.outputs(theta, torch.ones(8192, 2))
before = held()
rows = TableRows(family, data, theta, "float32", SquaredLoss())
print(held() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_activations_of_a_chunk_are_given_back():
    done = subprocess.run(
        [sys.executable, "-c", OFFSETS], check=True, capture_output=True, text=True
    )
    # A copy of X, targets and offsets are 6 MB; the activations of all chunks would be 150 MB.
    assert float(done.stdout) <= 40
