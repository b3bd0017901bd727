"""The flow over row blocks: linear in the number of rows, where the full Gram is out of reach.

In an epoch every row block B flows, alone and with its D frozen, for a time h: a splitting of the
α-flow by rows. At α = 0 the fields of the blocks add up to the full one, so that epochs of lengths
h₁ + h₂ + … = τ split the very flow of length τ. For α > 0 each block is given its own
pseudoinverse, and a block of all rows is the full-batch flow again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sklearn_gflow.dynamics.flow import (
    FlowOptions,
    mean_diagonal,
    metric_scale,
)
from sklearn_gflow.dynamics.frozen import cross_entropy_motion, exponential
from sklearn_gflow.dynamics.monitor import BestPoint
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.trajectory import Outcome, Trajectory
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    Cost,
    CrossEntropy,
    FactorizationError,
    OutputMap,
    Tangent,
    TangentFactor,
    factorize,
    tangent_spectrum,
)

__all__ = [
    "BlockOptions",
    "Epoch",
    "EpochObserver",
    "RowSource",
    "block_flow",
    "decaying_epochs",
    "timed_epochs",
]

_FIRST_LENGTH = 1.0  # of the steps of decaying epochs; ½ takes twice the time to the same scores
# Of the loss over its least, relative: more than that is no noise of long steps. Over the start
# less is borne: short steps cannot make up for it where there is nothing to gain.
_RISE, _RISE_OVER_START = 0.5, 0.1
_RISE_FLOOR = 1e-6  # of the loss at the start: below it, rises are those of single precision
_LOST = 2.0  # blocks met this many times the loss that all rows may have: the epoch has blown up
_MOST_HALVINGS = 10
_EVALUATED_ROWS = 2048  # at once, for the loss: activations of more leave the cache


class RowSource(Protocol):
    """Rows, handed out in blocks."""

    @property
    def n_samples(self) -> int:
        """Number of rows."""

    @property
    def total_weight(self) -> float:
        """N: the sum of their weights."""

    def block(self, rows: Tensor | slice) -> tuple[OutputMap, Cost]:
        """The output map of some rows and the cost on it, in the precision of the steps."""


class EpochObserver(Protocol):
    """Reads further columns off a flow over blocks, after each epoch."""

    def epoch(self, tau: float, loss: float, theta: Tensor) -> dict[str, float]:
        """Columns at the start, and after each epoch."""


class Epoch(NamedTuple):
    """One pass over the rows: step lengths from ``first`` to ``last``, linearly."""

    first: float
    last: float

    @property
    def length(self) -> float:
        """Time τ of the epoch."""
        return (self.first + self.last) / 2

    def steps(self, n_blocks: int) -> list[float]:
        """Step length of each block; their mean is the length of the epoch."""
        if self.first == self.last:  # both may be ∞: Gauss–Newton steps
            return [self.first] * n_blocks
        slope = (self.last - self.first) / n_blocks
        return [self.first + slope * (k + 0.5) for k in range(n_blocks)]

    def halves(self) -> tuple[Epoch, Epoch]:
        """The same time in two epochs, with steps half as long."""
        middle = self.length
        return Epoch(self.first / 2, middle / 2), Epoch(middle / 2, self.last / 2)


def decaying_epochs(tau_end: float, n_epochs: int | None = None) -> list[Epoch]:
    """Epochs whose steps decay linearly to zero and whose times add up to τ_end.

    The noise of the blocks goes with the length of the steps; at zero it has died out.

    Parameters
    ----------
    tau_end : float
        End of the flow; ∞ stands for as far as ``n_epochs`` epochs with first steps of length 1 go.
    n_epochs : int, optional
        By default as many as make the first steps at most 1 long: 6 for t = 0.95, 13 for 0.998.

    Returns
    -------
    list of Epoch

    Raises
    ------
    ValueError
        If neither an end nor a number of epochs is given.
    """
    if n_epochs is None:
        if math.isinf(tau_end):
            raise ValueError("decaying epochs need a finite tau_end, or n_epochs")
        n_epochs = max(1, math.ceil(2 * tau_end / _FIRST_LENGTH - 1e-9))
    first = _FIRST_LENGTH if math.isinf(tau_end) else 2 * tau_end / n_epochs
    edges = [first * (1 - k / n_epochs) for k in range(n_epochs + 1)]
    return [Epoch(*pair) for pair in pairwise(edges)]


def timed_epochs(taus: Sequence[float]) -> list[Epoch]:
    """Epochs of constant steps that end at the given times τ."""
    edges = [0.0, *taus]
    lengths = [end - start for start, end in pairwise(edges)]
    return [Epoch(h, h) for h in lengths]


@dataclass(frozen=True)
class BlockOptions:
    """What a flow over blocks has beyond `FlowOptions`.

    Parameters
    ----------
    batch_size : int
        Largest number of rows a block; blocks differ by one row at most, so that no block is
        a short rest with a long step.
    shuffle : bool
        Draw new blocks in every epoch; otherwise they are runs of rows in their order.
    momentum : float
        μ in [0, 1): share of the last step that a block keeps where it does not see it,
        Δθ = Dᵀ f(G) r + μ(1 − D⁺D) Δθ_last. The outputs of the block move as without it.
    seed : int
        Of the blocks.
    """

    batch_size: int
    shuffle: bool = True
    momentum: float = 0.0
    seed: int = 0


def block_flow(
    source: RowSource,
    theta: Tensor,
    epochs: Sequence[Epoch],
    options: FlowOptions = FlowOptions(),
    blocks: BlockOptions = BlockOptions(256),
    *,
    probe: tuple[OutputMap, Cost],
    kernel: OutputMap | None = None,
    observers: Sequence[EpochObserver] = (),
    monitor: BestPoint | None = None,
) -> Trajectory:
    """Follow the α-flow over random row blocks.

    A step of length h on block B is Δθ = Dᵀ f(G_B + ε·mean diag G_B) r_B with the f of
    `exponential`. After each epoch the loss of all rows is evaluated. An epoch that brought it to
    more than half above the least, a tenth above the start, or out of the finite numbers, is
    undone, and all that is left of the way is gone with steps half as long. Where the blocks met
    twice that loss before their steps, the epoch is undone at once.

    Parameters
    ----------
    source : RowSource
        The rows.
    theta : Tensor of shape (K,)
        θ₀; not changed. Steps may be computed in less precision, and are added up in this one.
    epochs : sequence of Epoch
        The way; see `decaying_epochs`, `timed_epochs`.
    options : FlowOptions
        α, c, tolerances. ``damping`` is ε, relative to the block; ``max_iter`` bounds the
        epochs, undone ones not counted.
    blocks : BlockOptions
        How the rows are cut.
    probe : (OutputMap, Cost)
        Of the rows whose outputs the trajectory records. Its precision need not be that of θ.
    kernel : OutputMap, optional
        Of the rows whose Gram gives rank and condition at the start and after each epoch.
    observers : sequence of EpochObserver
        Sources of further columns.
    monitor : BestPoint, optional
        Judges the start and the end of every epoch, chooses the solution, may end the flow.

    Returns
    -------
    Trajectory
        A point for the start and one for each epoch, with the loss of all rows. The column
        "undone" counts the epochs that were undone before it. Failure is an outcome.
    """
    point = Point.at(*probe, 0.0, theta.to(probe[0].dtype))
    loop = _BlockLoop(
        source, options, blocks, probe, kernel, observers, monitor,
        trajectory=Trajectory(source.total_weight, metric_scale(point.tangent, options)),
        left=list(epochs)[::-1],
    )  # fmt: skip
    loop.run(theta)
    if monitor is not None:
        loop.trajectory.selected = monitor.best
    return loop.trajectory


@dataclass
class _BlockLoop:
    """State of one run of `block_flow`."""

    source: RowSource
    options: FlowOptions
    blocks: BlockOptions
    probe: tuple[OutputMap, Cost]
    kernel: OutputMap | None
    observers: Sequence[EpochObserver]
    monitor: BestPoint | None
    trajectory: Trajectory
    left: list[Epoch]  # the next one is the last of the list
    undone: int = 0
    patience: int = 0
    last_step: Tensor | None = None
    failure: str = ""
    generator: torch.Generator = field(default_factory=torch.Generator)

    def run(self, theta: Tensor) -> None:
        self.generator.manual_seed(self.blocks.seed)
        loss, residual = self._evaluate(theta)
        initial = residual
        tau = 0.0
        self._record(tau, loss, theta)
        while (outcome := self._finished(residual, initial)) is None:
            epoch = self.left.pop()
            after, met = self._epoch(theta, epoch)
            if self.failure:
                outcome = Outcome.FACTORIZATION_FAILED
                break
            # An epoch that blew up on the way need not be evaluated.
            loss_after, residual_after = self._evaluate(after) if self._bears(met) else (met, 0.0)
            if not loss_after <= self._bound():  # NaN is not either
                stopped = self._undo(epoch, finite=math.isfinite(loss_after))
                if stopped is not None:
                    outcome = stopped
                    break
                continue
            self._count(residual - residual_after, initial)
            theta, loss, residual, tau = after, loss_after, residual_after, tau + epoch.length
            self._record(tau, loss, theta)
        self.trajectory.outcome = outcome
        self.trajectory.detail = self.failure
        if self.undone:
            self.trajectory.detail += (
                f"{self.undone} epochs raised the loss and were undone, "
                "the rest of the way went with shorter steps"
            )

    def _finished(self, residual: float, initial: float) -> Outcome | None:
        if not math.isfinite(initial):
            return Outcome.DIVERGED
        if residual <= self.options.tol * initial:
            return Outcome.CONVERGED
        if not self.left:
            return Outcome.REACHED_END
        if self.trajectory.n_steps >= self.options.max_iter:
            return Outcome.MAX_ITER
        if self.patience >= self.options.n_iter_no_change:
            return Outcome.STALLED
        if self.monitor is not None and self.monitor.finished:
            return Outcome.EARLY_STOPPED
        return None

    def _epoch(self, theta: Tensor, epoch: Epoch) -> tuple[Tensor, float]:
        """Let every block flow once; stops early where the epoch is lost.

        The second is what the blocks had of the loss, each before its step: of all N rows it is
        as much as their loss, while nothing blows up.
        """
        blocks, met = list(self._cut()), 0.0
        for rows, h in zip(blocks, epoch.steps(len(blocks)), strict=True):
            output_map, cost = self.source.block(rows)
            point = Point.at(output_map, cost, 0.0, theta.to(output_map.dtype))
            met += point.loss * cost.total_weight / self.source.total_weight
            step = self._step(point, cost, h) if self._bears(met) else None
            if step is None:
                break
            theta = theta + step
        return theta, met

    def _cut(self) -> Iterator[Tensor]:
        """The blocks of an epoch; rows ascend in a block, for sources on disk."""
        n_blocks = math.ceil(self.source.n_samples / self.blocks.batch_size)
        if not self.blocks.shuffle:
            return iter(torch.arange(self.source.n_samples).tensor_split(n_blocks))
        order = torch.randperm(self.source.n_samples, generator=self.generator)
        return (rows.sort().values for rows in order.tensor_split(n_blocks))

    def _step(self, point: Point, cost: Cost, h: float) -> Tensor | None:
        """Δθ of one block; None where it is not to be had."""
        options = self.options
        try:
            factor = factorize(
                point.tangent,
                point.velocity,
                solver=options.solver,
                eigenvectors=options.alpha < 1 and isinstance(cost, CrossEntropy),
                once=True,
                rcond=options.rcond,
                ridge=self._ridge(point.tangent),
            )
        except FactorizationError as error:
            self.failure = str(error)
            return None
        step = self._displacement(point, factor, cost, h)
        self.trajectory.solvers.append(factor.solver)
        self.last_step = step if self.blocks.momentum else None
        return step

    def _ridge(self, tangent: Tangent) -> float:
        options = self.options
        if not options.damping:
            return 0.0
        return options.damping * mean_diagonal(tangent, shared=options.solver == "shared")

    def _displacement(self, point: Point, factor: TangentFactor, cost: Cost, h: float) -> Tensor:
        """Δθ = Dᵀ f(G) r + (1 − D⁺D) s, s being what momentum keeps of the last step."""
        alpha, scale = self.options.alpha, self.trajectory.scale
        f = exponential(alpha, h, scale)
        if isinstance(cost, CrossEntropy):
            f = PSEUDOINVERSE
            target = cross_entropy_motion(point.outputs, factor, cost, alpha, h, scale)
        else:
            target = f.inverse * point.velocity
        if self.last_step is not None:
            kept = self.blocks.momentum * self.last_step
            target = target - point.tangent.push(kept)
        terms = [(PSEUDOINVERSE, target)]
        if f.smooth is not None:
            terms.append((replace(f, inverse=0.0), point.velocity))
        displacement = factor.lift_all(*terms)
        return displacement if self.last_step is None else displacement + kept

    def _bound(self) -> float:
        """Up to here the loss after an epoch may rise."""
        recorded = self.trajectory.loss  # the least: many small rises are a large one
        bound = min((1 + _RISE) * min(recorded), (1 + _RISE_OVER_START) * recorded[0])
        return bound + _RISE_FLOOR * recorded[0]

    def _bears(self, met: float) -> bool:
        """Whether an epoch whose blocks met that much may go on; false for NaN too."""
        return met <= _LOST * self._bound()

    def _undo(self, epoch: Epoch, *, finite: bool) -> Outcome | None:
        """Put the epoch back, and halve the steps of all that are left."""
        self.undone += 1
        self.last_step = None
        if self.undone > _MOST_HALVINGS:
            return Outcome.STEP_UNDERFLOW if finite else Outcome.DIVERGED
        self.left = [half for rest in [*self.left, epoch] for half in reversed(rest.halves())]
        return None

    def _count(self, gain: float, initial: float) -> None:
        self.patience = 0 if gain > self.options.tol * initial else self.patience + 1

    def _evaluate(self, theta: Tensor) -> tuple[float, float]:
        """Loss C(x) and length |N∇ₓC| over all rows."""
        loss = square = 0.0
        for start in range(0, self.source.n_samples, _EVALUATED_ROWS):
            rows = slice(start, min(start + _EVALUATED_ROWS, self.source.n_samples))
            output_map, cost = self.source.block(rows)
            x = output_map.outputs(theta.to(output_map.dtype))
            loss += cost.total_weight * cost.value(x)
            gradient = cost.total_weight * cost.gradient(x)
            square += float(gradient @ gradient)
        return loss / self.source.total_weight, math.sqrt(square)

    def _record(self, tau: float, loss: float, theta: Tensor) -> None:
        output_map, cost = self.probe
        tangent = output_map.linearize(theta.to(output_map.dtype))
        velocity = -cost.total_weight * cost.gradient(tangent.outputs)
        point = Point(tau, theta, tangent, loss, velocity)
        self.trajectory.record(point, math.nan, keep_path=self.options.store_path)
        if self.kernel is not None and math.isfinite(loss):
            spectrum = tangent_spectrum(self.kernel.linearize(theta), rcond=self.options.rcond)
            self.trajectory.rank[-1] = spectrum.rank
            self.trajectory.condition[-1] = spectrum.condition
        self.trajectory.add_columns({"undone": float(self.undone)})
        if self.monitor is not None:
            judged = (
                self.monitor.see(point) if self.trajectory.n_steps else self.monitor.start(point)
            )
            self.trajectory.add_columns(judged)
        for observer in self.observers:
            self.trajectory.add_columns(observer.epoch(tau, loss, theta))
