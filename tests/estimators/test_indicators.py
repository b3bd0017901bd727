"""Several labels a row: a matrix of zeros and ones, an output and a probability for each column."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from scipy.special import expit
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import accuracy_score, average_precision_score, log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.neural_network import MLPClassifier

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    GramMemoryError,
    collapse_scorer,
)
from sklearn_gflow.plots import CollapseDisplay
from tests.estimators.data import classes

LOSSES = ["squared_error", "log_loss"]
CERTAIN = 1e-12


def indicators(n=40, n_labels=3):
    return make_multilabel_classification(n, 6, n_classes=n_labels, n_labels=2, random_state=0)


def small(**parameters):
    return AdaptedFlowClassifier((40,), random_state=0, **parameters)


def search(**parameters):
    grid = {"encodings": [None], "alphas": (0.5, 0.8), "t_ends": (0.5, 0.9), "ensemble": False}
    return AdaptedFlowClassifierCV((40,), random_state=0, **{**grid, **parameters})


def mean_log_loss(y, p):
    return np.mean([log_loss(y[:, k], p[:, k], labels=[0, 1]) for k in range(y.shape[1])])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("make", [small, search])
class TestForm:
    @pytest.mark.slow
    def test_is_that_of_the_mlp(self, make, loss):
        X, y = indicators()
        model = make(loss=loss).fit(X, y)
        mlp = MLPClassifier((8,), random_state=0).partial_fit(X, y, classes=[0, 1, 2])
        np.testing.assert_array_equal(model.classes_, mlp.classes_)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            ours, theirs = getattr(model, method)(X), getattr(mlp, method)(X)
            assert ours.shape == theirs.shape == y.shape, method
            assert ours.dtype == theirs.dtype, method

    @pytest.mark.slow
    def test_predictions_are_the_labels_that_are_more_likely_there_than_not(self, make, loss):
        X, y = indicators()
        model = make(loss=loss).fit(X, y)
        p, scores = model.predict_proba(X), model.decision_function(X)
        assert ((p > 0) & (p < 1)).all()
        assert scores.shape == y.shape
        np.testing.assert_array_equal(model.predict(X), p > 0.5)
        np.testing.assert_array_equal(model.predict(X), scores > 0)
        assert model.score(X, y) == accuracy_score(y, model.predict(X)) > 0.5
        assert np.ptp(p.sum(axis=1)) > 0.1  # they do not exclude each other

    @pytest.mark.slow
    @pytest.mark.parametrize("container", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
    def test_sparse_in_sparse_out(self, make, loss, container):
        X, y = indicators()
        dense, sparse = make(loss=loss).fit(X, y), make(loss=loss).fit(X, container(y))
        assert scipy.sparse.issparse(sparse.predict(X))
        np.testing.assert_array_equal(sparse.predict(X).toarray(), dense.predict(X))
        np.testing.assert_array_equal(sparse.predict_proba(X), dense.predict_proba(X))
        assert sparse.score(X, container(y)) == dense.score(X, y)

    @pytest.mark.slow
    def test_other_containers(self, make, loss):
        X, y = indicators()
        expected = make(loss=loss).fit(X, y).predict_proba(X)
        for other in (y.astype(bool), y.astype(float), y.tolist(), pd.DataFrame(y),
                      torch.from_numpy(y)):  # fmt: skip
            model = make(loss=loss).fit(X, other)
            np.testing.assert_array_equal(model.predict_proba(X), expected)
            assert model.predict(X).dtype == int


class TestOutputs:
    def test_squared_error_is_the_regression_on_indicators(self):
        X, y = indicators()
        model = small().fit(X, y)
        # The regressor has units of its own, which a constant deviation takes out.
        y_even = np.vstack([y, 1 - y])
        X_even = np.vstack([X, X])
        model = small(scale_inputs=False).fit(X_even, y_even)
        numbers = AdaptedFlowRegressor((40,), random_state=0, scale_inputs=False)
        numbers.fit(X_even, y_even)
        np.testing.assert_allclose(
            model.decision_function(X) + 0.5, numbers.predict(X), rtol=0, atol=1e-9
        )

    def test_one_label_beside_its_copy_is_two_classes(self):
        X, y = classes(n_classes=2)
        single = small(alpha=0.0).fit(X, y)
        double = small(alpha=0.0).fit(X, np.column_stack([y, y]))
        assert double.n_outputs_ == 2
        assert (double.predict(X)[:, 0] == single.predict(X)).mean() > 0.9
        n = len(y)
        p = (n * np.clip(double.decision_function(X) + 0.5, 0, 1) + 0.5) / (n + 1)
        np.testing.assert_allclose(double.predict_proba(X), p, rtol=1e-14)

    def test_log_loss_starts_at_the_frequencies_and_its_scores_are_logits(self):
        X, y = indicators()
        model = small(loss="log_loss").fit(X, y)
        np.testing.assert_allclose(expit(model.initial_output_), y.mean(axis=0))
        np.testing.assert_allclose(model.predict_proba(X), expit(model.decision_function(X)))
        p = np.tile(y.mean(axis=0), (len(y), 1))
        assert model.loss_curve_[0] == pytest.approx(3 * mean_log_loss(y, p))
        assert model.loss_ == pytest.approx(3 * mean_log_loss(y, model.predict_proba(X)), rel=1e-9)

    def test_smoothed_labels_are_the_limit_at_full_rank(self):
        X, y = indicators(n=12)
        model = small(
            loss="log_loss", label_smoothing=0.2, alpha=1.0, t_end=1.0, scale_inputs=False
        ).fit(X / 5, y)
        np.testing.assert_allclose(model.predict_proba(X / 5), 0.8 * y + 0.1, atol=1e-6)
        assert model.limit_distance_ < 1e-5

    @pytest.mark.parametrize("loss", LOSSES)
    def test_labels_that_all_rows_have_or_none(self, loss):
        X, y = indicators()
        y[:, 0], y[:, 1] = 0, 1
        model = small(loss=loss).fit(X, y)
        assert np.isfinite(model.initial_output_).all()
        np.testing.assert_array_equal(model.predict(X)[:, :2], y[:, :2])
        p = model.predict_proba(X)
        assert ((p > 0) & (p < 1)).all()

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_weight_is_so_many_copies(self, loss):
        X, y = indicators(n=20)
        w = np.arange(20) % 3
        weighted = small(loss=loss).fit(X, y, sample_weight=w)
        copied = small(loss=loss).fit(np.repeat(X, w, axis=0), np.repeat(y, w, axis=0))
        np.testing.assert_allclose(
            weighted.predict_proba(X), copied.predict_proba(X), rtol=1e-7, atol=1e-9
        )


class TestAlongTheWay:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_nothing_collapses(self, loss):
        X, y = indicators()
        model = small(loss=loss).fit(X, y)
        assert model.collapse_ is None
        assert model.neural_collapse_ == {}
        for name in ("within_class", "between_class"):
            assert model.history_[name].shape == model.history_["t"].shape
            assert np.isnan(model.history_[name]).all()
        with pytest.raises(ValueError, match="several labels have no classes to collapse"):
            CollapseDisplay.from_estimator(model)
        with pytest.raises(ValueError, match="several labels"):
            collapse_scorer(model, X, y)

    @pytest.mark.parametrize("stop", [True, "loo"])
    def test_early_stopping(self, stop):
        X, y = indicators(n=60)
        model = small(early_stopping=stop).fit(X, y)
        assert 0 <= model.t_ <= 0.95
        if stop is True:
            best = small(early_stopping=True).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
            assert best.best_validation_score_ == pytest.approx(best.score(X[40:], y[40:]))
        else:
            assert np.isfinite(model.loo_scores_).all()

    def test_stages(self):
        X, y = indicators()
        model = small(store_path=True).fit(X, y)
        stages = list(model.staged_predict_proba(X))
        assert len(stages) == len(model.history_["t"])
        np.testing.assert_allclose(stages[-1], model.predict_proba(X))
        np.testing.assert_array_equal(list(model.staged_predict(X))[-1], model.predict(X))

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", LOSSES)
    def test_blocks_learn(self, loss):
        X, y = indicators(n=300)
        model = small(loss=loss, batch_size=64).fit(X[:200], y[:200])
        p = np.tile(y.mean(axis=0), (100, 1))
        assert mean_log_loss(y[200:], model.predict_proba(X[200:])) < mean_log_loss(y[200:], p)

    def test_warm_start_goes_on(self):
        X, y = indicators()
        model = small(warm_start=True, t_end=0.5).fit(X, y)
        loss = model.loss_
        assert model.fit(X, y).loss_ < loss
        with pytest.raises(ValueError, match="several labels a row, and y has one label a row"):
            model.fit(X, y[:, 0])
        with pytest.raises(ValueError, match=r"needs the classes of the last fit: \[0, 1, 2\]"):
            model.fit(X, y[:, :2])


class TestChunks:
    @pytest.mark.slow
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("known", [None, [0, 1, 2]])
    def test_learn(self, loss, known):
        X, y = indicators(n=120)
        model = small(loss=loss)
        for _ in range(2):
            for rows in (slice(0, 40), slice(40, 80)):
                model.partial_fit(X[rows], y[rows], known)
        assert model.predict_proba(X).shape == y.shape
        p = np.tile(y.mean(axis=0), (80, 1))
        assert mean_log_loss(y[:80], model.predict_proba(X[:80])) < mean_log_loss(y[:80], p)
        np.testing.assert_array_equal(model.classes_, [0, 1, 2])

    def test_keep_their_kind(self):
        X, y = indicators()
        model = small().partial_fit(X, y)
        with pytest.raises(ValueError, match="several labels a row, and y has one label a row"):
            model.partial_fit(X, y[:, 0])
        single = small().partial_fit(X, y[:, 0], [0, 1])
        with pytest.raises(ValueError, match="one label a row, and y has several labels a row"):
            single.partial_fit(X, y)
        with pytest.raises(ValueError, match="partial_fit continues with the classes"):
            model.partial_fit(X, y[:, :2])

    def test_classes_number_the_columns(self):
        X, y = indicators()
        with pytest.raises(ValueError, match="classes must number the columns of y"):
            small().partial_fit(X, y, ["a", "b", "c"])


class TestSearch:
    @pytest.mark.slow
    @pytest.mark.parametrize("cv", [None, KFold(3)])
    @pytest.mark.parametrize("loss", LOSSES)
    def test_scores_are_log_losses_of_rows_held_out(self, loss, cv):
        X, y = indicators()
        model = search(loss=loss, cv=cv).fit(X, y)
        p = np.tile(y.mean(axis=0), (len(y), 1))
        assert -mean_log_loss(y, p) < model.best_score_ < 0
        assert model.temperature_ > 0

    @pytest.mark.slow
    def test_probabilities_are_calibrated_by_one_temperature(self):
        X, y = indicators()
        model = search(loss="log_loss").fit(X, y)
        n, z = len(y), model.decision_function(X) / model.temperature_
        np.testing.assert_allclose(model.predict_proba(X), (n * expit(z) + 0.5) / (n + 1))

    def test_scorers_of_scikit_learn(self):
        X, y = indicators()
        cv = KFold(3)
        model = search(
            cv=cv, scoring="average_precision", alphas=(0.5,), t_ends=(0.9,)
        ).fit(X, y)  # fmt: skip
        seed = model.best_estimator_.random_state
        fixed = AdaptedFlowClassifier((40,), alpha=0.5, t_end=0.9, random_state=seed)
        scores = [
            average_precision_score(y[b], fixed.fit(X[a], y[a]).decision_function(X[b]))
            for a, b in cv.split(X)
        ]
        assert model.best_score_ == pytest.approx(np.mean(scores))


@pytest.mark.slow
def test_searches_of_scikit_learn():
    X, y = indicators()
    assert cross_val_predict(small(), X, y, cv=3, method="predict_proba").shape == y.shape
    grid = GridSearchCV(small(), {"alpha": [0.1, 0.9]}, cv=3, scoring="roc_auc").fit(X, y)
    assert grid.best_score_ > 0.6


class TestRefused:
    @pytest.mark.parametrize("weight", ["balanced", {0: 2.0}])
    def test_weights_of_classes(self, weight):
        with pytest.raises(ValueError, match=r"class_weight=.* several labels; set"):
            small(class_weight=weight).fit(*indicators())

    def test_other_numbers(self):
        X, y = indicators()
        with pytest.raises(ValueError, match=r"must be 1 where a row has a label.*\[1, 2\]"):
            small().fit(X, y + 1)

    def test_rows_to_stop_by_of_another_kind(self):
        X, y = indicators()
        model = small(early_stopping=True)
        with pytest.raises(ValueError, match="y_val must have a column for each label"):
            model.fit(X, y, X_val=X, y_val=y[:, 0])
        with pytest.raises(ValueError, match="y_val must have the 3 columns of y, and has 2"):
            model.fit(X, y, X_val=X, y_val=y[:, :2])

    def test_sets_of_one_label(self):
        with pytest.raises(ValueError, match="predict_set holds one label a row, and the rows of"):
            small().fit(*indicators()).predict_set(indicators()[0])

    def test_more_than_memory_holds(self):
        X = np.zeros((1000, 2))
        y = scipy.sparse.csr_array((1000, 5000), dtype=int)
        with pytest.raises(GramMemoryError, match="y with its 5000 labels on 1000 rows"):
            small(max_memory=2**20).fit(X, y)
