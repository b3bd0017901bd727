"""Fitted state is written at once or not at all: what is wrong changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from sklearn.base import is_classifier

from sklearn_gflow.estimators import _base, _memory
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.estimators.held import (
    WAYS,
    Unchanged,
    each_kind,
    each_way,
    example,
    fit,
    hold,
    partial_fit,
    plain,
    search,
)

# Entries are made so large that columns off their scale are warned of as well.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The columns .* more than 100 times:UserWarning"),
]


def huge(X, y):
    X[3, 1] = 1e200
    return X, y


def infinite(X, y):
    X[3, 1] = np.inf
    return X, y


def as_it_is(X, y):
    return X, y


@dataclass
class Fault:
    """How to go wrong, and what is said."""

    message: str
    data: Callable[..., Any] = as_it_is
    parameters: dict[str, Any] = field(default_factory=dict)
    error: type[Exception] = ValueError


FAULTS = {
    "entry": Fault("Scale the features", huge),
    "infinity": Fault("Input X contains infinity", infinite),
    "targets": Fault("inconsistent numbers of samples", lambda X, y: (X, y[:-1])),
    "network": Fault("hidden_layer_sizes must hold", parameters={"hidden_layer_sizes": (5, -1)}),
    "range": Fault("'tol' parameter", parameters={"tol": -1.0}),
}


@each_way
@each_kind
@pytest.mark.parametrize("name", FAULTS)
def test_faults_that_are_reported(kind, way, name):
    make, parameters, call = WAYS[way]
    fault = FAULTS[name]
    model = make(kind, **parameters)
    call(model, *example(model))
    X, y = fault.data(*(array.copy() for array in example(model)))
    inputs = X.copy(), y.copy()
    model.set_params(**fault.parameters)
    hold(model, lambda m: call(m, X, y), fault.error, fault.message)
    for array, old in zip((X, y), inputs, strict=True):
        np.testing.assert_array_equal(array, old)


@each_way
@each_kind
def test_weights_that_are_negative(kind, way):
    make, parameters, _ = WAYS[way]
    model = make(kind, **parameters)
    X, y = example(model)
    weights = np.linspace(-1, 1, len(y))
    method = {"partial_fit": "partial_fit"}.get(way, "fit")
    known = {"classes": np.unique(y)} if is_classifier(model) and way == "partial_fit" else {}
    getattr(model, method)(X, y, **known)
    hold(
        model,
        lambda m: getattr(m, method)(X, y, sample_weight=weights, **known),
        ValueError,
        "sample_weight has negative values",
    )


@each_way
@each_kind
def test_gram_that_does_not_fit(kind, way, monkeypatch):
    make, parameters, call = WAYS[way]
    model = make(kind, **parameters)
    X, y = example(model)
    call(model, X, y)
    monkeypatch.setattr(_memory, "available_bytes", lambda device: 100)
    hold(model, lambda m: call(m, X, y), MemoryError, "bytes are available on cpu")


@each_kind
@pytest.mark.parametrize("method", [fit, partial_fit])
def test_schedule_that_goes_back(kind, method):
    model = method(plain(kind), *example(plain(kind))).set_params(schedule=[0.4, 0.2])
    hold(model, lambda m: method(m, *example(m)), ValueError, "schedule must be an increasing")


@pytest.mark.parametrize(
    "way", ["fit", "partial_fit", "search by leave-one-out", "search by folds"]
)
def test_weights_of_classes(way):
    make, parameters, call = WAYS[way]
    model = make("classifier", **parameters)
    call(model, *example(model))
    model.set_params(class_weight={0: 1.0, 1: 0.0, 2: 1.0})
    hold(model, lambda m: call(m, *example(m)), ValueError, "class_weight must be positive")


@each_kind
def test_grid_out_of_range(kind):
    model = search(kind)
    X, y = example(model)
    model.fit(X, y).set_params(alphas=[0.5, 2.0])
    hold(model, lambda m: m.fit(X, y), ValueError, "alphas must hold numbers")


@pytest.mark.parametrize("method", [fit, partial_fit])
def test_another_number_of_outputs(method):
    model = plain("regressor", warm_start=True)
    X, y = example(model)
    unchanged = Unchanged(method(model, X, y), X)
    with pytest.raises(ValueError, match="which had 1 outputs, and y has 2"):
        method(model, X, np.stack([y, y], axis=1))
    unchanged.check()


def test_labels_that_are_not_known():
    model = plain("classifier", warm_start=True)
    X, y = example(model)
    unchanged = Unchanged(model.fit(X, y), X)
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="needs the classes of the last fit"):
        model.fit(X, y + 1)
    unchanged.check()


# Leave-one-out stops by itself, and a chunk has one step.
@pytest.mark.parametrize(
    "way", [way for way in WAYS if way not in ("fit with leave-one-out", "partial_fit")]
)
@each_kind
def test_warning_that_is_an_error(kind, way):
    make, parameters, call = WAYS[way]
    model = make(kind, **parameters)
    X, y = example(model)
    call(model, X, y).set_params(max_iter=1, tol=0.0, damping=0.0)
    if make is search:  # one pair, so that no shorter path can win
        model.set_params(alphas=(0.5,), t_ends=(0.999,))
    hold(model, lambda m: call(m, X, y), ConvergenceWarning, "Raise max_iter")


@each_kind
def test_warning_of_a_chunk_that_is_an_error(kind, monkeypatch):
    model = plain(kind, batch_size=8)
    partial_fit(model, *example(model))
    monkeypatch.setattr(_base, "incomplete", lambda trained: "a chunk diverged")
    hold(model, lambda m: partial_fit(m, *example(m)), ConvergenceWarning, "a chunk diverged")


@each_way
@each_kind
def test_what_comes_after_a_failure_is_as_if_there_had_been_none(kind, way):
    make, parameters, call = WAYS[way]
    model, other = make(kind, **parameters), make(kind, **parameters)
    X, y = example(model)
    call(model, X, y)
    with pytest.raises(ValueError, match="Scale the features"):
        call(model, *huge(X.copy(), y))
    call(call(other, X, y), X, y)
    np.testing.assert_array_equal(call(model, X, y).predict(X), other.predict(X))


@each_kind
def test_one_fit_leaves_nothing_to_the_next(kind):
    """Attributes that only some fits have go with them; what users put there stays."""
    model = plain(kind, early_stopping=True, validation_fraction=0.3)
    X, y = example(model)
    model.fit(X, y)
    model.note = "mine"
    names = set(vars(model))
    model.set_params(early_stopping="loo").fit(X, y)
    assert names - set(vars(model)) == {"validation_scores_", "best_validation_score_"}
    assert set(vars(model)) - names == {"loo_times_", "loo_scores_", "loo_losses_"}
    assert model.note == "mine"


@each_kind
def test_names_of_columns_go_with_their_fit(kind):
    frames = pytest.importorskip("pandas")
    model = plain(kind)
    X, y = example(model)
    model.fit(frames.DataFrame(X, columns=["a", "b", "c"]), y)
    with pytest.raises(ValueError, match="Scale the features"):
        model.fit(huge(X.copy(), y)[0], y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert not hasattr(model.fit(X, y), "feature_names_in_")
