import pickle
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.estimators.data import (
    ALPHAS,
    ESTIMATORS,
    classes,
    classifier,
    example,
    regressor,
    small,
    table,
)

pytestmark = pytest.mark.slow

# Steps are computed in float64 where the ridge is small.
EXACT = {"damping": 1e-5}


def model_outputs(model, X):
    return model.predict_proba(X) if is_classifier(model) else model.predict(X)


def test_large_blocks_keep_their_small_modes_whatever_the_ridge():
    # In float32 this ridge is below the rounding of a factor of 600 rows.
    model = AdaptedFlowRegressor((30, 30), batch_size=600, damping=3e-4, schedule=1, random_state=0)
    assert "eigh" not in model.fit(*table(650)).solver_


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestBoth:
    def test_same_seed_same_result(self, estimator):
        X, y = example(estimator)

        def outputs(seed):
            model = small(estimator, batch_size=6, random_state=seed)
            return model_outputs(model.fit(X, y), X)

        np.testing.assert_array_equal(outputs(3), outputs(3))
        assert not np.allclose(outputs(3), outputs(4))

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_a_block_of_all_rows_is_the_full_batch(self, estimator, alpha):
        X, y = example(estimator)
        full = small(estimator, alpha=alpha, batch_size=None).fit(X, y)
        for rows in (len(y), 10 * len(y)):
            model = small(estimator, alpha=alpha, batch_size=rows).fit(X, y)
            np.testing.assert_array_equal(model_outputs(model, X), model_outputs(full, X))
            assert model.loss_curve_ == full.loss_curve_

    def test_automatic_blocks_begin_above_the_bound(self, estimator, monkeypatch):
        X, y = example(estimator)
        automatic = small(estimator).fit(X, y)
        assert "undone" not in automatic.history_
        monkeypatch.setattr("sklearn_gflow.estimators._settings.FULL_BATCH_SIZE", 10)
        monkeypatch.setattr("sklearn_gflow.estimators._settings._BLOCK_ROWS", 7)
        automatic = small(estimator).fit(X, y)
        given = small(estimator, batch_size=7).fit(X, y)
        np.testing.assert_array_equal(model_outputs(automatic, X), model_outputs(given, X))

    @pytest.mark.parametrize("rows", [1, 2])
    def test_blocks_of_few_rows(self, estimator, rows):
        X, y = example(estimator)
        assert small(estimator, batch_size=rows).fit(X, y).score(X, y) > 0.8

    def test_a_weight_of_zero_is_absence(self, estimator):
        X, y = example(estimator)
        weights = np.ones(len(y))
        weights[::4] = 0
        weighted = small(estimator, batch_size=5).fit(X, y, sample_weight=weights)
        absent = small(estimator, batch_size=5).fit(X[weights > 0], y[weights > 0])
        np.testing.assert_allclose(
            model_outputs(weighted, X), model_outputs(absent, X), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_a_weight_is_copies_in_the_same_block(self, estimator, alpha):
        # Copies that fall into different blocks are seen in turn, so that this is as much as holds.
        X, y = example(estimator, n=20)
        weighted = small(estimator, batch_size=5, shuffle=False, alpha=alpha, **EXACT)
        weighted.fit(X, y, sample_weight=np.full(len(y), 2))
        copied = small(estimator, batch_size=10, shuffle=False, alpha=alpha, **EXACT)
        copied.fit(np.repeat(X, 2, axis=0), np.repeat(y, 2))
        np.testing.assert_allclose(
            model_outputs(weighted, X), model_outputs(copied, X), rtol=1e-8, atol=1e-9
        )

    def test_heavy_rows_are_fitted_better(self, estimator):
        X, y = example(estimator, n=60)
        y = np.random.default_rng(0).permutation(y)  # noise: what weighs little is not learnt
        heavy = np.arange(60) % 4 == 0
        model = small(estimator, batch_size=20, t_end=0.8)
        model.fit(X, y, sample_weight=np.where(heavy, 5, 1))
        assert model.score(X[heavy], y[heavy]) > model.score(X[~heavy], y[~heavy]) + 0.1

    def test_columns_of_the_history_are_equally_long(self, estimator):
        X, y = example(estimator)
        model = small(estimator, batch_size=6, schedule=4, t_end=0.95, init_scale=1.0).fit(X, y)
        assert {len(column) for column in model.history_.values()} == {model.n_iter_ + 1}
        assert model.n_iter_ == 4
        assert model.t_ == pytest.approx(0.95)
        assert model.history_["rank"][-1] == model.ntk_rank_
        assert np.isfinite(model.history_["rank"]).all()
        assert np.isnan(model.history_["step_error"]).all()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_predictions_have_the_dtype_of_the_parameter(self, estimator, dtype):
        X, y = example(estimator)
        for data in (X, X.astype(np.float32)):
            model = small(estimator, batch_size=6, dtype=dtype).fit(data, y)
            assert model.coefs_[0].dtype == dtype
            if estimator is AdaptedFlowRegressor:
                assert model.predict(data).dtype == dtype
            else:
                assert model.decision_function(data).dtype == dtype

    def test_clone_pickle_pipeline_and_search(self, estimator):
        X, y = example(estimator)
        model = make_pipeline(StandardScaler(), small(estimator, batch_size=6))
        step = estimator.__name__.lower()
        search = GridSearchCV(model, {f"{step}__batch_size": [4, None, "auto"]}, cv=2).fit(X, y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        fitted = clone(model).fit(X, y)
        assert fitted[-1].batch_size == 6
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(model_outputs(again, X), model_outputs(fitted, X))

    @pytest.mark.parametrize("batch_size", [0, -3, "some", 2.5, (3,)])
    def test_batch_size_out_of_range(self, estimator, batch_size):
        with pytest.raises(ValueError, match=r"'batch_size' parameter .* must be"):
            small(estimator, batch_size=batch_size).fit(*example(estimator))

    def test_integrators_have_no_blocks(self, estimator):
        with pytest.raises(ValueError, match="method='RK45' integrates the full batch; set batch"):
            small(estimator, batch_size=5, method="RK45").fit(*example(estimator))

    def test_a_table_on_disk_is_not_copied(self, estimator, tmp_path):
        n, n_features = 300_000, 32  # of which 50,000 rows say how columns are scaled
        dtype = "float64" if is_classifier(estimator()) else "float32"
        rng = np.random.default_rng(0)
        on_disk = np.memmap(tmp_path / "X", dtype=dtype, mode="w+", shape=(n, n_features))
        on_disk[:] = rng.normal(size=(n, n_features))
        y = on_disk[:, 0] + on_disk[:, 1] > 0
        on_disk.flush()
        on_disk = np.memmap(tmp_path / "X", dtype=dtype, mode="r", shape=(n, n_features))
        model = estimator((4,), batch_size=500, schedule=1, random_state=0)
        tracemalloc.start()  # of numpy's memory; a map from disk is none
        try:
            model.fit(on_disk, y)
            fitting = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            score = model.score(on_disk, y)
            predicting = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert score > 0.5
        copy = 8 * n * n_features  # in the precision of the model
        assert fitting < copy / 2
        assert predicting < copy / 2


class TestRegressor:
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_several_outputs(self, alpha):
        X, y = table(40)
        Y = np.stack([y, -2 * y + X[:, 1], np.full(40, 5.0)], axis=1)
        model = regressor(batch_size=10, alpha=alpha, t_end=0.998).fit(X, Y)
        predicted = model.predict(X)
        assert predicted.shape == (40, 3)
        np.testing.assert_allclose(predicted[:, 2], 5, atol=0.15)
        errors = ((predicted - Y)[:, :2] ** 2).mean(axis=0)
        assert (errors < 0.2 * Y[:, :2].var(axis=0)).all()

    def test_features_off_their_scale_are_reported(self):
        X, y = table(40)
        model = regressor(batch_size=8, activation="relu", alpha=1.0)
        with pytest.warns(ConvergenceWarning, match=r"Scale the features"):
            model.fit(1e10 * X, y)
        assert "no step, however short" in model.outcome_
        assert "epochs raised the loss and were undone" in model.outcome_
        assert model.loss_ <= model.loss_curve_[0]  # what was undone is not in the model
        assert model.history_["undone"][-1] > 0

    def test_not_finite(self):
        X, y = table(40)
        with pytest.raises(ValueError, match=r"Training failed at t=.*Scale the features"):
            regressor(batch_size=8, activation="relu", hidden_layer_sizes=(5,) * 4).fit(
                1e200 * X, y
            )


class TestClassifier:
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_classes_absent_from_a_block(self, loss, n_classes):
        X, y = classes(n=45, n_classes=n_classes)
        order = np.argsort(y, kind="stable")  # unshuffled, each block has one class or two
        model = classifier(loss=loss, batch_size=5, shuffle=False, schedule=20)
        assert model.fit(X[order], y[order]).score(X, y) > 0.75
        probabilities = model.predict_proba(X)
        assert probabilities.shape == (45, n_classes)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_log_loss(self, alpha):
        X, y = classes(n=45)
        model = classifier(loss="log_loss", batch_size=10, alpha=alpha).fit(X, y)
        assert model.loss_ < model.loss_curve_[0]
        assert model.loss_ == pytest.approx(-model.predict_log_proba(X)[range(45), y].mean(), 1e-4)

    def test_a_class_with_one_row_is_in_the_subsample(self, monkeypatch):
        monkeypatch.setattr("sklearn_gflow.estimators._training._PROBE_ROWS", 10)
        X, y = classes(n=60)
        y[-1] = 3
        model = classifier(batch_size=10).fit(X, y)
        assert model.collapse_.class_means.shape == (4, 4)
        assert np.isfinite(model.collapse_.class_means).all()

    def test_class_weight(self):
        X, y = classes(n=40, n_classes=2)
        y[:] = np.where(np.arange(40) < 36, 0, 1)
        recall = [
            classifier(batch_size=10, class_weight=weight).fit(X, y).predict(X)[y == 1].mean()
            for weight in (None, {0: 1, 1: 10})
        ]
        assert recall[1] == 1 > recall[0]
