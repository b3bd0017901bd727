"""What rounding decides: estimates against fits whose inputs differ in their last bits."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.preprocessing import scale

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.diagnostics import Sensitivity
from sklearn_gflow.dynamics import Adaptive, FlowOptions, flow
from sklearn_gflow.exceptions import ConvergenceWarning
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError

EPS = np.finfo(float).eps
TOLD = "Rounding decides this fit: .* Raise damping"
x = np.arange(0, 20, 0.25)[:, None]
TABLES = {
    AdaptedFlowRegressor: (scale(x), np.sin(x[:, 0])),
    AdaptedFlowClassifier: (
        scale((moons := make_moons(60, noise=0.2, random_state=0))[0]),
        moons[1],
    ),
}
SETTINGS = [
    {},
    {"alpha": 0.0},
    {"alpha": 1.0},
    {"damping": 0.0, "max_iter": 150},
    {"damping": 1e-6},
    {"damping": 1e-3},
    {"alpha": 1.0, "damping": 1e-3},
    {"dtype": "float32"},
]


def fitted(estimator, k, **parameters):
    """A fit of inputs whose last bits are moved, but for k = 0; its warnings; its predictions."""
    X, y = TABLES[estimator]
    bits = np.random.default_rng(k).integers(-2, 3, size=X.shape) * (k > 0)
    X = X * (1 + EPS * bits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = estimator((16,), random_state=0, **parameters).fit(X, y)
    told = [str(one.message) for one in caught]
    ask = model.predict if estimator is AdaptedFlowRegressor else model.predict_proba
    return model, any("Rounding decides" in message for message in told), ask(X + 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", TABLES)
@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_what_moves_by_a_hundredth_warns(estimator, parameters):
    model, warned, predicted = fitted(estimator, 0, **parameters)
    moved = np.abs(fitted(estimator, 1, **parameters)[2] - predicted).max()
    if moved > 0.01 * np.ptp(predicted):
        assert warned
    estimates = model.history_["sensitivity"]
    assert estimates[0] == 0
    assert (np.diff(estimates) >= 0).all()
    assert warned == (estimates[-1] > (5e-2 if "dtype" in parameters else 2e-3))
    # Something is known to warn, and something not to.
    assert {0.0: warned, 1e-3: not warned}.get(parameters.get("damping"), True)


@pytest.mark.parametrize("estimator", TABLES)
def test_defaults_are_determined(estimator):
    model, warned, _ = fitted(estimator, 0)
    assert not warned
    assert model.history_["sensitivity"][-1] < 1e-8


def test_the_warning_names_the_cure():
    X, y = TABLES[AdaptedFlowRegressor]
    with pytest.warns(ConvergenceWarning, match=TOLD):
        AdaptedFlowRegressor((16,), alpha=1.0, random_state=0).fit(X, y)


def test_blocks_and_integrators_know_none():
    X, y = TABLES[AdaptedFlowRegressor]
    for parameters in ({"batch_size": 20}, {"method": "RK45", "metric_scale": 1e3}):
        model = AdaptedFlowRegressor((8,), t_end=0.1, random_state=0, **parameters).fit(X, y)
        assert np.isnan(model.history_["sensitivity"][1:]).all()


def path(condition, *, alpha=1.0, solver="auto"):
    """A linear model whose G has a condition number, followed to t = 0.5."""
    values = np.geomspace(1, condition**-0.5, 8)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    X = torch.from_numpy(Q * values)
    network = LayeredNetwork((8, 1))
    theta = torch.zeros(network.n_params, dtype=torch.float64)
    targets = torch.ones(8, dtype=torch.float64)
    output_map = OutputMap(network, X)
    cost = SquaredError(targets, 8.0)
    watch = Sensitivity(cost, alpha)
    options = FlowOptions(alpha=alpha, solver=solver, metric_scale=1.0)
    return flow(output_map, cost, theta, Adaptive(math.log(2)), options, [watch])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_it_grows_with_the_condition_where_the_pseudoinverse_counts(alpha):
    found = [path(condition, alpha=alpha).extra["sensitivity"][-1] for condition in (1e8, 1e11)]
    assert (found[1] > 30 * found[0]) == (alpha == 1)


def test_a_decomposition_of_d_squares_nothing():
    squared, plain = (path(1e11, solver=one).extra["sensitivity"][-1] for one in ("eigh", "svd"))
    assert plain < squared / 3
