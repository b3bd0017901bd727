"""α and the stopping time by search: leave-one-out and splitters."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_friedman1
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils import estimator_checks

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.diagnostics import leave_one_out
from sklearn_gflow.geometry import gram_eigenvectors

pytestmark = pytest.mark.slow

SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
ALPHAS, TIMES = (0.0, 0.1, 1.0), (0.3, 0.8)


def example(search, n=60):
    if search is AdaptedFlowRegressorCV:
        X, y = load_diabetes(return_X_y=True)
        return scale(X)[:n], y[:n]
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)[:n]
    return scale(X)[rows], y[rows]


def small(search, **parameters):
    return search((8,), random_state=0, **{"alphas": ALPHAS, "t_ends": TIMES, **parameters})


def _checks():
    for search in SEARCHES:
        for instance, check in estimator_checks.estimator_checks_generator(small(search)):
            if check.func.__name__ != "check_array_api_input":
                yield pytest.param(instance, check, id=f"{search.__name__}-{check.func.__name__}")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("instance", "check"), list(_checks()))
def test_check_estimator(instance, check):
    check(instance)


@pytest.mark.parametrize("search", SEARCHES)
def test_parameters_are_checked_as_scikit_learn_asks(search):
    estimator_checks.check_param_validation(search.__name__, search())


@pytest.mark.parametrize("search", SEARCHES)
class TestBoth:
    @pytest.mark.parametrize("cv", [None, 3])
    def test_results_have_the_form_of_a_grid_search(self, search, cv):
        X, y = example(search)
        model = small(search, cv=cv).fit(X, y)
        results = model.cv_results_
        assert [tuple(p.values()) for p in results["params"]] == [
            (alpha, t) for alpha in ALPHAS for t in TIMES
        ]
        folds = [results[f"split{k}_test_score"] for k in range(cv or 1)]
        np.testing.assert_allclose(results["mean_test_score"], np.mean(folds, axis=0))
        np.testing.assert_allclose(results["std_test_score"], np.std(folds, axis=0))
        best = int(np.argmax(results["mean_test_score"]))
        assert results["rank_test_score"][best] == 1
        assert model.best_score_ == results["mean_test_score"].max()
        assert (model.alpha_, model.t_end_) in [
            tuple(p.values())
            for p, rank in zip(results["params"], results["rank_test_score"], strict=True)
            if rank == 1
        ]

    def test_best_estimator_is_the_plain_fit(self, search):
        X, y = example(search)
        model = small(search).fit(X, y)
        plain = model.best_estimator_
        again = clone(plain).fit(X, y)
        np.testing.assert_array_equal(model.predict(X), again.predict(X))
        assert (plain.alpha, plain.t_end) == (model.alpha_, model.t_end_)
        assert model.score(X, y) == plain.score(X, y)

    def test_folds_are_fits_of_their_own(self, search):
        X, y = example(search)
        cv = (KFold if search is AdaptedFlowRegressorCV else StratifiedKFold)(3)
        model = small(search, cv=cv, alphas=[0.2], t_ends=[0.6]).fit(X, y)
        train, test = next(iter(cv.split(X, y)))
        alone = clone(model.best_estimator_).fit(X[train], y[train])
        expected = alone.score(X[test], y[test])
        assert model.cv_results_["split0_test_score"][0] == pytest.approx(expected, rel=1e-9)

    def test_whole_path_by_default(self, search):
        X, y = example(search, 40)
        model = small(search, t_ends=None, alphas=[0.1]).fit(X, y)
        times = model.cv_results_["param_t_end"]
        assert len(times) == 19
        assert times[0] == pytest.approx(1 - np.exp(-0.05))
        assert times[-1] > 1 - 1e-10

    def test_copies_are_left_out_together(self, search):
        X, y = example(search, 30)
        weights = 1.0 + np.arange(30) % 3
        copies = np.repeat(np.arange(30), weights.astype(int))
        weighted = small(search, init_scale=1.0).fit(X, y, sample_weight=weights)
        copied = small(search, init_scale=1.0).fit(X[copies], y[copies])
        for name in ("mean_test_score", "mean_test_loss"):
            np.testing.assert_allclose(
                weighted.cv_results_[name], copied.cv_results_[name], rtol=1e-9
            )

    def test_pipeline_and_instances_of_random_state(self, search):
        X, y = example(search)
        state = np.random.RandomState(0)
        model = make_pipeline(StandardScaler(), small(search).set_params(random_state=state))
        assert model.fit(X, y).score(X, y) > 0.3

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"alphas": [0.1, 2.0]}, r"alphas must hold numbers in \[0, 1\]"),
            ({"alphas": []}, "alphas must hold numbers"),
            ({"t_ends": [0.0, 0.5]}, r"t_ends must hold times in \(0, 1\]"),
            ({"max_iter": 0}, "'max_iter' parameter"),
        ],
    )
    def test_mistakes(self, search, parameters, message):
        with pytest.raises(ValueError, match=message):
            small(search, **parameters).fit(*example(search))


def test_leave_one_out_against_refits_of_the_linear_model():
    """A linear model is its own linearisation: real refits without each row."""
    X, y = example(AdaptedFlowRegressorCV, 25)
    c = float((np.sum(X**2, axis=1) + 1).mean())
    exact = {"metric_scale": c, "damping": 0.0}
    search = AdaptedFlowRegressorCV((), alphas=[0.0, 0.3], t_ends=[0.5], **exact)
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    for alpha, score in zip([0.0, 0.3], scores, strict=True):
        refit = AdaptedFlowRegressor((), alpha=alpha, t_end=0.5, **exact)
        predicted = [
            refit.fit(np.delete(X, i, axis=0), np.delete(y, i)).predict(X[i : i + 1])[0]
            for i in range(len(X))
        ]
        assert score == pytest.approx(r2_score(y, predicted), abs=1e-6)


def test_splitter_serves_where_leave_one_out_does_not():
    X, y = example(AdaptedFlowClassifierCV)
    model = small(AdaptedFlowClassifierCV, loss="log_loss", label_smoothing=0.1, cv=3).fit(X, y)
    assert model.best_score_ > 0.85
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))
    assert model.decision_function(X).shape == (60, 3)


def test_parameters_are_those_of_the_estimators():
    for search, estimator in zip(
        SEARCHES, (AdaptedFlowRegressor, AdaptedFlowClassifier), strict=True
    ):
        own = search().get_params()
        shared = own.keys() & estimator().get_params().keys()
        assert own.keys() - shared == {"alphas", "t_ends", "cv"}
        defaults = estimator().get_params()
        assert {name: own[name] for name in shared} == {name: defaults[name] for name in shared}


def test_all_alphas_have_one_start():
    """Also α = 1, whose start would be another one outside of a search."""
    X, y = make_friedman1(30, random_state=0)
    found = AdaptedFlowRegressorCV((8,), alphas=[0.5, 1.0], random_state=0).fit(X, y)
    alone = AdaptedFlowRegressorCV((8,), alphas=[1.0], random_state=0).fit(X, y)
    assert found.best_estimator_.init_scale == alone.best_estimator_.init_scale == 0.3
    scores = found.cv_results_["mean_test_score"][found.cv_results_["param_alpha"] == 1]
    np.testing.assert_array_equal(scores, alone.cv_results_["mean_test_score"])


def test_one_decomposition_serves_the_scores_and_the_fit(monkeypatch):
    calls = []

    def counted(gram, **options):
        calls.append(len(gram))
        return gram_eigenvectors(gram, **options)

    monkeypatch.setattr(leave_one_out, "gram_eigenvectors", counted)
    X, y = example(AdaptedFlowRegressorCV, 40)
    search = small(AdaptedFlowRegressorCV).fit(X, y)
    assert calls == [40]
    best = search.best_estimator_
    alone = AdaptedFlowRegressor(**best.get_params()).fit(X, y)
    np.testing.assert_allclose(best.loo_scores_, alone.loo_scores_, rtol=1e-9)
    np.testing.assert_array_equal(best.predict(X), alone.predict(X))


def test_folds_are_scored_with_the_ridge_of_the_fit():
    """At t = 1 there is none, before there is one: each as in a flow of its own."""
    X, y = make_friedman1(60, random_state=0)
    X, splitter = scale(X), KFold(3)
    search = AdaptedFlowRegressorCV(
        (16,), alphas=[0.5], t_ends=[0.9, 1.0], cv=splitter, random_state=0
    ).fit(X, y)
    seed = search.best_estimator_.random_state
    for k, t_end in enumerate([0.9, 1.0]):
        alone = AdaptedFlowRegressor((16,), alpha=0.5, t_end=t_end, random_state=seed)
        scores = [
            alone.fit(X[train], y[train]).score(X[test], y[test])
            for train, test in splitter.split(X)
        ]
        assert search.cv_results_["mean_test_score"][k] == pytest.approx(np.mean(scores), abs=1e-6)


def test_every_alpha_may_have_another_ridge():
    """solver="shared" goes in blocks where the full batch has no ridge, also in a search."""
    X, _ = make_friedman1(60, random_state=0)
    Y = np.stack([X[:, 0], np.sin(3 * X[:, 1]), X[:, 2] * X[:, 3]], axis=1)
    search = AdaptedFlowRegressorCV(
        (32,), solver="shared", alphas=[1.0], t_ends=[0.5, 0.95], cv=2, random_state=0
    )
    assert search.fit(scale(X), Y).best_score_ > 0.3
