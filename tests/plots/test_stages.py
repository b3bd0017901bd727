import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from sklearn_gflow.plots import StagesDisplay
from tests.estimators.data import classes, classifier, regressor
from tests.plots.fits import LABELS, NUMBERS, fit_to_labels, fit_to_numbers, piped

X, Y = np.linspace(-2, 2, 20)[:, None], np.sin(np.linspace(-2, 2, 20))
STORED = {"store_path": True}


class TestOneFeature:
    def test_lines_are_stages_of_the_fit(self):
        flow = regressor(schedule=20, **STORED).fit(X, Y)
        display = StagesDisplay.from_estimator(flow, X, Y).plot()
        stages = dict(
            zip(flow.history_["t"], flow.staged_predict(display.grid[0][:, None]), strict=True)
        )
        assert len(display.lines_) == 5
        for t, line in zip(display.t, display.lines_, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), stages[t])
        np.testing.assert_array_equal(display.points_[0].get_offsets(), np.c_[X[:, 0], Y])

    def test_from_the_start_to_the_solution(self):
        flow = regressor(t_end=0.99, early_stopping=True, **STORED).fit(X, Y)
        display = StagesDisplay.from_estimator(flow, X)
        assert display.t[0] == 0
        assert display.t[-1] == flow.t_
        np.testing.assert_allclose(display.stages[0], flow.target_mean_[0])
        np.testing.assert_allclose(display.stages[-1], flow.predict(display.grid[0][:, None]))

    def test_lines_grow_darker(self):
        """So that they are told apart in grey."""
        display = StagesDisplay.from_estimator(regressor(**STORED).fit(X, Y), X).plot()
        light = [np.dot(to_rgb(line.get_color()), [0.3, 0.6, 0.1]) for line in display.lines_]
        assert (np.diff(light) < -0.08).all()

    def test_a_short_path_has_fewer_stages(self):
        flow = regressor(schedule=2, **STORED).fit(X, Y)
        np.testing.assert_array_equal(StagesDisplay.from_estimator(flow, X).t, flow.history_["t"])

    def test_of_a_classifier_is_a_probability(self):
        x, y = classes(20, 1, 2)
        names = np.array(["no", "yes"])[y]
        flow = classifier(**STORED).fit(x, names)
        display = StagesDisplay.from_estimator(flow, x, names)
        assert display.response == "probability of yes"
        expected = flow.predict_proba(display.grid[0][:, None])[:, 1]
        np.testing.assert_allclose(display.stages[-1], expected)
        np.testing.assert_array_equal(display.y, y)

    def test_of_several_outputs_is_the_one_asked_for(self):
        both = np.c_[Y, -Y]
        flow = regressor(**STORED).fit(X, both)
        display = StagesDisplay.from_estimator(flow, X, both, target=1)
        expected = flow.predict(display.grid[0][:, None])[:, 1]
        np.testing.assert_allclose(display.stages[-1], expected)
        np.testing.assert_array_equal(display.y, -Y)
        with pytest.raises(ValueError, match=r"which output to show, one of \[0, 1\]; got None"):
            StagesDisplay.from_estimator(flow, X)
        with pytest.raises(ValueError, match=r"which output to show, one of \[0\]; got 1"):
            StagesDisplay.from_estimator(regressor(**STORED).fit(X, Y), X, target=1)


class TestTwoFeatures:
    def test_maps_are_stages_of_the_fit(self):
        flow = fit_to_numbers()
        x, y = NUMBERS
        display = StagesDisplay.from_estimator(flow, x, y, grid_resolution=6).plot()
        assert len(display.surfaces_) == len(display.axes_) == len(display.t)
        for surface, stage in zip(display.surfaces_, display.stages, strict=True):
            np.testing.assert_array_equal(surface.get_array().reshape(6, 6), stage)
        at = flow.predict([[display.grid[0][4], display.grid[1][2]]])
        np.testing.assert_allclose(display.stages[-1, 2, 4], at[0])

    def test_of_many_classes_need_a_target(self):
        x, y = LABELS
        with pytest.raises(ValueError, match=r"target must be the class to show, one of \['one'"):
            StagesDisplay.from_estimator(fit_to_labels(), x, y)

    def test_steps_of_a_pipeline_see_the_grid_first(self):
        x, y = NUMBERS
        model = fit_to_numbers("pipeline")
        display = StagesDisplay.from_estimator(model, x, y, grid_resolution=5)
        mesh = np.stack([axis.ravel() for axis in np.meshgrid(*display.grid)], axis=1)
        np.testing.assert_allclose(display.stages[-1].ravel(), model.predict(mesh))

    def test_names_of_columns_are_kept(self):
        x, y = NUMBERS
        frame = pd.DataFrame(x, columns=["height", "width"])
        model = piped(regressor(**STORED)).fit(frame, y)
        display = StagesDisplay.from_estimator(model, frame, y, grid_resolution=5).plot()
        assert display.ax_.get_xlabel() == "height"
        assert display.ax_.get_ylabel() == "width"


def test_what_cannot_be_shown_is_refused():
    flow = regressor(**STORED).fit(np.ones((20, 3)) * Y[:, None], Y)
    with pytest.raises(ValueError, match=r"one or two features .*its shape is \(20, 3\)"):
        StagesDisplay.from_estimator(flow, np.ones((20, 3)))
    with pytest.raises(ValueError, match="set store_path=True before fit"):
        StagesDisplay.from_estimator(regressor().fit(X, Y), X)
    with pytest.raises(ValueError, match="n_stages must be at least 2"):
        StagesDisplay.from_estimator(regressor(**STORED).fit(X, Y), X, n_stages=1)
