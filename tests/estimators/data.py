"""Small tables that several tests share."""

import numpy as np

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.dynamics.rows import Cuts

ALPHAS = [0.0, 0.3, 1.0]
ESTIMATORS = [AdaptedFlowRegressor, AdaptedFlowClassifier]


def table(n=20, n_features=3, *, seed=0):
    """Inputs and a smooth target with a little noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features))
    return X, np.sin(X[:, 0]) + 0.5 * X[:, -1] + 0.1 * rng.normal(size=n) + 3


def classes(n=24, n_features=3, n_classes=3, *, seed=0):
    """Inputs and class indices, shifted blobs in turn."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, n_features)) + 1.5 * y[:, None], y


def regressor(**parameters):
    """A small network of X as it is: oracles know nothing of scaled columns."""
    defaults = {"hidden_layer_sizes": (12,), "random_state": 0, "scale_inputs": False}
    return AdaptedFlowRegressor(**{**defaults, **parameters})


def classifier(**parameters):
    """A small network of X as it is."""
    defaults = {"hidden_layer_sizes": (30,), "random_state": 0, "scale_inputs": False}
    return AdaptedFlowClassifier(**{**defaults, **parameters})


def example(estimator, **size):
    """Data that suit an estimator."""
    return classes(**size) if issubclass(estimator, AdaptedFlowClassifier) else table(**size)


def small(estimator, **parameters):
    """A small network, whose columns are scaled as a user's are."""
    return estimator(**{"hidden_layer_sizes": (12,), "random_state": 0, **parameters})


def noted_cuts(monkeypatch):
    """A list that takes down the rows of every epoch over blocks, in their order."""
    cuts, cut = [], Cuts.epoch

    def noted(self, *share):
        blocks = cut(self, *share)
        cuts.append(tuple(np.concatenate(blocks).tolist()))
        return blocks

    monkeypatch.setattr(Cuts, "epoch", noted)
    return cuts
