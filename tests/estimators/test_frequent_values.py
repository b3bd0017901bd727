"""Columns that are mostly one value and repeat others, in the estimators."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    FrequentValueEncoder,
    SmoothRobustScaler,
    load,
    save,
)
from sklearn_gflow.estimators._candidates import Grid
from tests.inputs.data import amounts, numbers

SMALL = {"hidden_layer_sizes": (8,), "random_state": 0, "t_end": 0.5}


def coded(n=1200, seed=0):
    """A target that hangs on the exact amounts, by no rule."""
    X = amounts(n, seed)
    effects = np.random.default_rng(5).normal(size=25)
    place = np.searchsorted(np.unique(X[:, 1]), X[:, 1])
    return X, 0.3 * X[:, 0] + effects[place]


@pytest.fixture(scope="module")
def fitted():
    X, y = coded()
    return AdaptedFlowRegressor((16,), batch_size=256, random_state=0).fit(X, y)


@pytest.mark.slow
def test_they_have_indicators_by_default(fitted):
    X, _ = coded()
    encoder = FrequentValueEncoder(min_frequency=2.5 / len(X))
    encoder.fit(SmoothRobustScaler().fit_transform(X))
    assert isinstance(fitted._inputs.encoder, FrequentValueEncoder)
    np.testing.assert_array_equal(fitted._inputs.encoder.encoded_, [False, True, False])
    assert fitted.coefs_[0].shape[0] == len(encoder.get_feature_names_out())


@pytest.mark.slow
def test_which_learn_what_a_smooth_function_does_not(fitted):
    X, y = coded(seed=1)
    plain = AdaptedFlowRegressor((16,), batch_size=256, random_state=0, encoding=None)
    assert fitted.score(X, y) > 0.9
    assert plain.fit(*coded()).score(X, y) < 0.7


@pytest.mark.parametrize("n", [300, 1200])
def test_other_tables_are_fitted_as_without_encoding(n):
    """Few rows, or no such column: nothing differs."""
    X = amounts(n) if n < 1000 else numbers(n)
    y = X[:, 0] + np.sin(X[:, 1])
    parameters = {**SMALL, "batch_size": 128}
    found = AdaptedFlowRegressor(**parameters).fit(X, y)
    plain = AdaptedFlowRegressor(**parameters, encoding=None).fit(X, y)
    assert found._inputs.encoder is None
    np.testing.assert_array_equal(found.predict(X), plain.predict(X))


@pytest.mark.filterwarnings("ignore:columns of X are not scaled")
@pytest.mark.parametrize(
    "changed", [{"scale_inputs": False}, {"hidden_layer_sizes": ()}, {"sparse": True}]
)
def test_columns_that_are_to_stay_what_they_are(changed):
    X, y = coded()
    X = sparse.csr_array(X) if changed.pop("sparse", False) else X
    model = AdaptedFlowRegressor(**{**SMALL, "batch_size": 128, **changed})
    assert model.fit(X, y)._inputs.encoder is None


def test_raw_frames_with_gaps_and_categories():
    X, y = coded()
    frame = pd.DataFrame(X, columns=["a", "amount", "same"]).assign(kind=np.tile(["p", "q"], 600))
    frame.loc[::7, "a"] = None
    model = AdaptedFlowClassifier(**SMALL, batch_size=128).fit(frame, y > 0)
    assert isinstance(model._inputs.encoder, FrequentValueEncoder)
    assert model.predict_proba(frame).shape == (1200, 2)
    assert len(model.feature_importances_) == 4


def test_weights_that_are_all_the_same_change_nothing():
    X, y = coded()
    parameters = {**SMALL, "batch_size": 128}
    one = AdaptedFlowRegressor(**parameters).fit(X, y)
    other = AdaptedFlowRegressor(**parameters).fit(X, y, sample_weight=np.full(len(X), 2.0))
    for a, b in zip(
        one._inputs.encoder.frequent_values_,
        other._inputs.encoder.frequent_values_,
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_gradients_pass_through(fitted):
    X = coded()[0][:50]
    X = X + np.array([0.01, 1e-4, 0.01])
    h, found = 1e-5, fitted.gradient(X)
    for j, step in enumerate(h * np.eye(3)):
        change = (fitted.predict(X + step) - fitted.predict(X - step)) / (2 * h)
        np.testing.assert_allclose(found[:, j], change, atol=1e-5)


def test_files_hold_them(fitted, tmp_path):
    X = coded()[0]
    save(fitted, tmp_path / "model.gflow")
    np.testing.assert_array_equal(load(tmp_path / "model.gflow").predict(X), fitted.predict(X))


@pytest.mark.slow
def test_onnx_holds_them(fitted):
    skl2onnx = pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    import sklearn_gflow.onnx

    X = coded()[0]
    graph = skl2onnx.to_onnx(fitted, X[:1])
    session = runtime.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {"X": X})
    assert sklearn_gflow.onnx.__all__ == []
    np.testing.assert_allclose(found.ravel(), fitted.predict(X), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_rows_that_are_forgotten_leave_the_refit():
    X, y = coded(1150)
    rows = np.arange(0, 1150, 40)
    parameters = {**SMALL}
    model = AdaptedFlowRegressor(**parameters).fit(X, y)
    assert isinstance(model._inputs.encoder, FrequentValueEncoder)
    remaining = np.setdiff1d(np.arange(1150), rows)
    refit = AdaptedFlowRegressor(**parameters).fit(X[remaining], y[remaining])
    model.forget(rows)
    np.testing.assert_allclose(
        model._inputs.encoder.frequent_values_[1],
        refit._inputs.encoder.frequent_values_[1],
        rtol=1e-12,
    )
    np.testing.assert_allclose(model.predict(X), refit.predict(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("X", "first"), [(amounts(1200), "auto"), (numbers(1200), None)])
def test_searches_try_them_in_place_of_the_columns_as_they_are(X, first):
    plain = AdaptedFlowRegressor(**SMALL)
    rows, about = plain._checked(X, X[:, 0], None)
    whole = plain._problem(rows, None, about)
    assert whole.encoding_by_default == first
    ways = {"closed_form": True, "in_blocks": False, "once": False}
    grid = Grid.of(AdaptedFlowRegressorCV(), **ways, first=whole.encoding_by_default)
    assert grid.encodings[:2] == [first, "piecewise"]
    assert [one.plain for one in grid.candidates()[::2]] == [True, False, False, False, False]
