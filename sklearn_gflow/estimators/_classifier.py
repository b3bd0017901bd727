"""The classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from sklearn_gflow.diagnostics import collapse, neural_collapse
from sklearn_gflow.estimators._attributes import CLASSES, INPUTS, KERNEL, LABELS, LAYERS, PATH
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._description import described
from sklearn_gflow.estimators._parameters import ClassParameters
from sklearn_gflow.estimators._rows import Rows, TrainingData
from sklearn_gflow.estimators._training import TrainedFlow
from sklearn_gflow.estimators._validation import _fit_context, to_numpy
from sklearn_gflow.geometry import Cost, CrossEntropy, LayeredNetwork, OutputMap

__all__ = ["AdaptedFlowClassifier"]


@described(LABELS, PATH, CLASSES, KERNEL, LAYERS, INPUTS)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowClassifier(ClassifierMixin, ClassParameters, BaseAdaptedFlow):
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
