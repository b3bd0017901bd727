"""The flow over row blocks: linear in the number of rows, where the full Gram is out of reach.

In an epoch every row block B flows, alone and with its D frozen, for a time h: a splitting of the
α-flow by rows. At α = 0 the fields of the blocks add up to the full one, so that epochs of lengths
h₁ + h₂ + … = τ split the very flow of length τ. For α > 0 each block is given its own
pseudoinverse, and a block of all rows is the full-batch flow again. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from sklearn_gflow.dynamics.block_step import block_step
from sklearn_gflow.dynamics.callbacks import Callback, Callbacks, Event
from sklearn_gflow.dynamics.epochs import Epoch
from sklearn_gflow.dynamics.iterates import Iterates
from sklearn_gflow.dynamics.members import side_by_side
from sklearn_gflow.dynamics.options import FlowOptions, metric_scale
from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.point import Origin, Point
from sklearn_gflow.dynamics.progress import Progress
from sklearn_gflow.dynamics.rows import (
    AllRows,
    BlockOptions,
    Cuts,
    Place,
    RowSource,
    evaluated,
    in_chunks,
)
from sklearn_gflow.dynamics.state import Keeper, State
from sklearn_gflow.dynamics.trajectory import Carried, Trajectory
from sklearn_gflow.dynamics.walks import walked
from sklearn_gflow.geometry import (
    Cost,
    DifferentiableMap,
    FactorizationError,
)

__all__ = ["block_flow"]

# An epoch may raise the loss by this share of the least loss that was recorded, and of the loss at
# the start. The noise of long steps explains the first. Over the start less is allowed, since short
# steps cannot make up for it where little is to be gained.
_RISE, _RISE_OVER_START = 0.5, 0.1
# Rises below this share of the loss at the start come from the rounding of single precision.
_RISE_FLOOR = 1e-6
# An epoch is given up where its blocks met this many times the loss that is allowed after it.
_LOST = 2.0
_MOST_HALVINGS = 10
# Where a closing epoch follows.
_CLOSED = (
    Outcome.REACHED_END, Outcome.MAX_ITER, Outcome.EARLY_STOPPED, Outcome.NOTHING_GAINED
)  # fmt: skip
_BLOCKS = BlockOptions(256)
_FLOWING, _CLOSING, _DONE = range(3)
# Of the loop, besides the parts that know their own state.
_CHANGING = (
    "phase", "ended", "gone", "least_met", "undone", "rejected", "last_step", "closed_from"
)  # fmt: skip


def block_flow(
    source: RowSource,
    theta: Tensor,
    epochs: Sequence[Epoch],
    options: FlowOptions = FlowOptions(),
    blocks: BlockOptions = _BLOCKS,
    *,
    probe: tuple[DifferentiableMap, Cost],
    kernel: DifferentiableMap | None = None,
    callbacks: Sequence[Callback] = (),
    origin: Origin | None = None,
    closing: Epoch | None = None,
    keeper: Keeper | None = None,
) -> Trajectory:
    """Follow the α-flow over random row blocks.

    A step of length h on block B is the frozen flow of that block with the ridge
    ε·mean diag G_B: for the squared error Δθ = Dᵀ f(G_B + ε·mean diag G_B) r_B with the f of
    `exponential`. For α > 0 without a ridge a `chord` follows. After each epoch the loss of all
    rows is evaluated, or that of the probe. An epoch that brought it to more than half above the
    least, a tenth above the start, or out of the finite numbers, is undone, and all that is left of
    the way is gone with steps half as long. Where the blocks met twice that loss before their
    steps, the epoch is undone at once.

    Parameters
    ----------
    source : RowSource
        The rows.
    theta : Tensor of shape (K,)
        θ₀; not changed. Steps may be computed in less precision, and are added up in this one.
    epochs : sequence of Epoch
        The way; see `decaying_epochs`, `timed_epochs`.
    options : FlowOptions
        α, c, tolerances. ``damping`` is ε of the largest blocks, relative to the block, and
        rises as the share of their rows falls; ``max_iter`` bounds the epochs, undone ones not
        counted.
    blocks : BlockOptions
        How the rows are cut.
    probe : (DifferentiableMap, Cost)
        Of the rows whose outputs the trajectory records. Its precision need not be that of θ.
    kernel : DifferentiableMap, optional
        Of the rows whose Gram gives rank and condition at the start and after each epoch.
    callbacks : sequence of Callback
        They see the start and the end of every epoch, at the outputs of the probe. An epoch that
        they reject is undone.
    origin : Origin, optional
        Where the flow began that this one goes on with; by default it begins here.
    closing : Epoch, optional
        One more, over all rows and from the best point of the callbacks, where one of them ended
        the flow or the epochs are used up. Its end is the solution.
    keeper : Keeper, optional
        Of the state of this flow, between its blocks.

    Returns
    -------
    Trajectory
        A point for the start and one for each epoch, with that loss. The column "undone" counts
        the epochs that were undone before it. Failure is an outcome.
    """
    begun = theta if origin is None else origin.theta
    point = Point.at(*probe, 0.0, begun.to(probe[0].dtype))
    hung = Callbacks(callbacks)
    loop = _BlockLoop(
        source, options, blocks, probe, kernel, hung,
        trajectory=Trajectory(source.total_weight, metric_scale(point.tangent, options)),
        left=list(epochs)[::-1],
        iterates=Iterates.at(theta, averaged=blocks.averaged),
        cuts=Cuts(blocks, source.n_samples),
        keeper=keeper,
    )  # fmt: skip
    del point
    try:
        loop.begin(origin)
        if keeper is not None and keeper.state is not None:
            loop.restore(keeper.state)
        loop.run()
        loop.trajectory.selected = hung.best
        if closing is not None and hung.best is not None and loop.trajectory.outcome in _CLOSED:
            loop.close(*hung.best, closing)
    finally:
        hung.end(loop.trajectory)
    return loop.trajectory


@dataclass
class _BlockLoop:
    """State of one run of `block_flow`."""

    source: RowSource
    options: FlowOptions
    blocks: BlockOptions
    probe: tuple[DifferentiableMap, Cost]
    kernel: DifferentiableMap | None
    callbacks: Callbacks
    trajectory: Trajectory
    left: list[Epoch]  # in reverse: the next epoch is the last of the list
    iterates: Iterates
    cuts: Cuts
    keeper: Keeper | None
    place: Place | None = None  # in the epoch that is under way
    phase: int = _FLOWING
    ended: str | None = None  # the name of the outcome, once there is one
    gone: tuple[float, float] | None = None  # time τ of what was closed, and the loss after it
    least_met: float = math.inf  # of the losses that the blocks of an epoch met
    undone: int = 0
    rejected: bool = False  # whether one of the undone epochs was rejected by a callback
    last_step: Tensor | None = None
    closed_from: tuple[int, Tensor] | None = None  # callbacks have another best point after it
    share: float = 1.0  # of the rows of the largest blocks, in the epoch that is under way
    failure: str = ""

    def begin(self, origin: Origin | None) -> None:
        """Record the start, and show it to the callbacks."""
        if self.blocks.carried is not None:
            self.last_step = self.blocks.carried.last_step
        theta = self.iterates.shown
        begun = self.all_rows = self._evaluated(theta)
        self.point, first = self._point(0.0, begun.loss, theta), None
        if origin is not None:
            begun = self._evaluated(origin.theta)
            first = self._point(-origin.tau, begun.loss, origin.theta)
        self.progress = Progress(begun.residual, begun.loss, begun.least, self.options)
        self.highest = begun.loss
        self._record(Event(self.point, origin=first))

    def state(self) -> State:
        """All that blocks have changed; θ after the last epoch, if it is shown, is recorded."""
        return {
            **{name: part.state() for name, part in self._parts().items()},
            **{name: getattr(self, name) for name in _CHANGING},
            "left": [tuple(epoch) for epoch in self.left],
            "all_rows": tuple(self.all_rows),
            "iterates": self.iterates.plain(),
            "place": self.place and self.place.plain(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to where the flow was left, be it between two blocks of an epoch."""
        for name, part in self._parts().items():
            part.restore(state[name])
        for name in _CHANGING:
            setattr(self, name, state[name])
        self.left = [Epoch(*epoch) for epoch in state["left"]]
        self.all_rows, self.iterates = AllRows(*state["all_rows"]), Iterates(*state["iterates"])
        self.place = state["place"] and Place.of(state["place"])
        recorded = self.trajectory
        self.point = self._point(recorded.tau[-1], recorded.loss[-1], recorded.thetas[-1])

    def _parts(self) -> dict[str, Any]:
        return {
            "trajectory": self.trajectory, "cuts": self.cuts,
            "progress": self.progress, "callbacks": self.callbacks,
        }  # fmt: skip

    def _keep(self, *, ended: bool = False) -> None:
        if self.keeper is not None:
            self.keeper.keep(self.state, ended=ended)

    def run(self) -> None:
        if self.ended is None and (outcome := self._flow()) is not None:
            self.ended = outcome.name
            self._keep(ended=True)
        self.trajectory.carried = self._carried()
        self.trajectory.detail = self._detail()
        if self.ended is not None:
            self.trajectory.outcome = Outcome[self.ended]

    def _flow(self) -> Outcome | None:
        """Go over epochs; why they ended, or None where they failed, which the record tells."""
        while (outcome := self._finished()) is None:
            after = self._advance()
            if self.failure:
                after = Outcome.FACTORIZATION_FAILED
            if isinstance(after, Outcome):
                self.trajectory.outcome = after
                return None
            if after is not None:
                before, (self.point, self.all_rows) = self.point, after
                self.progress.count(before.loss, self.point.loss)
                self._record(Event(self.point, before))
            self._keep()
        return outcome

    def close(self, best: int, theta: Tensor, epoch: Epoch) -> None:
        """One epoch over all rows from the best point; its end is the solution, unless it is worse.

        Where it fails, or ends with more loss than the flow began with, the best point stays.
        """
        recorded = self.trajectory
        if self.phase != _DONE:
            before = self._point(recorded.tau[-1], recorded.loss[best], theta)
            if self.phase == _FLOWING:
                self.phase, self.iterates = _CLOSING, Iterates.at(theta, averaged=False)
                self.left, self.last_step, self.closed_from = [epoch], None, (best, theta)
            self.cuts.take_all()
            gone, loss = self.gone or (0.0, before.loss)
            self.point = self._point(before.tau + gone, loss, self.iterates.shown)
            while self.left or self.place:
                after = self._advance()
                recorded.detail = self._detail()
                if self.failure or isinstance(after, Outcome):
                    return
                if after is not None:
                    self.point = after[0]
                    self.gone = self.point.tau - before.tau, self.point.loss
                self._keep()
            if not self.point.loss <= recorded.loss[0]:
                return  # there was only noise to learn, and the best point stays
            self._record(Event(self.point, before))
            self.phase = _DONE
            self._keep(ended=True)
        recorded.selected, recorded.closed_from = None, self.closed_from
        recorded.carried = self._carried()

    def _carried(self) -> Carried:
        return Carried(self.cuts.generator, self.last_step)

    def _detail(self) -> str:
        """What the outcome does not say."""
        if not self.undone:
            return self.failure
        fault = "raised the loss or were rejected" if self.rejected else "raised the loss"
        left = "were undone, the rest of the way went with shorter steps"
        return f"{self.failure}{self.undone} epochs {fault} and {left}"

    def _finished(self) -> Outcome | None:
        start = self.progress.initial + self.trajectory.loss[0]
        if not math.isfinite(start + self.trajectory.scale):
            return Outcome.DIVERGED
        if self.progress.converged(self.all_rows.residual):
            return Outcome.CONVERGED
        if self.callbacks.outcome is not None:
            return self.callbacks.outcome
        if not self.left and self.place is None:
            return Outcome.REACHED_END
        return self.progress.exhausted(self.trajectory.n_steps)

    def _advance(self) -> tuple[Point, AllRows] | Outcome | None:
        """Try the epoch that is under way, or the next one."""
        place = self.place or Place(self.left.pop(), self.cuts.generator, self.iterates)
        after = self._try(self.point, place)
        self.place = None
        return after

    def _try(self, point: Point, place: Place) -> tuple[Point, AllRows] | Outcome | None:
        """The point after an epoch; None where it was undone, an outcome where that is no use."""
        epoch = place.epoch
        iterates, met = self._epoch(place)
        if self.failure:
            return None
        theta = iterates.shown
        # An epoch that was given up on the way need not be evaluated.
        after = self._evaluated(theta) if self._bears(met) else AllRows(met, 0.0, 0.0)
        if after.loss <= self._bound():  # which is false where the loss is NaN
            end = self._point(point.tau + epoch.length, after.loss, theta)
            if not self.callbacks.veto or self.callbacks.accepts(point, end):
                self.iterates, self.least_met = iterates, min(met, self.least_met)
                return end, after
            return self._undo(epoch, Outcome.REJECTED)
        finite = math.isfinite(after.loss)
        return self._undo(epoch, Outcome.STEP_UNDERFLOW if finite else Outcome.DIVERGED)

    def _evaluated(self, theta: Tensor) -> AllRows:
        if self.blocks.sampled:
            return evaluated([self.probe], self.probe[1].total_weight, theta)
        own = self.source if self.blocks.walk is None else self.blocks.walk
        found = evaluated(in_chunks(own), self.source.total_weight, theta)
        return found if self.blocks.walk is None else found.of_all(self.blocks.walk)

    def _epoch(self, place: Place) -> tuple[Iterates, float]:
        """Let every block that is left flow once; stops early where the epoch is lost.

        The second is what the blocks had of the loss, each before its step: of all N rows it is
        as much as their loss, while nothing blows up.
        """
        self.cuts.generator = place.generator
        self.share = place.epoch.share
        blocks, iterates, met = self.cuts.epoch(self.share), place.iterates, place.met
        lengths = place.epoch.steps(len(blocks))
        for k in range(place.done, len(blocks)):
            step, loss = self._over(blocks[k], iterates.last, lengths[k], met)
            met += loss
            if step is None or not self._bears(met):
                break
            iterates = iterates.moved(step, self.share)
            self.place = place._replace(iterates=iterates, done=k + 1, met=met)
            self._keep()
        return iterates, met

    def _over(self, rows: Tensor, at: Tensor, h: float, met: float) -> tuple[Tensor | None, float]:
        """Δθ of a block, and what it had of the loss before."""
        total = self.source.total_weight
        if (walk := self.blocks.walk) is not None:
            step = partial(self._step, h=h)
            way, loss, last = walked(
                walk, rows, self.share, at, self.blocks.momentum, self.last_step, step
            )
            self.last_step, self.failure = last if self.blocks.momentum else None, ""
            return way, loss / total
        output_map, cost = self.source.block(rows)
        point = Point.at(output_map, cost, 0.0, at.to(output_map.dtype))
        loss = point.loss * cost.total_weight / total
        return self._step(output_map, cost, point, h) if self._bears(met + loss) else None, loss

    def _step(
        self, output_map: DifferentiableMap, cost: Cost, point: Point, h: float
    ) -> Tensor | None:
        """Δθ of one block; None where it is not to be had."""
        step_of = partial(self._step_of_one, cost, h)
        step = side_by_side(output_map, cost, point, self.last_step, step_of)
        self.last_step = step if self.blocks.momentum else None
        return step

    def _step_of_one(
        self, cost: Cost, h: float, output_map: DifferentiableMap, point: Point,
        n_members: int, last: Tensor | None,
    ) -> Tensor | None:  # fmt: skip
        if self.blocks.parabolic and cost.bounded:
            h, cost = h * cost.unit, cost.parabola(point.outputs, point.residual)
            point = replace(point, residual=cost.residual(point.outputs))
        # A row bears as much of the ridge in blocks of any size, whose eigenvalues grow with it.
        options = replace(self.options, damping=self.options.damping / self.share)
        scale = self.trajectory.scale * n_members
        kept = None if last is None else self.blocks.momentum * last
        try:
            step, solver = block_step(output_map, cost, point, h, options, scale, kept)
        except FactorizationError as error:
            self.failure = str(error)
            return None
        self.trajectory.solvers.append(solver)
        return step

    def _bound(self) -> float:
        """The largest loss that an epoch may end with."""
        # The least loss, and not the last, counts: many small rises would add up to a large one.
        start = self.highest
        bound = min((1 + _RISE) * min(self.trajectory.loss), (1 + _RISE_OVER_START) * start)
        return bound + _RISE_FLOOR * start

    def _bears(self, met: float) -> bool:
        """Whether an epoch whose blocks met that loss may go on; where it is NaN it may not."""
        bound = self._bound()
        if self.blocks.averaged:  # what blocks meet is above the loss of the mean
            bound = max(bound, (1 + _RISE) * min(self.least_met, self.trajectory.loss[0]))
        return met <= _LOST * bound

    def _undo(self, epoch: Epoch, reason: Outcome) -> Outcome | None:
        """Put the epoch back, and halve the steps of all that are left; the reason, if in vain."""
        self.undone += 1
        self.rejected |= reason is Outcome.REJECTED
        self.last_step = None
        if self.undone > _MOST_HALVINGS:
            return reason
        self.left = [half for rest in [*self.left, epoch] for half in reversed(rest.halves())]
        return None

    def _point(self, tau: float, loss: float, theta: Tensor) -> Point:
        """θ with the outputs of the probe and the loss of all rows."""
        output_map, cost = self.probe
        tangent = output_map.linearize(theta.to(output_map.dtype))
        return Point(tau, theta, tangent, loss, cost.residual(tangent.outputs))

    def _record(self, event: Event) -> None:
        point = event.point
        self.trajectory.record(point, math.nan, keep_path=self.options.store_path)
        if self.kernel is not None and math.isfinite(point.loss):
            tangent = self.kernel.linearize(point.theta)
            self.trajectory.look_at_kernel(tangent, self.options.rcond)
        self.trajectory.add_columns({"undone": float(self.undone)})
        tell = self.callbacks.start if event.before is None else self.callbacks.step
        self.trajectory.add_columns(tell(event))
