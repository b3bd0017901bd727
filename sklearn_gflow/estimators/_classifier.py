"""The classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from sklearn_gflow.diagnostics import collapse, neural_collapse
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._rows import Rows, TrainingData
from sklearn_gflow.estimators._training import TrainedFlow
from sklearn_gflow.estimators._validation import Interval, StrOptions, _fit_context, to_numpy
from sklearn_gflow.geometry import Cost, CrossEntropy, LayeredNetwork, OutputMap

__all__ = ["AdaptedFlowClassifier"]


class AdaptedFlowClassifier(ClassifierMixin, BaseAdaptedFlow):
    """Neural-network classification trained by the α-family of gradient flows.

    ``alpha`` is the homotopy between the standard gradient flow (0) and the adapted flow (1) of
    [1]_, not the L2 strength that `sklearn.neural_network.MLPClassifier` gives that name.

    With the squared error on one-hot labels, two classes need one output only, the indicator of
    the second class. The flow is that of `AdaptedFlowRegressor` and starts at the class
    frequencies. Probabilities are the Euclidean projection of the outputs onto the simplex (for
    two classes: the output clipped to [0, 1]), mixed with one pseudo-sample spread evenly over
    the classes, so that no class gets probability zero.

    With ``loss="log_loss"`` outputs are logits, one a class. At ``alpha=1`` and full rank each
    sample's mean logit is conserved, so that with label smoothing the flow ends at
    x* = log y − mean(log y) + mean(x₀).

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
        ``loss="log_loss"``, or with ``t_end=1`` unless it stops early, and 0.03 in blocks.
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
        Share of the rows held out by ``early_stopping=True``, class by class.
    loss : {"squared_error", "log_loss"}, default="squared_error"
        C: |x − y|²/(2N) (2.48), or the cross-entropy of softmax(x).
    label_smoothing : float, default=0.0
        In [0, 1): labels become (1 − label_smoothing)·one-hot + label_smoothing/n_classes.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into ``sample_weight``.
    module : callable or None, default=None
        ``(n_features, n_outputs) -> torch.nn.Module`` in place of the layered network; each
        output must depend on its own input alone. Jacobian rows are then formed in chunks.
        A callable defined at the top of a module lets the estimator be pickled.
    store_gram : "auto" or bool, default="auto"
        Whether to keep ``ntk_gram_``; "auto" keeps up to 64 MiB.
    store_path : bool, default=False
        Whether to keep the parameters at every point of the path, for ``staged_predict``.
    warm_start : bool, default=False
        Continue from the last solution instead of a new start. The classes must be the same.
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
    classes_ : ndarray of shape (n_classes,)
        Labels in sorted order.
    collapse_ : Collapse
        Class means, labels, and the loss as within + between classes (3.9)–(3.11), at the
        solution. With "log_loss" it is the squared error of the probabilities that is split.
    neural_collapse_ : dict of NeuralCollapse
        NC1–NC4 of the "outputs" and, for layered networks, of the last "hidden" layer.
    limit_distance_ : float
        |x − x*|/|x* − x₀| at the solution: with "log_loss" and label smoothing the distance from
        the limit of the adapted flow, with "squared_error" from the labels. NaN where there
        is no limit.
    history_ : dict of ndarray of shape (n_iter_ + 1,)
        "t", "s" (time), "loss", "rank", "condition" (of the Gram there), "step_error"
        (distance from the frozen-D flow), "deviation" from the straight line and
        "predicted_deviation" (Prop. 2.5, ``alpha=1``), all relative to |y − x₀|, and "ntk_drift"
        (|G − G₀|/|G₀|, estimated by random probes), "within_class" and
        "between_class", the parts of the loss (3.11). Index 0 is the start; NaN where
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
        C (2.48), from the start on.
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
    coefs_, intercepts_ : list of ndarray
        Of the network f_θ; predictions use f_θ − f_θ₀. Not with ``module``.
    parameters_ : dict of ndarray
        Parameters by name; only with ``module``.
    initial_output_ : ndarray of shape (n_outputs,)
        Class frequencies, or their logarithms; the output is ``initial_output_ + f_θ − f_θ₀``.
    n_layers_, n_outputs_, n_features_in_ : int
        Layers (inputs and outputs included), outputs (one for two classes), features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where X had them.

    See Also
    --------
    AdaptedFlowRegressor : The same flow on numbers.

    References
    ----------
    .. [1] T. Chen, P. Muñoz Ewald, "Gradient flow in parameter space is equivalent to linear
       interpolation in output space", arXiv:2408.01517, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_gflow import AdaptedFlowClassifier
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> flow = AdaptedFlowClassifier((32,), random_state=0).fit(X, y)
    >>> bool(flow.score(X, y) > 0.95)
    True
    """

    _n_seen: float
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAdaptedFlow._parameter_constraints,
        "loss": [StrOptions({"squared_error", "log_loss"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

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
        loss: str = "squared_error",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
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
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
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
        y : array-like of shape (n_samples,)
            Labels of any type that can be sorted.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence.
        X_val, y_val : array-like, optional
            Rows to stop by, with ``early_stopping=True``; otherwise some are held out of X.

        Returns
        -------
        self : AdaptedFlowClassifier
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or training leaves the finite numbers.
        GramMemoryError
            If the Gram would not fit into memory.
        """
        data, held_out, index = self._prepare(X, y, sample_weight, X_val, y_val)
        trained = self._train(data, held_out, index)
        self._expose(trained)
        self._expose_classes(data, index, trained)
        return self

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> tuple[TrainingData, TrainingData | None, np.ndarray]:
        rows, held_out = self._validate(X, y, sample_weight, X_val, y_val)
        self._fit_start(rows)
        to_stop_by = None if held_out is None else self._with_targets(held_out)
        return self._with_targets(rows), to_stop_by, self._index(rows.y)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Follow the flow over one chunk of rows, from the last solution if there is one.

        The rows are cut into blocks of ``batch_size`` rows, 256 for "auto" and all for None, and
        each block flows once. All steps are as long as the first ones of a fit in blocks:
        h = 0.5 at the default ``t_end``; to let noise die out, lower ``t_end`` for the last
        chunks. The first call draws the start θ₀, takes ``initial_output_`` from the class
        frequencies of its chunk and one sample spread evenly over the classes, and the unit c of
        ``metric_scale="trace"``; later calls keep them. After ``fit`` it goes on from there.

        Points are appended to ``history_`` and ``loss_curve_``: the loss is that of the chunk
        after its pass. Time adds up as if every chunk were all rows. What describes the
        solution (kernel, ``collapse_``, ``outcome_``, ``solver_``) is that of the last chunk;
        ``neural_collapse_`` is empty where the chunk lacks a class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs of the chunk; at least two rows in the first call.
        y : array-like of shape (n_samples,)
            Labels of the chunk, among the classes.
        classes : array-like of shape (n_classes,), optional
            All labels there are; needed in the first call.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row in its block, zero as its absence.

        Returns
        -------
        self : AdaptedFlowClassifier
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, do not fit what was learnt before, or
            training leaves the finite numbers.
        GramMemoryError
            If the Gram of a block would not fit into memory.
        """
        data, index = self._validate_chunk(X, y, classes, sample_weight)
        before = self._path()
        trained = self._train_chunk(data, index)
        self._expose(trained)
        self._expose_classes(data, index, trained)
        self._join_path(before)
        return self

    def _validate_chunk(
        self, X: Any, y: Any, classes: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[TrainingData, np.ndarray]:
        """Training data of a chunk and the class index of each row."""
        rows = self._validate_rows(X, y, sample_weight, chunk=True)
        check_classification_targets(rows.y)
        rows = replace(rows, y=column_or_1d(rows.y, warn=True))
        known = self._known_classes(classes)
        if len(unknown := np.setdiff1d(rows.y, known)):
            raise ValueError(
                f"y has labels that are not among the classes: {unknown.tolist()}; hand all of "
                "them to classes in the first call of partial_fit"
            )
        first = not self._continues(chunk=True)
        seen = float(len(rows.X) if rows.weights is None else rows.weights.sum())
        self._n_seen = seen if first else self._n_seen + seen
        self.classes_ = known
        index, class_targets = self._index(rows.y), self._class_targets()
        weights = self._emphasised(rows, chunk=True)
        if first:
            # One even sample, as in predict_proba: a class that comes later has no logit of −∞.
            targets = np.vstack([class_targets[index], class_targets.mean(axis=0)])
            counts = np.append(np.ones(len(index)) if weights is None else weights, 1.0)
            mean = np.average(targets, axis=0, weights=counts)
            self.initial_output_ = np.log(mean) if self.loss == "log_loss" else mean
        return TrainingData(rows.X, class_targets[index], weights, self.initial_output_), index

    def _known_classes(self, classes: ArrayLike | None) -> np.ndarray:
        """The classes of all chunks, sorted."""
        if not self._continues(chunk=True):
            if classes is None:
                raise ValueError("classes must be given in the first call of partial_fit")
            known: np.ndarray = np.unique(np.asarray(classes))
            if len(known) < 2:
                raise ValueError(
                    f"classes must hold at least 2 labels, got {known.tolist()}; name those of "
                    "later chunks too"
                )
            return known
        if classes is not None and not np.array_equal(
            np.unique(np.asarray(classes)), self.classes_
        ):
            raise ValueError(
                f"partial_fit continues with the classes {self.classes_.tolist()}, and classes "
                f"is {np.asarray(classes).tolist()}; leave it out, or start anew by fit"
            )
        return self.classes_

    def _validate(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, X_val: Any, y_val: Any
    ) -> tuple[Rows, Rows | None]:
        """Rows to train on, and to stop by."""
        rows = self._validate_rows(X, y, sample_weight)
        check_classification_targets(rows.y)
        rows = replace(rows, y=column_or_1d(rows.y, warn=True))
        self._fit_classes(rows.y)
        rows, held_out = self._split(rows, X_val, y_val, labels=rows.y)
        if held_out is not None:
            unknown = np.setdiff1d(held_out.y, self.classes_)
            if len(unknown):
                raise ValueError(
                    f"y_val has labels that y has not: {unknown.tolist()}; leave out their rows"
                )
        return rows, held_out

    def _fit_classes(self, y: np.ndarray) -> None:
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(
                "AdaptedFlowClassifier needs samples of at least 2 classes with positive "
                f"weight; y has 1 class: {classes[0]!r}"
            )
        if self._continues() and not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start=True needs the classes of the last fit: "
                f"{self.classes_.tolist()}; y has {classes.tolist()}"
            )
        self.classes_ = classes

    def _index(self, y: np.ndarray) -> np.ndarray:
        """Index of each label among the classes."""
        return np.searchsorted(self.classes_, y)

    def _fit_start(self, rows: Rows) -> None:
        """Class frequencies, and the number of samples that probabilities rest on."""
        # The strength of a claim follows the samples, not the emphasis put on a class.
        self._n_seen = float(len(rows.X) if rows.weights is None else rows.weights.sum())
        if not self._continues():
            targets = self._class_targets()[self._index(rows.y)]
            mean = np.average(targets, axis=0, weights=self._emphasised(rows))
            self.initial_output_ = np.log(mean) if self.loss == "log_loss" else mean

    def _emphasised(self, rows: Rows, *, chunk: bool = False) -> np.ndarray | None:
        """Weights of the rows times those of their classes."""
        if self.class_weight is None:
            return rows.weights
        if not chunk:
            by_class = compute_sample_weight(self.class_weight, rows.y)
        elif isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs the frequencies in all chunks, "
                "which partial_fit does not know; give the weights as a dict"
            )
        else:  # it may name classes that the chunk has not
            known = [self.class_weight.get(label, 1.0) for label in self.classes_.tolist()]
            by_class = np.array(known)[self._index(rows.y)]
        if not (by_class > 0).all():
            raise ValueError(
                "class_weight must be positive for every class in y; leave out the rows of "
                "a class instead of giving it the weight zero"
            )
        return by_class if rows.weights is None else rows.weights * by_class

    def _with_targets(self, rows: Rows) -> TrainingData:
        targets = self._class_targets()[self._index(rows.y)]
        return TrainingData(rows.X, targets, self._emphasised(rows), start=self.initial_output_)

    def _judge(self, outputs: np.ndarray, rows: TrainingData) -> tuple[float, float]:
        if not np.isfinite(outputs).all():
            return -np.inf, np.inf
        right = self._decide(self._scores(outputs)) == self._decide(self._scores(rows.targets))
        if self.loss == "log_loss":
            losses = -(rows.targets * log_softmax(outputs, axis=1)).sum(axis=1)
        else:
            losses = ((rows.targets - outputs) ** 2).sum(axis=1) / 2
        score, loss = np.average(np.stack([right, losses]), axis=1, weights=rows.weights)
        return float(score), float(loss)

    def _class_targets(self) -> np.ndarray:
        """y_j of each class, smoothed: one-hot, or 0 and 1 for two classes and squared error."""
        n_classes = len(self.classes_)
        smoothed = (1 - self.label_smoothing) * np.eye(n_classes) + self.label_smoothing / n_classes
        return smoothed[:, 1:] if self._has_one_output() else smoothed

    def _has_one_output(self) -> bool:
        return len(self.classes_) == 2 and self.loss == "squared_error"

    def _cost(self, output_map: OutputMap, targets: Tensor) -> Cost:
        if self.loss == "log_loss":
            return CrossEntropy(targets, output_map.weights)
        return super()._cost(output_map, targets)

    def _expose_classes(self, data: TrainingData, index: np.ndarray, trained: TrainedFlow) -> None:
        weights = None if data.weights is None else data.weights[trained.rows]
        self._expose_collapse(index[trained.rows], weights, trained)
        self._expose_limit(trained)

    def _expose_collapse(
        self, index: np.ndarray, weights: np.ndarray | None, trained: TrainedFlow
    ) -> None:
        """Within and between classes along the path; neural collapse at the solution."""
        output_map, trajectory = trained.output_map, trained.trajectory
        path = [to_numpy(output_map.unweigh(x)) for x in trajectory.outputs]
        points = [softmax(x, axis=1) for x in path] if self.loss == "log_loss" else path
        targets = self._class_targets()
        splits = [collapse(point, index, targets, weights) for point in points]
        self.collapse_ = splits[trajectory.solution]
        self.history_["within_class"] = np.array([split.within for split in splits])
        self.history_["between_class"] = np.array([split.between for split in splits])
        if len(np.unique(index)) < len(self.classes_):  # of a chunk
            self.neural_collapse_ = {}
            return
        outputs = path[trajectory.solution]
        predicted = self._decide(self._scores(outputs))
        layers: dict[str, tuple[np.ndarray, np.ndarray | None]] = {"outputs": (outputs, None)}
        if isinstance(output_map.family, LayeredNetwork):
            last_inputs = output_map.family.linearize(trajectory.theta, output_map.X).inputs[-1]
            layers["hidden"] = to_numpy(last_inputs), self.coefs_[-1]
        self.neural_collapse_ = {
            name: neural_collapse(
                features, index, sample_weight=weights, weights=W, predicted=predicted
            )
            for name, (features, W) in layers.items()
        }

    def _expose_limit(self, trained: TrainedFlow) -> None:
        outputs = trained.trajectory.outputs
        first, last = outputs[0], outputs[trained.trajectory.solution]
        limit = trained.cost.minimizer(first)
        if self.loss == "log_loss" and self.label_smoothing == 0:
            self.limit_distance_ = np.nan
        else:
            rest = torch.linalg.vector_norm(limit - last)
            self.limit_distance_ = float(rest / torch.linalg.vector_norm(limit - first))

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Confidence scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the output minus ½, or the difference of the logits, positive for
            ``classes_[1]``; otherwise the outputs, whose largest decides.
        """
        return self._confidences(self._model(X))

    def _confidences(self, model: np.ndarray) -> np.ndarray:
        """Scores of outputs that lack the start."""
        return self._scores((model + self.initial_output_).astype(model.dtype))

    def _scores(self, outputs: np.ndarray) -> np.ndarray:
        if self._has_one_output():
            return outputs[:, 0] - 0.5
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def _decide(self, scores: np.ndarray) -> np.ndarray:
        """Class index of each row."""
        return (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        index = self._decide(self.decision_function(X))
        return self.classes_[index]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Positive, rows sum to one; columns in the order of ``classes_``.
        """
        return self._probabilities(self.decision_function(X))

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        if self.loss == "log_loss":
            if scores.ndim == 1:
                scores = np.stack([np.zeros_like(scores), scores], axis=1)
            return softmax(scores, axis=1)
        if scores.ndim == 1:
            scores = np.stack([0.5 - scores, 0.5 + scores], axis=1)
        projected = _project_to_simplex(scores)
        return (self._n_seen * projected + 1 / len(self.classes_)) / (self._n_seen + 1)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithms of ``predict_proba``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return np.log(self.predict_proba(X))

    def staged_predict(self, X: ArrayLike) -> Iterator[np.ndarray]:
        """Predict labels at every point of the path, the start first; needs ``store_path``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Yields
        ------
        ndarray of shape (n_samples,)
            Labels at the time ``history_["t"][k]``.

        Raises
        ------
        ValueError
            If the path was not stored.
        """
        for model in self._staged_models(X):
            yield self.classes_[self._decide(self._confidences(model))]

    def staged_predict_proba(self, X: ArrayLike) -> Iterator[np.ndarray]:
        """Predict class probabilities at every point of the path, the start first.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Yields
        ------
        ndarray of shape (n_samples, n_classes)
            Probabilities at the time ``history_["t"][k]``.

        Raises
        ------
        ValueError
            If the path was not stored.
        """
        for model in self._staged_models(X):
            yield self._probabilities(self._confidences(model))


def _project_to_simplex(points: np.ndarray) -> np.ndarray:
    """Nearest point of the probability simplex, row by row.

    The projection is max(p − ν, 0); ν is found among the sorted coordinates (Held, Wolfe and
    Crowder, 1974).
    """
    descending = -np.sort(-points, axis=1)
    counts = np.arange(1, points.shape[1] + 1, dtype=points.dtype)
    levels = (np.cumsum(descending, axis=1) - 1) / counts
    support = (descending > levels).sum(axis=1, keepdims=True)
    return np.maximum(points - np.take_along_axis(levels, support - 1, axis=1), 0)
