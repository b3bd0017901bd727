"""Final-layer collapse: class means, deviations, cost = within + between (3.8)–(3.11)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Collapse", "collapse"]


@dataclass(frozen=True)
class Collapse:
    """Decomposition of the cost (2.48) over classes.

    Attributes
    ----------
    class_means : ndarray of shape (n_classes, n_outputs)
        Mean output of each class (3.9).
    targets : ndarray of shape (n_classes, n_outputs)
        y_j, the label of each class.
    within : float
        (1/2N) Σ_j Σ_i |Δx_{j,i}|², the deviations (3.10) from the class means.
    between : float
        (1/2N) Σ_j N_j |mean_j − y_j|², the class means' distance from the labels.
    ratio : float
        within/between; NaN when both are zero.
    """

    class_means: np.ndarray
    targets: np.ndarray
    within: float
    between: float
    ratio: float


def collapse(
    outputs: ArrayLike,
    labels: ArrayLike,
    targets: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> Collapse:
    """Split the cost (2.48) of outputs into within and between classes (3.11).

    (3.11) lacks the weights N_j/N in its second sum; they are here, so that
    ``within + between`` is the cost.

    Parameters
    ----------
    outputs : array of shape (n_samples, n_outputs)
        x.
    labels : int array of shape (n_samples,)
        Class index of each sample, a row of ``targets``.
    targets : array of shape (n_classes, n_outputs)
        y_j.
    sample_weight : array of shape (n_samples,), optional
        One each by default.

    Returns
    -------
    Collapse
    """
    x = np.asarray(outputs, dtype=np.float64)
    index = np.asarray(labels)
    y = np.asarray(targets, dtype=np.float64)
    w = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    members = np.zeros((len(y), len(x)))
    members[index, np.arange(len(x))] = w
    sizes = members.sum(axis=1)  # N_j
    means = (members @ x) / sizes[:, None]
    within = float(w @ ((x - means[index]) ** 2).sum(axis=1)) / (2 * w.sum())
    between = float(sizes @ ((means - y) ** 2).sum(axis=1)) / (2 * w.sum())
    if between > 0:
        ratio = within / between
    else:
        ratio = math.inf if within > 0 else math.nan
    return Collapse(means, y, within, between, ratio)
