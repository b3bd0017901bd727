"""What predictions of rows held out are worth: scores and losses.

By default numbers are scored by R², or D² of the loss, and labels by the log-loss of calibrated
probabilities, in which all outputs count. Else by any scorer of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import check_scoring

from sklearn_gflow.estimators._coding import CodedClasses, CodedLabels, CodedNumbers, columns
from sklearn_gflow.estimators._conformal import Apart
from sklearn_gflow.estimators._judges import ExplainedShare
from sklearn_gflow.estimators._rows import Rows

__all__ = ["Judgement", "score_by"]


@dataclass(frozen=True)
class Judgement:
    """Judges readings (see `Path`) of given rows.

    Attributes
    ----------
    coding : CodedNumbers or CodedClasses
        Of all rows.
    rows : Rows
        Those that were held out, with the weights of the user.
    scoring : str, callable or None
        As in scikit-learn.
    calibrate : bool
        Whether probabilities are those of one temperature, as in the searches; otherwise they are
        those of the classifier.
    places : ndarray of int of shape (n_rows,) or None
        Which of all rows they are.
    trusted : int
        As so many rows count logits that need no other temperature than 1.
    """

    coding: CodedNumbers | CodedClasses
    rows: Rows
    scoring: Any = None
    calibrate: bool = True
    places: np.ndarray | None = None
    trusted: int = 0

    @cached_property
    def _outputs(self) -> Any:
        rows, coding = self.rows, self.coding
        if isinstance(coding, CodedClasses):
            return coding.judge(coding.data(rows, rows.weights))
        return coding.judge(coding.data(rows))

    def loss(self, readings: np.ndarray) -> float:
        """C of the rows."""
        if not np.isfinite(readings).all():
            return np.inf
        return float(self._outputs(self.coding.read_outputs(readings))[1])

    def beta(self, readings: np.ndarray) -> float:
        """Inverse temperature of a classifier's probabilities."""
        assert isinstance(self.coding, CodedClasses)
        beta = self.coding.beta(readings, self.rows)
        return float(beta ** (len(readings) / (len(readings) + self.trusted)))

    def score(self, readings: np.ndarray) -> float:
        """The higher, the better; −∞ of what is not finite."""
        if not np.isfinite(readings).all():
            return -np.inf
        if self.scoring is not None:
            return self._by_scorer(readings)
        y, weights = self.rows.y, self.rows.weights
        if isinstance(self.coding, CodedClasses):
            p = self.coding.calibrated(readings, self.beta(readings))
            return -self.coding.log_loss(p, self.rows)
        if self.coding.loss.squared:
            return ExplainedShare(self.coding.loss, columns(y), weights)(readings)[0]
        return float(self._outputs(self.coding.read_outputs(readings))[0])

    def _by_scorer(self, readings: np.ndarray) -> float:
        if isinstance(self.coding, CodedClasses):
            stand_in: Any = _Labels(
                self.coding, readings, self.beta(readings) if self.calibrate else None
            )
        else:
            stand_in = _Numbers(self.coding, readings)
        scorer = check_scoring(stand_in, scoring=self.scoring)
        places = np.arange(len(readings))[:, None]
        weighted = {} if self.rows.weights is None else {"sample_weight": self.rows.weights}
        try:
            return float(scorer(stand_in, places, self.rows.y, **weighted))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"scoring={self.scoring!r} cannot score these predictions of rows held out: {error}"
            ) from error

    def apart(self, readings: np.ndarray) -> Apart:
        """Readings of the rows beside what these are."""
        y, coding = self.rows.y, self.coding
        truth = coding.index(y) if isinstance(coding, CodedLabels) else columns(y)
        return Apart(readings, truth, self.rows.weights, self.places)

    def take(self, index: np.ndarray) -> Judgement:
        """Of some of the rows."""
        places = None if self.places is None else self.places[index]
        return replace(self, rows=self.rows.take(index), places=places)


def score_by(
    estimator: Any, coding: CodedNumbers | CodedClasses, held_out: Rows | None
) -> Callable[[np.ndarray], float] | None:
    """What f_θ − f_θ₀ on rows held out is worth by ``scoring``; None for the estimator's score."""
    if held_out is None or estimator.scoring is None or not estimator.early_stopping:
        return None
    judgement = Judgement(coding, held_out, estimator.scoring, calibrate=False)
    return lambda model: judgement.score(coding.readings(model))


class _Numbers(RegressorMixin, BaseEstimator):
    """Predictions that are known, for scorers: X holds their places."""

    def __init__(self, coding: CodedNumbers, readings: np.ndarray) -> None:
        self.coding, self.readings = coding, readings

    def fit(self, X: Any, y: Any) -> _Numbers:
        """Nothing is left to learn."""
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The predictions at these places."""
        return self.coding.shaped(self.readings[X[:, 0]])


class _Labels(ClassifierMixin, BaseEstimator):
    """Outputs of a classifier that are known, for scorers: X holds their places."""

    def __init__(self, coding: CodedClasses, readings: np.ndarray, beta: float | None) -> None:
        self.coding, self.readings, self.beta = coding, readings, beta
        self.classes_ = coding.classes

    def fit(self, X: Any, y: Any) -> _Labels:
        """Nothing is left to learn."""
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Scores at these places."""
        scores: np.ndarray = self.coding.loss.scores(self.readings[X[:, 0]])
        return scores

    def predict(self, X: np.ndarray) -> Any:
        """Labels at these places."""
        return self.coding.labels(self.decision_function(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities at these places."""
        if self.beta is None:
            return self.coding.probabilities(self.decision_function(X))
        return self.coding.calibrated(self.readings[X[:, 0]], self.beta)
