"""Ways into a fit, and what holds an estimator to its state when one of them fails."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from tests.estimators.data import classes, table

PLAIN = {"regressor": AdaptedFlowRegressor, "classifier": AdaptedFlowClassifier}
SEARCHES = {"regressor": AdaptedFlowRegressorCV, "classifier": AdaptedFlowClassifierCV}


# X as it is, so that a huge value comes as far as the network.
COMMON = {"hidden_layer_sizes": (4,), "random_state": 0, "scale_inputs": False}


def plain(kind, **parameters):
    return PLAIN[kind](**{**COMMON, "t_end": 0.5, **parameters})


def search(kind, **parameters):
    grid = {"encodings": (None,), "alphas": (0.0, 0.5), "t_ends": (0.3, 0.8)}
    return SEARCHES[kind](**{**COMMON, **grid, **parameters})


def example(model):
    return classes(18) if is_classifier(model) else table(18)


def fit(model, X, y):
    return model.fit(X, y)


def partial_fit(model, X, y):
    known = (np.arange(3),) if is_classifier(model) else ()
    return model.partial_fit(X, y, *known)


# What to call on what: every way into a fit.
WAYS = {
    "fit": (plain, {}, fit),
    "fit in blocks": (plain, {"batch_size": 8}, fit),
    "fit by RK45": (plain, {"method": "RK45", "t_end": 0.2}, fit),
    "fit with rows held out": (plain, {"early_stopping": True, "validation_fraction": 0.3}, fit),
    "fit with leave-one-out": (plain, {"early_stopping": "loo"}, fit),
    "partial_fit": (plain, {"batch_size": 8}, partial_fit),
    "search by leave-one-out": (search, {}, fit),
    "search by folds": (search, {"cv": 3}, fit),
}
each_way = pytest.mark.parametrize("way", WAYS)
each_kind = pytest.mark.parametrize("kind", PLAIN)


class Unchanged:
    """Hold a model to what it was: the same objects, the same pickle, the same predictions."""

    def __init__(self, model, X):
        self.model, self.X = model, X.copy()
        self.before, self.stored = dict(vars(model)), pickle.dumps(model)
        self.predictions = model.predict(X) if hasattr(model, "n_iter_") else None

    def check(self):
        after = vars(self.model)
        assert after.keys() == self.before.keys()
        assert all(after[name] is value for name, value in self.before.items())
        assert pickle.dumps(self.model) == self.stored
        if self.predictions is not None:
            np.testing.assert_array_equal(self.model.predict(self.X), self.predictions)
            return
        assert not [name for name in after if name.endswith("_")]
        with pytest.raises(NotFittedError):
            self.model.predict(self.X)


def hold(model, stop, error, match=None):
    """The call raises, and changes nothing: of a fitted model, nor of one that is not."""
    X, _ = example(model)
    for subject in (model, clone(model)):
        unchanged = Unchanged(subject, X)
        with pytest.raises(error, match=match):
            stop(subject)
        unchanged.check()
