"""What a fit is about, and what it ended with: the records that its four verbs hand on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklearn_gflow.estimators._coding import CodedClasses, CodedNumbers
from sklearn_gflow.estimators._inputs import FittedInputs
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._stopping import LeftOut
from sklearn_gflow.estimators._training import TrainedFlow, Training
from sklearn_gflow.geometry import Loss

__all__ = ["Ended", "Problem"]


@dataclass(frozen=True)
class Problem:
    """What a call of ``fit`` or ``partial_fit`` is about, once its arguments are checked.

    Attributes
    ----------
    data : TrainingData
        Rows to train on.
    coding : CodedNumbers or CodedClasses
        How y became targets.
    loss : Loss
        ℓ of a row.
    described : dict
        Fitted attributes that describe X.
    inputs : FittedInputs
        How X became columns of the network.
    held_out : TrainingData or None
        Rows to stop by.
    index : ndarray of int or None
        Class of each row to train on, where it has one.
    chunk : bool
        Whether the rows are one of many chunks.
    """

    data: TrainingData
    coding: CodedNumbers | CodedClasses
    loss: Loss
    described: dict[str, Any]
    inputs: FittedInputs
    held_out: TrainingData | None = None
    index: np.ndarray | None = None
    chunk: bool = False

    def take(self, index: np.ndarray) -> Problem:
        """About some of the rows to train on."""
        labels = None if self.index is None else self.index[index]
        return replace(self, data=self.data.take(index), index=labels)

    def encoded(self, encoding: Any, seed: int) -> Problem:
        """The same with functions of the columns of numbers beside them."""
        if encoding is None:
            return self
        data, held_out = self.data, self.held_out
        inputs, X = self.inputs.encoded(encoding, data.X, data.weights, seed)
        if held_out is not None:
            held_out = replace(held_out, X=inputs.encode(held_out.X))
        return replace(self, data=replace(data, X=X), inputs=inputs, held_out=held_out)

    def stretched(self, factors: np.ndarray) -> Problem:
        """The same with the columns of the network multiplied by factors."""
        held_out = self.held_out
        return replace(
            self,
            data=self.data.stretched(factors),
            inputs=self.inputs.stretched(factors),
            held_out=None if held_out is None else held_out.stretched(factors),
        )


@dataclass(frozen=True)
class Ended:
    """A training that has ended.

    Attributes
    ----------
    problem : Problem
        What it was about.
    training : Training
        How it began.
    trained : TrainedFlow
        The flow.
    left_out : LeftOut or None
        What leave-one-out said of when to stop.
    """

    problem: Problem
    training: Training
    trained: TrainedFlow
    left_out: LeftOut | None = None
