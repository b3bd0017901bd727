"""Several networks by the ensembles of scikit-learn."""

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    VotingClassifier,
    VotingRegressor,
)

from tests.estimators.data import classes, classifier, regressor, table


def starts(members):
    return np.array([member._network.reference for member in members])


def several(ensemble, network, **parameters):
    """Three networks that differ in their start alone."""
    return ensemble(network, 3, max_samples=1.0, bootstrap=False, random_state=0, **parameters)


class TestRegressors:
    def test_bagging_gives_each_its_own_start_and_averages(self):
        X, y = table(30)
        bag = several(BaggingRegressor, regressor(random_state=None)).fit(X, y)
        assert len(np.unique(starts(bag.estimators_)[:, 0])) == 3
        singles = [member.predict(X) for member in bag.estimators_]
        np.testing.assert_allclose(bag.predict(X), np.mean(singles, axis=0))

    def test_bagging_repeats_itself(self):
        X, y = table(30)
        first, second = (several(BaggingRegressor, regressor()).fit(X, y) for _ in range(2))
        np.testing.assert_array_equal(first.predict(X), second.predict(X))

    def test_voting_hands_weights_on(self):
        X, y = table(30)
        weights = np.resize([1.0, 2.0, 3.0], 30)
        vote = VotingRegressor([("a", regressor()), ("b", regressor(random_state=1))])
        vote.fit(X, y, sample_weight=weights)
        alone = regressor().fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(vote.estimators_[0].predict(X), alone.predict(X))

    def test_voting_averages(self):
        X, y = table(30)
        members = [(f"start{seed}", regressor(random_state=seed)) for seed in range(3)]
        vote = VotingRegressor(members).fit(X, y)
        assert len(np.unique(starts(vote.estimators_)[:, 0])) == 3
        singles = [member.predict(X) for member in vote.estimators_]
        np.testing.assert_allclose(vote.predict(X), np.mean(singles, axis=0))


class TestClassifiers:
    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_bagging_averages_probabilities(self, loss):
        X, y = classes(45)
        labels = np.array(["c", "a", "b"])[y]
        smoothing = 0.05 if loss == "log_loss" else 0.0
        network = classifier(random_state=None, loss=loss, label_smoothing=smoothing)
        bag = several(BaggingClassifier, network).fit(X, labels)
        assert len(np.unique(starts(bag.estimators_)[:, 0])) == 3
        singles = [member.predict_proba(X) for member in bag.estimators_]
        np.testing.assert_allclose(bag.predict_proba(X), np.mean(singles, axis=0))
        assert bag.score(X, labels) > 0.6

    def test_voting_averages_probabilities(self):
        X, y = classes(45)
        members = [(f"start{seed}", classifier(random_state=seed)) for seed in range(3)]
        vote = VotingClassifier(members, voting="soft").fit(X, y)
        singles = [member.predict_proba(X) for member in vote.estimators_]
        np.testing.assert_allclose(vote.predict_proba(X), np.mean(singles, axis=0))
        np.testing.assert_array_equal(vote.predict(X), np.mean(singles, axis=0).argmax(axis=1))
