"""Two readings of weights: numbers of copies, and relative ones, whose mean is below one."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import AdaBoostClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)

pytestmark = pytest.mark.slow

random = np.random.RandomState(0)
X = random.normal(size=(30, 3))
WEIGHTS = random.uniform(0.2, 3, size=30)
NEW = random.normal(size=(20, 3))
ONE = {"t_ends": [0.8], "alphas": [0.5], "init_scales": [1.0]}
ESTIMATORS = [
    (AdaptedFlowRegressor, {}),
    (AdaptedFlowRegressor, {"loss": "huber", "damping": 0.1}),
    (AdaptedFlowClassifier, {}),
    (AdaptedFlowClassifier, {"loss": "log_loss", "damping": 0.1}),
    (AdaptedFlowRegressorCV, {"cv": 3, **ONE}),
    (AdaptedFlowClassifierCV, {"cv": 3, **ONE}),
]


def targets(estimator, rows=X):
    y = rows[:, 0] + rows[:, 1] ** 2
    is_classifier = "Classifier" in estimator.__name__
    return (y > 0.8).astype(int) if is_classifier else y


def predicted(estimator, parameters, weights, rows=X, method="fit", **others):
    model = estimator((10,), random_state=0, **parameters, **others)
    extra = {}
    if method == "partial_fit" and hasattr(model, "predict_proba"):
        extra["classes"] = [0, 1]
    getattr(model, method)(rows, targets(estimator, rows), sample_weight=weights, **extra)
    return model.predict_proba(NEW) if hasattr(model, "predict_proba") else model.predict(NEW)


@pytest.mark.parametrize(("estimator", "parameters"), ESTIMATORS)
class TestBothReadings:
    @pytest.mark.parametrize("total", [1.0, 1e-150])
    def test_of_relative_weights_only_ratios_count(self, estimator, parameters, total):
        relative = predicted(estimator, parameters, WEIGHTS * (total / WEIGHTS.sum()))
        mean_one = predicted(estimator, parameters, WEIGHTS / WEIGHTS.mean())
        np.testing.assert_allclose(relative, mean_one, rtol=1e-6, atol=1e-6)

    def test_weights_that_are_all_alike_are_none(self, estimator, parameters):
        plain = predicted(estimator, parameters, None)
        for size in (1 / 30, 1e-300):
            np.testing.assert_allclose(
                predicted(estimator, parameters, np.full(30, size)), plain, rtol=1e-6, atol=1e-6
            )

    def test_absent_rows_do_not_make_counts_relative(self, estimator, parameters):
        """Two thirds of zeros bring the mean of all weights below one, and they stay counts."""
        if "cv" in parameters:
            pytest.skip("rows of weight zero are in the folds, and absent rows are not")
        counts = np.where(np.arange(30) % 3 == 0, 1.0 + (np.arange(30) % 2), 0.0)
        assert counts.mean() < 1
        copies = np.repeat(X, counts.astype(int), axis=0)
        np.testing.assert_allclose(
            predicted(estimator, parameters, counts),
            predicted(estimator, parameters, None, copies),
            rtol=1e-6,
            atol=1e-6,
        )

    def test_the_border_is_no_step(self, estimator, parameters):
        weights = WEIGHTS / WEIGHTS.mean()
        below, above = (
            predicted(estimator, parameters, weights * (1 + off)) for off in (-1e-9, 1e-9)
        )
        np.testing.assert_allclose(below, above, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", [AdaptedFlowRegressor, AdaptedFlowClassifier])
def test_chunks(estimator):
    relative = predicted(estimator, {}, WEIGHTS / WEIGHTS.sum(), method="partial_fit")
    mean_one = predicted(estimator, {}, WEIGHTS / WEIGHTS.mean(), method="partial_fit")
    np.testing.assert_allclose(relative, mean_one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", [AdaptedFlowRegressor, AdaptedFlowClassifier])
def test_weights_without_a_sum(estimator):
    with pytest.raises(ValueError, match="sample_weight has a sum beyond the range"):
        predicted(estimator, {}, np.full(30, 1e308))


class TestClassWeight:
    def fit(self, class_weight, weights=None, **parameters):
        return predicted(AdaptedFlowClassifier, parameters, weights, class_weight=class_weight)

    @pytest.mark.parametrize("size", [1e-6, 1e6])
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_only_ratios_count(self, loss, size):
        one, other = (self.fit({0: k, 1: 3 * k}, loss=loss, damping=0.1) for k in (1.0, size))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)

    def test_alike_is_none(self):
        np.testing.assert_allclose(self.fit({0: 5, 1: 5}), self.fit(None), rtol=1e-6)

    def test_balanced_counts_copies(self):
        counts = 1 + np.arange(30) % 3
        copies = np.repeat(X, counts, axis=0)
        of_copies = predicted(AdaptedFlowClassifier, {}, None, copies, class_weight="balanced")
        np.testing.assert_allclose(self.fit("balanced", counts), of_copies, rtol=1e-6)

    def test_infinite(self):
        with pytest.raises(ValueError, match=r"class_weight must be positive .*, and finite"):
            self.fit({0: np.inf})


class TestOnATable:
    X, y = load_breast_cancer(return_X_y=True)
    parts = train_test_split(scale(X), y, train_size=200, test_size=300, random_state=0)

    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_weights_that_sum_to_one_are_as_good_as_none(self, loss):
        X, X_test, y, y_test = self.parts
        losses = []
        for weights in (None, np.full(len(y), 1 / len(y))):
            model = AdaptedFlowClassifier((20,), loss=loss, damping=0.1, random_state=0)
            model.fit(X, y, sample_weight=weights)
            losses.append(log_loss(y_test, model.predict_proba(X_test)))
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)

    def test_boosting_starts_from_the_estimator_alone(self):
        X, X_test, y, y_test = self.parts
        alone = AdaptedFlowClassifier((20,), random_state=0)
        boosted = AdaBoostClassifier(alone, n_estimators=3, random_state=0).fit(X, y)
        alone = boosted.estimators_[0]
        plain = AdaptedFlowClassifier((20,), random_state=alone.random_state).fit(X, y)
        np.testing.assert_allclose(
            alone.predict_proba(X_test), plain.predict_proba(X_test), rtol=1e-6, atol=1e-9
        )
        assert boosted.score(X_test, y_test) > 0.93
