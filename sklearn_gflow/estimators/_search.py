"""The searches: the network, α and the stopping time chosen together, and a small ensemble.

How candidates are judged and chosen is in `_selection`. Here it is decided which rows are held out,
and what was chosen is fitted and used. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import FittedState, RawTables, described
from sklearn_gflow.estimators._attributes import CALIBRATION, IMPORTANCE, INPUTS, LABELS, SEARCH
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._candidates import Candidate, Grid
from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._coding import CodedClasses
from sklearn_gflow.estimators._folds import Folds, default_folds, folds_of
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._parameters import (
    ClassParameters,
    FlowParameters,
    NetworkParameters,
    NumberParameters,
    SearchParameters,
)
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._selection import Choice, Judged, Search
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._training import Training
from sklearn_gflow.estimators._validation import _fit_context, check_weights

__all__ = ["AdaptedFlowClassifierCV", "AdaptedFlowRegressorCV"]

# Leave-one-out judges by at most so many random rows; its price grows with their cube.
_JUDGED_ROWS = 300
# So many networks are followed, of those that leave-one-out judged best; over a single part fewer.
_FOLLOWED, _FOLLOWED_ONCE = 4, 2
# Beyond so many rows, or outputs, a single part is held out.
_ONCE_ROWS, _ONCE_OUTPUTS = 2000, 8000
# From three outputs on, a kernel of more outputs is factorised block by block.
_AT_ONCE_OUTPUTS, _BLOCK_ROWS = 1000, 256
_LARGEST_SEED = 2**31 - 1

_HOW = """
With ``cv=None`` leave-one-out first judges all candidates in closed form, from one
eigendecomposition of the Gram at the start of each network (of at most 300 rows). The best four
networks and that of the plain columns are then followed over three folds, the best of them once
more with ``rescalings=1``, and judged on the rows held out at all times of their paths. Beyond
2,000 rows it is the best two, over a single part that is held out. With a splitter, or a loss other
than the squared error, all candidates are followed. The best one and those that join it are fitted
on all rows.
"""


class _FlowCV(
    RawTables, FittedState, FlowParameters, SearchParameters, NetworkParameters, BaseEstimator
):
    """Search over networks, α and t: judge candidates, fit the best and those that join it."""

    _estimator_class: ClassVar[type[Any]]
    best_estimator_: Any
    estimators_: list[Any]
    ensemble_weights_: np.ndarray
    _doc_link_module = "sklearn_gflow"

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
        """
        with undisturbed():
            found = self._searched(X, y, sample_weight, groups)
        return self._write(found)

    def _searched(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> dict[str, Any]:
        """Fitted attributes."""
        seed = int(check_random_state(self.random_state).randint(_LARGEST_SEED))
        plain = self._plain(seed)
        rows, about = plain._checked(X, y, sample_weight)
        whole = plain._problem(rows, None, about)
        plain.set_params(batch_size=self._batch_size(whole))
        folds = self._folds(rows, whole, groups, (X, y, sample_weight), seed)
        search = self._over(plain, whole, folds, rows, seed)
        if self._closed_form(whole):
            drawn = np.random.RandomState(seed).permutation(len(rows.y))[:_JUDGED_ROWS]
            judged = search.best_followed(whole.take(np.sort(drawn)), rescaled=self.module is None)
        else:
            judged = search.all_followed()
        choice = search.choice(judged, ensemble=self.ensemble)
        members = []
        for k, (candidate, t) in enumerate(choice.members):
            own = {"t_end": t, "random_state": (seed + k) % _LARGEST_SEED}
            if k and isinstance(self.store_gram, str):  # one Gram to look at is enough
                own["store_gram"] = False
            members.append(self._member(plain, candidate, **own)._fit_problem(whole))
        return self._found(search, judged, choice, members)

    def _plain(self, seed: int) -> BaseAdaptedFlow:
        """The estimator without the search; one seed for the scores and for the fit."""
        shared = {f.name for f in fields(self._estimator_class)} & {f.name for f in fields(self)}
        own = {name: getattr(self, name) for name in shared}
        plain: BaseAdaptedFlow = self._estimator_class(**{**own, "random_state": seed})
        return plain

    @staticmethod
    def _member(plain: BaseAdaptedFlow, candidate: Candidate, **parameters: Any) -> BaseAdaptedFlow:
        """The estimator of a candidate."""
        given = {declared.name: getattr(plain, declared.name) for declared in fields(plain)}
        return type(plain)(**{**given, **candidate.parameters(), **parameters})

    def _to_be_judged(
        self, plain: BaseAdaptedFlow, candidate: Candidate, problem: Problem
    ) -> Training:
        """The training of a candidate; of a splitter's folds it is that of a fit, to the bit."""
        training = self._member(plain, candidate)._build(problem)
        return training.quick() if self.cv is None else training

    def _batch_size(self, whole: Problem) -> Any:
        """Blocks for several outputs, whose common Gram is dear; the same in folds and fits."""
        n_rows, n_outputs = whole.data.targets.shape
        dear = n_outputs > 2 and n_rows * n_outputs > _AT_ONCE_OUTPUTS
        return _BLOCK_ROWS if dear and self.solver == "auto" else "auto"

    def _closed_form(self, whole: Problem) -> bool:
        return self.cv is None and whole.loss.squared

    def _over(
        self, plain: BaseAdaptedFlow, whole: Problem, folds: Folds, rows: Rows, seed: int
    ) -> Search:
        """The search over folds."""
        classes = whole.coding.classes if isinstance(whole.coding, CodedClasses) else None
        problems = [
            plain._problem(rows.take(training), rows.take(held_out), {}, classes)
            for training, held_out in folds
        ]
        held_out = np.concatenate([held_out for _, held_out in folds])
        grid = Grid.of(
            self,
            closed_form=self._closed_form(whole),
            in_blocks=plain._build(whole).settings.in_blocks,
            once=len(folds) == 1,
            sparse=whole.inputs.sparse,
        )
        return Search(
            grid,
            lambda candidate, problem: self._to_be_judged(plain, candidate, problem),
            problems,
            Judgement(whole.coding, rows.take(held_out), self.scoring),
            by_fold=self.cv is not None and min(len(part) for _, part in folds) > 1,
            n_followed=_FOLLOWED if len(folds) > 1 else _FOLLOWED_ONCE,
            seed=seed,
        )

    def _folds(
        self, rows: Rows, whole: Problem, groups: Any, given: tuple[Any, Any, Any], seed: int
    ) -> Folds:
        """Rows to train on and rows held out, among those of positive weight."""
        X, y, sample_weight = given
        weights = check_weights(sample_weight, X)
        present = np.ones(len(rows.y), bool) if weights is None else weights > 0
        classify = is_classifier(self) and rows.y.ndim == 1
        if self.cv is None:
            some = None if groups is None else np.asarray(groups)[present]
            n_rows, n_outputs = whole.data.targets.shape
            once = n_rows > _ONCE_ROWS or n_rows * n_outputs > _ONCE_OUTPUTS
            return default_folds(
                whole.data.X, rows.y, some, classify=classify, once=once, seed=seed
            )
        places = np.cumsum(present) - 1
        folds = folds_of(self.cv, X, y, groups, classify=classify)
        return [(places[a[present[a]]], places[b[present[b]]]) for a, b in folds]

    def _found(
        self, search: Search, judged: list[Judged], choice: Choice, members: list[Any]
    ) -> dict[str, Any]:
        """Fitted attributes."""
        candidate, t_end = choice.members[0]
        best = members[0]
        found = {
            **{f"{name}_": value for name, value in candidate.parameters().items()},
            "t_end_": t_end,
            "best_score_": choice.score,
            "cv_results_": search.results(judged),
            "best_estimator_": best,
            "estimators_": members,
            "ensemble_weights_": choice.weights,
            "_coding": best._coding,
        }
        importances = [member.feature_importances_ for member in members]
        found["feature_importances_"] = np.average(importances, axis=0, weights=choice.weights)
        names = ("n_iter_", "n_features_in_", "feature_names_in_", "classes_")
        return found | {name: getattr(best, name) for name in names if hasattr(best, name)}

    def _readings(self, X: Any) -> np.ndarray:
        """What the members predict on average, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        mean = self._mean(lambda member: member._coding.readings(member._model(X)))
        found: np.ndarray = self._coding.in_range(mean)
        return found

    def _mean(self, of_member: Callable[[Any], np.ndarray]) -> np.ndarray:
        """Weighted mean over the members."""
        weighted = [
            weight * of_member(member)
            for weight, member in zip(self.ensemble_weights_, self.estimators_, strict=True)
        ]
        total: np.ndarray = np.sum(weighted, axis=0)
        return total

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = self._estimator_class is AdaptedFlowRegressor
        return tags


@described(SEARCH, IMPORTANCE, INPUTS, extended=_HOW)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowRegressorCV(RegressorMixin, NumberParameters, _FlowCV):
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
        readings = self._readings(X)
        predicted = self._coding.shaped(readings)
        if not return_std:
            return predicted
        # The square error of a mean is at most the mean of the square errors.
        return predicted, np.sqrt(self._mean(lambda one: one.predict(X, return_std=True)[1] ** 2))

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
        if self._coding.loss.squared:
            return float(super().score(X, y, sample_weight))
        checked = check_array(y, ensure_2d=False, dtype=np.float64)
        rows = Rows(X, checked, check_weights(sample_weight, checked))
        return Judgement(self._coding, rows).score(self._readings(X))


@described(SEARCH, LABELS, CALIBRATION, IMPORTANCE, INPUTS, extended=_HOW)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowClassifierCV(ClassifierMixin, ClassParameters, _FlowCV):
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
        self, search: Search, judged: list[Judged], choice: Choice, members: list[Any]
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
        readings = self._readings(X)
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
