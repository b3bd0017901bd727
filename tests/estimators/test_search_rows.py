"""Rows of a search: weights and copies, groups, single rows, folds that lack something."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, cross_val_predict

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV
from tests.estimators.searches import SEARCHES, calibrated_log_loss, example, small

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("search", SEARCHES)
class TestRows:
    @pytest.mark.parametrize("cv", [None, "groups"])
    def test_copies_are_held_out_together(self, search, cv):
        """And a weight of k counts as k of them."""
        X, y = example(search, 30)
        weights = 1.0 + np.arange(30) % 3
        copies = np.repeat(np.arange(30), weights.astype(int))
        groups = np.arange(30) % 3
        parameters = {"init_scales": [1.0], "dtype": "float64", "damping": 1e-5}
        parameters["cv"] = None if cv is None else GroupKFold(3)
        weighted, copied = (small(search, **parameters) for _ in range(2))
        weighted.fit(X, y, sample_weight=weights, groups=None if cv is None else groups)
        copied.fit(X[copies], y[copies], groups=None if cv is None else groups[copies])
        names = ["mean_test_score", "mean_test_loss"]
        names += ["loo_loss"] if cv is None else [f"split{k}_test_score" for k in range(3)]
        for name in names:
            np.testing.assert_allclose(
                weighted.cv_results_[name], copied.cv_results_[name], rtol=1e-6
            )
        np.testing.assert_allclose(
            weighted.feature_importances_, copied.feature_importances_, rtol=1e-6
        )

    @pytest.mark.parametrize("cv", [None, 3])
    def test_a_weight_of_zero_is_absence(self, search, cv):
        X, y = example(search)
        weights = np.where(np.arange(60) % 5 == 2, 0.0, 1.0)
        there = weights > 0
        splitter = cv and [
            (np.flatnonzero(np.arange(60) % 3 != k), np.flatnonzero(np.arange(60) % 3 == k))
            for k in range(3)
        ]
        weighted = small(search, cv=splitter).fit(X, y, sample_weight=weights)
        places = np.cumsum(there) - 1
        shorter = cv and [[places[part[there[part]]] for part in fold] for fold in splitter]
        absent = small(search, cv=shorter).fit(X[there], y[there])
        np.testing.assert_allclose(weighted.best_score_, absent.best_score_, rtol=1e-6)
        np.testing.assert_allclose(weighted.score(X, y), absent.score(X, y), rtol=1e-6)

    @pytest.mark.parametrize("cv", [None, GroupKFold(3)])
    def test_groups_are_held_out_together(self, search, cv):
        """Rows with a twin in each other group would be known; without one they are not."""
        X, y = example(search, 18)
        rng = np.random.default_rng(0)
        # Nothing to learn but by heart.
        y = rng.permutation(y if search is AdaptedFlowRegressorCV else y > 0)
        X, y, groups = np.tile(X, (2, 1)), np.tile(y, 2), np.tile(np.arange(18) % 6, 2)
        X = X + 1e-3 * rng.normal(size=X.shape)  # no copies
        grid = {"init_scales": [3.0], "alphas": [0.5], "t_ends": [0.95], "damping": 0.01, "cv": cv}
        apart = small(search, **grid).set_params(hidden_layer_sizes=(30,)).fit(X, y, groups=groups)
        if cv is not None:
            with pytest.raises(ValueError, match="'groups' parameter"):
                small(search, **grid).fit(X, y)
            grid["cv"] = KFold(3, shuffle=True, random_state=0)
        mixed = small(search, **grid).set_params(hidden_layer_sizes=(30,)).fit(X, y)
        assert apart.best_score_ < mixed.best_score_ - 0.1

    def test_one_row_at_a_time(self, search):
        """A score of single rows is none: they are scored together."""
        X, y = example(search)
        if search is AdaptedFlowClassifierCV:  # each class is left where one row is taken
            rows = np.concatenate([np.flatnonzero(y == label)[:4] for label in range(3)])
            X, y = X[rows], y[rows]
        X, y = X[:12], y[:12]
        model = small(search, cv=LeaveOneOut(), alphas=[0.2], t_ends=[0.5]).fit(X, y)
        assert not [name for name in model.cv_results_ if "split" in name]
        fit = clone(model.best_estimator_)
        if search is AdaptedFlowRegressorCV:
            expected = r2_score(y, cross_val_predict(fit, X, y, cv=LeaveOneOut()))
            assert model.best_score_ == pytest.approx(expected, abs=1e-6)
        else:
            scores = np.concatenate(
                [
                    fit.fit(X[train], y[train]).decision_function(X[test])
                    for train, test in LeaveOneOut().split(X)
                ]
            )
            loss = calibrated_log_loss(y, scores, len(y))
            assert model.best_score_ == pytest.approx(-loss, abs=3e-3)

    def test_few_rows(self, search):
        X, y = example(search, 7)
        model = small(search).fit(X, y)
        assert np.isfinite(model.best_score_)
        assert np.isfinite(model.predict(X)).all()


class TestFoldsThatLackSomething:
    def test_constant_targets_in_a_fold(self):
        """R² has no share of nothing to tell there, and stays a number of a common size."""
        X, y = example(AdaptedFlowRegressorCV)
        y = np.where(np.arange(60) < 20, y[0], y)
        model = small(AdaptedFlowRegressorCV, cv=KFold(3)).fit(X, y)
        assert set(model.cv_results_["split0_test_score"]) == {0.0}
        assert np.isfinite(model.cv_results_["mean_test_score"]).all()
        together = small(AdaptedFlowRegressorCV).fit(X, y, groups=np.arange(60) // 20)
        assert -2 < together.best_score_ < 1

    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_a_class_that_no_row_to_train_on_has(self, loss):
        X, y = example(AdaptedFlowClassifierCV)
        order = np.argsort(y, kind="stable")
        X, y = X[order], y[order]
        folds = [(np.flatnonzero(y != 2), np.flatnonzero(y == 2)),
                 (np.arange(0, 60, 2), np.arange(1, 60, 2))]  # fmt: skip
        model = small(AdaptedFlowClassifierCV, cv=folds, alphas=[0.5], loss=loss, damping=0.1)
        model.fit(X, y)
        never, seen = (model.cv_results_[f"split{k}_test_score"] for k in range(2))
        assert np.isfinite([never, seen]).all()
        # The best that can be said of what was never seen is that all classes are alike.
        assert never.max() < -0.9 * np.log(3)
        assert seen.max() > -0.6
        assert model.predict_proba(X).shape == (60, 3)

    def test_a_class_of_one_row(self):
        X, y = example(AdaptedFlowClassifierCV)
        y = np.where(np.arange(60) == 7, 3, y)
        model = small(AdaptedFlowClassifierCV).fit(X, y)
        assert model.classes_.tolist() == [0, 1, 2, 3]
        assert np.isfinite(model.best_score_)
