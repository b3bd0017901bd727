"""Three clocks of one flow: s of the paper, τ = s/N, and t = 1 − e^{−s/N} (2.52).

The loop integrates in τ: t saturates in float64 at τ ≈ 36, while the slow modes of a flow with
small α move at τ in the hundreds. N is the sum of the sample weights. Notation: docs/notation.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["s_from_tau", "t_from_tau", "tau_from_t"]


def t_from_tau(tau: ArrayLike) -> np.ndarray:
    """Reparametrised time t = 1 − e^{−τ}, in [0, 1]; τ = ∞ gives 1."""
    return -np.expm1(-np.asarray(tau, dtype=np.float64))


def tau_from_t(t: ArrayLike) -> np.ndarray:
    """τ = −ln(1 − t) (2.53); t = 1 gives ∞."""
    with np.errstate(divide="ignore"):
        return -np.log1p(-np.asarray(t, dtype=np.float64))


def s_from_tau(tau: ArrayLike, total_weight: float) -> np.ndarray:
    """Flow time s = N·τ, the time of (2.3) and (2.27) for the cost (2.48)."""
    return total_weight * np.asarray(tau, dtype=np.float64)
