"""What a network makes of its columns: the average gradient outer product, of which the diagonal.

Its roots stretch the inputs of the flow that follows, as in recursive feature machines [1]_.

.. [1] Radhakrishnan, Beaglehole, Pandit, Belkin, "Mechanism for feature learning in neural networks
   and backpropagation-free machine learning models", Science 383, 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from sklearn_gflow.estimators._reading import read, row_chunks
from sklearn_gflow.estimators._rows import TrainingData, as_tensor, subsample
from sklearn_gflow.estimators._sparse import mean_and_variance
from sklearn_gflow.estimators._tensors import generator_of, to_numpy
from sklearn_gflow.geometry import Family

__all__ = ["gradients_in_columns", "mean_squared_gradient", "stretch"]

# So many derivatives are computed at once.
_ENTRIES = 2**25


def gradients_in_columns(
    family: Family, theta: Tensor, X: Any, dtype: str, reference: Tensor | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """∂f_q/∂xⱼ at rows of a network's columns, chunk by chunk: (n_rows, n_outputs, n_columns).

    f is the network f_θ, or with a ``reference`` θ₀ the model f_θ − f_θ₀.
    """
    size = family.n_outputs * X.shape[1]
    for chunk in row_chunks(len(X), max(1, _ENTRIES // size)):
        rows = as_tensor(family, read(X, chunk), dtype, theta.device)
        gradients = family.input_gradients(theta, rows)
        if reference is not None:
            gradients = gradients - family.input_gradients(reference, rows)
        yield chunk, to_numpy(gradients)


def mean_squared_gradient(
    family: Family,
    theta: Tensor,
    data: TrainingData,
    dtype: str,
    *,
    n_rows: int,
    seed: int,
    reference: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """⟨Σ_q (∂f_q/∂xⱼ)²⟩ of each column over some rows, and the variance of the column there.

    f is the network f_θ, or with a ``reference`` θ₀ the model f_θ − f_θ₀.
    """
    rows = np.sort(subsample(len(data.X), n_rows, generator_of(seed)))
    some = data.take(rows)
    parts, shares = [], []
    for chunk, gradients in gradients_in_columns(family, theta, some.X, dtype, reference):
        weights = None if some.weights is None else some.weights[chunk]
        parts.append(np.average((gradients**2).sum(axis=1), axis=0, weights=weights))
        shares.append(len(gradients) if weights is None else weights.sum())
    squares = parts[0] if len(parts) == 1 else np.average(parts, axis=0, weights=shares)
    return squares, mean_and_variance(some.X, some.weights)[1]


def stretch(squares: np.ndarray, variances: np.ndarray, kept: float = 0.0) -> np.ndarray:
    """Factors gⱼ^¼ of the columns, under which the sum of their variances stays as it is.

    Half of what makes the network equally steep in all columns: the gradients are those of a
    network that is not yet what it will be. Columns may keep a share of their variances.
    """
    factors = np.sqrt(np.sqrt(squares))
    total = (factors**2 * variances).sum()
    if not total > 0:  # a network that does not depend on its inputs
        return np.ones_like(factors)
    stretched: np.ndarray = factors * np.sqrt(variances.sum() / total)
    return np.sqrt((1 - kept) * stretched**2 + kept) if kept else stretched
