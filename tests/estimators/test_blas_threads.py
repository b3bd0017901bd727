"""Libraries of linear algebra have one thread beside one of torch, and theirs back afterwards."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.estimators._threads import few_threads

# Of blocks of 256 rows OpenBLAS gives a Cholesky factor other bits with two threads than with one.
FIT = {"hidden_layer_sizes": (8,), "batch_size": 256, "max_iter": 2, "random_state": 0}


def counts():
    return {one["filepath"]: one["num_threads"] for one in threadpool_info()}


def of_blas():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def _two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [AdaptedFlowRegressor, AdaptedFlowClassifier])
def test_same_model_with_any_number(kind):
    X = np.random.default_rng(0).normal(size=(512, 3))
    y = X[:, 0] if kind is AdaptedFlowRegressor else np.digitize(X[:, 0], [-0.5, 0.5])
    found = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        with threadpool_limits(n_threads):
            model = kind(**FIT).fit(X, y)
            assert set(of_blas()) == {n_threads}
        found.append(np.concatenate([part.ravel() for part in model.coefs_]))
    np.testing.assert_array_equal(*found)


def test_numbers_come_back():
    before = counts()
    with few_threads(1):
        assert set(of_blas()) == {1}
    assert counts() == before


def test_numbers_come_back_with_the_last_of_several_threads():
    before, first_in, second_in = counts(), threading.Event(), threading.Event()
    seen = []

    def first():
        with few_threads(1):
            first_in.set()
            assert second_in.wait(10)

    def second():
        assert first_in.wait(10)
        with few_threads(1):
            second_in.set()
            one.join(10)
            seen.append(set(of_blas()))  # the first has left, and this one has not

    one, other = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    other.start()
    other.join(10)
    assert seen == [{1}]
    assert counts() == before


def test_an_error_leaves_the_numbers_as_they_were():
    before = counts()
    with pytest.raises(ZeroDivisionError), few_threads(1):
        raise ZeroDivisionError
    assert counts() == before


def test_several_threads_leave_blas_alone():
    with few_threads(2):
        assert set(of_blas()) == {2}
