"""Standard deviations of new observations: the rows that they stand on, and their computation.

A fit keeps rows and computes nothing. When deviations are asked for, `diagnostics.posterior` makes
the Gaussian process. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sklearn_gflow.diagnostics import TangentPosterior
from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._rows import TrainingData, row_chunks, subsample
from sklearn_gflow.estimators._settings import FULL_BATCH_SIZE
from sklearn_gflow.estimators._sparse import SparseRows
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.estimators._training import TrainedFlow, Training

__all__ = ["KeptRows"]

# So many rows are kept where one Gram does not hold all of them.
_SAMPLE_ROWS = 256
# Largest number of entries of the kernel between kept rows and inputs that are held at once.
_CROSS_ENTRIES = 2**22


@dataclass(frozen=True)
class KeptRows:
    """Training rows that a fit keeps: all that one Gram holds, or a sample that stands for them.

    Attributes
    ----------
    data : TrainingData
        The rows.
    n_train : int
        How many there were.
    """

    data: TrainingData
    n_train: int

    @classmethod
    def of(cls, training: Training, trained: TrainedFlow, seen: int = 0) -> KeptRows:
        """The rows to keep of a training, after so many rows in chunks before it."""
        data = training.data
        n_samples, n_outputs = data.targets.shape
        at_once = len(trained.kernel_rows) == n_samples
        largest = max(FULL_BATCH_SIZE, training.family.n_params if at_once else 0)
        rows = np.arange(n_samples)
        if seen or n_samples * n_outputs > largest:
            size = max(1, min(_SAMPLE_ROWS, FULL_BATCH_SIZE // n_outputs))
            rows = subsample(n_samples, size, training.settings.generator())
        return cls(data.take(rows), seen + n_samples)

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes."""
        X = self.data.X
        rows = X.matrix if isinstance(X, SparseRows) else X
        return {"_kept": self, "X_train_": rows, "y_train_": self.data.targets}

    def expected_errors(
        self, network: FittedNetwork, X: np.ndarray, model: np.ndarray
    ) -> np.ndarray:
        """√E[(y − model)²] in units of the scaled targets, shape (n_samples, n_outputs)."""
        all_kept = len(self.data.X) == self.n_train
        # The kernel of the start has not seen the targets. Where a sample stands for all rows, the
        # kernel is that of the solution, and the noise is read off its residuals.
        theta = network.reference if all_kept else network.theta
        dtype, device = network.exact_dtype, network.device
        posterior = self._posterior(network, theta, device, dtype, all_kept=all_kept)
        size = max(1, _CROSS_ENTRIES // (len(self.data.X) * network.n_outputs**2))
        squares = []
        for rows in row_chunks(len(X), size):
            other = network.linearize(X[rows], theta, dtype)
            if all_kept:
                prediction = to_tensor(model[rows], "float64", device)
                squares.append(posterior.square_error(other, prediction))
            else:
                squares.append(posterior.predict(other)[1])
        return to_numpy(torch.cat(squares).sqrt())

    def _posterior(
        self,
        network: FittedNetwork,
        theta: np.ndarray,
        device: torch.device,
        dtype: str,
        *,
        all_kept: bool,
    ) -> TangentPosterior:
        """The Gaussian process of the tangent kernel at θ, given the rows that were kept."""
        kept = self.data.distinct() if all_kept else self.data
        weights = None if kept.weights is None else to_tensor(kept.weights, "float64", device)
        posterior = TangentPosterior.by_leave_one_out(
            network.linearize(kept.X, theta, dtype),
            to_tensor(kept.targets, "float64", device),
            weights,
        )
        if all_kept:
            return posterior
        residual = kept.targets - network.model(kept.X)
        return posterior.standing_for(self.n_train, to_tensor(residual, "float64", device))
