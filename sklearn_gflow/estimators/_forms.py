"""Values as JSON and arrays, and back: of a list of what may be written, and of nothing else.

A form is what JSON holds: null, true, a number, a string and a list stand for themselves, and an
object of one entry, {kind: content}, for anything else. The kinds are those of `KINDS`. An object
is written as its class, by name, and its state; which classes there are is said here and not by
the file, so that reading one runs no code but theirs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np
import sklearn
from sklearn import impute, model_selection, preprocessing
from sklearn.base import BaseEstimator

from sklearn_gflow.archive import DTYPES
from sklearn_gflow.contract import STAMP
from sklearn_gflow.diagnostics import Collapse, NeuralCollapse
from sklearn_gflow.dynamics import FlowOptions
from sklearn_gflow.estimators import (
    _coding,
    _conformal,
    _indicators,
    _inputs,
    _losses,
    _network,
    _replay,
    _rows,
    _sparse,
    _standard_errors,
)
from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._search import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV
from sklearn_gflow.geometry import losses
from sklearn_gflow.inputs import (
    FrequentValueEncoder,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)

__all__ = ["MODELS", "Reader", "Writer"]

Form = Any
"""What JSON holds."""


def _by_name(*classes: type[Any]) -> dict[str, type[Any]]:
    return {one.__name__: one for one in classes}


MODELS: Final = _by_name(
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    FrequentValueEncoder,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)
"""What can be saved by itself."""

PARTS: Final = _by_name(
    impute.MissingIndicator,
    impute.SimpleImputer,
    preprocessing.LabelBinarizer,
    preprocessing.LabelEncoder,
    preprocessing.OneHotEncoder,
    preprocessing.TargetEncoder,
    model_selection.GroupKFold,
    model_selection.GroupShuffleSplit,
    model_selection.KFold,
    model_selection.LeaveOneGroupOut,
    model_selection.LeaveOneOut,
    model_selection.PredefinedSplit,
    model_selection.ShuffleSplit,
    model_selection.StratifiedGroupKFold,
    model_selection.StratifiedKFold,
    model_selection.StratifiedShuffleSplit,
    model_selection.TimeSeriesSplit,
)
"""Objects of scikit-learn that a model may hold, its splitters among them."""

RECORDS: Final = _by_name(
    Collapse,
    FlowOptions,
    NeuralCollapse,
    _coding.CodedLabels,
    _coding.CodedNumbers,
    _conformal.Apart,
    _indicators.CodedIndicators,
    _indicators.LogLossOfIndicators,
    _indicators.SquaredErrorOfIndicators,
    _inputs.FittedInputs,
    _losses.LogLossOfLabels,
    _losses.LogLossOfTwo,
    _losses.SquaredErrorOfLabels,
    _network.Architecture,
    _network.FittedNetwork,
    _replay.Replay,
    _rows.TrainingData,
    _sparse.SparseRows,
    _standard_errors.KeptRows,
    losses.BinaryLogLoss,
    losses.Gamma,
    losses.Huber,
    losses.LogLoss,
    losses.Poisson,
    losses.Quantile,
    losses.SquaredLoss,
)
"""Records that a fit writes, and losses."""

_OBJECTS: Final = {**MODELS, **PARTS}
_TYPES: Final = {one.name: one.type for one in DTYPES}
_TEXT: Final = re.compile(r"[<>]U\d{1,6}")
_LARGEST_CHARACTER: Final = 0x10FFFF
# Of an estimator, but no part of its model: what hangs on its fits.
_OF_FITS: Final = ("_skl_callbacks", "_skl_callbacks_to_teardown")
_ROUTING: Final = "_metadata_request"


# -- writing -----------------------------------------------------------------------------------


class Writer:
    """Makes forms of values.

    Attributes
    ----------
    arrays : dict of ndarray
        What the forms refer to by name: where a model holds it.
    objects : list
        Forms of estimators and other objects, which are referred to by their place in it; each
        refers to earlier ones only.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.objects: list[Form] = []
        # Of arrays and objects, by identity: what is held twice is written once. The value is kept,
        # since another may have its identity when it is gone.
        self._forms: dict[int, tuple[Any, Form]] = {}

    def form(self, value: Any, where: str) -> Form:
        """The form of a value.

        Raises
        ------
        ValueError
            If it has none, naming where it stands.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and math.isfinite(value):
            return value
        if type(value) is list:
            return [self.form(part, f"{where}[{k}]") for k, part in enumerate(value)]
        for name, kind in KINDS.items():
            if kind.holds(value):
                return {name: kind.write(self, value, where)}
        raise ValueError(_cannot(value, where))

    def array(self, array: np.ndarray, where: str) -> str:
        """The name of an array."""
        if id(array) not in self._forms:
            name = where if where not in self.arrays else f"{where} {len(self.arrays)}"
            self.arrays[name] = array
            self._forms[id(array)] = array, name
        found: str = self._forms[id(array)][1]
        return found

    def object(self, value: Any, where: str) -> int:
        """The place of an estimator, or of another object that is told by its state."""
        if id(value) not in self._forms:
            prefix = f"{where}." if where else ""
            state = {
                name: self.form(part, f"{prefix}{name}")
                for name, part in (value.__getstate__() or {}).items()
                if name not in (STAMP, _ROUTING, *_OF_FITS)
            }
            written = [type(value).__name__, state, _requests(value)]
            self._forms[id(value)] = value, len(self.objects)
            self.objects.append(written)
        found: int = self._forms[id(value)][1]
        return found


def _requests(value: Any) -> dict[str, dict[str, Any]]:
    """Metadata that were asked for by ``set_fit_request`` and the like, by method."""
    if not hasattr(value, _ROUTING):
        return {}
    request = value.get_metadata_routing()
    asked = {
        name: part.requests for name, part in vars(request).items() if hasattr(part, "requests")
    }
    return {name: dict(part) for name, part in asked.items() if part}


def _cannot(value: Any, where: str) -> str:
    """What to say of a value that no file can hold."""
    cure = "pickle the model, or write it by skops"
    if isinstance(value, np.random.RandomState | np.random.Generator):
        cure = "set it to an integer, or pickle the model"
    told = repr(value)
    told = told if len(told) < 80 else f"{told[:77]}..."
    return (
        f"save cannot write {where}={told}: a file holds numbers, strings and what this package "
        f"makes of them, and no code of yours or of others; {cure}"
    )


# -- reading -----------------------------------------------------------------------------------


class Reader:
    """Makes values of forms.

    Parameters
    ----------
    arrays : dict of ndarray
        As a `Writer` left them.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.objects: list[Any] = []

    def value(self, form: Form) -> Any:
        """The value of a form; KeyError, TypeError or ValueError where there is none."""
        if isinstance(form, list):
            return [self.value(part) for part in form]
        if not isinstance(form, dict):
            return form
        ((name, content),) = form.items()
        return KINDS[name].read(self, content)

    def read(self, objects: Sequence[Form]) -> Any:
        """The last of some objects."""
        for written in objects:
            self.objects.append(self._object(*written))
        return self.objects[-1]

    def _object(self, name: str, state: Mapping[str, Form], requests: Mapping[str, Any]) -> Any:
        kind: Any = _OBJECTS[name]
        found = kind.__new__(kind)
        attributes = {key: self.value(form) for key, form in state.items()}
        if isinstance(found, BaseEstimator):
            found.__setstate__(attributes)
        else:
            found.__dict__.update(attributes)
        with sklearn.config_context(enable_metadata_routing=True):
            for method, asked in requests.items():
                getattr(found, f"set_{method}_request")(**asked)
        return found


# -- kinds -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of values: which they are, their content as a form, and the value of a content."""

    holds: Callable[[Any], bool]
    write: Callable[[Writer, Any, str], Form]
    read: Callable[[Reader, Form], Any]


def _write_dict(writer: Writer, value: Mapping[Any, Any], where: str) -> Form:
    return [
        [writer.form(key, f"{where}.keys()"), writer.form(part, f"{where}[{key!r}]")]
        for key, part in value.items()
    ]


def _read_number(form: str) -> float:
    if form not in ("nan", "inf", "-inf"):
        raise ValueError(f"{form!r} is no float")
    return float(form)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, np.generic) and (value.dtype in DTYPES or value.dtype.kind == "U")


def _read_scalar(reader: Reader, form: Form) -> Any:
    name, item = form
    return _TYPES[name](item) if name != "str" else np.str_(item)


def _read_dtype(form: str) -> np.dtype[Any]:
    if form not in {one.str for one in DTYPES}:
        raise ValueError(f"{form!r} is no type of arrays here")
    return np.dtype(form)


def _is_array(kinds: str) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        masked = isinstance(value, np.ma.MaskedArray)
        return isinstance(value, np.ndarray) and not masked and value.dtype.kind in kinds

    return holds


def _write_text(writer: Writer, value: np.ndarray, where: str) -> Form:
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(-1)
    return [little.dtype.str, list(value.shape), writer.array(little.view(np.uint32), where)]


def _read_text(reader: Reader, form: Form) -> np.ndarray:
    dtype, shape, name = form
    characters = reader.arrays[name]
    if not _TEXT.fullmatch(dtype) or (characters > _LARGEST_CHARACTER).any():
        raise ValueError("an array of strings has other characters")
    return characters.view(dtype).reshape(shape)


def _write_objects(writer: Writer, value: np.ndarray, where: str) -> Form:
    return [list(value.shape), writer.form(value.ravel().tolist(), where)]


def _read_objects(reader: Reader, form: Form) -> np.ndarray:
    shape, parts = form
    return np.fromiter(reader.value(parts), dtype=object).reshape(shape)


def _write_masked(writer: Writer, value: np.ma.MaskedArray[Any, Any], where: str) -> Form:
    mask = np.ma.getmaskarray(value)
    # What lies under a mask is whatever was in memory.
    data = np.where(mask, np.zeros((), value.dtype), value.data).astype(value.dtype)
    return [writer.form(data, f"{where}.data"), writer.form(mask, f"{where}.mask")]


def _read_masked(reader: Reader, form: Form) -> np.ma.MaskedArray[Any, Any]:
    data, mask = (reader.value(part) for part in form)
    if data.shape != mask.shape:  # of which numpy has an error of its own kind
        raise ValueError(f"a mask of shape {mask.shape} for an array of shape {data.shape}")
    return np.ma.MaskedArray(data, mask)


def _members(record: Any) -> list[str]:
    return [one.name for one in fields(record)] if is_dataclass(record) else []


def _write_record(writer: Writer, value: Any, where: str) -> Form:
    members = _members(value)
    return [
        type(value).__name__,
        {name: writer.form(getattr(value, name), f"{where}.{name}") for name in members},
    ]


def _read_record(reader: Reader, form: Form) -> Any:
    name, members = form
    return RECORDS[name](**{key: reader.value(part) for key, part in members.items()})


KINDS: Final[dict[str, Kind]] = {
    "float": Kind(
        lambda value: type(value) is float,
        lambda writer, value, where: repr(value),
        lambda reader, form: _read_number(form),
    ),
    "tuple": Kind(
        lambda value: type(value) is tuple,
        lambda writer, value, where: writer.form(list(value), where),
        lambda reader, form: tuple(reader.value(list(form))),
    ),
    "dict": Kind(
        lambda value: type(value) is dict,
        _write_dict,
        lambda reader, form: {reader.value(key): reader.value(part) for key, part in form},
    ),
    "scalar": Kind(
        _is_scalar,
        lambda writer, value, where: [
            "str" if value.dtype.kind == "U" else value.dtype.name,
            writer.form(value.item(), where),
        ],
        _read_scalar,
    ),
    "dtype": Kind(
        lambda value: isinstance(value, np.dtype) and value in DTYPES,
        lambda writer, value, where: value.str,
        lambda reader, form: _read_dtype(form),
    ),
    "type": Kind(
        lambda value: isinstance(value, type) and value in _TYPES.values(),
        lambda writer, value, where: np.dtype(value).name,
        lambda reader, form: _TYPES[form],
    ),
    "array": Kind(
        _is_array("biuf"),
        lambda writer, value, where: writer.array(value, where),
        lambda reader, form: reader.arrays[form],
    ),
    "text": Kind(_is_array("U"), _write_text, _read_text),
    "objects": Kind(_is_array("O"), _write_objects, _read_objects),
    "masked": Kind(lambda value: isinstance(value, np.ma.MaskedArray), _write_masked, _read_masked),
    "record": Kind(
        lambda value: RECORDS.get(type(value).__name__) is type(value), _write_record, _read_record
    ),
    "object": Kind(
        lambda value: _OBJECTS.get(type(value).__name__) is type(value),
        lambda writer, value, where: writer.object(value, where),
        lambda reader, form: reader.objects[form],
    ),
}
