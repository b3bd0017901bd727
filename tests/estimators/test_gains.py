"""Networks with gains in an estimator."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import make_friedman1

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.geometry import GainNetwork


def build(n_features, n_outputs):
    return GainNetwork((n_features, 16, 12, n_outputs))


@pytest.fixture(scope="module")
def fitted():
    X, y = make_friedman1(250, n_features=8, noise=0.5, random_state=0)
    X = (X - 0.5) * 12**0.5
    model = AdaptedFlowRegressor(module=build, scale_inputs=False, random_state=0)
    return model.fit(X, y), X, y


def test_columns_that_matter_get_longer(fitted):
    gains = fitted[0].input_gains_
    assert gains[:5].min() > gains[5:].max()
    assert [len(of_layer) for of_layer in fitted[0].neuron_gains_] == [16, 12]


def test_what_is_shown_is_the_layered_network(fitted):
    model, X, _ = fitted

    def outputs(weights, biases):
        a = X
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            a = np.tanh(a @ W + b)
        return (a @ weights[-1] + biases[-1])[:, 0]

    moved = outputs(model.coefs_, model.intercepts_) - outputs(
        model.coefs_init_, model.intercepts_init_
    )
    predicted = model.predict(X)
    slope, level = np.polyfit(moved, predicted, 1)  # targets have a unit and a mean
    np.testing.assert_allclose(slope * moved + level, predicted, rtol=1e-8, atol=1e-8)


def test_it_goes_on_from_a_file(fitted):
    model, X, y = fitted
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    again.set_params(warm_start=True).fit(X, y)
    assert again.score(X, y) >= model.score(X, y) - 0.01
