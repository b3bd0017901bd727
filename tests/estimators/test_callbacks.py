"""A diagnostic is one maker: what hangs on every flow is a column of every fit."""

import numpy as np
import pytest

from sklearn_gflow.dynamics import Callback
from sklearn_gflow.estimators import _training
from tests.estimators.held import WAYS, each_kind, each_way, example, partial_fit, plain


class Length(Callback):
    """|θ| at every point."""

    def start(self, event):
        return {"length": float(event.point.theta.norm())}

    step = start


@pytest.fixture
def occasions(monkeypatch):
    """Adds the one line, and notes what the maker was told."""
    told = []

    def length(occasion):
        told.append(occasion)
        return Length()

    monkeypatch.setattr(_training, "CALLBACKS", (*_training.CALLBACKS, length))
    return told


@pytest.mark.slow
@each_way
@each_kind
def test_one_maker_is_a_column_of_every_fit(kind, way, occasions):
    make, parameters, call = WAYS[way]
    model = make(kind, **parameters)
    call(model, *example(model))
    flow = getattr(model, "best_estimator_", model)
    column = flow.history_["length"]
    assert column.shape == flow.history_["t"].shape
    assert (column > 0).all()
    assert len(np.unique(column)) > 1
    solution = np.flatnonzero(flow.history_["t"] == flow.t_)[-1]
    assert column[solution] == pytest.approx(np.linalg.norm(flow._network.theta), rel=1e-6)
    full_batch = "blocks" not in way and way != "partial_fit"
    assert {occasion.whole for occasion in occasions} == {full_batch}
    assert occasions[0].settings.given["hidden_layer_sizes"] == (4,)


@each_kind
def test_chunks_append_to_the_column(kind, occasions):
    model = plain(kind, batch_size=8)
    X, y = example(model)
    first = partial_fit(model, X, y).history_["length"]
    later = partial_fit(model, X, y).history_["length"]
    np.testing.assert_array_equal(later[: len(first)], first)
    assert len(later) == model.n_iter_ + 1 == len(first) + 1


@each_kind
def test_a_column_that_comes_later_has_no_past(kind, request):
    model = plain(kind, batch_size=8)
    X, y = example(model)
    partial_fit(model, X, y)
    request.getfixturevalue("occasions")
    partial_fit(model, X, y)
    assert np.isnan(model.history_["length"]).tolist() == [True, True, False]


@pytest.mark.slow
@each_way
@each_kind
def test_a_maker_may_have_nothing_to_say(kind, way, monkeypatch):
    make, parameters, call = WAYS[way]
    model = make(kind, **parameters)
    X, y = example(model)
    expected = call(model, X, y).predict(X)
    makers = (*_training.CALLBACKS, lambda occasion: None)
    monkeypatch.setattr(_training, "CALLBACKS", makers)
    other = make(kind, **parameters)
    np.testing.assert_array_equal(call(other, X, y).predict(X), expected)


@each_kind
def test_stripped_of_callbacks_a_fit_is_the_same(kind, monkeypatch):
    model = plain(kind)
    X, y = example(model)
    expected = model.fit(X, y).predict(X)
    monkeypatch.setattr(_training, "CALLBACKS", ())
    bare = plain(kind).fit(X, y)
    np.testing.assert_allclose(bare.predict(X), expected, rtol=1e-9)
    for name in ("deviation", "predicted_deviation", "ntk_drift"):
        assert np.isnan(bare.history_[name]).all()
