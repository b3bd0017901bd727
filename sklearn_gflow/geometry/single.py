"""An output map and a factor of D in float32, for those who look where D⁺ has led.

The rounding of D⁺ makes a move miss its way by about eps·κ(G) of it, as the D⁺ of a point nearby
does, and the next move corrects both. Gram, factor and passes take half of the time in float32.
The symbols are those of docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sklearn_gflow.geometry.cholesky import Cholesky
from sklearn_gflow.geometry.functions import GramFunction
from sklearn_gflow.geometry.output_map import OutputMap, Tangent
from sklearn_gflow.geometry.solvers import TangentFactor
from sklearn_gflow.geometry.triangles import triangles

__all__ = ["factorize_in_single", "in_single", "resolved_in_single"]

_SINGLE = torch.float32
_EPS = torch.finfo(_SINGLE).eps
# The smallest eigenvalue of G has to be so many roundings of the largest. On twelve problems, the
# condition of which was up to 1e6 or beyond all float32, moves were as good as those of float64.
_RESOLVED = 2.0


def in_single(output_map: object) -> OutputMap | None:
    """The same map in float32; None where that is no gain, or its family computes in float64 alone.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).

    Returns
    -------
    OutputMap or None
    """
    if not isinstance(output_map, OutputMap) or output_map.dtype != torch.float64:
        return None
    if not output_map.family.any_precision:
        return None
    offset, weights = (
        None if part is None else part.to(_SINGLE)
        for part in (output_map.offset, output_map.weights)
    )
    if weights is not None and not bool((weights > 0).all()):  # smaller than all float32
        return None
    return OutputMap(output_map.family, output_map.X.to(_SINGLE), offset, weights)


class _SingleFactor(TangentFactor):
    """D of full rank through a Cholesky factor of G in float32, for vectors in any precision.

    They go through it in units of their length, so that their size does not matter.
    """

    damped = False

    def __init__(self, tangent: Tangent, factor: Cholesky) -> None:
        self.tangent, self.factor, self.rank = tangent, factor, factor.rank

    @property
    def condition(self) -> float:
        return self.factor.condition

    @property
    def solver(self) -> str:
        return f"{self.factor.name} in float32"

    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        return _scaled(lambda one: self.tangent.pull(self.factor.apply(f, one)), r)

    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        return _scaled(lambda one: self.factor.apply(f, one), r)

    def push(self, v: Tensor) -> Tensor:
        return _scaled(self.tangent.push, v)

    def project(self, r: Tensor) -> Tensor:
        return r  # every mode counts


def factorize_in_single(output_map: OutputMap, theta: Tensor) -> TangentFactor | None:
    """D at one θ, through a Cholesky factor of G in float32.

    Parameters
    ----------
    output_map : OutputMap
        In float32, see `in_single`.
    theta : Tensor of shape (K,)
        θ, in any precision.

    Returns
    -------
    TangentFactor or None
        None where float32 does not resolve all modes of G.
    """
    tangent = output_map.linearize(theta.to(_SINGLE))
    pair = triangles(tangent.gram(), 0.0)
    if pair is None:
        return None
    factor = Cholesky(pair, "cholesky")
    return _SingleFactor(tangent, factor) if resolved_in_single(factor.condition) else None


def resolved_in_single(condition: float) -> bool:
    """Whether float32 resolves all modes of a G of that condition; not where it is NaN."""
    return condition * _RESOLVED * _EPS < 1


def _scaled(f: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """A linear f of a vector, in float32."""
    unit = torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny)
    return f((v / unit).to(_SINGLE)).to(v.dtype).mul_(unit)
