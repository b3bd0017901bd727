"""Searches over blocks without a given end: candidates are fits, and rows kept apart judge."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.metrics import accuracy_score, log_loss, r2_score

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    PiecewiseLinearEncoder,
)
from sklearn_gflow.estimators._ensemble import even_weights
from tests.estimators.test_open_ended import rows

pytestmark = pytest.mark.slow

PLAIN = {
    AdaptedFlowRegressorCV: AdaptedFlowRegressor,
    AdaptedFlowClassifierCV: AdaptedFlowClassifier,
}
SEARCHES = list(PLAIN)


def example(search, n=1000, **options):
    return rows(PLAIN[search], n, **options)


def small(search, **parameters):
    return search((16,), random_state=0, **{"batch_size": 100, "max_iter": 12, **parameters})


def held_out_score(model):
    """What the ensemble scores on the rows that were kept apart."""
    apart = model._apart
    if isinstance(model, AdaptedFlowRegressorCV):
        return r2_score(apart.truth, apart.readings)
    return -log_loss(apart.truth, model._probabilities(apart.readings))


class Broken(TransformerMixin, BaseEstimator):
    """An encoding that no column suits."""

    def fit(self, X, y=None):
        raise ValueError("no column suits")

    def transform(self, X):
        return X


@pytest.fixture(scope="module", params=SEARCHES)
def fitted(request):
    """A search with its defaults, and the table that it was fitted to."""
    X, y = example(request.param)
    return small(request.param).fit(X, y), X, y


class TestCandidates:
    def test_the_first_is_the_default(self, fitted):
        """To the bit: what the default says of the rows apart takes part in the choice."""
        model, X, y = fitted
        alone = small(type(model), encodings=["auto"]).fit(X, y)
        assert len(alone.cv_results_["params"]) == 1
        assert alone.best_score_ == model.cv_results_["mean_test_score"][0]
        plain = PLAIN[type(model)]
        default = plain((16,), batch_size=100, max_iter=12, random_state=0).fit(X, y)
        np.testing.assert_array_equal(default._model(X), alone.best_estimator_._model(X))

    def test_have_starts_of_their_own(self, fitted):
        model, X, y = fitted
        seeds = [member.random_state for member in model.estimators_]
        assert len(set(seeds)) == len(seeds)
        best = model.best_estimator_
        assert {name: best.get_params()[name] for name in model.best_params_} == model.best_params_
        alone = small(type(model), encodings=["auto"]).fit(X, y).best_estimator_
        again = clone(alone).fit(X, y)
        np.testing.assert_array_equal(again.predict(X), alone.predict(X))

    def test_none_is_behind_the_default_on_rows_held_out(self, fitted):
        model, _, _ = fitted
        scores = model.cv_results_["mean_test_score"]
        assert model.best_score_ == scores.max() >= scores[0]
        assert held_out_score(model) >= scores[0] - 1e-6

    def test_are_told_as_what_they_are(self, fitted):
        model, _, _ = fitted
        results = model.cv_results_
        assert model.t_end_ == model.best_params_["t_end"] == "auto"
        assert results["param_t_end"].tolist() == ["auto"] * len(results["params"])
        assert results["param_activation"].tolist() == ["tanh", "silu", "silu"]
        assert results["param_rescalings"].tolist() == [1, 2, 2]
        assert (
            results["n_iter"][model.best_index_] == model.best_estimator_.n_iter_ == model.n_iter_
        )
        assert model.activation_ == model.best_estimator_.activation
        assert "loo_loss" not in results

    def test_are_compared_before_they_see_the_rows_apart(self, fitted):
        """The closed flow knows them, and a score of theirs would be too good."""
        model, X, y = fitted
        alone = small(type(model), encodings=["auto"]).fit(X, y)
        apart = alone._apart
        closed = alone._readings(X[apart.places])
        assert not np.allclose(closed, apart.readings)
        assert len(apart.places) == 100

    def test_lines(self, capsys):
        X, y = example(AdaptedFlowRegressorCV)
        model = small(AdaptedFlowRegressorCV, encodings=["auto"], verbose=1, max_iter=3).fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("candidates, candidate 1 of 1: alpha=0.5") for line in lines)
        assert any(line.endswith(f"after {model.n_iter_} epochs") for line in lines)
        assert any(line.startswith("chosen: ") and "t_end='auto'" in line for line in lines)


@pytest.mark.parametrize("search", SEARCHES)
class TestWhatIsAskedFor:
    def test_times_and_folds_are_obeyed(self, search):
        X, y = example(search)
        given = {"encodings": ["auto"], "alphas": [0.5], "ensemble": False}
        for way in ({"t_ends": [0.5]}, {"cv": 2, "t_ends": [0.5]}):
            model = small(search, **given, **way).fit(X, y)
            assert model.best_params_["t_end"] == 0.5
            assert "n_iter" not in model.cv_results_

    def test_grids_are_obeyed(self, search):
        X, y = example(search)
        ramps = PiecewiseLinearEncoder(n_bins=4)
        grid = {"encodings": [ramps], "alphas": [0.2, 1.0], "init_scales": [0.5]}
        model = small(search, **grid, activation="relu", max_iter=3).fit(X, y)
        results = model.cv_results_
        assert results["param_alpha"].tolist() == [0.2, 1.0]
        assert set(results["param_activation"]) == {"relu"}
        assert {(row["encoding"], row["init_scale"]) for row in results["params"]} == {(ramps, 0.5)}

    def test_candidates_may_look_alike(self, search):
        """They differ in their starts."""
        X, y = example(search)
        model = small(search, encodings=["auto", "auto"], max_iter=4).fit(X, y)
        one, other = model.cv_results_["mean_test_score"]
        assert one != other
        seeds = [member.random_state for member in model.estimators_]
        assert len(set(seeds)) == len(model.ensemble_weights_)
        readings = [member._readings(X) for member in model.estimators_]
        mean = np.tensordot(model.ensemble_weights_, readings, axes=1)
        np.testing.assert_allclose(model._readings(X), mean, rtol=1e-9, atol=1e-9)

    def test_workers_change_nothing(self, search):
        X, y = example(search)
        one, two = (small(search, n_jobs=n, max_iter=4).fit(X, y) for n in (None, 2))
        np.testing.assert_array_equal(one.predict(X), two.predict(X))
        np.testing.assert_array_equal(one.ensemble_weights_, two.ensemble_weights_)
        np.testing.assert_array_equal(one.cv_results_["n_iter"], two.cv_results_["n_iter"])

    def test_groups_are_kept_apart_together(self, search):
        X, y = example(search)
        groups = np.arange(1000) // 40
        model = small(search, encodings=["auto"], max_iter=3).fit(X, y, groups=groups)
        apart = np.bincount(groups[model._apart.places], minlength=25)
        assert set(apart) == {0, 40}
        assert 100 <= apart.sum() < 140
        with pytest.raises(ValueError, match="at least 2 groups"):
            small(search).fit(X, y, groups=np.zeros(1000))

    def test_nothing_is_fitted_without_refit(self, search):
        X, y = example(search)
        given = {"encodings": ["auto"], "max_iter": 3}
        model, refitted = (small(search, **given, refit=refit).fit(X, y) for refit in (False, True))
        assert not hasattr(model, "estimators_")
        assert model.best_params_ == refitted.best_params_
        assert model.best_score_ == refitted.best_score_

    def test_train_scores_are_those_of_the_other_rows(self, search):
        X, y = example(search)
        model = small(search, return_train_score=True, encodings=["auto"], max_iter=6).fit(X, y)
        scores = model.cv_results_["split0_train_score"]
        np.testing.assert_array_equal(scores, model.cv_results_["mean_train_score"])
        assert abs(scores[0] - model.best_score_) < 0.15
        assert scores[0] != model.best_score_

    def test_a_candidate_that_fails_is_told(self, search):
        X, y = example(search)
        with pytest.warns(UserWarning, match="1 of 2 candidates failed .*no column suits"):
            model = small(search, encodings=[Broken(), "auto"], max_iter=3).fit(X, y)
        assert model.encoding_ == "auto"
        assert model.best_index_ == 1
        assert model.cv_results_["n_iter"].mask.tolist() == [True, False]
        with pytest.raises(ValueError, match="no column suits"):
            small(search, encodings=[Broken()]).fit(X, y)

    def test_a_checkpoint_goes_on(self, search, tmp_path):
        X, y = example(search)
        given = {"encodings": ["auto"], "max_iter": 3}
        kept = {"checkpoint": tmp_path / "search"}
        whole = small(search, **given).fit(X, y)
        first, again = (small(search, **given, **kept).fit(X, y) for _ in range(2))
        for model in (first, again):
            np.testing.assert_array_equal(whole.predict(X), model.predict(X))
            assert whole.best_score_ == model.best_score_


class TestClasses:
    def test_take_the_log_loss(self):
        X, y = example(AdaptedFlowClassifierCV)
        model = small(AdaptedFlowClassifierCV).fit(X, y)
        assert not model._coding.loss.loss.squared
        scores = model.decision_function(X)
        p = softmax(scores / model.temperature_, axis=1)
        np.testing.assert_allclose(model.predict_proba(X), (1000 * p + 1 / 3) / 1001, rtol=1e-6)
        fresh_X, fresh_y = example(AdaptedFlowClassifierCV, 3000, seed=1)
        default = AdaptedFlowClassifier((16,), batch_size=100, max_iter=12, random_state=0)
        default.fit(X, y)
        ours, theirs = (log_loss(fresh_y, one.predict_proba(fresh_X)) for one in (model, default))
        assert ours < theirs

    def test_the_loss_that_is_asked_for_is_taken(self):
        X, y = example(AdaptedFlowClassifierCV)
        given = {"encodings": ["auto"], "max_iter": 3, "loss": "squared_error"}
        assert small(AdaptedFlowClassifierCV, **given).fit(X, y)._coding.loss.loss.squared

    def test_scoring(self):
        X, y = example(AdaptedFlowClassifierCV)
        model = small(AdaptedFlowClassifierCV, scoring="accuracy", max_iter=4).fit(X, y)
        apart = model._apart
        found = accuracy_score(apart.truth, apart.readings.argmax(1))
        scores = model.cv_results_["mean_test_score"]
        assert model.best_score_ == scores.max()
        assert found >= scores[0]


def test_intervals_hold_what_they_say():
    X, y = example(AdaptedFlowRegressorCV, 2000, noise=0.5)
    model = small(AdaptedFlowRegressorCV, encodings=["auto"]).fit(X, y)
    fresh_X, fresh_y = example(AdaptedFlowRegressorCV, 3000, noise=0.5, seed=1)
    low, high = model.predict_interval(fresh_X).T
    assert 0.85 < np.mean((low < fresh_y) & (fresh_y < high)) < 0.95


def test_even_weights_are_those_of_candidates_that_are_about_as_good():
    best = 1 + np.random.default_rng(0).random(size=10)
    alike, behind = best + np.tile([0.9, -0.6], 5), best + 0.2
    near = best + 0.1
    np.testing.assert_allclose(even_weights(np.stack([near, best])), [0.5, 0.5])
    np.testing.assert_allclose(even_weights(np.stack([behind, best, alike])), [0, 0.5, 0.5])
    np.testing.assert_allclose(even_weights(best[None]), [1])
