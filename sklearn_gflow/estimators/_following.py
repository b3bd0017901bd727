"""Paths of candidates over folds: what they predict of rows held out, at all stopping times.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklearn_gflow.dynamics import Callback, Event, Outcome, Point, tau_from_t
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._reports import incomplete
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.estimators._training import LOOKED_AT, Training

__all__ = ["Path", "follow"]

# A path is left where its loss on the rows held out is so many times the least that it had, and not
# before this time τ: early on the loss may rise before it falls.
_LOST, _NOT_BEFORE = 1.15, 2.0


@dataclass(frozen=True)
class Path:
    """What a path said of the rows held out of one fold.

    Attributes
    ----------
    readings : ndarray of shape (n_times, n_held_out, n_outputs)
        Predictions, or outputs of a classifier.
    factors : ndarray of shape (n_columns,) or None
        By which the columns of the next flow are to be stretched; where it was asked for.
    """

    readings: np.ndarray
    factors: np.ndarray | None = None


class _Recorder(Callback):
    """Keeps outputs on rows held out at every point, and factors at the first beyond t = 0.95."""

    def __init__(self, training: Training, held_out: TrainingData, *, stretch: bool) -> None:
        self.training, self.held_out, self.stretch = training, held_out, stretch
        settings, device = training.settings, training.start.device
        self.X = to_tensor(held_out.X, settings.dtype, device)
        reference = to_tensor(training.network.reference, settings.dtype, device)
        self.reference = training.family.outputs(reference, self.X)

    def start(self, event: Event) -> Mapping[str, float]:
        self.outcome, self.factors = None, None
        self.taus: list[float] = []
        self.models: list[np.ndarray] = []
        self.least = np.inf
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        point = event.point
        self.taus.append(point.tau)
        self.models.append(to_numpy(self.training.family.outputs(point.theta, self.X) - self.reference))
        if self.stretch and self.factors is None and point.tau >= tau_from_t(LOOKED_AT) * (1 - 1e-9):
            self.factors = self.training.factors(point.theta)
        self._leave(point)
        return {}

    def _leave(self, point: Point) -> None:
        """End the flow where it has long passed its best point."""
        residual = self.held_out.targets - self.held_out.start - self.models[-1]
        loss = float((residual**2).mean())
        self.least = min(self.least, loss)
        if loss > _LOST * self.least and point.tau > _NOT_BEFORE and not (self.stretch and self.factors is None):
            self.outcome = Outcome.EARLY_STOPPED


def follow(
    training: Training, problem: Problem, times: Sequence[float], *, stretch: bool = False
) -> Path:
    """Follow the flow through all times, as far as rows held out are not long predicted worse.

    Times after the end of a flow that came to rest early, or was left, are read as its last point.

    Parameters
    ----------
    training : Training
        At its start.
    problem : Problem
        With rows held out.
    times : sequence of float
        Times t, increasing.
    stretch : bool
        Whether to find out factors of the columns.
    """
    held_out = problem.held_out
    assert held_out is not None
    recorder = _Recorder(training, held_out, stretch=stretch)
    alpha = training.settings.alpha
    models = []
    factors = None
    for path in _paths(times, in_blocks=training.settings.in_blocks):
        training_to = training.at(alpha, path[-1])
        taus = tau_from_t(path)
        marks = [*taus[np.isfinite(taus)].tolist()]
        if stretch:
            marks = sorted({*marks, float(tau_from_t(LOOKED_AT))})
        trained = training_to.until(path[-1], [recorder], marks, bare=True)
        incomplete(trained)
        index = np.searchsorted(recorder.taus, taus * (1 - 1e-9))
        last = len(recorder.taus) - 1
        index = np.where(np.isinf(taus), last, np.minimum(index, last))
        if training.settings.in_blocks:  # a flow that arrives at its time by short steps
            index = np.array([last])
        models += [recorder.models[k] for k in index]
        factors = recorder.factors if factors is None else factors
    return Path(np.array([problem.coding.readings(model) for model in models]), factors)


def _paths(times: Sequence[float], *, in_blocks: bool) -> list[list[float]]:
    """Times that one flow passes: t = 1 may have another ridge, and blocks arrive slowly."""
    if in_blocks:
        return [[t] for t in times]
    paths = [[t for t in times if t < 1], [t for t in times if t == 1]]
    return [path for path in paths if path]
