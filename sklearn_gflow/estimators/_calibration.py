"""Probabilities from outputs: one number, fitted on rows that the outputs were not trained on."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

__all__ = ["calibrated", "inverse_temperature", "log_loss_of"]

# Between these ln β is sought: outputs of the squared error differ by about one between classes.
_LOG_BOUNDS = (-2.0, 6.0)


def calibrated(outputs: np.ndarray, beta: float, n_seen: float) -> np.ndarray:
    """softmax(β x), mixed with one sample spread over the classes; shape (n_samples, n_classes)."""
    p = np.exp(log_softmax(beta * outputs, axis=1))
    mixed: np.ndarray = (n_seen * p + 1 / outputs.shape[1]) / (n_seen + 1)
    return mixed


def inverse_temperature(
    outputs: np.ndarray, index: np.ndarray, weights: np.ndarray | None
) -> float:
    """The β of least log-loss of softmax(β x) on rows held out [1]_.

    One sample in N + 1 is taken to have a class at random, as Platt did, so that β stays finite
    where all rows are right.

    .. [1] Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.

    Parameters
    ----------
    outputs : ndarray of shape (n_samples, n_classes)
    index : ndarray of int of shape (n_samples,)
        The class of each row.
    weights : ndarray of shape (n_samples,) or None
    """
    n = float(len(index) if weights is None else weights.sum())
    doubt = 1 / (n + 1)

    def loss(log_beta: float) -> float:
        logs = log_softmax(np.exp(log_beta) * outputs, axis=1)
        right = np.take_along_axis(logs, index[:, None], axis=1)[:, 0]
        each = (1 - doubt) * right + doubt * logs.mean(axis=1)
        return -float(np.average(each, weights=weights))

    found = minimize_scalar(loss, bounds=_LOG_BOUNDS, method="bounded", options={"xatol": 0.02})
    return float(np.exp(found.x))


def log_loss_of(p: np.ndarray, index: np.ndarray, weights: np.ndarray | None) -> float:
    """Mean of −ln p of the classes that the rows have."""
    own = np.take_along_axis(p, index[:, None], axis=1)[:, 0]
    return -float(np.average(np.log(own), weights=weights))
