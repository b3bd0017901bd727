"""When a flow will have come so far: read off its start, before it is followed.

With D frozen at θ₀ a mode of G with the eigenvalue λ is forgotten at the rate

    K(λ) = λ (α/(λ + μ) + (1−α)/c),    C(τ) = C_⊥ + (1/2N) Σᵢ (vᵢᵀr₀)² e^{−2τK(λᵢ)},

with a ridge μ, and C_⊥ = ½|P^⊥r₀|²/N out of reach. At α = 1 and full rank this is
C₀e^{−2τ} = C₀(1−t)² whatever the kernel does (2.57). Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy.optimize
import torch
from torch import Tensor

from sklearn_gflow.dynamics import (
    Adaptive,
    Outcome,
    Point,
    Stepper,
    mean_diagonal,
    metric_scale,
    t_from_tau,
    tau_from_t,
)
from sklearn_gflow.dynamics.options import FlowOptions
from sklearn_gflow.geometry import Cost, DifferentiableMap, factorize, gram_eigenvectors

__all__ = ["StoppingTime", "stopping_time"]

# Times τ between which an answer is looked for: flows with small α have slow modes.
_EARLIEST, _LATEST = 1e-9, 1e12
# A frozen flow that is integrated is not followed beyond this τ.
_INTEGRATED = 1e4
_MOST_STEPS = 10_000


@dataclass(frozen=True)
class StoppingTime:
    """When the loss of a flow reaches ε.

    Attributes
    ----------
    tau, t : float
        τ = s/N and t = 1 − e^{−τ} by the kernel of the start; NaN where that keeps the loss
        above ε for ever.
    latest : float
        The t by which the loss is at ε whatever the kernel does, as long as D keeps full rank:
        1 − (ε/C₀)^{1/2α}, which is 1 at α = 0. Of the squared error without a ridge; otherwise
        NaN.
    floor : float
        The loss that the range of D at the start leaves out of reach.
    n_steps : int
        How many steps of the default error it takes if the later ones may move the outputs no
        farther than the first. Up to half of the loss that is about right; later steps are mostly
        longer, and many times fewer. 0 where t is NaN.
    """

    tau: float
    t: float
    latest: float
    floor: float
    n_steps: int


def stopping_time(
    eps: float,
    output_map: DifferentiableMap,
    cost: Cost,
    theta: Tensor,
    options: FlowOptions = FlowOptions(),
) -> StoppingTime:
    """When the loss of the α-flow from θ reaches ε, from the spectrum of G there.

    At α = 1 and full rank of D the answer is t = 1 − √(ε/C₀) and exact [1]_. Below α = 1, and
    where D has not full rank, it is that of the flow with D frozen, as it is for a cost that is
    not linear in x. The number of steps follows from the error of the first one.

    .. [1] T. Chen, "Global L2 minimization at uniform exponential rate via geometrically adapted
       gradient descent in Deep Learning", arXiv:2311.15487.

    Parameters
    ----------
    eps : float
        ε, a loss; positive.
    output_map : DifferentiableMap
        θ ↦ x(θ).
    cost : Cost
        C.
    theta : Tensor of shape (K,)
        θ₀.
    options : FlowOptions
        α, c, the ridge.

    Returns
    -------
    StoppingTime

    Raises
    ------
    ValueError
        If ``eps`` is not positive.
    FactorizationError
        If G could not be decomposed.
    """
    if not eps > 0:
        raise ValueError(f"eps must be a positive loss, got {eps}")
    start = Point.at(output_map, cost, 0.0, theta)
    stepper = _stepper(start, output_map, cost, options)
    if cost.linear:
        loss, floor, rank = _by_modes(start, cost, options, stepper)
    else:
        loss, floor, rank = _by_frozen_flow(start, cost, stepper)
    tau = _reached(loss, eps, floor)
    latest = math.nan
    if cost.linear and not stepper.ridge and rank == len(start.outputs):
        latest = _promised(eps, start.loss, options.alpha)
    n_steps = 0 if math.isnan(tau) else _steps(stepper, loss, tau)
    return StoppingTime(tau, float(t_from_tau(tau)), latest, floor, n_steps)


_Loss = Callable[[float], float]


def _stepper(
    start: Point, output_map: DifferentiableMap, cost: Cost, options: FlowOptions
) -> Stepper:
    """The steps of the flow from its start."""
    ridge = options.damping * mean_diagonal(start.tangent) if options.damping else 0.0
    factor = factorize(
        start.tangent, start.residual, solver="eigh", eigenvectors=True,
        rcond=options.rcond, ridge=ridge,
    )  # fmt: skip
    return Stepper(
        start, factor, output_map, cost, options.alpha, metric_scale(start.tangent, options),
        cost.minimizer(start.outputs), cost.distance(start.outputs), ridge,
    )  # fmt: skip


def _by_modes(
    start: Point, cost: Cost, options: FlowOptions, stepper: Stepper
) -> tuple[_Loss, float, int]:
    """C(τ) mode by mode, its part out of reach, and the rank."""
    eigenvalues, V = gram_eigenvectors(start.tangent.gram(), rcond=options.rcond)
    rank = int((eigenvalues > 0).sum())
    parts = (V.mT @ start.residual).square() / (2 * cost.total_weight)
    floor = float(parts[: len(parts) - rank].sum())
    parts, moving = parts[len(parts) - rank :], eigenvalues[len(parts) - rank :]
    alpha = options.alpha
    rates = moving * (alpha / (moving + stepper.ridge) + (1 - alpha) / stepper.scale)
    return lambda tau: floor + float(parts @ torch.exp(-2 * tau * rates)), floor, rank


def _by_frozen_flow(start: Point, cost: Cost, stepper: Stepper) -> tuple[_Loss, float, int]:
    """The same of a cost that is not linear, integrated with D held fixed."""

    def loss(tau: float) -> float:
        return cost.value(start.outputs + stepper.frozen.move(min(tau, _INTEGRATED))[1])

    rank = int(stepper.factor.rank)
    floor = cost.least(start.outputs) if rank == len(start.outputs) else loss(_INTEGRATED)
    return loss, floor, rank


def _reached(loss: _Loss, eps: float, floor: float) -> float:
    """The τ at which a loss that falls is at ε, NaN where it stays above."""
    if loss(0.0) <= eps:
        return 0.0
    if eps <= floor or not loss(_LATEST) < eps:
        return math.nan

    def excess(log_tau: float) -> float:
        # Of logarithms: the loss falls over many powers of ten.
        return math.log(max(loss(math.exp(log_tau)), 1e-300)) - math.log(eps)

    ends = math.log(_EARLIEST), math.log(_LATEST)
    return 0.0 if excess(ends[0]) <= 0 else math.exp(scipy.optimize.brentq(excess, *ends))


def _promised(eps: float, loss: float, alpha: float) -> float:
    """The t of dC/dτ ≤ −2αC, which holds at full rank since G is positive."""
    if loss <= eps:
        return 0.0
    return 1 - (eps / loss) ** (1 / (2 * alpha)) if alpha else 1.0


def _steps(stepper: Stepper, loss: _Loss, end: float) -> int:
    """Count steps that move the outputs by no more than the first one says they may.

    Its error goes with a power of the displacement, which at a residual r is |r|(1 − e^{−h}) at
    most: the same reckoning as that of `Adaptive`, with the losses of the frozen flow.
    """
    if end == 0 or stepper.distance == 0:
        return 0
    schedule = Adaptive(end)
    first = schedule.take(stepper)
    if isinstance(first, Outcome):
        return 0
    room = (schedule.tolerance / first.error) ** (1 / stepper.order) if first.error else math.inf
    allowed, tau, floor = room * float(t_from_tau(first.h)), first.h, loss(_LATEST)
    height = loss(0.0) - floor
    for count in range(1, _MOST_STEPS):
        # |r| above what is out of reach, in units of that at the start.
        size = math.sqrt(max(loss(tau) - floor, 0.0) / height)
        if tau >= end or size * float(t_from_tau(end - tau)) < 1e-9:
            return count
        tau += float(tau_from_t(min(allowed / size, float(t_from_tau(end - tau)))))
    return _MOST_STEPS
