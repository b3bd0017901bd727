"""How large the relative ridge is where the user leaves it to us, and blocks without a given end.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn_gflow.geometry import Loss, Shape

__all__ = ["Dampings", "open_ridge", "open_rows"]

# The ridge of a flow over blocks without a given end, where more outputs than this share a kernel:
# on three tables with 26 classes it gained 0.011 to 0.017 of accuracy, on the ten of the digits it
# lost 0.007.
_MANY_OUTPUTS, _DAMPING_OF_MANY = 16, 0.1
# In larger blocks than these a row bears as much of the ridge, which falls relative to the block.
_BLOCK_ROWS = 256
# A ridge that rises with the rows does so from this number on, in proportion.
_ROWS_OF_A_RIDGE = 1500
# Of one number with so many rows, blocks of 512 rows ended within fewer epochs with the same error
# or less; with 5,000 rows they did not, and more were not measured
# (docs/benchmarks/blocks_trials.md).
_LARGE, _LARGEST, _LARGE_BLOCK = 10_000, 50_000, 512


@dataclass(frozen=True)
class Dampings:
    """Relative ridges of the full batch and of blocks."""

    whole: float
    blocks: float

    @classmethod
    def of(cls, given: Mapping[str, Any], alpha: float, loss: Loss) -> Dampings:
        damping = given["damping"]
        if not isinstance(damping, str):
            return cls(float(damping), float(damping))
        # With a ridge the outputs stop short of the labels. A flow that is to reach them, at t = 1,
        # therefore has none.
        to_the_end = given["t_end"] == 1 and not given["early_stopping"]
        whole = 0.0 if to_the_end else loss.ridge * alpha * (1 - alpha)
        return cls(whole, loss.block_ridge)


def open_rows(given: Mapping[str, Any], loss: Loss, shape: Shape, usual: int | None) -> int | None:
    """Rows of the largest blocks of a flow over blocks without a given end.

    ``usual`` are those of other blocks, or what the user asks for.
    """
    asked = not isinstance(given["batch_size"], str) or not isinstance(given["damping"], str)
    of_a_number = loss.squared and shape.n_outputs == 1 and given["module"] is None
    large = of_a_number and _LARGE <= shape.n_samples <= _LARGEST
    return _LARGE_BLOCK if large and not asked else usual


def open_ridge(loss: Loss, shape: Shape, rows: int | None) -> float:
    """The relative ridge of a flow over blocks without a given end, of so many rows at most."""
    if loss.largest_block_ridge is not None:
        risen = loss.block_ridge * max(1.0, shape.n_samples / _ROWS_OF_A_RIDGE)
        return min(risen, loss.largest_block_ridge)
    many = shape.n_outputs > _MANY_OUTPUTS
    ridge = max(loss.block_ridge, _DAMPING_OF_MANY) if many else loss.block_ridge
    return ridge * min(1.0, _BLOCK_ROWS / (rows or _BLOCK_ROWS))
