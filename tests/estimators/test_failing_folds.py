"""Folds in which something is missing or fails: the rest is scored, and errors name the fold."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import KFold, LeaveOneOut

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV
from sklearn_gflow.exceptions import ConvergenceWarning

X = np.random.default_rng(0).normal(size=(12, 3))
Y = X[:, 0]
LABELS = np.array([0] * 5 + [1] * 6 + [2])
ONE = {"encodings": [None], "alphas": [0.5], "t_ends": [0.5], "random_state": 0}


def regressor(**parameters):
    return AdaptedFlowRegressorCV((4,), **{**ONE, **parameters})


def classifier(**parameters):
    return AdaptedFlowClassifierCV((4,), **{**ONE, **parameters})


@pytest.mark.parametrize("cv", [None, KFold(3), LeaveOneOut()])
def test_a_class_may_be_missing_from_a_fold(cv):
    """KFold(3) trains without class 2, and scores its row nevertheless."""
    search = classifier(cv=cv).fit(X, LABELS)
    assert np.isfinite(search.best_score_)
    assert search.classes_.tolist() == [0, 1, 2]


@pytest.mark.slow
def test_rows_left_out_one_by_one_are_scored_together():
    """R² of single rows is not defined; that of all of them is."""
    search = regressor(cv=LeaveOneOut(), scoring="r2").fit(X, Y)
    assert 0 < search.best_score_ <= 1
    other = regressor(cv=LeaveOneOut()).fit(X, Y)
    assert search.best_score_ == pytest.approx(other.best_score_, rel=1e-12)


@pytest.mark.parametrize(
    ("cv", "told"),
    [
        ([], "cv gives no fold"),
        ([(np.arange(4), np.arange(4, 8)), ([], np.arange(3))], "fold 2 of 2 of cv trains on no"),
        ([(np.arange(4), [])], "fold 1 of 1 of cv holds out no row"),
        ([(np.arange(4), [99])], "fold 1 of 1 of cv holds out rows that X has not"),
        (KFold(100), "n_splits=100 greater than the number of samples"),
    ],
)
def test_splitters_that_do_not_fit_are_told(cv, told):
    with pytest.raises(ValueError, match=told):
        regressor(cv=cv).fit(X, Y)


def test_a_fold_without_weight_is_told():
    with pytest.raises(ValueError, match="fold 1 of 3 of cv holds out no row of positive weight"):
        regressor(cv=KFold(3)).fit(X, Y, sample_weight=[0] * 4 + [1] * 8)


def test_groups_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="groups must name at least 2 groups"):
        regressor().fit(X, Y, groups=[0] * 12)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        regressor().fit(X, Y, groups=[0, 1])


def test_targets_that_a_fold_lacks_are_told_with_its_number():
    with pytest.raises(ValueError, match=r"In fold 3 of 3: loss='poisson' needs a positive value"):
        regressor(cv=KFold(3), loss="poisson").fit(X, np.r_[np.zeros(8), np.ones(4)])


class RefusesRow(TransformerMixin, BaseEstimator):
    """A transformer that refuses to learn from a table with a certain value."""

    def __init__(self, value):
        self.value = value

    def fit(self, X, y=None):
        if np.isclose(X, self.value).any():
            raise ValueError("this transformer does not like a value")
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


def refusing(**parameters):
    encodings = [None, RefusesRow(X[0, 0])]
    return regressor(encodings=encodings, scale_inputs=False, **parameters)


@pytest.mark.parametrize("cv", [2, KFold(3)])
def test_a_candidate_that_fails_in_a_fold_has_no_score(cv):
    with pytest.warns(ConvergenceWarning, match=r"1 of 2 candidates failed .* In fold 2 of"):
        search = refusing(cv=cv).fit(X, Y)
    assert search.encoding_ is None
    scores = search.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [False, True]
    assert search.cv_results_["rank_test_score"].tolist() == [1, 2]


def test_where_all_fail_the_error_names_the_fold():
    with pytest.raises(ValueError, match=r"In fold 2 of 3: this transformer does not like"):
        regressor(encodings=[RefusesRow(X[0, 0])], scale_inputs=False, cv=KFold(3)).fit(X, Y)


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc"])
def test_a_scoring_that_does_not_suit_is_told(scoring):
    with pytest.raises(ValueError, match=rf"scoring='{scoring}' cannot score these predictions"):
        regressor(scoring=scoring).fit(X, Y)
