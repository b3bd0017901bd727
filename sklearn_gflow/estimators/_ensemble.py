"""A small ensemble from predictions of rows that were held out: weights without a refit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["even_weights", "greedy_weights"]

# A mean gains by members that are a little worse and err in other ways: such are no reason to leave
# one out, and chance is none either.
_SHARE, _ERRORS = 0.1, 3


def greedy_weights(
    readings: np.ndarray, loss: Callable[[np.ndarray], float], rounds: int
) -> np.ndarray:
    """Weights of candidates by greedy selection with replacement [1]_.

    In every round the candidate joins with which the mean of all that have joined has the least
    loss. So few have a weight, and none is fitted: the weights are multiples of 1/rounds.

    .. [1] Caruana, Niculescu-Mizil, Crew, Ksikes, "Ensemble selection from libraries of models",
       ICML 2004.

    Parameters
    ----------
    readings : ndarray of shape (n_candidates, n_samples, n_outputs)
        Predictions of rows held out, the candidate that joins first in front.
    loss : callable
        Predictions ↦ loss.
    rounds : int
        How many join.

    Returns
    -------
    ndarray of shape (n_candidates,)
        At least 0, with the sum 1.
    """
    counts = np.zeros(len(readings))
    counts[0], total = 1, readings[0].copy()
    for joined in range(1, rounds):
        losses = [loss((total + candidate) / (joined + 1)) for candidate in readings]
        best = int(np.argmin(losses))
        counts[best] += 1
        total += readings[best]
    return counts / rounds


def even_weights(losses: np.ndarray) -> np.ndarray:
    """Even weights of the candidates that are about as good as the best on rows held out.

    Left out is one whose loss is larger by more than a tenth, and by more than three standard
    errors over parts of these rows.

    Parameters
    ----------
    losses : ndarray of shape (n_candidates, n_parts)
        Of parts of equal size.

    Returns
    -------
    ndarray of shape (n_candidates,)
        At least 0, with the sum 1.
    """
    best = losses.mean(axis=1).argmin()
    behind = losses - losses[best]
    errors = behind.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    borne = np.maximum(_ERRORS * errors, _SHARE * np.abs(losses[best].mean()))
    alike = behind.mean(axis=1) <= borne
    return alike / alike.sum()
