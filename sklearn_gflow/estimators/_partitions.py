"""Tables in partitions: collections of Dask and datasets of pyarrow, read a part at a time.

They are told by what they can do, and neither library is imported before one is read. X is never
gathered; y and the weights, a few numbers a row, are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import assert_all_finite

from sklearn_gflow.contract import check_container
from sklearn_gflow.estimators._plain import digest

__all__ = [
    "PartitionedRows",
    "are_partitions",
    "check_in_memory",
    "fragments_of",
    "frame_of",
    "is_collection",
    "surveyed",
]

# Partitions of so many bytes are held at once, as columns of the network; one in any case.
_WINDOW_BYTES = 2**27
# So many rows of a partition are transformed at once.
_CHUNK = 8192


# -- which tables are in partitions --------------------------------------------------------------


def is_collection(X: Any) -> bool:
    """Whether X is an array or a frame of Dask."""
    return hasattr(X, "__dask_graph__")


def is_dataset(X: Any) -> bool:
    """Whether X is a dataset of pyarrow."""
    return hasattr(X, "get_fragments") and hasattr(X, "schema")


def are_partitions(X: Any) -> bool:
    """Whether X is a table in partitions, as users hand it over."""
    return is_collection(X) or is_dataset(X)


def check_in_memory(X: Any, what: str) -> None:
    """Refuse a table in partitions where all rows are needed, and one that nobody reads.

    Raises
    ------
    ValueError
        With what to do instead.
    """
    check_container(X)
    if are_partitions(X):
        raise ValueError(
            f"{what} takes a table in memory, and X lies in partitions; hand over some of its rows "
            "or, if it fits, all of them (X.compute() of Dask, X.to_table().to_pandas() of "
            "pyarrow). fit, predict and score of an estimator without CV read a few partitions at "
            "a time, with the parameters that a search found for some of the rows"
        )


def surveyed(
    X: Any, y: Any, sample_weight: Any, names: Sequence[str] | None = None
) -> tuple[Any, Any, Any]:
    """A table in partitions after a first look at each of them, with y and weights in memory.

    Of a dataset y and the weights may be names of columns, and ``names`` says which of the others
    to read. Tables of other kinds come back as they are.

    Raises
    ------
    ValueError
        If partitions differ in their columns, hold infinity or are sparse, or a dataset has
        filters or no column of that name.
    """
    if is_dataset(X):
        y, sample_weight, readers = _of_dataset(X, y, sample_weight, names)
        looks = [_look(reader()) for reader in readers]
    elif is_collection(X):
        parts = _parts(X)
        readers, looks = [partial(_computed, part) for part in parts], _looks(parts)
    else:
        return X, _in_memory(y), _in_memory(sample_weight)
    rows = PartitionedRows.of(readers, looks)
    return rows, _in_memory(y), _in_memory(sample_weight)


def _in_memory(values: Any) -> Any:
    """Targets, labels or weights as they are, computed where they are a collection."""
    if not is_collection(values):
        return values
    found = _computed(values)
    return found.to_numpy() if hasattr(found, "to_numpy") else found


# -- Dask ------------------------------------------------------------------------------------------


def _computed(part: Any) -> Any:
    """A part of a collection, by the scheduler that the user has chosen."""
    import dask

    return dask.compute(part)[0]


def _parts(X: Any) -> list[Any]:
    """The partitions of an array or a frame, each with all columns."""
    if not hasattr(X, "rechunk"):
        return list(X.to_delayed())
    if X.ndim != 2:
        raise ValueError(f"X has {X.ndim} axes; a table has rows and columns")
    return list(X.rechunk({1: -1}).to_delayed()[:, 0])


def _looks(parts: Sequence[Any]) -> list[_Look]:
    """What a first look tells of each, where the partitions are: only that travels."""
    import dask

    return list(dask.compute(*(dask.delayed(_look)(part) for part in parts)))


# -- pyarrow ---------------------------------------------------------------------------------------


def _of_dataset(
    X: Any, y: Any, sample_weight: Any, wanted: Sequence[str] | None
) -> tuple[Any, Any, Sequence[Callable[[], Any]]]:
    """y, weights, and what reads the other columns of each part."""
    names = list(X.schema.names)
    given = {"y": y, "sample_weight": sample_weight}
    apart = {what: name for what, name in given.items() if isinstance(name, str)}
    for what, name in apart.items():
        if name not in names:
            raise ValueError(f"{what}={name!r} names no column of X, which has {names}")
    fragments = fragments_of(X)
    kept = wanted
    if kept is None:
        kept = [name for name in names if name not in apart.values()]
    for what, name in apart.items():
        parts = [frame_of(X, one, [name])[name].to_numpy() for one in fragments]
        given[what] = np.concatenate(parts)
    readers = [partial(frame_of, X, one, kept) for one in fragments]
    return given["y"], given["sample_weight"], readers


def fragments_of(dataset: Any) -> list[Any]:
    """The parts of a dataset: row groups of Parquet, files of other formats.

    Raises
    ------
    ValueError
        If it has filters, which its parts would not know; pyarrow says so.
    """
    found: list[Any] = []
    for fragment in dataset.get_fragments():
        in_groups = hasattr(fragment, "split_by_row_group")
        found += fragment.split_by_row_group() if in_groups else [fragment]
    return found


def frame_of(dataset: Any, fragment: Any, names: Sequence[str]) -> Any:
    """Columns of a part as a frame.

    Raises
    ------
    ValueError
        If the dataset lacks some.
    """
    if missing := [name for name in names if name not in dataset.schema.names]:
        raise ValueError(f"X lacks the columns {missing} of fit; it has {dataset.schema.names}")
    return fragment.to_table(schema=dataset.schema, columns=list(names)).to_pandas()


# -- a first look ----------------------------------------------------------------------------------


class _Look(NamedTuple):
    """What there is to know of a partition before it is read in earnest."""

    n_rows: int
    columns: tuple[Any, ...]
    dtype: str
    is_frame: bool
    has_gaps: bool
    mark: str


def _look(rows: Any) -> _Look:
    if issparse(rows):
        raise ValueError(
            "X has sparse partitions; make them dense, X.map_blocks(lambda rows: rows.toarray()), "
            "or hand over one sparse matrix"
        )
    is_frame = hasattr(rows, "iloc")
    if is_frame:
        has_gaps = bool(rows.isna().to_numpy().any())
        return _Look(len(rows), tuple(rows.columns), "float64", True, has_gaps, _mark(rows))
    rows = np.asarray(rows)
    dtype, has_gaps = "float32" if rows.dtype == np.float32 else "float64", False
    for chunk in _chunks(len(rows)):
        some = rows[chunk].astype(dtype, copy=False)
        assert_all_finite(some, allow_nan=True, input_name="X")
        has_gaps |= bool(np.isnan(some).any())
    return _Look(len(rows), tuple(range(rows.shape[1])), dtype, False, has_gaps, _mark(rows))


def _mark(rows: Any) -> str:
    """By what a partition is known again: its first row and its last."""
    if not len(rows):
        return ""
    ends = _safe_indexing(rows, np.array([0, len(rows) - 1]))
    return digest(repr(np.asarray(ends).tolist()))


def _chunks(n_rows: int) -> Iterator[slice]:
    for start in range(0, n_rows, _CHUNK):
        yield slice(start, start + _CHUNK)


# -- rows ------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """What a partition becomes when it is read, and rows of which that is known already."""

    transform: Callable[[Any], Any]
    known: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True, eq=False)
class PartitionedRows:
    """Rows of a table in partitions, with what arrays of rows are asked for.

    Partitions that were read last are held, so that rows of a few of them are handed out again
    and again without a further look at the source.

    Attributes
    ----------
    readers : tuple of callable
        Each returns the rows of a partition, as an array or as a frame.
    marks : tuple of str
        By what these are known again.
    sizes : ndarray of int of shape (n_partitions,)
        Their rows.
    n_columns : int
        How many columns.
    dtype : dtype
        Of the numbers.
    is_frame : bool
        Whether rows come as a frame.
    has_gaps : bool
        Whether there may be some.
    steps : tuple of _Step
        What becomes of rows when they are read.
    """

    readers: tuple[Callable[[], Any], ...]
    marks: tuple[str, ...]
    sizes: np.ndarray
    n_columns: int
    dtype: np.dtype[Any]
    is_frame: bool
    has_gaps: bool
    steps: tuple[_Step, ...] = ()
    _held: OrderedDict[int, Any] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def of(cls, readers: Sequence[Callable[[], Any]], looks: Sequence[_Look]) -> PartitionedRows:
        """Those of partitions that were looked at.

        Raises
        ------
        ValueError
            If there are no rows, or partitions differ in their columns.
        """
        there = [k for k, look in enumerate(looks) if look.n_rows]
        if not there:
            raise ValueError("X has no rows in any of its partitions")
        looks, readers = [looks[k] for k in there], [readers[k] for k in there]
        first = looks[0]
        for k, look in zip(there, looks, strict=True):
            if (look.columns, look.is_frame) != (first.columns, first.is_frame):
                raise ValueError(
                    f"partition {k} of X has the columns {list(look.columns)}, and the first has "
                    f"{list(first.columns)}; all need the same ones in the same order"
                )
        single = {look.dtype for look in looks} == {"float32"}
        return cls(
            tuple(readers), tuple(look.mark for look in looks),
            np.array([look.n_rows for look in looks]), len(first.columns),
            np.dtype("float32" if single else "float64"), first.is_frame,
            any(look.has_gaps for look in looks),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.n_columns

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self) * self.n_columns

    @cached_property
    def ends(self) -> np.ndarray:
        """Behind the last row of each partition."""
        return np.cumsum(self.sizes)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.n_columns * self.dtype.itemsize

    @property
    def rows_at_once(self) -> int:
        """How many rows are held."""
        return max(1, _WINDOW_BYTES // self.row_bytes)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, rows: slice | np.ndarray) -> Any:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        index = np.asarray(rows)
        places = self.partition_of(index)
        order = np.argsort(places, kind="stable")
        present, first = np.unique(places[order], return_index=True)
        runs = dict(zip(present.tolist(), np.split(order, first[1:]), strict=True))
        # Partitions that are held come first: to read another may take their place.
        wanted = sorted(runs, key=lambda k: k not in self._held)
        if not self.is_frame:
            array = np.empty((len(index), self.n_columns), self.dtype)
            for k in wanted:
                array[runs[k]] = self._rows_of(k, index[runs[k]])
            return array
        found = _joined([self._rows_of(k, index[runs[k]]) for k in wanted])
        order = np.concatenate([runs[k] for k in wanted] or [np.empty(0, int)])
        in_order = (np.diff(order) > 0).all()
        return found if in_order else _safe_indexing(found, np.argsort(order, kind="stable"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def partition_of(self, index: np.ndarray) -> np.ndarray:
        """The partition of each of some rows."""
        return np.searchsorted(self.ends, index, side="right")

    def mapped(
        self,
        transform: Callable[[Any], Any],
        known: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> PartitionedRows:
        """The rows under a transform, which is applied when a partition is read.

        Parameters
        ----------
        transform : callable
            Makes an array of rows.
        known : (ndarray of int, ndarray), optional
            Rows, ascending, of which it is known what they become, and that.
        """
        self._held.clear()  # what was held is of no use any more
        first = transform(self[:1])
        self._held.clear()
        return replace(
            self, n_columns=first.shape[1], dtype=first.dtype, is_frame=False,
            steps=(*self.steps, _Step(transform, known)), _held=OrderedDict(),
        )  # fmt: skip

    def _rows_of(self, k: int, index: np.ndarray) -> Any:
        return _safe_indexing(self._partition(k), index - (self.ends[k] - self.sizes[k]))

    def _partition(self, k: int) -> Any:
        """The rows of a partition as they are handed out."""
        if k in self._held:
            self._held.move_to_end(k)
            return self._held[k]
        held = sum(self.sizes[list(self._held)]) + self.sizes[k]
        while self._held and (self.is_frame or held > self.rows_at_once):
            held -= self.sizes[self._held.popitem(last=False)[0]]
        found = self._made(k, self._read(k))
        self._held[k] = found
        return found

    def _read(self, k: int) -> Any:
        rows = self.readers[k]()
        if len(rows) != self.sizes[k] or _mark(rows) != self.marks[k]:
            raise ValueError(
                "a partition of X has other rows than when it was read before; its rows must come "
                "in the same order each time: write what was shuffled or sampled to disk and read "
                "it from there, or persist it"
            )
        return rows

    def _made(self, k: int, rows: Any) -> Any:
        if not self.steps:
            return rows if self.is_frame else np.asarray(rows, dtype=self.dtype)
        start = int(self.ends[k] - self.sizes[k])
        parts = []
        for chunk in _chunks(len(rows)):
            some = _safe_indexing(rows, chunk)
            for step in self.steps:
                some = _known(step, step.transform(some), start + chunk.start)
            parts.append(some)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _known(step: _Step, made: np.ndarray, start: int) -> np.ndarray:
    """What a step makes of rows from ``start`` on, with those of which it is known in place."""
    if step.known is None:
        return made
    index, values = step.known
    first, last = np.searchsorted(index, [start, start + len(made)])
    made = np.array(made)
    made[index[first:last] - start] = values[first:last]
    return made


def _joined(parts: list[Any]) -> Any:
    """Frames of the same columns, one below the other."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    columns = {
        name: np.concatenate([part[name].to_numpy() for part in parts]) for name in first.columns
    }
    parts.clear()  # or rows would be there three times
    found = type(first)(columns, copy=False)
    # Categories of one partition may be others than those of the next.
    categorical = [name for name in columns if str(first.dtypes[name]) == "category"]
    return found.astype(dict.fromkeys(categorical, "category")) if categorical else found
