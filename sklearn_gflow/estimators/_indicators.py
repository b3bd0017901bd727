"""Several labels a row: y as a matrix of zeros and ones, and an output for each of its columns.

The labels do not exclude each other, and each is coded and read as one of two classes is.
Notation: docs/notation.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.special import expit, logit
from sklearn.utils.multiclass import type_of_target

from sklearn_gflow.estimators._calibration import calibrated, inverse_temperature, log_loss_of
from sklearn_gflow.estimators._coding import CodedClasses
from sklearn_gflow.estimators._memory import check_indicators
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._tensors import readable
from sklearn_gflow.geometry import Loss
from sklearn_gflow.geometry.losses import BinaryLogLoss, SquaredLoss

__all__ = [
    "INDICATORS",
    "CodedIndicators",
    "LossOfIndicators",
    "are_indicators",
    "check_columns",
    "with_indicators",
]


# -- reading -----------------------------------------------------------------------------------


def are_indicators(y: Any) -> bool:
    """Whether y has several labels a row, as scikit-learn tells it.

    Raises
    ------
    ValueError
        If y is a matrix with missing values.
    """
    y = readable(y, "y")
    rows = y if isinstance(y, list | tuple) else []
    is_matrix = len(rows) > 0 and isinstance(rows[0], list | tuple | np.ndarray)
    if not is_matrix and len(getattr(y, "shape", ())) != 2:
        return False
    return bool(type_of_target(y, input_name="y") == "multilabel-indicator")


def with_indicators(rows: Rows, name: str, max_memory: int | None) -> Rows:
    """The rows with y as a dense matrix of the integers 0 and 1.

    Raises
    ------
    ValueError
        If y is no matrix, or holds other numbers.
    GramMemoryError
        If it would not fit into memory.
    """
    y: Any = rows.y
    if len(y.shape) != 2:
        raise ValueError(f"{name} must have a column for each label, as y has; got one label a row")
    check_indicators(y.shape[1], y.shape[0], max_memory)
    sparse = issparse(y)
    dense = np.asarray(y.toarray() if sparse else y)
    indicators = dense.astype(int)
    if not np.isin(dense, (0, 1)).all():
        raise ValueError(
            f"{name} has several labels a row, and must be 1 where a row has a label and 0 where "
            f"it has not; got the values {np.unique(dense)[:4].tolist()}"
        )
    return replace(rows, y=indicators, sparse_labels=sparse)


def check_columns(y: np.ndarray, name: str, classes: np.ndarray) -> None:
    """Hold indicators to the labels that are known.

    Raises
    ------
    ValueError
        If there are more columns, or fewer.
    """
    if y.shape[1] != len(classes):
        raise ValueError(f"{name} must have the {len(classes)} columns of y, and has {y.shape[1]}")


# -- losses ------------------------------------------------------------------------------------


class LossOfIndicators(ABC):
    """A loss of labels that do not exclude each other: a sum over them."""

    loss: Loss

    @abstractmethod
    def start(self, mean: np.ndarray) -> np.ndarray:
        """The constant of least cost, from the mean of the targets."""

    @abstractmethod
    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """What decides, label by label: positive where a row has it."""

    @abstractmethod
    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """What probabilities are made of at an inverse temperature."""

    @abstractmethod
    def probabilities(self, scores: np.ndarray, n_seen: float) -> np.ndarray:
        """Probabilities of the labels, given the number of samples that were trained on."""

    @staticmethod
    def decided(scores: np.ndarray) -> np.ndarray:
        """The indicators."""
        return (scores > 0).astype(int)

    @staticmethod
    def told(targets: np.ndarray) -> np.ndarray:
        """The indicators, from their codes."""
        return (targets > 0.5).astype(int)


class SquaredErrorOfIndicators(LossOfIndicators):
    """The squared distance to the indicators."""

    loss = SquaredLoss()

    def start(self, mean: np.ndarray) -> np.ndarray:
        return mean

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs - 0.5

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """The difference of the distances to 0 and to 1, as of two classes."""
        return 2 * outputs - 1

    def probabilities(self, scores: np.ndarray, n_seen: float) -> np.ndarray:
        """The nearest numbers in [0, 1], mixed with one sample that has a label by half."""
        return (n_seen * np.clip(scores + 0.5, 0, 1) + 0.5) / (n_seen + 1)


class LogLossOfIndicators(LossOfIndicators):
    """A cross-entropy for each label, outputs being logits."""

    loss = BinaryLogLoss()

    def start(self, mean: np.ndarray) -> np.ndarray:
        return np.asarray(logit(mean))

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def probabilities(self, scores: np.ndarray, n_seen: float) -> np.ndarray:
        return np.asarray(expit(scores))


INDICATORS: dict[str, LossOfIndicators] = {
    "squared_error": SquaredErrorOfIndicators(),
    "log_loss": LogLossOfIndicators(),
}
"""Losses of a classifier by name, of several labels a row."""


# -- coding ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CodedIndicators(CodedClasses):
    """Several labels a row.

    Attributes
    ----------
    smoothing : float
        Targets are this share of ½ and the rest of the indicator.
    sparse : bool
        Whether y was sparse, as what is predicted then is.
    """

    smoothing: float
    sparse: bool

    @classmethod
    def of(cls, loss: str, rows: Rows, classes: np.ndarray, smoothing: float) -> CodedIndicators:
        """The coding of labels; its start is not known yet."""
        return cls(
            loss=INDICATORS[loss], classes=classes, start=np.zeros(len(classes)),
            n_seen=rows.total_weight, smoothing=smoothing, sparse=rows.sparse_labels,
        )  # fmt: skip

    def targets(self, y: np.ndarray) -> np.ndarray:
        """The indicators, smoothed."""
        return (1 - self.smoothing) * y + self.smoothing / 2

    def undecided(self) -> np.ndarray:
        """½ of each label."""
        return np.full(len(self.classes), 0.5)

    def lacks(self, y: np.ndarray) -> bool:
        """Whether all rows have a label, or none has."""
        return bool((np.ptp(y, axis=0) == 0).any())

    def labels(self, scores: np.ndarray) -> Any:
        """The indicators."""
        decided = self.loss.decided(scores)
        return csr_array(decided) if self.sparse else decided

    def beta(self, readings: np.ndarray, rows: Rows) -> float:
        """The same for all labels: that of 1/(1 + e^{−βz}), z being a logit."""
        weights = None if rows.weights is None else np.repeat(rows.weights, len(self.classes))
        return inverse_temperature(self._pairs(readings), rows.y.ravel(), weights)

    def calibrated(self, readings: np.ndarray, beta: float) -> np.ndarray:
        """1/(1 + e^{−βz}), shape (n_samples, n_labels)."""
        both = calibrated(self._pairs(readings), beta, self.n_seen)
        return both[:, 1].reshape(readings.shape)

    def log_loss(self, probabilities: np.ndarray, rows: Rows) -> float:
        """The mean over the labels."""
        p = probabilities.ravel()
        weights = None if rows.weights is None else np.repeat(rows.weights, len(self.classes))
        return log_loss_of(np.stack([1 - p, p], axis=1), rows.y.ravel(), weights)

    def _pairs(self, readings: np.ndarray) -> np.ndarray:
        """Each label of each row as two classes, shape (n_samples·n_labels, 2)."""
        half = self.loss.logits(readings).ravel() / 2
        return np.stack([-half, half], axis=1)
