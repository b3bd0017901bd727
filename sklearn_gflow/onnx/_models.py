"""Estimators, searches and transformers as nodes, in the form in which skl2onnx asks for them.

What ``predict`` is made of: f_θ − f_θ₀ of the columns, by ``coefs_``, ``intercepts_``,
``coefs_init_`` and ``intercepts_init_``; a weighted mean over the members of a search; units of y,
or probabilities. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from sklearn_gflow.estimators import AdaptedFlowClassifierCV
from sklearn_gflow.estimators._indicators import CodedIndicators
from sklearn_gflow.onnx._columns import network_columns, transformed
from sklearn_gflow.onnx._graph import DOUBLE, FLOAT, INT64, Graph

__all__ = [
    "convert_columns",
    "convert_labels",
    "convert_numbers",
    "shape_columns",
    "shape_labels",
    "shape_numbers",
]

# -- shapes -------------------------------------------------------------------------------------


def _is_double(operator: Any) -> bool:
    return all(isinstance(one.type, DoubleTensorType) for one in operator.inputs)


def _set(operator: Any, k: int, n_columns: int | None, *, double: bool) -> None:
    """The type of an output of numbers, a column each."""
    n_rows = operator.inputs[0].get_first_dimension()
    kind = DoubleTensorType if double else FloatTensorType
    operator.outputs[k].set_type(kind([n_rows, n_columns]))


def shape_columns(operator: Any) -> None:
    """Of a transformer."""
    transformer = operator.raw_operator
    n = len(transformer.get_feature_names_out(_names(transformer)))
    _set(operator, 0, n, double=_is_double(operator))


def _names(transformer: Any) -> list[str] | None:
    """Names of the columns that go in, where the transformer knows none."""
    if hasattr(transformer, "feature_names_in_"):
        return None
    return [f"x{j}" for j in range(transformer.n_features_in_)]


def shape_numbers(operator: Any) -> None:
    """Of a regressor: a column for each output; in float64 where float32 would not hold y."""
    coding = operator.raw_operator._coding
    double = coding.wide or _is_double(operator)
    _set(operator, 0, len(coding.target_mean), double=double)


def shape_labels(operator: Any) -> None:
    """Of a classifier: the label or a column for each, and probabilities of all.

    Raises
    ------
    ValueError
        If labels are neither integers nor strings.
    """
    model = operator.raw_operator
    classes = model.classes_
    strings = all(isinstance(label, str) for label in classes.tolist())
    if not strings and classes.dtype.kind not in "biu":
        raise ValueError(
            f"the labels of y are {classes.tolist()[:3]} ...; labels are strings or integers in "
            "ONNX, make strings of them before fit"
        )
    n_rows = operator.inputs[0].get_first_dimension()
    kind = StringTensorType if strings else Int64TensorType
    several = isinstance(model._coding, CodedIndicators)
    operator.outputs[0].set_type(kind([n_rows, len(classes)] if several else [n_rows]))
    _set(operator, 1, len(classes), double=_is_double(operator))


# -- converters ---------------------------------------------------------------------------------


def _written(graph: Graph, value: str, output: Any) -> None:
    """A value in float64 as an output in its type."""
    kind = DOUBLE if isinstance(output.type, DoubleTensorType) else FLOAT
    graph.write("Cast", value, into=output.full_name, to=kind)


def convert_columns(scope: Any, operator: Any, container: Any) -> None:
    """A transformer."""
    graph = Graph(scope, container)
    columns = transformed(graph, operator.raw_operator, operator.inputs)
    _written(graph, columns.value, operator.outputs[0])


def convert_numbers(scope: Any, operator: Any, container: Any) -> None:
    """A regressor, or a search of one."""
    graph = Graph(scope, container)
    value = _mean(graph, operator.raw_operator, operator.inputs, _in_units_of_y)
    _written(graph, value, operator.outputs[0])


def convert_labels(scope: Any, operator: Any, container: Any) -> None:
    """A classifier, or a search of one.

    With the option ``raw_scores`` scores stand in place of probabilities, one for each class;
    scikit-learn's calibration is of these.
    """
    graph, model = Graph(scope, container), operator.raw_operator
    outputs = _mean(graph, model, operator.inputs, _plus_start)
    raw = container.get_options(model, {"raw_scores": False})["raw_scores"]
    shown = (_scores if raw else _probabilities)(graph, model, outputs)
    _written(graph, shown, operator.outputs[1])
    into = operator.outputs[0].full_name
    if isinstance(model._coding, CodedIndicators):
        decided = graph.node("Greater", _scores(graph, model, outputs), np.array(0.0))
        graph.write("Cast", decided, into=into, to=INT64)
        return
    index = graph.node("ArgMax", _scores(graph, model, outputs), axis=1, keepdims=0)
    if not isinstance(operator.outputs[0].type, StringTensorType):
        graph.write("Gather", model.classes_.astype(np.int64), index, into=into, axis=0)
        return
    places = np.arange(len(model.classes_))
    labels = [str(label) for label in model.classes_]
    graph.write("LabelEncoder", index, into=into, keys_int64s=places, values_strings=labels)


# -- networks -----------------------------------------------------------------------------------


def _mean(graph: Graph, model: Any, inputs: Any, readings: Callable[[Graph, Any, str], str]) -> str:
    """What an estimator reads off its network; of a search the weighted mean over its members."""
    members = getattr(model, "estimators_", [model])
    weights = getattr(model, "ensemble_weights_", [1.0])
    parts = [
        graph.node(
            "Mul", readings(graph, one._coding, _model(graph, one, inputs)), np.array(weight)
        )
        for one, weight in zip(members, weights, strict=True)
    ]
    return parts[0] if len(parts) == 1 else graph.node("Sum", *parts)


def _model(graph: Graph, estimator: Any, inputs: Any) -> str:
    """f_θ − f_θ₀, shape (n_samples, n_outputs)."""
    if estimator.module is not None or not hasattr(estimator, "coefs_"):
        raise ValueError(
            f"module={estimator.module!r} has no converter: what it computes is known to torch "
            "alone; export the module by torch.onnx"
        )
    x = network_columns(graph, estimator._inputs, inputs).value
    activation = _ACTIVATIONS[estimator._network.architecture.activation]
    last = _layers(graph, x, estimator.coefs_, estimator.intercepts_, activation)
    first = _layers(graph, x, estimator.coefs_init_, estimator.intercepts_init_, activation)
    return graph.node("Sub", last, first)


def _layers(
    graph: Graph,
    x: str,
    coefs: list[np.ndarray],
    intercepts: list[np.ndarray],
    activation: Callable[[Graph, str], str],
) -> str:
    for depth, (W, b) in enumerate(zip(coefs, intercepts, strict=True), start=1):
        x = graph.node("Add", graph.node("MatMul", x, W), b[None])
        if depth < len(coefs):
            x = activation(graph, x)
    return x


def _gelu(graph: Graph, z: str) -> str:
    """z Φ(z); runtimes have the error function in float32."""
    half = graph.cast(graph.node("Mul", z, np.array(math.sqrt(0.5))), FLOAT)
    error = graph.cast(graph.node("Erf", half), DOUBLE)
    share = graph.node("Mul", graph.node("Add", error, np.array(1.0)), np.array(0.5))
    return graph.node("Mul", z, share)


def _softplus(graph: Graph, z: str) -> str:
    """max(z, 0) + log(1 + e^{−|z|}); runtimes have softplus in float32."""
    decay = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    rest = graph.node("Log", graph.node("Add", decay, np.array(1.0)))
    return graph.node("Add", graph.node("Relu", z), rest)


_ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "tanh": lambda graph, z: graph.node("Tanh", z),
    "silu": lambda graph, z: graph.node("Mul", z, graph.node("Sigmoid", z)),
    "gelu": _gelu,
    "softplus": _softplus,
    "relu": lambda graph, z: graph.node("Relu", z),
    "identity": lambda graph, z: z,
}


# -- readings -----------------------------------------------------------------------------------


def _plus_start(graph: Graph, coding: Any, model: str) -> str:
    return graph.node("Add", model, coding.start[None])


def _in_units_of_y(graph: Graph, coding: Any, model: str) -> str:
    """target_mean + target_scale · h(start + f_θ − f_θ₀)."""
    outputs = _plus_start(graph, coding, model)
    if coding.loss.link == "log":
        outputs = graph.node("Exp", outputs)
    scaled = graph.node("Mul", outputs, coding.target_scale[None])
    return graph.node("Add", scaled, coding.target_mean[None])


def _scores(graph: Graph, model: Any, outputs: str) -> str:
    """What decides, a column for each class: the largest, or of several labels what is positive."""
    coding = model._coding
    if isinstance(coding, CodedIndicators):
        squared = coding.loss.loss.squared
        return graph.node("Sub", outputs, np.array(0.5)) if squared else outputs
    if len(coding.classes) > 2:
        return outputs
    if len(coding.start) == 1:  # one output stands for two classes
        squared = coding.loss.loss.squared
        score = graph.node("Sub", outputs, np.array(0.5)) if squared else outputs
    else:
        score = graph.node("Sub", graph.take(outputs, [1]), graph.take(outputs, [0]))
    return graph.beside([graph.node("Neg", score), score])


def _probabilities(graph: Graph, model: Any, outputs: str) -> str:
    coding, n_classes = model._coding, len(model.classes_)
    if isinstance(coding, CodedIndicators):
        return _probabilities_of_each(graph, model, outputs)
    if len(coding.start) == 1:
        outputs = _by_class(graph, coding, outputs)
    if isinstance(model, AdaptedFlowClassifierCV):
        scaled = graph.node("Mul", outputs, np.array(1 / model.temperature_))
        return _mixed(graph, _softmax(graph, scaled), coding.n_seen, n_classes)
    if coding.loss.loss.squared:
        return _mixed(graph, _projected(graph, outputs, n_classes), coding.n_seen, n_classes)
    return _softmax(graph, outputs)


def _by_class(graph: Graph, coding: Any, outputs: str) -> str:
    """A column for each of two classes, of their only output."""
    if coding.loss.loss.squared:
        return graph.beside([graph.node("Sub", np.array([[1.0]]), outputs), outputs])
    half = graph.node("Mul", outputs, np.array(0.5))
    return graph.beside([graph.node("Neg", half), half])


def _probabilities_of_each(graph: Graph, model: Any, outputs: str) -> str:
    """Of several labels a row: each is had or not, as one of two classes."""
    coding, squared = model._coding, model._coding.loss.loss.squared
    if isinstance(model, AdaptedFlowClassifierCV):
        doubled = graph.node("Mul", _scores(graph, model, outputs), np.array(2.0))
        logits = doubled if squared else outputs
        scaled = graph.node("Mul", logits, np.array(1 / model.temperature_))
        return _mixed(graph, graph.node("Sigmoid", scaled), coding.n_seen, 2)
    if not squared:
        return graph.node("Sigmoid", outputs)
    within = graph.node("Min", graph.node("Max", outputs, np.array(0.0)), np.array(1.0))
    return _mixed(graph, within, coding.n_seen, 2)


def _softmax(graph: Graph, logits: str) -> str:
    return graph.node("Softmax", logits, axis=1)


def _mixed(graph: Graph, shares: str, n_seen: float, n_classes: int) -> str:
    """With one sample spread over the classes."""
    counts = graph.node("Mul", shares, np.array(float(n_seen)))
    counts = graph.node("Add", counts, np.array(1 / n_classes))
    return graph.node("Div", counts, np.array(n_seen + 1.0))


def _projected(graph: Graph, points: str, n_classes: int) -> str:
    """The nearest point of the simplex, as `project_to_simplex` has it."""
    descending = graph.descending(points, n_classes)
    highest = graph.take(descending, [0])

    def below(values: str) -> str:
        return graph.node("Max", graph.node("Sub", values, highest), np.array(-1.0))

    points, descending = below(points), below(descending)
    sums = graph.node("CumSum", descending, np.array(1))
    counts = np.arange(1.0, n_classes + 1)[None]
    levels = graph.node("Div", graph.node("Sub", sums, np.array(1.0)), counts)
    above = graph.cast(graph.node("Greater", descending, levels), INT64)
    support = graph.node("ReduceSum", above, np.array([1]), keepdims=1)
    level = graph.node(
        "GatherElements", levels, graph.node("Sub", support, np.array([[1]])), axis=1
    )
    return graph.node("Max", graph.node("Sub", points, level), np.array(0.0))
