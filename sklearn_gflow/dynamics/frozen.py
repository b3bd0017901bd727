"""The flow with D held fixed at a point, over any time h: the one place that asks what a cost is.

It is exact for a cost that is linear in x, and integrated with error control for all others. Its
parameters move by Δθ = D⁺_μ v + Dᵀ s(G) r, which `FrozenFlow.split` gives as (v, s), with a ridge
μ in D⁺_μ = Dᵀ(G + μ)⁻¹. The notation is that of docs/notation.md: r = −N∇ₓC, G = DDᵀ, c the scale.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sklearn_gflow.dynamics.options import FlowOptions
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    Cost,
    GramFunction,
    TangentFactor,
    TangentMap,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["FrozenFlow", "exponential", "needs_eigenvectors", "steps_need_eigenvectors"]

# Error that a substep may make, relative to the length of the whole way. At α = 1 the substeps are
# of second order, and small errors cost little. Below, where the spectrum is stiff, the order falls
# to one, and the step of the network errs by more than this anyway.
_TOLERANCE, _STIFF_TOLERANCE = 1e-5, 1e-3
_FIRST_SUBSTEP = 1e-2
_MOST_SUBSTEPS = 20_000
# The time τ that stands for ∞.
_FOREVER = 1e4
# The flow is at rest where the length of its force is at most this multiple of the tolerance.
_AT_REST = 1e-6
# Only where a substep erred by less than this share of its tolerance is a state of rest looked for.
_QUIET = 1e-2
# No substep is asked to err by less than so many roundings of the outputs.
_ROUNDINGS = 4.0
# Substeps shorter than this share of the time are given up.
_SHORTEST = 1e-16
_SHORTEST_CUT, _LONGEST_GROWTH, _SAFETY = 0.2, 5.0, 0.9


def exponential(alpha: float, h: float, scale: float) -> GramFunction:
    """f(λ) = (1 − e^{−h(α + (1−α)λ/c)})/λ, the flow of the squared error over a time h.

    With D frozen, r = y − x obeys r' = −(α + (1−α)G/c) P r (2.41), so that Δθ = Dᵀ f(G) r and
    Δx = (1 − e^{−h(α + (1−α)G/c)}) P r, exactly. Written as a multiple of 1/λ plus a smooth
    function: 1 − e^{−hα}e^{−κλ} = (1 − e^{−hα}) + e^{−hα}(1 − e^{−κλ}), κ = h(1−α)/c.

    Parameters
    ----------
    alpha : float
        α of (2.32).
    h : float
        Step in τ = s/N; ∞ gives the pseudoinverse, a Gauss–Newton step.
    scale : float
        c, the unit of λ.

    Returns
    -------
    GramFunction
    """
    if math.isinf(h):
        return PSEUDOINVERSE
    inverse, decay, kappa = -math.expm1(-h * alpha), math.exp(-h * alpha), h * (1 - alpha) / scale
    if kappa == 0:
        return GramFunction(inverse)
    return GramFunction(
        inverse,
        lambda lam: -decay * torch.expm1(-kappa * lam) / lam,
        turn=1 / kappa,
        profile=(decay * kappa, _phi1),
    )


def needs_eigenvectors(cost: Cost, alpha: float, *, damped: bool) -> bool:
    """Whether the frozen flow asks for functions of G of many vectors, besides 1/λ.

    That of a linear cost asks for those of its residual alone. At α = 1 without a ridge every
    function is a number times the projector.
    """
    return not cost.linear and (alpha < 1 or damped)


def steps_need_eigenvectors(
    tangent: TangentMap, cost: Cost, options: FlowOptions, *, damped: bool
) -> bool:
    """Whether a step of the full batch asks for functions of many vectors.

    The columns of a shared kernel are such vectors.
    """
    many = needs_eigenvectors(cost, options.alpha, damped=damped)
    return many or (options.alpha < 1 and options.forms(tangent) == "K̄")


@dataclass(frozen=True)
class FrozenFlow:
    """The α-flow of a cost from a point, with D held fixed there.

    With a ridge μ the step is that of Levenberg and Marquardt: the flow of C and of a pull
    κ₀μ|Δθ|²/2N to the start of the step, κ₀ being the cost's unit, which is 1 for the squared
    error. In v = (G + μ)u with Δθ = Dᵀu the outputs are at x + Πv, Π = G(G + μ)⁻¹, and

        v' = m(G) P ρ(v),    ρ(v) = −N∇C(x + Πv) − κ₀(v − Πv),    m(λ) = α + (1−α)(λ + μ)/c.

    Attributes
    ----------
    factor : TangentFactor
        Of D there; with eigenvectors where `needs_eigenvectors` says so.
    cost : Cost
        C.
    outputs, residual : Tensor of shape (Q·N,)
        x and r there.
    alpha, scale : float
        α and c.
    ridge : float
        μ, absolute.
    limit : Tensor of shape (Q·N,), optional
        Where Euclidean gradient flow ends; by default that from x.
    """

    factor: TangentFactor
    cost: Cost
    outputs: Tensor
    residual: Tensor
    alpha: float
    scale: float
    ridge: float = 0.0
    limit: Tensor | None = None

    def split(self, h: float) -> tuple[Tensor, GramFunction | None]:
        """(v, s) with Δθ = D⁺_μ v + Dᵀ s(G + μ) r over a time h; s is None where it is zero."""
        if not self.cost.linear:
            return self._target(h), None
        f = exponential(self.alpha, h, self.scale)
        return f.inverse * self.residual, None if f.smooth is None else replace(f, inverse=0.0)

    def move(self, h: float) -> tuple[Tensor, Tensor]:
        """(Δθ, Δx = DΔθ) over a time h."""
        if not self.cost.linear:
            target = self._target(h)
            if self.factor.damped:
                return self.factor.move(PSEUDOINVERSE, target)
            return self.factor.lift(PSEUDOINVERSE, target), target
        f = exponential(self.alpha, h, self.scale)
        if f.smooth is None:  # all h have one direction, so that a shorter step costs no solve
            displacement, motion = self._gauss_newton
            return f.inverse * displacement, f.inverse * motion
        return self.factor.move(f, self.residual)

    def dual(self, h: float) -> Tensor:
        """The u of Δθ = Dᵀu over a time h, shape (Q·N,)."""
        if not self.cost.linear:
            return self.factor.lift_with_dual((PSEUDOINVERSE, self._target(h)))[1]
        f = exponential(self.alpha, h, self.scale)
        return self.factor.lift_with_dual((f, self.residual))[1]

    def moment(self, h: float) -> Tensor:
        """∫ (s/h) r(s) ds over a time h without a ridge, on the range of D.

        Exact for a cost that is linear; of others the residual is taken to fall as its unit says.
        """
        curvature = self.cost.unit

        def rate(lam: Tensor) -> Tensor:
            return self.alpha + (1 - self.alpha) * lam / self.scale

        def late(lam: Tensor) -> Tensor:
            return _lateness(h * curvature * rate(lam)) / rate(lam)

        if not self.cost.linear:
            return self.factor.apply(GramFunction(0.0, late), self._target(h))
        moved = GramFunction(0.0, lambda lam: -torch.expm1(-h * rate(lam)) * late(lam))
        return self.factor.apply(moved, self.residual)

    @cached_property
    def _gauss_newton(self) -> tuple[Tensor, Tensor]:
        return self.gauss_newton(self.residual)

    def gauss_newton(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """(D⁺r, DD⁺r) of a residual at another place."""
        if self.factor.damped:
            return self.factor.move(PSEUDOINVERSE, residual)
        # Without a ridge DD⁺ = P.
        return self.factor.lift(PSEUDOINVERSE, residual), self.factor.project(residual)

    # -- costs whose gradient is not linear in x ---------------------------------------------------

    def _target(self, h: float) -> Tensor:
        """v at the time h."""
        whole = self.alpha == 1 and not self.ridge and self.factor.rank == len(self.outputs)
        if whole and math.isinf(h):
            # At full rank the flow ends where Euclidean gradient flow does. For some costs that
            # depends on the start of the whole flow: the log-loss conserves the mean logit of the
            # start, but errors of the steps up to here moved it. So the limit is handed over.
            limit = self.cost.minimizer(self.outputs) if self.limit is None else self.limit
            return limit - self.outputs
        return self._way.at(h)

    @cached_property
    def _way(self) -> _Way:
        return _Way(self)

    def spread(self, phi: Callable[[Tensor], Tensor], h: float, kappa: float, b: Tensor) -> Tensor:
        """h m(G) φ(hL) P b."""
        if self.alpha == 1 and not self.ridge:
            return h * phi(b.new_full((), h * kappa)) * self.factor.project(b)
        pulled = (kappa - self.cost.unit) * self.ridge

        def f(shifted: Tensor) -> Tensor:  # f of λ + μ, since the factor adds the ridge
            hm = h * (self.alpha + (1 - self.alpha) * shifted / self.scale)
            return hm * phi(hm * (kappa - pulled / shifted))

        return self.factor.apply(GramFunction(0.0, f), b)


class _Way:
    """The frozen flow of a cost that is not linear, integrated as far as it was asked for.

    Exponential steps of second order (Cox and Matthews, 2002): the spectrum of G makes the
    equation stiff. With the curvature κ of the cost it is v' = −L v + m(G)P n(v),
    L = m(G)(κΠ + κ₀(1 − Π)), whose remainder n is mild; the steps are exact in L and of second
    order in n. Where the curvature is constant so is n, and the first of their two stages is
    exact. The states on the way are kept: a shorter time is then at hand.
    """

    def __init__(self, flow: FrozenFlow) -> None:
        self.flow = flow
        self.times = [0.0]
        self.states = [_State.at(flow, torch.zeros_like(flow.outputs))]
        self.next_step = _FIRST_SUBSTEP
        self.at_rest = False
        tolerance = _TOLERANCE if flow.alpha == 1 else _STIFF_TOLERANCE
        self.rounding = _ROUNDINGS * torch.finfo(flow.outputs.dtype).eps * norm(flow.outputs)
        self.tolerance = tolerance * flow.cost.distance(flow.outputs)

    def at(self, h: float) -> Tensor:
        """v at the time h; NaN where it could not be followed to there."""
        self._extend(min(h, _FOREVER))
        last = bisect_right(self.times, h) - 1
        left = min(h, _FOREVER) - self.times[last]
        if left <= 0:
            return self.states[last].v
        if last < len(self.times) - 1:  # within an accepted substep: a shorter one errs less
            return self.states[last].advanced(left)[0].v
        return self.states[last].v if self.at_rest else torch.full_like(self.flow.outputs, math.nan)

    def _extend(self, end: float) -> None:
        """Go on until a time, until the flow is at rest, or until no step will do."""
        for _ in range(_MOST_SUBSTEPS):
            now, step = self.times[-1], self.next_step
            if now >= end or self.at_rest or not step > _SHORTEST * end:
                return
            after, error = self.states[-1].advanced(step)
            # Many short steps of the flow must not add up to more than a long one may err by.
            tolerance = max(self.tolerance * min(1.0, now + step), self.rounding)
            if error <= tolerance:  # which is false of NaN, so that a shorter step is tried
                self.times.append(now + step)
                self.states.append(after)
                self.at_rest = error <= _QUIET * tolerance and self._rests(after)
            growth = _SAFETY * (tolerance / error) ** 0.5 if error else _LONGEST_GROWTH
            finite = math.isfinite(error)
            cut = min(max(growth, _SHORTEST_CUT), _LONGEST_GROWTH) if finite else _SHORTEST_CUT
            self.next_step *= cut

    def _rests(self, state: _State) -> bool:
        return norm(self.flow.factor.project(state.force)) <= _AT_REST * self.tolerance


@dataclass(frozen=True)
class _State:
    """A state v of the frozen flow of a cost that is not linear."""

    flow: FrozenFlow
    v: Tensor
    motion: Tensor  # Πv, by which the outputs have moved
    residual: Tensor  # −N∇C(x + Πv)

    @classmethod
    def at(cls, flow: FrozenFlow, v: Tensor) -> _State:
        # v is in the range of D, so that Π = 1 − μ(G + μ)⁻¹ there. A factor's own projector will
        # not do: that of eigenvectors is P, with and without a ridge.
        motion = v - flow.ridge * flow.factor.apply(PSEUDOINVERSE, v) if flow.ridge else v
        return cls(flow, v, motion, flow.cost.residual(flow.outputs + motion))

    @property
    def force(self) -> Tensor:
        """ρ(v) = −N∇C(x + Πv) − κ₀(v − Πv)."""
        if not self.flow.ridge:
            return self.residual
        return self.residual - self.flow.cost.unit * (self.v - self.motion)

    def advanced(self, h: float) -> tuple[_State, float]:
        """The state after a time h, and the size of what the second stage changed."""
        flow = self.flow
        kappa = flow.cost.curvature(flow.outputs + self.motion)
        first = _State.at(flow, self.v + flow.spread(_phi1, h, kappa, self.force))
        remainder = first.residual - self.residual + kappa * (first.motion - self.motion)
        change = flow.spread(_phi2, h, kappa, remainder)
        return _State.at(flow, first.v + change), norm(change)


def _lateness(z: Tensor) -> Tensor:
    """1/z − 1/(e^z − 1), the mean of s in [0, 1] with the density of e^{−zs}; ½ at zero."""
    small = z < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 0.5 - z / 12, 1 / safe - 1 / torch.expm1(safe))


def _phi1(z: Tensor) -> Tensor:
    """(1 − e^{−z})/z, and 1 at zero."""
    safe = torch.where(z == 0, torch.ones_like(z), z)
    return torch.where(z == 0, torch.ones_like(z), -torch.expm1(-safe) / safe)


def _phi2(z: Tensor) -> Tensor:
    """(e^{−z} − 1 + z)/z², by its series where the difference cancels."""
    small = z < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 0.5 - z / 6 + z * z / 24, (torch.expm1(-safe) + safe) / safe**2)
