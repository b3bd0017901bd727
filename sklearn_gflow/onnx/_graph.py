"""A graph of ONNX, node by node: the border to skl2onnx's containers."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

__all__ = ["DOUBLE", "FLOAT", "INT64", "Graph"]

DOUBLE, FLOAT, INT64 = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64
# Before, sums took their axes as an attribute.
_OLDEST = 13


class Graph:
    """Adds nodes to a model; a value is the name of what a node gives out.

    Parameters
    ----------
    scope, container : object
        As skl2onnx hands them to a converter.

    Raises
    ------
    ValueError
        If an older set of operators is asked for than the one that the nodes are of.
    """

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container
        if (asked := container.target_opset) < _OLDEST:
            raise ValueError(
                f"target_opset must be at least {_OLDEST} for models of sklearn_gflow, got {asked}"
            )

    def constant(self, values: Any) -> str:
        """An array of float64, or of int64 where it holds integers."""
        array = np.asarray(values)
        kind, array = (
            (INT64, array.astype(np.int64))
            if array.dtype.kind in "iu"
            else (DOUBLE, array.astype(np.float64))
        )
        name: str = self.scope.get_unique_variable_name("constant")
        self.container.add_initializer(name, kind, list(array.shape), array.ravel())
        return name

    def node(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """The value of an operator of some values; numbers and arrays become constants."""
        name: str = self.scope.get_unique_variable_name(kind.lower())
        self.write(kind, *inputs, into=name, **attributes)
        return name

    def write(self, kind: str, *inputs: Any, into: str, **attributes: Any) -> None:
        """An operator whose value is to have a given name."""
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        domain = "ai.onnx.ml" if kind == "LabelEncoder" else ""
        version = {"op_version": 2} if domain else {}
        self.container.add_node(
            kind,
            names,
            [into],
            op_domain=domain,
            name=self.scope.get_unique_operator_name(kind),
            **version,
            **attributes,
        )

    def descending(self, value: str, n: int) -> str:
        """The n columns of each row from the largest to the smallest."""
        names = [self.scope.get_unique_variable_name(f"top_{one}") for one in ("values", "places")]
        name = self.scope.get_unique_operator_name("TopK")
        self.container.add_node("TopK", [value, self.constant(np.array([n]))], names, name=name)
        return names[0]

    def cast(self, value: str, kind: int) -> str:
        """A value in another type."""
        return self.node("Cast", value, to=kind)

    def single(self, value: str) -> str:
        """A value of float64, rounded to float32."""
        return self.cast(self.cast(value, FLOAT), DOUBLE)

    def take(self, value: str, columns: Any) -> str:
        """Some columns."""
        return self.node("Gather", value, np.asarray(columns, dtype=np.int64), axis=1)

    def beside(self, values: list[str]) -> str:
        """Columns side by side."""
        return values[0] if len(values) == 1 else self.node("Concat", *values, axis=1)
