"""The length of a vector, as a number, and what rounding leaves of it.

Bounds and tolerances are compared as Python floats, whatever the dtype and device of the vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["norm", "rounding"]

# A length of so many roundings counts as none.
_ROUNDINGS = 16


def norm(vector: Tensor) -> float:
    """|v|: a Python float, so that bounds are compared in float64 whatever the vector's dtype."""
    return float(torch.linalg.vector_norm(vector))


def rounding(vector: Tensor) -> float:
    """The length that rounding gives to a difference of vectors like this one."""
    return _ROUNDINGS * torch.finfo(vector.dtype).eps * norm(vector)
