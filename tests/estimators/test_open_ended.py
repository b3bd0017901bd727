"""The default in blocks: it goes on while rows held out gain by it, and closes over all rows."""

import numpy as np
import pytest

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
)
from sklearn_gflow.estimators import _settings
from sklearn_gflow.geometry import Shape
from sklearn_gflow.geometry.losses import LogLoss
from tests.estimators.data import ESTIMATORS

pytestmark = pytest.mark.slow

GAINED = "the epochs were used up while rows held out still gained"
NO_GAIN = "rows held out gained nothing more"


def rows(estimator, n=1000, *, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + noise * rng.normal(size=n)
    return X, (y > 0).astype(int) + (y > 1) if estimator is AdaptedFlowClassifier else y


def small(estimator, **parameters):
    return estimator((16,), random_state=0, **{"batch_size": 100, **parameters})


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestBoth:
    def test_goes_on_where_there_is_something_to_gain(self, estimator):
        X, y = rows(estimator)
        short = small(estimator, loss="squared_error", t_end=0.95).fit(X, y)
        model = small(estimator, loss="squared_error", t_end="auto").fit(X, y)
        assert short.n_iter_ == 6
        assert 6 < model.n_iter_ <= 41
        assert model.outcome_ in (GAINED, NO_GAIN)
        assert model.loss_ < short.loss_
        assert len(model.history_["held_out_loss"]) == model.n_iter_ + 1
        assert model.loss_ == model.loss_curve_[-1]
        assert (np.diff(model.history_["t"]) >= 0).all()

    def test_ends_where_there_is_nothing_to_gain(self, estimator):
        X, y = rows(estimator)
        y = np.random.default_rng(1).permutation(y)
        model = small(estimator).fit(X, y)
        assert model.outcome_ == NO_GAIN
        assert model.n_iter_ < 20
        assert model.loss_ <= model.loss_curve_[0]

    def test_same_seed_same_result(self, estimator):
        X, y = rows(estimator)
        one, two = (small(estimator, max_iter=4).fit(X, y) for _ in range(2))
        np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])
        assert one.outcome_ == GAINED
        assert one.n_iter_ == 4

    @pytest.mark.parametrize(
        "given",
        [{"t_end": 0.95}, {"schedule": 6}, {"early_stopping": "loo", "damping": 0.1}],
    )
    def test_what_is_given_decides(self, estimator, given):
        model = small(estimator, **given).fit(*rows(estimator))
        assert model.outcome_ == "reached t_end"
        assert "held_out_loss" not in model.history_

    def test_of_few_rows_a_tenth_says_too_little(self, estimator):
        model = small(estimator).fit(*rows(estimator, 999))
        assert (model.outcome_, model.n_iter_) == ("reached t_end", 6)

    def test_rows_of_the_user_are_not_closed_over(self, estimator):
        X, y = rows(estimator, 1200)
        model = small(estimator, early_stopping=True, n_iter_no_change=2).fit(X, y)
        assert model.outcome_ in ("the score stopped improving", GAINED)
        scores = model.validation_scores_
        assert model.best_validation_score_ == scores.max()
        assert len(scores) == model.n_iter_ + 1
        assert model.t_ in model.history_["t"][scores == scores.max()]

    def test_chunks_have_their_own_way(self, estimator):
        X, y = rows(estimator)
        kwargs = {"classes": np.unique(y)} if estimator is AdaptedFlowClassifier else {}
        assert small(estimator).partial_fit(X, y, **kwargs).n_iter_ == 1

    def test_weights(self, estimator):
        X, y = rows(estimator)
        heavy = X[:, 0] > 0
        model = small(estimator).fit(X, y, sample_weight=np.where(heavy, 5, 1))
        plain = small(estimator).fit(X, y)
        assert model.score(X[heavy], y[heavy]) > plain.score(X[heavy], y[heavy]) - 0.02
        assert model.score(X, y) > 0.7

    def test_goes_on_from_a_fit(self, estimator):
        X, y = rows(estimator)
        model = small(estimator, warm_start=True, max_iter=6).fit(X, y)
        before = model.loss_
        assert 6 < model.fit(X, y).n_iter_ <= 12
        assert model.loss_curve_[6] == before
        assert model.loss_ < 1.1 * before


def test_no_class_is_apart_altogether():
    X, y = rows(AdaptedFlowClassifier)
    y[:3] = 7, 8, 9
    for seed in range(3):
        model = AdaptedFlowClassifier((4,), random_state=seed, batch_size=100, max_iter=2)
        model.fit(X, y)
        assert np.isfinite(model.history_["held_out_loss"]).all()


def test_log_loss_in_blocks_is_as_quick_and_learns():
    X, y = rows(AdaptedFlowClassifier)
    model = small(AdaptedFlowClassifier, loss="log_loss").fit(X, y)
    assert model.score(X, y) > 0.8
    assert model.history_["undone"][-1] == 0
    assert "cholesky" in model.solver_.lower()  # no eigenvectors, which an integration would need


def test_the_budget_counts_the_closing_epoch(monkeypatch):
    monkeypatch.setattr(_settings, "_MOST_EPOCHS", 3)
    model = small(AdaptedFlowRegressor).fit(*rows(AdaptedFlowRegressor))
    assert (model.n_iter_, model.outcome_) == (4, GAINED)


def test_many_rows_have_fewer_epochs():
    def epochs(n_rows):
        given = AdaptedFlowRegressor(batch_size=256).get_params()
        return len(_settings.Settings.of(given, Shape(n_rows, 1, 1000), 0).open_epochs)

    assert [epochs(n) for n in (3000, 10**6, 10**8)] == [40, 7, 6]


def test_many_outputs_that_share_a_kernel_have_a_larger_ridge():
    def damping(n_outputs=26, **parameters):
        given = AdaptedFlowRegressor(**parameters).get_params()
        return _settings.Settings.of(given, Shape(5000, n_outputs, 10**5), 0).damping

    assert damping() == 0.1
    assert damping(16) == damping(t_end=0.95) == damping(schedule=6) == 0.03
    assert damping(damping=0.01) == 0.01


def test_the_ridge_of_the_log_loss_rises_with_the_rows():
    def damping(n_rows, **parameters):
        given = AdaptedFlowClassifier(batch_size=256, **parameters).get_params()
        shape = Shape(n_rows, 7, 10**5)
        return _settings.Settings.of(given, shape, 0, loss=LogLoss()).damping

    assert [damping(n) for n in (1000, 6000, 10**6)] == [0.1, 0.4, 1.0]
    assert damping(6000, t_end=0.95) == 0.1
    assert damping(6000, damping=0.01) == 0.01


def test_many_rows_of_one_number_have_larger_blocks():
    def blocks(n_rows, n_outputs=1, loss=None, **parameters):
        given, shape = (
            AdaptedFlowRegressor(**parameters).get_params(),
            Shape(n_rows, n_outputs, 10**5),
        )
        with_loss = {} if loss is None else {"loss": loss}
        settings = _settings.Settings.of(given, shape, 0, **with_loss)
        return settings.batch_rows, settings.damping

    assert [blocks(n) for n in (9999, 50_001)] == [(256, 0.03)] * 2
    assert [blocks(n) for n in (10_000, 50_000)] == [(512, 0.015)] * 2
    assert blocks(10_000, n_outputs=2) == blocks(10_000, t_end=0.95) == (256, 0.03)
    assert blocks(15_000, loss=LogLoss()) == (256, 1.0)
    assert blocks(10_000, batch_size=128) == (128, 0.03)
    assert blocks(10_000, damping=0.1) == (256, 0.1)
