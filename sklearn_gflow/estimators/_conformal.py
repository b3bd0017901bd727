"""Intervals and sets of labels that hold a stated share of new observations, of any distribution.

They stand on predictions of rows that these did not learn from: rows held out, or each training row
without itself. A new observation is as likely as any of them to be predicted worse than they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.estimators._indicators import CodedIndicators
from sklearn_gflow.estimators._surroundings import undisturbed

__all__ = ["Apart", "Intervals", "LabelSets", "quantile"]


@dataclass(frozen=True)
class Apart:
    """Readings of rows that these did not learn from.

    Attributes
    ----------
    readings : ndarray of shape (n_rows, n_outputs)
        Predictions of a regressor, outputs of a classifier.
    truth : ndarray
        The targets of a regressor, shape (n_rows, n_outputs); the index of a classifier's label,
        shape (n_rows,).
    weights : ndarray of shape (n_rows,) or None
        A row of weight k counts as k.
    places : ndarray of int of shape (n_rows,) or None
        Which training rows they are, where they are some.
    """

    readings: np.ndarray
    truth: np.ndarray
    weights: np.ndarray | None = None
    places: np.ndarray | None = None

    def without(self, gone: np.ndarray) -> Apart:
        """The same without some of the training rows, a mask, and with the others numbered anew."""
        if self.places is None:
            return self
        stay = ~gone[self.places]
        return Apart(
            self.readings[stay],
            self.truth[stay],
            None if self.weights is None else self.weights[stay],
            (np.cumsum(~gone) - 1)[self.places[stay]],
        )

    def joined(self, other: Apart) -> Apart:
        """The rows of both."""
        weights = None
        if self.weights is not None or other.weights is not None:
            weights = np.concatenate([
                np.ones(len(one.truth)) if one.weights is None else one.weights
                for one in (self, other)
            ])  # fmt: skip
        return Apart(
            np.concatenate([self.readings, other.readings]),
            np.concatenate([self.truth, other.truth]),
            weights,
        )


def quantile(scores: np.ndarray, coverage: float, weights: np.ndarray | None = None) -> np.ndarray:
    """The score that a new one exceeds with probability 1 − coverage at most.

    Of n scores the ⌈(n + 1)·coverage⌉-th smallest, since a new one is as likely to have any rank
    among them; ∞ where they are too few.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_outputs)
    coverage : float
    weights : ndarray of shape (n_rows,) or None
        A row of weight k counts as k.

    Returns
    -------
    ndarray of shape (n_outputs,)
    """
    counted = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(scores, axis=0, kind="stable")
    counts = np.cumsum(counted[order], axis=0)
    # Rounding of a product must not ask for one row more.
    needed = np.ceil((counted.sum() + 1) * coverage * (1 - 1e-12))
    enough = counts >= needed
    first = np.argmax(enough, axis=0)
    ranked = np.take_along_axis(scores, order, axis=0)
    found = ranked[first, np.arange(scores.shape[1])]
    return np.where(enough[-1], found, np.inf)


def _check_coverage(coverage: float) -> None:
    if not (isinstance(coverage, (int, float, np.number)) and 0 < coverage < 1):
        raise ValueError(f"coverage must lie between 0 and 1, exclusive; got {coverage!r}")


class Intervals:
    """Prediction intervals of a regressor that knows `Apart`."""

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> np.ndarray:
        """Intervals that hold a share of new observations, whatever their distribution.

        Half the width is the quantile of |y − ŷ| over rows that ŷ did not learn from. In the full
        batch with the squared error these are all training rows, each left out in turn: what the
        path of the fit would have predicted without it follows from the path itself
        (`diagnostics.LeftOutAlong`), without a refit. They are joined by the rows held out of a
        search, or of ``early_stopping=True``. Coverage is measured in
        ``docs/benchmarks/intervals.md``; it is an average over inputs, and the width is the same
        for all: ``predict(X, return_std=True)`` has one for each.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        coverage : float, default=0.9
            Share of new observations that the intervals are to hold, in (0, 1).

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper ends, in units of y, of each output by itself; infinite where the rows
            are too few for the coverage.

        Raises
        ------
        ValueError
            If nothing was left out: in blocks, and with another loss or method. The message says
            what to set.

        References
        ----------
        .. [1] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, "Predictive inference with
           the jackknife+", Annals of Statistics 49, 2021.
        .. [2] P. Patil, Y. Wu, R. J. Tibshirani, "Failures and successes of cross-validation for
           early-stopped gradient descent", AISTATS 2024.
        """
        check_is_fitted(self)
        _check_coverage(coverage)
        this: Any = self
        readings = np.asarray(this._readings(X), dtype=np.float64)
        with undisturbed():
            apart = this._apart_of("predict_interval")
        half = quantile(np.abs(apart.truth - apart.readings), coverage, apart.weights)
        ends = np.stack([readings - half, readings + half], axis=-1)
        return ends[:, 0] if this._coding.ndim == 1 else ends


class LabelSets:
    """Sets of labels of a classifier that knows `Apart`."""

    def predict_set(self, X: ArrayLike, coverage: float = 0.9) -> np.ndarray:
        """Sets of labels that hold that of a new row with a given probability.

        A set has all classes whose probability is at least a threshold, and the most probable one
        in any case. The threshold is a quantile of the probabilities that the labels of rows had
        which these did not learn from (split conformal prediction, with the rows of
        ``predict_interval``).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        coverage : float, default=0.9
            Share of new rows whose label the sets are to hold, in (0, 1).

        Returns
        -------
        ndarray of bool of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        ValueError
            If nothing was left out: in blocks, and with another loss or method. The message says
            what to set. If rows have several labels.

        References
        ----------
        .. [1] M. Sadinle, J. Lei, L. Wasserman, "Least ambiguous set-valued classifiers with
           bounded error levels", JASA 114, 2019.
        """
        check_is_fitted(self)
        _check_coverage(coverage)
        this: Any = self
        if isinstance(this._coding, CodedIndicators):
            raise ValueError(
                "predict_set holds one label a row, and the rows of this fit have several; look at "
                "predict_proba, which has a probability for each"
            )
        p = this.predict_proba(X)
        with undisturbed():
            apart = this._apart_of("predict_set")
        own = np.take_along_axis(this._probabilities(apart.readings), apart.truth[:, None], axis=1)
        sets: np.ndarray = 1 - p <= quantile(1 - own, coverage, apart.weights)
        sets[np.arange(len(p)), p.argmax(axis=1)] = True
        return sets
