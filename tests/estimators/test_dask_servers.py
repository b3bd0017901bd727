"""Searches and predictions on a scheduler and workers that were started from the command line."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.datasets import make_friedman1
from sklearn.model_selection import GridSearchCV

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.estimators._workers import Workers
from tests.estimators.searches import SEARCHES, example, small
from tests.estimators.servers import cluster
from tests.estimators.test_workers import Lethal

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.slow

GRID = {"encodings": [None, "piecewise"], "alphas": [0.5], "t_ends": [0.5, 0.9], "ensemble": True}
ON_DASK = partial(parallel_config, backend="dask")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster")) as file:
        with distributed.Client(scheduler_file=file) as client:
            yield client
        left = [one for one in psutil.process_iter(["cmdline"]) if file in (one.cmdline() or ())]
        assert len(left) == 2  # the scheduler, and what started the workers
    for one in left:
        assert not one.is_running()


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same(one, other, X):
    for name, column in one.cv_results_.items():
        np.testing.assert_array_equal(np.asarray(column), np.asarray(other.cv_results_[name]), name)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


@pytest.mark.parametrize("search", SEARCHES)
def test_finds_the_same(search, client):
    X, y = example(search)
    alone = small(search, **GRID).fit(X, y)
    with ON_DASK():
        together = small(search, **GRID).fit(X, y)
    assert_same(alone, together, X)


def test_so_do_the_searches_of_scikit_learn(client):
    X, y = example(SEARCHES[0])
    flow = AdaptedFlowRegressor((4,), random_state=0)
    search = GridSearchCV(flow, {"alpha": [0.2, 0.5]}, cv=2)
    alone = search.fit(X, y).cv_results_["mean_test_score"]
    with ON_DASK():
        np.testing.assert_array_equal(search.fit(X, y).cv_results_["mean_test_score"], alone)


def test_loses_nothing_with_workers_that_are_killed(client, tmp_path):
    X, y = example(SEARCHES[0])
    lives = tmp_path / "lives"
    lives.write_bytes(b"")
    grid = {**GRID, "encodings": [None, Lethal(str(lives), os.getpid())], "cv": 3}
    alone = small(SEARCHES[0], **grid).fit(X, y)
    lives.write_bytes(b"xx")
    with ON_DASK():
        together = small(SEARCHES[0], **grid).fit(X, y)
    assert lives.read_bytes() == b""
    assert_same(alone, together, X)
    client.wait_for_workers(2, timeout=60)


def threads(k):
    return os.getpid(), torch.get_num_threads()


def test_takes_no_more_threads_than_there_are_cores(client):
    with ON_DASK():
        found = dict(Workers(None).each(threads, [(k,) for k in range(8)]))
    assert 1 <= sum(found.values()) <= max(os.cpu_count(), len(found))


class TestBytes:
    """What goes over the wire."""

    @pytest.fixture
    def sent(self, monkeypatch):
        """Bytes that this process has sent, by connection."""
        tcp = pytest.importorskip("distributed.comm.tcp")
        sent, write = [], tcp.TCP.write

        async def counted(self, *message, **how):
            sent.append(await write(self, *message, **how))
            return sent[-1]

        monkeypatch.setattr(tcp.TCP, "write", counted)
        return sent

    def test_of_a_table_are_sent_once_and_not_with_each_task(self, client, sent):
        X, y = make_friedman1(4000, 100, random_state=0)
        grid = {"encodings": [None], "alphas": [0.2, 0.5], "t_ends": [0.5], "ensemble": False}
        search = AdaptedFlowRegressorCV(
            (2,), random_state=0, cv=3, max_iter=1, init_scales=[0.3, 0.5, 1.0], **grid
        )
        with ON_DASK(), pytest.warns(UserWarning, match="max_iter"):
            search.fit(X, y)
        # 18 paths over three folds and a fit: a fold is the table, split in two.
        assert 3 * X.nbytes < sum(sent) < 4.5 * X.nbytes

    def test_of_a_model_are_sent_to_each_worker_once(self, client, sent):
        X, y = make_friedman1(400, 10, random_state=0)
        flow = AdaptedFlowRegressor((100, 100), random_state=0, t_end=0.5).fit(X, y)
        parts = da.random.default_rng(0).random((6400, 10), chunks=(100, 10))
        predicted = flow.predict(parts).compute()
        size = flow._network.theta.nbytes * 2  # θ and θ₀
        assert predicted.shape == (6400,)
        assert size < sum(sent) < 3 * size


def test_predicts_as_one_machine(client):
    X, y = make_friedman1(400, 5, random_state=0)
    flow = AdaptedFlowRegressor((8,), random_state=0).fit(X, y)
    found = flow.predict(da.from_array(X, chunks=(100, 5))).compute()
    np.testing.assert_array_equal(found, flow.predict(X))


def test_fits_partitions_that_are_there(client):
    X, y = make_friedman1(2400, 5, random_state=0)
    flow = AdaptedFlowRegressor((4,), batch_size=256, t_end=0.95, random_state=0)
    expected = flow.fit(X, y).predict(X)
    parts = da.from_array(X, chunks=(600, 5)).persist()
    np.testing.assert_array_equal(flow.fit(parts, y).predict(X), expected)
