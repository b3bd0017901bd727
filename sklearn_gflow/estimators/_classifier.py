"""The classifier: how labels are checked, coded and weighted, and predictions of labels.

Training itself is in `_base` and `_training`, the codes of labels and the reading of outputs are in
`_losses` and `_coding`. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sklearn_gflow.contract import described
from sklearn_gflow.estimators._attributes import (
    CLASSES,
    IMPORTANCE,
    INPUTS,
    KERNEL,
    LABELS,
    LAYERS,
    PATH,
    START,
)
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._choice_of_loss import (
    AUTOMATIC,
    first_loss,
    first_smoothing,
    with_log_loss,
)
from sklearn_gflow.estimators._class_weights import emphasised
from sklearn_gflow.estimators._coding import CodedClasses, CodedLabels
from sklearn_gflow.estimators._conformal import LabelSets
from sklearn_gflow.estimators._exposure import class_attributes
from sklearn_gflow.estimators._indicators import (
    CodedIndicators,
    are_indicators,
    check_columns,
    with_indicators,
)
from sklearn_gflow.estimators._judgement import score_by
from sklearn_gflow.estimators._mapped import OverPartitions
from sklearn_gflow.estimators._memory import check_classes
from sklearn_gflow.estimators._parameters import ClassParameters
from sklearn_gflow.estimators._partitions import surveyed
from sklearn_gflow.estimators._problem import Ended, Problem
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._validation import _fit_context, check_known, check_labels

__all__ = ["AdaptedFlowClassifier"]


@described(LABELS, PATH, START, CLASSES, KERNEL, LAYERS, IMPORTANCE, INPUTS)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowClassifier(
    OverPartitions, LabelSets, ClassifierMixin, ClassParameters, BaseAdaptedFlow
):
    """Neural-network classification trained by the α-family of gradient flows.

    ``alpha`` is the homotopy between the standard gradient flow (0) and the adapted flow (1) of
    [1]_, not the L2 strength that `sklearn.neural_network.MLPClassifier` gives that name.

    With the squared error on one-hot labels, two classes need one output only, the indicator of
    the second class. The flow is that of `AdaptedFlowRegressor` and starts at the class
    frequencies. Probabilities are the Euclidean projection of the outputs onto the simplex (for
    two classes: the output clipped to [0, 1]), mixed with one pseudo-sample spread evenly over
    the classes, so that no class gets probability zero.

    A matrix y of zeros and ones holds several labels a row, as in
    `sklearn.neural_network.MLPClassifier`: an output and a probability for each of its columns, of
    which none excludes another.

    With ``loss="log_loss"`` outputs are logits, one a class; two classes need one output only, the
    logit of the second. At ``alpha=1`` and full rank each sample's mean logit is conserved, so that
    with label smoothing the flow ends at x* = log y − mean(log y) + mean(x₀), of two classes at the
    logit of y.

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

    _target_type = "auto"

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
        y : array-like of shape (n_samples,), or indicators of shape (n_samples, n_labels)
            Labels of the chunk, among the classes.
        classes : array-like of shape (n_classes,), optional
            All labels there are; needed in the first call, unless y holds indicators.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row in its block, zero as its absence. Weights
            whose mean in the chunk, zeros left out, is below 1 are relative, as in ``fit``.

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
        with undisturbed():
            self._check_chunk()
            rows, described = self._checked(X, y, sample_weight, chunk=True)
            known = self._known_classes(rows.y, classes)
            if rows.y.ndim == 1:
                cure = "hand all of them to classes in the first call of partial_fit"
                check_known(rows.y, known, "y", cure)
            attributes = self._fitted_chunk((X, y, sample_weight), rows, None, described, known)
        return self._write(attributes)

    # -- validate --------------------------------------------------------------------------------

    def _validate(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, X_val: Any, y_val: Any
    ) -> Problem:
        rows, described = self._checked(X, y, sample_weight)
        classes, several = self._classes_of(rows.y), rows.y.ndim == 2
        if y_val is not None and not several:
            check_labels(y_val, "y_val")
        labels = None if several else rows.y
        rows, held_out = self._split(rows, described, X_val, y_val, labels, multi_output=several)
        if held_out is not None and several:
            held_out = with_indicators(held_out, "y_val", self.max_memory)
            check_columns(held_out.y, "y_val", classes)
        elif held_out is not None:
            check_known(held_out.y, classes, "y_val", "leave out their rows")
        return self._problem(rows, held_out, described, classes)

    def _checked(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, chunk: bool = False
    ) -> tuple[Rows, dict[str, Any]]:
        X, y, sample_weight = surveyed(X, y, sample_weight)
        if are_indicators(y):
            rows, described = self._checked_rows(
                X, y, sample_weight, chunk=chunk, multi_output=True
            )
            return with_indicators(rows, "y", self.max_memory), described
        check_labels(y, "y")
        rows, described = self._checked_rows(X, y, sample_weight, chunk=chunk)
        check_classification_targets(rows.y)
        return replace(rows, y=column_or_1d(rows.y, warn=True)), described

    def _problem(
        self,
        rows: Rows,
        held_out: Rows | None,
        described: dict[str, Any],
        classes: np.ndarray | None = None,
        *,
        chunk: bool = False,
    ) -> Problem:
        if classes is None:
            classes = self._classes_of(rows.y)
        weights = emphasised(self.class_weight, rows, classes, chunk=chunk)
        coding = self._learnt_coding(rows, weights, classes, chunk=chunk)
        score = score_by(self, coding, held_out)
        inputs, rows, held_out = self._as_columns(rows, held_out, chunk=chunk)
        judging = None
        if held_out is not None:
            weights_held_out = emphasised(self.class_weight, held_out, classes, chunk=chunk)
            judging = coding.data(held_out, weights_held_out)
        data = coding.data(rows, weights)
        index = coding.index(rows.y) if isinstance(coding, CodedLabels) else None
        return Problem(
            data, coding, coding.loss.loss, described, inputs, judging,
            index=index, chunk=chunk, score=score,
        )  # fmt: skip

    def _learnt_coding(
        self, rows: Rows, weights: np.ndarray | None, classes: np.ndarray, *, chunk: bool
    ) -> CodedClasses:
        """Class frequencies, and the number of samples that probabilities rest on."""
        # Probabilities rest on the samples that were seen: class weights, which are an emphasis, do
        # not count.
        before = self._coding.loss if self._continues(chunk=chunk) else None
        smoothing = first_smoothing(self.label_smoothing, self.loss, before, len(classes))
        given = first_loss(self.loss, before), rows, classes, smoothing
        coding: CodedClasses
        if rows.y.ndim == 2:
            coding = CodedIndicators.of(*given)
        else:
            check_classes(len(classes), len(rows.y), self.max_memory)
            coding = CodedLabels.of(*given)
        if not self._continues(chunk=chunk):
            return coding.started(rows, weights, partial=chunk)
        known: CodedClasses = self._coding
        if type(known.loss) is not type(coding.loss):
            raise ValueError(self._other_loss(known.loss.loss, coding.loss.loss, chunk=chunk))
        seen = known.n_seen if chunk else 0.0
        return replace(coding, start=known.start, n_seen=coding.n_seen + seen)

    def _stretched(self, problem: Problem) -> Problem:
        undecided = self.loss == AUTOMATIC and isinstance(problem.coding, CodedLabels)
        if undecided and problem.score is None:
            problem = replace(problem, open_ended=self._open_ended(problem))
            if problem.open_ended:
                problem = with_log_loss(problem, self.label_smoothing)
        return super()._stretched(problem)

    def _check_kind(self, y: np.ndarray, *, chunk: bool = False) -> None:
        """Hold rows with one label, or with several, to what the fit was that goes on."""
        if not self._continues(chunk=chunk):
            return
        kinds = {True: "several labels a row", False: "one label a row"}
        before, now = isinstance(self._coding, CodedIndicators), y.ndim == 2
        if before != now:
            raise ValueError(
                f"{self._continuing(chunk)} continues from the last fit, which had {kinds[before]},"
                f" and y has {kinds[now]}; keep them, or start anew by fit with warm_start=False"
            )

    def _classes_of(self, y: np.ndarray) -> np.ndarray:
        self._check_kind(y)
        classes: np.ndarray = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        if len(classes) < 2:
            raise ValueError(
                "AdaptedFlowClassifier needs samples of at least 2 classes with positive "
                f"weight; y has 1 class: {classes.tolist()[0]!r}"
            )
        if self._continues() and not np.array_equal(classes, self._coding.classes):
            raise ValueError(
                "warm_start=True needs the classes of the last fit: "
                f"{self._coding.classes.tolist()}; y has {classes.tolist()}"
            )
        return classes

    def _known_classes(self, y: np.ndarray, classes: ArrayLike | None) -> np.ndarray:
        """The classes of all chunks, sorted; of several labels a row the numbers of the columns."""
        self._check_kind(y, chunk=True)
        if y.ndim == 2:
            if classes is not None and not np.array_equal(classes, np.arange(y.shape[1])):
                raise ValueError(
                    "classes must number the columns of y, 0 … n_labels − 1, where rows have "
                    "several labels; leave it out"
                )
            classes = np.arange(y.shape[1])
        if classes is not None:
            check_labels(classes, "classes")
        if not self._is_fitted():
            if classes is None:
                raise ValueError("classes must be given in the first call of partial_fit")
            known: np.ndarray = np.unique(np.asarray(classes))
            if len(known) < 2:
                raise ValueError(
                    f"classes must hold at least 2 labels, got {known.tolist()}; name those of "
                    "later chunks too"
                )
            return known
        before: np.ndarray = self._coding.classes
        if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), before):
            raise ValueError(
                f"partial_fit continues with the classes {before.tolist()}, and classes "
                f"is {np.asarray(classes).tolist()}; leave it out, or start anew by fit"
            )
        return before

    # -- expose ----------------------------------------------------------------------------------

    def _expose(self, ended: Ended) -> dict[str, Any]:
        """Fitted attributes, with how far the classes have collapsed."""
        attributes = super()._expose(ended)
        return attributes | class_attributes(ended, attributes["history_"])

    # -- use -------------------------------------------------------------------------------------

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Confidence scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the output minus ½, or the logit, positive for ``classes_[1]``;
            otherwise the outputs, whose largest decides. Of several labels a row positive for those
            that it has.
        """
        return self._scores(self._model(X))

    def _scores(self, model: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self._coding.scores(model)
        return scores

    def predict(self, X: ArrayLike) -> Any:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Indicators where y held some, sparse where it was.
        """
        scores = self.decision_function(X)
        return self._coding.labels(scores)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Positive, rows sum to one; columns in the order of ``classes_``. Of several labels a
            row the probability that it has each of them.
        """
        scores = self.decision_function(X)
        probabilities: np.ndarray = self._coding.probabilities(scores)
        return probabilities

    def _probabilities(self, readings: np.ndarray) -> np.ndarray:
        """Probabilities of the classes, from outputs."""
        coding: CodedLabels = self._coding
        return coding.probabilities(coding.loss.scores(readings))

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

    def staged_predict(self, X: ArrayLike) -> Iterator[Any]:
        """Predict labels at every point of the path, the start first; needs ``store_path``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Yields
        ------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels at the time ``history_["t"][k]``.

        Raises
        ------
        ValueError
            If the path was not stored.
        """
        for model in self._staged_models(X):
            yield self._coding.labels(self._scores(model))

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
            yield self._coding.probabilities(self._scores(model))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
