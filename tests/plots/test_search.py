import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowRegressorCV, PiecewiseLinearEncoder
from sklearn_gflow.plots import SearchDisplay
from tests.estimators.data import regressor, small
from tests.plots.fits import NUMBERS, SEARCHES, fit_to_labels, fit_to_numbers, grid_search, piped


def search_inside(model):
    return model if hasattr(model, "cv_results_") else model[-1]


def results(**columns):
    """Of a grid over two values of α, three times and what columns say."""
    n = 6
    return {
        "param_alpha": np.ma.array([0.1] * 3 + [1.0] * 3),
        "param_t_end": np.ma.array([0.3, 0.6, 0.9] * 2),
        "mean_test_score": np.linspace(0.5, 0.6, n),
        "rank_test_score": np.arange(n, 0, -1),
        **columns,
    }


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("fitted", [fit_to_numbers, fit_to_labels])
def test_scores_and_the_chosen_one(kind, fitted):
    search = search_inside(fitted(kind))
    display = SearchDisplay.from_estimator(fitted(kind))
    np.testing.assert_array_equal(display.score, search.cv_results_["mean_test_score"])
    best = {name.split("__")[-1]: value for name, value in search.best_params_.items()}
    chosen = {"alpha": display.alpha[display.chosen], "t_end": display.t_end[display.chosen]}
    assert chosen.items() <= best.items()
    drawn = display.plot().chosen_line_.get_xydata()[0]
    np.testing.assert_array_equal(drawn, [chosen["t_end"], search.best_score_])


def test_a_line_for_each_alpha_holds_its_scores():
    search = fit_to_numbers("CV")
    display = SearchDisplay.from_estimator(search).plot()
    (lines,) = display.lines_
    for line, alpha in zip(lines, [0.1, 0.5], strict=True):
        rows = search.cv_results_["param_alpha"] == alpha
        np.testing.assert_array_equal(line.get_xdata(), search.cv_results_["param_t_end"][rows])
        np.testing.assert_array_equal(line.get_ydata(), search.cv_results_["mean_test_score"][rows])


def test_times_to_the_end_are_spread_out():
    """The last steps of a path differ in 1 − t only."""
    display = SearchDisplay.from_estimator(fit_to_numbers("CV")).plot()
    t = np.unique(display.t_end)
    at = display.ax_.transData.transform(np.stack([t, np.full(len(t), 0.5)], axis=1))[:, 0]
    assert np.diff(at).min() > 0.5 * np.diff(at).max() > 0
    with_end = SearchDisplay.from_data(results(param_t_end=np.array([0.3, 0.9, 1.0] * 2))).plot()
    assert with_end.ax_.get_xlim()[1] >= 1 - 1e-12


class TestCandidates:
    def test_each_has_a_panel(self):
        columns = {name: np.ma.concatenate([column, column]) for name, column in results().items()}
        columns["param_encoding"] = np.ma.array([None] * 6 + ["piecewise"] * 6, dtype=object)
        columns["param_init_scale"] = np.ma.array([0.3] * 6 + [1.0] * 6)
        columns["rank_test_score"] = np.arange(12, 0, -1)
        display = SearchDisplay.from_data(columns).plot()
        titles = [panel.get_title() for panel in display.axes_]
        assert titles == [
            "encoding = None\ninit_scale = 0.3",
            "encoding = piecewise\ninit_scale = 1",
        ]
        assert [len(lines) for lines in display.lines_] == [2, 2]
        assert display.chosen_line_.axes is display.axes_[1]

    def test_that_do_not_differ_are_not_told(self):
        assert SearchDisplay.from_data(results(param_solver=np.array(["svd"] * 6))).candidate == []

    def test_of_a_pipeline_that_lacks_some(self):
        grid = [
            {"scale": ["passthrough"], "flow__alpha": [0.1, 0.5]},
            {"scale": [StandardScaler()], "scale__with_mean": [True, False], "flow__alpha": [0.1]},
        ]
        model = Pipeline([("scale", StandardScaler()), ("flow", regressor())])
        display = SearchDisplay.from_estimator(GridSearchCV(model, grid, cv=2).fit(*NUMBERS)).plot()
        assert len(display.axes_) == 3
        assert "with_mean = –" in display.candidate[0]
        assert display.ax_.get_xlabel() == "α"

    def test_steps_with_parameters_of_one_name_are_told_apart(self):
        columns = results(param_a__n=np.arange(6), param_b__n=np.arange(6))
        assert SearchDisplay.from_data(columns).candidate[0] == "a__n = 0\nb__n = 0"

    def test_long_names_are_shortened(self):
        word = "a_transformer_of_a_long_name(with_a_parameter=%d)"
        columns = results(param_encoder=np.array([word % (k % 2) for k in range(6)]))
        first, second = SearchDisplay.from_data(columns).plot().axes_
        assert len(first.get_title()) <= 31
        assert first.get_title() != second.get_title()

    def test_axes_must_be_as_many(self):
        display = SearchDisplay.from_data(results(param_encoding=np.arange(6) % 2))
        _, axes = plt.subplots(1, 3)
        with pytest.raises(ValueError, match=r"ax must hold 2 Axes, one a panel, and holds 3"):
            display.plot(axes)
        with pytest.raises(ValueError, match="and holds 1"):
            display.plot(axes[0])


class TestScores:
    def test_of_several_the_one_that_chose(self):
        search = grid_search(
            regressor(), scoring={"r2": "r2", "mae": "neg_mean_absolute_error"}, refit="mae"
        ).fit(*NUMBERS)
        display = SearchDisplay.from_estimator(search)
        np.testing.assert_array_equal(display.score, search.cv_results_["mean_test_mae"])
        assert display.chosen == search.best_index_
        other = SearchDisplay.from_estimator(search, metric="r2")
        np.testing.assert_array_equal(other.score, search.cv_results_["mean_test_r2"])
        with pytest.raises(
            ValueError, match=r"metric='f1' is none of the scores.*: |one of r2, mae"
        ):
            SearchDisplay.from_estimator(search, metric="f1")

    def test_far_below_the_best_are_left_out_and_said_so(self):
        scores = np.array([0.5, 0.51, 0.5, -9.0, -9.0, -9.0])
        display = SearchDisplay.from_data(results(mean_test_score=scores)).plot()
        whole = SearchDisplay.from_data(results()).plot()
        assert whole.ax_.get_ylim()[0] <= 0.5
        labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert (display.ax_.get_ylim()[0] < -9) != ("α = 1 (below)" in labels)

    def test_that_are_all_alike_or_missing_can_be_drawn(self):
        alike = SearchDisplay.from_data(results(mean_test_score=np.ones(6))).plot()
        assert alike.ax_.get_ylim()[0] < 1 < alike.ax_.get_ylim()[1]
        missing = np.array([np.nan, 0.5, 0.6, np.nan, 0.5, 0.6])
        assert np.isfinite(
            SearchDisplay.from_data(results(mean_test_score=missing)).plot().ax_.get_ylim()
        ).all()

    @pytest.mark.slow
    def test_of_what_was_not_followed_leave_a_panel_empty(self):
        """Most networks of a search are only judged by leave-one-out."""
        ramps = [PiecewiseLinearEncoder(n_bins=k) for k in (3, 12, 24)]
        encodings = [None, "piecewise", "periodic", *ramps]
        search = small(AdaptedFlowRegressorCV, t_ends=[0.5, 0.99], encodings=encodings)
        display = SearchDisplay.from_estimator(search.fit(*NUMBERS)).plot()
        shown = [any(np.isfinite(line.get_ydata()).any() for line in lines)
                 for lines in display.lines_]  # fmt: skip
        assert len(shown) >= 5
        assert any(shown)
        assert not all(shown)
        limits = {panel.get_xlim() for panel in display.axes_}
        assert len(limits) == 1

    def test_none_of_which_is_a_number_are_refused(self):
        with pytest.raises(ValueError, match="no score in mean_test_score is a number; fit with"):
            SearchDisplay.from_data(results(mean_test_score=np.full(6, np.nan)))

    def test_of_one_time_are_drawn_against_alpha(self):
        alphas = np.linspace(0, 1, 6)
        columns = results(param_alpha=alphas, param_t_end=np.full(6, 0.5))
        display = SearchDisplay.from_data(columns).plot()
        np.testing.assert_array_equal(display.lines_[0][0].get_xdata(), alphas)
        assert display.ax_.get_xlabel() == "α"

    def test_ties_go_to_the_lower_loss(self):
        columns = results(rank_test_score=np.ones(6), mean_test_loss=np.arange(6)[::-1])
        assert SearchDisplay.from_data(columns).chosen == 5


class TestErrors:
    def test_no_search(self):
        for model in (fit_to_numbers(), fit_to_numbers("pipeline")):
            with pytest.raises(ValueError, match=r"to be a search.*Got AdaptedFlowRegressor"):
                SearchDisplay.from_estimator(model)

    def test_a_search_over_something_else(self):
        search = GridSearchCV(Ridge(), {"solver": ["svd", "lsqr"]}, cv=2).fit(*NUMBERS)
        with pytest.raises(ValueError, match="neither of them was searched over, but solver"):
            SearchDisplay.from_estimator(search)

    def test_several_steps_with_an_alpha(self):
        columns = results(param_a__alpha=np.ones(6))
        with pytest.raises(ValueError, match="alpha was searched over in several steps"):
            SearchDisplay.from_data(columns)

    def test_an_alpha_of_a_part(self):
        search = GridSearchCV(
            piped(regressor()),
            [
                {"adaptedflowregressor__alpha": [0.1]},
                {"adaptedflowregressor__t_end": [0.5]},
            ],
            cv=2,
        ).fit(*NUMBERS)
        with pytest.raises(ValueError, match="alpha was searched over for a part"):
            SearchDisplay.from_estimator(search)
