"""Fits that go on are one fit: the same unit and ridge, one curve, the blocks of one generator."""

import numpy as np
import pytest

from tests.estimators.data import classes, classifier, noted_cuts, regressor, table

ONCE = 0.5
TIMES = (1 - (1 - ONCE) ** np.arange(1, 7)).tolist()


def in_parts(model, X, y, n_fits=6):
    model.set_params(warm_start=True, t_end=ONCE, schedule=[ONCE])
    for _ in range(n_fits):
        model.fit(X, y)
    return model


def close(parts, whole, X, tolerance):
    """The same predictions and the same record, column by column."""
    a, b = (np.asarray(m._model(X)) for m in (parts, whole))
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0)
    assert parts.n_iter_ == whole.n_iter_ == len(parts.loss_curve_) - 1
    assert parts.history_.keys() == whole.history_.keys()
    # At each solution rank and condition are those of the spectrum, elsewhere of the step's factor.
    # The prediction begins anew, in the range of D, with each fit.
    for name in whole.history_.keys() - {"rank", "condition", "predicted_deviation"}:
        column = whole.history_[name]
        np.testing.assert_allclose(
            parts.history_[name], column, rtol=1e-5, atol=1e-7, equal_nan=True, err_msg=name
        )
    for name in ("t_", "loss_", "best_loss_", "deviation_", "_metric_scale"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6)
    name = "predicted_deviation"
    np.testing.assert_allclose(parts.history_[name], whole.history_[name], atol=0.01)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-6)


FULL_BATCH = {
    "defaults": {},
    "alpha 0": {"alpha": 0.0},
    "alpha 1": {"alpha": 1.0},
    "a stated unit": {"metric_scale": 0.3},
    "a ridge at alpha 1": {"alpha": 1.0, "damping": 0.1},
    "krylov": {"solver": "krylov", "damping": 0.1},
    "wide start": {"init_scale": 1.0},
}


class TestFullBatch:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", FULL_BATCH)
    def test_six_fits_are_one(self, name):
        X, y = table(20)
        parts = in_parts(regressor(**FULL_BATCH[name]), X, y)
        whole = regressor(t_end=TIMES[-1], schedule=TIMES, **FULL_BATCH[name]).fit(X, y)
        close(parts, whole, X, 1e-9 if name != "krylov" else 1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_of_a_classifier(self, loss):
        X, y = classes(30)
        parts = in_parts(classifier(loss=loss, alpha=0.5, damping=0.1), X, y)
        whole = classifier(loss=loss, alpha=0.5, damping=0.1, t_end=TIMES[-1], schedule=TIMES)
        close(parts, whole.fit(X, y), X, 1e-9)
        np.testing.assert_allclose(parts.limit_distance_, whole.limit_distance_, rtol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["RK45", "DOP853"])
    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_by_an_integrator(self, method, alpha):
        X, y = table(10)
        parts = in_parts(regressor(method=method, alpha=alpha), X, y, 3)
        whole = regressor(method=method, alpha=alpha, t_end=TIMES[2], schedule=TIMES[:3]).fit(X, y)
        np.testing.assert_allclose(parts.predict(X), whole.predict(X), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(parts.history_["t"], whole.history_["t"])
        for name in ("loss", "deviation", "ntk_drift"):
            column = whole.history_[name]
            np.testing.assert_allclose(parts.history_[name], column, rtol=5e-3, atol=1e-6)

    def test_steps_that_are_chosen(self):
        X, y = table(30)
        parts = regressor(warm_start=True, t_end=ONCE)
        for _ in range(6):
            parts.fit(X, y)
        whole = regressor(t_end=TIMES[-1]).fit(X, y)
        assert parts.t_ == pytest.approx(TIMES[-1], rel=1e-12)
        assert (np.diff(parts.history_["t"]) > 0).all()
        # The tolerance of a step is 0.05 of the way.
        np.testing.assert_allclose(parts.predict(X), whole.predict(X), atol=0.05 * np.ptp(y))

    def test_a_start_that_was_wide_keeps_its_unit(self):
        """Between the ends of the family the unit and the ridge decide where a flow ends."""
        X, y = table(20)
        model = regressor(warm_start=True, t_end=0.9).fit(X, y)
        unit = model._metric_scale
        for _ in range(3):
            assert model.fit(X, y)._metric_scale == unit

    def test_after_the_end_of_time(self):
        X, y = table(12)
        model = regressor(alpha=0.5, damping=0.0, t_end=1.0, warm_start=True).fit(X, y)
        other = model.fit(X, y[::-1].copy())
        assert other.score(X, y[::-1]) > 0.999
        assert np.isfinite(other.history_["deviation"]).all()

    def test_goes_on_from_the_solution_and_not_from_the_end(self):
        X, y = table(30)
        y = y + 2 * np.random.default_rng(1).normal(size=30)
        model = regressor(alpha=1.0, early_stopping=True, warm_start=True, t_end=0.999).fit(X, y)
        solution, loss = model._solution, model.loss_
        assert solution < model.n_iter_
        model.fit(X, y)
        assert model.loss_curve_[solution] == loss
        assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_ + 1
        assert (np.diff(model.history_["t"]) >= 0).all()
        assert model.history_["t"][model._solution] == model.t_
        assert model.validation_scores_[model._solution] == model.best_validation_score_

    def test_stages_run_over_all_fits(self):
        X, y = table(12)
        model = in_parts(regressor(store_path=True), X, y, 3)
        stages = list(model.staged_predict(X))
        assert len(stages) == model.n_iter_ + 1 == 4
        np.testing.assert_array_equal(stages[-1], model.predict(X))


IN_BLOCKS = {"batch_size": 16, "alpha": 0.3, "damping": 0.3}


class TestBlocks:
    def test_six_fits_are_one(self):
        X, y = table(40)
        parts = in_parts(regressor(**IN_BLOCKS), X, y)
        whole = regressor(t_end=TIMES[-1], schedule=TIMES, **IN_BLOCKS).fit(X, y)
        close(parts, whole, X, 1e-5)  # steps are in float32

    def test_no_two_fits_are_cut_alike(self, monkeypatch):
        cuts = noted_cuts(monkeypatch)
        X, y = table(40)
        in_parts(regressor(**IN_BLOCKS), X, y)
        assert len(set(cuts)) == 6

    def test_chunks_after_a_fit(self):
        X, y = table(40)
        model = regressor(**IN_BLOCKS).fit(X, y)
        n_iter, unit = model.n_iter_, model._metric_scale
        model.partial_fit(X, y).partial_fit(X, y)
        assert model.n_iter_ == len(model.loss_curve_) - 1 >= n_iter + 2
        assert model._metric_scale == unit


def test_without_warm_start_nothing_is_left_of_the_last_fit():
    X, y = table(20)
    first = regressor().fit(X, y)
    again = regressor().fit(X, 2 * y).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), first.predict(X))
    assert again.n_iter_ == first.n_iter_
