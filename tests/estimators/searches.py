"""Searches that several tests share."""

import numpy as np
from scipy.special import softmax
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV

SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
ALPHAS, TIMES = (0.0, 0.1, 0.5), (0.3, 0.8)


def example(search, n=60):
    if search is AdaptedFlowRegressorCV:
        X, y = load_diabetes(return_X_y=True)
        return scale(X)[:n], y[:n]
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)[:n]
    return scale(X)[rows], y[rows]


def small(search, **parameters):
    """A search over α and t alone, which fits the best pair alone."""
    grid = {"encodings": [None], "alphas": ALPHAS, "t_ends": TIMES, "ensemble": False}
    return search((8,), random_state=0, **{**grid, **parameters})


def calibrated_log_loss(y, scores, n_rows):
    """That of softmax(βx), mixed with one sample in ``n_rows`` + 1.

    Of many β the best is taken where one in N + 1 of the samples given has a class at random.
    """
    n, n_classes = scores.shape
    targets = (n * np.eye(n_classes)[y] + 1 / n_classes) / (n + 1)

    def cost(beta):
        return -np.mean((targets * np.log(softmax(beta * scores, axis=1))).sum(axis=1))

    beta = min(np.geomspace(np.exp(-2), np.exp(6), 4000), key=cost)
    p = (n_rows * softmax(beta * scores, axis=1) + 1 / n_classes) / (n_rows + 1)
    return log_loss(y, p, labels=range(n_classes))
