import numpy as np
import pytest

from sklearn_gflow.dynamics import t_from_tau
from sklearn_gflow.plots import FlowDisplay
from tests.plots.fits import NUMBERS, fit_to_labels, fit_to_numbers

LATE = {"t_end": 0.99}


def line(**parameters):
    return fit_to_numbers(alpha=1.0, **parameters)


class TestLoss:
    def test_is_that_of_the_fit_over_its_start(self):
        flow = line()
        drawn = FlowDisplay.from_estimator(flow).plot().line_.get_xydata()
        np.testing.assert_array_equal(drawn[:, 0], flow.history_["t"])
        expected = np.array(flow.loss_curve_) / flow.loss_curve_[0]
        np.testing.assert_array_equal(drawn[:, 1], expected)

    def test_against_s(self):
        flow = line()
        drawn = FlowDisplay.from_estimator(flow).plot(x="s").line_.get_xdata()
        np.testing.assert_array_equal(drawn, flow.history_["s"])

    def test_law_is_a_straight_line_against_s(self):
        law = FlowDisplay.from_estimator(line()).plot(x="s").law_line_
        s, ratio = law.get_data()
        np.testing.assert_allclose(np.log(ratio), -2 * s / len(NUMBERS[0]), atol=1e-12)

    def test_law_ends_where_the_flow_ends(self):
        display = FlowDisplay.from_estimator(line()).plot()
        t, ratio = display.law_line_.get_data()
        np.testing.assert_allclose(ratio, (1 - t) ** 2)
        assert t[-1] == pytest.approx(display.t[-1])

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    def test_law_is_drawn_where_it_holds_or_is_asked_for(self):
        other = FlowDisplay.from_estimator(fit_to_numbers(alpha=0.5))
        assert other.plot().law_line_ is None
        assert other.plot(law=True).law_line_ is not None
        assert FlowDisplay.from_estimator(line()).plot(law=False).law_line_ is None
        huber = FlowDisplay.from_estimator(line(loss="huber"))
        assert huber.plot().law_line_ is None
        assert FlowDisplay.from_estimator(fit_to_labels(alpha=1.0)).law

    def test_a_flow_to_the_end_of_time_has_a_law(self):
        t = np.array([0.0, 0.5, 1 - 1e-14, 1.0])
        s = np.array([0.0, 10 * np.log(2), 320.0, 400.0])
        history = {"t": t, "s": s, "loss": np.array([1.0, 0.25, 1e-28, 0.0])}
        display = FlowDisplay.from_data(history).plot(x="s")
        np.testing.assert_array_equal(display.line_.get_xdata(), s)
        assert np.isfinite(display.law_line_.get_xydata()).all()
        assert np.isnan(display.line_.get_ydata()[-1])  # zero is no point of a logarithmic axis


class TestEarlyStopping:
    @pytest.mark.parametrize("x", ["t", "s"])
    def test_by_held_out_rows(self, x):
        flow = fit_to_numbers(early_stopping=True, **LATE)
        display = FlowDisplay.from_estimator(flow).plot(x=x)
        at = flow.history_["t"].tolist().index(flow.t_)
        assert display.solution_line_.get_xdata()[0] == pytest.approx(flow.history_[x][at])
        expected = flow.history_["validation_loss"] / flow.loss_curve_[0]
        np.testing.assert_array_equal(display.judged_line_.get_ydata(), expected)
        np.testing.assert_allclose(display.judged_line_.get_xdata(), flow.history_[x])

    def test_by_leave_one_out(self):
        flow = fit_to_numbers(early_stopping="loo", **LATE)
        display = FlowDisplay.from_estimator(flow).plot()
        np.testing.assert_array_equal(display.judged_line_.get_xdata(), flow.loo_times_)
        expected = flow.loo_losses_ / flow.loss_curve_[0]
        np.testing.assert_array_equal(display.judged_line_.get_ydata(), expected)
        assert display.judged_by == "leave-one-out"

    def test_times_beyond_the_path_go_on_at_its_rate(self):
        flow = fit_to_numbers(early_stopping="loo", **LATE)
        s = FlowDisplay.from_estimator(flow).plot(x="s").judged_line_.get_xdata()
        np.testing.assert_allclose(t_from_tau(s / len(NUMBERS[0])), flow.loo_times_)

    def test_scores(self):
        flow = fit_to_numbers(early_stopping="loo", **LATE)
        display = FlowDisplay.from_estimator(flow).plot(kind="score")
        np.testing.assert_array_equal(display.line_.get_ydata(), flow.loo_scores_)
        assert display.law_line_ is None
        assert display.judged_line_ is None

    def test_without_it_there_are_no_scores(self):
        display = FlowDisplay.from_estimator(line())
        with pytest.raises(ValueError, match="no scores along the path; set early_stopping=True"):
            display.plot(kind="score")
        assert display.plot().solution_line_ is None


class TestStepErrors:
    def test_are_those_of_the_history(self):
        flow = line()
        drawn = FlowDisplay.from_estimator(flow).plot(kind="step_error").line_.get_ydata()
        np.testing.assert_array_equal(drawn, flow.history_["step_error"][1:])

    @pytest.mark.slow
    def test_are_not_made_by_other_integrators(self):
        display = FlowDisplay.from_estimator(fit_to_numbers(method="RK45"))
        with pytest.raises(ValueError, match=r'no step errors.*method="exponential"'):
            display.plot(kind="step_error")


def test_several_flows_on_the_same_axes():
    ax = None
    for alpha in (1.0, 0.5):
        display = FlowDisplay.from_estimator(fit_to_numbers(alpha=alpha)).plot(
            ax, line_kw={"c": "green", "ms": 2}
        )
        ax = display.ax_
        assert display.line_.get_color() == "green"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["law of the line, $(1-t)^2$", "α = 1", "α = 0.5"]


def test_names_in_the_legend():
    assert FlowDisplay.from_estimator(line(), name="mine").plot().line_.get_label() == "mine"
    assert FlowDisplay.from_estimator(line()).plot(name="yours").line_.get_label() == "yours"


def test_time_is_t_or_s():
    with pytest.raises(ValueError, match="x must be one of 't', 's'; got 'tau'"):
        FlowDisplay.from_estimator(line()).plot(x="tau")
