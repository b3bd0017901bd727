"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from sklearn_gflow.diagnostics import collapse
from sklearn_gflow.estimators._base import BaseAdaptedFlow, TrainingData
from sklearn_gflow.estimators._validation import StrOptions, _fit_context

__all__ = ["AdaptedFlowClassifier"]


class AdaptedFlowClassifier(ClassifierMixin, BaseAdaptedFlow):
    """Neural-network classification trained by the α-family of gradient flows.

    ``alpha`` is the homotopy between the standard gradient flow (0) and the adapted flow (1) of
    [1]_, not the L2 strength that `sklearn.neural_network.MLPClassifier` gives that name.

    Squared error on one-hot labels; two classes need one output only, the indicator of the
    second class. The flow is that of `AdaptedFlowRegressor` and starts at the class frequencies.

    Probabilities are the Euclidean projection of the outputs onto the simplex (for two classes:
    the output clipped to [0, 1]), mixed with one pseudo-sample spread evenly over the classes,
    so that n samples never claim more than n/(n + 1).

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(100, 100)
        Widths of the hidden layers; ``()`` is a linear model.
    activation : {"tanh", "silu", "gelu", "softplus", "relu", "identity"}, default="tanh"
        Of all hidden layers. The theory asks for a Lipschitz D, which "relu" has not.
    alpha : float, default=0.01
        α of (2.32), in [0, 1]. 0: standard gradient flow; 1: adapted flow, which interpolates.
        Small values generalise better on noisy data.
    t_end : float, default=0.95
        Stopping time t in (0, 1]; the earlier, the smoother. 1.0 runs until ``tol`` or
        ``max_iter``.
    schedule : "adaptive", int or increasing sequence of float, default="adaptive"
        Steps as long as their error allows; or that many equal steps in t; or steps to the
        given times in (0, ``t_end``], the last of which ends the flow.
    solver : {"auto", "cholesky", "eigh", "svd"}, default="auto"
        How f(G) is applied. "auto" takes Cholesky at ``alpha=1`` and full rank, eigenvectors
        otherwise, of the smaller of DDᵀ and DᵀD. "cholesky" asks for ``alpha=1``. "svd"
        decomposes D, whose small singular values it resolves best.
    rcond : float or None, default=None
        Singular values of D up to ``rcond`` times the largest count as zero. None follows
        dtype and size.
    damping : float, default=0.0
        Ridge added to the Gram, relative to the mean of its diagonal.
    metric_scale : "trace" or float, default="trace"
        c, the unit of the Gram's eigenvalues: tr(G₀)/QN at the start, or a positive number;
        1.0 is the field of the paper.
    max_iter : int, default=500
        Largest number of accepted steps.
    tol : float, default=1e-10
        Residual, relative to the one at the start, at which the flow has converged.
    n_iter_no_change : int, default=10
        The flow ends after this many steps in a row that lower the relative residual by less
        than ``tol``.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into ``sample_weight``.
    store_gram : "auto" or bool, default="auto"
        Whether to keep ``ntk_gram_``; "auto" keeps up to 64 MiB.
    warm_start : bool, default=False
        Continue from the last solution instead of a new start. The classes must be the same.
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
        solution.
    history_ : dict of ndarray of shape (n_iter_ + 1,)
        "t", "s" (time), "loss", "rank", "condition" (of the Gram there) and "step_error"
        (distance from the frozen-D flow, relative to |y − x₀|). Index 0 is the start. Rank
        and condition at the last index are those of the unweighted Gram.
    loss_curve_ : list of float
        C (2.48), from the start on.
    loss_, best_loss_ : float
        At the solution; the least.
    n_iter_ : int
        Accepted steps.
    t_ : float
        Time reached.
    outcome_ : str
        Why the flow stopped.
    solver_ : str
        Back ends used, fallbacks included.
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
        Of the network f_θ; predictions use f_θ − f_θ₀.
    target_mean_ : ndarray of shape (n_outputs,)
        Class frequencies at the start; the output is ``target_mean_ + f_θ − f_θ₀``.
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAdaptedFlow._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100, 100),
        activation: str = "tanh",
        *,
        alpha: float = 0.01,
        t_end: float = 0.95,
        schedule: Any = "adaptive",
        solver: str = "auto",
        rcond: float | None = None,
        damping: float = 0.0,
        metric_scale: str | float = "trace",
        max_iter: int = 500,
        tol: float = 1e-10,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        store_gram: str | bool = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        device: str = "cpu",
        dtype: str = "float64",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.t_end = t_end
        self.schedule = schedule
        self.solver = solver
        self.rcond = rcond
        self.damping = damping
        self.metric_scale = metric_scale
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.store_gram = store_gram
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Follow the flow from a random start to ``t_end``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training inputs; scale them first.
        y : array-like of shape (n_samples,)
            Labels of any type that can be sorted.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence.

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
        data, index = self._validate(X, y, sample_weight)
        output_map, trajectory = self._train(data)
        self._expose(data, output_map, trajectory)
        outputs = output_map.unscale(trajectory.outputs[-1]).cpu().numpy() + self.target_mean_
        self.collapse_ = collapse(outputs, index, self._class_targets(), data.weights)
        return self

    def _validate(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[TrainingData, np.ndarray]:
        """Training data and the class index of each row."""
        X, y, weights = self._validate_rows(X, y, sample_weight)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        classes, index = np.unique(y, return_inverse=True)
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
        # The strength of a claim follows the samples, not the emphasis put on a class.
        self._n_seen = float(len(X) if weights is None else weights.sum())
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y)
            weights = by_class if weights is None else weights * by_class
        continues = self._continues()
        self.classes_ = classes
        targets = self._class_targets()[index]
        if not continues:
            self.target_mean_ = np.average(targets, axis=0, weights=weights)
        return TrainingData(X, targets - self.target_mean_, weights), index

    def _class_targets(self) -> np.ndarray:
        """y_j of each class: one-hot, or 0 and 1 for two classes."""
        n_classes = len(self.classes_)
        return np.array([[0.0], [1.0]]) if n_classes == 2 else np.eye(n_classes)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Confidence scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the output minus ½, positive for ``classes_[1]``; otherwise the
            outputs, whose largest decides.
        """
        outputs = self._model(X)
        outputs = (outputs + self.target_mean_).astype(outputs.dtype)
        return outputs[:, 0] - 0.5 if len(self.classes_) == 2 else outputs

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
        scores = self.decision_function(X)
        index = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
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
        scores = self.decision_function(X)
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
