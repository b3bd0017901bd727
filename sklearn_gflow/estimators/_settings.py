"""The settings of a fit: one frozen record, in which every "auto" has been resolved.

Parameters stay as the user gave them. What they mean for a table of some shape is settled here,
once, before training begins; nothing after it looks at parameters again. A search asks the record
for another α and t_end (`Settings.at`). Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch

from sklearn_gflow.dynamics import (
    Epoch,
    FlowOptions,
    decaying_epochs,
    open_epochs,
    tau_from_t,
    timed_epochs,
)
from sklearn_gflow.estimators._memory import Demand, Room, check_memory
from sklearn_gflow.estimators._ridges import Dampings, open_ridge, open_rows
from sklearn_gflow.estimators._tensors import ITEMSIZES, check_device, generator_of
from sklearn_gflow.estimators._validation import (
    check_alpha,
    check_fast,
    check_schedule,
    check_streamed,
)
from sklearn_gflow.geometry import SOLVERS, Loss, Shape, Solver, enough_damping, solver_for
from sklearn_gflow.geometry.losses import SquaredLoss

__all__ = ["FULL_BATCH_SIZE", "LEAST_SHARE", "SMOOTH_START", "Settings"]

FULL_BATCH_SIZE = 2000
_BLOCK_ROWS = 256
# Scale of the first layer at a smooth start; chosen together with the defaults of α and t_end.
SMOOTH_START = 0.3
# Where the default ends with all rows at once, and of few rows in blocks.
_T_END = 0.95
# From so many rows on a flow over blocks goes on while rows held out gain by it; of fewer a tenth
# says too little. On 14 tables the best of 40 epochs was the 3rd to the 40th.
_OPEN_ROWS, _MOST_EPOCHS = 1000, 40
# Of large tables as many epochs as make so many blocks, but these at least.
_MOST_BLOCKS, _LEAST_EPOCHS = 30_000, 6
# Of several networks that share them each may have so many.
LEAST_SHARE = 8
_SQUARED = SquaredLoss()
# So many vectors of all parameters are held at once, and so many bytes of a step besides outputs.
_VECTORS, _STEP_BYTES = 12, 512
# From this ridge on the rounding of float32 is small beside it; in blocks it must also be enough
# for their factor.
_SINGLE_PRECISION_DAMPING = 1e-4


@dataclass(frozen=True)
class Settings:
    """What the parameters of an estimator mean for a table.

    Attributes
    ----------
    given : mapping
        The parameters by name, as the user gave them.
    shape : Shape
        Of D on all training rows.
    loss : Loss
        Its ``ridge`` and ``block_ridge`` are those of the defaults.
    any_precision : bool
        See `Family`.
    row_numbers : int
        See `Family`.
    chunk : bool
        Whether the rows are part of something larger, as those of ``partial_fit``.
    streamed : bool
        Whether they lie in partitions, and are never all in memory.
    device : torch.device
        Where tensors live.
    seed : int
        Of the start, the blocks and the subsamples.
    alpha, t_end : float
        α and the stopping time.
    open_ended : bool
        Whether rows held out say when to stop, and not ``t_end``.
    times : tuple of float or None
        Times t of the steps; None leaves them to the flow.
    batch_rows : int or None
        Rows of a block; None for the full batch.
    solver : Solver
        The back end of the training: that of blocks, where it goes in blocks.
    damping : float
        The ridge of the training, relative to the mean of the Gram's diagonal.
    block_damping : float
        That of blocks, which a chunk has also where it is a single block.
    init_scale : float
        Scale of the first layer at the start.
    n_members : int
        Of how many networks the model is the mean.
    """

    given: Mapping[str, Any]
    shape: Shape
    loss: Loss
    any_precision: bool
    row_numbers: int
    chunk: bool
    streamed: bool
    device: torch.device
    seed: int
    alpha: float
    t_end: float
    open_ended: bool
    times: tuple[float, ...] | None
    batch_rows: int | None
    solver: Solver
    damping: float
    block_damping: float
    init_scale: float
    n_members: int = 1

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any],
        shape: Shape,
        seed: int,
        *,
        loss: Loss = _SQUARED,
        any_precision: bool = True,
        row_numbers: int = 0,
        chunk: bool = False,
        streamed: bool = False,
    ) -> Settings:
        """Resolve the parameters for a table.

        Raises
        ------
        ValueError
            If parameters are out of range, or ask for what excludes each other.
        GramMemoryError
            If a Gram that training asks for does not fit.
        """
        alpha, device = check_alpha(given["alpha"]), check_device(given["device"])
        if streamed:
            check_streamed(given)
        room = _room_for_steps(given, shape, device)
        automatic = isinstance(given["t_end"], str)
        t_end = _T_END if automatic else float(given["t_end"])
        times = check_schedule(given["schedule"], t_end)
        dampings = Dampings.of(given, alpha, loss)
        beside = ITEMSIZES[given["dtype"]] * (
            _VECTORS * shape.n_params + row_numbers * shape.n_samples
        )
        rows = _rows_of_a_block(
            given, shape, dampings, replace(room, available=room.available - beside),
            chunk=chunk, streamed=streamed,
        )  # fmt: skip
        in_blocks = rows is not None
        check_fast(given, alpha, t_end, squared=loss.squared, whole=chunk or not in_blocks)
        open_ended = (
            automatic and in_blocks and not chunk and times is None
            and given["early_stopping"] != "loo" and shape.n_samples >= _OPEN_ROWS
        )  # fmt: skip
        rows = open_rows(given, loss, shape, rows) if open_ended else rows
        if open_ended and given["damping"] == "auto":
            dampings = replace(dampings, blocks=open_ridge(loss, shape, rows))
        settings = cls(
            given=given,
            shape=shape,
            loss=loss,
            any_precision=any_precision,
            row_numbers=row_numbers,
            chunk=chunk,
            streamed=streamed,
            device=device,
            seed=seed,
            alpha=alpha,
            t_end=t_end,
            open_ended=open_ended,
            times=None if times is None else tuple(times),
            batch_rows=rows,
            # The other half is for the flow.
            solver=solver_for(given["solver"], shape.n_outputs, in_blocks=in_blocks).within(
                (room.available - beside) // 2
            ),
            damping=dampings.blocks if in_blocks else dampings.whole,
            block_damping=dampings.blocks,
            init_scale=_init_scale(given["init_scale"], alpha, in_blocks=in_blocks),
        )
        settings.check_memory(room)
        return settings

    def at(self, alpha: float, t_end: float) -> Settings:
        """The same for another α and another end."""
        ends = {"schedule": "adaptive"} if self.fast else {}
        return self.with_parameters(alpha=alpha, t_end=t_end, **ends)

    def with_parameters(self, **changed: Any) -> Settings:
        """The same with other parameters; the start stays that of this record."""
        given = {**self.given, **changed, "init_scale": self.init_scale}
        settings = self.of(
            given, self.shape, self.seed,
            loss=self.loss, any_precision=self.any_precision, row_numbers=self.row_numbers,
            chunk=self.chunk, streamed=self.streamed,
        )  # fmt: skip
        return replace(settings, n_members=self.n_members)

    def damping_at(self, alpha: float) -> float:
        """The relative ridge that this training would have with another α."""
        dampings = Dampings.of(self.given, alpha, self.loss)
        return dampings.blocks if self.in_blocks else dampings.whole

    # -- what follows from it ----------------------------------------------------------------------

    @property
    def in_blocks(self) -> bool:
        """Whether training goes over blocks of rows."""
        return self.batch_rows is not None

    @property
    def fast(self) -> bool:
        """Whether only the end of the flow is asked for."""
        return np.ndim(self.given["schedule"]) == 0 and self.given["schedule"] == "fast"

    @property
    def by_leave_one_out(self) -> bool:
        """Whether leave-one-out says when to stop."""
        return isinstance(self.given["early_stopping"], str)

    @property
    def dtype(self) -> str:
        """Of θ, of the full batch and of predictions."""
        return str(self.given["dtype"])

    @property
    def block_dtype(self) -> str:
        """Of the steps over blocks; θ itself stays in the precision of the user."""
        outputs = 1 if self.solver.forms(self.shape) == "K̄" else self.shape.n_outputs
        enough = enough_damping(outputs * (self.batch_rows or 0), torch.float32)
        drowned = self.block_damping < enough
        return self.dtype if drowned else self._single(self.block_damping)

    @property
    def quick_dtype(self) -> str:
        """Of a training that is judged and not kept."""
        return self._single(self.damping)

    def _single(self, damping: float) -> str:
        """float32 where its rounding is small beside the ridge."""
        harmless = damping >= _SINGLE_PRECISION_DAMPING and self.any_precision
        return "float32" if harmless else self.dtype

    @property
    def left_out_solver(self) -> Solver:
        """What leave-one-out takes the Gram for: eigenvectors of it, or of a shared kernel."""
        solver = solver_for(self.given["solver"], self.shape.n_outputs, in_blocks=True)
        return SOLVERS["eigh"] if solver.matrix_free else solver

    @cached_property
    def options(self) -> FlowOptions:
        """The constants of the flow."""
        given = self.given
        scale = given["metric_scale"]
        return FlowOptions(
            alpha=self.alpha,
            solver=self.solver,
            rcond=given["rcond"],
            damping=self.damping,
            metric_scale=None if isinstance(scale, str) else float(scale),
            tol=given["tol"],
            max_iter=given["max_iter"],
            n_iter_no_change=given["n_iter_no_change"],
            store_path=bool(given["store_path"]),
        )

    def times_until(self, t_end: float) -> list[float] | None:
        """The times t of the steps up to another end."""
        return None if self.times is None else [t for t in self.times if t <= t_end]

    def epochs(self, t_end: float) -> list[Epoch]:
        """The way in blocks; without an end or a number of epochs, ``max_iter`` is that number."""
        tau_end = float(tau_from_t(t_end))
        if self.times is None:
            return decaying_epochs(tau_end, self.given["max_iter"] if t_end == 1 else None)
        if np.ndim(self.given["schedule"]) == 0:
            return decaying_epochs(tau_end, len(self.times))
        return timed_epochs([float(tau) for tau in tau_from_t(self.times) if tau <= tau_end])

    @property
    def open_epochs(self) -> list[Epoch]:
        """The way in blocks while rows held out gain; an epoch over all rows may follow."""
        n_epochs = min(max(self.affordable_epochs, _LEAST_EPOCHS), _MOST_EPOCHS)
        if self.n_members > 1:
            n_epochs = min(n_epochs, max(_MOST_EPOCHS // self.n_members, LEAST_SHARE))
        n_epochs = max(1, min(n_epochs, self.given["max_iter"] - 1))
        # In units of the curvature: a loss that is half as curved takes twice the time.
        return open_epochs(n_epochs, 1 / self.loss.unit, rows=self.batch_rows)

    @property
    def affordable_epochs(self) -> int:
        """How many make no more blocks than the largest tables take."""
        assert self.batch_rows is not None
        return _MOST_BLOCKS * self.batch_rows // self.shape.n_samples

    def generator(self) -> torch.Generator:
        """A generator at the seed."""
        return generator_of(self.seed)

    def check_memory(self, room: Room | None = None) -> None:
        """Refuse what would not fit.

        Raises
        ------
        GramMemoryError
            Naming the bytes and the parameters to change.
        """
        room = room or _room_for_steps(self.given, self.shape, self.device)
        itemsize = ITEMSIZES[self.dtype]
        if self.by_leave_one_out:
            self.check_left_out_memory(room)
        if self.batch_rows is None:
            cure = ("set batch_size, to 'auto' for instance",)
            stored = self.given["store_gram"] is True
            demand = Demand(
                "full-batch training", self.shape, self.solver, itemsize, cure,
                whole=True, stored=stored,
            )  # fmt: skip
        else:
            shape = Shape(self.batch_rows, self.shape.n_outputs, self.shape.n_params)
            cure = ("lower batch_size",)
            demand = Demand("training in blocks", shape, self.solver, itemsize, cure)
        left = check_memory(demand, room)
        n_params, rows = self.shape.n_params, demand.shape.n_samples
        left.after(
            f"a network of {n_params} parameters", _VECTORS * itemsize * n_params,
            "lower hidden_layer_sizes",
        ).after(
            f"the layers of a network on {rows} rows", itemsize * rows * self.row_numbers,
            "lower hidden_layer_sizes or batch_size, or set dtype='float32'",
        )  # fmt: skip

    def check_left_out_memory(self, room: Room | None = None) -> None:
        """Refuse leave-one-out whose Gram would not fit.

        Raises
        ------
        GramMemoryError
            Naming the bytes and the parameters to change.
        """
        cure = ("set early_stopping=True (a search: cv=5)",)
        # It takes the Gram of the outputs, however few parameters there are.
        shape = replace(self.shape, n_params=max(self.shape.n_params, self.shape.size))
        demand = Demand("leave-one-out", shape, self.left_out_solver, ITEMSIZES[self.dtype], cure)
        check_memory(demand, room or _room_for_steps(self.given, self.shape, self.device))


def _room_for_steps(given: Mapping[str, Any], shape: Shape, device: torch.device) -> Room:
    """The memory that is there, less the record of steps whose number was given."""
    room, schedule = Room.on(device, given["max_memory"]), given["schedule"]
    if not isinstance(schedule, Integral) or isinstance(schedule, bool):
        return room
    kept = shape.size + (shape.n_params if given["store_path"] else 0)
    a_step = _STEP_BYTES + ITEMSIZES[given["dtype"]] * kept
    return room.after(
        f"the record of schedule={schedule} steps", int(schedule) * a_step,
        "set schedule='adaptive', or fewer steps",
    )  # fmt: skip


def _init_scale(init_scale: Any, alpha: float, *, in_blocks: bool) -> float:
    if not isinstance(init_scale, str):
        return float(init_scale)
    # Smooth starts generalise better. At α = 1 in the full batch there is no ridge by default, and
    # D⁺ needs a well-conditioned G.
    return 1.0 if alpha == 1 and not in_blocks else SMOOTH_START


def _rows_of_a_block(
    given: Mapping[str, Any],
    shape: Shape,
    dampings: Dampings,
    room: Room,
    *,
    chunk: bool,
    streamed: bool,
) -> int | None:
    """Rows of a block; None for the full batch, which a block of all rows is too.

    "auto" takes the full batch while the matrix that is factorised and the one that it is made
    of have at most ``FULL_BATCH_SIZE``² entries: up to that many outputs, and more with few
    parameters. A back end without such a matrix takes it while its vectors fit. A chunk is part
    of something larger, and "auto" cuts it whatever its size. Rows in partitions are taken at once
    where there are at most ``FULL_BATCH_SIZE`` outputs.

    Raises
    ------
    ValueError
        If parameters exclude each other.
    """
    solver = solver_for(given["solver"], shape.n_outputs)
    batch_size, exponential = given["batch_size"], given["method"] == "exponential"
    _check_ridge(given, solver, shape, dampings)
    if batch_size is None or (batch_size != "auto" and batch_size >= shape.n_samples):
        return None
    if batch_size != "auto":
        if not exponential:
            raise ValueError(
                f"method={given['method']!r} integrates the full batch; set batch_size=None, or "
                "method='exponential' for blocks"
            )
        return int(batch_size)
    if solver.needs_ridge(shape) and dampings.whole == 0:
        return _BLOCK_ROWS  # blocks have a ridge by default
    if not exponential:
        return None
    small = solver.entries(shape) <= FULL_BATCH_SIZE**2
    if solver.matrix_free:
        small = solver.working_bytes(shape, ITEMSIZES[given["dtype"]]) <= room.available
    few = shape.size <= FULL_BATCH_SIZE
    return None if (few if streamed else small) and not chunk else _BLOCK_ROWS


def _check_ridge(
    given: Mapping[str, Any], solver: Solver, shape: Shape, dampings: Dampings
) -> None:
    """Refuse a back end that is no reference, or needs a ridge that is not there."""
    name = given["solver"]
    stated = SOLVERS[name] if isinstance(name, str) else name
    if not stated.exact and given["method"] != "exponential":
        raise ValueError(
            f"solver={name!r} is an approximation, and method={given['method']!r} is there as a "
            "reference; set solver='auto', or method='exponential'"
        )
    if not solver.needs_ridge(shape):
        return
    # The small eigenvalues of G are not those of the matrix that stands for it. Without a ridge
    # the steps of a flow would get shorter and shorter.
    if dampings.blocks == 0:
        raise ValueError(f"solver={name!r} needs a ridge; set damping > 0, or damping='auto'")
    if given["batch_size"] is None and dampings.whole == 0:
        raise ValueError(
            f"solver={name!r} needs a ridge in the full batch; set damping > 0, or batch_size"
        )
