"""What the columns of X become before the network sees them, and what a fit keeps of that.

A table is read (`TableEncoder`), scaled (`SmoothRobustScaler`) and encoded, in this order, and its
columns may then be stretched by factors of their own. Everything is learnt from training rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_X_y
from sklearn.utils.validation import assert_all_finite, has_fit_parameter

from sklearn_gflow.estimators._encodings import AUTOMATIC, encoder_of, frequent_values, ramps_of
from sklearn_gflow.estimators._partitions import (
    PartitionedRows,
    are_partitions,
    check_in_memory,
    surveyed,
)
from sklearn_gflow.estimators._reading import (
    TransformedRows,
    in_partitions,
    is_lazy,
    read,
    row_chunks,
)
from sklearn_gflow.estimators._rows import Rows, known_rows, transformed
from sklearn_gflow.estimators._sparse import SparseRows
from sklearn_gflow.estimators._tensors import readable
from sklearn_gflow.estimators._validation import numbers_of, validate_data
from sklearn_gflow.inputs import (
    SmoothRobustScaler,
    TableEncoder,
    origins_of,
)

__all__ = [
    "FLOATS",
    "FittedInputs",
    "as_table",
    "checked_rows",
    "is_frame",
    "is_table",
]

# Medians and quantiles are learnt from at most so many random rows, and of tables that are not in
# memory also levels and target means.
_LEARNT_FROM = 50_000
FLOATS = [np.float64, np.float32]
_UNKNOWN_GAPS = (
    "X has gaps or categories, and the rows that the fit began with had none, so that nothing is "
    "known of them; fill them, or begin with rows that have some"
)
_SPARSE: dict[str, Any] = {"accept_sparse": "csr", "dtype": FLOATS}


# -- reading -----------------------------------------------------------------------------------


def checked_rows(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    *,
    reset: bool,
    least: int,
    as_numbers: bool = False,
    **check_y: Any,
) -> tuple[Any, np.ndarray]:
    """X and y by scikit-learn's rules; `estimator` remembers the columns, or holds them against X.

    Frames, and arrays with anything but numbers, are left to `TableEncoder`. Gaps are allowed.
    Where the columns were learnt from an array of numbers there is none (``as_numbers``), and a
    frame that holds numbers alone is such an array.

    Raises
    ------
    ValueError
        If X is no table, y does not belong to it, or there are fewer than ``least`` rows.
    """
    if are_partitions(X):
        X, y, _ = surveyed(X, y, None)
    X, y = readable(X, "X"), readable(y, "y")
    if check_y.get("y_numeric"):
        y = numbers_of(y)
    if isinstance(X, PartitionedRows):
        X = _checked_partitions(estimator, X, reset=reset, as_numbers=as_numbers)
        stand_in = np.broadcast_to(np.zeros(1), (len(X), 1))
        _, y = check_X_y(stand_in, y, ensure_min_samples=least, estimator=estimator, **check_y)
        return X, y
    if issparse(X):
        X, y = validate_data(
            estimator, X, y, **_SPARSE, ensure_min_samples=least, reset=reset, **check_y
        )
        return SparseRows.of(X), y
    if not is_table(X) or (as_numbers and _holds_numbers(X)):
        X, y = validate_data(
            estimator, X, y, dtype=FLOATS, order="C", ensure_all_finite="allow-nan",
            ensure_min_samples=least, reset=reset, **check_y,
        )  # fmt: skip
        return X, y
    X = as_table(estimator, X, reset=reset)
    stand_in = np.zeros((len(X), 1))
    _, y = check_X_y(stand_in, y, ensure_min_samples=least, estimator=estimator, **check_y)
    return X, y


def _checked_partitions(
    estimator: BaseEstimator, X: PartitionedRows, *, reset: bool, as_numbers: bool = False
) -> PartitionedRows:
    """X after a look at its columns; its numbers were looked at before."""
    first = X[:1]
    if not X.is_frame or (as_numbers and _holds_numbers(first)):
        options: dict[str, Any] = {"dtype": FLOATS, "ensure_all_finite": "allow-nan"}
        validate_data(estimator, first, **options, reset=reset)
        return X.mapped(_finite_numbers) if X.is_frame else X
    as_table(estimator, first, reset=reset)
    return X


def _finite_numbers(rows: Any) -> np.ndarray:
    """A frame of numbers as an array, which may have gaps."""
    numbers = np.asarray(rows, dtype=np.float64)
    assert_all_finite(numbers, allow_nan=True, input_name="X")
    return numbers


def is_frame(X: Any) -> bool:
    """Whether X is a frame of pandas or polars, told by what it can do."""
    if (partitions := in_partitions(X)) is not None:
        return partitions.is_frame
    return hasattr(X, "iloc") or hasattr(X, "get_column")


def is_table(X: Any) -> bool:
    """Whether X is a frame, or an array or a list of rows with strings in it."""
    if is_frame(X):
        return True
    if isinstance(X, list | tuple):
        return any(
            isinstance(value, str) for row in X if isinstance(row, list | tuple) for value in row
        )
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    if kind == "O" and isinstance(X, np.ndarray):
        return any(isinstance(value, str) for value in X.ravel())
    return kind in ("U", "S", "T")


def _holds_numbers(table: Any) -> bool:
    """Whether a frame holds numbers and truth values alone."""
    return np.asarray(table).dtype.kind in "fiub"


def as_table(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """A frame as it is, anything else as an array of objects; with two axes."""
    if not is_frame(X) and not isinstance(X, np.ndarray):
        X = np.array(X, dtype=object)
    X = validate_data(estimator, X, skip_check_array=True, reset=reset)
    if len(X.shape) != 2 or 0 in X.shape:
        raise ValueError(
            f"X has shape {tuple(X.shape)}; a table needs at least one row and one column"
        )
    return X


def _is_raw(X: Any) -> bool:
    """Whether X is more than an array of numbers without gaps, so that `TableEncoder` reads it."""
    if isinstance(X, SparseRows):
        return False
    if (partitions := in_partitions(X)) is not None:
        return partitions.is_frame or partitions.has_gaps
    if is_table(X):
        return True
    # The sum is no number where one of its terms is none, and is quicker than to look at each.
    with np.errstate(over="ignore", invalid="ignore"):
        chunks = (read(X, rows) for rows in row_chunks(len(X)))
        return any(np.isnan(chunk.sum()) and np.isnan(chunk).any() for chunk in chunks)


# -- transforming ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FittedInputs:
    """What makes columns of the network from those of X.

    Attributes
    ----------
    table : TableEncoder or None
        Reads frames, fills gaps.
    scaler : SmoothRobustScaler or None
        Scales all columns.
    n_numbers : int
        How many columns are numbers and no indicators of levels; they come first.
    encoder : transformer or None
        Puts functions of these beside them.
    factors : ndarray of shape (n_columns,) or None
        Factors of the network's columns.
    sparse : bool
        Whether they were learnt from sparse rows. Of these zero stays zero, so that sparse rows
        stay sparse; where not, they become dense a chunk at a time.
    """

    table: TableEncoder | None = None
    scaler: SmoothRobustScaler | None = None
    n_numbers: int = 0
    encoder: Any = None
    factors: np.ndarray | None = None
    sparse: bool = False

    @classmethod
    def learnt(
        cls,
        rows: Rows,
        held_out: Rows | None,
        scaler: SmoothRobustScaler | None,
        *,
        target_type: str,
        seed: int,
    ) -> tuple[Self, Any]:
        """From training rows, with what these become; nothing is encoded yet.

        Target means of categories are made of the targets of other rows, as training needs it.
        Of rows held out it only counts whether they have gaps, which are then filled as well.
        """
        X, table = rows.X, None
        sparse = isinstance(X, SparseRows)
        if _is_raw(X) or (not sparse and held_out is not None and _is_raw(held_out.X)):
            table = TableEncoder(target_type=target_type, random_state=seed)
            # Here columns have no names, whatever is configured for the transformers of users.
            table, X = _encoded_table(table.set_output(transform="default"), X, rows.y, seed)
        n_numbers = X.shape[1] if table is None else len(table.numeric_)
        found = cls(table, None, n_numbers, sparse=sparse)
        if scaler is not None:
            sample, weights = _sample(X, rows.weights, seed)
            numbers = sample.matrix if isinstance(sample, SparseRows) else np.asarray(sample)
            scaler = scaler.set_output(transform="default").fit(numbers, sample_weight=weights)
            found = replace(found, scaler=scaler)
        return found, found.applied(X)

    def encoded(
        self, encoding: Any, X: Any, weights: np.ndarray | None, seed: int, *, ramps: bool = False
    ) -> tuple[Self, Any]:
        """The same with an encoder, learnt from columns X of training rows; and these, encoded.

        ``ramps`` tells whether these are what "auto" takes where no values are frequent.
        """
        if isinstance(encoding, str) and encoding == AUTOMATIC:
            # Columns that are not scaled, or only scaled, are to stay what they are.
            bent = self.scaler is not None and self.scaler.clip is not None
            if self.sparse or not bent:
                return self, X
            sample, weights = _sample(X, weights, seed)
            numbers = np.asarray(sample)[:, : self.n_numbers]
            encoder = frequent_values(numbers, weights)
            if encoder is None and ramps:
                encoder = ramps_of(numbers, len(X), weights)
        else:
            encoder = self._fitted(encoder_of(encoding, seed), encoding, X, weights, seed)
        if encoder is None:
            return self, X
        found = replace(self, encoder=encoder)
        return found, found.encode(X)

    def _fitted(self, encoder: Any, name: Any, X: Any, weights: Any, seed: int) -> Any:
        """An encoder that the user names, fitted to columns X; None where there are no numbers."""
        if encoder is None or not self.n_numbers:
            return None
        if self.sparse:
            raise ValueError(
                f"encoding={name!r} puts columns beside those of X that are not sparse, and X "
                "is; set encoding=None, encode X before, or hand over X.toarray()"
            )
        sample, weights = _sample(X, weights, seed)
        weighted = {}
        if weights is not None and has_fit_parameter(encoder, "sample_weight"):
            weighted["sample_weight"] = weights
        return encoder.fit(np.asarray(sample)[:, : self.n_numbers], **weighted)

    def stretched(self, factors: np.ndarray) -> Self:
        """The same, with the network's columns multiplied by further factors."""
        return replace(self, factors=factors if self.factors is None else self.factors * factors)

    def read(self, estimator: BaseEstimator, X: ArrayLike) -> Any:
        """X, checked for a fitted estimator, as columns of the network.

        Raises
        ------
        ValueError
            If X has other columns than in ``fit``, or what is no number, or gaps that ``fit`` had
            not.
        """
        return self.finished(self.scaled(estimator, X))

    def scaled(self, estimator: BaseEstimator, X: ArrayLike) -> Any:
        """The same before it is encoded, which several networks may share; see `read`."""
        return self._as_scaled(self.numbers(estimator, X))

    def numbers(self, estimator: BaseEstimator, X: ArrayLike) -> Any:
        """The same before it is scaled: numbers without gaps, or sparse rows."""
        check_in_memory(X, "this method")
        if issparse(X):
            return SparseRows.of(validate_data(estimator, X, **_SPARSE, reset=False))
        if isinstance(X, PartitionedRows):
            as_numbers = self.table is None
            rows = _checked_partitions(estimator, X, reset=False, as_numbers=as_numbers)
            return self._as_numbers(rows)
        if self.table is not None:
            return self.table.transform(as_table(estimator, X, reset=False))
        try:
            return validate_data(estimator, X, dtype=FLOATS, order="C", reset=False)
        except ValueError as error:
            if "contains NaN" not in str(error):
                raise
            # scikit-learn would say that gaps are never taken.
            raise ValueError(f"Input X contains NaN: {_UNKNOWN_GAPS}") from error

    def before_scaling(self, X: Any) -> Any:
        """Numbers whose `scaled` columns these are, to rounding."""
        if self.scaler is None:
            return X
        back = self.scaler.inverse_transform
        return X.transformed(back) if isinstance(X, SparseRows) else back(X)

    def sharing(self, other: FittedInputs) -> Self:
        """The same with table and scaler of others, which are equal and were copied on the way."""
        return replace(self, table=other.table, scaler=other.scaler)

    def scales_like(self, other: FittedInputs) -> bool:
        """Whether `scaled` of both is the same."""
        return self.table is other.table and self.scaler is other.scaler

    def origins(self, n_features: int, n_columns: int) -> np.ndarray:
        """The column of X that each of the network's columns is made of; the first of several.

        It is −1 where the encoder's names do not tell.
        """
        first = np.arange(n_features) if self.table is None else self.table.origins
        if self.encoder is None:
            return first
        numbers, levels = first[: self.n_numbers], first[self.n_numbers :]
        try:
            encoded = origins_of(self.encoder, self.n_numbers)
        except AttributeError:  # a transformer that names no columns
            encoded = np.full(n_columns - len(levels), -1)
        return np.concatenate([np.where(encoded < 0, -1, numbers[encoded]), levels])

    def of_rows(self, X: Any) -> Any:
        """Rows that were checked as columns of the network.

        Raises
        ------
        ValueError
            If they have gaps, and those that these columns were learnt from had none.
        """
        if self.table is None and _is_raw(X):
            raise ValueError(_UNKNOWN_GAPS)
        return self.applied(self._as_numbers(X))

    def _as_numbers(self, X: Any) -> Any:
        """Rows without gaps and categories."""
        if self.table is None or isinstance(X, SparseRows):
            return X
        transform = self.table.transform
        return transformed(X, transform) if is_lazy(X) else transform(X)

    def applied(self, X: Any) -> Any:
        """Numbers without gaps as columns of the network; lazily, where these would take much."""
        return self.finished(self._as_scaled(X))

    def _as_scaled(self, X: Any) -> Any:
        if isinstance(X, SparseRows) and not self.sparse:
            return TransformedRows(X, self._made_dense, self._made_dense(X[:1]).shape[1])
        return X if self.scaler is None else transformed(X, self._scaled)

    def _scaled(self, X: Any) -> Any:
        assert self.scaler is not None
        transform = self.scaler.transform
        return X.transformed(transform) if isinstance(X, SparseRows) else transform(X)

    def _made_dense(self, X: SparseRows) -> np.ndarray:
        numbers = self.dense(X)
        return numbers if self.scaler is None else self.scaler.transform(numbers)

    def dense(self, numbers: Any) -> np.ndarray:
        """Numbers of a few rows as an array, also of sparse rows."""
        if not isinstance(numbers, SparseRows):
            return np.asarray(numbers)
        array: np.ndarray = numbers.toarray()
        return array if self.table is None else self.table.transform(array)

    def finished(self, X: Any) -> Any:
        """Scaled columns, encoded and stretched."""
        if self.encoder is None and self.factors is None:
            return X
        return transformed(X, self._finished)

    def encode(self, X: Any) -> Any:
        """Scaled columns with those of the encoder, not stretched yet."""
        return X if self.encoder is None else transformed(X, self._encoded)

    def _finished(self, X: Any) -> Any:
        if self.encoder is not None:
            X = self._encoded(X)
        return X if self.factors is None else X * self.factors.astype(X.dtype)

    def _encoded(self, X: np.ndarray) -> np.ndarray:
        numbers = self.encoder.transform(X[:, : self.n_numbers])
        numbers = numbers.toarray() if issparse(numbers) else numbers
        return np.hstack([np.asarray(numbers, dtype=X.dtype), X[:, self.n_numbers :]])


def _encoded_table(table: TableEncoder, X: Any, y: Any, seed: int) -> tuple[TableEncoder, Any]:
    """The encoder, fitted to training rows, and these as numbers; target means are of other rows.

    Where the rows are not in memory it learns from some of them. Of the others target means do not
    know the targets.
    """
    if not is_lazy(X):
        return table, table.fit_transform(X, y)
    chosen = _chosen(len(X), seed)
    sample = read(X, chosen)
    if not table.fit(sample, y[chosen]).by_target_.size:
        return table, transformed(X, table.transform)
    encoded = table.fit_transform(sample, y[chosen])
    return table, known_rows(X, table.transform, chosen, encoded)


def _sample(X: Any, weights: Any, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows to learn quantiles from: all, or some of many."""
    if len(X) <= _LEARNT_FROM:
        return X, weights
    chosen = _chosen(len(X), seed)
    return read(X, chosen), None if weights is None else weights[chosen]


def _chosen(n_samples: int, seed: int) -> np.ndarray:
    """The rows to learn from, ascending."""
    if n_samples <= _LEARNT_FROM:
        return np.arange(n_samples)
    return np.sort(np.random.RandomState(seed).choice(n_samples, _LEARNT_FROM, replace=False))
