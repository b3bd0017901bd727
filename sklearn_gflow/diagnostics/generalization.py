"""A bound on the error on rows that were not learnt, from distances and norms of weights alone.

With f Lipschitz of constant L, every training row i bounds the error at a test row (x', y'):

    |f(x') − y'| ≤ L|x' − xᵢ| + |f(xᵢ) − yᵢ| + |yᵢ − y'|.

The least over i, in the mean over the test rows, is a Chamfer distance of the test set from the
training set. Everything here takes and returns numpy arrays. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

__all__ = ["GeneralizationBound", "generalization_bound", "lipschitz_bound"]

# Largest |σ'| of each activation.
_STEEPEST = {
    "tanh": 1.0, "silu": 1.09984, "gelu": 1.12905, "softplus": 1.0, "relu": 1.0, "identity": 1.0,
}  # fmt: skip
# Distances are formed of so many pairs of rows at a time.
_PAIRS = 2**22


@dataclass(frozen=True)
class GeneralizationBound:
    """Bounds on errors of outputs, and what they are made of.

    Attributes
    ----------
    error : float
        Bound on the root of the mean of |f(x') − y'|² over the test rows.
    rows : ndarray of shape (n_test,)
        Bound on |f(x') − y'| of each.
    chamfer : float
        Mean distance of a test row from the nearest training row.
    lipschitz : float
        L.
    """

    error: float
    rows: np.ndarray
    chamfer: float
    lipschitz: float


def lipschitz_bound(weights: Sequence[ArrayLike], activation: str) -> float:
    """Product of the operator norms of all layers and the steepest slopes of the activation.

    Parameters
    ----------
    weights : sequence of array of shape (n_in, n_out)
        Of the layers.
    activation : str
        Of the hidden layers, a name in `geometry.ACTIVATIONS`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If nothing is known of the activation.
    """
    if activation not in _STEEPEST:
        raise ValueError(f"activation={activation!r} is none of {', '.join(map(repr, _STEEPEST))}")
    norms = [float(np.linalg.norm(np.asarray(W, dtype=np.float64), 2)) for W in weights]
    return float(np.prod(norms)) * _STEEPEST[activation] ** (len(norms) - 1)


def generalization_bound(
    X: ArrayLike,
    residuals: ArrayLike,
    X_test: ArrayLike,
    lipschitz: float,
    *,
    targets: ArrayLike | None = None,
    targets_test: ArrayLike | None = None,
) -> GeneralizationBound:
    """Bound the error of a Lipschitz function on test rows, in the manner of [1]_.

    Without the targets of both sets the bound is one for test rows whose target is that of the
    training row which bounds them best: |yᵢ − y'| is left out.

    .. [1] Bapu, Chen, Chien, Muñoz Ewald, Moore, "Architecture independent generalization bounds
       for overparametrized deep ReLU networks", arXiv:2504.05695.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Training inputs, as f takes them.
    residuals : array of shape (n_samples,) or (n_samples, n_outputs)
        f(X) − y.
    X_test : array of shape (n_test, n_features)
        Test inputs.
    lipschitz : float
        L, in Euclidean lengths of inputs and outputs; see `lipschitz_bound`.
    targets, targets_test : array of shape (n, n_outputs), optional
        y of both sets, both or neither.

    Returns
    -------
    GeneralizationBound

    Raises
    ------
    ValueError
        If only one set has targets.
    """
    if (targets is None) != (targets_test is None):
        raise ValueError("give targets of both sets, or of neither: targets and targets_test")
    X, X_test = (np.asarray(part, dtype=np.float64) for part in (X, X_test))
    missed = np.linalg.norm(_columns(residuals), axis=1)
    labels = None if targets is None else (_columns(targets), _columns(targets_test))
    rows, nearest = np.empty(len(X_test)), np.empty(len(X_test))
    step = max(1, _PAIRS // len(X))
    for begin in range(0, len(X_test), step):
        part = slice(begin, begin + step)
        distances = cdist(X_test[part], X)
        bounds = lipschitz * distances + missed
        if labels is not None:
            bounds += cdist(labels[1][part], labels[0])
        rows[part], nearest[part] = bounds.min(axis=1), distances.min(axis=1)
    error = float(np.sqrt(np.square(rows).mean()))
    return GeneralizationBound(error, rows, float(nearest.mean()), float(lipschitz))


def _columns(values: ArrayLike | None) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(len(array), -1)
