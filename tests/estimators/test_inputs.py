"""Raw tables in, columns of the network out: what an estimator makes of its inputs."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, SplineTransformer
from torch import nn

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)
from sklearn_gflow.estimators import _inputs, _rows
from sklearn_gflow.estimators._inputs import checked_rows
from sklearn_gflow.estimators._reading import TransformedRows
from sklearn_gflow.estimators._tensors import seed_of
from tests.estimators.data import classes, example, table

PLAIN = [AdaptedFlowRegressor, AdaptedFlowClassifier]
ALL = [*PLAIN, AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
SEED = seed_of(0)  # of what an estimator of random_state=0 draws
each_plain = pytest.mark.parametrize("estimator", PLAIN)


def small(estimator, **parameters):
    """As users get it: inputs are scaled."""
    return estimator(**{"hidden_layer_sizes": (12,), "random_state": 0, **parameters})


def regressor(**parameters):
    return small(AdaptedFlowRegressor, **parameters)


def classifier(**parameters):
    return small(AdaptedFlowClassifier, **{"hidden_layer_sizes": (30,), **parameters})


def columns(n=60, seed=0):
    """A raw table, column by column, with gaps in a column of numbers and in one of strings."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(50, 20, n)
    gaps[::7] = np.nan
    city = rng.choice(["Oslo", "Rome"], n).astype(object)
    city[::9] = None
    return {
        "size": rng.normal(1e3, 200, n),
        "gaps": gaps,
        "kind": rng.choice(["a", "b", "c"], n).astype(object),
        "city": city,
        "flag": rng.random(n) < 0.5,
    }


def frame(n=60, seed=0):
    made = pd.DataFrame(columns(n, seed))
    return made.astype({"kind": "category"})


def targets(estimator, X):
    y = (X["size"].to_numpy() - 1e3) / 200 + (X["kind"].to_numpy() == "a")
    return np.where(y > 0.3, "yes", "no") if "Classifier" in estimator.__name__ else y


def outputs(model, X):
    """Predictions as numbers."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def fit(estimator, X, y, **parameters):
    return small(estimator, **parameters).fit(X, y)


# -- raw tables --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ALL)
def test_a_raw_frame_needs_one_call(estimator):
    X = frame(90)
    y = targets(estimator, X)
    searched = {"encodings": [None], "alphas": [0.5]} if estimator not in PLAIN else {}
    model = fit(estimator, X[:60], y[:60], **searched)
    assert model.score(X[60:], y[60:]) > 0.85
    assert model.n_features_in_ == 5
    assert model.feature_names_in_.tolist() == list(X.columns)


@each_plain
def test_a_frame_is_the_pipeline_of_transformers(estimator):
    X = frame()
    y = targets(estimator, X)
    model = fit(estimator, X[:50], y[:50])
    last = small(estimator, scale_inputs=False)
    piped = make_pipeline(TableEncoder(random_state=SEED), SmoothRobustScaler(), last)
    piped.fit(X[:50], y[:50])
    np.testing.assert_array_equal(outputs(model, X), outputs(piped, X))


@pytest.mark.slow
def test_the_marks_of_a_column_say_nothing():
    made, y = columns(), targets(AdaptedFlowRegressor, frame())
    as_objects = pd.DataFrame({name: values.astype(object) for name, values in made.items()})
    as_strings = pd.DataFrame(made).astype({"kind": "string", "city": "string"})
    as_category = pd.DataFrame(made).astype({"kind": "category", "city": "category"})
    as_extension = pd.DataFrame(made).astype({"gaps": "Float64", "flag": "boolean"})
    as_rows = [list(row) for row in zip(*made.values(), strict=True)]
    expected = fit(AdaptedFlowRegressor, frame(), y).predict(frame())
    for X in (as_objects, as_strings, as_category, as_extension, as_objects.to_numpy(), as_rows):
        np.testing.assert_array_equal(fit(AdaptedFlowRegressor, X, y).predict(X), expected)


def test_polars_is_read_like_pandas():
    polars = pytest.importorskip("polars")
    made, y = columns(), targets(AdaptedFlowRegressor, frame())
    X = polars.DataFrame(made)
    marked = X.with_columns(polars.col("kind").cast(polars.Categorical))
    expected = fit(AdaptedFlowRegressor, frame(), y).predict(frame())
    for one in (X, marked):
        np.testing.assert_array_equal(fit(AdaptedFlowRegressor, one, y).predict(one), expected)
    weights = np.ones(60)
    weights[50:] = 0
    weighted = small(AdaptedFlowRegressor).fit(marked, y, sample_weight=weights)
    kept = fit(AdaptedFlowRegressor, frame()[:50], y[:50])
    np.testing.assert_array_equal(weighted.predict(marked), kept.predict(frame()))


@each_plain
def test_new_levels_and_gaps_are_predicted(estimator):
    X = frame()
    model = fit(estimator, X, targets(estimator, X))
    unseen = X.astype({"kind": object})
    unseen.loc[:3, "kind"] = "never seen"
    unseen.loc[:5, "city"] = "Paris"
    unseen.loc[2:8, "gaps"] = np.nan
    unseen.loc[4:9, "size"] = np.nan  # which had no gaps in fit
    assert np.isfinite(outputs(model, unseen)).all()
    filled = unseen.fillna({"size": X["size"].median()})
    np.testing.assert_allclose(outputs(model, unseen), outputs(model, filled))


def test_gaps_in_an_array_are_filled_and_marked():
    X, y = table(60)
    X[::5, 1] = np.nan
    y[::5] += 3  # what is missing tells
    model = regressor().fit(X[:40], y[:40])
    assert model.coefs_[0].shape[0] == 4
    assert model.score(X[40:], y[40:]) > 0.8


def test_gaps_that_fit_did_not_have_are_refused():
    X, y = table(20)
    model = regressor().fit(X, y)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.predict(X)


def test_a_wrong_frame_is_told():
    X = frame()
    model = fit(AdaptedFlowRegressor, X, targets(AdaptedFlowRegressor, X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"kind": "sort"}))
    with pytest.raises(ValueError, match="now holds 'big'"):
        model.predict(X.assign(size="big"))
    with pytest.raises(ValueError, match="at least one row and one column"):
        regressor().fit(X[[]], np.arange(60.0))
    with pytest.raises(ValueError, match="at least one row and one column"):
        regressor().fit(X["kind"], np.arange(60.0))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        regressor().fit(X, np.arange(59.0))


@each_plain
def test_rows_of_weight_zero_are_not_there(estimator):
    X = frame()
    y = targets(estimator, X)
    X = X.assign(size=X["size"].where(X.index < 50, 1e9), city=X["city"].where(X.index < 50, "??"))
    weights = np.where(np.arange(60) < 50, 1.0, 0.0)
    weighted = small(estimator).fit(X, y, sample_weight=weights)
    without = fit(estimator, X[:50], y[:50])
    np.testing.assert_array_equal(outputs(weighted, X[:50]), outputs(without, X[:50]))


def test_weights_are_copies_for_the_scaling_too():
    X, y = table(30)
    X = X * [1, 100, 1e-3]
    weights = np.arange(30) % 3 + 1
    weighted = regressor().fit(X, y, sample_weight=weights)
    copied = regressor().fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict(X), copied.predict(X), rtol=1e-8)


@each_plain
def test_rows_to_stop_by_may_be_a_frame(estimator):
    X = frame(90)
    y = targets(estimator, X)
    model = small(estimator, early_stopping=True)
    model.fit(X[:50], y[:50], X_val=X[50:70], y_val=y[50:70])
    assert model.score(X[50:70], y[50:70]) == pytest.approx(model.best_validation_score_)
    assert model.score(X[70:], y[70:]) > 0.8


# -- what goes on keeps its inputs -------------------------------------------------------------


def test_chunks_keep_the_inputs_of_the_first():
    X = frame()
    y = targets(AdaptedFlowRegressor, X)
    model = small(AdaptedFlowRegressor, encoding="piecewise").partial_fit(X[:40], y[:40])
    inputs = model._inputs
    other = X[40:].assign(size=X["size"][40:] * 50, kind="never seen", gaps=np.nan)
    model.partial_fit(other, y[40:])
    assert model._inputs is inputs


def test_a_warm_start_keeps_the_inputs_of_the_first_fit():
    X, y = table(30)
    model = regressor(warm_start=True, encoding="piecewise", rescalings=1, t_end=0.5).fit(X, y)
    inputs, before = model._inputs, model.loss_
    assert model.fit(X, y).loss_ < before
    assert model._inputs is inputs
    anew = clone(model).fit(10 * X + 3, y)
    assert anew._inputs.scaler.center_ == pytest.approx(10 * inputs.scaler.center_ + 3)


# -- scales ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_columns_of_any_unit_do_as_well():
    losses = []
    for seed in range(6):
        X, y = table(120, seed=seed)
        raw, units = regressor().fit(X[:60] * 1e4 + 1e6, y[:60]), X * 1e4 + 1e6
        scaled = regressor().fit(X[:60], y[:60])
        np.testing.assert_allclose(raw.predict(units), scaled.predict(X), rtol=1e-5)
        standardised = regressor(scale_inputs=False).fit(X[:60], y[:60])
        losses.append(standardised.score(X[60:], y[60:]) - raw.score(units[60:], y[60:]))
    assert np.mean(losses) < 0.03, losses


def test_standardised_columns_are_predicted_nearly_alike():
    X, y = table(200)
    scaled, unscaled = (
        regressor(scale_inputs=asked).fit(X, y).predict(X) for asked in (True, False)
    )
    assert np.corrcoef(scaled, unscaled)[0, 1] > 0.995
    assert not np.array_equal(scaled, unscaled)


def test_wine_as_it_comes():
    X, y = load_wine(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    assert classifier().fit(X_train, y_train).score(X_test, y_test) > 0.95


def test_a_module_gets_the_columns_as_they_are():
    X, y = table(30)
    seen = regressor(module=nn.Linear, random_state=0).fit(X, y)
    assert seen._inputs.scaler is None
    assert regressor(module=nn.Linear, scale_inputs=True).fit(X, y)._inputs.scaler is not None


def test_a_linear_network_stays_linear():
    X, y = table(40)
    X[0] *= 30
    model = regressor(hidden_layer_sizes=(), t_end=0.9).fit(X, y)
    line = np.linspace(-100, 100, 5)[:, None] * np.ones(3)
    np.testing.assert_allclose(np.diff(model.predict(line), 2), 0, atol=1e-9)
    bent = regressor(t_end=0.9).fit(X, y).predict(line)
    assert np.ptp(bent) < np.ptp(model.predict(line))


def test_single_precision_stays():
    X, y = table(30)
    single = X.astype(np.float32)
    model = regressor(dtype="float32", encoding="piecewise").fit(single, y)
    assert model._inputs.of_rows(single).dtype == np.float32
    assert checked_rows(clone(model), single, y, reset=True, least=2)[0].dtype == np.float32
    assert model.predict(single).dtype == np.float32
    assert model.predict(X).dtype == np.float32
    assert regressor().fit(single, y).predict(single).dtype == np.float64


# -- tables on disk ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_table_on_disk_is_transformed_block_by_block(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(100, 30, (1000, 4)).astype(np.float32)
    y = np.sin(X[:, 0] / 30) + 0.02 * X[:, 1]
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    monkeypatch.setattr(_inputs, "_LEARNT_FROM", 500)
    settings = {"batch_size": 250, "encoding": "piecewise", "rescalings": 1, "t_end": 0.9}
    expected = regressor(**settings).fit(X, y).predict(X)

    def made_whole(self, *_, **__):
        raise AssertionError("all rows at once")

    monkeypatch.setattr(TransformedRows, "__array__", made_whole)
    model = regressor(**settings).fit(mapped, y)
    assert isinstance(model._inputs.of_rows(mapped), TransformedRows)
    np.testing.assert_array_equal(model.predict(mapped), expected)
    assert model.score(mapped, y) > 0.9


def test_what_would_take_much_is_made_when_it_is_asked_for(monkeypatch):
    X = frame(80)
    y = targets(AdaptedFlowRegressor, X)
    settings = {"encoding": "piecewise", "rescalings": 1, "batch_size": 20, "t_end": 0.8}
    expected = fit(AdaptedFlowRegressor, X, y, **settings)
    monkeypatch.setattr(_rows, "_HELD_BYTES", 100)
    lazy = fit(AdaptedFlowRegressor, X, y, **settings)
    np.testing.assert_allclose(lazy.predict(X), expected.predict(X), rtol=1e-6)
    np.testing.assert_allclose(lazy.feature_importances_, expected.feature_importances_)


def test_quantiles_are_learnt_from_some_of_many_rows(monkeypatch):
    X, y = table(120)
    monkeypatch.setattr(_inputs, "_LEARNT_FROM", 50)
    model = regressor(encoding="piecewise").fit(X, y, sample_weight=np.ones(120))
    centre = SmoothRobustScaler().fit(X).center_
    assert 0 < np.abs(model._inputs.scaler.center_ - centre).max() < 0.5
    assert model.score(X, y) > 0.9


# -- encodings ---------------------------------------------------------------------------------


class Squares(TransformerMixin, BaseEstimator):
    """A user's transformer: no weights, no names."""

    def fit(self, X, y=None):
        self.fitted_on_ = X.shape
        return self

    def transform(self, X):
        return np.hstack([X, X**2])


@pytest.mark.parametrize(
    ("encoding", "by_hand"),
    [
        ("piecewise", PiecewiseLinearEncoder()),
        ("periodic", PeriodicEncoder(random_state=SEED)),
        (PeriodicEncoder(scale=0.4), PeriodicEncoder(scale=0.4, random_state=SEED)),
        (PiecewiseLinearEncoder(n_bins=3), PiecewiseLinearEncoder(n_bins=3)),
        (SplineTransformer(), SplineTransformer()),
        (Squares(), Squares()),
    ],
)
@each_plain
def test_an_encoding_is_the_transformer_in_a_pipeline(estimator, encoding, by_hand):
    X, y = example(estimator, n=40)
    model = fit(estimator, X, y, encoding=encoding)
    last = small(estimator, scale_inputs=False)
    piped = make_pipeline(SmoothRobustScaler(), by_hand, last).fit(X, y)
    np.testing.assert_array_equal(outputs(model, X), outputs(piped, X))


def test_encoders_get_the_weights_that_they_take():
    X, y = table(40)
    weights = np.arange(40) % 3 + 1
    for encoding in ("piecewise", Squares()):
        model = regressor(encoding=encoding).fit(X, y, sample_weight=weights)
        copied = regressor(encoding=encoding).fit(
            np.repeat(X, weights, axis=0), np.repeat(y, weights)
        )
        np.testing.assert_allclose(model.predict(X), copied.predict(X), rtol=1e-7)


def test_the_users_encoder_is_not_touched():
    own, periodic = Squares(), PeriodicEncoder()
    X, y = table(20)
    regressor(encoding=own).fit(X, y)
    regressor(encoding=periodic).fit(X, y)
    assert not hasattr(own, "fitted_on_")
    assert periodic.random_state is None


def test_an_encoder_may_return_a_sparse_matrix():
    X, y = table(40)
    bins = {"n_bins": 4, "strategy": "uniform"}
    sparse = regressor(encoding=KBinsDiscretizer(**bins)).fit(X, y)
    dense = regressor(encoding=KBinsDiscretizer(**bins, encode="onehot-dense")).fit(X, y)
    np.testing.assert_array_equal(sparse.predict(X), dense.predict(X))


def test_encodings_leave_indicators_alone():
    X = frame()
    y = targets(AdaptedFlowRegressor, X)
    model = fit(AdaptedFlowRegressor, X, y, encoding=Squares())
    assert model._inputs.encoder.fitted_on_ == (60, 3)  # size, gaps, flag
    plain = fit(AdaptedFlowRegressor, X, y)
    assert model.coefs_[0].shape[0] == plain.coefs_[0].shape[0] + 3
    only_levels = fit(AdaptedFlowRegressor, X[["kind"]], y, encoding="piecewise")
    assert only_levels._inputs.encoder is None


def test_the_seed_decides_on_the_frequencies():
    X, y = table(30)

    def waves(seed):
        model = regressor(encoding="periodic", random_state=seed).fit(X, y)
        return model._inputs.encode(X)

    np.testing.assert_array_equal(waves(3), waves(3))
    assert np.abs(waves(3) - waves(4)).max() > 0.1


@pytest.mark.parametrize("encoding", ["cubic", 3, object()])
def test_what_is_no_encoding_is_refused(encoding):
    with pytest.raises(ValueError, match="'encoding' parameter"):
        regressor(encoding=encoding).fit(*table(20))


@each_plain
def test_tags_say_what_is_taken(estimator):
    tags = estimator().__sklearn_tags__().input_tags
    assert tags.allow_nan
    assert tags.categorical
    assert tags.string


def test_classes_by_chunks_of_frames():
    X = frame(80)
    y = targets(AdaptedFlowClassifier, X)
    model = classifier(batch_size=20)
    for rows in np.split(np.arange(80), 4) * 4:
        model.partial_fit(X.iloc[rows], y[rows], classes=["no", "yes"])
    assert model.score(X, y) > 0.85


def test_plain_numbers_do_not_need_pandas_dtypes():
    X, y = classes(30)
    expected = classifier().fit(X, y).predict_proba(X)
    as_frame = pd.DataFrame(X, columns=["a", "b", "c"])
    np.testing.assert_array_equal(classifier().fit(as_frame, y).predict_proba(as_frame), expected)
