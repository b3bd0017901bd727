"""The searches: α and the stopping time chosen together, from one start.

The grid and its judgement are in `_grid` and `_stopping`. Here it is decided whether pairs are
judged by leave-one-out or by folds, and the best pair is fitted. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_random_state, indexable
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import FittedState, described
from sklearn_gflow.diagnostics import LeaveOneOut
from sklearn_gflow.estimators._attributes import INPUTS, LABELS, SEARCH
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._grid import Grid, judge_held_out
from sklearn_gflow.estimators._parameters import (
    ClassParameters,
    FlowParameters,
    NetworkParameters,
    NumberParameters,
    SearchParameters,
)
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._rows import check_map
from sklearn_gflow.estimators._settings import SMOOTH_START
from sklearn_gflow.estimators._stopping import judge_left_out
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._validation import _fit_context, check_weights

__all__ = ["AdaptedFlowClassifierCV", "AdaptedFlowRegressorCV"]

_FOLDS = 5  # by default, for losses whose leave-one-out has no closed form
# A patience that is never used up: in folds every time of the grid is to be scored.
_WITHOUT_END = 2**31


_HOW = """
By leave-one-out (``cv=None``) every pair (α, t) is scored from one eigendecomposition of the Gram
at the start, in closed form: predictions of the linearised flow on the other rows, copies of a row
left out together. With a splitter there is one flow for each fold and α, scored on the rows held
out at all times of its path. The winner is fitted on all rows, in the full batch or in blocks as
``batch_size="auto"`` has it.
"""


class _FlowCV(FittedState, FlowParameters, SearchParameters, NetworkParameters, BaseEstimator):
    """Search over (α, t): score the grid, fit the winner."""

    _estimator_class: ClassVar[type[Any]]
    best_estimator_: Any
    _doc_link_module = "sklearn_gflow"

    def _search(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Self:
        """Score the grid by leave-one-out or by a splitter, and fit the best of it."""
        with undisturbed():
            found = self._found(X, y, sample_weight)
        return self._write(found)

    def _found(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> dict[str, Any]:
        """Fitted attributes."""
        grid = Grid.of(self.alphas, self.t_ends)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        decomposed = None
        plain = self._plain(seed, early_stopping="loo")
        problem = plain._validate(X, y, sample_weight, None, None)
        by_leave_one_out = self.cv is None and problem.loss.squared
        if by_leave_one_out:
            judged, decomposed = self._judge_left_out(plain, problem, grid)
        else:
            judged = self._judge_folds(seed, X, y, sample_weight, grid)
        found = grid.results(judged)
        stopping = "loo" if by_leave_one_out else False
        best = self._plain(
            seed, alpha=found["alpha_"], t_end=found["t_end_"], early_stopping=stopping
        )
        found["best_estimator_"] = best._fit(X, y, sample_weight, None, None, decomposed)
        names = ("n_iter_", "n_features_in_", "feature_names_in_", "classes_")
        return {**found, **{name: getattr(best, name) for name in names if hasattr(best, name)}}

    def _plain(self, seed: int, **parameters: Any) -> BaseAdaptedFlow:
        """The estimator without the search; one seed for the scores and for the fit."""
        shared = {f.name for f in fields(self._estimator_class)} & {f.name for f in fields(self)}
        own = {name: getattr(self, name) for name in shared}
        own.update(random_state=seed, **parameters)
        if own["init_scale"] == "auto":  # all values of α have one start
            own["init_scale"] = SMOOTH_START
        plain: BaseAdaptedFlow = self._estimator_class(**own)
        return plain

    def _judge_left_out(
        self, plain: BaseAdaptedFlow, problem: Problem, grid: Grid
    ) -> tuple[np.ndarray, LeaveOneOut]:
        """(score, loss), shape (1, n_alphas, n_times, 2), and what they were made of."""
        training = plain._build(problem)
        judged, decomposed = judge_left_out(training, problem.coding.judge, grid.alphas, grid.times)
        return judged[None, ..., :2], decomposed  # the loss of training is not used here

    def _judge_folds(
        self, seed: int, X: Any, y: Any, sample_weight: ArrayLike | None, grid: Grid
    ) -> np.ndarray:
        """(score, loss) of every fold, shape (n_folds, n_alphas, n_times, 2)."""
        X, y = indexable(X, y)
        weights = None if sample_weight is None else check_weights(sample_weight, X)
        cv = _FOLDS if self.cv is None else self.cv
        splitter = check_cv(cv, y, classifier=isinstance(self, ClassifierMixin))
        judging = self._plain(seed, early_stopping=True)
        # Without early stopping, so that the ridge is the one that the best pair is fitted with.
        fitting = self._plain(seed, n_iter_no_change=_WITHOUT_END)
        judged = []
        for train, test in splitter.split(X, y):
            check_map(X)
            problem = judging._validate(
                _safe_indexing(X, train),
                _safe_indexing(y, train),
                None if weights is None else weights[train],
                _safe_indexing(X, test),
                _safe_indexing(y, test),
            )
            judged.append(judge_held_out(fitting._build(problem), problem, grid))
        return np.array(judged)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Score the grid and fit the best of it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training inputs; scale them first.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, of which several columns are several outputs; or labels of any type that can be
            sorted.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence. Rows held out by
            a splitter count alike in the scores.

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
        """
        return self._search(X, y, sample_weight)

    def predict(self, X: ArrayLike) -> Any:
        """Predict with the estimator that was chosen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self)
        return self.best_estimator_.predict(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._estimator_class is AdaptedFlowRegressor
        return tags


@described(SEARCH, INPUTS, extended=_HOW)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowRegressorCV(RegressorMixin, NumberParameters, _FlowCV):
    """`AdaptedFlowRegressor` with α and the stopping time chosen from one start.

    See Also
    --------
    AdaptedFlowRegressor : The estimator without the search.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sklearn_gflow import AdaptedFlowRegressorCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = AdaptedFlowRegressorCV((32, 32), random_state=0).fit(scale(X), y)
    >>> bool(search.best_score_ > 0.47), len(search.cv_results_["params"])
    (True, 95)
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
        check_is_fitted(self)
        return self.best_estimator_.predict(X, return_std=return_std)

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
        return float(self.best_estimator_.score(X, y, sample_weight))


@described(SEARCH, LABELS, INPUTS, extended=_HOW)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowClassifierCV(ClassifierMixin, ClassParameters, _FlowCV):
    """`AdaptedFlowClassifier` with α and the stopping time chosen from one start.

    See Also
    --------
    AdaptedFlowClassifier : The estimator without the search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from sklearn_gflow import AdaptedFlowClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = AdaptedFlowClassifierCV((16,), random_state=0).fit(scale(X), y)
    >>> bool(search.best_score_ > 0.95)
    True
    """

    _estimator_class = AdaptedFlowClassifier

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
        check_is_fitted(self)
        return self.best_estimator_.decision_function(X)

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
        check_is_fitted(self)
        return self.best_estimator_.predict_proba(X)

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
