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
from sklearn_gflow.estimators._losses import LABELS
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._rows import TrainingData

__all__ = ["AUTOMATIC", "first_loss", "with_log_loss"]

AUTOMATIC = "auto"


def first_loss(asked: str, before: Any = None) -> str:
    """The loss of targets before it is known how the flow goes: that of a fit that goes on."""
    if asked != AUTOMATIC:
        return asked
    return "squared_error" if before is None or before.loss.squared else "log_loss"


def with_log_loss(problem: Problem, smoothing: float) -> Problem:
    """The same for the log-loss, from the class frequencies of the rows."""
    coding = problem.coding
    assert isinstance(coding, CodedLabels)
    loss, told = LABELS["log_loss"], coding.loss.told
    codes = loss.codes(len(coding.classes), smoothing)

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
