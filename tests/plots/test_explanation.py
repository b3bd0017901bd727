import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sklearn_gflow.geometry.losses import Poisson
from sklearn_gflow.plots import ExplanationDisplay
from tests.estimators.data import classifier, regressor
from tests.plots.fits import KINDS, LABELS, NUMBERS, fit_to_labels, fit_to_numbers


def explained(display):
    """What start and contributions add up to."""
    return display.start + display.contributions.sum()


class TestData:
    @pytest.mark.parametrize("kind", KINDS)
    def test_adds_up_to_the_prediction(self, kind):
        X, y = NUMBERS
        model = fit_to_numbers(kind)
        display = ExplanationDisplay.from_estimator(model, X[[3]], y)
        assert explained(display) == pytest.approx(model.predict(X[[3]])[0], rel=1e-5)
        np.testing.assert_array_equal(display.y, y)
        assert not display.labels

    @pytest.mark.parametrize("target", LABELS[1][:3].tolist())
    @pytest.mark.parametrize("kind", ["plain", "CV in a pipeline"])
    def test_adds_up_to_the_output_of_a_class(self, kind, target):
        X, y = LABELS
        model = fit_to_labels(kind)
        display = ExplanationDisplay.from_estimator(model, X[[3]], y, target=target)
        expected = model.decision_function(X[[3]])[0, list(model.classes_).index(target)]
        assert explained(display) == pytest.approx(expected, abs=1e-5)
        assert display.labels
        assert display.response == f"output of {target}"

    def test_by_default_it_is_the_class_that_is_predicted(self):
        X, _ = LABELS
        model = fit_to_labels()
        display = ExplanationDisplay.from_estimator(model, X[[3]])
        assert display.response == f"output of {model.predict(X[[3]])[0]}"
        assert display.y is None

    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_of_two_classes_either(self, loss):
        X, names = LABELS
        y = np.where(names == "two", "two", "other")
        model = classifier(loss=loss, damping=0.01).fit(X, y)
        second, first = (
            ExplanationDisplay.from_estimator(model, X[[3]], y, target=name)
            for name in ("two", "other")
        )
        score = model.decision_function(X[[3]])[0]
        middle = 0.0 if loss == "log_loss" else 0.5  # of logits, of probabilities
        assert explained(second) - middle == pytest.approx(score, abs=1e-5)
        assert explained(first) + explained(second) == pytest.approx(2 * middle, abs=1e-5)

    @pytest.mark.parametrize("loss", ["poisson", Poisson()], ids=str)
    def test_of_a_loss_with_a_link_it_is_the_logarithm(self, loss):
        X, y = NUMBERS
        model = regressor(loss=loss).fit(X, y)
        display = ExplanationDisplay.from_estimator(model, X[[3]], y)
        assert explained(display) == pytest.approx(np.log(model.predict(X[[3]])[0]), abs=1e-4)
        assert display.response == "logarithm of the prediction"

    def test_of_several_outputs_one_is_chosen(self):
        X, y = NUMBERS
        model = regressor().fit(X, np.column_stack([y, -2 * y]))
        with pytest.raises(ValueError, match=r"target must say which output .* \[0, 1\]; got None"):
            ExplanationDisplay.from_estimator(model, X[[3]])
        both = np.column_stack([y, -2 * y])
        display = ExplanationDisplay.from_estimator(model, X[[3]], both, target=1)
        assert explained(display) == pytest.approx(model.predict(X[[3]])[0, 1], rel=1e-5)
        np.testing.assert_array_equal(display.y, -2 * y)

    def test_of_several_labels_one_is_chosen(self):
        X, _ = LABELS
        several = (X > 0).astype(int)
        model = classifier().fit(X, several)
        with pytest.raises(ValueError, match=r"target must be the class .* \[0, 1\]; got None"):
            ExplanationDisplay.from_estimator(model, X[[3]])
        display = ExplanationDisplay.from_estimator(model, X[[3]], several, target=1)
        expected = model.decision_function(X[[3]])[0, 1] + 0.5
        assert explained(display) == pytest.approx(expected, abs=1e-5)
        np.testing.assert_array_equal(display.y, several[:, 1])

    def test_one_row_is_asked_for_in_the_form_of_the_estimator(self):
        X, y = NUMBERS
        with pytest.raises(ValueError, match=r"X must be one row.* has 30; hand over X\[\[i\]\]"):
            ExplanationDisplay.from_estimator(fit_to_numbers(), X)
        frame = pd.DataFrame(X, columns=["a", "b"])
        model = regressor().fit(frame, y)
        display = ExplanationDisplay.from_estimator(model, frame.iloc[[3]], y)
        assert explained(display) == pytest.approx(model.predict(frame.iloc[[3]])[0], rel=1e-5)

    @pytest.mark.parametrize("kind", ["plain", "CV"])
    def test_deletions_do_not_add_up(self, kind):
        X, y = NUMBERS
        model = fit_to_numbers(kind)
        display = ExplanationDisplay.from_estimator(model, X[[3]], y, of="deletions")
        np.testing.assert_array_equal(
            display.contributions, model.explain(X[[3]], of="deletions")[0]
        )
        assert display.start is None
        display.plot()
        assert display.ax_.get_title() == "prediction"
        assert display.ax_.get_xlabel() == "lost without the row"
        assert len(display.bars_) == len(display.rows_)  # a sum of the others would say nothing

    def test_targets_of_other_rows_are_refused(self):
        X, y = NUMBERS
        with pytest.raises(ValueError, match=r"a value for each of the 30 training rows .* has 29"):
            ExplanationDisplay.from_estimator(fit_to_numbers(), X[[3]], y[1:])

    def test_any_contributions(self):
        display = ExplanationDisplay.from_data([1.0, -2.0, 0.5], ["a", "b", "a"], start=3)
        assert explained(display) == 2.5
        assert display.labels
        assert not ExplanationDisplay.from_data([1.0, -2.0], [0.5, 1.7]).labels


class TestPicture:
    def display(self):
        parts = np.array([0.1, -3.0, 2.0, 0.0, 5.0, -0.2, 1.0])
        return ExplanationDisplay.from_data(parts, np.linspace(0, 3, 7) ** 2, start=10.0)

    def test_the_strongest_rows_have_bars_of_their_own(self):
        display = self.display().plot(n_rows=2)
        assert display.rows_.tolist() == [4, 2, 5, 1]
        widths = [bar.get_width() for bar in display.bars_]
        np.testing.assert_allclose(widths, [5, 2, -0.2, -3, 1.1])
        words = [text.get_text() for text in display.ax_.get_yticklabels()]
        assert words == ["row 4: 4", "row 2: 1", "row 5: 6.25", "row 1: 0.25", "3 other rows"]
        assert display.ax_.get_title() == "prediction\n10 at the start + 4.9 = 14.9"

    def test_fewer_rows_than_asked_for(self):
        display = ExplanationDisplay.from_data([1.0, 2.0]).plot()
        assert display.rows_.tolist() == [1, 0]
        words = [text.get_text() for text in display.ax_.get_yticklabels()]
        assert words == ["row 1", "row 0", "0 other rows"]

    def test_all_rows_over_their_targets(self):
        display = self.display().plot(kind="targets")
        speaks, against = (points.get_offsets() for points in display.points_)
        assert (speaks[:, 1] > 0).all()
        assert (against[:, 1] <= 0).all()
        assert len(speaks) + len(against) == 7

    def test_all_rows_over_their_classes(self):
        X, y = LABELS
        display = ExplanationDisplay.from_estimator(fit_to_labels(), X[[3]], y)
        display.plot(kind="targets")
        names = [text.get_text() for text in display.ax_.get_xticklabels()]
        assert names == np.unique(y).tolist()
        across = np.concatenate([points.get_offsets()[:, 0] for points in display.points_])
        assert len(np.unique(across)) == 30
        assert sorted(across.round().astype(int)) == sorted(np.unique(y, return_inverse=True)[1])

    def test_over_targets_they_are_needed(self):
        with pytest.raises(ValueError, match=r"kind='targets' needs the targets .*; hand over y"):
            ExplanationDisplay.from_data([1.0, 2.0]).plot(kind="targets")

    @pytest.mark.parametrize("n_rows", [-1, 2.5, "5"])
    def test_a_number_of_rows_that_is_none(self, n_rows):
        with pytest.raises(ValueError, match="n_rows must be a whole number of rows"):
            ExplanationDisplay.from_data([1.0, 2.0]).plot(n_rows=n_rows)

    def test_contributions_with_two_axes(self):
        with pytest.raises(ValueError, match=r"one number for each training row.*shape \(2, 2\)"):
            ExplanationDisplay.from_data([[1.0, 2.0], [3.0, 4.0]])

    def test_on_axes_of_the_user(self):
        ax = plt.subplots()[1]
        assert self.display().plot(ax).ax_ is ax
