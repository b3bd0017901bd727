"""The searches: the network, α and the stopping time chosen together, and a small ensemble.

How candidates are judged is in `_fold_search`, over blocks without a given end in `_open_search`.
Here it is decided which of them, and what was fitted is used. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import Estimator, described
from sklearn_gflow.estimators._attributes import CALIBRATION, IMPORTANCE, INPUTS, LABELS, SEARCH
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._checkpoint import checkpointed
from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._coding import CodedClasses
from sklearn_gflow.estimators._comparison import Asked, Choice, Comparison, Judged
from sklearn_gflow.estimators._conformal import Intervals, LabelSets
from sklearn_gflow.estimators._fold_search import over_folds
from sklearn_gflow.estimators._forgetting import ForgettingMembers
from sklearn_gflow.estimators._gradient import DifferentiableOnAverage
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._mapped import OverPartitions
from sklearn_gflow.estimators._members import Members
from sklearn_gflow.estimators._open_search import among_fits
from sklearn_gflow.estimators._parameters import (
    ClassParameters,
    FlowParameters,
    NetworkParameters,
    NumberParameters,
    RowsParameters,
)
from sklearn_gflow.estimators._partitions import check_in_memory
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._search_parameters import SearchParameters
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._tensors import seed_of
from sklearn_gflow.estimators._validation import _fit_context, check_weights

__all__ = ["AdaptedFlowClassifierCV", "AdaptedFlowRegressorCV"]

# From three outputs on, a kernel of more outputs is factorised block by block.
_AT_ONCE_OUTPUTS, _BLOCK_ROWS = 1000, 256

_HOW = """
With ``cv=None`` leave-one-out first judges all candidates in closed form, from one
eigendecomposition of the Gram at the start of each network (of at most 300 rows). The best four
networks and that of the plain columns are then followed over three folds, the best of them once
more with ``rescalings=1``, and judged on the rows held out at all times of their paths. Beyond
2,000 rows it is the best two, over a single part that is held out. With a splitter, or a loss other
than the squared error, all candidates are followed. The best one and those that join it are fitted
on all rows.

Where the estimator without the search goes over blocks without a given end, and neither ``cv`` nor
``t_ends`` is given, candidates are such fits themselves, the default among them. The rows that each
keeps apart, the same for all, judge them, and those that are chosen are fitted already.
"""


class _FlowCV(
    ForgettingMembers,
    DifferentiableOnAverage,
    FlowParameters,
    SearchParameters,
    RowsParameters,
    NetworkParameters,
    Estimator,
):
    """Search over networks, α and t: judge candidates, fit the best and those that join it."""

    _estimator_class: ClassVar[type[Any]]
    best_estimator_: Any
    estimators_: list[Any]
    ensemble_weights_: np.ndarray

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Judge the candidates, and fit the best of them.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Training inputs: numbers, or a table with gaps and categories; see `TableEncoder`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, of which several columns are several outputs; or labels of any type that can be
            sorted, or a matrix of indicators of several labels a row, which may be sparse.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence. Weights whose mean,
            zeros left out, is below 1 cannot be copies: they are relative, and are divided by it.
        groups : array-like of shape (n_samples,), optional
            Rows of a group are held out together; for the splitter, if there is one.

        Returns
        -------
        self : estimator
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or training leaves the finite numbers.
        GramMemoryError
            If the Gram would not fit into memory.
        RuntimeError
            If workers of ``n_jobs`` are killed again and again.
        """
        with undisturbed(), checkpointed(self) as (one, checkpoint):
            found = one._searched(X, y, sample_weight, groups, checkpoint)
        return self._write(found)

    def __sklearn_is_fitted__(self) -> bool:
        """What scikit-learn asks before a prediction; it would look at all attributes otherwise."""
        return hasattr(self, "cv_results_")

    def _searched(self, X: Any, y: Any, sample_weight: Any, groups: Any, kept: Any) -> Any:
        """Fitted attributes."""
        check_in_memory(X, f"{type(self).__name__}.fit")
        seed = seed_of(self.random_state)
        plain = self._plain(seed)
        rows, about = plain._checked(X, y, sample_weight)
        whole = plain._problem(rows, None, about)
        plain.set_params(batch_size=self._batch_size(whole))
        is_open = self.cv is None and self.t_ends is None and plain._open_ended(whole)
        if is_open and isinstance(self.random_state, Integral):
            # The first candidate is then what the plain estimator makes of the same number.
            seed = int(self.random_state)
            plain.set_params(random_state=seed)
            whole = plain._problem(rows, None, about)
        asked = Asked(self, plain, whole, rows, (X, y, sample_weight), groups, seed, kept)
        comparison, judged, choice, members, task = (among_fits if is_open else over_folds)(asked)
        found = {**about, **self._found(comparison, judged, choice, members)}
        task.end(found if members else None)
        return found

    def _plain(self, seed: int) -> BaseAdaptedFlow:
        """The estimator without the search; one seed for the scores and for the fit."""
        shared = {f.name for f in fields(self._estimator_class)} & {f.name for f in fields(self)}
        own = {name: getattr(self, name) for name in shared - {"checkpoint"}}
        plain: BaseAdaptedFlow = self._estimator_class(**{**own, "random_state": seed})
        return plain

    def _batch_size(self, whole: Problem) -> Any:
        """Blocks for several outputs, whose common Gram is dear; the same in folds and fits."""
        if self.batch_size != "auto":
            return self.batch_size
        n_rows, n_outputs = whole.data.targets.shape
        dear = n_outputs > 2 and n_rows * n_outputs > _AT_ONCE_OUTPUTS
        return _BLOCK_ROWS if dear and self.solver == "auto" else "auto"

    def _found(
        self, search: Comparison, judged: list[Judged], choice: Choice, members: list[Any]
    ) -> dict[str, Any]:
        """Fitted attributes."""
        candidate, t_end = choice.members[0]
        found = {
            "activation_": self.activation,
            **{f"{name}_": value for name, value in candidate.parameters().items()},
            "t_end_": t_end,
            "best_score_": choice.score,
            "best_index_": choice.place,
            "best_params_": {**candidate.parameters(), "t_end": t_end},
            "cv_results_": search.results(judged),
            "_coding": search.judgement.coding,
            "_apart": search.judgement.apart(choice.readings),
        }
        if isinstance(search.judgement.coding, CodedClasses):
            found["classes_"] = search.judgement.coding.classes
        if not members:
            return found
        best = members[0]
        importances = [member.feature_importances_ for member in members]
        return found | {
            "best_estimator_": best,
            "estimators_": members,
            "ensemble_weights_": choice.weights,
            "feature_importances_": np.average(importances, axis=0, weights=choice.weights),
            "n_iter_": best.n_iter_,
        }

    def _readings(self, X: Any) -> np.ndarray:
        """What the members predict on average, shape (n_samples, n_outputs)."""
        readings = Members.of(self).readings(X)
        found: np.ndarray = self._coding.in_range(readings)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = self._estimator_class is AdaptedFlowRegressor
        return tags


@described(SEARCH, IMPORTANCE, INPUTS, extended=_HOW)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowRegressorCV(OverPartitions, Intervals, RegressorMixin, NumberParameters, _FlowCV):
    """`AdaptedFlowRegressor` with encoding, α and stopping time chosen, and a small ensemble.

    See Also
    --------
    AdaptedFlowRegressor : The estimator without the search.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_gflow import AdaptedFlowRegressorCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = AdaptedFlowRegressorCV((32, 32), random_state=0).fit(X, y)
    >>> bool(search.best_score_ > 0.47), len(search.estimators_) > 1
    (True, True)
    """

    _estimator_class = AdaptedFlowRegressor

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Predict with the estimator that was chosen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            As in `AdaptedFlowRegressor.predict`.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        std : ndarray of the same shape
            Only with ``return_std``.
        """
        if not return_std:
            readings = self._readings(X)
            return self._coding.shaped(readings)
        readings, deviations = Members.of(self).readings_and_deviations(X)
        return self._coding.shaped(self._coding.in_range(readings)), deviations

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of the loss that is explained, of the estimator that was chosen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Sample weights.

        Returns
        -------
        float
            As `AdaptedFlowRegressor.score`: R², or D² of the loss that was trained on.
        """
        check_is_fitted(self)
        X, y, sample_weight = self._surveyed(X, y, sample_weight)
        if self._coding.loss.squared:
            return float(super().score(X, y, sample_weight))
        checked = check_array(y, ensure_2d=False, dtype=np.float64)
        rows = Rows(X, checked, check_weights(sample_weight, checked))
        return Judgement(self._coding, rows).score(self._readings(X))


@described(SEARCH, LABELS, CALIBRATION, IMPORTANCE, INPUTS, extended=_HOW)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowClassifierCV(OverPartitions, LabelSets, ClassifierMixin, ClassParameters, _FlowCV):
    """`AdaptedFlowClassifier` with encoding, α and stopping time chosen, and calibrated.

    See Also
    --------
    AdaptedFlowClassifier : The estimator without the search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_gflow import AdaptedFlowClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = AdaptedFlowClassifierCV((16,), random_state=0).fit(X, y)
    >>> bool(search.score(X, y) > 0.95), bool(-0.2 < search.best_score_ < 0)
    (True, True)
    """

    _estimator_class = AdaptedFlowClassifier
    temperature_: ClassVar[float]

    def _found(
        self, search: Comparison, judged: list[Judged], choice: Choice, members: list[Any]
    ) -> dict[str, Any]:
        found = super()._found(search, judged, choice, members)
        return found | {"temperature_": 1 / search.judgement.beta(choice.readings)}

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Scores of the classes, of the estimator that was chosen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        readings = self._readings(X)
        scores: np.ndarray = self._coding.loss.scores(readings)
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
        """
        scores = self.decision_function(X)
        return self._coding.labels(scores)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Class probabilities, of the estimator that was chosen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._probabilities(self._readings(X))

    def _probabilities(self, readings: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = self._coding.calibrated(readings, 1 / self.temperature_)
        return probabilities

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
