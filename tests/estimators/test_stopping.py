"""Early stopping, by rows held out and by leave-one-out, and predictions along the path."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import StandardScaler

from tests import oracles
from tests.estimators.data import ESTIMATORS, classifier, example, regressor, small, table
from tests.estimators.test_regressor import model_of

pytestmark = pytest.mark.slow


def scorer(estimator):
    return accuracy_score if estimator is ESTIMATORS[1] else r2_score


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestPath:
    def test_staged_predictions_end_at_the_solution(self, estimator):
        X, y = example(estimator)
        model = small(estimator, store_path=True, schedule=5).fit(X, y)
        stages = list(model.staged_predict(X))
        t = model.history_["t"]
        assert len(stages) == len(t)
        assert np.abs(t[:, None] - np.linspace(0, 0.95, 6)).min(0) == pytest.approx(0)
        assert len(t) == 6 or "cut short" in model.outcome_
        np.testing.assert_array_equal(stages[-1], model.predict(X))

    def test_stages_are_fits_that_end_there(self, estimator):
        X, y = example(estimator)
        times = [0.2, 0.4, 0.7]
        model = small(estimator, store_path=True, schedule=times).fit(X, y)
        for k, stage in enumerate(model.staged_predict(X)):
            if k:
                alone = small(estimator, schedule=times[:k]).fit(X, y)
                np.testing.assert_array_equal(stage, alone.predict(X))

    def test_path_must_be_stored(self, estimator):
        model = small(estimator).fit(*example(estimator))
        with pytest.raises(ValueError, match="set store_path=True before fit"):
            next(model.staged_predict(example(estimator)[0]))


def test_stages_start_at_the_mean():
    X, y = table()
    stages = regressor(store_path=True).fit(X, y).staged_predict(X)
    np.testing.assert_allclose(next(stages), y.mean())


def test_staged_probabilities():
    X, y = example(ESTIMATORS[1])
    model = classifier(store_path=True, schedule=4).fit(X, y)
    stages = list(model.staged_predict_proba(X))
    np.testing.assert_allclose(stages[0], np.broadcast_to(1 / 3, stages[0].shape))
    np.testing.assert_array_equal(stages[-1], model.predict_proba(X))


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestHeldOut:
    def own(self, estimator, **parameters):
        X, y = example(estimator, n=60)
        model = small(estimator, early_stopping=True, alpha=0.5, store_path=True, **parameters)
        return model.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:]), X, y

    def test_scores_are_those_of_the_staged_predictions(self, estimator):
        model, X, y = self.own(estimator)
        expected = [scorer(estimator)(y[40:], stage) for stage in model.staged_predict(X[40:])]
        np.testing.assert_allclose(model.validation_scores_, expected, atol=1e-12)

    def test_best_point_is_restored(self, estimator):
        model, X, _ = self.own(estimator)
        best = int(np.argmax(np.round(model.validation_scores_, 12)))
        tied = model.validation_scores_ == model.validation_scores_[best]
        best = int(np.where(tied, model.history_["validation_loss"], np.inf).argmin())
        np.testing.assert_array_equal(list(model.staged_predict(X))[best], model.predict(X))
        assert model.t_ == model.history_["t"][best]
        assert model.loss_ == model.loss_curve_[best]
        assert model.deviation_ == model.history_["deviation"][best]
        assert model.history_["rank"][best] == model.ntk_rank_
        assert model.best_validation_score_ == model.validation_scores_.max()
        assert model.n_iter_ == len(model.loss_curve_) - 1
        if estimator is ESTIMATORS[1]:
            parts = model.collapse_
            assert parts.within + parts.between == pytest.approx(model.loss_)

    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    def test_patience(self, estimator):
        model, _, _ = self.own(estimator, t_end=0.9999, damping=0.0, n_iter_no_change=2)
        longer, _, _ = self.own(estimator, t_end=0.9999, damping=0.0, n_iter_no_change=50)
        assert model.n_iter_ <= longer.n_iter_
        assert model.outcome_ == "the score stopped improving"
        assert longer.t_ <= 0.9999

    def test_split_is_reproducible_and_takes_rows_away(self, estimator):
        X, y = example(estimator, n=60)
        one, two = (
            small(estimator, early_stopping=True, validation_fraction=0.25).fit(X, y)
            for _ in range(2)
        )
        np.testing.assert_array_equal(one.predict(X), two.predict(X))
        assert len(one.ntk_eigenvalues_) == 45 * one.n_outputs_

    def test_weight_counts_in_the_score(self, estimator):
        """Held-out rows of a tiny weight decide nothing, whatever their targets are."""
        X, y = example(estimator, n=60)
        weights = np.ones(60)
        wrong = y.copy()
        plain = small(estimator, early_stopping=True, validation_fraction=0.5)
        rows = np.arange(0, 60, 7)
        weights[rows] = 1e-12
        wrong[rows] = y[rows][::-1]
        first = plain.fit(X, y, sample_weight=weights).validation_scores_
        if estimator is ESTIMATORS[1]:  # the same classes a row, or the split would differ
            wrong = y
        second = plain.fit(X, wrong, sample_weight=weights).validation_scores_
        np.testing.assert_allclose(first, second, atol=1e-6)

    def test_classical_integrator(self, estimator):
        X, y = example(estimator, n=40)
        model = small(estimator, early_stopping=True, method="RK45", schedule=8, t_end=0.8)
        model.fit(X[:25], y[:25], X_val=X[25:], y_val=y[25:])
        assert model.best_validation_score_ == model.validation_scores_.max()
        assert model.t_ in model.history_["t"]

    def test_nothing_is_left_of_it_in_the_next_fit(self, estimator):
        X, y = example(estimator, n=40)
        model = small(estimator, early_stopping=True).fit(X, y)
        model.set_params(early_stopping=False).fit(X, y)
        assert not hasattr(model, "validation_scores_")
        assert not hasattr(model, "best_validation_score_")

    def test_own_rows_without_early_stopping(self, estimator):
        X, y = example(estimator)
        for other in (False, "loo"):
            with pytest.raises(ValueError, match="set early_stopping=True or leave them out"):
                small(estimator, early_stopping=other).fit(X, y, X_val=X, y_val=y)

    def test_half_of_a_set(self, estimator):
        X, y = example(estimator)
        with pytest.raises(ValueError, match="hand over both or neither"):
            small(estimator, early_stopping=True).fit(X, y, X_val=X)

    def test_too_few_rows_to_hold_out(self, estimator):
        X, y = example(estimator, n=6)
        message = "raise validation_fraction|change validation_fraction"
        with pytest.raises(ValueError, match=message):
            small(estimator, early_stopping=True).fit(X, y)


def test_split_is_stratified():
    X, y = example(ESTIMATORS[1], n=90)
    y = np.where(np.arange(90) < 9, 2, y % 2)
    model = classifier(early_stopping=True, validation_fraction=1 / 3).fit(X, y)
    np.testing.assert_allclose(model.initial_output_, np.bincount(y) / 90, atol=0.01)


def test_unknown_labels_to_stop_by():
    X, y = example(ESTIMATORS[1])
    with pytest.raises(ValueError, match=r"y_val .* not among the classes: \[7\]"):
        classifier(early_stopping=True).fit(X, y, X_val=X, y_val=np.where(y == 1, 7, y))


def test_outputs_to_stop_by():
    X, y = table()
    with pytest.raises(ValueError, match="y_val must have the outputs of y"):
        regressor(early_stopping=True).fit(X, y, X_val=X, y_val=np.stack([y, y], axis=1))


class TestLeaveOneOut:
    @pytest.mark.parametrize("damping", [0.0, 0.2, "auto"])
    def test_scores_are_those_of_refits_of_the_linear_model(self, damping):
        X, y = table(14)
        w = np.linspace(0.5, 2, 14)
        times = [0.2, 0.6, 0.9]
        model = regressor(
            early_stopping="loo", alpha=0.2, schedule=times, metric_scale=3.0, init_scale=1.0,
            damping=damping,
        ).fit(X, y, sample_weight=w)  # fmt: skip
        _, D = _start(X, y)
        relative = 0.2 * (1 - 0.2) / 3 if damping == "auto" else damping
        ridge = relative * np.average(np.square(D).sum(axis=1), weights=w)
        scaled = ((y - model.target_mean_) / model.target_scale_)[:, None]
        for k, t in enumerate(times, start=1):
            left_out = oracles.left_out_residuals(
                D[:, None], scaled, w, alpha=0.2, tau=-np.log1p(-t), c=3.0, ridge=ridge
            )
            expected = r2_score(scaled, scaled - left_out, sample_weight=w)
            assert model.loo_scores_[k] == pytest.approx(expected, rel=1e-7)
            loss = np.average(left_out[:, 0] ** 2, weights=w) / 2
            assert model.loo_losses_[k] == pytest.approx(loss, rel=1e-7)

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_flow_ends_at_the_best_time(self, estimator):
        """Of a network so wide that it moves with its linearisation."""
        X, y = example(estimator, n=40)
        model = small(estimator, early_stopping="loo", alpha=0.5, t_end=1.0, damping=0.0)
        model.set_params(scale_inputs=False)
        model.set_params(hidden_layer_sizes=(1000,), init_scale=1.0).fit(X, y)
        best = model.loo_times_[model.loo_scores_.argmax()]
        assert best / 2 < model.t_ <= best + 1e-12
        assert model.loo_times_[[0, -1]].tolist() == [0, 1]

    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_flow_that_learns_faster_ends_before(self, estimator):
        """At the first point with no more loss than the linearised flow at the best time."""
        X, y = example(estimator, n=40)
        parameters = {"alpha": 0.5, "t_end": 1.0, "init_scale": 0.4, "damping": 0.0}
        model = small(estimator, early_stopping="loo", scale_inputs=False, **parameters).fit(X, y)
        best = model.loo_times_[model.loo_scores_.argmax()]
        assert model.outcome_ == "the loss fell to the bound that was set"
        assert model.t_ < best
        if estimator is ESTIMATORS[0]:
            _, D = _start(X, y, 0.4)
            r = (y - model.target_mean_) / model.target_scale_
            c = np.square(D).sum() / len(y)
            _, moved = oracles.frozen_flow(D, r, -np.log1p(-best), 0.5, c)
            bound = np.square(r - moved).sum() / (2 * len(y))
            assert model.loss_curve_[-1] <= bound < model.loss_curve_[-2]

    def test_a_ridge_has_no_way_to_the_end(self):
        """t_end=1 then means the last of the times that are tried."""
        X, y = table(60)
        model = regressor(early_stopping="loo", alpha=0.5, t_end=1.0).fit(X, y)
        assert 0.999 < model.loo_times_[-1] < 1
        assert model.n_iter_ < 100

    def test_blocks_are_judged_with_their_ridge(self):
        X, y = table(60)
        parameters = {"early_stopping": "loo", "alpha": 1.0, "batch_size": 20}
        auto = regressor(**parameters).fit(X, y)
        given = regressor(damping=0.03, **parameters).fit(X, y)
        np.testing.assert_array_equal(auto.loo_scores_, given.loo_scores_)

    def test_features_off_their_scale_are_reported(self):
        X, y = table(40)
        with pytest.raises(ValueError, match="Scale the features"):
            regressor(activation="relu", early_stopping="loo").fit(X * 1e155, y)

    def test_accuracy_of_the_classifier(self):
        X, y = example(ESTIMATORS[1], n=60)
        model = classifier(early_stopping="loo").fit(X, y)
        assert model.loo_scores_.max() == pytest.approx(0.8, abs=0.2)
        assert np.allclose(model.loo_scores_ * 60, np.round(model.loo_scores_ * 60))

    def test_nothing_to_learn_keeps_the_mean(self):
        rng = np.random.default_rng(3)
        X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
        model = regressor(early_stopping="loo", alpha=1.0, schedule=[0.5, 0.9, 1.0], t_end=1.0)
        model.fit(X, y)
        assert model.loo_scores_.argmax() == 0
        assert (model.t_, model.loss_) == (0.0, model.loss_curve_[0])
        np.testing.assert_allclose(model.predict(X), y.mean())

    def test_stops_where_it_matters(self):
        """diabetes at α = 0.5 without a ridge: late stopping learns the noise."""
        X, y = load_diabetes(return_X_y=True)
        X = StandardScaler().fit_transform(X)
        train, test = np.arange(0, 442, 2), np.arange(1, 442, 2)
        late, stopped = (
            regressor(hidden_layer_sizes=(50, 50), alpha=0.5, damping=0.0, early_stopping=how)
            .fit(X[train], y[train])
            .score(X[test], y[test])
            for how in (False, "loo")
        )
        assert late < 0.2
        assert stopped > 0.35

    @pytest.mark.parametrize(
        ("parameters", "setting"),
        [({"loss": "log_loss"}, "loss='log_loss'")],
    )
    def test_settings_it_does_not_fit(self, parameters, setting):
        with pytest.raises(ValueError, match=f"not {setting}"):
            classifier(early_stopping="loo", **parameters).fit(*example(ESTIMATORS[1]))

    def test_start_that_has_seen_the_targets(self):
        model = regressor(warm_start=True).fit(*table())
        with pytest.raises(ValueError, match="not warm_start=True after a fit"):
            model.set_params(early_stopping="loo").fit(*table())


def _start(X, y, init_scale=1.0):
    """f_θ₀ and its D, from a flow of no length."""
    start = regressor(schedule=[1e-15], t_end=1e-15, init_scale=init_scale)
    return model_of(start.fit(X, y), X)


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestBlocks:
    def test_best_epoch_is_restored(self, estimator):
        X, y = example(estimator, n=80)
        model = small(
            estimator, early_stopping=True, batch_size=20, alpha=1.0, t_end=0.999, store_path=True
        ).fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
        stages = [scorer(estimator)(y[60:], stage) for stage in model.staged_predict(X[60:])]
        np.testing.assert_allclose(model.validation_scores_, stages, rtol=1e-9, atol=1e-12)
        assert model.best_validation_score_ == pytest.approx(max(stages))
        assert model.score(X[60:], y[60:]) == pytest.approx(max(stages))

    def test_patience_ends_the_flow(self, estimator):
        X, y = example(estimator, n=80)
        wrong = np.random.default_rng(0).permutation(y[:60])
        model = small(
            estimator,
            early_stopping=True,
            batch_size=20,
            alpha=1.0,
            schedule=60,
            n_iter_no_change=3,
        ).fit(X[:60], wrong, X_val=X[60:], y_val=y[60:])
        assert model.outcome_.startswith("the score stopped improving")
        assert model.n_iter_ < 60

    @pytest.mark.parametrize("schedule", ["adaptive", 5, [0.3, 0.6, 0.9]])
    def test_leave_one_out_says_how_far_the_blocks_go(self, estimator, schedule):
        X, y = example(estimator, n=80)
        parameters = {"early_stopping": "loo", "alpha": 0.1, "t_end": 0.9, "init_scale": 0.5}
        parameters["schedule"] = schedule
        full = small(estimator, **parameters).fit(X, y)
        blocks = small(estimator, batch_size=20, **parameters).fit(X, y)
        np.testing.assert_array_equal(blocks.loo_scores_, full.loo_scores_)
        best = np.lexsort([blocks.loo_losses_, -blocks.loo_scores_])[0]
        assert blocks.t_ == pytest.approx(blocks.loo_times_[best])


def test_blocks_that_have_nothing_to_learn_keep_the_mean():
    X, y = table(40)
    y = np.random.default_rng(3).permutation(y)
    model = regressor(early_stopping="loo", alpha=1.0, damping=0.0, t_end=0.9, batch_size=20).fit(
        X, y
    )
    assert model.loo_scores_.argmax() == 0
    assert model.t_ == 0
    assert len(np.unique(model.predict(X))) == 1
