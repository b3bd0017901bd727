"""Standard deviations of predictions: `predict(X, return_std=True)`."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.diagnostics.posterior import _RATIOS
from tests import oracles
from tests.estimators.data import regressor, table

pytestmark = pytest.mark.slow


def noisy(n, *, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, np.sin(X[:, 0]) + 0.5 * X[:, 1] ** 2 + noise * rng.normal(size=n)


def small_module(n_features, n_outputs):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, 8), torch.nn.Tanh(), torch.nn.Linear(8, n_outputs)
    )


def start_kernel(model, X):
    """Θ of the start by torch.func."""
    theta = torch.from_numpy(model._network.reference)
    sizes = (len(model.coefs_[0]), *(W.shape[1] for W in model.coefs_))
    D = oracles.jacobian(theta, torch.from_numpy(X), sizes, "tanh").numpy()
    return D @ D.T


def test_equals_the_dense_process_of_the_start():
    X, y = table(25)
    new = table(6, seed=1)[0]
    weights = np.linspace(0.5, 1.5, 25)
    model = regressor().fit(X, y, sample_weight=weights)
    kernel = start_kernel(model, np.vstack([X, new]))
    targets = (y - model.target_mean_) / model.target_scale_
    unit = np.average(np.diag(kernel)[:25], weights=weights)
    ratio = unit * max(
        _RATIOS,
        key=lambda r: oracles.left_out_density(kernel[:25, :25], targets, weights, unit * r)[0],
    )
    amplitude = oracles.left_out_density(kernel[:25, :25], targets, weights, ratio)[1]
    mean, variance = oracles.gaussian_process(
        kernel[:25, :25], targets, weights, kernel[:25, 25:], np.diag(kernel)[25:],
        amplitude=amplitude, noise=amplitude * ratio,
    )  # fmt: skip
    predicted, std = model.predict(new, return_std=True)
    distance = (predicted - model.target_mean_) / model.target_scale_ - mean
    np.testing.assert_allclose(
        std, model.target_scale_ * np.sqrt(variance + distance**2), rtol=1e-7
    )


@pytest.mark.parametrize("parameters", [{}, {"t_end": 0.3}, {"alpha": 1.0, "t_end": 0.9}])
def test_intervals_hold_what_they_say(parameters):
    """Stopped too early, or following the noise: the distance from the mean counts."""
    X, y = noisy(400)
    model = AdaptedFlowRegressor((50,), random_state=0, **parameters).fit(X[:150], y[:150])
    mean, std = model.predict(X[150:], return_std=True)
    inside = np.abs(y[150:] - mean) <= 1.645 * std
    assert 0.85 <= inside.mean() <= 0.97


def test_mean_is_the_prediction():
    X, y = table()
    model = regressor().fit(X, y)
    np.testing.assert_array_equal(model.predict(X, return_std=True)[0], model.predict(X))
    np.testing.assert_array_equal(model.predict(X, False), model.predict(X))


def test_grows_away_from_the_data():
    X, y = noisy(80)
    model = AdaptedFlowRegressor((50,), random_state=0).fit(X, y)
    _, near = model.predict(X, return_std=True)
    _, far = model.predict(8 * X, return_std=True)
    assert np.median(far) > 2 * np.median(near)
    assert near.min() > 0.15


def test_weight_counts_as_copies():
    X, y = noisy(30)
    weights = np.resize([1, 2, 0, 3], 30)
    rows = np.repeat(np.arange(30), weights)
    _, weighted = regressor().fit(X, y, sample_weight=weights).predict(X, return_std=True)
    _, copied = regressor().fit(X[rows], y[rows]).predict(X, return_std=True)
    np.testing.assert_allclose(weighted, copied, rtol=1e-6)


def test_each_output_in_its_unit():
    X, y = noisy(100)
    rng = np.random.default_rng(1)
    Y = np.column_stack([y, 100 * y, X[:, 0] + 3 * rng.normal(size=100)])
    mean, std = AdaptedFlowRegressor((40,), random_state=0).fit(X, Y).predict(X, return_std=True)
    assert mean.shape == std.shape == (100, 3)
    np.testing.assert_allclose(np.median(std[:, 1] / std[:, 0]), 100, rtol=0.3)
    assert 2 < np.median(std[:, 2]) < 4


def test_chunks_change_nothing(monkeypatch):
    X, y = noisy(60)
    Y = np.column_stack([y, y**2])
    model = regressor().fit(X, Y)
    _, at_once = model.predict(X, return_std=True)
    monkeypatch.setattr("sklearn_gflow.estimators._standard_errors._CROSS_ENTRIES", 60 * 4 * 7)
    _, in_chunks = model.predict(X, return_std=True)
    np.testing.assert_allclose(in_chunks, at_once, rtol=1e-9)


def test_constant_target_is_certain():
    X, _ = table()
    mean, std = regressor().fit(X, np.full(len(X), 2.0)).predict(X, return_std=True)
    np.testing.assert_allclose(mean, 2)
    np.testing.assert_allclose(std, 0, atol=1e-12)


def test_predict_leaves_the_estimator_as_it_is_and_it_pickles():
    X, y = table()
    model = regressor().fit(X, y)
    before = set(vars(model))
    _, std = model.predict(X, return_std=True)
    assert set(vars(model)) == before
    assert isinstance(model.X_train_, np.ndarray)
    assert isinstance(model.y_train_, np.ndarray)
    _, again = pickle.loads(pickle.dumps(model)).predict(X, return_std=True)
    np.testing.assert_array_equal(again, std)


def test_rows_are_copied():
    X, y = table()
    model = regressor().fit(X, y)
    new = X[:5].copy()
    _, std = model.predict(new, return_std=True)
    X[:] = 0
    np.testing.assert_array_equal(model.predict(new, return_std=True)[1], std)


@pytest.mark.parametrize(
    ("parameters", "tolerance"), [({"dtype": "float32"}, 0.2), ({"module": small_module}, 1.0)]
)
def test_precision_and_modules(parameters, tolerance):
    X, y = noisy(60)
    model = regressor(**parameters).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    assert std.dtype == mean.dtype
    _, reference = regressor().fit(X, y).predict(X, return_std=True)
    np.testing.assert_allclose(np.median(std), np.median(reference), rtol=tolerance)


def test_search_hands_on():
    X, y = noisy(60)
    search = AdaptedFlowRegressorCV((12,), ensemble=False, random_state=0).fit(X, y)
    mean, std = search.predict(X, return_std=True)
    expected = search.best_estimator_.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(std, expected[1])
    np.testing.assert_array_equal(mean, search.predict(X))


def test_of_an_ensemble_is_no_less_than_the_errors_of_its_members():
    X, y = noisy(60)
    grid = {"encodings": [None, "piecewise", "periodic"], "cv": 3}
    search = AdaptedFlowRegressorCV((12,), random_state=0, **grid).fit(X, y)
    assert len(search.estimators_) > 1
    mean, std = search.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, search.predict(X))
    each = np.array([member.predict(X, return_std=True)[1] for member in search.estimators_])
    squares = np.average(each**2, axis=0, weights=search.ensemble_weights_)
    np.testing.assert_allclose(std, np.sqrt(squares), rtol=1e-9)


def test_in_a_pipeline_with_names():
    X, y = noisy(40)
    frame = pd.DataFrame(X, columns=list("abc"))
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), regressor())
    mean, std = model.fit(frame, y).predict(frame, return_std=True)
    assert mean.shape == std.shape == (40,)


class TestSample:
    """Where one Gram does not hold all rows, some stand for them."""

    def fitted(self, **parameters):
        X, y = noisy(3000)
        model = AdaptedFlowRegressor((40,), batch_size=256, random_state=0, **parameters)
        return model.fit(X[:2500], y[:2500]), X[2500:], y[2500:]

    @pytest.mark.parametrize("parameters", [{}, {"alpha": 1.0}])
    def test_in_blocks(self, parameters):
        model, X, y = self.fitted(**parameters)
        assert model.X_train_.shape == (256, 3 * 13)  # each column with twelve ramps
        assert model.y_train_.shape == (256, 1)
        mean, std = model.predict(X, return_std=True)
        inside = np.abs(y - mean) <= 1.645 * std
        assert 0.85 <= inside.mean() <= 0.95
        np.testing.assert_allclose(np.median(std), 0.3, rtol=0.15)
        _, far = model.predict(8 * X, return_std=True)
        assert np.median(far) > np.median(std)

    def test_in_the_full_batch_with_fewer_parameters_than_rows(self):
        X, y = noisy(2500)
        model = AdaptedFlowRegressor((6,), random_state=0).fit(X, y)
        assert len(model.kernel_rows_) == 2500
        assert len(model.X_train_) == 256
        mean, std = model.predict(X, return_std=True)
        inside = np.abs(y - mean) <= 1.645 * std
        assert 0.85 <= inside.mean() <= 0.95

    def test_weights(self):
        X, y = noisy(2500)
        y = np.where(X[:, 0] > 0, y, 50.0)
        weights = np.where(X[:, 0] > 0, 1.0, 1e-3)
        model = AdaptedFlowRegressor((20,), random_state=0).fit(X, y, sample_weight=weights)
        assert model._kept.data.weights.shape == (256,)
        assert np.isfinite(model.predict(X, return_std=True)[1]).all()

    def test_many_outputs_keep_fewer_rows(self):
        X, y = noisy(400)
        Y = y[:, None] + np.arange(10)
        model = AdaptedFlowRegressor((20,), random_state=0, batch_size=100).fit(X, Y)
        assert len(model.X_train_) == 200
        assert model.predict(X[:7], return_std=True)[1].shape == (7, 10)

    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    def test_chunks_stand_for_all_rows_up_to_now(self):
        X, y = noisy(600)
        model = AdaptedFlowRegressor((20,), alpha=1.0, scale_inputs=False, random_state=0)
        for start in (0, 200, 400):
            rows = slice(start, start + 200)
            model.partial_fit(X[rows], y[rows])
        np.testing.assert_array_equal(np.sort(model.X_train_, axis=0), np.sort(X[400:], axis=0))
        assert model._kept.n_train == 600
        _, std = model.predict(X, return_std=True)
        assert 0.2 < np.median(std) < 0.8
        assert model.fit(X, y)._kept.n_train == 600


def test_errors():
    X, y = table()
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        regressor().predict(X, return_std=True)
    model = regressor().fit(X, y)
    with pytest.raises(ValueError, match="is expecting 3 features as input"):
        model.predict(X[:, :2], return_std=True)
