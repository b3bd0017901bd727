"""What a user of scikit-learn does with any estimator, one test each; scorers; faults met."""

import warnings

import numpy as np
import pytest
import sklearn
import torch
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_wine
from sklearn.ensemble import BaggingRegressor, StackingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import PredictionErrorDisplay, RocCurveDisplay
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    collapse_scorer,
    deviation_scorer,
    ntk_rank_scorer,
)
from sklearn_gflow.dynamics import flow as flow_module
from sklearn_gflow.estimators import _training
from tests.estimators.data import ESTIMATORS, classes, example, small, table

SCORERS = [ntk_rank_scorer, deviation_scorer, collapse_scorer]


class TestAsAnyEstimator:
    def test_routing_of_weights(self):
        X, y = table()
        w = np.arange(20) % 3
        with sklearn.config_context(enable_metadata_routing=True):
            model = small(AdaptedFlowRegressor).set_fit_request(sample_weight=True)
            model.set_score_request(sample_weight=True)
            scores = cross_val_score(model, X, y, cv=2, params={"sample_weight": w})
        a, b = np.arange(10), np.arange(10, 20)
        own = small(AdaptedFlowRegressor)
        expected = [own.fit(X[i], y[i], w[i]).score(X[j], y[j], w[j]) for i, j in ((b, a), (a, b))]
        np.testing.assert_allclose(scores, expected)

    def test_frozen_and_calibrated(self):
        X, y = classes(60)
        frozen = FrozenEstimator(small(AdaptedFlowClassifier).fit(X[:30], y[:30]))
        calibrated = CalibratedClassifierCV(frozen).fit(X[30:], y[30:])
        assert calibrated.score(X, y) > 0.6
        np.testing.assert_array_equal(frozen.fit(X, y).predict(X), frozen.estimator.predict(X))

    @pytest.mark.slow
    def test_stacking_with_a_flow_on_top(self):
        """Its inputs are predictions in units of y, which the network scales by itself."""
        X, y = table(60)
        y = 1000 * y
        stack = StackingRegressor(
            [("line", Ridge()), ("flow", small(AdaptedFlowRegressor))],
            final_estimator=small(AdaptedFlowRegressor),
        )
        assert stack.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.6

    def test_halving(self):
        X, y = table(40)
        search = HalvingGridSearchCV(
            small(AdaptedFlowRegressor), {"alpha": [0.1, 0.5]}, cv=2, min_resources=20
        ).fit(X, y)
        assert np.isfinite(search.best_score_)

    def test_permutation_importance(self):
        X, y = table(40)
        model = small(AdaptedFlowRegressor).fit(X, y)
        found = permutation_importance(model, X, y, n_repeats=3, random_state=0).importances_mean
        assert found.argmin() == 1 == model.feature_importances_.argmin()

    def test_optuna(self):
        optuna = pytest.importorskip("optuna")
        X, y = table()

        def objective(trial):
            alpha = trial.suggest_float("alpha", 0, 1)
            return cross_val_score(small(AdaptedFlowRegressor, alpha=alpha), X, y, cv=2).mean()

        study = optuna.create_study(direction="maximize")
        study.optimize(objective, n_trials=2)
        assert np.isfinite(study.best_value)

    @pytest.mark.slow
    def test_displays_of_scikit_learn(self):
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("agg")
        import matplotlib.pyplot as plt

        X, y = table()
        model = small(AdaptedFlowRegressor).fit(X, y)
        PartialDependenceDisplay.from_estimator(model, X, [0], grid_resolution=5)
        PredictionErrorDisplay.from_estimator(model, X, y)
        X, y = classes(n_classes=2)
        model = small(AdaptedFlowClassifier).fit(X, y)
        RocCurveDisplay.from_estimator(model, X, y)
        CalibrationDisplay.from_estimator(model, X, y, n_bins=3)
        plt.close("all")


class TestScorers:
    def wrapped(self, flow):
        X, y = table()
        yield flow.fit(X, y)
        yield make_pipeline(StandardScaler(), flow).fit(X, y)
        yield GridSearchCV(make_pipeline(StandardScaler(), flow), {}, cv=2).fit(X, y)
        yield TransformedTargetRegressor(flow, func=np.exp, inverse_func=np.log).fit(X, y / 10)
        yield FrozenEstimator(flow.fit(X, y))
        grid = {"encodings": [None], "alphas": [0.5], "t_ends": [0.9]}
        yield AdaptedFlowRegressorCV((8,), random_state=0, **grid).fit(X, y)

    def test_look_inside(self):
        for estimator in self.wrapped(small(AdaptedFlowRegressor)):
            assert 0 < ntk_rank_scorer(estimator, None) <= 1
            assert deviation_scorer(estimator, None) <= 0
            with pytest.raises(ValueError, match="collapse_scorer needs a classifier with one lab"):
                collapse_scorer(estimator, None)

    def test_of_classes(self):
        X, y = classes()
        grid = {"encodings": [None], "alphas": [0.5], "t_ends": [0.9]}
        for model in (
            small(AdaptedFlowClassifier),
            AdaptedFlowClassifierCV((8,), random_state=0, **grid),
        ):
            assert collapse_scorer(model.fit(X, y), X, y) <= 0

    @pytest.mark.slow
    @pytest.mark.parametrize("scorer", SCORERS)
    def test_say_where_there_is_no_flow(self, scorer):
        X, y = table()
        others = [
            LinearRegression().fit(X, y),
            BaggingRegressor(small(AdaptedFlowRegressor), 2).fit(X, y),
        ]
        for other in others:
            with pytest.raises(ValueError, match=f"{scorer.__name__} needs an adapted-flow estim"):
                scorer(other, X, y)
        with pytest.raises(NotFittedError):
            scorer(small(AdaptedFlowRegressor), X, y)
        search = GridSearchCV(small(AdaptedFlowRegressor), {}, cv=2, refit=False).fit(X, y)
        with pytest.raises((ValueError, NotFittedError), match=r"best_estimator_|not fitted"):
            scorer(search, X, y)


class TestDevices:
    def test_auto_is_what_there_is(self, monkeypatch):
        X, y = table()
        model = small(AdaptedFlowRegressor, device="auto").fit(X, y)
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        assert model._network.trained_on.startswith(expected)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        small(AdaptedFlowRegressor, device="auto").fit(X, y)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_a_fit_of_a_device_that_is_not_here_predicts_on_the_cpu(self, estimator):
        X, y = example(estimator)
        model = small(estimator).fit(X, y)
        expected = model.predict(X)
        model.set_params(device="cuda")
        object.__setattr__(model._network, "trained_on", "cuda:0")
        np.testing.assert_array_equal(model.predict(X), expected)


class TestUnscaled:
    def test_raw_wine_is_scaled_inside(self):
        X, y = load_wine(return_X_y=True)
        flow = AdaptedFlowClassifier((30,), random_state=0)
        assert cross_val_score(flow, X, y, cv=3).min() > 0.93

    @pytest.mark.parametrize("as_frame", [False, True])
    def test_a_warning_names_the_columns_and_the_cure(self, as_frame):
        X, y = load_wine(return_X_y=True, as_frame=as_frame)
        flow = AdaptedFlowClassifier((8,), scale_inputs=False, schedule=2, random_state=0)
        name = "proline" if as_frame else "x12"
        with pytest.warns(UserWarning, match=f"'{name}'.* Set scale_inputs=True") as told:
            flow.fit(X, y)
        assert sum("scale_inputs=True" in str(one.message) for one in told) == 1
        assert told[0].filename == __file__

    def test_ordinary_tables_are_not_warned_of(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(60, 4))
        rare = (rng.random((60, 30)) < 0.03).astype(float)
        counts = rng.poisson(0.02, size=(60, 100)).astype(float)
        counts[:, 0] = rng.poisson(8, size=60)
        tables = [X, np.hstack([X, rare]), counts, np.hstack([X, np.zeros((60, 9))]), 1e6 * X]
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for one in tables:
                small(AdaptedFlowRegressor, scale_inputs=False, schedule=1, damping=0.1).fit(
                    one, X[:, 0]
                )


class TestFaults:
    def test_predict_after_an_interrupted_first_fit(self, monkeypatch):
        def interrupted(*args, **options):
            raise KeyboardInterrupt

        X, y = table()
        model = small(AdaptedFlowRegressor)
        monkeypatch.setattr(_training, flow_module.__name__, interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
        with pytest.raises(NotFittedError):
            model.predict(X)

    def test_early_stopping_with_three_rows(self):
        X, y = table()
        model = small(AdaptedFlowRegressor, early_stopping=True)
        with pytest.raises(ValueError, match="early_stopping=True needs at least 2 rows to score"):
            model.fit(X[:3], y[:3])
        with pytest.raises(NotFittedError):
            model.predict(X)

    def test_targets_beyond_the_range_of_their_squares(self):
        X, y = table()
        with pytest.raises(ValueError, match=r"y has values up to .* beyond the range of float64"):
            small(AdaptedFlowRegressor).fit(X, y * 1e200)
