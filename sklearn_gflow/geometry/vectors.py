"""The length of a vector, as a number.

Bounds and tolerances are compared as Python floats, whatever the dtype and device of the vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["norm"]


def norm(vector: Tensor) -> float:
    """|v|: a Python float, so that bounds are compared in float64 whatever the vector's dtype."""
    return float(torch.linalg.vector_norm(vector))
