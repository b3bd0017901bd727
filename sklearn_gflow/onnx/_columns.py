"""What the columns of X become, as nodes: tables, scaled columns, encodings.

Each stage rounds to float32 where its transformer does, so that the columns that the network sees
are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    StringTensorType,
)

from sklearn_gflow.inputs import (
    FrequentValueEncoder,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
    origins_of,
)
from sklearn_gflow.onnx._graph import DOUBLE, INT64, Graph

__all__ = ["Columns", "given", "network_columns", "transformed"]

_HALF = np.sqrt(0.5)
_FAR = 1e100  # as in SmoothRobustScaler: beyond it the bound is reached


@dataclass(frozen=True)
class Columns:
    """Columns of numbers in float64.

    Attributes
    ----------
    value : str
        Their name in the graph, of shape (n_samples, n_columns).
    n : int
        How many.
    single : bool
        Whether transformers are given them in float32.
    """

    value: str
    n: int
    single: bool

    def becoming(self, graph: Graph, value: str, n: int) -> Columns:
        """Others of the same precision."""
        return replace(self, value=graph.single(value) if self.single else value, n=n)


# -- what is given ------------------------------------------------------------------------------


def _pieces(inputs: Any, n: int) -> list[tuple[Any, int | None]]:
    """For each of n columns of X the input that has it, and its place there; None alone."""
    found: list[tuple[Any, int | None]] = []
    for one in inputs:
        # The shape of what stackings hand to their last estimator is not known.
        width = one.type.shape[1] if one.type.shape else n
        found += [(one, None)] if width == 1 else [(one, j) for j in range(width)]
    return found


def _numbers(graph: Graph, inputs: Any, places: Any, n: int) -> Columns:
    """Some of the n columns of X, which are numbers."""
    pieces = _pieces(inputs, n)
    if len(inputs) == 1:
        value = graph.take(graph.cast(inputs[0].full_name, DOUBLE), places)
    else:
        taken = [_column(graph, *pieces[j]) for j in places]
        value = graph.beside([graph.cast(one, DOUBLE) for one in taken])
    single = all(isinstance(pieces[j][0].type, FloatTensorType) for j in places)
    return Columns(value, len(places), single)


def _column(graph: Graph, one: Any, place: int | None) -> str:
    """A column of an input, of shape (n_samples, 1)."""
    return one.full_name if place is None else graph.take(one.full_name, [place])


def given(graph: Graph, inputs: Any, n: int) -> Columns:
    """X, an array of numbers with n columns."""
    for one in inputs:
        if isinstance(one.type, StringTensorType):
            raise ValueError(
                f"input {one.raw_name!r} holds strings, and the model was fitted on numbers; name "
                "other types in initial_types"
            )
    return _numbers(graph, inputs, range(len(_pieces(inputs, n))), n)


# -- tables -------------------------------------------------------------------------------------


def _table(graph: Graph, encoder: TableEncoder, inputs: Any) -> Columns:
    parts: list[str] = []
    if encoder.imputer_ is not None:
        numbers = _numbers(graph, inputs, encoder.numeric_, encoder.n_features_in_)
        parts.append(_filled(graph, encoder.imputer_, numbers.value))
    for piece, places in (
        (encoder.one_hot_encoder_, encoder.one_hot_),
        (encoder.target_encoder_, encoder.by_target_),
    ):
        if piece is not None:
            parts.append(_levels(graph, piece, places, inputs))
    n = len(encoder.get_feature_names_out())
    columns = Columns(graph.beside(parts), n, encoder._single)
    return columns.becoming(graph, columns.value, n)


def _filled(graph: Graph, imputer: Any, value: str) -> str:
    """Numbers without gaps, and indicators of the gaps."""
    gaps = graph.node("IsNaN", value)
    filled = graph.node("Where", gaps, np.nan_to_num(imputer.statistics_)[None], value)
    indicated = imputer.indicator_.features_
    if not len(indicated):
        return filled
    return graph.beside([filled, graph.take(graph.cast(gaps, DOUBLE), indicated)])


def _levels(graph: Graph, piece: Any, places: np.ndarray, inputs: Any) -> str:
    """What an encoder of scikit-learn makes of categories, looked up level by level."""
    pieces, origins = _pieces(inputs, max(places) + 1), origins_of(piece, len(places))
    parts = []
    for k, place in enumerate(places):
        one, where = pieces[place]
        levels = piece.categories_[k]
        rows = _rows_of_levels(piece, k)[:, origins == k]
        index = _index(graph, one, _column(graph, one, where), levels)
        looked_up = graph.node("Gather", rows, graph.node("Reshape", index, np.array([-1])), axis=0)
        parts.append(looked_up)
    return graph.beside(parts)


def _rows_of_levels(piece: Any, k: int) -> np.ndarray:
    """What an encoder makes of each level of a column, and of one that it has not seen."""
    levels = piece.categories_[k].tolist()
    known = [level for level in levels if level is not None]
    unseen: Any = "".join(known) + "?" if isinstance(known[0], str) else max(known) + 1
    rows = np.empty((len(levels) + 1, len(piece.categories_)), dtype=object)
    rows[:] = [categories[0] for categories in piece.categories_]
    rows[:, k] = [*levels, unseen]
    found: np.ndarray = piece.transform(rows)
    return found


def _index(graph: Graph, one: Any, column: str, levels: np.ndarray) -> str:
    """The place of each row's level among the levels; behind the last where it is none of them."""
    behind = {"values_int64s": np.arange(len(levels)), "default_int64": len(levels)}
    if isinstance(one.type, StringTensorType):
        if not all(level is None or isinstance(level, str) for level in levels):
            raise ValueError(_other_levels(one, levels, "strings"))
        # Nothing is missing in a tensor of strings: the empty one stands for it.
        strings = ["" if level is None else level for level in levels]
        if len(set(strings)) < len(strings):
            raise ValueError(
                f"input {one.raw_name!r} has both empty strings and missing ones among its levels, "
                "which a tensor of strings cannot tell apart; give one of them another name"
            )
        return graph.node("LabelEncoder", column, keys_strings=strings, **behind)
    if isinstance(one.type, FloatTensorType | DoubleTensorType):
        raise ValueError(_other_levels(one, levels, "numbers with a fraction"))
    if not all(isinstance(level, int | np.integer | np.bool_) for level in levels):
        raise ValueError(_other_levels(one, levels, "integers"))
    keys = levels.astype(np.int64)
    return graph.node("LabelEncoder", graph.cast(column, INT64), keys_int64s=keys, **behind)


def _other_levels(one: Any, levels: np.ndarray, kind: str) -> str:
    return (
        f"input {one.raw_name!r} is to hold {kind}, and the levels of this category are "
        f"{levels.tolist()[:3]} ...; levels can be strings or integers here, and the type in "
        "initial_types must be theirs"
    )


# -- numbers ------------------------------------------------------------------------------------


def _scaled(graph: Graph, scaler: SmoothRobustScaler, columns: Columns) -> Columns:
    z = graph.node("Sub", columns.value, scaler.center_[None])
    z = graph.node("Div", z, scaler.scale_[None])
    if scaler.clip is not None:
        far = float(scaler.clip) * _FAR
        z = graph.node("Min", graph.node("Max", z, np.array(-far)), np.array(far))
        share = graph.node("Div", z, np.array(float(scaler.clip)))
        root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", share, share), np.array(1.0)))
        z = graph.node("Div", z, root)
    return columns.becoming(graph, z, columns.n)


def _beside_raw(graph: Graph, encoder: Any, columns: Columns) -> Columns:
    """Columns, shrunk, and their components behind each."""
    encoded = encoder.encoded_
    mean = np.where(encoded, encoder.mean_, 0.0)[None]
    factor = np.where(encoded, _HALF, 1.0)[None]
    raw = graph.node("Mul", graph.node("Sub", columns.value, mean), factor)
    raw = graph.node("Add", raw, mean)
    counts = [len(means) for means in encoder.component_means_]
    of = np.repeat(np.arange(len(counts)), counts)
    if not len(of):
        return columns.becoming(graph, raw, columns.n)
    x = graph.take(columns.value, of)
    components = _COMPONENTS[type(encoder)](graph, encoder, x, of)
    components = graph.node("Sub", components, np.concatenate(encoder.component_means_)[None])
    components = graph.node("Mul", components, encoder.component_scale_[of][None])
    # Each column stands before its own components.
    order = np.argsort(np.concatenate([np.arange(len(counts)), of]), kind="stable")
    both = graph.take(graph.beside([raw, components]), order)
    return columns.becoming(graph, both, len(order))


def _ramps(graph: Graph, encoder: PiecewiseLinearEncoder, x: str, of: np.ndarray) -> str:
    left = np.concatenate([edges[:-1] for edges in encoder.bin_edges_])[None]
    right = np.concatenate([edges[1:] for edges in encoder.bin_edges_])[None]
    cut = graph.node("Min", graph.node("Max", x, left), right)
    return graph.node("Div", graph.node("Sub", cut, left), right - left)


def _waves(graph: Graph, encoder: PeriodicEncoder, x: str, of: np.ndarray) -> str:
    encoded = np.flatnonzero(encoder.encoded_)
    deviations = graph.node("Sub", x, encoder.mean_[of][None])
    deviations = graph.node("Div", deviations, encoder.scale_[of][None])
    frequencies = 2 * np.pi * encoder.frequencies_[encoded].ravel()[None]
    turned = graph.node("Mul", deviations, frequencies)
    turned = graph.node("Add", turned, encoder.phases_[encoded].ravel()[None])
    return graph.node("Cos", turned)


def _indicators(graph: Graph, encoder: FrequentValueEncoder, x: str, of: np.ndarray) -> str:
    from_here = graph.node("GreaterOrEqual", x, np.concatenate(encoder.lower_edges_)[None])
    not_beyond = graph.node("Less", x, np.concatenate(encoder.upper_edges_)[None])
    return graph.cast(graph.node("And", from_here, not_beyond), DOUBLE)


_COMPONENTS = {
    FrequentValueEncoder: _indicators,
    PeriodicEncoder: _waves,
    PiecewiseLinearEncoder: _ramps,
}


def transformed(graph: Graph, transformer: Any, inputs: Any) -> Columns:
    """What a transformer of this package makes of X."""
    if isinstance(transformer, TableEncoder):
        return _table(graph, transformer, inputs)
    columns = given(graph, inputs, transformer.n_features_in_)
    if isinstance(transformer, SmoothRobustScaler):
        return _scaled(graph, transformer, columns)
    return _beside_raw(graph, transformer, columns)


def network_columns(graph: Graph, fitted: Any, inputs: Any) -> Columns:
    """What the columns of X become before the network sees them, from the inputs of a fit."""
    if fitted.table is None:
        columns = given(graph, inputs, fitted.n_numbers)
    else:
        columns = _table(graph, fitted.table, inputs)
    if fitted.scaler is not None:
        columns = _scaled(graph, fitted.scaler, columns)
    if fitted.encoder is not None:
        columns = _encoded(graph, fitted, columns)
    if fitted.factors is not None:
        stretched = graph.node("Mul", columns.value, fitted.factors[None])
        columns = columns.becoming(graph, stretched, columns.n)
    return columns


def _encoded(graph: Graph, fitted: Any, columns: Columns) -> Columns:
    if not isinstance(fitted.encoder, tuple(_COMPONENTS)):
        raise ValueError(
            f"encoding={fitted.encoder!r} has no converter inside an estimator; put it into a "
            "pipeline before the estimator, and set encoding=None"
        )
    n = fitted.n_numbers
    numbers = replace(columns, value=graph.take(columns.value, range(n)), n=n)
    encoded = _beside_raw(graph, fitted.encoder, numbers)
    if n == columns.n:
        return encoded
    levels = graph.take(columns.value, range(n, columns.n))
    value = graph.beside([encoded.value, levels])
    return replace(encoded, value=value, n=encoded.n + columns.n - n)
