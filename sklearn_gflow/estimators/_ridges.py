"""How large the relative ridge is where the user leaves it to us. Notation: docs/notation.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn_gflow.geometry import Loss, Shape

__all__ = ["Dampings", "open_ridge"]

# The ridge of a flow over blocks without a given end, where more outputs than this share a kernel:
# on three tables with 26 classes it gained 0.011 to 0.017 of accuracy, on the ten of the digits it
# lost 0.007.
_MANY_OUTPUTS, _DAMPING_OF_MANY = 16, 0.1
# In larger blocks than these a row bears as much of the ridge, which falls relative to the block.
_BLOCK_ROWS = 256
# A ridge that rises with the rows does so from this number on, in proportion.
_ROWS_OF_A_RIDGE = 1500


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


def open_ridge(loss: Loss, shape: Shape, rows: int | None) -> float:
    """The relative ridge of a flow over blocks without a given end, of so many rows at most."""
    if loss.largest_block_ridge is not None:
        risen = loss.block_ridge * max(1.0, shape.n_samples / _ROWS_OF_A_RIDGE)
        return min(risen, loss.largest_block_ridge)
    many = shape.n_outputs > _MANY_OUTPUTS
    ridge = max(loss.block_ridge, _DAMPING_OF_MANY) if many else loss.block_ridge
    return ridge * min(1.0, _BLOCK_ROWS / (rows or _BLOCK_ROWS))
