"""From a network at its start to a trained flow: in the full batch, in blocks, over a chunk.

`Training` knows rows, network and settings, and nothing of estimators. When it stops is decided by
callbacks, which `_stopping` makes. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sklearn_gflow.diagnostics import Deviation, KernelDrift, Sensitivity
from sklearn_gflow.dynamics import (
    BlockOptions,
    Callback,
    Carried,
    Epoch,
    FlowOptions,
    Origin,
    Outcome,
    RowSource,
    Trajectory,
    block_flow,
    flow,
    reference_flow,
    share_of,
    t_from_tau,
)
from sklearn_gflow.estimators._checkpoint import FlowKeeper
from sklearn_gflow.estimators._importance import mean_squared_gradient, stretch
from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._progress import Clock, Teller
from sklearn_gflow.estimators._reading import runs_of
from sklearn_gflow.estimators._rows import TableRows, TrainingData, subsample
from sklearn_gflow.estimators._schedule import schedule_to
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.estimators._shares import OwnRows
from sklearn_gflow.estimators._tensors import to_tensor
from sklearn_gflow.estimators._threads import threads_of_blocks
from sklearn_gflow.geometry import Cost, Family, Loss, OutputMap, TangentMap, solver_for

__all__ = [
    "CALLBACKS",
    "LOOKED_AT",
    "MARKS",
    "Before",
    "Occasion",
    "TrainedFlow",
    "Training",
    "is_small_gram",
]

# Times τ at which a path is scored besides its own steps, so dense that the best is not missed.
MARKS = tuple(0.05 * 2 ** (k / 2) for k in range(19))
# How far a flow goes that says by what the inputs of the next are stretched.
LOOKED_AT = 0.95
# Momentum of blocks, chosen together with their ridge.
_BLOCK_MOMENTUM = 0.5
# Longest step over a chunk. These steps do not decay, and their noise grows with their length.
_CHUNK_LENGTH = 0.5
# In blocks the outputs of so many rows are recorded, and the Gram of so many outputs is exposed.
_PROBE_ROWS, _KERNEL_SIZE = 2000, 128
# The steps of the epoch over all rows that closes a flow which rows held out have ended. Of ½, ¼,
# two epochs from 1, and means of constant steps, it lost least where little was to be gained.
_CLOSING = Epoch(0.25, 0.0)
_STORED_GRAM_BYTES = 64 * 2**20
_DRIFT_PROBES = 2


@dataclass(frozen=True)
class TrainedFlow:
    """A flow that ended, and the rows on which its outputs and its kernel are known.

    Attributes
    ----------
    output_map, cost
        Of the rows whose outputs ``trajectory`` recorded.
    trajectory : Trajectory
        The record of the flow.
    t_end : float
        Where it was to end.
    rows : ndarray of int
        Those rows among the training rows: all, or in blocks a subsample.
    kernel_rows : ndarray of int
        Places among ``rows`` of those whose Gram is exposed.
    """

    output_map: OutputMap
    cost: Cost
    trajectory: Trajectory
    t_end: float
    rows: np.ndarray
    kernel_rows: np.ndarray

    def linearize(self) -> TangentMap:
        """The kernel's rows to first order at the solution, with the Gram that the flow formed."""
        trajectory, output_map = self.trajectory, self.output_map
        all_rows = len(self.kernel_rows) == output_map.n_samples and not output_map.weighted
        if trajectory.end and all_rows and trajectory.solution == trajectory.n_steps:
            return trajectory.end
        return output_map.plain(torch.from_numpy(self.kernel_rows)).linearize(trajectory.theta)


@dataclass(frozen=True)
class Occasion:
    """What a callback of every flow may want to know before it is made."""

    settings: Settings
    cost: Cost
    whole: bool
    """Whether the flow is that of the full batch."""
    origin: Tensor
    """Zero in output space."""


def _drift(occasion: Occasion) -> Callback | None:
    return KernelDrift(_DRIFT_PROBES) if occasion.whole else None


def _deviation(occasion: Occasion) -> Callback | None:
    """Only a cost that is linear in x has a line: its limit is the same from everywhere."""
    if not (occasion.whole and occasion.cost.linear):
        return None
    return Deviation(occasion.cost.minimizer(occasion.origin), occasion.settings.alpha)


def _sensitivity(occasion: Occasion) -> Callback | None:
    return Sensitivity(occasion.cost, occasion.settings.alpha) if occasion.whole else None


CALLBACKS: tuple[Callable[[Occasion], Callback | None], ...] = (_drift, _deviation, _sensitivity)
"""Makers of the callbacks of every flow of an estimator; None where one does not apply."""

COLUMNS = ("deviation", "predicted_deviation", "ntk_drift", "sensitivity")
"""Of these, the columns that ``history_`` always has, NaN where no callback filled them."""


@dataclass(frozen=True)
class Before:
    """The fit that a training goes on with.

    Attributes
    ----------
    unit : float
        c of its flow.
    tau : float
        The time τ at its solution.
    carried : Carried or None
        What its blocks have left.
    """

    unit: float
    tau: float
    carried: Carried | None


@dataclass(frozen=True)
class Training:
    """A network at its start, the rows it is to learn from, and the ways to do so.

    Attributes
    ----------
    settings : Settings
        How.
    family : Family
        f_θ.
    start : Tensor of shape (K,)
        θ where the flow begins.
    network : FittedNetwork
        The same as arrays, with θ₀ whose outputs the model subtracts.
    loss : Loss
        ℓ of a row.
    data : TrainingData
        Rows to train on.
    labels : ndarray of shape (n_samples,) or None
        Their classes, each of which a subsample should know.
    before : Before or None
        The fit that this one goes on with; None at a new start.
    teller : callable or None
        Makes the callback that tells of the flow; see `Task.teller`.
    keeper : FlowKeeper or None
        Of the state of its flow.
    own : OwnRows or None
        What this process has of rows that ranks share, of which ``data`` are those that all know.
    """

    settings: Settings
    family: Family
    start: Tensor
    network: FittedNetwork
    loss: Loss
    data: TrainingData
    labels: np.ndarray | None = None
    before: Before | None = None
    teller: Teller | None = None
    keeper: FlowKeeper | None = None
    own: OwnRows | None = None

    def at(self, alpha: float, t_end: float) -> Training:
        """The same for another α and another end."""
        return replace(self, settings=self.settings.at(alpha, t_end))

    def within(self, name: object) -> Training:
        """The same for one of several flows, whose state is kept by its own name or number."""
        return self if self.keeper is None else replace(self, keeper=self.keeper.under(str(name)))

    def quick(self) -> Training:
        """The same to be judged and not kept, in float32 where a ridge drowns the rounding."""
        dtype = self.settings.quick_dtype
        if dtype == self.settings.dtype:
            return self
        start = to_tensor(self.network.theta, dtype, self.start.device)
        return replace(self, settings=self.settings.with_parameters(dtype=dtype), start=start)

    def until(
        self,
        t_end: float,
        callbacks: Sequence[Callback] = (),
        marks: Sequence[float] = (),
        *,
        bare: bool = False,
    ) -> TrainedFlow:
        """Follow the flow up to a time, in the full batch or in blocks.

        The marks are times τ at which callbacks look at the full batch, besides its steps. Without
        the callbacks of every flow (``bare``) its record has the columns that cost nothing.
        """
        if self.settings.batch_rows is None:
            return self._at_once(t_end, callbacks, marks, bare=bare)
        settings = self.settings
        return self._in_blocks(settings.epochs(t_end), self._options(), t_end, callbacks, bare=bare)

    def while_gaining(
        self, callback: Callback, apart: np.ndarray | None, *, bare: bool = False
    ) -> TrainedFlow:
        """Follow the flow in blocks until a callback ends it, then close it over all rows.

        Blocks have no rows that are kept apart before. Where there are none the flow is not closed.
        """
        epochs = self.settings.open_epochs
        # Undone epochs make the others shorter, and not more.
        options = replace(self._options(), max_iter=len(epochs))
        trained = self._in_blocks(
            epochs, options, 1.0, [callback], bare=bare, averaged=True, apart=apart
        )
        if trained.trajectory.outcome in (Outcome.REACHED_END, Outcome.MAX_ITER):
            trained.trajectory.outcome = Outcome.OUT_OF_EPOCHS
        return trained

    def over_chunk(self) -> TrainedFlow:
        """One pass over the blocks of a chunk, in steps as long as the first of a fit, or ½.

        A chunk may be one block, and has the ridge and the back end of blocks nevertheless. α is
        measured in the unit of the first chunk, unless the parameters give one.
        """
        settings = self.settings
        options = replace(
            self._options(),
            damping=settings.block_damping,
            solver=solver_for(settings.given["solver"], self.family.n_outputs, in_blocks=True),
        )
        h = min(settings.epochs(settings.t_end)[0].first, _CHUNK_LENGTH)
        return self._in_blocks([Epoch(h, h)], options, float(t_from_tau(h)), (), chunk=True)

    def standing(self, *, chunk: bool) -> TrainedFlow:
        """A flow that goes nowhere: what is known of the start."""
        if chunk or self.settings.in_blocks:
            return self._in_blocks([], self._options(), 0.0, (), chunk=chunk)
        still = replace(self.settings, times=(0.0,))
        return replace(self, settings=still)._at_once(0.0, (), (), bare=False)

    def rows(self, data: TrainingData, dtype: str) -> TableRows:
        """Rows for a flow, in a precision."""
        reference = to_tensor(self.network.reference, dtype, self.start.device)
        return TableRows(self.family, data, reference, dtype, self.loss)

    def whole(self, data: TrainingData) -> tuple[OutputMap, Cost]:
        """The output map of rows and the cost on it, in the precision of the user."""
        return self.rows(data, self.settings.dtype).block(slice(None))

    def squared_gradients(
        self, theta: Tensor, n_rows: int, *, of_model: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """⟨Σ_q (∂f_q/∂xⱼ)²⟩ of each column at θ over so many rows, and its variance there.

        f is the model f_θ − f_θ₀, or else the network f_θ.
        """
        settings = self.settings
        start = to_tensor(self.network.reference, settings.dtype, theta.device)
        return mean_squared_gradient(
            self.family, theta, self.data, settings.dtype,
            n_rows=n_rows, seed=settings.seed, reference=start if of_model else None,
        )  # fmt: skip

    def factors(self, theta: Tensor, kept: float = 0.0) -> np.ndarray:
        """Factors of the columns, from the gradients of the network in its inputs at θ."""
        # Those of f_θ: the slope of the start keeps a column from vanishing that is not used yet.
        return stretch(*self.squared_gradients(theta, _PROBE_ROWS, of_model=False), kept)

    def _options(self) -> FlowOptions:
        """Constants of the flow; c is that of the fit that goes on."""
        options = self.settings.options
        if self.before is None or options.metric_scale is not None:
            return options
        return replace(options, metric_scale=self.before.unit)

    def _origin(self) -> Origin | None:
        """Where the fit began that goes on."""
        if self.before is None:
            return None
        theta = to_tensor(self.network.reference, self.settings.dtype, self.start.device)
        return Origin(theta, self.before.tau)

    # -- the full batch ------------------------------------------------------------------------

    def _at_once(
        self,
        t_end: float,
        callbacks: Sequence[Callback],
        marks: Sequence[float],
        *,
        bare: bool,
    ) -> TrainedFlow:
        settings, options, keeper = self.settings, self._options(), self.keeper
        output_map, cost = known = self.whole(self.data)
        if self.own is not None:
            output_map, cost, options, keeper = self.own.whole(self.whole, known, options, keeper)
        own = [] if bare else self._own_callbacks(output_map, cost, whole=True)
        callbacks = [*own, *callbacks, *self._told(lambda tau: float(t_from_tau(tau)) / t_end)]
        times = settings.times_until(t_end)
        method = settings.given["method"]
        if method == "exponential":
            schedule = schedule_to(t_end, settings, marks)
            trajectory = flow(
                output_map, cost, self.start, schedule, options, callbacks,
                self._origin(), keeper,
            )  # fmt: skip
        else:
            trajectory = reference_flow(
                output_map, cost, self.start, options, method=method,
                t_end=t_end, times=times, callbacks=callbacks, origin=self._origin(),
            )  # fmt: skip
        if self.own is not None:
            output_map, cost = self.own.shown(trajectory, output_map, known)
        rows = np.arange(len(self.data.X))
        return TrainedFlow(output_map, cost, trajectory, t_end, rows, self._kernel_rows(output_map))

    def _own_callbacks(self, output_map: OutputMap, cost: Cost, *, whole: bool) -> list[Callback]:
        occasion = Occasion(self.settings, cost, whole, output_map.origin)
        made = (maker(occasion) for maker in CALLBACKS)
        return [callback for callback in made if callback is not None]

    def _told(self, clock: Clock) -> list[Callback]:
        """Who tells of the flow comes last, and so has the columns of all others."""
        return [] if self.teller is None else [self.teller(clock)]

    def _kernel_rows(self, output_map: OutputMap) -> np.ndarray:
        """Rows whose Gram is exposed after a full batch: all, or some where none was formed."""
        settings, n_samples = self.settings, output_map.n_samples
        formed = not settings.solver.matrix_free or settings.given["store_gram"] is True
        if formed or is_small_gram(output_map.size, output_map.dtype.itemsize):
            return np.arange(n_samples)
        return subsample(n_samples, _kernel_size(self.family.n_outputs), settings.generator())

    # -- blocks --------------------------------------------------------------------------------

    def _in_blocks(
        self,
        epochs: list[Epoch],
        options: FlowOptions,
        t_end: float,
        callbacks: Sequence[Callback],
        *,
        chunk: bool = False,
        bare: bool = False,
        averaged: bool = False,
        apart: np.ndarray | None = None,
    ) -> TrainedFlow:
        settings, data, n_outputs = self.settings, self.data, self.family.n_outputs
        generator = settings.generator()
        rows = subsample(len(data.X), _PROBE_ROWS, generator, self.labels)
        output_map, cost = self.whole(data.take(rows))
        kernel_rows = np.arange(min(len(rows), _kernel_size(n_outputs)))
        source: RowSource = (known := self.rows(data, settings.block_dtype))
        blocks = self._block_options(averaged, apart, chunk=chunk)
        if self.own is not None:
            table = self.rows(self.own.data, settings.block_dtype)
            source, options, blocks = self.own.in_blocks(table, options, blocks)
        own = [] if bare else self._own_callbacks(output_map, cost, whole=False)
        with threads_of_blocks(
            settings.batch_rows or len(data.X), self.family.n_params, self.start.device
        ):
            trajectory = block_flow(
                source,
                self.start,
                epochs,
                options,
                blocks,
                probe=known.block(torch.from_numpy(rows)),
                # The kernel costs as much as a small chunk: no point of one has it.
                kernel=None if chunk or bare else output_map.plain(torch.from_numpy(kernel_rows)),
                callbacks=[*own, *callbacks, *self._told(partial(share_of, epochs))],
                origin=None if chunk else self._origin(),  # a chunk is judged by itself
                keeper=self.keeper,
                closing=None if blocks.apart is None else _CLOSING,
            )
        if self.own is not None:
            self.own.ended(trajectory)
        return TrainedFlow(output_map, cost, trajectory, t_end, rows, kernel_rows)

    def _block_options(
        self, averaged: bool, apart: np.ndarray | None, *, chunk: bool
    ) -> BlockOptions:
        settings = self.settings
        carried = None if self.before is None else self.before.carried
        if chunk and carried is not None:  # the last step was made for other rows
            carried = carried._replace(last_step=None)
        return BlockOptions(
            settings.batch_rows or len(self.data.X),
            bool(settings.given["shuffle"]),
            _BLOCK_MOMENTUM,
            settings.seed,
            carried,
            averaged,
            parabolic=True,
            apart=None if apart is None else torch.from_numpy(apart),
            runs=runs_of(self.data.X),
            sampled=averaged and self.own is None,  # ranks have to know the same loss
        )


def is_small_gram(size: int, itemsize: int) -> bool:
    """Whether a Gram of that size is kept without being asked for."""
    return itemsize * size**2 <= _STORED_GRAM_BYTES


def _kernel_size(n_outputs: int) -> int:
    """Rows of the Gram that stands for a larger one."""
    return max(1, _KERNEL_SIZE // n_outputs)
