"""Columns that are stretched by default: before a flow over blocks without a given end."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from torch import nn

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor, load, save
from sklearn_gflow.estimators import _rescaling
from sklearn_gflow.estimators._settings import SMOOTH_START
from sklearn_gflow.estimators._training import Training
from tests.estimators.data import ESTIMATORS

pytestmark = pytest.mark.slow


def rows(estimator=AdaptedFlowRegressor, n=1000):
    """The target turns quickly in the first column, is smooth in the second, and knows no other."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 5))
    y = np.sin(8 * X[:, 0]) + X[:, 1] + 0.05 * rng.normal(size=n)
    return X, (y > 0).astype(int) if estimator is AdaptedFlowClassifier else y


def small(estimator=AdaptedFlowRegressor, **parameters):
    given = {"random_state": 0, "batch_size": 100, "max_iter": 3, **parameters}
    return estimator(**{"hidden_layer_sizes": (16,), **given})


def alike(one, other, X):
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "given",
    [
        {"batch_size": "auto"},
        {"t_end": 0.5},
        {"schedule": 2},
        {"early_stopping": "loo", "damping": 0.1, "loss": "squared_error"},
        {"hidden_layer_sizes": ()},
    ],
    ids=str,
)
def test_nothing_is_stretched_before_other_flows(estimator, given):
    X, y = rows(estimator)
    model = small(estimator, **{"max_iter": 500, **given}).fit(X, y)
    assert model.rescalings_ == 0
    assert model._inputs.factors is None
    alike(clone(model).set_params(rescalings=0).fit(X, y), model, X)


def test_nor_of_few_rows_chunks_and_modules():
    X, y = rows()
    assert small(max_iter=500).fit(X[:999], y[:999]).rescalings_ == 0
    assert small().partial_fit(X, y).rescalings_ == 0
    assert small(module=_network).fit(X, y).rescalings_ == 0


def _network(n_features, n_outputs):
    return nn.Sequential(nn.Linear(n_features, 3), nn.Tanh(), nn.Linear(3, n_outputs))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_by_default_it_is_once(estimator):
    X, y = rows(estimator)
    model = small(estimator).fit(X, y)
    assert model.rescalings_ == 1
    alike(clone(model).set_params(rescalings=1).fit(X, y), model, X)
    assert (clone(model).set_params(rescalings=0).fit(X, y).predict(X) != model.predict(X)).any()


def test_draws_of_a_generator_are_those_of_a_given_number():
    X, y = rows()
    seed = np.random.RandomState(0)
    one, other = small(random_state=copy.deepcopy(seed)), small(random_state=seed, rescalings=1)
    alike(one.fit(X, y), other.fit(X, y), X)
    assert one.random_state.randint(2**31) == other.random_state.randint(2**31)


def test_columns_that_do_nothing_shrink_and_keep_a_share():
    X, y = rows(n=2000)
    model = small(hidden_layer_sizes=(100,), scale_inputs=False).fit(X, y)
    factors, variances = model._inputs.factors, X.var(axis=0)
    assert factors[2:].max() < 0.7 < factors[1]
    assert (factors**2).min() > _rescaling._KEPT
    assert (factors**2 * variances).sum() == pytest.approx(variances.sum(), rel=0.05)  # of 2,000


def test_a_column_in_which_the_target_turns_quickly_is_found_from_a_rough_start(monkeypatch):
    X, y = rows(n=2000)
    model = small(hidden_layer_sizes=(100,), max_iter=1, encoding=None).fit(X, y)
    rough = model._inputs.factors
    monkeypatch.setattr(_rescaling, "_ROUGH_START", SMOOTH_START)
    smooth = model.fit(X, y)._inputs.factors
    assert rough[0] / rough[1] > 1.5 * smooth[0] / smooth[1]


def test_the_flow_that_stretches_is_short_and_over_some_rows(monkeypatch):
    X, y = rows(AdaptedFlowClassifier, 1200)
    seen, until = [], Training.until

    def watched(self, *args, **kwargs):
        trained = until(self, *args, **kwargs)
        seen.append((len(self.data.X), len(self.labels), trained.trajectory.n_steps))
        return trained

    monkeypatch.setattr(Training, "until", watched)
    monkeypatch.setattr(_rescaling, "_ROWS", 500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # few epochs were asked for, and the first flow has three
        model = small(AdaptedFlowClassifier, max_iter=1).fit(X, y)
    assert seen == [(500, 500, 3)]
    assert len(np.unique(model.predict(X))) == 2


def test_rows_held_out_are_stretched_too():
    X, y = rows(n=1400)
    model = small(early_stopping=True, max_iter=8).fit(X, y)
    assert model.rescalings_ == 1
    assert model.best_validation_score_ == pytest.approx(model.score(X, y), abs=0.1)


def test_a_fit_that_goes_on_keeps_its_columns():
    X, y = rows()
    model = small(warm_start=True).fit(X, y)
    factors = model._inputs.factors
    model.fit(X, y)
    assert model.rescalings_ == 1
    np.testing.assert_array_equal(model._inputs.factors, factors)


def test_what_stands_on_a_fit(tmp_path):
    X, y = rows()
    model = small(max_iter=20).fit(X, np.column_stack([y, X[:, 1]]))
    expected = model.predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), expected)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), expected)
    assert loaded.rescalings_ == 1
    assert model.feature_importances_[2:].max() < model.feature_importances_[:2].min()
    h = 1e-5 * np.eye(5)[0]
    slopes = (model.predict(X[:5] + h) - model.predict(X[:5] - h)) / 2e-5
    np.testing.assert_allclose(model.gradient(X[:5])[:, :, 0], slopes, rtol=1e-4, atol=1e-6)


def test_sparse_rows_are_stretched_as_dense_ones():
    X, y = rows()
    X = np.where(np.random.default_rng(1).random(X.shape) < 0.8, 0.0, X)
    model = small(scale_inputs=False)
    dense = clone(model).fit(X, y)
    model.fit(sparse.csr_array(X), y)
    assert model.rescalings_ == 1
    np.testing.assert_allclose(model._inputs.factors, dense._inputs.factors, rtol=1e-3)
