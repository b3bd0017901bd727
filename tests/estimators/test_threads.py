"""How many threads the steps over blocks have."""

from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.estimators import _training
from sklearn_gflow.estimators._threads import few_threads

pytestmark = pytest.mark.slow

FIT = {"hidden_layer_sizes": (8,), "batch_size": 32, "schedule": 1, "t_end": 0.5, "random_state": 0}


@pytest.fixture(autouse=True)
def _two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


def of_blas():
    """How many threads each BLAS has."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize(
    ("given", "n_threads"),
    [({}, 1), ({"batch_size": 600}, 2), ({"hidden_layer_sizes": (250, 250)}, 2)],
)
def test_small_matrices_have_one(monkeypatch, given, n_threads):
    seen, block_flow = [], _training.block_flow

    def watched(*args, **options):
        seen.append((torch.get_num_threads(), *of_blas()))
        return block_flow(*args, **options)

    monkeypatch.setattr(_training, "block_flow", watched)
    X = np.random.default_rng(0).normal(size=(700, 2))
    AdaptedFlowRegressor(**{**FIT, **given}).fit(X, X[:, 0])
    assert seen == [(n_threads, n_threads)]
    assert (torch.get_num_threads(), *of_blas()) == (2, 2)


def test_those_of_blas_come_back_with_the_last_who_has_few():
    inside, left, seen = Barrier(2, timeout=30), Barrier(2, timeout=30), []

    def second():
        with few_threads(1):
            inside.wait()
            left.wait()
            seen.append(of_blas())

    other = Thread(target=second)
    with few_threads(1):
        other.start()
        inside.wait()
    left.wait()
    other.join()
    assert seen == [{1}]
    assert of_blas() == {2}


# OpenBLAS gives a Cholesky factor of 256 rows other bits with two threads than with one.
@pytest.mark.parametrize("batch_size", [32, 256])
def test_same_model_with_any_number(batch_size):
    X = np.random.default_rng(0).normal(size=(700, 2))
    model = AdaptedFlowRegressor(**{**FIT, "batch_size": batch_size})
    several = model.fit(X, X[:, 0]).predict(X)
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        np.testing.assert_array_equal(model.fit(X, X[:, 0]).predict(X), several)
