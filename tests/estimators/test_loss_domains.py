"""What losses are for, what they refuse, and targets at the ends of the range of numbers."""

import numpy as np
import pytest
from sklearn.metrics import d2_tweedie_score

from sklearn_gflow import AdaptedFlowRegressorCV
from sklearn_gflow.estimators._judges import ExplainedShare
from sklearn_gflow.estimators._losses import NUMBERS, best_constant
from sklearn_gflow.geometry import Huber, Poisson
from tests.costs import LogCosh
from tests.estimators.data import regressor, table

pytestmark = pytest.mark.slow


def search(**parameters):
    grid = {"alphas": (0.5,), "t_ends": (0.5,)}
    return AdaptedFlowRegressorCV((6,), random_state=0, **grid, **parameters)


DOMAINS = [
    ("poisson", -1.0, r"loss='poisson' needs nonnegative targets, and y has the value -1"),
    ("gamma", -1.0, r"loss='gamma' needs positive targets, and y has the value -1"),
    ("gamma", 0.0, r"loss='gamma' needs positive targets, and y has the value 0"),
]


class TestDomains:
    @pytest.mark.parametrize(("loss", "value", "message"), DOMAINS)
    def test_wherever_targets_come_in(self, loss, value, message):
        X, y = table()
        spoilt = np.where(np.arange(len(y)) == 7, value, y)
        model = regressor(loss=loss).fit(X, y)
        stopped = regressor(loss=loss, early_stopping=True)
        for call in (
            lambda: regressor(loss=loss).fit(X, spoilt),
            lambda: regressor(loss=loss).fit(X, np.stack([y, spoilt], axis=1)),
            lambda: regressor(loss=loss).partial_fit(X, spoilt),
            lambda: model.partial_fit(X, spoilt),
            lambda: model.score(X, spoilt),
            lambda: stopped.fit(X, y, X_val=X, y_val=spoilt),
            lambda: search(loss=loss).fit(X, spoilt),
            lambda: search(loss=loss).fit(X, y).score(X, spoilt),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    def test_a_row_of_weight_zero_may_be_anything(self):
        X, y = table()
        weights = np.ones(len(y))
        weights[3], y[3] = 0, -5.0
        assert regressor(loss="gamma").fit(X, y, sample_weight=weights).loss_ < 1

    @pytest.mark.parametrize("loss", ["poisson"])
    def test_counts_that_are_all_zero(self, loss):
        X, y = table()
        message = "loss='poisson' needs a positive value in each column of y, and one has none"
        for targets in (0 * y, np.stack([y, 0 * y], axis=1)):
            with pytest.raises(ValueError, match=message):
                regressor(loss=loss).fit(X, targets)

    @pytest.mark.parametrize(
        ("trait", "value", "known"),
        [("link", "logit", "'identity', 'log'"), ("domain", "unit", "'nonnegative', 'positive'")],
    )
    def test_a_loss_of_ones_own_with_other_traits(self, trait, value, known):
        loss = LogCosh()
        setattr(loss, trait, value)
        with pytest.raises(
            ValueError, match=f"loss=.* has the {trait} '{value}'.* one of .{known}"
        ):
            regressor(loss=loss).fit(*table())

    def test_shapes_of_targets_to_score(self):
        X, y = table()
        model = regressor(loss="huber").fit(X, np.stack([y, -y], axis=1))
        for wrong in (y, np.stack([y, y, y], axis=1), y[:-1]):
            with pytest.raises(ValueError, match=r"y must have a value .* shape \(20, 2\); got"):
                model.score(X, wrong)
        one = regressor(loss="huber").fit(X, y)
        assert one.score(X, y[:, None]) == one.score(X, y)


class TestRange:
    @pytest.mark.parametrize("loss", NUMBERS)
    @pytest.mark.parametrize("kind", ["all", "one"])
    @pytest.mark.parametrize("size", [1e200, 1e307])
    def test_targets_that_are_too_large(self, loss, kind, size):
        X, y = table()
        large = size * y if kind == "all" else np.where(np.arange(len(y)) == 7, size, y)
        message = r"y has values up to .* beyond the range of float64, .*divide y by a constant"
        model = regressor(loss=loss).fit(X, y)
        for call in (
            lambda: regressor(loss=loss).fit(X, large),
            lambda: regressor(loss=loss).fit(X, np.stack([y, large], axis=1)),
            lambda: regressor(loss=loss).partial_fit(X, large),
            lambda: regressor(loss=loss, early_stopping="loo").fit(X, large),
            lambda: regressor(loss=loss, early_stopping=True).fit(X, y, X_val=X, y_val=large),
            lambda: model.partial_fit(X, large),
            lambda: search(loss=loss).fit(X, large),
            lambda: search(loss=loss, cv=3).fit(X, large),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    @pytest.mark.parametrize("loss", NUMBERS)
    def test_single_precision_has_no_range_of_its_own(self, loss):
        X, y = table()
        for dtype in ("float32", "float64"):
            model = regressor(loss=loss, dtype=dtype).fit(X, 1e40 * y)
            assert model.predict(X).dtype == np.float64
            assert np.isfinite(model.predict(X)).all()

    def test_targets_that_are_too_small(self):
        X, y = table()
        message = "y has values up to .* variance is below the range .*; multiply y by a constant"
        with pytest.raises(ValueError, match=message):
            regressor().fit(X, 1e-200 * y)
        assert regressor().fit(X, 1e-100 * y).score(X, 1e-100 * y) > 0.5


class TestOutliers:
    def clean_error(self, loss, size, alpha=0.5, share=10):
        X, y = table(200, seed=3)
        X_test, y_test = table(300, seed=4)
        y = y + np.where(np.arange(200) % share == 0, size, 0.0)
        model = regressor(loss=loss, alpha=alpha).fit(X, y)
        return np.mean((model.predict(X_test) - y_test) ** 2) / np.var(y_test), model

    @pytest.mark.parametrize("alpha", [0.0, 0.5])
    def test_huber_bears_what_the_squared_error_does_not(self, alpha):
        """A tenth of the rows are off by ten: ten standard deviations of y."""
        squared, _ = self.clean_error("squared_error", 10.0, alpha)
        huber, _ = self.clean_error("huber", 10.0, alpha)
        assert huber < 0.15
        assert squared > 1

    @pytest.mark.parametrize("loss", ["huber", "quantile"])
    def test_how_far_they_are_does_not_matter(self, loss):
        """Steps keep their error control: outliers are no unit of it, nor is a start lost."""
        near, model = self.clean_error(loss, 1e2)
        far, same = self.clean_error(loss, 1e9)
        assert far == pytest.approx(near, rel=1e-6)
        assert same.n_iter_ == model.n_iter_ > 2
        farthest, _ = self.clean_error(loss, 1e100)
        assert farthest < 0.15

    def test_start_between_outliers(self):
        y = np.array([[-1e140], [0.0], [0.5], [1e140]])
        assert abs(best_constant(Huber(), y, None)[0]) < 1


class TestWhatTheyAreFor:
    def heteroscedastic(self, n, seed):
        rng = np.random.default_rng(seed)
        X = rng.uniform(-1, 1, size=(n, 2))
        return X, np.sin(2 * X[:, 0]) + (0.2 + 0.4 * (X[:, 1] + 1)) * rng.normal(size=n)

    def test_quantiles_cover(self):
        X, y = self.heteroscedastic(400, 0)
        X_test, y_test = self.heteroscedastic(2000, 1)
        widths = []
        for level in (0.1, 0.5, 0.9):
            model = regressor(loss="quantile", quantile=level, alpha=0.0).fit(X, y)
            assert np.mean(y <= model.predict(X)) == pytest.approx(level, abs=0.04)
            assert np.mean(y_test <= model.predict(X_test)) == pytest.approx(level, abs=0.05)
            widths.append(model.predict(X_test))
        wide = X_test[:, 1] > 0.5  # where noise is large, quantiles are farther apart
        apart = widths[2] - widths[0]
        assert apart[wide].mean() > 1.7 * apart[X_test[:, 1] < -0.5].mean()

    @pytest.mark.parametrize("alpha", [0.0, 0.5])
    def test_counts_with_many_zeros(self, alpha):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 2))
        y = rng.poisson(np.exp(X[:, 0] - 1.5))
        assert np.mean(y == 0) > 0.6
        model = regressor(loss="poisson", alpha=alpha).fit(X[:200], y[:200])
        predicted = model.predict(X[200:])
        assert predicted.min() > 0
        assert d2_tweedie_score(y[200:], predicted, power=1) > 0.2
        assert np.corrcoef(np.log(predicted), X[200:, 0])[0, 1] > 0.85

    def test_score_of_a_constant_is_that_of_scikit_learn(self):
        """No share of nothing: 0, where the best constant of zeros alone is at −∞."""
        zeros, ones = np.zeros((5, 1)), np.ones((5, 1))
        assert ExplainedShare(Poisson(), zeros, None)(zeros - 3)[0] == 0.0
        assert ExplainedShare(Poisson(), ones, None)(zeros)[0] == 1.0
        mixed, weights = np.vstack([zeros, ones]), np.r_[np.ones(5), np.zeros(5)]
        assert ExplainedShare(Poisson(), mixed, weights)(0 * mixed - 3)[0] == 0.0


@pytest.mark.parametrize("parameters", [{"alpha": 2.0}, {"loss": "none"}, {"tol": -1}])
def test_parameters_of_later_chunks_are_looked_at(parameters):
    """scikit-learn validates those of the first call only."""
    X, y = table()
    model = regressor().partial_fit(X, y).set_params(**parameters)
    with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter of"):
        model.partial_fit(X, y)
