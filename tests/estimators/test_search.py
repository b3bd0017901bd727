"""Searches: the form of results, folds that are fits of their own, and what is fitted then."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_predict,
)
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
from sklearn_gflow.estimators import _following
from sklearn_gflow.geometry import gram_eigenvectors
from tests.estimators.searches import (
    ALPHAS,
    SEARCHES,
    TIMES,
    calibrated_log_loss,
    example,
    small,
)

pytestmark = pytest.mark.slow


def pairs(results):
    return [(row["alpha"], row["t_end"]) for row in results["params"]]


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
class TestResults:
    @pytest.mark.parametrize("cv", [None, 3])
    def test_have_the_form_of_a_grid_search(self, search, cv):
        model = small(search, cv=cv).fit(*example(search))
        results = model.cv_results_
        assert pairs(results) == [(alpha, t) for alpha in ALPHAS for t in TIMES]
        for name in ("alpha", "encoding", "init_scale", "rescalings", "t_end"):
            column = results[f"param_{name}"]
            assert isinstance(column, np.ma.MaskedArray)
            assert not column.mask.any()
            assert column.tolist() == [row[name] for row in results["params"]]
        assert {len(column) for column in results.values()} == {len(ALPHAS) * len(TIMES)}
        scores, ranks = results["mean_test_score"], results["rank_test_score"]
        best = int(np.nanargmax(scores))
        assert ranks.dtype.kind == "i"
        assert ranks[best] == 1
        assert model.best_score_ == scores[best]
        assert (model.alpha_, model.t_end_) == pairs(results)[best]
        assert (model.encoding_, model.init_scale_, model.rescalings_) == (None, 0.3, 0)

    def test_of_a_splitter_have_every_split(self, search):
        results = small(search, cv=3).fit(*example(search)).cv_results_
        splits = [results[f"split{k}_test_score"] for k in range(3)]
        np.testing.assert_allclose(results["mean_test_score"], np.mean(splits, axis=0))
        np.testing.assert_allclose(results["std_test_score"], np.std(splits, axis=0))
        assert np.isfinite(results["mean_test_loss"]).all()
        assert "loo_loss" not in results

    def test_of_leave_one_out_name_who_was_followed(self, search):
        """Of one network only the α that leave-one-out judged best."""
        results = small(search).fit(*example(search)).cv_results_
        assert not [name for name in results if "split" in name or "std" in name]
        alphas = np.asarray(results["param_alpha"])
        followed = alphas[np.argmin(results["loo_loss"])]
        for name in ("mean_test_score", "mean_test_loss"):
            np.testing.assert_array_equal(np.isfinite(results[name]), alphas == followed)
        assert (results["rank_test_score"][alphas != followed] == len(TIMES) + 1).all()

    def test_whole_path_by_default(self, search):
        X, y = example(search, 40)
        times = small(search, t_ends=None, alphas=[0.1], cv=2).fit(X, y).cv_results_["param_t_end"]
        assert len(times) == 7
        np.testing.assert_allclose(-np.log1p(-times[:-1]), 0.4 * 2.0 ** np.arange(6), rtol=1e-6)
        assert 1 - 1e-10 < times[-1] < 1

    def test_every_candidate_of_the_grid(self, search):
        X, y = example(search, 40)
        grid = {"encodings": [None, "piecewise"], "init_scales": [0.3, 1.0], "alphas": [0.5]}
        for cv in (None, 2):
            results = small(search, cv=cv, **grid).fit(X, y).cv_results_
            found = {(row["encoding"], row["init_scale"]) for row in results["params"]}
            assert found == {(e, s) for e in (None, "piecewise") for s in (0.3, 1.0)}

    def test_the_best_starts_anew_with_what_it_has_learnt(self, search):
        """Only of a path that comes as far as it is looked at."""
        X, y = example(search)
        results = small(search, alphas=[0.1], t_ends=[0.5, 0.96]).fit(X, y).cv_results_
        assert results["param_rescalings"].tolist() == [0, 0, 1, 1]
        assert np.isnan(results["loo_loss"]).tolist() == [False, False, True, True]
        assert np.isfinite(results["mean_test_score"]).all()


@pytest.mark.parametrize("search", SEARCHES)
class TestFits:
    def test_best_estimator_is_an_ordinary_fit(self, search):
        X, y = example(search)
        model = small(search).fit(X, y)
        best = model.best_estimator_
        again = clone(best).fit(X, y)
        np.testing.assert_array_equal(model.predict(X), again.predict(X))
        assert (best.alpha, best.t_end) == (model.alpha_, model.t_end_)
        assert model.score(X, y) == best.score(X, y)
        assert model.estimators_ == [best]
        assert model.ensemble_weights_.tolist() == [1.0]
        np.testing.assert_array_equal(model.feature_importances_, best.feature_importances_)

    def test_rescaled_best_estimator_is_an_ordinary_fit(self, search):
        X, y = make_friedman1(60, random_state=0)  # half of its columns say nothing
        y = y if search is AdaptedFlowRegressorCV else y > np.median(y)
        model = small(search, alphas=[0.5], t_ends=[0.96]).fit(X, y)
        assert model.rescalings_ == model.best_estimator_.rescalings == 1
        again = clone(model.best_estimator_).fit(X, y)
        np.testing.assert_array_equal(again.predict(X), model.predict(X))

    def test_ensemble_is_the_weighted_mean_of_its_members(self, search):
        X, y = example(search)
        grid = {"encodings": [None, "piecewise", "periodic"], "alphas": [0.5], "cv": 3}
        model = small(search, ensemble=True, t_ends=[0.5, 0.9], **grid).fit(X, y)
        weights, members = model.ensemble_weights_, model.estimators_
        assert len(weights) == len(members) > 1
        assert weights.sum() == pytest.approx(1)
        assert (weights > 0).all()
        assert model.best_estimator_ is members[0]
        method = "predict" if search is AdaptedFlowRegressorCV else "decision_function"
        each = [getattr(member, method)(X) for member in members]
        np.testing.assert_allclose(
            getattr(model, method)(X), np.average(each, axis=0, weights=weights), rtol=1e-9
        )
        importances = [member.feature_importances_ for member in members]
        np.testing.assert_allclose(
            model.feature_importances_, np.average(importances, axis=0, weights=weights)
        )

    def test_same_seed_same_search(self, search):
        X, y = example(search)
        one, other = (small(search, ensemble=True).fit(X, y) for _ in range(2))
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
        assert one.best_score_ == other.best_score_

    def test_pipeline_and_instances_of_random_state(self, search):
        X, y = example(search)
        state = np.random.RandomState(0)
        model = make_pipeline(StandardScaler(), small(search).set_params(random_state=state))
        assert model.fit(X, y).score(X, y) > 0.3


class TestFoldsAreFitsOfTheirOwn:
    """What a search says of a split is what a fit on its other rows gives."""

    CV = KFold(3)

    def alone(self, search, X, y, t_end):
        for train, test in self.CV.split(X, y):
            model = clone(search.best_estimator_).set_params(t_end=t_end)
            yield model.fit(X[train], y[train]), test

    def test_scores_of_numbers(self):
        X, y = example(AdaptedFlowRegressorCV)
        model = small(AdaptedFlowRegressorCV, cv=self.CV, alphas=[0.2]).fit(X, y)
        for j, t_end in enumerate(TIMES):
            for k, (fit, test) in enumerate(self.alone(model, X, y, t_end)):
                found = model.cv_results_[f"split{k}_test_score"][j]
                # The path to the later time passes the earlier one, in steps of its own.
                expected = r2_score(y[test], fit.predict(X[test]))
                assert found == pytest.approx(expected, abs=1e-9 if j else 1e-3)

    def test_scores_of_labels(self):
        """Minus the log-loss, where the probabilities have their best temperature."""
        X, y = example(AdaptedFlowClassifierCV)
        model = small(AdaptedFlowClassifierCV, cv=self.CV, alphas=[0.2], t_ends=[0.6]).fit(X, y)
        for k, (fit, test) in enumerate(self.alone(model, X, y, 0.6)):
            loss = calibrated_log_loss(y[test], fit.decision_function(X[test]), len(y))
            found = model.cv_results_[f"split{k}_test_score"][0]
            assert found == pytest.approx(-loss, abs=3e-3)  # ln β is sought to within 0.02

    @pytest.mark.parametrize(
        ("search", "scoring", "measure"),
        [
            (AdaptedFlowRegressorCV, "neg_mean_absolute_error",
             lambda y, p: -mean_absolute_error(y, p)),
            (AdaptedFlowClassifierCV, "accuracy", accuracy_score),
        ],
    )  # fmt: skip
    def test_scores_by_name(self, search, scoring, measure):
        X, y = example(search)
        model = small(search, cv=self.CV, alphas=[0.2], t_ends=[0.6], scoring=scoring).fit(X, y)
        for k, (fit, test) in enumerate(self.alone(model, X, y, 0.6)):
            expected = measure(y[test], fit.predict(X[test]))
            assert model.cv_results_[f"split{k}_test_score"][0] == pytest.approx(expected, rel=1e-9)

    def test_without_a_splitter_the_rows_of_all_folds_are_scored_together(self):
        """By groups, which leave no choice of folds."""
        X, y = example(AdaptedFlowRegressorCV)
        groups = np.arange(60) % 3
        exact = {"alphas": [1.0], "t_ends": [0.6]}  # no ridge, and so no single precision
        model = small(AdaptedFlowRegressorCV, **exact).fit(X, y, groups=groups)
        predicted = cross_val_predict(
            clone(model.best_estimator_), X, y, cv=GroupKFold(3), groups=groups
        )
        assert model.best_score_ == pytest.approx(r2_score(y, predicted), abs=1e-9)
        loss = np.mean((y - predicted) ** 2) / (2 * y.var())
        assert model.cv_results_["mean_test_loss"][0] == pytest.approx(loss, rel=1e-9)

    def test_have_the_ridge_of_the_fit(self, monkeypatch):
        """At t = 1 there is none, before there is one: each as in a flow of its own."""
        monkeypatch.setattr(_following, "_LOST", np.inf)  # to the end, however bad it is there
        X, y = make_friedman1(60, random_state=0)
        model = AdaptedFlowRegressorCV(
            (16,), encodings=[None], alphas=[0.5], t_ends=[0.9, 1.0], cv=self.CV, ensemble=False,
            random_state=0,
        ).fit(X, y)  # fmt: skip
        for j, t_end in enumerate([0.9, 1.0]):
            scores = [fit.score(X[test], y[test]) for fit, test in self.alone(model, X, y, t_end)]
            found = model.cv_results_["mean_test_score"][j]
            assert found == pytest.approx(np.mean(scores), abs=1e-6)


class TestMistakes:
    @pytest.mark.parametrize("search", SEARCHES)
    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"alphas": [0.1, 2.0]}, r"alphas must hold numbers in \[0, 1\]"),
            ({"alphas": []}, "alphas must hold numbers"),
            ({"alphas": ["a"]}, "alphas must hold numbers"),
            ({"alphas": "some"}, "'alphas' parameter"),
            ({"t_ends": [0.0, 0.5]}, r"t_ends must hold times in \(0, 1\]"),
            ({"t_ends": []}, r"t_ends must hold times in \(0, 1\]"),
            ({"init_scales": [0.0]}, r"init_scales must hold numbers in \(0, ∞\)"),
            ({"init_scales": [np.inf]}, "init_scales must hold numbers"),
            ({"encodings": ["waves"]}, r"encodings must hold None, names among .*'waves'"),
            ({"encodings": []}, "encodings must hold at least one"),
            ({"encodings": "waves"}, "'encodings' parameter"),
            ({"ensemble": "yes"}, "'ensemble' parameter"),
            ({"scoring": "beauty"}, "'scoring' parameter|beauty"),
            ({"cv": 1}, "'cv' parameter"),
            ({"cv": "all"}, "'cv' parameter"),
            ({"max_iter": 0}, "'max_iter' parameter"),
        ],
    )
    def test_of_parameters(self, search, parameters, message):
        with pytest.raises(ValueError, match=message):
            small(search, **parameters).fit(*example(search))

    @pytest.mark.parametrize("search", SEARCHES)
    def test_of_groups(self, search):
        X, y = example(search)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            small(search, cv=GroupKFold(3)).fit(X, y, groups=np.zeros(5))


class TestCalibration:
    def test_temperature_is_that_of_the_probabilities(self):
        X, y = example(AdaptedFlowClassifierCV)
        model = small(AdaptedFlowClassifierCV).fit(X, y)
        p = softmax(model.decision_function(X) / model.temperature_, axis=1)
        np.testing.assert_allclose(model.predict_proba(X), (60 * p + 1 / 3) / 61, rtol=1e-9)
        np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))
        np.testing.assert_array_equal(model.predict_proba(X).argmax(1), model.predict(X))

    def test_of_labels_that_are_noise_nothing_is_claimed(self):
        """The plain estimator learns them by heart, and is sure."""
        X, y = example(AdaptedFlowClassifierCV)
        y = np.random.default_rng(1).permutation(y)
        model = small(AdaptedFlowClassifierCV, alphas=[0.5], t_ends=[0.95]).fit(X, y)
        fresh = np.random.default_rng(2).normal(size=(500, 4))
        assert np.mean(model.predict_proba(fresh).max(1)) < 0.4
        assert np.mean(model.best_estimator_.predict_proba(fresh).max(1)) > 0.5

    def test_two_classes(self):
        X, y = example(AdaptedFlowClassifierCV)
        model = small(AdaptedFlowClassifierCV).fit(X, y > 0)
        assert model.decision_function(X).shape == (60,)
        assert model.predict_proba(X).shape == (60, 2)
        np.testing.assert_array_equal(model.predict_proba(X)[:, 1] > 0.5, model.predict(X))


def test_leave_one_out_against_refits_of_the_linear_model():
    """A linear model is its own linearisation: real refits without each row."""
    X, y = example(AdaptedFlowRegressorCV, 25)
    c = float((np.sum(X**2, axis=1) + 1).mean())
    exact = {"metric_scale": c, "damping": 0.0, "scale_inputs": False}
    search = AdaptedFlowRegressorCV(
        (), encodings=[None], alphas=[0.0, 0.3], t_ends=[0.5], ensemble=False, **exact
    )
    losses = search.fit(X, y).cv_results_["loo_loss"]
    for alpha, loss in zip([0.0, 0.3], losses, strict=True):
        refit = AdaptedFlowRegressor((), alpha=alpha, t_end=0.5, **exact)
        predicted = [
            refit.fit(np.delete(X, i, axis=0), np.delete(y, i)).predict(X[i : i + 1])[0]
            for i in range(len(X))
        ]
        assert 1 - 2 * loss == pytest.approx(r2_score(y, predicted), abs=1e-6)


def test_one_decomposition_serves_all_alphas_and_times(monkeypatch):
    calls = []

    def counted(gram, **options):
        calls.append(len(gram))
        return gram_eigenvectors(gram, **options)

    monkeypatch.setattr(leave_one_out, "gram_eigenvectors", counted)
    X, y = example(AdaptedFlowRegressorCV, 40)
    small(AdaptedFlowRegressorCV, encodings=[None, "piecewise"], init_scales=[0.3, 1.0]).fit(X, y)
    assert calls == [40] * 4


def test_splitter_serves_where_leave_one_out_does_not():
    X, y = example(AdaptedFlowClassifierCV, 40)
    parameters = {"loss": "log_loss", "label_smoothing": 0.1, "alphas": [0.1], "damping": 0.1}
    parameters["t_ends"] = [0.6]
    for cv in (None, StratifiedKFold(3)):
        model = small(AdaptedFlowClassifierCV, cv=cv, **parameters).fit(X, y)
        assert "loo_loss" not in model.cv_results_
        assert model.best_score_ > -0.6
        assert model.score(X, y) > 0.85
        assert model.decision_function(X).shape == (40, 3)


def test_parameters_are_those_of_the_estimators():
    grid = {"encodings", "init_scales", "alphas", "t_ends", "cv", "ensemble"}
    grid |= {"refit", "return_train_score", "n_jobs"}
    for search, estimator in zip(
        SEARCHES, (AdaptedFlowRegressor, AdaptedFlowClassifier), strict=True
    ):
        own = search().get_params()
        shared = own.keys() & estimator().get_params().keys()
        assert own.keys() - shared == grid
        defaults = estimator().get_params()
        assert {name: own[name] for name in shared} == {name: defaults[name] for name in shared}


def test_all_alphas_have_one_start():
    """Also α = 1, whose start would be another one outside of a search."""
    X, y = make_friedman1(30, random_state=0)
    parameters = {"encodings": [None], "cv": KFold(3), "ensemble": False, "random_state": 0}
    parameters["t_ends"] = [0.5, 0.9]
    found = AdaptedFlowRegressorCV((8,), alphas=[0.5, 1.0], **parameters).fit(X, y)
    alone = AdaptedFlowRegressorCV((8,), alphas=[1.0], **parameters).fit(X, y)
    assert found.best_estimator_.init_scale == alone.best_estimator_.init_scale == 0.3
    scores = found.cv_results_["mean_test_score"][found.cv_results_["param_alpha"] == 1]
    np.testing.assert_array_equal(scores, alone.cv_results_["mean_test_score"])


def test_every_alpha_may_have_another_ridge():
    """solver="shared" goes in blocks where the full batch has no ridge, also in a search."""
    X, _ = make_friedman1(60, random_state=0)
    Y = np.stack([X[:, 0], np.sin(3 * X[:, 1]), X[:, 2] * X[:, 3]], axis=1)
    search = AdaptedFlowRegressorCV(
        (32,), encodings=[None], solver="shared", alphas=[1.0], t_ends=[0.5, 0.95], cv=2,
        ensemble=False, random_state=0,
    )  # fmt: skip
    assert search.fit(scale(X), Y).best_score_ > 0.3
