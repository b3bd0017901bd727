"""What is done with vectors whatever holds them: their length as a number, room for several.

Bounds and tolerances are compared as Python floats, whatever the dtype and device of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["norm", "room_for", "rowwise"]


def norm(vector: Tensor) -> float:
    """|v|: a Python float, so that bounds are compared in float64 whatever the vector's dtype."""
    return float(torch.linalg.vector_norm(vector))


def room_for(vector: Any, count: int, axis: int) -> Any:
    """So many vectors like this one along an axis, not filled yet."""
    if not isinstance(vector, Tensor):  # one over ranks
        return vector.room_for(count, axis)
    return vector.new_empty((count, len(vector)) if axis == 0 else (len(vector), count))


def rowwise(f: Callable[[Tensor], Tensor], rows: Any) -> Any:
    """A function that treats rows apart, on as many of them as are here."""
    return f(rows) if isinstance(rows, Tensor) else rows.rowwise(f)
