"""Searches on a Dask cluster, through joblib."""

import numpy as np
import pytest
import torch
from joblib import parallel_config

from sklearn_gflow.estimators._problem import Problem
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


def test_sends_a_table_once_and_not_with_each_task(cluster, monkeypatch):
    X, y = example(SEARCHES[0])
    sent, scatter = [], distributed.Client.scatter

    def watched(self, data, **how):
        sent.append(data)
        return scatter(self, data, **how)

    monkeypatch.setattr(distributed.Client, "scatter", watched)
    with parallel_config(backend="dask"):
        small(SEARCHES[0], cv=3, **{**GRID, "alphas": [0.2, 0.5]}).fit(X, y)
    tables = [one for one in sent if isinstance(one, Problem)]
    assert 3 <= len(tables) <= 3 + 1  # of 12 paths over three folds, and of the members
