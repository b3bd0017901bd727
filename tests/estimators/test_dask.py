"""Searches on a Dask cluster, through joblib."""

import numpy as np
import pytest
import torch
from joblib import parallel_config

from tests.estimators.searches import SEARCHES, example, small

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

GRID = {"encodings": [None, "piecewise"], "alphas": [0.5], "t_ends": [0.5, 0.9], "ensemble": True}


@pytest.fixture(scope="module")
def cluster():
    found = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with found, distributed.Client(found):
        yield found


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("search", SEARCHES)
def test_finds_the_same(search, cluster):
    X, y = example(search)
    alone = small(search, **GRID).fit(X, y)
    with parallel_config(backend="dask"):
        together = small(search, **GRID).fit(X, y)
    for name, column in alone.cv_results_.items():
        np.testing.assert_array_equal(np.asarray(column), np.asarray(together.cv_results_[name]))
    np.testing.assert_array_equal(alone.predict(X), together.predict(X))
