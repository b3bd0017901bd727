"""Collapse: class means, deviations, cost = within + between (3.8)–(3.11), and NC1–NC4.

Everything here takes and returns numpy arrays, so that it can be used on any classifier. Notation:
docs/notation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Collapse", "NeuralCollapse", "collapse", "neural_collapse"]

# Distances of rows from class means are formed of so many differences at a time.
_DISTANCE_ENTRIES = 2**22


@dataclass(frozen=True)
class Collapse:
    """Decomposition of the cost (2.48) over classes.

    Attributes
    ----------
    class_means : ndarray of shape (n_classes, n_outputs)
        Mean output of each class (3.9); NaN for a class without samples.
    targets : ndarray of shape (n_classes, n_outputs)
        y_j, the label of each class.
    within : float
        (1/2N) Σ_j Σ_i |Δx_{j,i}|², the deviations (3.10) from the class means.
    between : float
        (1/2N) Σ_j N_j |mean_j − y_j|², the class means' distance from the labels.
    ratio : float
        within/between; NaN when both are zero, or one is NaN.
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
    members, sizes = _membership(index, w, len(y))
    present = sizes != 0
    means = np.full((len(y), x.shape[1]), np.nan)
    means[present] = (members @ x)[present] / sizes[present, None]
    within = float(w @ ((x - means[index]) ** 2).sum(axis=1) / (2 * w.sum()))
    distances = ((means - y)[present] ** 2).sum(axis=1)
    between = float(sizes[present] @ distances / (2 * w.sum()))
    if between == 0:
        ratio = math.inf if within > 0 else math.nan
    else:
        ratio = within / between
    return Collapse(means, y, within, between, ratio)


@dataclass(frozen=True)
class NeuralCollapse:
    """The measures of Papyan, Han and Donoho (2020) on one layer; all fall to 0 at collapse.

    Attributes
    ----------
    within_between : float
        NC1: tr(Σ_W Σ_B⁺)/C, variability within classes against that of their means.
    equinorm : float
        NC2: standard deviation over mean of the norms of the centred class means.
    equiangular : float
        NC2: standard deviation of the cosines between centred class means.
    maximal_angle : float
        NC2: mean of |cosine + 1/(C−1)|, the distance from the widest arrangement.
    self_duality : float
        NC3: |W/|W| − M/|M||, last-layer weights against centred class means; NaN without
        weights.
    nearest_mean_disagreement : float
        NC4: share of samples that the model and the nearest class mean label differently; NaN
        without predictions.
    """

    within_between: float
    equinorm: float
    equiangular: float
    maximal_angle: float
    self_duality: float
    nearest_mean_disagreement: float


def neural_collapse(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    predicted: ArrayLike | None = None,
) -> NeuralCollapse:
    """Measure neural collapse of a layer.

    Parameters
    ----------
    features : array of shape (n_samples, width)
        Outputs, or activations of the last hidden layer.
    labels : int array of shape (n_samples,)
        Class index of each sample, 0 … C−1, every class present.
    sample_weight : array of shape (n_samples,), optional
        One each by default.
    weights : array of shape (width, C), optional
        Weights of the layer above the features, for NC3.
    predicted : int array of shape (n_samples,), optional
        Class index that the model predicts, for NC4.

    Returns
    -------
    NeuralCollapse
        NaN throughout where a feature, or a sample weight, is not finite.
    """
    h = np.asarray(features, dtype=np.float64)
    index = np.asarray(labels)
    w = np.ones(len(h)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if not (np.isfinite(h).all() and np.isfinite(w).all()):
        return NeuralCollapse(*[math.nan] * 6)
    members, sizes = _membership(index, w, int(index.max()) + 1)
    means = (members @ h) / sizes[:, None]
    n_classes = len(means)
    centred = means - means.mean(axis=0)  # the classes count equally, as in the definition
    deviations = h - means[index]
    within = (deviations * w[:, None]).T @ deviations / w.sum()
    between = centred.T @ centred / n_classes
    norms = np.linalg.norm(centred, axis=1)
    unit = np.divide(centred, norms[:, None], out=np.zeros_like(centred), where=norms[:, None] > 0)
    cosines = (unit @ unit.T)[~np.eye(n_classes, dtype=bool)]
    return NeuralCollapse(
        float(np.trace(within @ np.linalg.pinv(between, hermitian=True))) / n_classes,
        float(norms.std() / norms.mean()) if norms.any() else math.nan,
        float(cosines.std()),
        float(np.abs(cosines + 1 / (n_classes - 1)).mean()),
        math.nan if weights is None else _self_duality(np.asarray(weights), centred),
        math.nan if predicted is None else _disagreement(h, means, np.asarray(predicted), w),
    )


def _membership(index: np.ndarray, w: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights as a (class, sample) matrix, and the sizes N_j."""
    members = np.zeros((n_classes, len(index)))
    members[index, np.arange(len(index))] = w
    return members, members.sum(axis=1)


def _self_duality(W: np.ndarray, centred: np.ndarray) -> float:
    if W.shape[1] == 1:  # one output for two classes stands for the pair −w, w
        W = np.hstack([-W, W])
    W = W - W.mean(axis=1, keepdims=True)  # a part common to all classes changes no decision
    sizes = np.linalg.norm(W), np.linalg.norm(centred)
    return float(np.linalg.norm(W.T / sizes[0] - centred / sizes[1])) if all(sizes) else math.nan


def _disagreement(h: np.ndarray, means: np.ndarray, predicted: np.ndarray, w: np.ndarray) -> float:
    step = max(1, _DISTANCE_ENTRIES // max(1, means.size))
    chunks = [h[start : start + step, None, :] for start in range(0, len(h), step)]
    nearest = np.concatenate([((c - means) ** 2).sum(axis=2).argmin(axis=1) for c in chunks])
    return float(w[nearest != predicted].sum() / w.sum())
