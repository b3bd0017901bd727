"""The full batch without a matrix."""

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowRegressorCV, GramMemoryError
from sklearn_gflow.estimators import _memory, _training
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.geometry import SOLVERS, Shape
from tests.estimators.data import ALPHAS, ESTIMATORS, classes, classifier, example, regressor, table


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("damping", [0.0, 0.01])
class TestAgreement:
    """With the direct solver, as far as steps of 5 % error and the flow's own end allow."""

    @pytest.mark.slow
    def test_regressor(self, alpha, damping):
        X, y = table(40)
        weights = np.linspace(0.5, 2, 40)
        parameters = {"alpha": alpha, "damping": damping, "t_end": 0.9, "hidden_layer_sizes": (30,)}
        direct = regressor(**parameters, solver="cholesky").fit(X, y, sample_weight=weights)
        found = regressor(**parameters, solver="krylov").fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(found.predict(X), direct.predict(X), atol=3e-4)
        np.testing.assert_allclose(found.loss_curve_, direct.loss_curve_, rtol=1e-3)
        assert found.solver_.startswith("krylov (residual below 1e-6)")

    @pytest.mark.slow
    def test_three_outputs(self, alpha, damping):
        X, y = table(30)
        Y = np.stack([y, X[:, 1], y * X[:, 0]], axis=1)
        parameters = {"alpha": alpha, "damping": damping, "t_end": 0.9, "hidden_layer_sizes": (40,)}
        direct = regressor(**parameters, solver="cholesky").fit(X, Y)
        found = regressor(**parameters, solver="krylov").fit(X, Y)
        np.testing.assert_allclose(found.predict(X), direct.predict(X), atol=1e-3)

    @pytest.mark.slow
    def test_more_outputs_than_parameters(self, alpha, damping):
        X, y = table(60)
        # Later D loses rank on the way, and what counts as zero decides where the path goes.
        t_end = 0.2 if alpha == 1 or damping else 0.03
        parameters = {
            "alpha": alpha,
            "damping": damping,
            "t_end": t_end,
            "hidden_layer_sizes": (3,),
        }
        direct = regressor(**parameters, solver="eigh").fit(X, y)
        found = regressor(**parameters, solver="krylov").fit(X, y)
        np.testing.assert_allclose(found.predict(X), direct.predict(X), atol=1e-4)

    @pytest.mark.slow
    def test_classifier(self, alpha, damping):
        X, y = classes(24)
        parameters = {"alpha": alpha, "damping": damping, "t_end": 0.9}
        direct = classifier(**parameters, solver="cholesky").fit(X, y)
        found = classifier(**parameters, solver="krylov").fit(X, y)
        np.testing.assert_allclose(found.predict_proba(X), direct.predict_proba(X), atol=1e-3)


@pytest.mark.slow
def test_log_loss():
    X, y = classes(24)
    parameters = {"alpha": 1.0, "t_end": 0.8, "loss": "log_loss", "label_smoothing": 0.1}
    direct = classifier(**parameters).fit(X, y)
    found = classifier(**parameters, solver="krylov").fit(X, y)
    np.testing.assert_allclose(found.predict_proba(X), direct.predict_proba(X), atol=1e-3)


def test_zero_loss_is_reached():
    X, y = table(40)
    model = regressor(alpha=1.0, t_end=1.0, hidden_layer_sizes=(40,), solver="krylov").fit(X, y)
    assert model.loss_ < 1e-18 * model.loss_curve_[0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_threshold_on_singular_values(estimator):
    with pytest.raises(
        ValueError, match=r"solver='krylov' sees no singular values.*set rcond=None"
    ):
        estimator(solver="krylov", rcond=0.1).fit(*example(estimator))


def test_limit_is_reported(monkeypatch):
    monkeypatch.setattr("sklearn_gflow.geometry.krylov._COLUMNS", 2)
    monkeypatch.setattr("sklearn_gflow.geometry.krylov._MOST_ITERATIONS", 3)
    X, y = table(40)
    model = regressor(alpha=1.0, t_end=0.3, hidden_layer_sizes=(30,), solver="krylov").fit(X, y)
    assert "stopped at its limit" in model.solver_


class TestRows:
    def test_auto_is_the_full_batch_while_it_fits(self, monkeypatch):
        shape, given = Shape(30_000, 3, 2000), regressor(solver="krylov").get_params()
        needed = SOLVERS["krylov"].working_bytes(shape, 8) + 8 * 12 * 2000
        for available, expected in [(needed, None), (needed - 1, 256)]:
            monkeypatch.setattr(_memory, "available_bytes", lambda device, n=available: n)
            assert Settings.of(given, shape, seed=0).batch_rows == expected

    def test_kernel_is_that_of_a_subsample_beyond_the_bound(self, monkeypatch):
        X, y = table(40)
        parameters = {"solver": "krylov", "t_end": 0.1, "hidden_layer_sizes": (30,)}
        assert len(regressor(**parameters).fit(X, y).kernel_rows_) == 40
        monkeypatch.setattr(_training, "_STORED_GRAM_BYTES", 8 * 39**2)
        monkeypatch.setattr(_training, "_KERNEL_SIZE", 10)
        model = regressor(**parameters, store_gram=False).fit(X, y)
        assert len(set(model.kernel_rows_)) == model.ntk_rank_ == len(model.ntk_eigenvalues_) == 10
        model.set_params(store_gram="auto").fit(X, y)
        np.testing.assert_allclose(model.ntk_gram_, model.ntk(X[model.kernel_rows_]))
        assert len(model.set_params(store_gram=True).fit(X, y).ntk_gram_) == 40
        Y = np.stack([y, -y, y * y], axis=1)
        assert len(model.set_params(store_gram="auto").fit(X, Y).kernel_rows_) == 3

    def test_blocks(self):
        X, y = table(60)
        model = regressor(solver="krylov", batch_size=20, t_end=0.5).fit(X, y)
        assert model.solver_.startswith("krylov (residual below 1e-")
        assert model.loss_ < 0.5 * model.loss_curve_[0]


class TestMemory:
    def test_is_the_cure_where_it_fits(self, monkeypatch):
        X, y = table(1000)
        parameters = {"hidden_layer_sizes": (300,), "t_end": 0.1}
        for available, named in [(20_000_000, False), (50_000_000, True)]:
            monkeypatch.setattr(_memory, "available_bytes", lambda device, n=available: n)
            for name, needed in [("krylov", 40_000_000), ("auto", 60_000_000)]:
                monkeypatch.setattr(
                    type(SOLVERS[name]), "working_bytes", lambda *args, needed=needed: needed
                )
            with pytest.raises(GramMemoryError) as caught:
                regressor(**parameters, batch_size=None).fit(X, y)
            assert ("set solver='krylov'" in str(caught.value)) == named

    def test_has_its_own_bound(self, monkeypatch):
        monkeypatch.setattr(_memory, "available_bytes", lambda device: 10**7)
        X, y = table(1000)
        message = r"needs \d+ bytes for columns of the Gram, and 10000000 bytes are available"
        with pytest.raises(GramMemoryError, match=message):
            regressor(solver="krylov", batch_size=None).fit(X, y)
        with pytest.raises(GramMemoryError, match=r"for the Gram and its factorisation"):
            regressor(solver="krylov", batch_size=None, store_gram=True).fit(*table(2500))

    def test_leave_one_out_asks_for_eigenvectors(self, monkeypatch):
        monkeypatch.setattr(_memory, "available_bytes", lambda device: 10**6)
        X, y = table(400)
        with pytest.raises(GramMemoryError, match=r"leave-one-out on 400 rows .* needs 3840000 by"):
            regressor(solver="krylov", early_stopping="loo", hidden_layer_sizes=(300,)).fit(X, y)

    @pytest.mark.slow
    def test_search(self):
        X, y = table(30)
        search = AdaptedFlowRegressorCV((30,), alphas=[0.0, 0.1], solver="krylov", random_state=0)
        assert search.fit(X, y).best_estimator_.solver_.startswith("krylov")
