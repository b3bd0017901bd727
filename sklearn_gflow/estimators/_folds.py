"""Rows held out in turn: the folds of a search.

By default copies of a row stay together, and which fold a row is in does not depend on the order of
the rows, so that a weight of k and k copies lead to the same folds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
)
from sklearn.utils import indexable

from sklearn_gflow.estimators._sparse import row_kinds

__all__ = ["Folds", "default_folds", "folds_of"]

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Rows to train on and rows held out, a pair a fold."""

_FOLDS = 3
# Fewer distinct rows are left out one by one.
_ONE_BY_ONE = 8
# Where a single part is held out: this share of the rows, and at most so many.
_SHARE, _MOST = 0.2, 2000


def folds_of(cv: Any, X: Any, y: Any, groups: Any, *, classify: bool) -> Folds:
    """The folds of a splitter, as scikit-learn's searches take one."""
    X, y, groups = indexable(X, y, groups)
    return list(check_cv(cv, y, classifier=classify).split(X, y, groups))


def default_folds(
    X: np.ndarray, y: np.ndarray, groups: Any, *, classify: bool, once: bool, seed: int
) -> Folds:
    """Three folds, or one part held out where there are many rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Columns that tell rows from each other.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Targets or labels.
    groups : array-like of shape (n_samples,) or None
        Rows of a group stay together.
    classify : bool
        Whether y holds labels, each of which every part should have.
    once : bool
        Whether to hold out one part only.
    seed : int
        Of the draw.
    """
    if groups is not None:
        return list(GroupKFold(min(_FOLDS, len(np.unique(groups)))).split(X, y, groups))
    if once:
        held = min(_MOST, int(_SHARE * len(y)))
        by_class = classify and np.unique(y, return_counts=True)[1].min() > 1
        draw = (StratifiedShuffleSplit if by_class else ShuffleSplit)(
            1, test_size=held, random_state=seed
        )
        return list(draw.split(X, y))
    first, copy = _distinct(X, y)
    n_folds = len(first) if len(first) < _ONE_BY_ONE else _FOLDS
    by_class = classify and np.unique(y[first], return_counts=True)[1].min() >= n_folds
    splitter = (StratifiedKFold if by_class else KFold)(n_folds, shuffle=True, random_state=seed)
    parts = [held for _, held in splitter.split(first, y[first])]
    return [(np.flatnonzero(~within), np.flatnonzero(within))
            for within in (np.isin(copy, held) for held in parts)]  # fmt: skip


def _distinct(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each kind of row, sorted by what they hold, and the kind of each row."""
    kinds = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1, 1)
    return row_kinds(kinds, X)
