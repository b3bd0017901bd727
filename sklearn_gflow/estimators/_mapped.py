"""Predictions for tables in partitions: lazy ones of Dask, part by part of a dataset."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.estimators._partitions import (
    are_partitions,
    fragments_of,
    frame_of,
    is_collection,
    surveyed,
)

__all__ = ["OverPartitions"]

_PREDICTIONS = ("decision_function", "predict", "predict_log_proba", "predict_proba")


class OverPartitions:
    """Predictions and scores of an estimator for X in partitions.

    Of a collection of Dask predictions are another one, which is lazy. Of a dataset of pyarrow
    they are an array, for which one part after the other is read.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _PREDICTIONS:
            if name in vars(cls):
                setattr(cls, name, _over_partitions(vars(cls)[name]))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Score of predictions, as scikit-learn has it: R² of a regressor, else accuracy.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets or labels.
        sample_weight : array-like of shape (n_samples,), optional
            Sample weights.

        Returns
        -------
        float
            At most 1.
        """
        check_is_fitted(self)
        mixin: Any = super()
        return float(mixin.score(*self._surveyed(X, y, sample_weight)))

    def _surveyed(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Arguments of ``score``, where X may lie in partitions."""
        return surveyed(X, y, sample_weight, getattr(self, "feature_names_in_", None))


def _over_partitions(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that predicts for X, in partitions too."""

    @wraps(method)
    def predicted(self: Any, X: Any, *options: Any, **named: Any) -> Any:
        if not are_partitions(X):
            return method(self, X, *options, **named)
        check_is_fitted(self)
        if any(options) or any(named.values()):
            raise ValueError(
                f"{method.__name__} takes X alone where X lies in partitions; call it for one "
                "partition after the other to have more than predictions"
            )
        if is_collection(X):
            return _mapped(self, method.__name__, X)
        names = getattr(self, "feature_names_in_", X.schema.names)
        parts = (frame_of(X, fragment, names) for fragment in fragments_of(X))
        return np.concatenate([method(self, part) for part in parts if len(part)])

    return predicted


def _mapped(model: Any, name: str, X: Any) -> Any:
    """What a method makes of each partition of a collection.

    The model as it is now is one object of the graph, on which all partitions depend, so that a
    worker of a cluster gets it once.
    """
    import dask

    is_frame = not hasattr(X, "rechunk")
    few = X._meta_nonempty if is_frame else np.zeros((1, X.shape[1]), X.dtype)
    one = getattr(model, name)(few)
    shared = dask.delayed(copy.copy(model), pure=False, traverse=False)
    given = {"model": shared, "what": name, "none": one[:0], "meta": one[:0]}
    if is_frame:
        return X.map_partitions(_of_part, **given)
    X = X.rechunk({1: -1})
    if one.ndim == 1:
        return X.map_blocks(_of_part, drop_axis=1, dtype=one.dtype, **given)
    return X.map_blocks(_of_part, chunks=(X.chunks[0], one.shape[1:]), dtype=one.dtype, **given)


def _of_part(rows: Any, model: Any, what: str, none: np.ndarray) -> np.ndarray:
    found: np.ndarray = getattr(model, what)(rows) if len(rows) else none
    return found
