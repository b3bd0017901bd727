import numpy as np
import pytest

from sklearn_gflow.plots import KernelDisplay
from tests.estimators.data import regressor
from tests.plots.fits import LABELS, NUMBERS, fit_to_labels, fit_to_numbers


class TestData:
    def test_is_the_gram_of_the_fit(self):
        flow = fit_to_numbers()
        np.testing.assert_array_equal(KernelDisplay.from_estimator(flow).kernel, flow.ntk_gram_)

    def test_is_the_mean_over_the_outputs(self):
        flow = fit_to_labels()
        kernel = KernelDisplay.from_estimator(flow).kernel
        Q = flow.n_outputs_
        expected = sum(flow.ntk_gram_[q::Q, q::Q] for q in range(Q)) / Q
        np.testing.assert_allclose(kernel, expected)

    def test_on_rows_that_are_handed_over(self):
        X, y = NUMBERS
        model = fit_to_numbers("pipeline")
        display = KernelDisplay.from_estimator(model, X[:7], y[:7])
        expected = model[-1].ntk(model[:-1].transform(X[:7]))
        np.testing.assert_allclose(display.kernel, expected)

    def test_without_a_gram_the_cure_is_named(self):
        X, _ = NUMBERS
        flow = fit_to_numbers(store_gram=False)
        with pytest.raises(ValueError, match="no ntk_gram_; set store_gram=True before fit, or"):
            KernelDisplay.from_estimator(flow)
        assert KernelDisplay.from_estimator(flow, X).kernel.shape == (30, 30)

    def test_targets_follow_the_rows_of_the_kernel(self):
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(200, 2)), rng.normal(size=200)
        flow = regressor(batch_size=64, t_end=0.3, hidden_layer_sizes=(4,)).fit(X, y)
        display = KernelDisplay.from_estimator(flow, y=y)
        np.testing.assert_array_equal(display.y, y[flow.kernel_rows_])

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_targets_of_other_rows_are_refused(self, early_stopping):
        _, y = NUMBERS
        flow = fit_to_numbers(early_stopping=early_stopping)
        y = y if early_stopping else y[1:]
        with pytest.raises(ValueError, match=r"y must have the targets of the .*; hand over X"):
            KernelDisplay.from_estimator(flow, y=y)
        with pytest.raises(ValueError, match="y must have a value for each row of the kernel, 3"):
            KernelDisplay.from_data(np.eye(3), y)


class TestPicture:
    def test_is_sorted_by_class(self):
        _, y = LABELS
        display = KernelDisplay.from_estimator(fit_to_labels(), y=y).plot(normalize=False)
        assert (np.sort(y) == y[display.order_]).all()
        expected = display.kernel[np.ix_(display.order_, display.order_)]
        np.testing.assert_array_equal(display.image_.get_array(), expected)
        names = [text.get_text() for text in display.ax_.get_yticklabels()]
        assert names == ["one", "three thousand", "two"]

    def test_is_sorted_by_target(self):
        _, y = NUMBERS
        display = KernelDisplay.from_estimator(fit_to_numbers(), y=y).plot()
        assert (np.diff(y[display.order_]) >= 0).all()
        assert display.ax_.get_yticklabels()[0].get_text() == f"{y.min():.3g}"

    def test_counts_of_a_regressor_are_no_classes(self):
        X, _ = NUMBERS
        counts = np.arange(30) % 4
        flow = regressor().fit(X, counts)
        assert not KernelDisplay.from_estimator(flow, y=counts).labels
        assert KernelDisplay.from_data(flow.ntk_gram_, counts).labels

    def test_shows_cosines(self):
        display = KernelDisplay.from_estimator(fit_to_labels()).plot()
        drawn = display.image_.get_array()
        np.testing.assert_allclose(np.diag(drawn), 1)
        assert abs(drawn).max() <= 1 + 1e-12
        np.testing.assert_array_equal(display.order_, np.arange(30))

    def test_in_the_order_of_the_rows(self):
        _, y = LABELS
        display = KernelDisplay.from_estimator(fit_to_labels(), y=y)
        display.plot(sort=False, colorbar=False)
        np.testing.assert_array_equal(display.order_, np.arange(30))
        assert display.colorbar_ is None

    def test_of_several_targets_the_first_sorts(self):
        y = np.random.default_rng(0).normal(size=(3, 2))
        display = KernelDisplay.from_data(np.eye(6), y, n_outputs=2).plot()
        np.testing.assert_array_equal(display.order_, np.argsort(y[:, 0]))
