"""Rows held out in turn: the folds of a search.

By default copies of a row stay together, and which fold a row is in does not depend on the order of
the rows, so that a weight of k and k copies lead to the same folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

from sklearn_gflow.estimators._sparse import SparseRows, row_kinds

__all__ = ["Folds", "default_folds", "folds_of", "groups_apart", "in_fold", "present_folds"]

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


def present_folds(folds: Folds, present: np.ndarray) -> Folds:
    """Folds of all rows as folds of those that are there, numbered without the others.

    Parameters
    ----------
    folds : list of (ndarray, ndarray)
        Of all rows.
    present : ndarray of bool
        Whether a row's weight is positive.

    Raises
    ------
    ValueError
        If there is no fold, or one names rows that there are not, or trains on or holds out none.
    """
    if not folds:
        raise ValueError("cv gives no fold; hand over a splitter that does, or an int")
    places = np.cumsum(present) - 1

    def part_of(rows: Any, told: str) -> np.ndarray:
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(int)
        if len(rows) and not -len(present) <= rows.min() <= rows.max() < len(present):
            raise ValueError(f"{told} rows that X has not: X has {len(present)} rows")
        rows = rows[present[rows]]
        if not len(rows):
            raise ValueError(
                f"{told} no row of positive weight; shuffle the rows, or take another splitter"
            )
        part: np.ndarray = places[rows]
        return part

    names = [f"fold {k + 1} of {len(folds)} of cv" for k in range(len(folds))]
    return [
        (part_of(training, f"{name} trains on"), part_of(held_out, f"{name} holds out"))
        for name, (training, held_out) in zip(names, folds, strict=True)
    ]


@contextmanager
def in_fold(k: int, n_folds: int) -> Iterator[None]:
    """Tell of what fails within that it was fold k.

    Raises
    ------
    ValueError
        With the number of the fold before the message.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"In fold {k + 1} of {n_folds}: {error}") from error


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

    Raises
    ------
    ValueError
        If all rows are of one group.
    """
    if groups is not None:
        n_groups = len(_named(groups)[0])
        return list(GroupKFold(min(_FOLDS, n_groups)).split(X, y, groups))
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


def groups_apart(groups: np.ndarray, n_apart: int, seed: int) -> np.ndarray:
    """Rows of random groups, of as few as have so many rows, but never of all.

    Raises
    ------
    ValueError
        If all rows are of one group.
    """
    names, group = _named(groups)
    order = np.random.RandomState(seed).permutation(len(names))
    sizes = np.cumsum(np.bincount(group)[order])
    n_groups = min(1 + int(np.searchsorted(sizes, n_apart)), len(names) - 1)
    return np.flatnonzero(np.isin(group, order[:n_groups]))


def _named(groups: Any) -> tuple[np.ndarray, np.ndarray]:
    """The names of the groups, and that of each row as a place among them."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("groups must name at least 2 groups, so that one can be held out")
    return names, group


def _distinct(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each kind of row, sorted by what they hold, and the kind of each row."""
    kinds = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1, 1)
    # Which rows are alike, and in which order they come, must not hang on the last bits of X.
    with np.errstate(over="ignore"):
        rounded = X.astype(np.float32) if isinstance(X, SparseRows) else np.asarray(X, np.float32)
        finite = rounded.is_finite() if isinstance(X, SparseRows) else np.isfinite(rounded).all()
    return row_kinds(kinds, rounded if finite else X)
