"""α and the stopping time chosen together, from one start: the searches."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_random_state, indexable
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.dynamics import t_from_tau, tau_from_t
from sklearn_gflow.estimators._attributes import INPUTS, LABELS, SEARCH
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._description import described
from sklearn_gflow.estimators._parameters import (
    ClassParameters,
    FlowParameters,
    NetworkParameters,
    SearchParameters,
)
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._training import MARKS, SMOOTH_START
from sklearn_gflow.estimators._validation import _fit_context, check_weights

__all__ = ["AdaptedFlowClassifierCV", "AdaptedFlowRegressorCV"]


class _FlowCV(FlowParameters, SearchParameters, NetworkParameters, BaseEstimator):
    """Search over (α, t): score the grid, fit the winner."""

    _estimator_class: ClassVar[type[Any]]
    best_estimator_: Any
    _doc_link_module = "sklearn_gflow"

    def _search(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> None:
        """Score the grid by leave-one-out or by a splitter, and fit the best of it."""
        alphas, times = self._check_grid()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        template = self._template(seed)
        if self.cv is None:
            data, _, _ = template._prepare(X, y, sample_weight)
            template.set_params(early_stopping="loo")
            left_out_scores, left_out = template._begin(data).judge_left_out(alphas, times)
            judged = left_out_scores[None, ..., :2]  # the loss of training has no say here
        else:
            judged = self._judge_folds(template, X, y, sample_weight, alphas, times)
        self._expose_grid(alphas, times, judged)
        best = self._template(seed).set_params(alpha=self.alpha_, t_end=self.t_end_)
        if self.cv is None:
            best.set_params(early_stopping="loo")
            best._left_out = left_out  # the same start: decomposed once
            del left_out  # as large as the Gram
        self.best_estimator_ = best.fit(X, y, sample_weight)
        for name in ("n_iter_", "n_features_in_", "feature_names_in_", "classes_"):
            if hasattr(self.best_estimator_, name):
                setattr(self, name, getattr(self.best_estimator_, name))

    def _check_grid(self) -> tuple[list[float], list[float]]:
        alphas = np.atleast_1d(np.asarray(self.alphas, dtype=float))
        if alphas.ndim != 1 or not len(alphas) or not ((alphas >= 0) & (alphas <= 1)).all():
            raise ValueError(f"alphas must hold numbers in [0, 1], at least one; got {self.alphas}")
        if self.t_ends is None:
            return alphas.tolist(), t_from_tau(MARKS).tolist()
        times = np.unique(np.atleast_1d(np.asarray(self.t_ends, dtype=float)))
        if times.ndim != 1 or not len(times) or not ((times > 0) & (times <= 1)).all():
            raise ValueError(
                f"t_ends must hold times in (0, 1], at least one, or be None; got {self.t_ends}"
            )
        return alphas.tolist(), times.tolist()

    def _template(self, seed: int) -> BaseAdaptedFlow:
        """The estimator of the search; one seed for the scores and for the fit."""
        parameters = self.get_params(deep=False)
        for of_search in fields(SearchParameters):
            parameters.pop(of_search.name)
        parameters.update(random_state=seed)
        if parameters["init_scale"] == "auto":  # one start for all α
            parameters["init_scale"] = SMOOTH_START
        return self._estimator_class(**parameters)

    def _judge_folds(
        self,
        template: BaseAdaptedFlow,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        alphas: list[float],
        times: list[float],
    ) -> np.ndarray:
        """(score, loss) of every fold, shape (n_folds, n_alphas, n_times, 2)."""
        X, y = indexable(X, y)
        weights = None if sample_weight is None else check_weights(sample_weight, X)
        splitter = check_cv(self.cv, y, classifier=isinstance(self, ClassifierMixin))
        judged = []
        for train, test in splitter.split(X, y):
            # Patience is for those who stop: here every time of the grid is scored.
            fold = clone(template).set_params(early_stopping=True, n_iter_no_change=2**31)
            data, held_out, _ = fold._prepare(
                _safe_indexing(X, train),
                _safe_indexing(y, train),
                None if weights is None else weights[train],
                _safe_indexing(X, test),
                _safe_indexing(y, test),
            )
            fold.set_params(early_stopping=False)  # as the fit of the best will have it
            judged.append(_judge_paths(fold, data, held_out, alphas, times))
        return np.array(judged)

    def _expose_grid(self, alphas: list[float], times: list[float], judged: np.ndarray) -> None:
        """The grid in the form of `GridSearchCV.cv_results_`, and the best of it."""
        flat = judged.reshape(len(judged), -1, 2)
        scores, losses = flat[..., 0], flat[..., 1]
        grid = [(alpha, t) for alpha in alphas for t in times]
        mean, mean_loss = scores.mean(axis=0), losses.mean(axis=0)
        self.cv_results_ = {
            "params": [{"alpha": alpha, "t_end": t} for alpha, t in grid],
            "param_alpha": np.ma.array([alpha for alpha, _ in grid]),
            "param_t_end": np.ma.array([t for _, t in grid]),
            **{f"split{k}_test_score": split for k, split in enumerate(scores)},
            "mean_test_score": mean,
            "std_test_score": scores.std(axis=0),
            "rank_test_score": rankdata(-mean, method="min").astype(int),
            "mean_test_loss": mean_loss,
        }
        best = min(range(len(grid)), key=lambda k: (-mean[k], mean_loss[k]))
        self.alpha_, self.t_end_ = grid[best]
        self.best_score_ = float(mean[best])

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


@described(SEARCH, INPUTS)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowRegressorCV(RegressorMixin, _FlowCV):
    """`AdaptedFlowRegressor` with α and the stopping time chosen from one start.

    By leave-one-out (``cv=None``) every pair (α, t) is scored from one eigendecomposition of the
    Gram at the start, in closed form: predictions of the linearised flow on the other rows,
    copies of a row left out together. With a splitter there is one flow for each fold and α,
    scored on the rows held out at all times of its path. The winner is fitted on all rows, in
    the full batch or in blocks as ``batch_size="auto"`` has it.

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

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Score the grid and fit the best of it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training inputs; scale them first.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence. Rows held out by
            a splitter count alike in the scores.

        Returns
        -------
        self : AdaptedFlowRegressorCV
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or training leaves the finite numbers.
        GramMemoryError
            If the Gram would not fit into memory.
        """
        self._search(X, y, sample_weight)
        return self

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


@described(SEARCH, LABELS, INPUTS)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowClassifierCV(ClassifierMixin, ClassParameters, _FlowCV):
    """`AdaptedFlowClassifier` with α and the stopping time chosen from one start.

    By leave-one-out (``cv=None``) every pair (α, t) is scored from one eigendecomposition of the
    Gram at the start, in closed form: predictions of the linearised flow on the other rows,
    copies of a row left out together. With a splitter there is one flow for each fold and α,
    scored on the rows held out at all times of its path. The winner is fitted on all rows, in
    the full batch or in blocks as ``batch_size="auto"`` has it.

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

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Score the grid and fit the best of it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training inputs; scale them first.
        y : array-like of shape (n_samples,)
            Labels of any type that can be sorted.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence. Rows held out by
            a splitter count alike in the scores.

        Returns
        -------
        self : AdaptedFlowClassifierCV
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or training leaves the finite numbers.
        GramMemoryError
            If the Gram would not fit into memory.
        """
        self._search(X, y, sample_weight)
        return self

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


def _judge_paths(
    estimator: BaseAdaptedFlow,
    data: TrainingData,
    held_out: TrainingData,
    alphas: list[float],
    times: list[float],
) -> np.ndarray:
    """(score, loss) on rows held out, shape (n_alphas, n_times, 2): one flow for each α.

    And one more for t = 1, which may have another ridge.
    """
    paths = [path for path in ([t for t in times if t < 1], [t for t in times if t == 1]) if path]
    return np.array(
        [
            np.concatenate([_judge_path(estimator, data, held_out, alpha, path) for path in paths])
            for alpha in alphas
        ]
    )


def _judge_path(
    estimator: BaseAdaptedFlow,
    data: TrainingData,
    held_out: TrainingData,
    alpha: float,
    times: list[float],
) -> np.ndarray:
    """(score, loss) on rows held out, shape (n_times, 2)."""
    training = estimator.set_params(alpha=alpha, t_end=times[-1])._begin(data)
    taus = tau_from_t(times)
    trajectory = training.until(times[-1], training.judged_by(held_out), taus.tolist()).trajectory
    history = trajectory.history()
    judged = np.stack([history["validation_score"], history["validation_loss"]], axis=1)
    # Where the flow came to rest before, later times score what its end does, and t = 1 its last.
    index = np.searchsorted(trajectory.tau, taus * (1 - 1e-9))
    return judged[np.where(np.isinf(taus), len(judged) - 1, np.minimum(index, len(judged) - 1))]
