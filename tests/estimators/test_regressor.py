import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

from sklearn_gflow.geometry.layered import LayeredLinearization
from tests import oracles
from tests.estimators.data import ALPHAS, regressor, table

SOLVERS = ["auto", "eigh", "svd"]


def model_of(fitted, X, activation="tanh"):
    """f_θ from coefs_ and intercepts_, by the oracle."""
    theta = np.concatenate(
        [
            part.reshape(-1)
            for pair in zip(fitted.coefs_, fitted.intercepts_, strict=True)
            for part in pair
        ]
    )
    sizes = (X.shape[1], *(len(b) for b in fitted.intercepts_))
    theta, inputs = torch.from_numpy(theta), torch.from_numpy(X)
    return (
        oracles.forward(theta, inputs, sizes, activation).numpy(),
        oracles.jacobian(theta, inputs, sizes, activation).numpy(),
    )


class TestLawOfTheLine:
    @pytest.mark.slow
    def test_loss_is_the_square_of_what_is_left(self):
        model = regressor(hidden_layer_sizes=(30,), alpha=1.0, t_end=0.9, schedule=400)
        model.fit(*table())
        curve, t = np.array(model.loss_curve_), model.history_["t"]
        np.testing.assert_allclose(t, np.linspace(0, 0.9, 401), atol=1e-12)
        np.testing.assert_allclose(curve / curve[0], (1 - t) ** 2, rtol=1e-4)

    @pytest.mark.slow
    def test_prediction_moves_from_the_mean_to_the_labels(self):
        X, y = table()
        for t in (0.25, 0.5):
            model = regressor(hidden_layer_sizes=(30,), alpha=1.0, t_end=t, schedule=200)
            np.testing.assert_allclose(
                model.fit(X, y).predict(X), (1 - t) * y.mean() + t * y, rtol=1e-4
            )

    def test_diabetes_interpolates_in_twenty_steps(self):
        X, y = load_diabetes(return_X_y=True)
        X = StandardScaler().fit_transform(X)
        model = regressor(hidden_layer_sizes=(64, 64), alpha=1.0, t_end=1.0).fit(X, y)
        assert model.n_iter_ <= 20
        assert np.mean((model.predict(X) - y) ** 2) <= 1e-20 * y.var()
        assert model.ntk_rank_ == 442
        assert model.t_ == 1.0
        assert model.solver_ == "cholesky"


class TestFittedAttributes:
    X, y = table(15)

    @pytest.fixture(params=ALPHAS)
    def fitted(self, request):
        targets = np.stack([self.y, self.y**2], axis=1)
        model = regressor(hidden_layer_sizes=(9, 7), alpha=request.param, t_end=0.8)
        return model.fit(self.X, targets), targets

    def test_layers(self, fitted):
        model, _ = fitted
        assert [W.shape for W in model.coefs_] == [(3, 9), (9, 7), (7, 2)]
        assert [b.shape for b in model.intercepts_] == [(9,), (7,), (2,)]
        assert (model.n_layers_, model.n_outputs_, model.n_features_in_) == (4, 2, 3)

    @pytest.mark.slow
    def test_prediction_is_the_network_minus_its_start(self, fitted):
        model, _ = fitted
        start = clone(model).set_params(schedule=[1e-15], t_end=1e-15)
        start.fit(self.X, fitted[1])  # the same seed: this is θ₀
        new = table(7, seed=5)[0]
        difference = model_of(model, new)[0] - model_of(start, new)[0]
        expected = model.target_mean_ + model.target_scale_ * difference
        np.testing.assert_allclose(model.predict(new), expected, rtol=1e-9, atol=1e-9)

    def test_starts_at_the_mean_in_units_of_the_deviation(self, fitted):
        model, targets = fitted
        np.testing.assert_allclose(model.target_mean_, targets.mean(0))
        np.testing.assert_allclose(model.target_scale_, targets.std(0))
        # Two scaled columns, each of variance one, and C = |x − y|²/(2N).
        assert model.loss_curve_[0] == pytest.approx(1.0)

    def test_loss_is_that_of_the_prediction(self, fitted):
        model, targets = fitted
        scaled = (model.predict(self.X) - targets) / targets.std(0)
        assert model.loss_ == pytest.approx((scaled**2).sum() / 30, rel=1e-9)
        assert model.loss_ == model.loss_curve_[-1] == model.best_loss_ < model.loss_curve_[0]

    def test_history(self, fitted):
        model, _ = fitted
        history = model.history_
        expected = {"t", "s", "loss", "rank", "condition", "step_error"}
        assert set(history) >= expected
        assert {len(column) for column in history.values()} == {model.n_iter_ + 1}
        assert {column.ndim for column in history.values()} == {1}
        np.testing.assert_allclose(history["t"], 1 - np.exp(-history["s"] / 15), atol=1e-14)
        np.testing.assert_array_equal(history["loss"], model.loss_curve_)
        assert history["t"][0] == 0
        assert history["t"][-1] == model.t_ == pytest.approx(0.8, rel=1e-12)
        assert history["rank"][-1] == model.ntk_rank_
        assert history["condition"][-1] == model.ntk_condition_
        assert math.isnan(history["step_error"][0])
        assert history["step_error"][1:].max() <= 0.05
        assert model.outcome_ == "reached t_end"

    def test_kernel(self, fitted):
        model, _ = fitted
        D = model_of(model, self.X)[1]
        np.testing.assert_allclose(model.ntk_gram_, D @ D.T, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(model.ntk(self.X), model.ntk_gram_, rtol=1e-12)
        eigenvalues = np.linalg.eigvalsh(model.ntk_gram_)[::-1]
        np.testing.assert_allclose(
            model.ntk_eigenvalues_, eigenvalues, rtol=1e-8, atol=1e-10 * eigenvalues[0]
        )
        assert model.ntk_rank_ == np.linalg.matrix_rank(D, rtol=1e-7)
        counted = eigenvalues[: model.ntk_rank_]
        assert model.ntk_condition_ == pytest.approx(counted[0] / counted[-1], rel=1e-4)

    def test_kernel_at_the_start(self, fitted):
        model, targets = fitted
        unmoved = clone(model).set_params(schedule=[1e-15], t_end=1e-15)
        unmoved.fit(self.X, targets)  # the same seed: this is θ₀
        start = model.ntk(self.X, at="start")
        np.testing.assert_allclose(start, unmoved.ntk_gram_, rtol=1e-8, atol=1e-8)
        cross = model.ntk(self.X[:4], self.X[4:], at="start")
        np.testing.assert_allclose(cross, start[:8, 8:], rtol=1e-12)
        with pytest.raises(ValueError, match='at must be "solution" or "start"; got 0'):
            model.ntk(self.X, at=0)

    def test_kernel_between_two_sets(self, fitted):
        model, _ = fitted
        new = table(4, seed=9)[0]
        whole = model.ntk(np.concatenate([self.X, new]))
        block = model.ntk(self.X, new)
        assert block.shape == (30, 8)
        np.testing.assert_allclose(block, whole[:30, 30:], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(model.ntk(new, self.X), block.T, rtol=1e-11, atol=1e-11)


class TestSolvers:
    X, y = table(20)

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("widths", [(12,), (3,), ()])  # K = 61, 16, 4 and N = 20
    def test_agree(self, alpha, widths):
        predictions = [
            regressor(
                hidden_layer_sizes=widths,
                init_scale=1.0,
                alpha=alpha,
                solver=solver,
                schedule=20,
                t_end=0.2,
            )
            .fit(self.X, self.y)
            .predict(self.X)
            for solver in [*SOLVERS, "cholesky"]
        ]
        for other in predictions[1:]:
            np.testing.assert_allclose(other, predictions[0], rtol=1e-6)

    @pytest.mark.parametrize(
        ("alpha", "widths", "solver", "used"),
        [
            (1.0, (12,), "auto", "cholesky"),
            (1.0, (12,), "cholesky", "cholesky"),
            (1.0, (12,), "svd", "svd"),
            (0.5, (12,), "auto", "cholesky + lanczos"),
            (1.0, (), "auto", "cholesky of DᵀD"),
            (0.5, (), "eigh", "eigh of DᵀD"),
        ],
    )
    def test_are_named(self, alpha, widths, solver, used):
        model = regressor(hidden_layer_sizes=widths, alpha=alpha, solver=solver)
        assert model.fit(self.X, self.y).solver_ == used

    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_linear_model_ends_at_least_squares(self, alpha, solver):
        model = regressor(hidden_layer_sizes=(), alpha=alpha, t_end=1.0, solver=solver)
        A = np.column_stack([self.X, np.ones(20)])
        expected = A @ np.linalg.lstsq(A, self.y)[0]
        np.testing.assert_allclose(model.fit(self.X, self.y).predict(self.X), expected, rtol=1e-9)
        assert model.outcome_.startswith("equilibrium")

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_conflicting_duplicates_end_at_their_mean(self, solver):
        X, y = np.concatenate([self.X, self.X[:5]]), np.concatenate([self.y, self.y[:5] + 1])
        model = regressor(
            hidden_layer_sizes=(30,), alpha=1.0, t_end=1.0, solver=solver, tol=1e-7
        ).fit(X, y)
        expected = self.y + 0.5 * (np.arange(20) < 5)
        np.testing.assert_allclose(model.predict(self.X), expected, atol=1e-5)
        assert model.ntk_rank_ == 20
        assert model.outcome_.startswith("equilibrium")

    def test_rcond_bounds_the_rank(self):
        full, cut = (regressor(alpha=1.0, rcond=rcond).fit(self.X, self.y) for rcond in (None, 0.1))
        sigma = np.sqrt(cut.ntk_eigenvalues_)
        assert cut.ntk_rank_ == (sigma > 0.1 * sigma[0]).sum() < full.ntk_rank_ == 20
        assert cut.solver_ == "eigh"

    def test_damping_shortens_the_way(self):
        free, damped = (
            regressor(alpha=1.0, t_end=0.5, schedule=20, damping=damping).fit(self.X, self.y)
            for damping in (0.0, 0.5)
        )
        assert damped.loss_ > 1.1 * free.loss_

    def test_metric_scale(self):
        X, y = self.X, self.y
        trace = regressor(alpha=0.0, t_end=0.3, schedule=3).fit(X, y)
        start = regressor(alpha=0.0, schedule=[1e-15], t_end=1e-15).fit(X, y)
        c = float(np.trace(start.ntk_gram_) / 20)
        by_hand = regressor(alpha=0.0, t_end=0.3, schedule=3, metric_scale=c).fit(X, y)
        np.testing.assert_allclose(by_hand.predict(X), trace.predict(X), rtol=1e-8)
        paper = regressor(alpha=0.0, t_end=0.3, schedule=3, metric_scale=1.0).fit(X, y)
        assert paper.loss_ < trace.loss_


class TestSampleWeight:
    X, y = table(10)
    NEW = table(7, seed=3)[0]
    COUNTS = np.array([1, 2, 0, 3, 1, 0, 1, 2, 1, 1])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("schedule", "widths"), [("adaptive", (12,)), (4, (12,)), (4, ()), ("adaptive", ())]
    )
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_weight_k_is_k_copies_and_zero_is_absence(self, alpha, schedule, widths):
        parameters = {"alpha": alpha, "schedule": schedule, "hidden_layer_sizes": widths}
        weighted, copied = (regressor(**parameters) for _ in range(2))
        weighted.fit(self.X, self.y, sample_weight=self.COUNTS)
        copied.fit(np.repeat(self.X, self.COUNTS, 0), np.repeat(self.y, self.COUNTS))
        np.testing.assert_allclose(
            weighted.predict(self.NEW), copied.predict(self.NEW), rtol=1e-7, atol=1e-7
        )
        np.testing.assert_allclose(weighted.loss_curve_, copied.loss_curve_, rtol=1e-6)
        np.testing.assert_allclose(weighted.history_["s"], copied.history_["s"], rtol=1e-6)

    def test_common_factor_changes_the_clock_s_alone_in_the_adapted_flow(self):
        w = np.linspace(0.5, 2, 10)
        one = regressor(alpha=1.0, schedule=9).fit(self.X, self.y, sample_weight=w)
        seven = regressor(alpha=1.0, schedule=9).fit(self.X, self.y, sample_weight=7 * w)
        np.testing.assert_allclose(seven.predict(self.NEW), one.predict(self.NEW), rtol=1e-7)
        np.testing.assert_allclose(seven.history_["s"], 7 * one.history_["s"], rtol=1e-9)
        np.testing.assert_allclose(seven.history_["t"], one.history_["t"], rtol=1e-9)

    def test_ones_are_no_weights(self):
        plain = regressor().fit(self.X, self.y)
        ones = regressor().fit(self.X, self.y, sample_weight=np.ones(10))
        np.testing.assert_array_equal(ones.predict(self.NEW), plain.predict(self.NEW))

    def test_mean_and_scale_are_weighted(self):
        w = np.linspace(0.5, 2, 10)
        model = regressor().fit(self.X, self.y, sample_weight=w)
        mean = np.average(self.y, weights=w)
        assert model.target_mean_ == pytest.approx(mean)
        scale = np.sqrt(np.average((self.y - mean) ** 2, weights=w))
        assert model.target_scale_ == pytest.approx(scale)
        assert model.loss_curve_[0] == pytest.approx(0.5)

    def test_kernel_is_that_of_the_rows_of_positive_weight(self):
        model = regressor().fit(self.X, self.y, sample_weight=self.COUNTS)
        present = self.X[self.COUNTS > 0]
        np.testing.assert_allclose(model.ntk_gram_, model.ntk(present))
        assert model.ntk_eigenvalues_.shape == (8,)


class TestSizes:
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize(
        ("n", "n_features", "widths"),
        [(15, 1, (30,)), (15, 3, (1,)), (2, 3, (5,)), (2, 1, ()), (12, 40, (6,)), (15, 3, 7)],
    )
    def test_small_and_odd_problems_fit(self, n, n_features, widths, alpha):
        X, y = table(n, n_features)
        model = regressor(hidden_layer_sizes=widths, alpha=alpha, t_end=0.9).fit(X, y)
        assert model.outcome_ == "reached t_end"
        assert model.loss_ < model.loss_curve_[0]
        assert np.isfinite(model.predict(X)).all()
        assert model.n_layers_ == (2 if widths == () else 3)

    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("value", [0.0, 3.5, -1e6, 1 / 4])
    def test_constant_target(self, alpha, value):
        X, _ = table(12)
        model = regressor(alpha=alpha).fit(X, np.full(12, value))
        np.testing.assert_allclose(model.predict(X), value, rtol=1e-12)
        assert model.target_scale_ == 1
        assert model.loss_ == pytest.approx(0, abs=1e-20)

    def test_one_constant_column(self):
        X, y = table(12)
        model = regressor(alpha=1.0, t_end=1.0).fit(X, np.stack([y, np.full(12, 5.0)], 1))
        np.testing.assert_allclose(model.predict(X), np.stack([y, np.full(12, 5.0)], 1))

    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    def test_five_outputs(self, alpha):
        X, _ = table(12)
        targets = np.random.default_rng(1).normal(size=(12, 5)) * [1, 10, 100, 0.1, 1e-3]
        model = regressor(hidden_layer_sizes=(40,), alpha=alpha, t_end=1.0).fit(X, targets)
        scale = np.abs(targets).max(0)
        np.testing.assert_allclose(model.predict(X) / scale, targets / scale, atol=1e-6)
        assert model.ntk_gram_.shape == (60, 60)

    def test_prediction_has_the_shape_of_the_targets(self):
        X, y = table(12)
        assert regressor().fit(X, y).predict(X).shape == (12,)
        assert regressor().fit(X, y[:, None]).predict(X).shape == (12, 1)

    @pytest.mark.parametrize("activation", ["tanh", "silu", "gelu", "softplus", "relu", "identity"])
    def test_every_activation(self, activation):
        X, y = table(12)
        model = regressor(activation=activation, alpha=0.3).fit(X, y)
        assert model.loss_ < 0.5 * model.loss_curve_[0]
        D = model_of(model, X, activation)[1]
        np.testing.assert_allclose(model.ntk_gram_, D @ D.T, rtol=1e-9, atol=1e-9)


def test_every_gram_is_formed_once(monkeypatch):
    """For the factorisation, the drift of the kernel and what is exposed at the solution."""
    formed, gram = [], LayeredLinearization.gram
    monkeypatch.setattr(LayeredLinearization, "gram", lambda at: formed.append(at) or gram(at))
    model = regressor(alpha=0.3, t_end=0.9).fit(*table())
    assert len(formed) == model.n_iter_ + 1
    D = model_of(model, table()[0])[1]
    np.testing.assert_allclose(model.ntk_gram_, D @ D.T, rtol=1e-9, atol=1e-9)
