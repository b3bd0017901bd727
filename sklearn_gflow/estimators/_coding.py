"""How y became the targets of a network, and how its outputs become predictions again.

A coding is learnt from the training rows and kept with a fit. It also makes what judges outputs
for given rows, by the score of the estimator and the cost. Notation: docs/notation.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from sklearn_gflow.estimators._calibration import calibrated, inverse_temperature, log_loss_of
from sklearn_gflow.estimators._judges import ExplainedShare, RightShare
from sklearn_gflow.estimators._losses import (
    LossOfNumbers,
    check_domain,
    inverse_link,
    inverse_link_slope,
    loss_of_labels,
    mean_and_deviation,
)
from sklearn_gflow.estimators._reading import by_rows
from sklearn_gflow.estimators._rows import Rows, TrainingData
from sklearn_gflow.geometry import Loss

__all__ = ["CodedClasses", "CodedLabels", "CodedNumbers", "columns"]


def _without_scale(loss: LossOfNumbers, y: np.ndarray) -> str:
    """What to say of a column that has no unit."""
    if loss.loss.link == "log":
        return (
            f"loss={loss.name!r} needs a positive value in each column of y, and one has none; "
            "leave that column out, or take another loss"
        )
    return (
        f"y has values up to {np.abs(y).max():.3g}, whose variance is below the range of float64; "
        "multiply y by a constant"
    )


# A number of that precision is off by up to eps/2 of its size: beyond so many deviations of y from
# zero that is more than a millionth of the deviation, and more than the network's own rounding.
_FAR_OFF = 16.0
# R² squares deviations: of less its denominator has lost digits, or all of them.
_LEAST_DEVIATION = float(np.sqrt(np.finfo(np.float64).tiny)) * 1e3
# Of float32, with room for predictions beyond the values of y.
_LEAST_SIZE, _MOST_SIZE = 1e-30, 1e30
# By so much of their deviation targets may move where they are rounded to the precision of a fit.
_ROUNDED_BY = 0.01


def _check_range(y: np.ndarray, *derived: np.ndarray) -> None:
    """Hold y, and the squares of what was made of it, to the range of numbers."""
    most = float(np.abs(y).max())
    with np.errstate(over="ignore"):
        sizes = [most, *(np.square(values).sum() for values in derived)]
    if not np.less_equal(sizes, np.finfo(np.float64).max).all():
        raise ValueError(
            f"y has values up to {most:.3g}, which are beyond the range of float64, or their "
            "squares are; divide y by a constant, or leave such rows out"
        )


def _check_targets(targets: np.ndarray, dtype: str) -> None:
    """Hold targets to what a precision tells apart: one that is no float64 may be too coarse."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = targets.astype(dtype) - targets
        # Not more is asked for in float64: what it does not hold was never in y.
        held = np.square(moved).mean(axis=0) <= _ROUNDED_BY**2 * targets.var(axis=0)
        in_range = np.square(targets.astype(dtype)).sum() < np.inf
    if not (in_range and held.all()):
        raise ValueError(
            f"y, in the units of its loss, is beyond what dtype={dtype!r} tells apart; set "
            "dtype='float64'"
        )


def _is_wide(y: np.ndarray, weights: np.ndarray | None) -> bool:
    """Whether predictions like y would lose in float32 what a network in float32 has learnt."""
    mean, deviation = mean_and_deviation(y, weights)
    largest = np.maximum(np.abs(mean), deviation)
    spread = np.where(np.ptp(y, axis=0) == 0, 0.0, deviation)  # of constants all digits count
    coarse = np.abs(mean) > _FAR_OFF * spread
    outside = (deviation < _LEAST_SIZE) | (largest > _MOST_SIZE)
    return bool((coarse | outside).any())


def columns(y: np.ndarray) -> np.ndarray:
    """Targets as an array of shape (n_samples, n_outputs)."""
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)


@dataclass(frozen=True)
class CodedNumbers:
    """Numbers, in units of their own: y = target_mean + target_scale · h(start + f_θ − f_θ₀).

    Attributes
    ----------
    loss : Loss
        ℓ, whose link has the inverse h.
    name : str
        Of the loss.
    target_mean, target_scale, start : ndarray of shape (n_outputs,)
        Units of y, and the output of the model before training.
    ndim : int
        Axes of y.
    wide : bool
        Whether predictions are float64 whatever the precision of the network: the offset of y is
        so large, or its unit so far from one, that float32 would not hold them.
    """

    loss: Loss
    name: str
    target_mean: np.ndarray
    target_scale: np.ndarray
    start: np.ndarray
    ndim: int
    wide: bool = False

    @classmethod
    def learnt(cls, rows: Rows, loss: LossOfNumbers, dtype: str = "float64") -> CodedNumbers:
        """Units and start from the training rows.

        Raises
        ------
        ValueError
            If the loss is not made for such numbers, they leave the range of numbers, or the
            precision of the network does not tell them apart.
        """
        y = columns(rows.y)
        check_domain(loss.loss, loss.name, y)
        with np.errstate(all="ignore"):  # what is out of range is reported below
            mean, scale = loss.units(y, rows.weights)
            targets = (y - mean) / scale
        if (scale == 0).any() or (loss.loss.squared and (scale < _LEAST_DEVIATION).any()):
            raise ValueError(_without_scale(loss, y))
        _check_range(y, mean, scale, targets)
        _check_targets(targets, dtype)
        start, wide = loss.start(targets, rows.weights), _is_wide(y, rows.weights)
        return cls(loss.loss, loss.name, mean, scale, start, np.ndim(rows.y), wide)

    def shaped_like(self, y: np.ndarray) -> CodedNumbers:
        """The same, with predictions shaped as y is."""
        return replace(self, ndim=np.ndim(y))

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Targets of the network, shape (n_samples, n_outputs)."""
        values = columns(y)
        check_domain(self.loss, self.name, values)
        with np.errstate(over="ignore"):  # which is reported here
            targets = (values - self.target_mean) / self.target_scale
        _check_range(values, targets)
        return targets

    def data(self, rows: Rows) -> TrainingData:
        """Rows as the network sees them."""
        return TrainingData(rows.X, self.targets(rows.y), rows.weights, self.start)

    def judge(self, rows: TrainingData) -> ExplainedShare:
        """A function that scores outputs for some rows by D² of the loss, R² for squares."""
        return ExplainedShare(self.loss, rows.targets, rows.weights)

    def predictions(self, model: np.ndarray) -> np.ndarray:
        """Predictions in the shape of y, from f_θ − f_θ₀; see `in_range`."""
        return self.shaped(self.in_range(by_rows(self.readings, model)))

    def readings(self, model: np.ndarray) -> np.ndarray:
        """Predictions in units of y, shape (n_samples, n_outputs), from f_θ − f_θ₀."""
        with np.errstate(over="ignore", invalid="ignore"):  # see `in_range`
            outputs = inverse_link(self.loss, self.start + model)
            return self.rounded(self.target_mean + self.target_scale * outputs, model)

    def rounded(self, values: np.ndarray, model: np.ndarray) -> np.ndarray:
        """Numbers in units of y, computed in float64, in the precision of predictions."""
        return values if self.wide else values.astype(model.dtype)

    def slopes(self, model: np.ndarray) -> np.ndarray:
        """Derivatives of readings in f_θ − f_θ₀, shape (n_samples, n_outputs)."""
        return self.target_scale * inverse_link_slope(self.loss, self.start + model)

    @property
    def unit_of_scores(self) -> np.ndarray:
        """By what f_θ − f_θ₀ is multiplied before a link: that of y, or 1 of logarithms."""
        log = self.loss.link == "log"
        return np.ones_like(self.target_scale) if log else self.target_scale

    def of_predictions(self, gradients: np.ndarray) -> np.ndarray:
        """Derivatives of predictions, from those of readings."""
        return self.shaped(gradients)

    @staticmethod
    def in_range(readings: np.ndarray) -> np.ndarray:
        """Readings that may leave the estimator.

        Raises
        ------
        ValueError
            If one is not finite.
        """
        if not (finite := np.isfinite(readings)).all():
            row = int(np.argmin(finite.all(axis=1)))
            raise ValueError(
                f"the prediction for row {row} of X is beyond the range of {readings.dtype}: its "
                "values are too far from those of the training rows; scale X, for instance with "
                "scale_inputs=True, or leave that row out"
            )
        return readings

    def read_outputs(self, readings: np.ndarray) -> np.ndarray:
        """Outputs of a network whose predictions these are."""
        outputs = (readings - self.target_mean) / self.target_scale
        if self.loss.link == "log":
            return np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))
        return outputs

    def shaped(self, values: np.ndarray) -> np.ndarray:
        """Values of all outputs in the shape that y had."""
        return values[:, 0] if self.ndim == 1 else values

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes."""
        return {
            "_coding": self,
            "target_mean_": self.target_mean,
            "target_scale_": self.target_scale,
            "initial_output_": self.start,
        }


@dataclass(frozen=True, kw_only=True)
class CodedClasses(ABC):
    """Labels as rows of numbers: what one label a row and several have in common.

    Attributes
    ----------
    loss : LossOfLabels or LossOfIndicators
        How outputs are read.
    classes : ndarray of shape (n_classes,)
        Labels in sorted order, or the numbers of the columns of indicators.
    start : ndarray of shape (n_outputs,)
        The output of the model before training.
    n_seen : float
        Samples that probabilities rest on, by their weights.
    """

    loss: Any
    classes: np.ndarray
    start: np.ndarray
    n_seen: float

    @abstractmethod
    def targets(self, y: np.ndarray) -> np.ndarray:
        """Targets of the network, shape (n_samples, n_outputs)."""

    @abstractmethod
    def undecided(self) -> np.ndarray:
        """The target of one sample spread evenly over the classes, shape (n_outputs,)."""

    @abstractmethod
    def lacks(self, y: np.ndarray) -> bool:
        """Whether some rows lack a class."""

    @abstractmethod
    def labels(self, scores: np.ndarray) -> Any:
        """The labels that scores decide on."""

    @abstractmethod
    def beta(self, readings: np.ndarray, rows: Rows) -> float:
        """The inverse temperature of outputs on rows held out."""

    @abstractmethod
    def calibrated(self, readings: np.ndarray, beta: float) -> np.ndarray:
        """Probabilities from outputs at an inverse temperature."""

    @abstractmethod
    def log_loss(self, probabilities: np.ndarray, rows: Rows) -> float:
        """Mean of −ln p of what rows have."""

    def started(self, rows: Rows, weights: np.ndarray | None, *, partial: bool) -> Self:
        """The same with the start of least cost, of some rows or (``partial``) the first of many.

        One sample spread over the classes is added where a class is lacking, as in probabilities:
        without it a class that a chunk or a fold lacks would start at a logit of −∞.
        """
        targets = self.targets(rows.y)
        if partial or self.lacks(rows.y):
            targets = np.vstack([targets, self.undecided()])
            weights = np.append(np.ones(len(rows.y)) if weights is None else weights, 1.0)
        return replace(self, start=self.loss.start(np.average(targets, axis=0, weights=weights)))

    def data(self, rows: Rows, weights: np.ndarray | None) -> TrainingData:
        """Rows as the network sees them, with weights that classes enter."""
        return TrainingData(rows.X, self.targets(rows.y), weights, self.start)

    def judge(self, rows: TrainingData) -> RightShare:
        """A function that scores outputs for some rows by accuracy."""
        return RightShare(self.loss, rows.targets, rows.weights)

    def scores(self, model: np.ndarray) -> np.ndarray:
        """Scores that decide on labels, from f_θ − f_θ₀."""
        readings = self.rounded(self.readings(model), model)
        scores: np.ndarray = self.loss.scores(self.in_range(readings))
        return scores

    @staticmethod
    def rounded(values: np.ndarray, model: np.ndarray) -> np.ndarray:
        """Numbers computed in float64 in the precision of the network."""
        return values.astype(model.dtype)

    @staticmethod
    def in_range(readings: np.ndarray) -> np.ndarray:
        """Outputs that may leave the estimator: they saturate, so that decisions stay.

        At the root of the largest number sums and differences of them, and multiples by an
        inverse temperature, are finite.

        Raises
        ------
        ValueError
            If one is no number: an infinite input of a layer less another.
        """
        if (lost := np.isnan(readings)).any():
            row = int(np.argmax(lost.any(axis=1)))
            raise ValueError(
                f"the outputs for row {row} of X are beyond the range of {readings.dtype}: its "
                "values are too far from those of the training rows; scale X, for instance with "
                "scale_inputs=True, or leave that row out"
            )
        most = np.sqrt(np.finfo(readings.dtype).max)
        return np.clip(readings, -most, most)

    def readings(self, model: np.ndarray) -> np.ndarray:
        """Outputs, shape (n_samples, n_outputs), from f_θ − f_θ₀."""
        return model + self.start

    def read_outputs(self, readings: np.ndarray) -> np.ndarray:
        """The same."""
        return readings

    def slopes(self, model: np.ndarray) -> np.ndarray:
        """Derivatives of readings in f_θ − f_θ₀."""
        return np.ones_like(model)

    def of_predictions(self, gradients: np.ndarray) -> np.ndarray:
        """Derivatives of scores, from those of outputs, (n_samples, n_outputs, n_features)."""
        return gradients

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of the classes, from scores."""
        return by_rows(lambda some: self.loss.probabilities(some, self.n_seen), scores)

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes."""
        return {"_coding": self, "classes_": self.classes, "initial_output_": self.start}


@dataclass(frozen=True, kw_only=True)
class CodedLabels(CodedClasses):
    """One label a row.

    Attributes
    ----------
    codes : ndarray of shape (n_classes, n_outputs)
        Targets of each class.
    """

    codes: np.ndarray

    @classmethod
    def of(cls, loss: str, rows: Rows, classes: np.ndarray, smoothing: float) -> CodedLabels:
        """The coding of classes; its start is not known yet."""
        named = loss_of_labels(loss, len(classes))
        codes = named.codes(len(classes), smoothing)
        return cls(
            loss=named, classes=classes, codes=codes, start=np.zeros(codes.shape[1]),
            n_seen=rows.total_weight,
        )  # fmt: skip

    def index(self, y: np.ndarray) -> np.ndarray:
        """Index of each label among the classes."""
        return np.searchsorted(self.classes, y)

    def targets(self, y: np.ndarray) -> np.ndarray:
        """The codes of the labels."""
        return self.codes[self.index(y)]

    def undecided(self) -> np.ndarray:
        """The mean of all codes."""
        mean: np.ndarray = self.codes.mean(axis=0)
        return mean

    def lacks(self, y: np.ndarray) -> bool:
        """Whether a class has no row."""
        return len(np.unique(y)) < len(self.classes)

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """The class of each row."""
        decided: np.ndarray = self.classes[self.loss.decided(scores)]
        return decided

    def of_predictions(self, gradients: np.ndarray) -> np.ndarray:
        """Derivatives of scores: for two classes of their only one, an output or a difference."""
        if len(self.classes) > 2:
            return gradients
        return gradients[:, 0] if gradients.shape[1] == 1 else gradients[:, 1] - gradients[:, 0]

    def beta(self, readings: np.ndarray, rows: Rows) -> float:
        """That of softmax(β x)."""
        return inverse_temperature(self.loss.by_class(readings), self.index(rows.y), rows.weights)

    def calibrated(self, readings: np.ndarray, beta: float) -> np.ndarray:
        """softmax(β x), shape (n_samples, n_classes)."""
        return calibrated(self.loss.by_class(readings), beta, self.n_seen)

    def log_loss(self, probabilities: np.ndarray, rows: Rows) -> float:
        """That of the class of each row."""
        return log_loss_of(probabilities, self.index(rows.y), rows.weights)
