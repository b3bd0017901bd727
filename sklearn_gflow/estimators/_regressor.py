"""The regressor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from torch import Tensor

from sklearn_gflow.diagnostics import TangentPosterior
from sklearn_gflow.estimators._attributes import INPUTS, KERNEL, LAYERS, PATH, TARGETS
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._description import described
from sklearn_gflow.estimators._rows import Rows, TrainingData, row_chunks, subsample
from sklearn_gflow.estimators._training import TrainedFlow
from sklearn_gflow.estimators._validation import (
    FULL_BATCH_SIZE,
    _fit_context,
    check_device,
    check_fitted_data,
    seed_generator,
    to_numpy,
    to_tensor,
)
from sklearn_gflow.geometry import Linearization

__all__ = ["AdaptedFlowRegressor"]

# Where not all rows fit into one Gram, so many stand for them in the standard deviations.
_SAMPLE_ROWS = 256
_CROSS_ENTRIES = 2**22  # of the kernel between kept rows and inputs, at once


@described(PATH, KERNEL, LAYERS, TARGETS, INPUTS)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowRegressor(RegressorMixin, BaseAdaptedFlow):
    """Neural-network regression trained by the α-family of gradient flows.

    ``alpha`` is the homotopy between the standard gradient flow (0) and the adapted flow (1) of
    [1]_, not the L2 strength that `sklearn.neural_network.MLPRegressor` gives that name.

    The parameters θ of a layered network x(θ) follow, full batch,

        θ' = −(α (DᵀD)⁺ + (1−α)/c) ∇θC,   C = |x − y|²/(2N),   D = ∂x/∂θ,

    in the time t = 1 − e^{−s/N} (2.32), (2.48), (2.52). At ``alpha=1`` and full rank of D the
    training outputs move in a straight line from their mean to the labels, and
    ``loss_curve_[k] / loss_curve_[0] == (1 - history_["t"][k])**2`` to the step tolerance.

    See Also
    --------
    AdaptedFlowClassifier : The same flow on class labels.

    References
    ----------
    .. [1] T. Chen, P. Muñoz Ewald, "Gradient flow in parameter space is equivalent to linear
       interpolation in output space", arXiv:2408.01517, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_gflow import AdaptedFlowRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> flow = AdaptedFlowRegressor((64, 64), alpha=1.0, t_end=1.0, random_state=0)
    >>> model = make_pipeline(StandardScaler(), flow).fit(X, y)
    >>> bool(flow.loss_ <= 1e-20), flow.ntk_rank_
    (True, 442)
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Follow the flow from a random start to ``t_end``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training inputs; scale them first.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence.
        X_val, y_val : array-like, optional
            Rows to stop by, with ``early_stopping=True``; otherwise some are held out of X.

        Returns
        -------
        self : AdaptedFlowRegressor
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or training leaves the finite numbers.
        GramMemoryError
            If the Gram would not fit into memory.
        """
        data, held_out, labels = self._prepare(X, y, sample_weight, X_val, y_val)
        trained = self._train(data, held_out, labels)
        self._expose(trained)
        self._keep_rows(data, trained)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Follow the flow over one chunk of rows, from the last solution if there is one.

        The rows are cut into blocks of ``batch_size`` rows, 256 for "auto" and all for None, and
        each block flows once. All steps are as long as the first ones of a fit in blocks:
        h = 0.5 at the default ``t_end``; to let noise die out, lower ``t_end`` for the last
        chunks. The first call draws the start θ₀, takes ``target_mean_`` and ``target_scale_``
        from its chunk, and the unit c of ``metric_scale="trace"``; later calls keep them, so
        the first chunk should be no exception. After ``fit`` it goes on from there.

        Points are appended to ``history_`` and ``loss_curve_``: the loss is that of the chunk
        after its pass. Time adds up as if every chunk were all rows. What describes the
        solution (kernel, ``outcome_``, ``solver_``) is that of the last chunk.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs of the chunk; at least two rows in the first call.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets of the chunk.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row in its block, zero as its absence.

        Returns
        -------
        self : AdaptedFlowRegressor
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, do not fit what was learnt before, or
            training leaves the finite numbers.
        GramMemoryError
            If the Gram of a block would not fit into memory.
        """
        rows = self._validate_rows(
            X, y, sample_weight, chunk=True, multi_output=True, y_numeric=True
        )
        self._fit_scaling(rows, chunk=True)
        before, data = self._path(), self._scaled(rows)
        seen = self._n_train if self._continues(chunk=True) else 0
        trained = self._train_chunk(data)
        self._expose(trained)
        self._keep_rows(data, trained, seen)
        self._join_path(before)
        return self

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> tuple[TrainingData, TrainingData | None, None]:
        check_y = {"multi_output": True, "y_numeric": True}
        rows = self._validate_rows(X, y, sample_weight, **check_y)
        rows, held_out = self._split(rows, X_val, y_val, labels=None, **check_y)
        self._fit_scaling(rows)
        if held_out is None:
            return self._scaled(rows), None, None
        if held_out.y.shape[1:] != rows.y.shape[1:]:
            raise ValueError(
                f"y_val must have the outputs of y, shape (n, *{rows.y.shape[1:]}); got shape "
                f"{held_out.y.shape}"
            )
        if len(held_out.X) < 2:
            raise ValueError(
                "early_stopping=True needs at least 2 rows to score; raise validation_fraction, "
                "or hand over more rows in X_val and y_val"
            )
        return self._scaled(rows), self._scaled(held_out), None

    def _fit_scaling(self, rows: Rows, *, chunk: bool = False) -> None:
        """Mean and scale of the targets; those of the last fit where it is continued."""
        targets, weights = _columns(rows.y), rows.weights
        continues = self._continues(chunk=chunk)
        if continues and targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"{self._continuing(chunk)} continues from the last fit, which had "
                f"{self.n_outputs_} outputs, and y has {targets.shape[1]}; keep them, or start "
                "anew by fit with warm_start=False"
            )
        if not continues:
            self.target_mean_ = np.average(targets, axis=0, weights=weights)
            deviation = targets - self.target_mean_
            scale = np.sqrt(np.average(deviation**2, axis=0, weights=weights))
            # A constant column has no scale, and the rounding of its mean is no target.
            constant = np.ptp(targets, axis=0) == 0
            self.target_mean_ = np.where(constant, targets[0], self.target_mean_)
            self.target_scale_ = np.where(constant, 1.0, scale)
        self._y_ndim = np.ndim(rows.y)

    def _scaled(self, rows: Rows) -> TrainingData:
        targets = (_columns(rows.y) - self.target_mean_) / self.target_scale_
        return TrainingData(rows.X, targets, rows.weights, start=np.zeros(targets.shape[1]))

    def _judge(self, outputs: np.ndarray, rows: TrainingData) -> tuple[float, float]:
        if not np.isfinite(outputs).all():
            return -np.inf, np.inf
        squares = ((rows.targets - outputs) ** 2).sum(axis=1)
        loss = float(np.average(squares, weights=rows.weights) / 2)
        return float(r2_score(rows.targets, outputs, sample_weight=rows.weights)), loss

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Predict targets, and how far new observations should be from them.

        ``return_std`` reads the network as the Gaussian process whose covariance is its tangent
        kernel Θ at the start, with an amplitude and a noise for each output under which rows left
        out are the most probable. The standard deviation is √E[(y − prediction)²] of a new
        observation y under this process given the training rows: its variance, noise included,
        and the square of what the prediction lacks of its mean.

        Nothing of it is computed in ``fit``. Each call takes an eigendecomposition for each
        output: hand over all inputs at once. Where not all rows are kept (``X_train_``), the
        kernel is that of the solution on a subsample whose rows stand for all, the network
        stands for the mean, and the noise is read off its residuals on these rows, with
        the degrees of freedom that the kernel takes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            Whether to return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            As y had it in ``fit``.
        std : ndarray of the same shape
            In units of y; only with ``return_std``.
        """
        model = self._model(X)
        if not return_std:
            return self._predictions(model)
        std = self.target_scale_ * self._expected_errors(check_fitted_data(self, X), model)
        return self._predictions(model), self._shaped(std.astype(model.dtype))

    def staged_predict(self, X: ArrayLike) -> Iterator[np.ndarray]:
        """Predict targets at every point of the path, the start first; needs ``store_path``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Yields
        ------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions at the time ``history_["t"][k]``.

        Raises
        ------
        ValueError
            If the path was not stored.
        """
        for model in self._staged_models(X):
            yield self._predictions(model)

    def _predictions(self, model: np.ndarray) -> np.ndarray:
        predicted = self.target_mean_ + self.target_scale_ * model
        return self._shaped(predicted.astype(model.dtype))

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        """As y had it."""
        return values[:, 0] if self._y_ndim == 1 else values

    # -- how large errors should be ------------------------------------------------------------

    def _keep_rows(self, data: TrainingData, trained: TrainedFlow, seen: int = 0) -> None:
        """Keep the rows that ``return_std`` stands on: all that one Gram holds, or a sample."""
        n_samples, n_outputs = data.targets.shape
        at_once = len(trained.kernel_rows) == n_samples
        largest = max(FULL_BATCH_SIZE, len(self._theta) if at_once else 0)
        rows = np.arange(n_samples)
        if seen or n_samples * n_outputs > largest:
            size = max(1, min(_SAMPLE_ROWS, FULL_BATCH_SIZE // n_outputs))
            rows = subsample(n_samples, size, seed_generator(self.random_state))
        kept = data.take(rows)
        self.X_train_, self.y_train_, self._train_weights = kept.X, kept.targets, kept.weights
        self._n_train = seen + n_samples

    def _expected_errors(self, X: np.ndarray, model: np.ndarray) -> np.ndarray:
        """√E[(y − model)²] in units of the scaled targets, shape (n_samples, n_outputs)."""
        all_kept = len(self.X_train_) == self._n_train
        # The kernel of the start has not seen the targets; of a sample, the residuals speak.
        theta = self._theta_reference if all_kept else self._theta
        posterior = self._posterior(theta, all_kept=all_kept)
        size = max(1, _CROSS_ENTRIES // (len(self.X_train_) * self.n_outputs_**2))
        squares = []
        for rows in row_chunks(len(X), size):
            other = self._linearize_exactly(X[rows], theta)
            if all_kept:
                squares.append(posterior.square_error(other, self._double(model[rows])))
            else:
                squares.append(posterior.predict(other)[1])
        return to_numpy(torch.cat(squares).sqrt())

    def _posterior(self, theta: np.ndarray, *, all_kept: bool) -> TangentPosterior:
        """The Gaussian process of the tangent kernel at θ, given the rows that were kept."""
        start = np.zeros(self.n_outputs_)
        kept = TrainingData(self.X_train_, self.y_train_, self._train_weights, start)
        if all_kept:
            kept = kept.distinct()
        weights = None if kept.weights is None else self._double(kept.weights)
        posterior = TangentPosterior.by_leave_one_out(
            self._linearize_exactly(kept.X, theta), self._double(kept.targets), weights
        )
        if all_kept:
            return posterior
        residual = kept.targets - next(self._models_of(kept.X, self._theta[None]))
        return posterior.standing_for(self._n_train, self._double(residual))

    def _linearize_exactly(self, X: np.ndarray, theta: np.ndarray) -> Linearization:
        """In float64, of which small eigenvalues have need; a module stays in its precision."""
        return self._linearize(X, theta, "float64" if self.module is None else self.dtype)

    def _double(self, array: np.ndarray) -> Tensor:
        return to_tensor(array, "float64", check_device(self.device))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _columns(y: np.ndarray) -> np.ndarray:
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
