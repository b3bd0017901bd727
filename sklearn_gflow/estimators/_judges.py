"""What judges outputs for given rows: the cost that they explain, the rows that are right.

Notation: docs/notation.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_gflow.estimators._losses import best_constant
from sklearn_gflow.estimators._tensors import host_tensor, to_numpy
from sklearn_gflow.geometry import Loss

__all__ = ["ExplainedShare", "RightShare"]


class ExplainedShare:
    """Scores outputs for given rows: the share of the cost of the best constant that is explained.

    For the squared error it is R² as `sklearn.metrics.r2_score` has it, for the Poisson and the
    gamma loss D² as `sklearn.metrics.d2_tweedie_score` has it; the mean over outputs. As there, of
    constant targets it is 1 for outputs without an error and 0 for others; here that holds for
    all constants, also for those of which a mean of copies is off by a rounding.

    Parameters
    ----------
    loss : Loss
        ℓ, a sum over outputs.
    targets : ndarray of shape (n_samples, n_outputs)
        y.
    weights : ndarray of shape (n_samples,) or None
        w.
    """

    def __init__(self, loss: Loss, targets: np.ndarray, weights: np.ndarray | None) -> None:
        self.loss = loss
        self.columns = [host_tensor(column[:, None]) for column in targets.T]
        w = np.ones(len(targets)) if weights is None else weights
        self.shares = host_tensor(w / w.sum())
        constants = best_constant(loss, targets, weights)
        null = self._costs(np.broadcast_to(constants, targets.shape).copy())
        # Of counts that are all zero the best constant is at −∞, and its loss is no unit.
        self.null = np.where(np.ptp(targets[w > 0], axis=0) > 0, null, 0.0)

    def __call__(self, outputs: np.ndarray) -> tuple[float, float]:
        """(score, cost) of outputs of the shape of the targets."""
        if not np.isfinite(outputs).all():
            return -np.inf, np.inf
        costs = self._costs(outputs)
        if not np.isfinite(costs).all():
            return -np.inf, np.inf
        explained = 1 - np.divide(costs, self.null, where=self.null > 0, out=np.ones_like(costs))
        perfect = (self.null == 0) & (costs == 0)
        return float(np.where(perfect, 1.0, explained).mean()), float(costs.sum())

    def _costs(self, outputs: np.ndarray) -> np.ndarray:
        """C of each output."""
        values, costs = host_tensor(outputs), []
        for q, y in enumerate(self.columns):
            costs.append(float(self.shares @ self.loss.value(values[:, q, None], y).double()))
        return np.array(costs)


class RightShare:
    """Scores outputs for given rows: the share of them of which all is right that is decided.

    Parameters
    ----------
    loss : LossOfLabels or LossOfIndicators
        How outputs are read.
    targets : ndarray of shape (n_samples, n_outputs)
        Codes of the labels.
    weights : ndarray of shape (n_samples,) or None
        w.
    """

    def __init__(self, loss: Any, targets: np.ndarray, weights: np.ndarray | None) -> None:
        self.loss, self.targets, self.weights = loss, host_tensor(targets), weights
        self.told = loss.told(targets)

    def __call__(self, outputs: np.ndarray) -> tuple[float, float]:
        """(accuracy, cost) of outputs of the shape of the targets."""
        if not np.isfinite(outputs).all():
            return -np.inf, np.inf
        decided = self.loss.decided(self.loss.scores(outputs))
        losses = to_numpy(self.loss.loss.value(host_tensor(outputs), self.targets))
        if not np.isfinite(losses).all():
            return -np.inf, np.inf
        right = (decided == self.told).reshape(len(decided), -1).all(axis=1)
        judged = np.stack([right, losses])
        score, loss = np.average(judged, axis=1, weights=self.weights)
        return float(score), float(loss)
