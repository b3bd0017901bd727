"""Weights of classes, multiplied into the weights of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import compute_sample_weight

from sklearn_gflow.estimators._rows import Rows

__all__ = ["emphasised"]


def emphasised(
    class_weight: Mapping[Any, float] | str | None,
    rows: Rows,
    classes: np.ndarray,
    *,
    chunk: bool = False,
) -> np.ndarray | None:
    """Weights of the rows times those of their classes, with the sum that they had.

    An emphasis of classes is relative: it makes no samples, which ridge and probabilities
    would count.

    Raises
    ------
    ValueError
        If a weight is zero or infinite, or rows have no class or unknown frequencies.
    """
    if class_weight is None:
        return rows.weights
    if rows.y.ndim == 2:
        raise ValueError(
            f"class_weight={class_weight!r} weighs rows by their class, and these rows have "
            "several labels; set class_weight=None, and weigh rows by sample_weight"
        )
    by_class = _by_class(class_weight, rows, classes, chunk=chunk)
    if not ((by_class > 0) & (by_class < np.inf)).all():
        raise ValueError(
            "class_weight must be positive for every class in y, and finite; leave out the "
            "rows of a class instead of giving it the weight zero"
        )
    weights = by_class if rows.weights is None else rows.weights * by_class
    return weights * (rows.total_weight / weights.sum())


def _by_class(
    class_weight: Mapping[Any, float] | str, rows: Rows, classes: np.ndarray, *, chunk: bool
) -> np.ndarray:
    """The weight of each row's class."""
    index = np.searchsorted(classes, rows.y)
    if not isinstance(class_weight, str):
        if not chunk:
            try:
                return compute_sample_weight(class_weight, rows.y)
            except TypeError as error:
                raise ValueError(f"class_weight must name labels of y: {error}") from error
        # scikit-learn refuses names of classes that the chunk lacks
        known = [class_weight.get(label, 1.0) for label in classes.tolist()]
        return np.array(known)[index]
    if chunk:
        raise ValueError(
            f"class_weight={class_weight!r} needs the frequencies in all chunks, "
            "which partial_fit does not know; give the weights as a dict"
        )
    # scikit-learn counts rows here, and not the copies that a weight stands for.
    return 1 / np.bincount(index, rows.weights)[index]
