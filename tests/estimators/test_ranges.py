"""Magnitudes: offsets, units and inputs from one end of the range of numbers to the other."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.estimators._coding import CodedNumbers
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._losses import LABELS, NUMBERS, LossOfNumbers, project_to_simplex
from sklearn_gflow.estimators._rows import Rows

random = np.random.RandomState(0)
X = random.normal(size=(60, 3))
Z = np.sin(X[:, 0]) + 0.1 * random.normal(size=60)
ONE = {"cv": 2, "t_ends": [0.8], "alphas": [0.5], "init_scales": [1.0], "encodings": [None]}
ESTIMATORS = {
    AdaptedFlowRegressor: {},
    AdaptedFlowClassifier: {},
    AdaptedFlowRegressorCV: ONE,
    AdaptedFlowClassifierCV: ONE,
}
EPS = np.finfo(float).eps
ROUNDING = {"float64": 1e-10, "float32": 1e-5}  # of the training, in standard deviations of y
CAUSE = "y has values|y, in the units|Scale the features|scale X|scale the column|too large"


def made(estimator=AdaptedFlowRegressor, **parameters):
    return estimator((10,), random_state=0, **ESTIMATORS[estimator], **parameters)


UNIT = {dtype: made(dtype=dtype).fit(X, Z).predict(X) for dtype in ("float64", "float32")}


def error(y, offset, size, dtype):
    """Of predictions against those of the same targets at a unit of one, in that unit."""
    predicted = made(dtype=dtype).fit(X, y).predict(X).astype(float)
    return np.abs((predicted - offset) / size - UNIT[dtype]).max(), np.abs(y).max() / size


class TestTargets:
    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize(
        ("offset", "size"),
        [(1.7e9, 20), (1e12, 1), (-1e12, 1e3), (1e150, 1e138), (0, 1e150), (0, 1e-150), (1e5, 1.0)],
    )
    def test_accuracy(self, offset, size, dtype):
        found, ratio = error(offset + size * Z, offset, size, dtype)
        assert found < 4 * EPS * ratio + ROUNDING[dtype]

    @pytest.mark.slow
    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(st.floats(-145, 145), st.floats(0, 13), st.sampled_from(["float64", "float32"]))
    def test_accuracy_of_any_magnitude(self, power, above, dtype):
        size, offset = 10.0**power, 10.0 ** min(power + above, 150)
        found, ratio = error(offset + size * Z, offset, size, dtype)
        assert found < 4 * EPS * ratio + ROUNDING[dtype]

    def test_times_of_day_in_single_precision(self):
        y = 1.7e9 + 20 * Z
        model = made(dtype="float32").fit(X, y)
        assert model.predict(X).dtype == np.float64
        assert len(np.unique(model.predict(X))) == 60
        assert model.score(X, y) == pytest.approx(made().fit(X, y).score(X, y), abs=1e-4)
        mean, std = model.predict(X, return_std=True)
        assert mean.dtype == std.dtype == np.float64

    @pytest.mark.parametrize("value", [0.3, 1.7e9 + 7, 0.0])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_constants_are_predicted_exactly(self, value, dtype):
        y = np.full(60, value)
        assert (made(dtype=dtype).fit(X, y).predict(X) == y).all()

    def test_ordinary_targets_stay_in_single_precision(self):
        for y in (Z, 10 + Z, 1e20 * Z, np.stack([Z, 5 * Z + 3], axis=1)):
            assert made(dtype="float32").fit(X, y).predict(X).dtype == np.float32

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", NUMBERS)
    def test_what_single_precision_does_not_tell_apart(self, loss):
        y = 1.7e9 + 20 * np.exp(Z)
        model = made(loss=loss, dtype="float32")
        if NUMBERS[loss].make(0.5).link == "log":
            with pytest.raises(ValueError, match=r"y, in the units of its loss, .*dtype='float64'"):
                model.fit(X, y)
        else:
            assert len(np.unique(model.fit(X, y).predict(X))) > 30

    @pytest.mark.parametrize("size", [1e-151, 1e-155, 1e-158, 1e-161, 1e-200, 1e-320])
    def test_what_squares_do_not_hold(self, size):
        with pytest.raises(ValueError, match=r"y has values up to .* multiply y by a constant"):
            made().fit(X, size * Z)


class TestInputs:
    """Inputs of ``predict`` that are far out."""

    FAR = np.array([[1.0, 0, 0], [-1, 1, 0], [0.5, -1, 1]])

    @pytest.mark.slow
    @pytest.mark.parametrize("activation", ["relu", "identity"])
    @pytest.mark.parametrize("loss", LABELS)
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_probabilities_saturate(self, loss, n_classes, activation):
        y = np.digitize(Z, [0.0] if n_classes == 2 else [-0.4, 0.4])
        model = made(
            AdaptedFlowClassifier, loss=loss, activation=activation, scale_inputs=False, damping=0.1
        ).fit(X, y)
        near = model.predict(1e6 * self.FAR)
        for size in (1e17, 1e150, 1e300, 1e307):
            p = model.predict_proba(size * self.FAR)
            assert np.isfinite(p).all()
            np.testing.assert_allclose(p.sum(axis=1), 1)
            np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], near)
            np.testing.assert_array_equal(model.predict(size * self.FAR), near)

    @pytest.mark.slow
    @pytest.mark.parametrize("outputs", [[np.inf, 0, 1], [-np.inf, 1e308, 3], [1e300, -1e300, 0]])
    @pytest.mark.parametrize("loss", LABELS)
    def test_outputs_without_bound(self, loss, outputs):
        y = np.digitize(Z, [-0.4, 0.4])
        coding = made(AdaptedFlowClassifier, loss=loss, damping=0.1).fit(X, y)._coding
        p = coding.probabilities(coding.scores(np.array([outputs])))
        assert np.isfinite(p).all()
        assert p[0].argmax() == np.argmax(outputs)

    def test_outputs_that_are_no_numbers(self):
        y = (Z > 0).astype(int)
        coding = made(AdaptedFlowClassifier).fit(X, y)._coding
        with pytest.raises(ValueError, match=r"outputs for row 1 of X .*; scale X"):
            coding.scores(np.array([[0.0], [np.nan]]))

    @pytest.mark.parametrize(
        ("loss", "size", "far"), [("squared_error", 1e100, 1e250), ("poisson", 1.0, 1e5)]
    )
    def test_predictions_without_bound_are_an_error(self, loss, size, far):
        model = made(loss=loss, activation="identity", scale_inputs=False).fit(X, size * (3 + Z))
        with pytest.raises(ValueError, match=r"the prediction for row \d of X .*; scale X"):
            model.predict(far * np.array([[1.0, 1, 1], [-1, -1, -1]]))

    def test_simplex_projection_of_large_points(self):
        points = np.array([[1e17, 0, 0], [1e300, -1e300, 1e300], [-1e17, -1e17 + 64, -1e18]])
        expected = [[1, 0, 0], [0.5, 0, 0.5], [0, 1, 0]]
        np.testing.assert_array_equal(project_to_simplex(points), expected)


MAGNITUDES = (
    st.floats(-300, 300),
    st.floats(-300, 300),
    st.floats(-300, 307),
    st.booleans(),
    st.sampled_from(["float64", "float32"]),
)


@pytest.mark.filterwarnings("ignore::sklearn_gflow.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:The columns .* more than 100 times:UserWarning")
class TestFiniteOrAnErrorThatNamesTheCause:
    def hold(self, estimator, of_X, of_y, at, scaled, dtype):
        model = made(estimator, scale_inputs=scaled, dtype=dtype)
        table, others = X * np.array([1, 10.0**of_X, 1]), 10.0**at * X
        is_classifier = hasattr(model, "predict_proba")
        y = (Z > 0).astype(int) if is_classifier else 10.0**of_y * Z
        found, message = [], ""
        try:
            model.fit(table, y)
            found += [model.predict(table), model.predict(others)]
            if is_classifier:
                found += [model.predict_proba(others), model.predict_log_proba(table)]
        except ValueError as error:
            message = str(error)
        assert not message or re.search(CAUSE, message)
        assert all(np.isfinite(values).all() for values in found)

    @pytest.mark.slow
    @pytest.mark.parametrize("estimator", [AdaptedFlowRegressor, AdaptedFlowClassifier])
    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(*MAGNITUDES)
    def test_estimators(self, estimator, of_X, of_y, at, scaled, dtype):
        self.hold(estimator, of_X, of_y, at, scaled, dtype)

    @pytest.mark.slow
    @pytest.mark.parametrize("estimator", [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV])
    @settings(max_examples=12, deadline=None, derandomize=True, database=None)
    @given(*MAGNITUDES)
    def test_searches(self, estimator, of_X, of_y, at, scaled, dtype):
        self.hold(estimator, of_X, of_y, at, scaled, dtype)


class TestScores:
    @pytest.mark.slow
    @pytest.mark.parametrize(("offset", "size"), [(0, 1), (1e9, 1), (1e150, 1e145), (0, 1e-140)])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_of_rows_held_out_are_r2(self, offset, size, dtype):
        y = offset + size * Z
        model = made(early_stopping=True, dtype=dtype)
        model.fit(X[20:], y[20:], X_val=X[:20], y_val=y[:20])
        expected = r2_score(y[:20], model.predict(X[:20]))
        assert model.best_validation_score_ == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("value", [0.3, 0.1, 7.0, 1e9 + 0.3])
    def test_a_constant_part_scores_nothing(self, value):
        """The mean of copies of 0.3 is off by a rounding, and R² by scikit-learn then −10³¹."""
        held_out = np.full(10, value)
        model = made(early_stopping=True)
        model.fit(X[10:], value + Z[10:], X_val=X[:10], y_val=held_out)
        np.testing.assert_array_equal(model.validation_scores_, 0)
        rows = Rows(X, value + Z, None)
        coding = CodedNumbers.learnt(rows, LossOfNumbers.of("squared_error", 0.5))
        judgement = Judgement(coding, Rows(X[:10], held_out, None))
        assert judgement.score(held_out[:, None] + 0.5) == 0
        assert judgement.score(held_out[:, None]) == 1

    def test_a_constant_fold(self):
        y = np.concatenate([np.full(30, 0.3), Z[30:]])
        assert made(AdaptedFlowRegressorCV).fit(X, y).best_score_ > -100
