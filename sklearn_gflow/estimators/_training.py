"""From rows to a trained flow: network and start, full batch or blocks, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from sklearn_gflow.diagnostics import Deviation, KernelDrift, LeaveOneOut
from sklearn_gflow.dynamics import (
    Adaptive,
    BestPoint,
    BlockOptions,
    Callback,
    Epoch,
    Event,
    Fixed,
    FlowOptions,
    Point,
    Schedule,
    Trajectory,
    block_flow,
    decaying_epochs,
    flow,
    mean_diagonal,
    metric_scale,
    reference_flow,
    t_from_tau,
    tau_from_t,
    timed_epochs,
)
from sklearn_gflow.estimators._rows import TableRows, TrainingData, subsample
from sklearn_gflow.estimators._validation import (
    block_rows,
    block_solver,
    check_alpha,
    check_device,
    check_gram_memory,
    check_schedule,
    module_with_seed,
    place_module,
    seed_generator,
    to_numpy,
    to_tensor,
)
from sklearn_gflow.geometry import (
    Cost,
    FactorizationError,
    LayeredNetwork,
    Linearization,
    ModuleFamily,
    OutputMap,
    TangentMap,
)

__all__ = [
    "MARKS",
    "SMOOTH_START",
    "TrainedFlow",
    "Training",
    "is_small_gram",
    "new_family",
    "random_start",
    "rows_of_a_block",
]

# Times τ at which a path is scored, besides its own steps: dense enough to stop at the best.
MARKS = tuple(0.05 * 2 ** (k / 2) for k in range(19))
SMOOTH_START = 0.3  # scale of the first layer; chosen with the defaults of α and t_end
# Of the full batch, times α(1−α), in units of c: none at either end. Without a ridge D⁺ moves the
# modes of noise as fast as those of the signal. Chosen with the defaults of α and t_end.
_RIDGE = 1 / 3
# What blocks need where the user leaves it open, chosen on validation parts of seven tables
# (docs/benchmarks/blocks.md).
_BLOCK_DAMPING = 0.03
_BLOCK_MOMENTUM = 0.5
_CHUNK_LENGTH = 0.5  # of the steps over a chunk, at most: they do not decay, and noise goes with h
_SINGLE_PRECISION_DAMPING = 1e-4  # from here on the rounding of float32 drowns in the ridge
_PROBE_ROWS, _KERNEL_SIZE = 2000, 128  # rows with recorded outputs, outputs in the Gram
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

    def linearize(self) -> Linearization | TangentMap:
        """The kernel's rows to first order at the solution, with the Gram that the flow formed."""
        trajectory, output_map = self.trajectory, self.output_map
        all_rows = len(self.kernel_rows) == output_map.n_samples and output_map.weights is None
        if trajectory.end and all_rows and trajectory.solution == trajectory.n_steps:
            return trajectory.end
        return output_map.family.linearize(trajectory.theta, output_map.X[self.kernel_rows])


class _Progress(Callback):
    """Prints a line a step."""

    def start(self, event: Event) -> dict[str, float]:
        print(f"start: loss = {event.point.loss:.8g}")
        return {}

    def step(self, event: Event) -> dict[str, float]:
        line = f"tau = {event.point.tau:.6g}, loss = {event.point.loss:.8g}"
        if (factor := event.factor) is not None:
            line += f", rank = {factor.rank}, condition = {factor.condition:.3g} ({factor.solver})"
        print(line)
        return {}


# -- what is settled before a flow -------------------------------------------------------------


def new_family(
    parameters: BaseEstimator, n_features: int, n_outputs: int
) -> LayeredNetwork | ModuleFamily:
    """The family f_θ that the parameters of an estimator name."""
    if parameters.module is None:
        widths = _hidden_widths(parameters.hidden_layer_sizes)
        return LayeredNetwork((n_features, *widths, n_outputs), parameters.activation)
    seed = seed_generator(parameters.random_state).initial_seed()
    module = module_with_seed(parameters.module, n_features, n_outputs, seed)
    return ModuleFamily(place_module(module, parameters.dtype, parameters.device), n_outputs)


def _hidden_widths(hidden_layer_sizes: Any) -> list[int]:
    widths = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    for width in widths:
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
            raise ValueError(
                "hidden_layer_sizes must hold positive integers, one a hidden layer; "
                f"got {hidden_layer_sizes!r}"
            )
    return [int(width) for width in widths]


def random_start(
    parameters: BaseEstimator, family: LayeredNetwork | ModuleFamily, *, in_blocks: bool
) -> Tensor:
    """A random θ₀ in the family."""
    if isinstance(family, ModuleFamily):
        return family.initial()
    scale = parameters.init_scale
    if isinstance(scale, str):
        # Generalisation asks for a smooth start, D⁺ without a ridge for a well-conditioned G.
        scale = 1.0 if parameters.alpha == 1 and not in_blocks else SMOOTH_START
    return family.initial(seed_generator(parameters.random_state), input_scale=scale)


def rows_of_a_block(
    parameters: BaseEstimator,
    family: LayeredNetwork | ModuleFamily,
    n_samples: int,
    *,
    chunk: bool = False,
) -> int | None:
    """How many rows a block has whose Gram fits into memory; None for the full batch.

    Raises
    ------
    ValueError
        If parameters ask for blocks and for what has the full batch only.
    GramMemoryError
        If a Gram that training asks for does not fit.
    """
    device, n_outputs = check_device(parameters.device), family.n_outputs
    in_blocks = block_solver(parameters.solver, n_outputs)
    rows = block_rows(
        parameters.batch_size, n_samples, n_outputs, family.n_params,
        solver=parameters.solver, method=parameters.method,
        damping=_damping(parameters, parameters.alpha, in_blocks=False),
        block_damping=_damping(parameters, parameters.alpha, in_blocks=True),
        dtype=parameters.dtype, device=device, chunk=chunk,
    )  # fmt: skip
    if isinstance(parameters.early_stopping, str):
        check_gram_memory(
            n_samples, n_outputs, family.n_params, parameters.dtype, in_blocks, device,
            leave_one_out=True,
        )  # fmt: skip
    check_gram_memory(
        n_samples, n_outputs, family.n_params, parameters.dtype,
        parameters.solver if rows is None else in_blocks, device,
        batch_size=rows, stores=parameters.store_gram is True,
    )  # fmt: skip
    return rows


def _damping(parameters: BaseEstimator, alpha: float, *, in_blocks: bool) -> float:
    """The ridge; in the full batch "auto" has none at α = 0 and 1, where the theorems are."""
    if not isinstance(parameters.damping, str):
        return float(parameters.damping)
    if in_blocks:
        return _BLOCK_DAMPING
    to_the_end = parameters.t_end == 1 and not parameters.early_stopping  # only D⁺ itself arrives
    return _RIDGE * alpha * (1 - alpha) if _is_linear(parameters) and not to_the_end else 0.0


def _is_linear(parameters: BaseEstimator) -> bool:
    """Whether the residual is linear in the outputs: that of the squared error is."""
    return bool(getattr(parameters, "loss", "squared_error") == "squared_error")


# -- from the start on -------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A network at its start, the rows it is to learn from, and the ways to do so.

    Attributes
    ----------
    parameters : BaseEstimator
        The estimator, whose parameters are read; nothing else of it is, and nothing is written.
    family : LayeredNetwork or ModuleFamily
        f_θ.
    start : Tensor of shape (K,)
        θ where the flow begins.
    reference : ndarray of shape (K,)
        θ₀, whose outputs the model subtracts.
    data : TrainingData
        Rows to train on.
    labels : ndarray of shape (n_samples,) or None
        Their classes, each of which a subsample should know.
    batch_size : int or None
        Rows of a block; None for the full batch.
    make_cost : callable
        ``(output map, targets) -> Cost``.
    judge : callable
        ``(outputs, rows) -> (score, loss)``, of the model's outputs for the given rows.
    n_before : int or None
        Steps of the path that this one continues; None at a new start.
    """

    parameters: BaseEstimator
    family: LayeredNetwork | ModuleFamily
    start: Tensor
    reference: np.ndarray
    data: TrainingData
    labels: np.ndarray | None
    batch_size: int | None
    make_cost: Callable[[OutputMap, Tensor], Cost]
    judge: Callable[[np.ndarray, TrainingData], tuple[float, float]]
    n_before: int | None

    def until(
        self, t_end: float, monitor: Callback | None = None, marks: Sequence[float] = MARKS
    ) -> TrainedFlow:
        """Follow the flow up to a time, in the full batch or in blocks.

        The marks are times τ at which a monitor looks at the full batch, besides its steps.
        """
        if self.batch_size is None:
            return self._at_once(t_end, monitor, marks)
        # Blocks go to their end, unless scores say otherwise: a loss does not.
        scores = monitor if isinstance(monitor, BestPoint) else None
        return self._in_blocks(self._epochs(t_end), self._options(), t_end, scores)

    def over_chunk(self, unit: float | None) -> TrainedFlow:
        """One pass over the blocks of a chunk, in steps as long as the first of a fit, or ½.

        α is measured in the unit of the first chunk, unless the parameters give one.
        """
        options = self._options()
        if options.metric_scale is None:
            options = replace(options, metric_scale=unit)
        h = min(self._epochs(self.parameters.t_end)[0].first, _CHUNK_LENGTH)
        return self._in_blocks([Epoch(h, h)], options, float(t_from_tau(h)), chunk=True)

    @property
    def damped(self) -> bool:
        """Whether a ridge stands in D⁺."""
        return self._options().damping > 0

    def _options(self) -> FlowOptions:
        parameters = self.parameters
        scale = parameters.metric_scale
        return FlowOptions(
            alpha=check_alpha(parameters.alpha),
            solver=parameters.solver,
            rcond=parameters.rcond,
            damping=_damping(parameters, parameters.alpha, in_blocks=self.batch_size is not None),
            metric_scale=None if isinstance(scale, str) else float(scale),
            tol=parameters.tol,
            max_iter=parameters.max_iter,
            n_iter_no_change=parameters.n_iter_no_change,
            store_path=bool(parameters.store_path),
        )

    def _rows(self, data: TrainingData, dtype: str) -> TableRows:
        reference = to_tensor(self.reference, dtype, self.start.device)
        return TableRows(self.family, data, reference, dtype, self.make_cost)

    def _whole(self, data: TrainingData) -> tuple[OutputMap, Cost]:
        """The output map of rows and the cost on it, in the precision of the user."""
        return self._rows(data, self.parameters.dtype).block(slice(None))

    # -- the full batch ------------------------------------------------------------------------

    def _at_once(
        self, t_end: float, monitor: Callback | None, marks: Sequence[float]
    ) -> TrainedFlow:
        parameters, options = self.parameters, self._options()
        output_map, cost = self._whole(self.data)
        times = check_schedule(parameters.schedule, parameters.t_end)
        if times is not None:
            times = [t for t in times if t <= t_end]
        callbacks: list[Callback] = [KernelDrift(_DRIFT_PROBES)]
        if parameters.verbose:
            callbacks.append(_Progress())
        if cost.linear:
            callbacks.append(Deviation(cost.minimizer(torch.empty(0)), options.alpha))
        if monitor is not None:
            callbacks.append(monitor)
        if parameters.method == "exponential":
            schedule: Schedule = Adaptive(float(tau_from_t(t_end)), marks=marks if monitor else ())
            if times is not None:
                schedule = Fixed.at_times(times)
            trajectory = flow(output_map, cost, self.start, schedule, options, callbacks)
        else:
            trajectory = reference_flow(
                output_map, cost, self.start, options,
                method=parameters.method, t_end=t_end, times=times,
                callbacks=callbacks,
            )  # fmt: skip
        rows = np.arange(len(self.data.X))
        return TrainedFlow(output_map, cost, trajectory, t_end, rows, self._kernel_rows(output_map))

    def _kernel_rows(self, output_map: OutputMap) -> np.ndarray:
        """Rows whose Gram is exposed after a full batch: all, or some where none was formed."""
        parameters, n_samples = self.parameters, output_map.n_samples
        small = is_small_gram(
            output_map.n_samples * output_map.n_outputs, output_map.dtype.itemsize
        )
        if parameters.solver != "krylov" or small or parameters.store_gram is True:
            return np.arange(n_samples)
        generator = seed_generator(parameters.random_state)
        return subsample(n_samples, _kernel_size(self.family.n_outputs), generator)

    # -- blocks --------------------------------------------------------------------------------

    def _in_blocks(
        self,
        epochs: list[Epoch],
        options: FlowOptions,
        t_end: float,
        monitor: BestPoint | None = None,
        *,
        chunk: bool = False,
    ) -> TrainedFlow:
        parameters, family, data = self.parameters, self.family, self.data
        damping = _damping(parameters, options.alpha, in_blocks=True)  # a chunk may be one block
        solver = block_solver(parameters.solver, family.n_outputs)
        generator = seed_generator(parameters.random_state)
        rows = subsample(len(data.X), _PROBE_ROWS, generator, self.labels)
        output_map, cost = self._whole(data.take(rows))
        kernel_rows = np.arange(min(len(rows), _kernel_size(family.n_outputs)))
        kernel = OutputMap(family, output_map.X[kernel_rows])
        source = self._rows(data, self._block_dtype(damping))
        trajectory = block_flow(
            source,
            self.start,
            epochs,
            replace(options, damping=damping, solver=solver),
            self._block_options(generator.initial_seed()),
            probe=source.block(torch.from_numpy(rows)),
            kernel=None if chunk else kernel,  # costs as much as a small chunk; at its end, once
            callbacks=[
                *([_Progress()] if parameters.verbose else []),
                *([] if monitor is None else [monitor]),
            ],
        )
        return TrainedFlow(output_map, cost, trajectory, t_end, rows, kernel_rows)

    def _block_options(self, seed: int) -> BlockOptions:
        return BlockOptions(
            self.batch_size or len(self.data.X),
            bool(self.parameters.shuffle),
            _BLOCK_MOMENTUM,
            seed + (self.n_before or 0),  # else all chunks were cut alike
        )

    def _block_dtype(self, damping: float) -> str:
        """Precision of the steps; θ itself stays in that of the user."""
        harmless = damping >= _SINGLE_PRECISION_DAMPING and isinstance(self.family, LayeredNetwork)
        return "float32" if harmless else str(self.parameters.dtype)

    def _epochs(self, t_end: float) -> list[Epoch]:
        """The way in blocks; without an end or a number of epochs, ``max_iter`` is that number."""
        parameters, tau_end = self.parameters, float(tau_from_t(t_end))
        times = check_schedule(parameters.schedule, parameters.t_end)
        if times is None:
            return decaying_epochs(tau_end, parameters.max_iter if t_end == 1 else None)
        if np.ndim(parameters.schedule) == 0:
            return decaying_epochs(tau_end, len(times))
        return timed_epochs([float(tau) for tau in tau_from_t(times) if tau <= tau_end])

    # -- when to stop --------------------------------------------------------------------------

    def judged_by(self, held_out: TrainingData) -> BestPoint:
        """A monitor that scores every point of the path on rows that it is not trained on."""
        parameters, family = self.parameters, self.family
        X = to_tensor(held_out.X, parameters.dtype, self.start.device)
        theta = to_tensor(self.reference, parameters.dtype, self.start.device)
        reference = family.outputs(theta, X)

        def judge(point: Point) -> tuple[float, float]:
            model = to_numpy(family.outputs(point.theta, X) - reference)
            return self.judge(held_out.start + model, held_out)

        return BestPoint(judge, "validation", parameters.n_iter_no_change, parameters.tol)

    def judge_left_out(
        self,
        alphas: Sequence[float],
        times: Sequence[float],
        left_out: LeaveOneOut | None = None,
    ) -> tuple[np.ndarray, LeaveOneOut]:
        """What the linearised flows score, shape (n_alphas, n_times, 3), and by what.

        Score and loss of their leave-one-out predictions, copies of a row left out together, and
        the loss of training. The decomposition at this very start may be handed over.

        Raises
        ------
        ValueError
            If the frozen flow is not the one that is left out of, or its kernel is not finite.
        """
        self._check_left_out()
        data, options = self.data.distinct(), self._options()
        start = Point.at(*self._whole(data), 0.0, self.start)
        shared = block_solver(options.solver, self.family.n_outputs) == "shared"
        try:
            left_out = left_out or LeaveOneOut.at(start, shared=shared, rcond=options.rcond)
        except FactorizationError as error:
            raise ValueError(
                "Training failed at t=0: the Gram could not be factorised. Scale the features, "
                f"for instance with StandardScaler. {error}"
            ) from error
        scale, unit = metric_scale(start.tangent, options), mean_diagonal(start.tangent)
        in_blocks = self.batch_size is not None

        def judge(alpha: float, tau: float) -> tuple[float, float, float]:
            ridge = _damping(self.parameters, alpha, in_blocks=in_blocks) * unit
            flow_of = alpha, tau, scale, ridge
            residuals = to_numpy(left_out.residuals(*flow_of))
            score, loss = self.judge(data.targets - residuals, data)
            return score, loss, left_out.training_loss(*flow_of)

        taus = [float(tau) for tau in tau_from_t(times)]
        judged = [[judge(float(alpha), tau) for tau in taus] for alpha in alphas]
        return np.array(judged), left_out

    def _check_left_out(self) -> None:
        unfit = {
            "loss='log_loss'": not _is_linear(self.parameters),
            "warm_start=True after a fit": self.n_before is not None,
        }
        for setting, met in unfit.items():
            if met:
                raise ValueError(
                    "leave-one-out needs the squared error and a start that has not seen the "
                    f"targets, not {setting}; change it, or set early_stopping=True (a search: "
                    "cv=5)"
                )


def is_small_gram(size: int, itemsize: int) -> bool:
    """Whether a Gram of that size is kept without being asked for."""
    return itemsize * size**2 <= _STORED_GRAM_BYTES


def _kernel_size(n_outputs: int) -> int:
    """Rows of the Gram that stands for a larger one."""
    return max(1, _KERNEL_SIZE // n_outputs)
