"""Kinds of fault that generated calls have found: each once more, small, and by its name."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from tests.estimators.data import classes, table

X, Y = table(16)
LABELS = classes(16)[1]


def regressor(**parameters):
    return AdaptedFlowRegressor((4,), random_state=0, **parameters)


def classifier(**parameters):
    return AdaptedFlowClassifier((4,), random_state=0, **parameters)


class TestRefusals:
    """What was an error of another library is one that names the cause."""

    @pytest.mark.parametrize("schedule", [{}, object(), 1j, np.array(2), None])
    def test_schedules_that_are_none(self, schedule):
        with pytest.raises(ValueError, match="schedule"):
            regressor(schedule=schedule).fit(X, Y)

    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_targets_among_objects(self, missing):
        y = Y.astype(object)
        y[3] = missing
        with pytest.raises(ValueError, match=r"y contains N[aA]"):
            regressor().fit(X, y)

    def test_weights_that_are_no_numbers(self):
        with pytest.raises(ValueError, match="sample_weight must be numbers, one for each row"):
            regressor().fit(X, Y, sample_weight=["heavy"] * 16)

    def test_labels_that_are_missing(self):
        labels = LABELS.astype(object)
        labels[3] = np.nan
        with pytest.raises(ValueError, match="y has labels that are NaN and numbers"):
            classifier().fit(X, labels)

    def test_labels_held_out_that_are_of_another_kind(self):
        days = LABELS.astype("M8[D]")
        with pytest.raises(ValueError, match="y with y_val has labels that are date and numbers"):
            classifier(early_stopping=True).fit(X, LABELS, X_val=X, y_val=days)

    def test_class_weights_of_labels_that_are_no_numbers(self):
        with pytest.raises(ValueError, match=r"class_weight must name labels of y|not in class_w"):
            classifier(class_weight={0: 2.0}).fit(X, LABELS.astype("M8[D]"))

    def test_more_rescalings_than_anybody_waits_for(self):
        with pytest.raises(ValueError, match="'rescalings' parameter"):
            regressor(rescalings=10**9).fit(X, Y)


class TestExtremes:
    """Numbers at the ends of the range end in a fit, and warn in words of ours."""

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1 - 1e-16])
    def test_alpha_beside_its_ends(self, alpha):
        model = regressor(alpha=alpha, damping=0.0).fit(X, Y)
        assert np.isfinite(model.predict(X)).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["RK45", "DOP853", "Radau", "LSODA"])
    def test_integrators_at_an_end_beside_zero(self, method):
        model = regressor(method=method, t_end=1e-183).fit(X, Y)
        assert model.outcome_ == "reached t_end"
        assert model.loss_ == pytest.approx(model.loss_curve_[0])

    @pytest.mark.slow
    @pytest.mark.parametrize("scale", [5e-324, 1e300])
    def test_leave_one_out_in_any_unit(self, scale):
        model = regressor(early_stopping="loo", metric_scale=scale)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, Y)
        assert np.isfinite(model.predict(X)).all()

    def test_blocks_in_a_unit_that_their_precision_has_not(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = regressor(batch_size=6, metric_scale=1e-139).fit(X, Y)
        assert np.isfinite(model.predict(X)).all()

    def test_a_time_beside_zero(self):
        search = AdaptedFlowRegressorCV((4,), t_ends=[1e-300], encodings=[None], random_state=0)
        assert search.fit(X, Y).t_end_ == 1e-300

    @pytest.mark.parametrize("size", [1e-300, 1e-9])
    def test_weights_that_are_hardly_any(self, size):
        model = regressor().fit(X, Y, sample_weight=np.full(16, size))
        np.testing.assert_array_equal(model.predict(X), regressor().fit(X, Y).predict(X))

    @pytest.mark.parametrize("size", [1e100, 1e300])
    def test_weights_without_measure(self, size):
        """So many copies that the ridge of one is below their rounding."""
        with pytest.warns(ConvergenceWarning, match="no step, however short"):
            model = regressor().fit(X, Y, sample_weight=np.full(16, size))
        assert np.isfinite(model.predict(X)).all()


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV])
def test_a_search_of_one_time_and_one_network(estimator):
    y = Y if estimator is AdaptedFlowRegressorCV else LABELS
    search = estimator((4,), encodings=[None], alphas=[1.0], t_ends=[1.0], random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert np.isfinite(search.fit(X, y).best_score_)
