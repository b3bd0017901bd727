"""Columns that are stretched before a flow: how often by default, and the flows that say by what.

Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklearn_gflow.dynamics import t_from_tau
from sklearn_gflow.estimators._reading import in_partitions
from sklearn_gflow.estimators._rows import subsample
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.estimators._training import LOOKED_AT, TrainedFlow, Training

__all__ = ["OF_OPEN_FLOWS", "stretching"]

OF_OPEN_FLOWS = 1
"""How often columns are stretched by default, where a flow over blocks has no given end."""

# Before such a flow, slopes are those after three epochs over at most so many rows: factors hardly
# change after that, and scores are those of factors at t = 0.95, which takes six.
_TAU, _ROWS = 1.5, 20_000
# However few epochs of its own the flow that follows may take, this one is not cut short.
_LEAST_MAX_ITER = 30
# The first layer of that flow starts at this scale. From a smooth start three epochs do not tell
# a column in which the target turns quickly from one that does nothing.
_ROUGH_START = 1.0
# A column keeps so much of its variance, whatever its slope was.
_KEPT = 0.1


def stretching(training: Training) -> tuple[np.ndarray, TrainedFlow]:
    """Factors of the columns, and the flow that found them.

    It goes to t = 0.95; before a flow over blocks without a given end it is a short one, from a
    rough start.
    """
    if not training.settings.open_ended:
        training = training.at(training.settings.alpha, LOOKED_AT)
        trained = training.until(LOOKED_AT)
        return training.factors(trained.trajectory.theta), trained
    t_end, training = float(t_from_tau(_TAU)), _rough(_of_some_rows(training))
    settings = training.settings.at(training.settings.alpha, t_end)
    enough = max(settings.given["max_iter"], _LEAST_MAX_ITER)
    short = replace(training, settings=settings.with_parameters(max_iter=enough))
    trained = short.until(t_end, bare=True)
    return short.factors(trained.trajectory.theta, kept=_KEPT), trained


def _of_some_rows(training: Training) -> Training:
    """The same over few rows, unless ranks or partitions have them."""
    data, labels = training.data, training.labels
    elsewhere = training.own is not None or in_partitions(data.X) is not None
    if len(data.X) <= _ROWS or elsewhere:
        return training
    rows = np.sort(subsample(len(data.X), _ROWS, training.settings.generator(), labels))
    labels = None if labels is None else labels[rows]
    return replace(training, data=data.take(rows), labels=labels)


def _rough(training: Training) -> Training:
    """The same from a start of another scale, with the same draws."""
    settings, network = training.settings, training.network
    initial = training.family.initial(settings.generator(), input_scale=_ROUGH_START)
    theta = to_numpy(initial)
    start = to_tensor(theta, settings.dtype, training.start.device)
    return replace(training, start=start, network=replace(network, theta=theta, reference=theta))
