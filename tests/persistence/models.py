"""Fitted models of every kind, and all that one says: what is read again must say the same."""

from dataclasses import fields, is_dataclass
from functools import cache

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.model_selection import KFold

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    FrequentValueEncoder,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)
from tests.estimators.data import classes, example, small, table

N_LEVELS = 110


def frame(n=160, *, seed=0):
    """Numbers with gaps, categories, strings with None, truth values, and many levels."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    many = rng.permutation(np.arange(n) % N_LEVELS)
    X = pd.DataFrame(
        {
            "size": np.where(rng.uniform(size=n) < 0.1, np.nan, size),
            "count": rng.integers(0, 20, n),
            "kind": pd.Categorical(np.array(["a", "b", "ü"])[rng.integers(0, 3, n)]),
            "colour": np.array(["red", "blue", None], dtype=object)[rng.integers(0, 3, n)],
            "code": pd.Categorical(rng.integers(0, 4, n)),
            "flag": rng.uniform(size=n) < 0.5,
            "place": np.array([f"place {k}" for k in many], dtype=object),
        }
    )
    return X, size + (X["kind"] == "a") + np.sin(many)


def _regressor(X=None, y=None, sample_weight=None, **parameters):
    X, y = table() if X is None else (X, y)
    return small(AdaptedFlowRegressor, **parameters).fit(X, y, sample_weight), X


def _classifier(labels, **parameters):
    X, index = classes(n_classes=len(labels))
    y = np.array(labels)[index]
    return small(AdaptedFlowClassifier, **parameters).fit(X, y), X


def _framed(estimator, **parameters):
    X, y = frame()
    if issubclass(estimator, AdaptedFlowClassifier):
        y = np.where(y > 0, "yes", "no").astype(object)
    return small(estimator, **parameters).fit(X, y), X


def _searched(estimator, X, y, **parameters):
    given = {"alphas": [0.5], "random_state": 0, **parameters}
    return estimator((6,), **given).fit(X, y), X


def _several():
    X, y = table(30)
    Y = np.column_stack([y, X[:, 1]])
    weights = 1.0 + np.arange(30) % 3
    return _regressor(X, Y, weights, early_stopping=True, store_path=True)


def _chunks():
    X, y = table(30)
    model = small(AdaptedFlowRegressor, encoding="piecewise", batch_size=10)
    for rows in (slice(0, 15), slice(15, 30)):
        model.partial_fit(X[rows], y[rows])
    return model, X


def _transformer(transformer, X, y=None):
    return transformer.fit(X, y), X


MODELS = {
    "regressor": lambda: _regressor(store_path=True),
    "linear": lambda: _regressor(hidden_layer_sizes=(), alpha=1),
    "several outputs": _several,
    "float32": lambda: _regressor(dtype="float32", encoding="piecewise"),
    "poisson": lambda: _regressor(np.arange(20.0)[:, None], np.arange(20), loss="poisson"),
    "quantile": lambda: _regressor(loss="quantile", quantile=0.3),
    "periodic": lambda: _regressor(*table(40), encoding="periodic", rescalings=1),
    "stretched twice": lambda: _regressor(*table(40), encoding="piecewise", rescalings=2),
    "unscaled": lambda: _regressor(*table(40), encoding="piecewise", scale_inputs=False),
    "leave-one-out": lambda: _regressor(*table(30), early_stopping="loo"),
    "chunks": _chunks,
    "mean of networks": lambda: _regressor(*table(40), batch_size=16, n_members=2),
    "seed of numpy": lambda: _regressor(random_state=np.int64(3), alpha=np.float32(0.5)),
    "infinite parameter": lambda: _regressor(damping=np.nextafter(0, 1)),
    "frame": lambda: _framed(AdaptedFlowRegressor),
    "truth values": lambda: _classifier([False, True]),
    "strings": lambda: _classifier(["a", "bé", "ccc"], class_weight={"a": 1.0, "bé": 2, "ccc": 3}),
    "objects": lambda: _framed(AdaptedFlowClassifier),
    "integers": lambda: _classifier([3, 5, 7], loss="log_loss", store_path=True),
    "numbers": lambda: _classifier([0.0, 1.0]),
    "search": lambda: _searched(AdaptedFlowRegressorCV, *table(60)),
    "search over a frame": lambda: _searched(AdaptedFlowRegressorCV, *frame()),
    "search by folds": lambda: _searched(
        AdaptedFlowRegressorCV, *table(30), cv=KFold(3), encodings=[None, PeriodicEncoder()]
    ),
    "search of labels": lambda: _searched(AdaptedFlowClassifierCV, *classes(60)),
    "not fitted": lambda: (AdaptedFlowRegressorCV(t_ends=(0.5, 0.9)), None),
    "ramps": lambda: _transformer(PiecewiseLinearEncoder(), table(40)[0]),
    "cosines": lambda: _transformer(PeriodicEncoder(scale=[0.4, 1], random_state=0), table(40)[0]),
    "frequent values": lambda: _transformer(
        FrequentValueEncoder(min_values=2, min_spike=0.0), table(40)[0].round()
    ),
    "scaler": lambda: _transformer(SmoothRobustScaler(), table(40)[0]),
    "table": lambda: _transformer(TableEncoder(random_state=0), *frame()),
}


@cache
def fitted(name):
    """A model by its name, and rows to use it on."""
    return MODELS[name]()


def said(model, X):
    """All that a fitted model says of rows, and of its fit."""
    found = {"parameters": model.get_params(), "attributes": attributes(model)}
    if X is None:
        return found
    names = ["predict", "predict_proba", "decision_function", "transform"]
    found |= {name: getattr(model, name)(X) for name in names if hasattr(model, name)}
    if is_regressor(model) and model._coding.loss.squared:
        found["std"] = model.predict(X, return_std=True)[1]
    if hasattr(model, "ntk"):
        found["ntk"] = [model.ntk(X, at=point) for point in ("solution", "start")]
    if getattr(model, "store_path", False):
        found["staged"] = list(model.staged_predict(X))
        if is_classifier(model):
            found["staged_proba"] = list(model.staged_predict_proba(X))
    return found


def attributes(model):
    """Fitted attributes that are public, but for the Gram."""
    names = sorted(name for name in vars(model) if name.endswith("_") and name != "ntk_gram_")
    return {name: getattr(model, name) for name in names}


def hold_same(one, other, where=""):
    """Hold two values to be the same to the bit, types included."""
    assert type(one) is type(other), where
    if isinstance(one, np.ma.MaskedArray):
        hold_same(np.ma.getmaskarray(one), np.ma.getmaskarray(other), f"{where}.mask")
        one, other = one[~one.mask].tolist(), other[~other.mask].tolist()
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        if one.dtype.kind == "O":
            one, other = one.ravel().tolist(), other.ravel().tolist()
        else:
            assert one.tobytes() == other.tobytes(), where
            return
    parts = _parts(one)
    if parts is None:
        assert one == other or (one != one and other != other), where
        return
    others = _parts(other)
    assert list(parts) == list(others), where
    for name, part in parts.items():
        hold_same(part, others[name], f"{where}.{name}")


def _parts(value):
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if isinstance(value, BaseEstimator):
        return {**value.get_params(deep=False), **attributes(value)}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return vars(value) if type(value).__module__.startswith("sklearn") else None


def go_on(name):
    """A fit of a model that goes on, by the name of the estimator."""
    estimator = {"regressor": AdaptedFlowRegressor, "classifier": AdaptedFlowClassifier}[name]
    X, y = example(estimator)
    return small(estimator, warm_start=True).fit(X, y), X, y
