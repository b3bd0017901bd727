import numpy as np
import pytest

from sklearn_gflow.plots import SpectrumDisplay
from tests.estimators.data import regressor
from tests.plots.fits import NUMBERS, fit_to_labels, fit_to_numbers


class TestEigenvalues:
    def test_are_those_that_count(self):
        flow = fit_to_numbers(hidden_layer_sizes=(3,))
        display = SpectrumDisplay.from_estimator(flow).plot()
        assert flow.ntk_rank_ < len(NUMBERS[0])
        drawn = display.line_.get_ydata()
        np.testing.assert_array_equal(drawn, flow.ntk_eigenvalues_[: flow.ntk_rank_])
        assert display.start_line_ is None

    def test_at_the_start_are_those_of_its_kernel(self):
        X, _ = NUMBERS
        flow = fit_to_numbers()
        display = SpectrumDisplay.from_estimator(flow, X).plot()
        expected = np.linalg.eigvalsh(flow.ntk(X, at="start"))[::-1]
        drawn = display.start_line_.get_ydata()
        assert len(drawn) == display.start_rank
        np.testing.assert_allclose(drawn, expected[: len(drawn)], rtol=1e-4)

    def test_at_the_start_of_a_pipeline(self):
        X, _ = NUMBERS
        model = fit_to_numbers("pipeline")
        flow, scaled = model[-1], model[:-1].transform(X)
        made = SpectrumDisplay.from_estimator(model, X)
        expected = SpectrumDisplay.from_estimator(flow, scaled)
        np.testing.assert_array_equal(made.start_eigenvalues, expected.start_eigenvalues)

    def test_at_the_start_on_the_rows_of_the_kernel(self):
        """In blocks the kernel is that of a subsample."""
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(200, 2)), rng.normal(size=200)
        flow = regressor(batch_size=64, t_end=0.3, hidden_layer_sizes=(4,)).fit(X, y)
        display = SpectrumDisplay.from_estimator(flow, X)
        assert len(display.start_eigenvalues) == len(flow.kernel_rows_) < 200

    def test_other_rows_are_refused(self):
        X, _ = NUMBERS
        with pytest.raises(ValueError, match=r"X must be the rows .*; it has 3 rows, too few"):
            SpectrumDisplay.from_estimator(fit_to_numbers(), X[:3])
        with pytest.raises(ValueError, match=r"X must be the rows .* the kernel is another"):
            SpectrumDisplay.from_estimator(fit_to_numbers(), 2 * X)
        held_out = fit_to_numbers(early_stopping=True)
        with pytest.raises(ValueError, match="early_stopping=True held out"):
            SpectrumDisplay.from_estimator(held_out, X)

    def test_from_gram_matrices(self):
        gram = np.diag([4.0, 0.0, 9.0])
        display = SpectrumDisplay.from_data(gram, np.eye(3)).plot()
        np.testing.assert_allclose(display.line_.get_ydata(), [9.0, 4.0])
        np.testing.assert_allclose(display.start_line_.get_ydata(), np.ones(3))
        assert display.rank == 2


class TestAlongThePath:
    @pytest.mark.parametrize("kind", ["condition", "rank"])
    def test_is_the_history(self, kind):
        flow = fit_to_labels(alpha=0.0)
        drawn = SpectrumDisplay.from_estimator(flow).plot(kind=kind).line_
        np.testing.assert_array_equal(drawn.get_xdata(), flow.history_["t"])
        np.testing.assert_array_equal(drawn.get_ydata(), flow.history_[kind])

    def test_is_not_known_of_a_matrix(self):
        display = SpectrumDisplay.from_data(np.eye(3))
        for kind in ("condition", "rank"):
            with pytest.raises(ValueError, match=f"no {kind} along the path is known; fit with"):
                display.plot(kind=kind)
