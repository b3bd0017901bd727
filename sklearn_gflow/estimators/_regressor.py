"""The regressor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from torch import Tensor

from sklearn_gflow.diagnostics import TangentPosterior
from sklearn_gflow.estimators._base import BaseAdaptedFlow
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


class AdaptedFlowRegressor(RegressorMixin, BaseAdaptedFlow):
    """Neural-network regression trained by the α-family of gradient flows.

    ``alpha`` is the homotopy between the standard gradient flow (0) and the adapted flow (1) of
    [1]_, not the L2 strength that `sklearn.neural_network.MLPRegressor` gives that name.

    The parameters θ of a layered network x(θ) follow, full batch,

        θ' = −(α (DᵀD)⁺ + (1−α)/c) ∇θC,   C = |x − y|²/(2N),   D = ∂x/∂θ,

    in the time t = 1 − e^{−s/N} (2.32), (2.48), (2.52). At ``alpha=1`` and full rank of D the
    training outputs move in a straight line from their mean to the labels, and
    ``loss_curve_[k] / loss_curve_[0] == (1 - history_["t"][k])**2`` to the step tolerance.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(100, 100)
        Widths of the hidden layers; ``()`` is a linear model.
    activation : {"tanh", "silu", "gelu", "softplus", "relu", "identity"}, default="tanh"
        Of all hidden layers. The theory asks for a Lipschitz D, which "relu" has not.
    init_scale : "auto" or float, default="auto"
        Scale of the first layer's weights at the start, N(0, init_scale²/n_features). Small: the
        network starts as a smooth function and bends where the data ask for it. 1.0: a
        better conditioned G, which follows the straight line more closely and in fewer steps.
        "auto": 0.3, and 1.0 in the full batch at ``alpha=1``. Not with ``module``.
    alpha : float, default=0.5
        α of (2.32), in [0, 1]. 0: standard gradient flow; 1: adapted flow, which interpolates.
        Small values generalise better on noisy data.
    t_end : float, default=0.95
        Stopping time t in (0, 1]; the earlier, the smoother. 1.0 runs until ``tol`` or
        ``max_iter``.
    schedule : "adaptive", int or increasing sequence of float, default="adaptive"
        Steps as long as their error allows; or that many equal steps in t; or steps to the
        given times in (0, ``t_end``], the last of which ends the flow.
    method : {"exponential", "RK45", "DOP853", "Radau", "LSODA"}, default="exponential"
        The exponential step with D frozen over each step, or the same flow by
        `scipy.integrate.solve_ivp`, which reports its own steps or, by dense output, the times
        of ``schedule``. Radau and LSODA difference the field in all parameters: small nets only.
    solver : {"auto", "cholesky", "eigh", "svd", "shared", "krylov"}, default="auto"
        How f(G) is applied. "auto" takes Cholesky at full rank, with a Krylov space for the
        smooth part of f at ``alpha < 1``, and eigenvectors otherwise, of the smaller of DDᵀ and
        DᵀD. "cholesky" tries a jitter before it turns to eigenvectors, and then reports no rank.
        "svd" decomposes D, whose small singular values it resolves best. "shared" takes the
        same kernel for each of the Q outputs, the mean K̄ of theirs: f(K̄)⊗1 for f(G), an
        approximation for wide networks that factorises N×N instead of QN×QN and knows no rank.
        "auto" takes it in blocks from three outputs on. In the full batch it needs ``damping``.
        "krylov" forms no matrix and iterates on products with D and Dᵀ, in memory linear in the
        outputs (11 kB for each in float64), to a residual that ``solver_`` tells. From thousands
        of outputs on it is the fastest with ``damping``, without it slower than Cholesky. It
        knows no rank and takes no ``rcond``.
    batch_size : "auto", int or None, default="auto"
        None: full batch. An int: random blocks of at most that many rows, each of which flows
        for a short time in every epoch; a block of all rows is the full batch. "auto": full
        batch up to 2,000 outputs (rows × outputs; more in small networks, and with
        ``solver="krylov"`` as many as fit in memory), else blocks of 256 rows. The steps of blocks
        decay linearly to zero, their times add up to ``t_end`` (6 epochs for 0.95), and an int
        ``schedule`` is the number of epochs. An epoch that raises the loss by more than half is
        undone and the rest is gone in shorter steps; ``outcome_`` tells. Steps are computed in
        float32 unless ``damping`` is below 1e-4 or a ``module`` is given.
    rcond : float or None, default=None
        Singular values of D up to ``rcond`` times the largest count as zero. None follows
        dtype and size. With ``damping`` a number asks for eigenvectors at every step.
    damping : "auto" or float, default="auto"
        Ridge added to the Gram, relative to the mean of its diagonal: steps are those of
        Levenberg and Marquardt, and D⁺ does not amplify the modes of noise. "auto": α(1−α)/3 in
        the full batch, which is none at ``alpha`` 0 and 1, where the theorems are, none with
        ``t_end=1`` either unless it stops early, and 0.03 in blocks.
    metric_scale : "trace" or float, default="trace"
        c, the unit of the Gram's eigenvalues: tr(G₀)/QN at the start, or a positive number;
        1.0 is the field of the paper.
    max_iter : int, default=500
        Largest number of accepted steps, of epochs in blocks; there ``t_end=1`` takes that many.
    tol : float, default=1e-10
        Residual, relative to the one at the start, at which the flow has converged.
    n_iter_no_change : int, default=10
        The flow ends after this many steps in a row that lower the relative residual by less
        than ``tol``. Of the exponential method. With ``early_stopping`` also: after this many
        points of the path in a row that raise the score by less than ``tol``.
    early_stopping : bool or "loo", default=False
        How to choose the best point of the path up to ``t_end``. True: by the score on rows
        held out, or on ``X_val, y_val`` of ``fit``. "loo": by leave-one-out predictions of the
        linearised flow, in closed form, at the price of one eigendecomposition; the flow then
        ends at the best time, or before, where its loss has fallen to that of the linearised flow
        at that time, and all rows are trained on. From three outputs on by the kernel
        that they share, unless ``solver`` names another. With a ridge ``t_end=1`` stands for the
        last time that is scored, 1 − 7e-12. Needs the squared error, no ``warm_start``, and
        memory for the Gram, in blocks too.
    validation_fraction : float, default=0.1
        Share of the rows held out by ``early_stopping=True``.
    module : callable or None, default=None
        ``(n_features, n_outputs) -> torch.nn.Module`` in place of the layered network; each
        output must depend on its own input alone. Jacobian rows are then formed in chunks.
        A callable defined at the top of a module lets the estimator be pickled.
    store_gram : "auto" or bool, default="auto"
        Whether to keep ``ntk_gram_``; "auto" keeps up to 64 MiB.
    store_path : bool, default=False
        Whether to keep the parameters at every point of the path, for ``staged_predict``.
    warm_start : bool, default=False
        Continue from the last solution instead of a new start; the scaling of the targets is
        kept too.
    shuffle : bool, default=True
        Draw new blocks in every epoch; otherwise they are runs of rows in their order.
    random_state : int, RandomState instance or None, default=None
        Seed of the start θ₀.
    verbose : bool, default=False
        Print a line a step.
    device : str, default="cpu"
        torch device.
    dtype : {"float64", "float32"}, default="float64"
        Of the computation and of the predictions.

    Attributes
    ----------
    history_ : dict of ndarray of shape (n_iter_ + 1,)
        "t", "s" (time), "loss", "rank", "condition" (of the Gram there), "step_error"
        (distance from the frozen-D flow), "deviation" from the straight line and
        "predicted_deviation" (Prop. 2.5, ``alpha=1``), all relative to |y − x₀|, and "ntk_drift"
        (|G − G₀|/|G₀|, estimated by random probes). Index 0 is the start; NaN where
        a mode does not compute it. Rank and condition at the solution are those of the
        unweighted Gram; before, with Cholesky, the condition is an estimate from below, with
        ``damping`` it is that of the Gram and its ridge and the rank is NaN, and in blocks they
        are those of ``kernel_rows_``. With
        ``early_stopping=True`` also "validation_score" and "validation_loss"; the path then goes
        on past the solution.
    validation_scores_ : ndarray of shape (n_iter_ + 1,)
        With ``early_stopping=True``: score on the held-out rows at every point of the path.
    best_validation_score_ : float
        At the solution.
    loo_times_, loo_scores_, loo_losses_ : ndarray of shape (n_times,)
        With ``early_stopping="loo"``: times t that were tried, 0 the first, and score and C of
        the leave-one-out predictions there.
    deviation_, predicted_deviation_ : float
        |x̃(t) − line(t)|/|y − x₀| at the end: measured, and by Prop. 2.5.
    loss_curve_ : list of float
        C (2.48) on the scaled targets, from the start on.
    loss_, best_loss_ : float
        At the solution; the least.
    n_iter_ : int
        Points of the path after the start: accepted steps, and with ``early_stopping=True``
        further points on their way, also past the solution.
    t_ : float
        Time of the solution.
    outcome_ : str
        Why the flow stopped.
    solver_ : str
        Back ends used, fallbacks included.
    kernel_rows_ : ndarray of int
        Training rows of positive weight to which ``ntk_gram_``, its eigenvalues, rank and
        condition belong: all, or a random subsample of at most 128 outputs in blocks, and with
        ``solver="krylov"`` where the Gram of all has more than 64 MiB.
    ntk_gram_ : ndarray of shape (n·Q, n·Q) or None
        G = DDᵀ at the solution on the training rows of positive weight, without the weights,
        sample-major. None when not stored.
    ntk_eigenvalues_ : ndarray of shape (n·Q,)
        Of G, descending.
    ntk_rank_ : int
        Rank of G.
    ntk_condition_ : float
        λ_max/λ_min over the eigenvalues that count towards the rank.
    X_train_, y_train_ : ndarray of shape (n, n_features_in_) and (n, n_outputs_)
        What ``predict(X, return_std=True)`` stands on: inputs and scaled targets of all rows of
        positive weight where one Gram holds them (up to 2,000 outputs, or the full batch of a
        larger network), else of a random subsample of at most 256 rows.
    coefs_, intercepts_ : list of ndarray
        Of the network f_θ; predictions use f_θ − f_θ₀. Not with ``module``.
    parameters_ : dict of ndarray
        Parameters by name; only with ``module``.
    target_mean_, target_scale_ : ndarray of shape (n_outputs,)
        Of y; the prediction is ``target_mean_ + target_scale_ * (f_θ − f_θ₀)``.
    n_layers_, n_outputs_, n_features_in_ : int
        Layers (inputs and outputs included), outputs, features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where X had them.

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

    def __init__(
        self,
        hidden_layer_sizes: Any = (100, 100),
        activation: str = "tanh",
        *,
        init_scale: str | float = "auto",
        alpha: float = 0.5,
        t_end: float = 0.95,
        schedule: Any = "adaptive",
        method: str = "exponential",
        solver: str = "auto",
        batch_size: Any = "auto",
        rcond: float | None = None,
        damping: str | float = "auto",
        metric_scale: str | float = "trace",
        max_iter: int = 500,
        tol: float = 1e-10,
        n_iter_no_change: int = 10,
        early_stopping: bool | str = False,
        validation_fraction: float = 0.1,
        module: Any = None,
        store_gram: str | bool = "auto",
        store_path: bool = False,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: Any = None,
        verbose: bool = False,
        device: str = "cpu",
        dtype: str = "float64",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.init_scale = init_scale
        self.alpha = alpha
        self.t_end = t_end
        self.schedule = schedule
        self.method = method
        self.solver = solver
        self.batch_size = batch_size
        self.rcond = rcond
        self.damping = damping
        self.metric_scale = metric_scale
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.module = module
        self.store_gram = store_gram
        self.store_path = store_path
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

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
