import math

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_gflow import AdaptedFlowRegressor
from tests.estimators.data import ALPHAS, regressor, table


class TestSchedule:
    X, y = table(12)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_a_number_of_steps(self, alpha):
        model = regressor(alpha=alpha, schedule=5, t_end=0.6).fit(self.X, self.y)
        np.testing.assert_allclose(model.history_["t"], np.linspace(0, 0.6, 6), atol=1e-14)
        assert model.n_iter_ == 5

    @pytest.mark.parametrize("times", [[0.1, 0.4], (0.2,), np.array([0.05, 0.6, 0.7])])
    def test_given_times(self, times):
        model = regressor(schedule=times, t_end=0.7).fit(self.X, self.y)
        np.testing.assert_allclose(model.history_["t"], [0, *times], atol=1e-14)
        assert model.t_ == pytest.approx(times[-1])

    @pytest.mark.slow
    def test_no_seed_stalls_at_the_end(self):
        for seed in range(30):
            model = regressor(hidden_layer_sizes=(6,), random_state=seed).fit(self.X, self.y)
            assert model.outcome_ == "reached t_end"

    @pytest.mark.parametrize("schedule", [3, [0.5, 1.0]])
    def test_the_end_of_time(self, schedule):
        model = regressor(alpha=1.0, t_end=1.0, schedule=schedule).fit(self.X, self.y)
        assert model.t_ == 1
        assert model.outcome_ in ("reached t_end", "the relative residual fell to tol")

    def test_end(self):
        model = regressor(alpha=0.3, t_end=0.35).fit(self.X, self.y)
        assert model.t_ == pytest.approx(0.35, rel=1e-14)


class TestWarmStart:
    X, y = table(12)

    def test_continues_from_the_solution(self):
        model = regressor(alpha=0.3, t_end=0.3, warm_start=True).fit(self.X, self.y)
        losses = [model.loss_]
        for _ in range(3):
            before = model.loss_curve_
            model.fit(self.X, self.y)
            assert model.loss_curve_[: len(before)] == before
            losses.append(model.loss_)
        assert (np.diff(losses) < 0).all()

    @pytest.mark.slow
    def test_two_stages_are_one_flow(self):
        # τ adds up: t = 0.5 twice is t = 0.75.
        halves = regressor(alpha=1.0, t_end=0.5, schedule=200, warm_start=True)
        halves.fit(self.X, self.y).fit(self.X, self.y)
        whole = regressor(alpha=1.0, t_end=0.75, schedule=400).fit(self.X, self.y)
        np.testing.assert_allclose(halves.predict(self.X), whole.predict(self.X), rtol=1e-4)

    def test_without_it_every_fit_is_the_first(self):
        model = regressor(t_end=0.3).fit(self.X, self.y)
        first = model.predict(self.X)
        np.testing.assert_array_equal(model.fit(self.X, self.y).predict(self.X), first)

    def test_scaling_is_kept(self):
        model = regressor(t_end=0.3, warm_start=True).fit(self.X, self.y)
        mean, scale = model.target_mean_, model.target_scale_
        model.fit(self.X, 2 * self.y + 1)
        np.testing.assert_array_equal(model.target_mean_, mean)
        np.testing.assert_array_equal(model.target_scale_, scale)

    def test_other_rows(self):
        model = regressor(t_end=0.3, warm_start=True).fit(self.X, self.y)
        assert model.fit(*table(9, seed=4)).predict(self.X).shape == (12,)


class TestOptions:
    X, y = table(12)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_float32(self, alpha):
        model = regressor(alpha=alpha, dtype="float32", t_end=0.7).fit(self.X, self.y)
        double = regressor(alpha=alpha, t_end=0.7).fit(self.X, self.y)
        predicted = model.predict(self.X)
        assert predicted.dtype == np.float32
        assert model.ntk_gram_.dtype == np.float32
        np.testing.assert_allclose(predicted, double.predict(self.X), rtol=2e-2)

    def test_float64_by_default(self):
        model = regressor().fit(self.X.astype(np.float32), self.y.astype(np.float32))
        assert model.predict(self.X.astype(np.float32)).dtype == np.float64

    def test_store_gram(self, monkeypatch):
        stored = regressor(store_gram=True).fit(self.X, self.y)
        dropped = regressor(store_gram=False).fit(self.X, self.y)
        assert dropped.ntk_gram_ is None
        assert stored.ntk_gram_.shape == (12, 12)
        np.testing.assert_allclose(dropped.ntk_eigenvalues_, stored.ntk_eigenvalues_)
        from sklearn_gflow.estimators import _training

        for limit, kept in ((12 * 12 * 8, True), (12 * 12 * 8 - 1, False)):
            monkeypatch.setattr(_training, "_STORED_GRAM_BYTES", limit)
            assert (regressor().fit(self.X, self.y).ntk_gram_ is not None) == kept

    def test_spectrum_with_fewer_parameters_than_outputs(self):
        model = regressor(hidden_layer_sizes=()).fit(self.X, self.y)
        assert model.ntk_eigenvalues_.shape == (12,)
        assert model.ntk_rank_ == 4
        np.testing.assert_allclose(
            model.ntk_eigenvalues_, np.linalg.eigvalsh(model.ntk_gram_)[::-1], atol=1e-10
        )

    def test_max_iter_warns(self):
        model = regressor(schedule=10, max_iter=2, t_end=0.9)
        with pytest.warns(ConvergenceWarning, match=r"stopped at t=0\.18 of t_end=0\.9: max_iter"):
            model.fit(self.X, self.y)
        assert model.n_iter_ == 2
        assert model.outcome_.startswith("max_iter steps were taken")
        assert np.isfinite(model.predict(self.X)).all()

    def test_stall_warns(self):
        model = regressor(schedule=100, tol=0.1, n_iter_no_change=3)
        with pytest.warns(ConvergenceWarning, match="the loss stopped improving. Raise max_iter"):
            model.fit(self.X, self.y)
        assert model.n_iter_ == 3

    @pytest.mark.parametrize("tol", [1e-3, 1e-8])
    def test_tol(self, tol):
        model = regressor(hidden_layer_sizes=(30,), alpha=1.0, t_end=1.0, tol=tol)
        model.fit(self.X, self.y)
        assert math.sqrt(model.loss_ / model.loss_curve_[0]) <= tol
        assert model.outcome_ == "the relative residual fell to tol"


class TestContinued:
    @pytest.mark.parametrize("n_outputs", [1, 2])
    def test_other_outputs_are_refused_and_leave_the_model_as_it_was(self, n_outputs):
        generator = np.random.default_rng(0)
        X, Y = generator.normal(size=(12, 3)), generator.normal(size=(12, 3))
        model = AdaptedFlowRegressor((5,), warm_start=True, random_state=0).fit(X, Y)
        before = model.predict(X)
        with pytest.raises(ValueError, match=f"had 3 outputs, and y has {n_outputs}"):
            model.fit(X, Y[:, :n_outputs])
        np.testing.assert_array_equal(model.predict(X), before)

    def test_activation_of_the_fit_serves_predictions(self):
        generator = np.random.default_rng(0)
        X, y = generator.normal(size=(12, 3)), generator.normal(size=12)
        model = AdaptedFlowRegressor((5,), random_state=0).fit(X, y)
        before = model.predict(X)
        np.testing.assert_array_equal(model.set_params(activation="relu").predict(X), before)

    @pytest.mark.parametrize("value", [3.7, 0.1])
    @pytest.mark.parametrize("n", [7, 12, 13])
    def test_constant_target_is_met_at_the_start(self, n, value):
        X = np.random.default_rng(0).normal(size=(n, 3))
        model = AdaptedFlowRegressor((5,), alpha=1.0, random_state=0).fit(X, np.full(n, value))
        assert model.n_iter_ == 0
        np.testing.assert_array_equal(model.predict(X), value)


class TestDamping:
    X, y = table(40)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "damping"),
        [
            ({"alpha": 0.0}, 0.0),
            ({"alpha": 0.25}, 0.0625),
            ({"alpha": 1.0}, 0.0),
            ({"alpha": 0.5, "t_end": 1.0}, 0.0),
            ({"alpha": 0.5, "t_end": 1.0, "early_stopping": True}, 1 / 12),
            ({"alpha": 0.0, "batch_size": 10}, 0.03),
            ({"alpha": 1.0, "batch_size": 10}, 0.03),
        ],
    )
    def test_auto(self, options, damping):
        auto, given = (
            regressor(damping=value, **options).fit(self.X, self.y).predict(self.X)
            for value in ("auto", damping)
        )
        np.testing.assert_array_equal(auto, given)

    @pytest.mark.parametrize("solver", ["auto", "cholesky", "svd"])
    def test_does_not_hide_rcond(self, solver):
        losses = [
            regressor(solver=name, rcond=0.03).fit(self.X, self.y).loss_
            for name in (solver, "eigh")
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
        assert losses[0] > 1.1 * regressor(solver=solver).fit(self.X, self.y).loss_

    @pytest.mark.slow
    def test_zero_is_none_in_blocks(self):
        without, default = (
            regressor(damping=value, alpha=1.0, batch_size=20).fit(self.X, self.y).loss_
            for value in (0.0, "auto")
        )
        assert without != default


class TestInitScale:
    X, y = table(20)

    def _start(self, **options):
        """The first layer's weights before the flow has moved them."""
        model = regressor(schedule=[1e-15], t_end=1e-15, **options).fit(self.X, self.y)
        return model.coefs_[0]

    @pytest.mark.parametrize(
        ("options", "scale"),
        [
            ({"alpha": 0.0}, 0.3),
            ({"alpha": 0.5}, 0.3),
            ({"alpha": 1.0}, 1.0),
            ({"alpha": 1.0, "batch_size": 20}, 1.0),
            ({"alpha": 1.0, "batch_size": 10}, 0.3),
        ],
    )
    def test_auto(self, options, scale):
        found, unit = self._start(**options), self._start(**options, init_scale=1.0)
        np.testing.assert_allclose(found, scale * unit, rtol=1e-6)

    def test_second_layer_and_biases_are_left_alone(self):
        small, unit = (
            regressor(schedule=[1e-15], t_end=1e-15, init_scale=scale).fit(self.X, self.y)
            for scale in (0.1, 1.0)
        )
        np.testing.assert_allclose(small.coefs_[1], unit.coefs_[1], rtol=1e-9)
        np.testing.assert_allclose(small.intercepts_[0], unit.intercepts_[0], rtol=1e-9)
