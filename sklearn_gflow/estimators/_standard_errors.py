"""Standard deviations of new observations: the rows that they stand on, and their computation.

A fit keeps rows and computes nothing. When deviations are asked for, `diagnostics.posterior` makes
the Gaussian process. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sklearn_gflow.diagnostics import TangentPosterior
from sklearn_gflow.estimators._inputs import FittedInputs
from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._problem import Ended
from sklearn_gflow.estimators._reading import read, row_chunks
from sklearn_gflow.estimators._rows import TrainingData, subsample
from sklearn_gflow.estimators._settings import FULL_BATCH_SIZE
from sklearn_gflow.estimators._sparse import SparseRows
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor

__all__ = ["KeptRows"]

# So many rows are kept where one Gram does not hold all of them.
_SAMPLE_ROWS = 256
# Largest number of entries of the kernel between kept rows and inputs that are held at once.
_CROSS_ENTRIES = 2**22
# The name of what is computed once and is no part of a fit.
_KNOWN = "_known"


@dataclass(frozen=True)
class KeptRows:
    """Training rows that a fit keeps: all that one Gram holds, or a sample that stands for them.

    Attributes
    ----------
    data : TrainingData
        The rows.
    n_train : int
        How many there were.
    scaled : ndarray or None
        Their columns before these were encoded and stretched, where they were: fewer, and the
        same array for all members of an ensemble.
    """

    data: TrainingData
    n_train: int
    scaled: np.ndarray | None = None

    @classmethod
    def of(cls, ended: Ended, seen: int = 0) -> KeptRows:
        """The rows to keep of a training, after so many rows in chunks before it."""
        training, trained, scaled = ended.training, ended.trained, ended.problem.scaled
        data = training.data
        n_samples, n_outputs = data.targets.shape
        at_once = len(trained.kernel_rows) == n_samples
        largest = max(FULL_BATCH_SIZE, training.family.n_params if at_once else 0)
        rows = np.arange(n_samples)
        if seen or n_samples * n_outputs > largest:
            size = max(1, min(_SAMPLE_ROWS, FULL_BATCH_SIZE // n_outputs))
            rows = subsample(n_samples, size, training.settings.generator())
        if scaled is not None and (len(rows) < n_samples or not isinstance(scaled, np.ndarray)):
            scaled = read(scaled, rows)
        return cls(data.take(rows), seen + n_samples, scaled)

    def take(self, rows: np.ndarray) -> KeptRows:
        """Some of them, as all that there are."""
        data, scaled = self.data.take(rows), self.scaled
        return KeptRows(data, len(data.X), None if scaled is None else read(scaled, rows))

    def sharing(self, data: TrainingData) -> KeptRows:
        """The same with the arrays of others where they are equal, as those of a worker are."""

        def of_both(own: Any, other: Any) -> Any:
            alike = isinstance(other, np.ndarray) and np.array_equal(own, other)
            return other if alike else own

        kept = self.data
        kept = replace(kept, X=of_both(kept.X, data.X), targets=of_both(kept.targets, data.targets))
        scaled = None if self.scaled is None else of_both(self.scaled, data.X)
        return replace(self, data=kept, scaled=scaled)

    def packed(self, inputs: FittedInputs) -> KeptRows:
        """The same without the network's columns, where they can be made again to the bit."""
        if self.scaled is None or isinstance(self.data.X, SparseRows):
            return self
        if not np.array_equal(inputs.finished(self.scaled), self.data.X):
            return self
        return replace(self, data=replace(self.data, X=self.data.X[:0]))

    def unpacked(self, inputs: FittedInputs) -> KeptRows:
        """The same with the network's columns."""
        if self.scaled is None:
            return self
        return replace(self, data=replace(self.data, X=inputs.finished(self.scaled)))

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes."""
        X = self.data.X
        rows = X.matrix if isinstance(X, SparseRows) else X
        return {"_kept": self, "X_train_": rows, "y_train_": self.data.targets}

    def expected_errors(
        self, network: FittedNetwork, X: np.ndarray, model: np.ndarray
    ) -> np.ndarray:
        """√E[(y − model)²] in units of the scaled targets, shape (n_samples, n_outputs)."""
        all_kept, (theta, dtype) = self.complete, self._looked_at(network)
        device, posterior = network.device, self._posterior_of(network)
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

    @property
    def complete(self) -> bool:
        """Whether these are all rows."""
        return len(self.data.X) == self.n_train

    def _looked_at(self, network: FittedNetwork) -> tuple[np.ndarray, str]:
        """The θ of the kernel, and its precision.

        The kernel of the start has not seen the targets. Where a sample stands for all rows, the
        kernel is that of the solution, and the noise is read off its residuals.
        """
        theta = network.reference if self.complete else network.theta
        return theta, network.exact_dtype

    def _posterior_of(self, network: FittedNetwork) -> TangentPosterior:
        """The Gaussian process of the tangent kernel, given these rows."""
        found: TangentPosterior = self.once("posterior", network, self._posterior)
        return found

    def once(self, what: str, network: FittedNetwork, make: Callable[[FittedNetwork], Any]) -> Any:
        """What is made of these rows and of a network, found in memory the second time.

        Two threads that come at once both make it, and find the same.
        """
        known = vars(self).setdefault(_KNOWN, {})
        if what not in known or known[what][0] is not network:
            known[what] = network, make(network)
        return known[what][1]

    def _posterior(self, network: FittedNetwork) -> TangentPosterior:
        (theta, dtype), device = self._looked_at(network), network.device
        kept = self.data.distinct() if self.complete else self.data
        weights = None if kept.weights is None else to_tensor(kept.weights, "float64", device)
        posterior = TangentPosterior.by_leave_one_out(
            network.linearize(kept.X, theta, dtype),
            to_tensor(kept.targets, "float64", device),
            weights,
        )
        if self.complete:
            return posterior
        residual = kept.targets - network.model(kept.X)
        return posterior.standing_for(self.n_train, to_tensor(residual, "float64", device))

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or a copy holds: nothing that can be computed again."""
        return {name: value for name, value in vars(self).items() if name != _KNOWN}
