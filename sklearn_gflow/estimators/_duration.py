"""Fits that will take hours say so before they begin.

Counted are operations that no fit gets round: a factorisation of each Gram, and passes through the
network. What they take is measured once, by a product of matrices on the device.
"""

from __future__ import annotations

import time
from functools import cache

import torch

from sklearn_gflow.estimators._training import Training
from sklearn_gflow.geometry import Shape

__all__ = ["least_seconds", "long"]

_HOUR = 3600.0
# A fit in the full batch takes five to eight steps to the default end, and each step some passes.
_LEAST_STEPS, _PASSES = 5, 6
# Products with D and Dᵀ in a step without a matrix, at the least.
_PRODUCTS = 10
# Fewer operations take no hour on any device, and are not worth a measurement.
_FEW = 1e13
_SIZE = 512


def least_seconds(training: Training) -> float:
    """What a training takes at the least; 0 where it is certainly no hour."""
    settings, family = training.settings, training.family
    n_samples = len(training.data.X)
    passes = 2.0 * _PASSES * n_samples * family.n_outputs * family.n_params
    if settings.batch_rows is not None:
        size = settings.batch_rows * (1 if family.n_outputs > 2 else family.n_outputs)
        count = len(settings.epochs(settings.t_end)) * (passes + n_samples * size**2 / 3)
    elif settings.solver.matrix_free:
        count = _LEAST_STEPS * _PRODUCTS * passes
    else:
        m = Shape(n_samples, family.n_outputs, family.n_params).smaller
        count = _LEAST_STEPS * (passes + m**3 / 3)
    return count / _rate(str(training.start.device)) if count > _FEW else 0.0


def long(seconds: float, what: str) -> str | None:
    """What to warn of before something that takes so many seconds, else None."""
    if seconds < _HOUR:
        return None
    return (
        f"This {what} will take {seconds / _HOUR:.1f} hours or more, by the sizes of its matrices "
        "and the speed of this machine. Set batch_size='auto' or a number of rows, which is linear "
        "in the rows, lower max_iter, or fit fewer rows; checkpoint= keeps what is done."
    )


@cache
def _rate(device: str) -> float:
    """Operations a second of a product of matrices, in float64 where there is such a thing."""
    dtype = torch.float32 if device.startswith("mps") else torch.float64
    A = torch.ones(_SIZE, _SIZE, dtype=dtype, device=device)
    float((A @ A)[0, 0])  # the first product pays for the start
    begun = time.perf_counter()
    float((A @ A)[0, 0])
    return 2.0 * _SIZE**3 / (time.perf_counter() - begun)
