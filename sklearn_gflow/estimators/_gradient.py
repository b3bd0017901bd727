"""Partial derivatives of predictions in the columns of X, by the chain rule.

What the network says of its columns (`_importance`) is carried back through what made these of X,
and forward through what makes predictions of its outputs. Notation: docs/notation.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.estimators._inputs import FittedInputs
from sklearn_gflow.estimators._members import Members
from sklearn_gflow.estimators._reading import read
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.inputs import origins_of, read_columns

__all__ = ["Differentiable", "DifferentiableOnAverage"]

# Central differences err by h²/6 times a third derivative, and by rounding over h.
_STEP = float(np.cbrt(np.finfo(np.float64).eps))


class Differentiable:
    """An estimator with one network, whose predictions have derivatives in the columns of X."""

    def gradient(self, X: ArrayLike) -> np.ndarray:
        """Partial derivatives of the prediction in the columns of X.

        Of ``predict`` for a regressor, in units of y over units of the column, and of
        ``decision_function`` for a classifier, whose probabilities are flat where they are 0 or 1.
        The derivative is exact: the chain rule through scaling, encoding and stretching of the
        columns, the network and the link of the loss. At an edge of a bin of
        ``encoding="piecewise"`` it is the one to the right. A transformer of your own as
        ``encoding`` is asked for its ``derivative(X)``, as `PeriodicEncoder` has one; without that
        method it is differentiated by central differences of a step of 6·10⁻⁶ scaled units.

        ``feature_importances_`` are made of the same derivatives of the network, in its columns.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, n_outputs, n_features)
            The second for y of several columns, and for classifiers whose ``decision_function`` has
            several. NaN where there is no derivative: for categories, truth values and entries that
            are missing. Dense, also where X is sparse.

        Raises
        ------
        ValueError
            If X does not fit what was learnt, a prediction is beyond the range of floating-point
            numbers, or columns that are not scaled (``scale_inputs=False``) go into an ``encoding``
            that has no ``derivative``.
        """
        check_is_fitted(self)
        this: Any = self
        with undisturbed():
            gradients = this._gradients_of_readings(X)
        found: np.ndarray = this._coding.of_predictions(gradients)
        return found

    def _gradients_of_readings(self, X: Any) -> np.ndarray:
        """Derivatives of `_readings`, shape (n_samples, n_outputs, n_features)."""
        this: Any = self
        inputs, network, coding = this._inputs, this._network, this._coding
        numbers = inputs.numbers(this, X)
        columns = inputs.applied(numbers)
        model = network.model(columns)
        coding.in_range(coding.readings(model))
        units = coding.slopes(model)[:, :, None]
        found = np.full((*model.shape, this.n_features_in_), np.nan)
        places = slice(None) if inputs.table is None else inputs.table.numeric_
        for rows, gradients in network.input_gradients(columns):
            part = inputs.dense(read(numbers, rows))
            pulled = _before_scaling(inputs, gradients * units[rows], part)
            found[rows, :, places] = pulled[:, :, : inputs.n_numbers]
        found[np.broadcast_to(~_has_numbers(this, X)[:, None], found.shape)] = np.nan
        rounded: np.ndarray = coding.rounded(found, model)
        return rounded


class DifferentiableOnAverage(Differentiable):
    """The same of a search: the derivative of the mean of its members."""

    def _gradients_of_readings(self, X: Any) -> np.ndarray:
        members = Members.of(self)
        return members.mean([member._gradients_of_readings(X) for member in members.estimators])


# -- back through the inputs -------------------------------------------------------------------


def _before_scaling(inputs: FittedInputs, gradients: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Derivatives in numbers, (n_samples, n_outputs, n_numbers), from those in what they became."""
    if inputs.factors is not None:
        gradients = gradients * inputs.factors
    scaled = numbers if inputs.scaler is None else inputs.scaler.transform(numbers)
    if inputs.encoder is not None:
        gradients = _before_encoding(inputs, gradients, scaled[:, : inputs.n_numbers])
    if inputs.scaler is None:
        return gradients
    slopes: np.ndarray = inputs.scaler.derivative(numbers)
    return gradients * slopes[:, None, : gradients.shape[2]]


def _before_encoding(
    inputs: FittedInputs, gradients: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """The same through the encoder alone; levels, which it does not see, are left out."""
    encoder, n_numbers = inputs.encoder, inputs.n_numbers
    if hasattr(encoder, "derivative"):
        slopes = np.asarray(encoder.derivative(numbers))
        origins = origins_of(encoder, n_numbers)
        of_numbers = gradients[:, :, : len(origins)] * slopes[:, None]
        # The column j collects what it is the origin of.
        collected: np.ndarray = of_numbers @ (origins[:, None] == np.arange(n_numbers))
        return collected
    if inputs.scaler is None:
        raise ValueError(
            f"encoding={encoder!r} has no method derivative(X), and differences need columns of a "
            "common scale; set scale_inputs=True, or give it that method"
        )
    return _by_differences(encoder, gradients, numbers.astype(np.float64))


def _by_differences(encoder: Any, gradients: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Through a transformer of which nothing is known, by central differences in each column."""
    found = np.empty((*gradients.shape[:2], numbers.shape[1]))
    for j, shift in enumerate(_STEP * np.eye(numbers.shape[1])):
        ends = (encoder.transform(numbers + shift), encoder.transform(numbers - shift))
        after, before = (one.toarray() if issparse(one) else np.asarray(one) for one in ends)
        slopes = (after - before) / (2 * _STEP)
        found[:, :, j] = np.einsum("nqe,ne->nq", gradients[:, :, : slopes.shape[1]], slopes)
    return found


def _has_numbers(estimator: Any, X: Any) -> np.ndarray:
    """Which entries of X are numbers, neither missing nor truth values; (n_samples, n_features)."""
    if issparse(X):
        return np.full(X.shape, X.dtype.kind != "b")
    columns = read_columns(estimator, X, reset=False)
    return np.stack([column.has_numbers() for column in columns], axis=1)
