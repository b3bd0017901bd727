"""Options that searches share with those of scikit-learn, and early stopping by a scorer."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer, make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from tests.estimators.searches import SEARCHES, example, small

pytestmark = pytest.mark.slow

REGRESSOR, CLASSIFIER = SEARCHES


@pytest.mark.parametrize("search", SEARCHES)
class TestRefit:
    def test_is_of_the_best(self, search):
        X, y = example(search)
        model = small(search).fit(X, y)
        assert model.cv_results_["params"][model.best_index_] == model.best_params_
        best = clone(model.best_estimator_).set_params(**model.best_params_).fit(X, y)
        np.testing.assert_array_equal(best.predict(X), model.predict(X))

    def test_may_be_left_out(self, search):
        X, y = example(search)
        model, refitted = small(search, refit=False).fit(X, y), small(search).fit(X, y)
        for name in ("best_estimator_", "estimators_", "n_iter_", "feature_importances_"):
            assert not hasattr(model, name)
        for name in ("best_params_", "best_index_", "best_score_", "n_features_in_", "alpha_"):
            assert getattr(model, name) == getattr(refitted, name)
        with pytest.raises(NotFittedError):
            small(search, refit=False).predict(X)
        for use in (model.predict, lambda X: model.score(X, y)):
            with pytest.raises(AttributeError, match="initialized with `refit=False`"):
                use(X)

    def test_leaves_nothing_of_an_earlier_fit(self, search):
        X, y = example(search)
        model = small(search).fit(X, y).set_params(refit=False).fit(X, y)
        assert not hasattr(model, "estimators_")


@pytest.mark.parametrize("search", SEARCHES)
class TestTrainScores:
    def test_are_those_of_scikit_learn(self, search):
        """Candidates over the folds of a splitter are fits of their own."""
        X, y = example(search)
        scoring = "r2" if search is REGRESSOR else "accuracy"
        how = {"cv": KFold(2, shuffle=True, random_state=0), "return_train_score": True}
        model = small(search, scoring=scoring, alphas=[0.1, 0.5], **how).fit(X, y)
        plain = {REGRESSOR: AdaptedFlowRegressor, CLASSIFIER: AdaptedFlowClassifier}[search]
        seed = model.best_estimator_.random_state
        grid = {"alpha": [0.1, 0.5], "t_end": [0.3, 0.8]}
        flow = plain((8,), random_state=seed)
        expected = GridSearchCV(flow, grid, scoring=scoring, **how).fit(X, y).cv_results_
        found = model.cv_results_
        for name in [name for name in expected if "train_score" in name or "test_score" in name]:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=2e-3)

    def test_of_who_was_not_followed_are_missing(self, search):
        results = small(search, return_train_score=True).fit(*example(search)).cv_results_
        missing = np.isnan(results["mean_test_score"])
        assert missing.any()
        np.testing.assert_array_equal(np.isnan(results["mean_train_score"]), missing)

    def test_change_no_other(self, search):
        X, y = example(search)
        one, other = (small(search, return_train_score=r).fit(X, y) for r in (False, True))
        for name, column in one.cv_results_.items():
            np.testing.assert_array_equal(np.asarray(column), np.asarray(other.cv_results_[name]))


@pytest.mark.parametrize("cv", [None, 2])
def test_candidates_may_look_alike(cv):
    X, y = example(REGRESSOR)
    once, twice = (
        small(REGRESSOR, cv=cv, encodings=encodings).fit(X, y)
        for encodings in ([None], [None, None])
    )
    assert len(twice.cv_results_["params"]) == 2 * len(once.cv_results_["params"])
    assert twice.best_params_ == once.best_params_


@pytest.mark.parametrize("search", SEARCHES)
def test_blocks_are_those_of_the_parameter(search):
    X, y = example(search)
    model = small(search, batch_size=20, t_ends=[0.5], alphas=[0.5]).fit(X, y)
    assert model.best_estimator_.batch_size == 20
    assert small(search, batch_size=None).fit(X, y).best_estimator_.batch_size is None
    with pytest.raises(ValueError, match="batch_size"):
        small(search, batch_size=0).fit(X, y)


class TestEarlyStoppingByAScorer:
    @pytest.mark.parametrize(
        ("flow", "scoring"),
        [
            (AdaptedFlowRegressor, "neg_mean_absolute_error"),
            (AdaptedFlowRegressor, make_scorer(mean_absolute_error, greater_is_better=False)),
            (AdaptedFlowRegressor, lambda model, X, y: -np.abs(model.predict(X) - y).mean()),
            (AdaptedFlowClassifier, "neg_log_loss"),
            (AdaptedFlowClassifier, "roc_auc_ovr"),
            (AdaptedFlowClassifier, "accuracy"),
        ],
    )
    def test_scores_are_those_of_the_fit(self, flow, scoring):
        search = REGRESSOR if flow is AdaptedFlowRegressor else CLASSIFIER
        X, y = example(search, 90)
        own = {"X_val": X[60:], "y_val": y[60:]}
        model = flow((8,), early_stopping=True, scoring=scoring, random_state=0)
        model.fit(X[:60], y[:60], **own)
        best = model.best_validation_score_
        assert best == np.max(model.validation_scores_)
        scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
        np.testing.assert_allclose(best, scorer(model, X[60:], y[60:]), rtol=1e-8)

    def test_the_own_score_is_the_default(self):
        X, y = example(REGRESSOR, 90)
        fits = [
            AdaptedFlowRegressor((8,), early_stopping=True, scoring=one, random_state=0).fit(X, y)
            for one in (None, "r2")
        ]
        np.testing.assert_allclose(*(one.validation_scores_ for one in fits), rtol=1e-9)

    def test_holds_out_rows(self):
        with pytest.raises(ValueError, match=r"scoring='r2' is of rows held out.*'loo'"):
            AdaptedFlowRegressor(early_stopping="loo", scoring="r2").fit(*example(REGRESSOR))

    def test_has_to_be_one(self):
        with pytest.raises(ValueError, match="'nothing' is not a valid scoring value"):
            AdaptedFlowRegressor((4,), early_stopping=True, scoring="nothing").fit(
                *example(REGRESSOR)
            )
