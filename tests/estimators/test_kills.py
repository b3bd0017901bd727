"""Fits that are killed, and disks that are full: in processes of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.archive import read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forked"),
]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True
    )


def test_kills():
    """Twenty of ``kill -9``; the pages tell of a hundred, and `test_rank_kills` of ranks."""
    done = run("docs/benchmarks/kills.py", "--kills", "20", "--rank-kills", "0")
    assert done.returncode == 0, done.stderr
    assert "20 kills, all gone on from, every result the same to the bit" in done.stdout


FULL = textwrap.dedent("""
    import os, resource, sys
    import numpy as np
    from sklearn_gflow import AdaptedFlowRegressor
    from sklearn_gflow.estimators import _checkpoint

    _checkpoint._SHARE = 0
    folder = sys.argv[1]
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = AdaptedFlowRegressor((12,), schedule=20, checkpoint=f"{folder}/fit", random_state=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))
    try:
        model.fit(X, X[:, 0])
    except OSError as error:
        assert "could not be written" in str(error), error
        assert not hasattr(model, "n_iter_")
        assert os.listdir(folder) == ["fit"]
        print("full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    np.save(f"{folder}/predicted.npy", model.fit(X, X[:, 0]).predict(X))
""")


def test_a_full_disk_is_an_error_that_leaves_the_last_checkpoint(tmp_path):
    """Files may not grow beyond 12 kB, which the record of a fit comes to on its way."""
    done = run("-c", FULL, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "full"
    read(tmp_path / "fit")
    X = np.random.default_rng(0).normal(size=(60, 3))
    whole = AdaptedFlowRegressor((12,), schedule=20, random_state=0).fit(X, X[:, 0])
    np.testing.assert_array_equal(np.load(tmp_path / "predicted.npy"), whole.predict(X))
