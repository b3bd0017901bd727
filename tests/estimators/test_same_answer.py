"""The same seed gives the same answer: to the bit, or to what docs/reliability.md states."""

import hashlib
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import cross_val_predict

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)

pytestmark = pytest.mark.slow

N = 90
ROWS = np.random.default_rng(0).permutation(150)[:N]
PLAIN = [AdaptedFlowRegressor, AdaptedFlowClassifier]
SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
BLOCKS = {"batch_size": 30}
PROGRAM = """
import hashlib, torch
torch.set_num_threads({threads})
from tests.estimators.test_same_answer import PLAIN, asked, made, table
for estimator in PLAIN:
    X, y = table(estimator)
    print(hashlib.sha256(asked(made(estimator).fit(X, y), X).tobytes()).hexdigest())
"""


def table(estimator):
    load = load_diabetes if estimator in (PLAIN[0], SEARCHES[0]) else load_iris
    X, y = load(return_X_y=True)
    return X[ROWS], y[ROWS]


def made(estimator, **parameters):
    if estimator in SEARCHES:
        parameters = {"encodings": [None, "piecewise"], "alphas": [0.5], **parameters}
    return estimator((20,), random_state=0, **parameters)


def asked(model, X):
    """Predictions, or probabilities."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def difference(estimator, first, second, scale=1.0):
    """Of predictions, in parts of the range of y; probabilities have the range 1."""
    y = table(estimator)[1]
    return np.abs(first - second).max() / (np.ptp(y) if estimator is PLAIN[0] else 1.0) / scale


@pytest.mark.parametrize("estimator", PLAIN + SEARCHES)
def test_the_same_seed_is_the_same_to_the_bit(estimator):
    X, y = table(estimator)
    first, second = (asked(made(estimator).fit(X, y), X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.filterwarnings("ignore:Rounding decides this fit")
@pytest.mark.parametrize("parameters", [BLOCKS, {"solver": "krylov"}, {"alpha": 1.0}], ids=str)
@pytest.mark.parametrize("estimator", PLAIN)
def test_every_way_is_the_same_to_the_bit(estimator, parameters):
    X, y = table(estimator)
    first, second = (asked(made(estimator, **parameters).fit(X, y), X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_process_is_the_same_to_the_bit():
    """With the same number of threads, which is a part of the machine."""
    program = PROGRAM.format(threads=torch.get_num_threads())
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    here = []
    for estimator in PLAIN:
        X, y = table(estimator)
        answer = asked(made(estimator).fit(X, y), X)
        here.append(hashlib.sha256(answer.tobytes()).hexdigest())
    assert run.stdout.split() == here


@pytest.mark.parametrize("estimator", PLAIN)
def test_another_number_of_threads(estimator):
    X, y = table(estimator)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(asked(made(estimator).fit(X, y), X))
    finally:
        torch.set_num_threads(before)
    assert difference(estimator, *answers) < 1e-9


@pytest.mark.parametrize("estimator", PLAIN)
def test_another_order_of_rows(estimator):
    X, y = table(estimator)
    order = np.random.default_rng(1).permutation(N)
    first, second = made(estimator).fit(X, y), made(estimator).fit(X[order], y[order])
    assert difference(estimator, asked(first, X), asked(second, X)) < 1e-9


@pytest.mark.parametrize("estimator", SEARCHES)
def test_a_search_over_another_order_of_rows_chooses_the_same(estimator):
    X, y = table(estimator)
    order = np.random.default_rng(1).permutation(N)
    first, second = made(estimator).fit(X, y), made(estimator).fit(X[order], y[order])
    assert (first.encoding_, first.alpha_, first.t_end_) == (
        second.encoding_,
        second.alpha_,
        second.t_end_,
    )


@pytest.mark.parametrize("estimator", PLAIN)
def test_predictions_in_chunks(estimator):
    X, y = table(estimator)
    model = made(estimator).fit(X, y)
    chunks = np.concatenate([asked(model, X[k : k + 7]) for k in range(0, N, 7)])
    assert difference(estimator, asked(model, X), chunks) < 1e-12


@pytest.mark.parametrize("estimator", PLAIN)
def test_single_precision(estimator):
    X, y = table(estimator)
    answers = [asked(made(estimator, dtype=dtype).fit(X, y), X) for dtype in ("float64", "float32")]
    assert difference(estimator, *answers) < 2e-2


@pytest.mark.parametrize("estimator", PLAIN)
def test_several_jobs_are_as_one(estimator):
    X, y = table(estimator)
    answers = []
    for n_jobs in (1, 2):
        with joblib.parallel_backend("threading", n_jobs=n_jobs):
            answers.append(cross_val_predict(made(estimator), X, y, n_jobs=n_jobs))
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("estimator", SEARCHES)
def test_last_bits_choose_nothing(estimator):
    """Ties of rows and columns that are broken in their last bits are ties."""
    X, y = table(estimator)
    bits = np.random.default_rng(2).integers(-2, 3, size=X.shape)
    first, second = made(estimator).fit(X, y), made(estimator).fit(X * (1 + 2.2e-16 * bits), y)
    assert first.encoding_ == second.encoding_
    scale = np.ptp(y) if estimator is SEARCHES[0] else 1.0
    assert np.abs(asked(first, X) - asked(second, X)).max() < 1e-6 * scale
