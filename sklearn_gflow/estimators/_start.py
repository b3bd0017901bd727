"""The flow that a fit would follow, handed out at its start. Notation: docs/notation.md."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_gflow.dynamics import FlowOptions
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.geometry import Cost, OutputMap

__all__ = ["OfStart", "StartOfFlow"]


class StartOfFlow(NamedTuple):
    """What flows and diagnostics take, in their order.

    Attributes
    ----------
    output_map : OutputMap
        θ ↦ x(θ) on the rows to train on.
    cost : Cost
        C, in the units of ``history_["loss"]``.
    theta : Tensor of shape (K,)
        θ₀.
    options : FlowOptions
        α, c, the ridge, the solver.
    """

    output_map: OutputMap
    cost: Cost
    theta: Tensor
    options: FlowOptions


class OfStart:
    """What an estimator knows before it is fitted."""

    def start_of(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> StartOfFlow:
        """The flow in the full batch that ``fit`` on these rows would follow, at its start.

        For `dynamics.flow` with callbacks of one's own, and for `diagnostics`:
        ``stopping_time(1e-3, *model.start_of(X, y))``. Nothing is fitted, save flows that stretch
        columns (``rescalings``). Rows that ``fit`` would hold out are left out.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            As for ``fit``.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for ``fit``.
        sample_weight : array-like of shape (n_samples,), optional
            As for ``fit``.

        Returns
        -------
        StartOfFlow
            (output_map, cost, theta, options), torch objects of `geometry` and `dynamics`.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range.
        """
        this: Any = self
        this._validate_params()
        with undisturbed():
            problem = this._prepared(this._validate(X, y, sample_weight, None, None))
            training = this._build(problem)
            output_map, cost = training.whole(training.data)
        return StartOfFlow(output_map, cost, training.start, training.settings.options)
