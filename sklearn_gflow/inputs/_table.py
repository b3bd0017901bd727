"""Raw tables: gaps in numbers, categories of few and of many levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import OneHotEncoder, TargetEncoder
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import (
    DocumentedHere,
    FittedState,
    Interval,
    RawTables,
    RealNotInt,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    described,
    parameter,
    validate_data,
)
from sklearn_gflow.inputs._beside import FEATURES
from sklearn_gflow.inputs._columns import Column, origins_of, read_columns
from sklearn_gflow.inputs._statistics import few_columns

__all__ = ["TableEncoder"]

_FOLDS = 5
_TARGETS = ("binary", "multiclass", "continuous")  # what TargetEncoder knows

_PARTS = {
    "numeric_": ("ndarray of int", "Positions of the columns of numbers."),
    "one_hot_": ("ndarray of int", "Positions of the categories that become indicators."),
    "by_target_": ("ndarray of int", "Positions of the categories that become target means."),
    "imputer_": ("SimpleImputer or None", "Fills the gaps of numbers."),
    "one_hot_encoder_": ("OneHotEncoder or None", "Makes the indicators."),
    "target_encoder_": ("TargetEncoder or None", "Makes the target means."),
}


@described(_PARTS, FEATURES)
@dataclass(eq=False, repr=False, kw_only=True)
class TableEncoder(DocumentedHere, RawTables, FittedState, TransformerMixin, BaseEstimator):
    """A raw table as numbers without gaps: frames of pandas or polars, or arrays.

    - Numbers stay as they are, truth values become 0 and 1. What is missing becomes the median, and
      each column that had gaps in ``fit`` has an indicator of them.
    - Categories (categorical and string columns, and columns of objects that are not all numbers)
      of at most ``max_categories`` levels become indicators. Rare levels are pooled, levels that
      are new in ``transform`` count among them, or for nothing. What is missing is a level.
    - Categories of more levels become the mean of the target over the level, shrunk to the overall
      mean, by `sklearn.preprocessing.TargetEncoder`: ``fit_transform`` encodes each row by the
      targets of other rows, as training needs it. Without a target, or with several, the levels
      that are most frequent become indicators and the others are pooled.

    The order is: numbers, indicators of gaps, indicators of levels, target means. An array of
    numbers without gaps passes through. Nothing is scaled.

    See Also
    --------
    SmoothRobustScaler : What to do with the numbers next.
    sklearn.compose.ColumnTransformer : To choose the columns yourself.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_gflow import TableEncoder
    >>> X = pd.DataFrame({"size": [1.0, None, 3.0], "colour": ["red", "blue", "red"]})
    >>> TableEncoder().set_output(transform="pandas").fit_transform(X)
       size  missingindicator_size  colour_blue  colour_red
    0   1.0                    0.0          0.0         1.0
    1   2.0                    1.0          1.0         0.0
    2   3.0                    0.0          0.0         1.0
    """

    max_categories: int = parameter(
        100,
        [Interval(Integral, 2, None, closed="left")],
        "int",
        "Levels up to which a category becomes indicators, and the most that it becomes.",
    )
    min_frequency: Any = parameter(
        0.005,
        [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "int or float",
        "Rows, or the share of the rows, below which a level is pooled with other rare ones.",
    )
    target_type: str = parameter(
        "auto",
        [StrOptions({"auto", "continuous", "binary", "multiclass"})],
        '{"auto", "continuous", "binary", "multiclass"}',
        """
        Of the target means. "auto" takes whole numbers for labels of classes, with a column for
        each: counts want "continuous".
        """,
    )
    random_state: Any = parameter(
        None,
        ["random_state"],
        "int, RandomState instance or None",
        "Seed of the five folds in which ``fit_transform`` makes target means.",
    )

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn which columns are what, medians, levels, and their target means.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Numbers and categories.
        y : array-like of shape (n_samples,), optional
            Target, for categories of many levels.

        Returns
        -------
        self : TableEncoder
            Fitted.

        Raises
        ------
        ValueError
            If a parameter is out of range, or a column holds infinity.
        TypeError
            If a column is neither of numbers nor a category.
        """
        found = self._blank()
        found._fit(X, y)
        return self._take_over(found._without_folds())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        """Fit, and encode each row without its own target.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Numbers and categories.
        y : array-like of shape (n_samples,), optional
            Target, for categories of many levels.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Target means differ from those of ``fit(X, y).transform(X)``, which are for new rows.
        """
        found = self._blank()
        columns = found._fit(X, y)
        blocks = [
            piece.fit_transform(read(columns, place), y)
            if piece is found.target_encoder_
            else piece.transform(read(columns, place))
            for piece, place, read in found._pieces()
        ]
        rows = found._stack(blocks)
        self._take_over(found._without_folds())
        return rows

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Encode new rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Numbers and categories.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            In float32 where all columns of numbers are.

        Raises
        ------
        ValueError
            If a column that held numbers in ``fit`` now holds something else.
        """
        check_is_fitted(self)
        if (numbers := self._plain_numbers(X)) is not None:
            return numbers
        columns = read_columns(self, X, reset=False)
        return self._stack(
            [piece.transform(read(columns, place)) for piece, place, read in self._pieces()]
        )

    def _plain_numbers(self, X: Any) -> np.ndarray | None:
        """A frame of numbers without gaps, of which there were none in ``fit`` either.

        It passes through whole, which column by column takes ten times as long.
        """
        if len(self.numeric_) < self.n_features_in_ or self.imputer_.indicator_.features_.size:
            return None
        if not hasattr(X, "columns"):
            return None
        numbers = np.asarray(validate_data(self, X, skip_check_array=True, reset=False))
        if numbers.ndim != 2 or numbers.dtype.kind not in "fiub" or not numbers.size:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = numbers.astype(self._dtype)
            return numbers if np.isfinite(numbers.sum()) else None

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that come out.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns that go in, if ``fit`` has not seen them.

        Returns
        -------
        ndarray of str objects
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        parts = [piece.get_feature_names_out(names[place]) for piece, place, _ in self._pieces()]
        return np.concatenate(parts).astype(object)

    @property
    def has_learnt(self) -> bool:
        """Whether what comes out depends on other rows: gaps that were filled, categories."""
        check_is_fitted(self)
        gaps = self.imputer_ is not None and self.imputer_.indicator_.features_.size
        return bool(gaps or len(self.numeric_) < self.n_features_in_)

    @property
    def origins(self) -> np.ndarray:
        """The column of X that each column that comes out is made of."""
        check_is_fitted(self)
        parts = [place[origins_of(piece, len(place))] for piece, place, _ in self._pieces()]
        return np.concatenate(parts)

    def _fit(self, X: ArrayLike, y: Any) -> list[Column]:
        """Fit all pieces, writing attributes one after the other, and return the columns of X."""
        columns = read_columns(self, X, reset=True)
        kind = None if y is None else self._kind_of_target(y)
        self._sort(columns, by_target=kind is not None)
        self.imputer_: Any = None
        self.one_hot_encoder_: Any = None
        self.target_encoder_: Any = None
        if self.numeric_.size:
            self.imputer_ = SimpleImputer(
                strategy="median", add_indicator=True, keep_empty_features=True
            )
        if self.one_hot_.size:
            self.one_hot_encoder_ = OneHotEncoder(
                min_frequency=self.min_frequency,
                max_categories=self.max_categories,
                handle_unknown="infrequent_if_exist",
                sparse_output=False,
            )
        if self.by_target_.size:
            self.target_encoder_ = _target_encoder(kind, y, self.random_state)
        for piece, place, read in self._pieces():
            if piece is self.imputer_:
                rows, target = _stand_in(columns, place, self._dtype), None
            else:
                rows, target = read(columns, place), y
            piece.set_output(transform="default").fit(rows, target)
        return columns

    def _sort(self, columns: list[Column], *, by_target: bool) -> None:
        """Decide what becomes of each column, and in which precision."""
        numeric = np.array([column.holds_numbers() for column in columns])
        many = np.zeros(len(columns), dtype=bool)
        for j in np.flatnonzero(~numeric):
            many[j] = columns[j].count_levels() > self.max_categories and by_target
        self.numeric_: np.ndarray = np.flatnonzero(numeric)
        self.one_hot_: np.ndarray = np.flatnonzero(~numeric & ~many)
        self.by_target_: np.ndarray = np.flatnonzero(many)
        single = {columns[j].values.dtype == np.float32 for j in self.numeric_}
        self._single = single == {True}

    def _kind_of_target(self, y: Any) -> str | None:
        """What `TargetEncoder` is to take the target for; None if it can make nothing of it."""
        found = type_of_target(y, input_name="y")
        if found not in _TARGETS:
            return None
        return found if self.target_type == "auto" else self.target_type

    def _without_folds(self) -> Self:
        """Without the splitter, whose work is done: no file holds it, and no reader trusts it."""
        if self.target_encoder_ is not None:
            self.target_encoder_.set_params(cv=_FOLDS)
        return self

    def _pieces(self) -> list[tuple[Any, np.ndarray, Callable[..., np.ndarray]]]:
        """(transformer, its columns, how they are read), in the order of the output."""
        pieces = [
            (self.imputer_, self.numeric_, _numbers),
            (self.one_hot_encoder_, self.one_hot_, _levels),
            (self.target_encoder_, self.by_target_, _levels),
        ]
        return [piece for piece in pieces if piece[0] is not None]

    def _stack(self, blocks: list[np.ndarray]) -> np.ndarray:
        return np.hstack([block.astype(self._dtype, copy=False) for block in blocks])

    @property
    def _dtype(self) -> type[np.floating[Any]]:
        """Of what comes out."""
        return np.float32 if self._single else np.float64

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _stand_in(columns: list[Column], place: np.ndarray, dtype: Any) -> np.ndarray:
    """Two rows with the medians of columns of numbers, and with gaps where these have some."""
    medians = SimpleImputer(strategy="median", keep_empty_features=True)
    parts = []
    for some in few_columns(len(place)):
        numbers = _numbers(columns, place[some]).astype(dtype, copy=False)
        gaps = np.isnan(numbers)
        found = medians.fit(numbers).statistics_
        parts.append(np.where([gaps.all(0), gaps.any(0)], np.nan, found))
    return np.hstack(parts).astype(dtype)


def _numbers(columns: list[Column], place: np.ndarray) -> np.ndarray:
    return np.column_stack([columns[j].numbers() for j in place])


def _levels(columns: list[Column], place: np.ndarray) -> np.ndarray:
    return np.column_stack([columns[j].levels() for j in place])


def _target_encoder(kind: str | None, y: ArrayLike, random_state: Any) -> TargetEncoder:
    """The encoder, whose folds are shuffled by the seed, and class by class where that is possible.

    From scikit-learn 1.9 on the folds come as a splitter; before they were made inside.
    """
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    if TargetEncoder().get_params()["shuffle"] != "deprecated":
        return TargetEncoder(target_type=kind, cv=_FOLDS, random_state=seed)
    by_class = kind != "continuous" and np.unique(y, return_counts=True)[1].min() >= _FOLDS
    folds = (StratifiedKFold if by_class else KFold)(_FOLDS, shuffle=True, random_state=seed)
    return TargetEncoder(target_type=kind, cv=folds)
