"""What a fit is about, and what it ended with: the records that its four verbs hand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklearn_gflow.estimators._checkpoint import Part
from sklearn_gflow.estimators._coding import CodedClasses, CodedNumbers
from sklearn_gflow.estimators._encodings import AUTOMATIC
from sklearn_gflow.estimators._inputs import FittedInputs
from sklearn_gflow.estimators._network import Architecture, FittedNetwork
from sklearn_gflow.estimators._progress import UNTOLD, Task
from sklearn_gflow.estimators._reading import in_partitions, read
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.estimators._shares import SharedRows
from sklearn_gflow.estimators._stopping import LeftOut
from sklearn_gflow.estimators._tensors import check_device
from sklearn_gflow.estimators._training import TrainedFlow, Training
from sklearn_gflow.geometry import Family, Loss, Shape

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
    score : callable or None
        What f_θ − f_θ₀ on rows held out is worth, where the user says by what it is scored.
    checkpoint : Part or None
        Where the training is kept.
    scaled : ndarray or None
        Columns of the rows to train on before they were encoded and stretched, where they were.
    start : FittedNetwork or None
        The network at θ₀, where the fit does not draw one.
    shared : SharedRows or None
        The rows of all ranks that share the fit, of which ``data`` are those that all know.
    rescalings : int
        How often columns are stretched before the flow.
    apart : ndarray of int or None
        The rows to train on that a flow without a given end keeps apart; None where it draws them.
    open_ended : bool or None
        Whether the flow goes over blocks, to where rows held out gain nothing; None where that has
        not been asked.
    """

    data: TrainingData
    coding: CodedNumbers | CodedClasses
    loss: Loss
    described: dict[str, Any]
    inputs: FittedInputs
    held_out: TrainingData | None = None
    index: np.ndarray | None = None
    chunk: bool = False
    score: Callable[[np.ndarray], float] | None = None
    checkpoint: Part | None = None
    scaled: Any = None
    start: FittedNetwork | None = None
    task: Task = UNTOLD
    shared: SharedRows | None = None
    rescalings: int = 0
    apart: np.ndarray | None = None
    open_ended: bool | None = None

    def settled(self, given: Mapping[str, Any], seed: int) -> tuple[Architecture, Family, Settings]:
        """The network that parameters build for the rows, and what they mean for these.

        Raises
        ------
        ValueError
            If they are out of range, or ask for what excludes each other.
        GramMemoryError
            If a Gram that training asks for does not fit.
        """
        X, n_outputs = self.data.X, self.data.targets.shape[1]
        architecture = Architecture.of(given)
        family = architecture.family(X.shape[1], n_outputs, check_device(given["device"]), seed)
        n_samples = len(X) if self.shared is None else self.shared.n_samples
        made_dense = 0 if family.sparse_inputs else self.data.n_made_dense
        settings = Settings.of(
            given, Shape(n_samples, n_outputs, family.n_params), seed,
            loss=self.loss, any_precision=family.any_precision,
            row_numbers=family.row_numbers + made_dense,
            chunk=self.chunk, streamed=in_partitions(X) is not None,
        )  # fmt: skip
        return architecture, family, settings

    def take(self, index: np.ndarray) -> Problem:
        """About some of the rows to train on."""
        labels = None if self.index is None else self.index[index]
        scaled = None if self.scaled is None else read(self.scaled, index)
        return replace(self, data=self.data.take(index), index=labels, scaled=scaled, apart=None)

    def kept_by(self, part: Part) -> Problem:
        """The same, kept in a checkpoint."""
        return replace(self, checkpoint=part)

    def told_by(self, task: Task) -> Problem:
        """The same, as a part of a fit that is told of."""
        return replace(self, task=task)

    def within(self, name: object) -> Problem:
        """The same for a training within this one, which is kept by its own name or number."""
        return self if self.checkpoint is None else self.kept_by(self.checkpoint.under(str(name)))

    def __sizeof__(self) -> int:
        """Bytes of the arrays: a scheduler that asks sends what is large once to a worker."""
        parts = [self.data] if self.held_out is None else [self.data, self.held_out]
        return sum(part.X.size * part.X.dtype.itemsize + part.targets.nbytes for part in parts)

    def in_memory(self) -> Problem:
        """The same with arrays of its own, where they came to a worker as maps of a file."""
        held_out = None if self.held_out is None else self.held_out.in_memory()
        index = None if self.index is None else np.array(self.index)
        return replace(self, data=self.data.in_memory(), held_out=held_out, index=index)

    def encoded(self, encoding: Any, seed: int, *, ramps: bool = False) -> Problem:
        """The same with functions of the columns of numbers beside them; see `FittedInputs`."""
        if encoding is None:
            return self
        data, held_out = self.data, self.held_out
        inputs, X = self.inputs.encoded(encoding, data.X, data.weights, seed, ramps=ramps)
        if inputs is self.inputs:
            return self
        if held_out is not None:
            held_out = replace(held_out, X=inputs.encode(held_out.X))
        return replace(
            self,
            data=replace(data, X=X),
            inputs=inputs,
            held_out=held_out,
            scaled=self._before(),
        )

    @property
    def encoding_by_default(self) -> str | None:
        """The one that "auto" stands for here by name: where it does nothing, None."""
        return None if self.encoded(AUTOMATIC, 0) is self else AUTOMATIC

    def stretched(self, factors: np.ndarray) -> Problem:
        """The same with the columns of the network multiplied by factors."""
        held_out = self.held_out
        return replace(
            self,
            data=self.data.stretched(factors),
            inputs=self.inputs.stretched(factors),
            held_out=None if held_out is None else held_out.stretched(factors),
            scaled=self._before(),
        )

    def _before(self) -> Any:
        """Columns as they were before the first step that makes others of them.

        The user's own array is no such thing: it may change.
        """
        if self.scaled is not None or (self.inputs.scaler is None and self.inputs.table is None):
            return self.scaled
        return self.data.X


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
