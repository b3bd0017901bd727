import numpy as np
import pytest

from sklearn_gflow.plots import CollapseDisplay
from tests.estimators.data import classes, classifier
from tests.plots.fits import LABELS, fit_to_labels, fit_to_numbers


class TestParts:
    def test_are_those_of_the_history(self):
        flow = fit_to_labels()
        display = CollapseDisplay.from_estimator(flow).plot()
        for line, column in (
            (display.within_line_, "within_class"),
            (display.between_line_, "between_class"),
        ):
            np.testing.assert_array_equal(line.get_xdata(), flow.history_["t"])
            np.testing.assert_array_equal(line.get_ydata()[1:], flow.history_[column][1:])

    def test_rounding_at_the_start_is_not_drawn(self):
        display = CollapseDisplay.from_estimator(fit_to_labels()).plot()
        assert display.within[0] < 1e-12 < display.between[0]
        assert np.isnan(display.within_line_.get_ydata()[0])
        assert np.isfinite(display.between_line_.get_ydata()).all()


class TestMeans:
    def test_are_those_of_the_probabilities(self):
        X, y = LABELS
        flow = fit_to_labels()
        display = CollapseDisplay.from_estimator(flow, X, y)
        proba = flow.predict_proba(X)
        expected = [proba[y == label].mean(axis=0) for label in flow.classes_]
        np.testing.assert_allclose(display.class_means[-1], expected)
        assert len(display.class_means) == len(display.t)

    def test_of_two_classes_are_drawn_against_time(self):
        X, y = classes(20, 2, 2)
        flow = classifier(store_path=True).fit(X, y)
        display = CollapseDisplay.from_estimator(flow, X, y).plot(kind="means")
        for k, line in enumerate(display.lines_):
            np.testing.assert_array_equal(line.get_xdata(), flow.history_["t"])
            np.testing.assert_array_equal(line.get_ydata(), display.class_means[:, k, 1])

    @pytest.mark.parametrize("n_classes", [3, 5])
    def test_at_the_corners_are_drawn_at_the_corners(self, n_classes):
        labels = np.arange(n_classes)
        start = np.full((n_classes, n_classes), 1 / n_classes)
        display = CollapseDisplay.from_data([start, np.eye(n_classes)], labels, [0.0, 1.0])
        ends = np.array([line.get_xydata() for line in display.plot(kind="means").lines_])
        np.testing.assert_allclose(ends[:, 0], 0, atol=1e-15)
        np.testing.assert_allclose(np.linalg.norm(ends[:, 1], axis=1), 1)
        corners = display.ax_.patches[0].get_xy()[:-1]
        np.testing.assert_allclose(ends[:, 1], corners)
        np.testing.assert_allclose(display.within, 0)
        np.testing.assert_allclose(display.between, [(1 - 1 / n_classes) / 2, 0])

    def test_need_the_path(self):
        X, y = LABELS
        display = CollapseDisplay.from_estimator(fit_to_labels(store_path=False))
        with pytest.raises(ValueError, match="set store_path=True before fit, and hand X and y"):
            display.plot(kind="means")
        with pytest.raises(ValueError, match="set store_path=True"):
            CollapseDisplay.from_estimator(fit_to_labels(store_path=False), X, y)

    def test_need_rows_of_every_class(self):
        X, y = LABELS
        with pytest.raises(ValueError, match="X and y belong together"):
            CollapseDisplay.from_estimator(fit_to_labels(), X)
        with pytest.raises(ValueError, match="y must have rows of every class"):
            CollapseDisplay.from_estimator(fit_to_labels(), X[y != "two"], y[y != "two"])


def test_a_regressor_is_refused():
    with pytest.raises(ValueError, match=r"to be a classifier. Got AdaptedFlowRegressor instead"):
        CollapseDisplay.from_estimator(fit_to_numbers())
