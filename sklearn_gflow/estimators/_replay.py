"""The flow of a fit followed once more, for what each training row did in it.

A fit keeps where its steps ended, and its training rows; nothing is computed until it is asked for.
Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from sklearn_gflow.diagnostics import LeftOutAlong, contributions
from sklearn_gflow.dynamics import DualStep, FlowOptions, dual_steps
from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._problem import Ended
from sklearn_gflow.estimators._reading import read, row_chunks
from sklearn_gflow.estimators._reports import elsewhere, warn
from sklearn_gflow.estimators._rows import TableRows, TrainingData, as_tensor
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.geometry import Loss, OutputMap

__all__ = ["Replay", "other_way"]

# Largest number of entries of a kernel between training rows and inputs that is held at once.
_CROSS_ENTRIES = 2**22


@dataclass(frozen=True)
class Replay:
    """How to follow the full batch's flow of a fit once more.

    Attributes
    ----------
    options : FlowOptions
        Its constants, with the c that was measured.
    taus : tuple of float
        Where its steps ended, in τ.
    loss : Loss
        ℓ of a row.
    """

    options: FlowOptions
    taus: tuple[float, ...]
    loss: Loss

    @classmethod
    def of(cls, ended: Ended) -> Replay | None:
        """That of a training that ended; None where `other_way` names another kind of flow."""
        if other_way(ended) is not None:
            return None
        training, trajectory = ended.training, ended.trained.trajectory
        options = cls.options_of(training.settings, trajectory.scale)
        return cls(options, tuple(trajectory.step_taus), training.loss)

    @staticmethod
    def options_of(settings: Settings, scale: float | None) -> FlowOptions:
        """The constants of a flow with these settings and a measured c."""
        return replace(
            settings.options,
            solver=settings.given["solver"],  # by the name that the user gave it
            metric_scale=scale,
            store_path=False,
        )

    def contributions(
        self, network: FittedNetwork, data: TrainingData, X: np.ndarray
    ) -> np.ndarray:
        """What each training row contributed to f_θ − f_θ₀ at X, shape (n, Q, N)."""
        found = np.zeros((len(X), network.n_outputs, len(data.X)))
        if not self.taus:
            return found
        # In the precision of the fit: in another one the flow ends at other parameters.
        steps = list(self._steps(network, data, network.dtype))
        for rows, samples in _samples(network, data, X, network.dtype):
            found[rows] = to_numpy(contributions(steps, samples))
        warn(elsewhere(found.sum(axis=2), network.model(X)))
        return found

    def deletions(self, network: FittedNetwork, data: TrainingData, X: np.ndarray) -> np.ndarray:
        """Outputs at X less those without each training row, shape (n, Q, N)."""
        samples = [one for _, one in _samples(network, data, X, network.exact_dtype)]
        if not self.taus:
            # The start alone, which is the mean of the targets.
            weights = np.ones(len(data.X)) if data.weights is None else data.weights
            drive = weights * (data.targets - data.start).T / (weights.sum() - weights)
            return np.repeat(drive[None], len(X), axis=0)
        along = LeftOutAlong().follow(self._decomposed(network, data), samples)
        return to_numpy(along.effects())

    def left_out(self, network: FittedNetwork, data: TrainingData) -> np.ndarray:
        """Target minus output of each row that is left out in turn, shape (N, Q).

        Copies of a row should be one row of their weight, to be left out together.
        """
        if not self.taus:
            return data.targets - data.start
        return to_numpy(LeftOutAlong().follow(self._decomposed(network, data)).residuals())

    def _decomposed(self, network: FittedNetwork, data: TrainingData) -> Iterator[DualStep]:
        """The steps with eigenvectors, and a warning where they end elsewhere than the fit."""
        for step in self._steps(network, data, network.exact_dtype, eigenvectors=True):
            yield step
            end = step.end
        outputs = to_numpy(end.tangent.unweigh(end.outputs))
        warn(elsewhere(outputs - data.start, network.model(data.X)))

    def _steps(
        self, network: FittedNetwork, data: TrainingData, dtype: str, *, eigenvectors: bool = False
    ) -> Iterator[DualStep]:
        device = network.device
        reference: torch.Tensor = to_tensor(network.reference, dtype, device)
        rows = TableRows(network.family(device), data, reference, dtype, self.loss)
        return dual_steps(
            *rows.block(slice(None)), reference, self.taus, self.options, eigenvectors=eigenvectors
        )


def other_way(ended: Ended) -> str | None:
    """What a training did in place of a flow that can be followed again, with what to set.

    None where it was such a flow: in the full batch, by steps of its own, from a new start.
    """
    training = ended.training
    given = training.settings.given
    if ended.problem.chunk:
        return "went over chunks by partial_fit; call fit"
    if training.before is not None:
        return "went on from an earlier one; set warm_start=False"
    if given["method"] != "exponential":
        return f"was by method={given['method']!r}; set method='exponential'"
    if training.settings.in_blocks:
        return "went over blocks of rows; set batch_size=None"
    if training.settings.fast:  # whose moves are not told apart
        return "took many moves with one factor; set schedule='adaptive'"
    return None


def _samples(
    network: FittedNetwork, data: TrainingData, X: np.ndarray, dtype: str
) -> Iterator[tuple[slice, OutputMap]]:
    """Rows of X as output maps, so few at once that the kernel to the training rows is small."""
    family = network.family()
    size = max(1, _CROSS_ENTRIES // (len(data.X) * network.n_outputs**2))
    for rows in row_chunks(len(X), size):
        inputs = as_tensor(family, read(X, rows), dtype, network.device)
        yield rows, OutputMap(family, inputs)
