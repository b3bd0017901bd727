"""Which loss `AdaptedFlowClassifier` takes by itself, and a problem in the targets of the other.

In the full batch that is the squared error, whose flow has a closed form. Over blocks without a
given end it is the log-loss: where many rows decide on a border it classifies better, and its
probabilities are better everywhere (docs/benchmarks/blocks_trials.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_gflow.estimators._coding import CodedLabels
from sklearn_gflow.estimators._losses import loss_of_labels
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._rows import TrainingData

__all__ = ["AUTOMATIC", "first_loss", "first_smoothing", "with_log_loss"]

AUTOMATIC = "auto"
# Labels of more classes than this are smoothed by so much: on two tables of three with 26 classes
# that gained 0.003 and 0.009 of accuracy; twice as much costs log-loss.
_MANY_CLASSES, _SMOOTHING_OF_MANY = 16, 0.05


def first_loss(asked: str, before: Any = None) -> str:
    """The loss of targets before it is known how the flow goes: that of a fit that goes on."""
    if asked != AUTOMATIC:
        return asked
    return "squared_error" if before is None or before.loss.squared else "log_loss"


def first_smoothing(asked: float | str, loss: str, before: Any, n_classes: int) -> float:
    """How much labels are smoothed by what `first_loss` takes."""
    taken = loss == AUTOMATIC and first_loss(loss, before) == "log_loss"
    return _smoothing(asked, n_classes) if taken else _given(asked)


def _given(asked: float | str) -> float:
    return 0.0 if isinstance(asked, str) else asked


def _smoothing(asked: float | str, n_classes: int) -> float:
    many = isinstance(asked, str) and n_classes > _MANY_CLASSES
    return _SMOOTHING_OF_MANY if many else _given(asked)


def with_log_loss(problem: Problem, smoothing: float | str) -> Problem:
    """The same for the log-loss, from the class frequencies of the rows."""
    coding = problem.coding
    assert isinstance(coding, CodedLabels)
    n_classes, told = len(coding.classes), coding.loss.told
    loss = loss_of_labels("log_loss", n_classes)
    codes = loss.codes(n_classes, _smoothing(smoothing, n_classes))

    def recoded(data: TrainingData) -> TrainingData:
        return replace(data, targets=codes[told(data.targets)], start=start)

    mean = np.average(codes[told(problem.data.targets)], axis=0, weights=problem.data.weights)
    start = loss.start(mean)
    return replace(
        problem,
        coding=replace(coding, loss=loss, codes=codes, start=start),
        loss=loss.loss,
        data=recoded(problem.data),
        held_out=None if problem.held_out is None else recoded(problem.held_out),
    )
