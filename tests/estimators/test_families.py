"""Families of a user's own as ``module``: through every estimator, and in words where they fail."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.geometry import LayeredNetwork
from tests.estimators.data import classes, table
from tests.families import Ridges, example

REGRESSORS = [AdaptedFlowRegressor, AdaptedFlowRegressorCV]
CLASSIFIERS = [AdaptedFlowClassifier, AdaptedFlowClassifierCV]
PLAIN, SEARCHES = [REGRESSORS[0], CLASSIFIERS[0]], [REGRESSORS[1], CLASSIFIERS[1]]
each = pytest.mark.parametrize("estimator", REGRESSORS + CLASSIFIERS)


def scaled(n_features, n_outputs):
    """The example's family, in the size of these tables."""
    return example().ScaledInputs((n_features, 8, n_outputs))


def ridges(n_features, n_outputs):
    """A family of defaults only."""
    return Ridges(n_features, n_outputs)


def plain_network(n_features, n_outputs):
    return LayeredNetwork((n_features, 8, n_outputs))


def make(estimator, module=scaled, **parameters):
    grid = {"alphas": (0.0, 0.5), "t_ends": (0.5, 0.9)} if estimator in SEARCHES else {}
    return estimator(**{"module": module, "random_state": 0, **grid, **parameters})


def data(estimator, n=30):
    return table(n) if estimator in REGRESSORS else classes(n)


def flow_of(model):
    return getattr(model, "best_estimator_", model)


@each
class TestEveryEstimator:
    @pytest.mark.slow
    @pytest.mark.parametrize("module", [scaled, ridges])
    def test_learns_and_shows_its_parameters(self, estimator, module):
        X, y = data(estimator)
        model = make(estimator, module).fit(X, y)
        assert model.score(X, y) > 0.4
        flow = flow_of(model)
        if module is scaled:
            assert flow.input_scales_.shape == (3,)
            assert (flow.input_scales_ > 0).all()
            assert [W.shape for W in flow.coefs_] == [(3, 8), (8, flow.n_outputs_)]
            assert isinstance(flow.coefs_[0], np.ndarray)
        else:
            assert flow.parameters_["theta"].shape == (3 * flow.n_outputs_,)

    @pytest.mark.slow
    def test_pickle_and_clone(self, estimator):
        X, y = data(estimator)
        model = make(estimator).fit(X, y)
        stored = pickle.dumps(model)
        assert b"torch" not in stored
        np.testing.assert_array_equal(pickle.loads(stored).predict(X), model.predict(X))
        np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), model.predict(X))

    def test_other_number_of_outputs(self, estimator):
        message = r"module must make a family of \d outputs here, and made one of 7"
        with pytest.raises(ValueError, match=message):
            make(estimator, lambda n, q: LayeredNetwork((n, 7))).fit(*data(estimator))

    @pytest.mark.parametrize("made", ["net", None, 3, np.ones(3), LayeredNetwork, torch.nn.Linear])
    def test_what_is_no_family(self, estimator, made):
        message = r"module must be a callable \(n_features, n_outputs\) -> .*; it returned "
        with pytest.raises(TypeError, match=message):
            make(estimator, lambda n, q: made).fit(*data(estimator))

    @pytest.mark.parametrize("module", [3, "net", torch.ones(2)])
    def test_what_is_no_callable(self, estimator, module):
        message = f"The 'module' parameter of {estimator.__name__} must be a callable or None"
        with pytest.raises(ValueError, match=message):
            make(estimator, module).fit(*data(estimator))

    def test_other_number_of_features(self, estimator):
        class Wide(LayeredNetwork):
            def outputs(self, theta, X):
                return super().outputs(theta, X).T

        with pytest.raises(ValueError, match="module must map inputs of shape"):
            make(estimator, lambda n, q: Wide((n, 4, q))).fit(*data(estimator))


@pytest.mark.parametrize("estimator", PLAIN)
class TestPlain:
    @pytest.mark.slow
    @pytest.mark.parametrize("module", [scaled, ridges])
    def test_blocks_and_chunks(self, estimator, module):
        X, y = data(estimator, 60)
        blocks = make(estimator, module, batch_size=15).fit(X, y)
        chunks = make(estimator, module)
        first = () if estimator in REGRESSORS else (np.unique(y),)
        for _ in range(4):
            for start in (0, 30):
                chunks.partial_fit(X[start : start + 30], y[start : start + 30], *first)
        for model in (blocks, chunks):
            assert model.score(X, y) > 0.5
            assert np.isfinite(model.ntk_gram_).all()

    def test_kernel_is_that_of_the_family(self, estimator):
        X, y = data(estimator)
        model = make(estimator).fit(X, y)
        np.testing.assert_allclose(model.ntk(X), model.ntk_gram_, rtol=1e-9, atol=1e-12)
        family = scaled(3, model.n_outputs_)
        theta = torch.from_numpy(model._network.theta)
        expected = family.linearize(theta, torch.from_numpy(X)).gram()
        np.testing.assert_allclose(model.ntk_gram_, expected, rtol=1e-12)

    def test_a_layered_family_is_the_network_that_parameters_build(self, estimator):
        X, y = data(estimator)
        by_module = make(estimator, plain_network, init_scale=0.3).fit(X, y)
        by_name = estimator((8,), random_state=0, init_scale=0.3, scale_inputs=False).fit(X, y)
        np.testing.assert_array_equal(by_module.predict(X), by_name.predict(X))

    def test_warm_start_and_another_family(self, estimator):
        X, y = data(estimator)
        model = make(estimator, warm_start=True).fit(X, y)
        before = model.loss_
        assert model.fit(X, y).loss_ < before
        with pytest.raises(ValueError, match="warm_start=True continues from the last fit, but"):
            model.set_params(module=ridges).fit(X, y)

    def test_leave_one_out_and_held_out(self, estimator):
        X, y = data(estimator, 60)
        for stopping in ("loo", True):
            model = make(estimator, early_stopping=stopping, validation_fraction=0.3).fit(X, y)
            assert model.score(X, y) > 0.6


@pytest.mark.slow
def test_standard_errors_and_integrators():
    X, y = table(20)
    model = make(AdaptedFlowRegressor).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    assert (std > 0).all()
    assert r2_score(y, mean) == model.score(X, y)
    parameters = {"damping": 0.1, "t_end": 0.5, "init_scale": 1.0}
    exponential = make(AdaptedFlowRegressor, **parameters, schedule=200).fit(X, y)
    classical = make(AdaptedFlowRegressor, **parameters, method="RK45").fit(X, y)
    np.testing.assert_allclose(exponential.predict(X), classical.predict(X), atol=5e-3)
