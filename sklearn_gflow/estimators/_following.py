"""Paths of candidates over folds: what they predict of rows held out, at all stopping times.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sklearn_gflow.dynamics import Callback, Event, Outcome, t_from_tau, tau_from_t
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._reports import incomplete
from sklearn_gflow.estimators._rows import TrainingData, as_tensor
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.estimators._training import LOOKED_AT, Training

__all__ = ["Path", "follow"]

# A path is left where its loss on the rows held out is so many times the least that it had, and not
# before this time τ: early on the loss may rise before it falls.
_LOST, _NOT_BEFORE = 1.15, 2.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Path:
    """What a path said of the rows held out of one fold.

    Attributes
    ----------
    readings : ndarray of shape (n_times, n_held_out, n_outputs)
        Predictions, or outputs of a classifier.
    factors : ndarray of shape (n_columns,) or None
        By which the columns of the next flow are to be stretched; None where it was not asked for,
        or the path did not come to t = 0.95.
    training : ndarray of shape (n_times, n_samples, n_outputs) or None
        The same of the rows that were trained on, where it was asked for.
    n_iter : int or None
        Epochs, where rows kept apart ended the path.
    """

    readings: np.ndarray
    factors: np.ndarray | None = None
    training: np.ndarray | None = None
    n_iter: int | None = None


class _Recorder(Callback):
    """Keeps outputs at every point, and factors at the first from t = 0.95 on.

    Outputs are those on rows held out, and on the rows that are trained on where these are asked
    for.
    """

    changing = ("taus", "models", "factors", "least", "lost")

    def __init__(
        self, training: Training, held_out: TrainingData, *, stretch: bool, both: bool
    ) -> None:
        self.training, self.held_out, self.stretch = training, held_out, stretch
        settings, device = training.settings, training.start.device
        tables = [held_out, training.data] if both else [held_out]
        family, dtype = training.family, settings.dtype
        self.X = [as_tensor(family, rows.X, dtype, device) for rows in tables]
        reference = to_tensor(training.network.reference, settings.dtype, device)
        self.references = [training.family.outputs(reference, X) for X in self.X]
        self.factors: np.ndarray | None = None
        self.lost = False

    def start(self, event: Event) -> Mapping[str, float]:
        """Begin a record."""
        self.lost, self.least = False, np.inf
        self.taus: list[float] = []
        self.models: list[list[np.ndarray]] = []
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """Record a point."""
        point = event.point
        outputs = self.training.family.outputs
        self.taus.append(point.tau)
        self.models.append(
            [
                to_numpy(outputs(point.theta, X) - reference)
                for X, reference in zip(self.X, self.references, strict=True)
            ]
        )
        awaited = self.stretch and self.factors is None
        if awaited and point.tau >= tau_from_t(LOOKED_AT) * (1 - _ROUNDING):
            self.factors = self.training.factors(point.theta)
        elif not awaited and point.tau > _NOT_BEFORE and self._is_lost():
            self.lost = True
        return {}

    @property
    def outcome(self) -> Outcome | None:  # type: ignore[override]
        """Why the path is left, once it is lost."""
        return Outcome.EARLY_STOPPED if self.lost else None

    def _is_lost(self) -> bool:
        """Whether the path has long passed its best point."""
        targets = self.held_out.targets - self.held_out.start
        loss = float(np.mean((targets - self.models[-1][0]) ** 2))
        self.least = min(self.least, loss)
        return loss > _LOST * self.least

    def at(self, taus: np.ndarray) -> list[list[np.ndarray]]:
        """f_θ − f_θ₀ at some times; after the end of the path those of its last point."""
        index = np.searchsorted(self.taus, taus * (1 - _ROUNDING))
        index[np.isinf(taus)] = len(self.taus)  # several steps may end at t = 1
        return [self.models[min(k, len(self.models) - 1)] for k in index]


def follow(
    training: Training,
    problem: Problem,
    times: Sequence[float],
    *,
    stretch: bool = False,
    both: bool = False,
) -> Path:
    """Follow the flow through all times, as far as rows held out are not long predicted worse.

    Parameters
    ----------
    training : Training
        At its start.
    problem : Problem
        With rows held out.
    times : sequence of float
        Times t, increasing.
    stretch : bool
        Whether to find out by what the columns are to be stretched.
    both : bool
        Whether to predict the rows that are trained on, too.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If training leaves the finite numbers.
    """
    held_out = problem.held_out
    assert held_out is not None
    recorder = _Recorder(training, held_out, stretch=stretch, both=both)
    settings = training.settings
    models: list[list[np.ndarray]] = []
    paths = _paths(times, in_blocks=settings.in_blocks)
    for k, path in enumerate(paths):
        taus = tau_from_t(path)
        marks = set(taus[np.isfinite(taus)].tolist())
        if stretch:
            marks.add(float(tau_from_t(LOOKED_AT)))
        training_to = training.at(settings.alpha, path[-1]).within(len(models))
        teller = problem.task.teller(flow=k, n_flows=len(paths))
        training_to = replace(training_to, teller=teller)
        incomplete(training_to.until(path[-1], [recorder], sorted(marks), bare=True))
        models += recorder.at(taus)
    problem.task.say(f"followed up to t = {t_from_tau(recorder.taus[-1]):.6g}")
    held, *trained = (
        np.array([problem.coding.readings(model) for model in of_table])
        for of_table in zip(*models, strict=True)
    )
    return Path(held, recorder.factors, trained[0] if trained else None)


def _paths(times: Sequence[float], *, in_blocks: bool) -> list[list[float]]:
    """Times that one flow passes: t = 1 may have another ridge, and blocks arrive slowly."""
    if in_blocks:
        return [[t] for t in times]
    paths = [[t for t in times if t < 1], [t for t in times if t == 1]]
    return [path for path in paths if path]
