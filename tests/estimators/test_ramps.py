"""Ramps beside the columns by default: where numbers are learnt without a given end."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from torch import nn

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
    FrequentValueEncoder,
    PiecewiseLinearEncoder,
    load,
    save,
)
from sklearn_gflow.estimators._encodings import ramps_of
from tests.inputs.data import amounts

pytestmark = pytest.mark.slow


def rows(n=2000):
    """The target turns quickly in the first column, is smooth in the second, and knows no other."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 3))
    return X, np.sin(20 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=n)


def small(estimator=AdaptedFlowRegressor, **parameters):
    given = {"random_state": 0, "batch_size": 250, "max_iter": 3, **parameters}
    return estimator(**{"hidden_layer_sizes": (8,), **given})


@pytest.fixture(scope="module")
def fitted():
    return small().fit(*rows())


def test_are_those_of_the_encoder_with_a_bin_for_two_hundred_rows(fitted):
    X, y = rows()
    assert isinstance(fitted._inputs.encoder, PiecewiseLinearEncoder)
    named = small(encoding=PiecewiseLinearEncoder(n_bins=10)).fit(X, y)
    np.testing.assert_array_equal(named.predict(X), fitted.predict(X))
    assert fitted.coefs_[0].shape == (3 * 11, 8)
    assert fitted.feature_importances_.shape == (3,)


@pytest.mark.parametrize(
    ("n_samples", "n_columns", "bins"),
    [
        (1999, 3, None), (2000, 3, 10), (3300, 3, 16), (10_000, 3, 24), (50_000, 20, 24),
        (50_001, 3, None), (10_000, 50, 10), (10_000, 126, None), (10_000, 0, None),
    ],
)  # fmt: skip
def test_how_many(n_samples, n_columns, bins):
    encoder = ramps_of(np.random.default_rng(0).normal(size=(100, n_columns)), n_samples, None)
    assert (None if encoder is None else encoder.n_bins) == bins


def test_columns_of_few_values_have_none():
    assert ramps_of(np.tile(np.arange(4.0), 25)[:, None], 2000, None) is None


@pytest.mark.filterwarnings("ignore:columns of X are not scaled")
@pytest.mark.parametrize(
    "given",
    [
        {"t_end": 0.5}, {"schedule": 2}, {"encoding": None}, {"hidden_layer_sizes": ()},
        {"scale_inputs": False}, {"module": lambda i, o: nn.Linear(i, o)}, {"batch_size": "auto"},
    ],
    ids=lambda given: next(iter(given)),
)  # fmt: skip
def test_other_flows_have_none(given):
    model = small(**{"max_iter": 500, **given}).fit(*rows())
    assert model._inputs.encoder is None


def test_nor_have_classes_chunks_and_sparse_rows():
    X, y = rows()
    assert small(AdaptedFlowClassifier).fit(X, y > 0)._inputs.encoder is None
    assert small().partial_fit(X, y)._inputs.encoder is None
    assert small().fit(sparse.csr_array(X), y)._inputs.encoder is None


def test_frequent_values_come_first():
    X = amounts(2000)
    model = small().fit(X, X[:, 0] + (X[:, 1] > 0))
    assert isinstance(model._inputs.encoder, FrequentValueEncoder)


def test_a_target_that_turns_quickly_is_learnt_within_few_epochs(fitted):
    X, y = rows()
    given = {"hidden_layer_sizes": (16,), "max_iter": 6}
    scores = [small(**given, encoding=one).fit(X, y).score(X, y) for one in ("auto", None)]
    assert scores[0] > 0.9 > scores[1] + 0.3


def test_rows_held_out_have_them_too(fitted):
    X, y = rows(3000)
    model = small(early_stopping=True, validation_fraction=0.2).fit(X, y)
    assert model._inputs.encoder.n_bins == 12
    assert np.isfinite(model.history_["validation_loss"]).all()


def test_what_stands_on_a_fit(fitted, tmp_path):
    X, y = rows()
    save(fitted, tmp_path / "model.gflow")
    np.testing.assert_array_equal(load(tmp_path / "model.gflow").predict(X), fitted.predict(X))
    inside = X[:50] + 1e-4  # rows themselves may be at edges of bins, where there are two slopes
    h, found = 1e-6, fitted.gradient(inside)
    for j, step in enumerate(h * np.eye(3)):
        change = (fitted.predict(inside + step) - fitted.predict(inside - step)) / (2 * h)
        np.testing.assert_allclose(found[:, j], change, atol=1e-5)
    assert (fitted.predict(X[:5], return_std=True)[1] > 0).all()
    goes_on = small(warm_start=True).fit(X, y)
    before = goes_on._inputs.encoder
    assert goes_on.fit(X[:1200], y[:1200])._inputs.encoder is before


def test_tables_on_disk_and_frames_are_fitted_as_arrays(fitted, tmp_path):
    X, y = rows()
    mapped = np.memmap(tmp_path / "X", dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    np.testing.assert_array_equal(small().fit(mapped, y).predict(X), fitted.predict(X))
    frame = pd.DataFrame(X, columns=list("abc")).assign(kind=np.tile(["p", "q"], 1000))
    model = small().fit(frame, y)
    assert model.coefs_[0].shape[0] == 3 * 11 + 2
