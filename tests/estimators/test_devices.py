"""Fits on a device: the numbers of the CPU, and no trips of arrays to the host on the way."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, make_friedman1

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.geometry import triangles
from tests.elsewhere import NAME, Machine

TIMES = [0.2, 0.4, 0.6, 0.8, 0.95]
pytestmark = pytest.mark.slow

# How far predictions may differ, in parts of the range of y, and how many numbers are read in a
# step: of its error, of the factor, of the loss, and of Krylov spaces whether they have converged.
FULL = {
    "default": ({}, 1e-9, 40),
    "adapted": ({"alpha": 1.0, "damping": 0.0}, 1e-9, 40),
    "undamped": ({"alpha": 0.5, "damping": 0.0}, 1e-6, 60),
    "eigenvectors": ({"solver": "eigh"}, 1e-9, 40),
    "svd": ({"solver": "svd"}, 1e-9, 40),
    "single precision": ({"dtype": "float32"}, 1e-4, 40),
    "without a matrix": ({"solver": "krylov"}, 1e-5, 80),
    "huber": ({"loss": "huber"}, 1e-9, 80),
}


def numbers():
    return make_friedman1(100, n_features=5, noise=1.0, random_state=0)


def labels():
    return load_iris(return_X_y=True)


def small_module(n_features, n_outputs):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, 20), torch.nn.Tanh(), torch.nn.Linear(20, n_outputs)
    )


def asked(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


def fitted_elsewhere(estimator, X, y):
    """(predictions, trips of arrays, numbers that were read) of a fit on the device."""
    with Machine(smallest=len(X)) as machine:
        model = estimator.set_params(device=NAME).fit(X, y)
        found = asked(model, X)
    return found, machine.arrays.total(), machine.reads.total()


class TestFullBatch:
    @pytest.fixture(params=FULL)
    def case(self, request):
        return FULL[request.param]

    def test_the_same_numbers_as_on_the_cpu(self, case):
        parameters, tolerance, _ = case
        X, y = numbers()
        model = AdaptedFlowRegressor((40,), random_state=0, schedule=TIMES, **parameters)
        expected = model.fit(X, y).predict(X)
        found, *_ = fitted_elsewhere(model, X, y)
        assert np.abs(found - expected).max() < tolerance * np.ptp(y)

    def test_no_array_travels_in_a_step(self, case):
        """As many trips, however many steps; and few numbers are read in each."""
        parameters, _, most = case
        X, y = numbers()
        trips, reads, steps = [], [], [3, 5]
        for n_steps in steps:
            model = AdaptedFlowRegressor(
                (40,), random_state=0, schedule=TIMES[:n_steps], **parameters
            )
            _, *(arrays, read) = fitted_elsewhere(model, X, y)
            trips.append(arrays)
            reads.append(read)
        assert trips[0] == trips[1]
        assert reads[1] - reads[0] <= most * (steps[1] - steps[0])


class TestBlocks:
    @pytest.mark.parametrize(
        ("estimator", "table", "most"),
        [(AdaptedFlowRegressor, numbers, 5), (AdaptedFlowClassifier, labels, 5)],
    )
    def test_a_block_is_read_for_a_few_numbers(self, estimator, table, most):
        """Its loss, the trace of its Gram twice, and whether two factors are finite."""
        X, y = table()
        trips, reads, n_blocks = [], [], [2, 5]
        for count in n_blocks:
            model = estimator(
                (40,), random_state=0, batch_size=len(X) // count, schedule=[0.5, 0.8]
            )
            model.fit(X, y)
            expected = asked(model, X)
            found, arrays, read = fitted_elsewhere(model, X, y)
            assert np.abs(found - expected).max() < 1e-3 * np.ptp(expected)
            trips.append(arrays)
            reads.append(read)
        assert trips[0] == trips[1]
        assert reads[1] - reads[0] <= most * 2 * (n_blocks[1] - n_blocks[0])


WAYS = {
    **{name: (parameters, tolerance) for name, (parameters, tolerance, _) in FULL.items()},
    "jitter": ({"solver": "cholesky", "alpha": 1.0, "damping": 0.0}, 1e-6),
    "poisson": ({"loss": "poisson"}, 1e-6),
    "blocks": ({"batch_size": 30}, 1e-2),
    "early stopping": ({"early_stopping": True}, 1e-8),
    "leave-one-out": ({"early_stopping": "loo"}, 1e-8),
    "module": ({"module": small_module}, 1e-8),
    "encoded": ({"encoding": "piecewise"}, 1e-8),
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    """The same on a device that is there: every way that a fit can go."""

    @pytest.mark.parametrize("way", WAYS)
    def test_numbers(self, way):
        parameters, tolerance = WAYS[way]
        X, y = numbers()
        found = {}
        for device in ("cpu", "cuda"):
            model = AdaptedFlowRegressor(
                (40,), random_state=0, schedule=TIMES,
                device=device, **parameters,
            )  # fmt: skip
            found[device] = model.fit(X, y).predict(X)
        assert np.abs(found["cuda"] - found["cpu"]).max() < tolerance * np.ptp(y)

    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    @pytest.mark.parametrize("batch_size", [None, 30])
    def test_labels(self, loss, batch_size):
        X, y = labels()
        found = {}
        for device in ("cpu", "cuda"):
            model = AdaptedFlowClassifier(
                (40,), random_state=0, device=device, loss=loss, batch_size=batch_size
            )
            found[device] = model.fit(X, y).decision_function(X)
        assert np.abs(found["cuda"] - found["cpu"]).max() < 1e-2 * np.ptp(found["cpu"])

    def test_what_a_fitted_model_says(self):
        X, y = numbers()
        models = [
            AdaptedFlowRegressor((40,), random_state=0, device=device).fit(X, y)
            for device in ("cpu", "cuda")
        ]
        for ask in (
            lambda model: model.predict(X, return_std=True)[1],
            lambda model: model.explain(X[:5]),
            lambda model: model.predict_interval(X[:5]),
            lambda model: model.gradient(X[:5]),
            lambda model: model.feature_importances_,
            lambda model: pickle.loads(pickle.dumps(model)).predict(X),
        ):
            expected, found = map(ask, models)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.ptp(y))

    def test_a_search(self):
        X, y = numbers()
        found = [
            AdaptedFlowRegressorCV((20,), random_state=0, device=device).fit(X, y).predict(X)
            for device in ("cpu", "cuda")
        ]
        assert np.abs(found[1] - found[0]).max() < 1e-6 * np.ptp(y)

    def test_refined_factors(self, monkeypatch):
        """As on a device with slow float64."""
        X, y = numbers()
        expected = AdaptedFlowRegressor((40,), random_state=0).fit(X, y).predict(X)
        monkeypatch.setattr(triangles, "_LARGE", 50)
        monkeypatch.setattr(triangles, "double_is_slow", lambda device: device.type == "cuda")
        found = AdaptedFlowRegressor((40,), random_state=0, device="cuda").fit(X, y).predict(X)
        assert np.abs(found - expected).max() < 1e-9 * np.ptp(y)
