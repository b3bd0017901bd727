"""Modules of a user's own: what predicts is what was trained, or they are refused in words."""

import copy
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from tests.estimators.data import classes, table
from tests.modules import ANOTHER, REFUSED, TRAINED, Factory, between, features

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
SHORT = {"t_end": 0.5, "random_state": 0}
X, Y = table(20)


def fit(module, **parameters):
    return AdaptedFlowRegressor(module=module, **{**SHORT, **parameters}).fit(X, Y)


def test_registry_has_sixty_kinds():
    assert len(TRAINED) + len(REFUSED) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", TRAINED)
def test_what_predicts_is_what_was_trained(kind, dtype):
    before = torch.random.get_rng_state()
    model = fit(TRAINED[kind], dtype=dtype)
    # Targets have the variance 1, and the loss is half of what is left of it.
    assert 1 - model.score(X, Y) == pytest.approx(2 * model.loss_, rel=1e-4)
    assert model.loss_ < model.loss_curve_[0]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_in_words(kind):
    module, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        fit(module)


def test_a_scripted_part_is_trained():
    assert fit(lambda n, q: nn.Sequential(torch.jit.script(nn.Linear(n, 4)), nn.Linear(4, q)))


def test_products_with_d_where_there_is_no_second_derivative():
    with pytest.raises(ValueError, match="layer without a second derivative"):
        fit(TRAINED["attention"], solver="krylov")


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["plain", "non-persistent buffer"])
def test_features_drawn_for_two_seeds_differ_and_are_kept(keep):
    one, other = (fit(features(keep), random_state=seed) for seed in (0, 1))
    assert np.abs(one.predict(X) - other.predict(X)).max() > 1e-3
    for model in (one, other):
        np.testing.assert_array_equal(clone(model).fit(X, Y).predict(X), model.predict(X))


def test_the_users_net_stays_as_it_is():
    net = between(nn.Tanh)(3, 1).train()
    before = copy.deepcopy(net.state_dict())
    model = fit(lambda n, q: net)
    model.predict(X)
    assert net.training
    assert net[0].weight.dtype == torch.float32
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    predicted = model.predict(X)
    with torch.no_grad():
        net[0].weight.fill_(7.0)
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_a_callable_that_changes_after_the_fit_is_noticed():
    factor = [1.0]
    model = fit(lambda n, q: Scaled(n, q, factor))
    assert np.isfinite(model.predict(X)).all()
    factor[0] = 2.0
    with pytest.raises(ValueError, match=ANOTHER):
        model.predict(X)


class Scaled(nn.Linear):
    def __init__(self, n, q, factor):
        super().__init__(n, q)
        self.factor = factor[0]

    def forward(self, inputs):
        return super().forward(inputs) * self.factor


def test_tensors_that_are_no_longer_there_are_named():
    def make(n, q, calls):
        made = nn.Linear(n, q)
        made.register_buffer("extra", torch.zeros(calls))
        return made

    with pytest.raises(ValueError, match=r"fixed tensors extra \(2,\) now, and had extra \(1,\)"):
        fit(Factory(make))


def test_default_dtype_between_fit_and_predict():
    model = fit(features("plain"))
    predicted = model.predict(X)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        np.testing.assert_array_equal(model.predict(X), predicted)
        np.testing.assert_array_equal(fit(between(nn.Tanh)).predict(X), fit64().predict(X))
    finally:
        torch.set_default_dtype(default)


def fit64():
    """The fit under the ordinary default, whatever it is outside."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float32)
        return fit(between(nn.Tanh))
    finally:
        torch.set_default_dtype(default)


@pytest.mark.slow
def test_threads_are_as_one_and_leave_the_generator():
    def run(place, found):
        found[place] = fit(TRAINED["plain tensor"], random_state=place).predict(X)

    serial, parallel = [None] * 4, [None] * 4
    for place in range(4):
        run(place, serial)
    before = torch.random.get_rng_state()
    threads = [threading.Thread(target=run, args=(place, parallel)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(parallel, serial)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_classifier_with_kept_features(loss):
    inputs, y = classes(24)
    model = AdaptedFlowClassifier(module=features("plain"), loss=loss, **SHORT).fit(inputs, y)
    assert model.score(inputs, y) > 0.6
    chunks = AdaptedFlowClassifier(module=features("plain"), loss=loss, **SHORT)
    for start in (0, 12):
        chunks.partial_fit(inputs[start : start + 12], y[start : start + 12], classes=[0, 1, 2])
    again = copy.deepcopy(chunks)
    np.testing.assert_array_equal(again.predict_proba(inputs), chunks.predict_proba(inputs))


def test_going_on_keeps_the_features_of_the_first_fit():
    model = AdaptedFlowRegressor(module=features("plain"), warm_start=True, t_end=0.3).fit(X, Y)
    loss = model.loss_
    model.set_params(random_state=5).fit(X, Y)  # another seed would draw other features
    assert model.loss_ < loss
    assert 1 - model.score(X, Y) == pytest.approx(2 * model.loss_, rel=1e-6)
