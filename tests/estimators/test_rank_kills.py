"""A rank that dies ends the fit on all others, and the same fit goes on from its checkpoint."""

import os
import signal
import time

import numpy as np
import pytest
import torch.distributed as dist
from numpy.testing import assert_array_equal

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.archive import read
from sklearn_gflow.estimators import _checkpoint
from tests.ranks import Group

pytestmark = pytest.mark.slow

DRAWS = np.random.RandomState(0)
X = DRAWS.randn(160, 4)
Y = np.sin(X[:, 0]) + 0.3 * X[:, 1] * X[:, 2]
FITS = {
    "blocks": {"batch_size": 16, "max_iter": 12, "early_stopping": True},
    "full batch": {"schedule": 12},
    "no matrix": {"schedule": 8, "solver": "krylov", "damping": 0.1},
}


def fit(given, path, leaves=None, after=0, how="dies"):
    """Predictions of a fit that one rank may leave after so many steps."""
    rank, kept = dist.get_rank(), 0
    keep = _checkpoint.FlowKeeper.keep

    def counted(self, state, *, ended=False):
        nonlocal kept
        keep(self, state, ended=ended)
        kept += 1
        if rank == leaves and kept == after:
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    _checkpoint._SHARE = 0  # every step is written down
    _checkpoint.FlowKeeper.keep = counted
    rows = slice(0, 70) if rank == 0 else slice(70, 160)
    model = AdaptedFlowRegressor(
        (24, 12), random_state=0, distributed="auto", checkpoint=path, **given
    )
    try:
        return model.fit(X[rows], Y[rows]).predict(X)
    finally:
        _checkpoint.FlowKeeper.keep = keep


@pytest.fixture(scope="module")
def two():
    with Group(2) as group:
        yield group


@pytest.mark.parametrize(
    ("name", "deaths"),
    [("blocks", [(1, 3), (0, 9)]), ("full batch", [(0, 4)]), ("no matrix", [(0, 4)])],
)
def test_a_rank_that_dies_ends_the_others_and_nothing_is_lost(two, name, deaths, tmp_path):
    path = str(tmp_path / "fit")
    for leaves, after in deaths:
        with Group(2) as group:
            group.start(fit, FITS[name], path, leaves, after)
            ((result, told),) = group.ended([1 - leaves])
        assert result is None
        assert "a rank of the process group has ended, or did not answer" in told
        assert f"from {path!r}" in told
        read(path)  # whole, whatever was under way
    expected = two.run(fit, FITS[name], None)
    for found in two.run(fit, FITS[name], path):
        assert_array_equal(found, expected[0])


def test_a_rank_that_does_not_answer_is_waited_for_no_longer_than_the_group_says(tmp_path):
    with Group(2, seconds=2) as group:
        group.start(fit, FITS["blocks"], str(tmp_path / "fit"), 1, 3, "sleeps")
        ((_, told),) = group.ended([0])
    assert "did not answer within the timeout of the group" in told


def test_a_checkpoint_of_another_fit_is_refused_on_all_ranks(two, tmp_path):
    path, given = str(tmp_path / "fit"), {"batch_size": 40, "max_iter": 2}
    two.run(fit, given, path)
    two.start(fit, {**given, "alpha": 0.3}, path)
    for _, told in two.ended():
        assert "is of another fit: alpha is" in told
