"""What both estimators share: validate → build → flow → expose."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_gflow.diagnostics import Deviation, KernelDrift, LeaveOneOut
from sklearn_gflow.dynamics import (
    METHODS,
    Adaptive,
    BestPoint,
    BlockOptions,
    Epoch,
    Fixed,
    FlowOptions,
    LossReached,
    Monitor,
    Observer,
    Outcome,
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
from sklearn_gflow.estimators._rows import (
    Rows,
    TableRows,
    TrainingData,
    row_chunks,
    subsample,
)
from sklearn_gflow.estimators._validation import (
    Interval,
    StrOptions,
    block_rows,
    block_solver,
    check_alpha,
    check_device,
    check_fitted_data,
    check_gram_memory,
    check_schedule,
    check_weights,
    hold_out,
    module_with_seed,
    seed_generator,
    to_numpy,
    to_tensor,
    validate_data,
)
from sklearn_gflow.exceptions import ConvergenceWarning
from sklearn_gflow.geometry import (
    ACTIVATIONS,
    SOLVERS,
    Cost,
    LayeredNetwork,
    Linearization,
    ModuleFamily,
    OutputMap,
    SquaredError,
    Tangent,
    TangentFactor,
    tangent_spectrum,
)

__all__ = ["BaseAdaptedFlow", "Rows", "TrainedFlow", "TrainingData"]

_STORED_GRAM_BYTES = 64 * 2**20
_DRIFT_PROBES = 2
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


@dataclass(frozen=True)
class TrainedFlow:
    """A flow that ended, and the rows on which its outputs and its kernel are known.

    Attributes
    ----------
    output_map, cost
        Of the rows whose outputs ``trajectory`` recorded.
    trajectory : Trajectory
    rows : ndarray of int
        Those rows among the training rows: all, or in blocks a subsample.
    kernel_rows : ndarray of int
        Places among ``rows`` of those whose Gram is exposed.
    """

    output_map: OutputMap
    cost: Cost
    trajectory: Trajectory
    rows: np.ndarray
    kernel_rows: np.ndarray

    def linearize(self) -> Linearization | Tangent:
        """The kernel's rows to first order at the solution, with the Gram that the flow formed."""
        trajectory, output_map = self.trajectory, self.output_map
        all_rows = len(self.kernel_rows) == len(output_map.X) and output_map.weights is None
        if trajectory.end and all_rows and trajectory.solution == trajectory.n_steps:
            return trajectory.end
        return output_map.family.linearize(trajectory.theta, output_map.X[self.kernel_rows])


class _Progress:
    """An observer that prints a line a step and adds no column."""

    def start(self, point: Point) -> dict[str, float]:
        print(f"start: loss = {point.loss:.8g}")
        return {}

    def step(self, before: Point, factor: TangentFactor, after: Point) -> dict[str, float]:
        print(
            f"tau = {after.tau:.6g}, loss = {after.loss:.8g}, "
            f"rank = {factor.rank}, condition = {factor.condition:.3g} ({factor.solver})"
        )
        return {}

    def epoch(self, tau: float, loss: float, theta: Tensor) -> dict[str, float]:
        print(f"tau = {tau:.6g}, loss = {loss:.8g}")
        return {}


class BaseAdaptedFlow(BaseEstimator):
    """Parameters, training and tangent kernel of the adapted-flow estimators."""

    classes_: np.ndarray
    history_: dict[str, np.ndarray]
    initial_output_: np.ndarray
    n_iter_: int
    target_mean_: np.ndarray
    target_scale_: np.ndarray
    _activation: str
    _left_out: LeaveOneOut | None = None  # of the same start, from a search
    _metric_scale: float
    _sizes: tuple[int, ...]
    _theta: np.ndarray
    _theta_reference: np.ndarray

    _doc_link_module = "sklearn_gflow"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "init_scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "t_end": [Interval(Real, 0, 1, closed="right")],
        "schedule": [
            StrOptions({"adaptive"}),
            Interval(Integral, 1, None, closed="left"),
            "array-like",
        ],
        "method": [StrOptions({"exponential", *METHODS})],
        "solver": [StrOptions(set(SOLVERS))],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "rcond": [Interval(Real, 0, 1, closed="left"), None],
        "damping": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "metric_scale": [StrOptions({"trace"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"loo"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "module": [callable, None],
        "store_gram": [StrOptions({"auto"}), "boolean"],
        "store_path": ["boolean"],
        "warm_start": ["boolean"],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str],
        "dtype": [StrOptions({"float64", "float32"})],
    }

    def ntk(self, X: ArrayLike, Y: ArrayLike | None = None) -> np.ndarray:
        """Tangent kernel Θ(xᵢ, yⱼ) (3.14)–(3.15) of the fitted network.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            First sample set.
        Y : array-like of shape (m, n_features), optional
            Second sample set; X itself by default.

        Returns
        -------
        ndarray of shape (n·Q, m·Q)
            Sample-major: rows ``i·Q … (i+1)·Q − 1`` belong to sample i. Q is ``n_outputs_``.
            Outputs are those of the network, in units of the scaled targets.
        """
        check_is_fitted(self)
        first = self._linearize(check_fitted_data(self, X))
        if Y is None:
            return to_numpy(first.gram())
        return to_numpy(first.cross_gram(self._linearize(check_fitted_data(self, Y))))

    # -- validate ----------------------------------------------------------------------------

    def _validate_rows(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        *,
        chunk: bool = False,
        **check_y: Any,
    ) -> Rows:
        """X, y and weights, without the rows whose weight is zero."""
        check_alpha(self.alpha)
        further_chunk = chunk and self._continues(chunk=True)
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            order="C",
            ensure_min_samples=1 if further_chunk else 2,
            reset=not further_chunk,
            **check_y,
        )
        weights = check_weights(sample_weight, X)
        if weights is None or weights.all():
            return Rows(X, y, weights)
        return Rows(X, y, weights).take(weights > 0)

    def _split(
        self, rows: Rows, X_val: Any, y_val: Any, labels: np.ndarray | None, **check_y: Any
    ) -> tuple[Rows, Rows | None]:
        """Rows to train on, and those that say when to stop: held out, or the user's own."""
        by_split = self.early_stopping and not isinstance(self.early_stopping, str)
        if X_val is None and y_val is None:
            if not by_split:
                return rows, None
            training, held_out = hold_out(
                len(rows.X), self.validation_fraction, self.random_state, labels
            )
            return rows.take(training), rows.take(held_out)
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val belong together; hand over both or neither")
        if not by_split:
            raise ValueError(
                "X_val and y_val are only used by early_stopping=True, and it is "
                f"{self.early_stopping!r}; set early_stopping=True or leave them out"
            )
        X_val, y_val = validate_data(
            self, X_val, y_val, dtype=[np.float64, np.float32], order="C", reset=False, **check_y
        )
        return rows, Rows(X_val, y_val, None)

    def _check_leave_one_out(self) -> None:
        """Refuse the settings whose frozen flow is not the one that is left out of."""
        unfit = {
            "loss='log_loss'": getattr(self, "loss", "squared_error") != "squared_error",
            "warm_start=True after a fit": self._continues(),
        }
        for setting, met in unfit.items():
            if met:
                raise ValueError(
                    "leave-one-out needs the squared error and a start that has not seen the "
                    f"targets, not {setting}; change it, or set early_stopping=True (a search: "
                    "cv=5)"
                )

    # -- build -------------------------------------------------------------------------------

    def _new_family(self, n_features: int, n_outputs: int) -> LayeredNetwork | ModuleFamily:
        """The family f_θ."""
        if self.module is None:
            return LayeredNetwork((n_features, *self._hidden_widths(), n_outputs), self.activation)
        seed = seed_generator(self.random_state).initial_seed()
        module = module_with_seed(self.module, n_features, n_outputs, seed)
        return ModuleFamily(self._placed(module), n_outputs)

    def _start(self, family: LayeredNetwork | ModuleFamily, *, in_blocks: bool) -> Tensor:
        """A random θ₀ in the family."""
        if isinstance(family, ModuleFamily):
            return family.initial()
        scale = self.init_scale
        if isinstance(scale, str):
            # Generalisation asks for a smooth start, D⁺ without a ridge for a well-conditioned G.
            scale = 1.0 if self.alpha == 1 and not in_blocks else SMOOTH_START
        return family.initial(seed_generator(self.random_state), input_scale=scale)

    def _damping(self, alpha: float) -> float:
        """The ridge of the full batch; "auto" has none at α = 0 and 1, where the theorems are."""
        if not isinstance(self.damping, str):
            return float(self.damping)
        to_the_end = self.t_end == 1 and not self.early_stopping  # only D⁺ itself arrives
        linear = getattr(self, "loss", "squared_error") == "squared_error"
        return _RIDGE * alpha * (1 - alpha) if linear and not to_the_end else 0.0

    def _hidden_widths(self) -> list[int]:
        widths = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        for width in widths:
            if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
                raise ValueError(
                    "hidden_layer_sizes must hold positive integers, one a hidden layer; "
                    f"got {self.hidden_layer_sizes!r}"
                )
        return [int(width) for width in widths]

    def _placed(self, module: torch.nn.Module) -> torch.nn.Module:
        dtype = to_tensor([0.0], self.dtype, torch.device("cpu")).dtype
        return module.to(device=check_device(self.device), dtype=dtype)

    def _build(
        self, data: TrainingData, *, chunk: bool = False
    ) -> tuple[LayeredNetwork | ModuleFamily, Tensor, int | None]:
        """The family, the start θ, and the rows of a block (None: full batch)."""
        device = check_device(self.device)
        n_samples, n_outputs = data.targets.shape
        family = self._new_family(data.X.shape[1], n_outputs)
        rows = block_rows(
            self.batch_size, n_samples, n_outputs, family.n_params,
            solver=self.solver, method=self.method, damping=self._damping(self.alpha),
            dtype=self.dtype, device=device, chunk=chunk,
        )  # fmt: skip
        if isinstance(self.early_stopping, str):
            check_gram_memory(
                n_samples, n_outputs, family.n_params, self.dtype,
                block_solver(self.solver, n_outputs), device, leave_one_out=True,
            )  # fmt: skip
        check_gram_memory(
            n_samples, n_outputs, family.n_params, self.dtype,
            self.solver if rows is None else block_solver(self.solver, n_outputs), device,
            batch_size=rows, stores=self.store_gram is True,
        )  # fmt: skip
        sizes = getattr(family, "sizes", (data.X.shape[1], n_outputs))
        if not self._continues(chunk=chunk):
            initial = self._start(family, in_blocks=rows is not None)
            self._theta = self._theta_reference = to_numpy(initial)
        elif len(self._theta) != family.n_params or sizes != self._sizes:
            raise ValueError(
                f"{self._continuing(chunk)} continues from the last fit, but its network has "
                f"{len(self._theta)} parameters and this one {family.n_params}; keep "
                "hidden_layer_sizes and the data's shape, or start anew by fit with "
                "warm_start=False"
            )
        elif isinstance(family, ModuleFamily):
            family = self._fitted_family()  # buffers may be random
        self._sizes, self._activation = sizes, self.activation
        theta = to_tensor(self._theta, self.dtype, device)
        if isinstance(family, ModuleFamily):
            state = family.module.state_dict()
            self._module_state = {name: to_numpy(value) for name, value in state.items()}
            family.check_rows(theta, to_tensor(data.X[:2], self.dtype, device))
        return family, theta, rows

    def _rows(
        self, family: LayeredNetwork | ModuleFamily, data: TrainingData, dtype: str
    ) -> TableRows:
        reference = to_tensor(self._theta_reference, dtype, check_device(self.device))
        return TableRows(family, data, reference, dtype, self._cost)

    def _cost(self, output_map: OutputMap, targets: Tensor) -> Cost:
        return SquaredError(output_map.scale(targets), output_map.total_weight)

    def _continues(self, *, chunk: bool = False) -> bool:
        """Whether training goes on from the last solution: a chunk's does if there is one."""
        return (chunk or bool(self.warm_start)) and hasattr(self, "n_iter_")

    @staticmethod
    def _continuing(chunk: bool) -> str:
        """What makes training continue, for messages."""
        return "partial_fit" if chunk else "warm_start=True"

    # -- flow --------------------------------------------------------------------------------

    def _options(self) -> FlowOptions:
        return FlowOptions(
            alpha=check_alpha(self.alpha),
            solver=self.solver,
            rcond=self.rcond,
            damping=self._damping(self.alpha),
            metric_scale=None if isinstance(self.metric_scale, str) else float(self.metric_scale),
            tol=self.tol,
            max_iter=self.max_iter,
            n_iter_no_change=self.n_iter_no_change,
            store_path=bool(self.store_path),
        )

    def _train(
        self,
        data: TrainingData,
        held_out: TrainingData | None,
        labels: np.ndarray | None,
    ) -> TrainedFlow:
        family, theta, batch_size = self._build(data)
        judge = None if held_out is None else self._monitor(family, held_out)
        until: LossReached | None = None
        t_end, at_start = self.t_end, False
        if isinstance(self.early_stopping, str):
            best, loss = self._leave_one_out_time(family, data, theta)
            t_end, at_start = best or float(self.loo_times_[1]), best == 0
            # Where the network learns faster than its linearisation, it has learnt as much before.
            until = LossReached(loss)
        if batch_size is None:
            trained = self._train_at_once(family, data, theta, t_end, judge or until)
        else:
            epochs = self._epochs(t_end)
            trained = self._train_in_blocks(
                family, data, theta, batch_size, self._options(), epochs, labels, judge
            )
        if at_start:
            trained.trajectory.selected = 0, theta
        self._report(trained.trajectory, t_end)
        return trained

    def _train_chunk(self, data: TrainingData, labels: np.ndarray | None = None) -> TrainedFlow:
        """One pass over the blocks of a chunk, in steps as long as the first of a fit, or ½."""
        if self.method != "exponential":
            raise ValueError(
                f"method={self.method!r} integrates the full batch; set method='exponential' "
                "for partial_fit"
            )
        if self.early_stopping:
            raise ValueError(
                f"partial_fit cannot stop early, and early_stopping={self.early_stopping!r}; set "
                "early_stopping=False, and score between the chunks"
            )
        family, theta, batch_size = self._build(data, chunk=True)
        options = self._options()
        if options.metric_scale is None and self._continues(chunk=True):
            # α is measured in the unit of the first chunk.
            options = replace(options, metric_scale=self._metric_scale)
        h = min(self._epochs(self.t_end)[0].first, _CHUNK_LENGTH)
        trained = self._train_in_blocks(
            family, data, theta, batch_size or len(data.X), options, [Epoch(h, h)], labels,
            chunk=True,
        )  # fmt: skip
        self._report(trained.trajectory, float(t_from_tau(h)))
        return trained

    def _train_at_once(
        self,
        family: LayeredNetwork | ModuleFamily,
        data: TrainingData,
        theta: Tensor,
        t_end: float,
        monitor: Monitor | None,
        marks: Sequence[float] = MARKS,
    ) -> TrainedFlow:
        output_map, cost = self._rows(family, data, self.dtype).block(slice(None))
        options, times = self._options(), check_schedule(self.schedule, self.t_end)
        observers: list[Observer] = [KernelDrift(_DRIFT_PROBES)]
        if self.verbose:
            observers.append(_Progress())
        deviations = []
        if isinstance(cost, SquaredError):
            deviations.append(Deviation(cost.targets, options.alpha))
        if times is not None:
            times = [t for t in times if t <= t_end]
        if self.method == "exponential":
            schedule: Schedule = Adaptive(float(tau_from_t(t_end)), marks=marks if monitor else ())
            if times is not None:
                schedule = Fixed.at_times(times)
            observers += deviations
            trajectory = flow(output_map, cost, theta, schedule, options, observers, monitor)
        else:
            trajectory = reference_flow(
                output_map, cost, theta, options,
                method=self.method, t_end=t_end, times=times,
                companions=deviations, observers=observers, monitor=monitor,
            )  # fmt: skip
        rows = np.arange(len(data.X))
        return TrainedFlow(output_map, cost, trajectory, rows, self._kernel_rows(output_map))

    def _kernel_rows(self, output_map: OutputMap) -> np.ndarray:
        """Rows whose Gram is exposed after a full batch: all, or some where none was formed."""
        n_samples, n_outputs = len(output_map.X), output_map.family.n_outputs
        small = output_map.X.element_size() * output_map.size**2 <= _STORED_GRAM_BYTES
        if self.solver != "krylov" or small or self.store_gram is True:
            return np.arange(n_samples)
        generator = seed_generator(self.random_state)
        return subsample(n_samples, _kernel_size(n_outputs), generator)

    def _train_in_blocks(
        self,
        family: LayeredNetwork | ModuleFamily,
        data: TrainingData,
        theta: Tensor,
        batch_size: int,
        options: FlowOptions,
        epochs: list[Epoch],
        labels: np.ndarray | None,
        monitor: BestPoint | None = None,
        *,
        chunk: bool = False,
    ) -> TrainedFlow:
        options = replace(
            options,
            damping=_BLOCK_DAMPING if isinstance(self.damping, str) else options.damping,
            solver=block_solver(self.solver, family.n_outputs),
        )
        generator = seed_generator(self.random_state)
        rows = subsample(len(data.X), _PROBE_ROWS, generator, labels)
        output_map, cost = self._rows(family, data.take(rows), self.dtype).block(slice(None))
        kernel_rows = np.arange(min(len(rows), _kernel_size(family.n_outputs)))
        kernel = OutputMap(family, output_map.X[kernel_rows])
        source = self._rows(family, data, self._block_dtype(family, options.damping))
        seed = generator.initial_seed()
        if self._continues(chunk=chunk):
            seed += self.n_iter_  # else all chunks were cut alike
        trajectory = block_flow(
            source,
            theta,
            epochs,
            options,
            BlockOptions(batch_size, bool(self.shuffle), _BLOCK_MOMENTUM, seed),
            probe=source.block(torch.from_numpy(rows)),
            kernel=None if chunk else kernel,  # costs as much as a small chunk; at its end, once
            observers=[_Progress()] if self.verbose else [],
            monitor=monitor,
        )
        return TrainedFlow(output_map, cost, trajectory, rows, kernel_rows)

    def _block_dtype(self, family: LayeredNetwork | ModuleFamily, damping: float) -> str:
        """Precision of the steps; θ itself stays in that of the user."""
        harmless = damping >= _SINGLE_PRECISION_DAMPING and isinstance(family, LayeredNetwork)
        return "float32" if harmless else self.dtype

    def _epochs(self, t_end: float) -> list[Epoch]:
        """The way in blocks; without an end or a number of epochs, ``max_iter`` is that number."""
        times, tau_end = check_schedule(self.schedule, self.t_end), float(tau_from_t(t_end))
        if times is None:
            return decaying_epochs(tau_end, self.max_iter if t_end == 1 else None)
        if np.ndim(self.schedule) == 0:
            return decaying_epochs(tau_end, len(times))
        return timed_epochs([float(tau) for tau in tau_from_t(times) if tau <= tau_end])

    # -- when to stop ------------------------------------------------------------------------

    def _monitor(self, family: LayeredNetwork | ModuleFamily, held_out: TrainingData) -> BestPoint:
        """Judges every point of the path by rows that it is not trained on."""
        device = check_device(self.device)
        X = to_tensor(held_out.X, self.dtype, device)
        reference = family.outputs(to_tensor(self._theta_reference, self.dtype, device), X)

        def judge(point: Point) -> tuple[float, float]:
            model = to_numpy(family.outputs(point.theta, X) - reference)
            return self._judge(held_out.start + model, held_out)

        return BestPoint(judge, "validation", self.n_iter_no_change, self.tol)

    def _leave_one_out_time(
        self, family: LayeredNetwork | ModuleFamily, data: TrainingData, theta: Tensor
    ) -> tuple[float, float]:
        """The time t with the best leave-one-out predictions, and the linearised loss there.

        Keeps what all times scored. The scores come from the start alone, so that the flow need
        not go further than this.
        """
        times = check_schedule(self.schedule, self.t_end)
        if times is None:
            times = [t for t in t_from_tau(MARKS).tolist() if t < self.t_end] + [self.t_end]
        self.loo_times_ = np.array([0.0, *times])
        alphas, taus = [self.alpha], self.loo_times_.tolist()
        (judged,), _ = self._judge_left_out(family, data, theta, alphas, taus)
        self.loo_scores_, self.loo_losses_, training = judged.T
        best = max(range(len(judged)), key=lambda k: (judged[k][0], -judged[k][1]))
        return float(self.loo_times_[best]), float(training[best])

    def _judge_left_out(
        self,
        family: LayeredNetwork | ModuleFamily,
        data: TrainingData,
        theta: Tensor,
        alphas: Sequence[float],
        times: Sequence[float],
    ) -> tuple[np.ndarray, LeaveOneOut]:
        """What the linearised flows score, shape (n_alphas, n_times, 3), and by what.

        Score and loss of their leave-one-out predictions, copies of a row left out together, and
        the loss of training.
        """
        self._check_leave_one_out()
        data = data.distinct()
        output_map, cost = self._rows(family, data, self.dtype).block(slice(None))
        start = Point.at(output_map, cost, 0.0, theta)
        options = self._options()
        shared = block_solver(self.solver, data.targets.shape[1]) == "shared"
        left_out = self._left_out or LeaveOneOut.at(start, shared=shared, rcond=options.rcond)
        scale, unit = metric_scale(start.tangent, options), mean_diagonal(start.tangent)

        def judge(alpha: float, tau: float) -> tuple[float, float, float]:
            flow_of = alpha, tau, scale, self._damping(alpha) * unit
            score, loss = self._judge(data.targets - to_numpy(left_out.residuals(*flow_of)), data)
            return score, loss, left_out.training_loss(*flow_of)

        taus = [float(tau) for tau in tau_from_t(times)]
        judged = [[judge(float(alpha), tau) for tau in taus] for alpha in alphas]
        return np.array(judged), left_out

    # -- many (α, t) from one start, for the searches ------------------------------------------

    def _leave_one_out_grid(
        self, data: TrainingData, alphas: Sequence[float], times: Sequence[float]
    ) -> np.ndarray:
        """(score, loss) by leave-one-out, shape (n_alphas, n_times, 2)."""
        self.set_params(early_stopping="loo")
        family, theta, _ = self._build(data)
        judged, self._left_out = self._judge_left_out(family, data, theta, alphas, times)
        return judged[..., :2]

    def _held_out_grid(
        self,
        data: TrainingData,
        held_out: TrainingData,
        alphas: Sequence[float],
        times: Sequence[float],
    ) -> np.ndarray:
        """(score, loss) on rows held out, shape (n_alphas, n_times, 2): one flow for each α."""
        family, theta, batch_size = self._build(data)
        taus = [float(tau) for tau in tau_from_t(times)]
        grid = []
        for alpha in alphas:
            self.set_params(alpha=float(alpha), t_end=float(times[-1]))
            monitor = self._monitor(family, held_out)
            if batch_size is None:
                trained = self._train_at_once(family, data, theta, self.t_end, monitor, taus)
            else:
                epochs = self._epochs(self.t_end)
                trained = self._train_in_blocks(
                    family, data, theta, batch_size, self._options(), epochs, None, monitor
                )
            trajectory = trained.trajectory
            history = trajectory.history()
            judged = np.stack([history["validation_score"], history["validation_loss"]], axis=1)
            # Where the flow came to rest before, later times score what its end does.
            index = np.searchsorted(trajectory.tau, np.array(taus) * (1 - 1e-9))
            grid.append(judged[np.minimum(index, len(judged) - 1)])
        return np.array(grid)

    @abstractmethod
    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> tuple[TrainingData, TrainingData | None, np.ndarray | None]:
        """Rows to train on, rows to stop by, and the classes of the former."""

    @abstractmethod
    def _judge(self, outputs: np.ndarray, rows: TrainingData) -> tuple[float, float]:
        """(score, cost) of outputs for the given rows, the score being that of ``score``."""

    def _report(self, trajectory: Trajectory, t_end: float) -> None:
        """Turn the outcome of a flow into an error or a warning, where it is one."""
        outcome, detail = trajectory.outcome, trajectory.detail
        if outcome in (Outcome.DIVERGED, Outcome.FACTORIZATION_FAILED):
            reached = trajectory.t[-1] if trajectory.tau else 0.0
            raise ValueError(
                f"Training failed at t={reached:.3g}: {outcome.value}. Scale the "
                "features, for instance with StandardScaler, or set damping > 0. " + detail
            )
        if not outcome.complete:
            cure = "Raise max_iter, lower t_end, or raise tol."
            if outcome is Outcome.STEP_UNDERFLOW:
                cure = "Scale the features, for instance with StandardScaler, or raise damping."
            warnings.warn(
                f"The flow stopped at t={trajectory.t[-1]:.6g} of t_end={t_end:.6g}: "
                f"{outcome.value}. {cure}",
                ConvergenceWarning,
                stacklevel=5,  # past the wrapper that validates parameters
            )

    # -- expose ------------------------------------------------------------------------------

    def _expose(self, trained: TrainedFlow) -> None:
        output_map, trajectory = trained.output_map, trained.trajectory
        theta = trajectory.theta
        self._theta = to_numpy(theta)
        self._metric_scale = trajectory.scale
        self.n_outputs_ = self._sizes[-1]
        family = output_map.family
        if isinstance(family, LayeredNetwork):
            layers = list(family.layers(torch.from_numpy(self._theta)))
            self.coefs_ = [to_numpy(W) for W, _ in layers]
            self.intercepts_ = [to_numpy(b) for _, b in layers]
            self.n_layers_ = len(self._sizes)
        elif isinstance(family, ModuleFamily):
            parameters = family.parameters(theta)
            self.parameters_ = {name: to_numpy(value) for name, value in parameters.items()}
        self._expose_path(trajectory)
        self._expose_scores(trajectory)
        self._expose_kernel(trained)
        self.history_["rank"][trajectory.solution] = self.ntk_rank_
        self.history_["condition"][trajectory.solution] = self.ntk_condition_

    def _expose_path(self, trajectory: Trajectory) -> None:
        names = ("deviation", "predicted_deviation", "ntk_drift")
        missing = {name: np.full(len(trajectory.tau), np.nan) for name in names}
        self.history_ = {**missing, **trajectory.history()}
        solution = trajectory.solution
        self.deviation_ = float(self.history_["deviation"][solution])
        self.predicted_deviation_ = float(self.history_["predicted_deviation"][solution])
        self.loss_curve_ = self.history_["loss"].tolist()
        self.loss_ = self.loss_curve_[solution]
        self.best_loss_ = min(self.loss_curve_)
        self.n_iter_ = trajectory.n_steps
        self.t_ = float(trajectory.t[solution])
        self._theta_path = (
            np.stack([to_numpy(theta) for theta in trajectory.thetas]) if self.store_path else None
        )
        self.solver_ = trajectory.solver
        self.outcome_ = trajectory.outcome.value
        if trajectory.detail:
            self.outcome_ += f" ({trajectory.detail})"

    def _expose_scores(self, trajectory: Trajectory) -> None:
        """What the points of the path scored on rows held out, where there were any."""
        for name in ("validation_scores_", "best_validation_score_"):
            if hasattr(self, name):  # of an earlier fit
                delattr(self, name)
        if "validation_score" in self.history_:
            self.validation_scores_ = self.history_["validation_score"]
            self.best_validation_score_ = float(self.validation_scores_[trajectory.solution])

    def _path(self) -> tuple[dict[str, np.ndarray], np.ndarray | None] | None:
        """History and parameters of the path up to now."""
        return (self.history_, self._theta_path) if hasattr(self, "history_") else None

    def _join_path(self, before: tuple[dict[str, np.ndarray], np.ndarray | None] | None) -> None:
        """Put the path over a chunk, which was exposed, behind the path before it."""
        if before is None:
            return
        (earlier, thetas), later = before, self.history_
        if thetas is not None and self._theta_path is not None:
            self._theta_path = np.concatenate([thetas, self._theta_path[1:]])
        later["s"] = earlier["s"][-1] + later["s"]
        later["t"] = 1 - (1 - earlier["t"][-1]) * (1 - later["t"])  # τ adds up, t = 1 − e^{−τ}
        first, second = (np.full(len(path["t"]), np.nan) for path in (earlier, later))
        self.history_ = {
            name: np.concatenate([earlier.get(name, first), later.get(name, second)[1:]])
            for name in {**earlier, **later}
        }
        self.loss_curve_ = self.history_["loss"].tolist()
        self.best_loss_ = min(self.loss_curve_)
        self.n_iter_ = len(self.loss_curve_) - 1
        self.t_ = float(self.history_["t"][-1])

    def _expose_kernel(self, trained: TrainedFlow) -> None:
        """The Gram on the training rows, its spectrum and rank, at the solution."""
        self.kernel_rows_ = trained.rows[trained.kernel_rows]
        linearization = trained.linearize()
        store = self.store_gram
        if store == "auto":
            size = linearization.outputs.numel()
            store = linearization.outputs.element_size() * size**2 <= _STORED_GRAM_BYTES
        gram = linearization.gram() if store else None
        spectrum = tangent_spectrum(linearization, gram=gram, rcond=self.rcond)
        self.ntk_gram_ = None if gram is None else to_numpy(gram)
        self.ntk_eigenvalues_ = to_numpy(spectrum.eigenvalues)
        self.ntk_rank_, self.ntk_condition_ = spectrum.rank, spectrum.condition

    # -- use ---------------------------------------------------------------------------------

    def _fitted_family(self) -> LayeredNetwork | ModuleFamily:
        """The family again: fitted state is arrays, so that it crosses machines and pickles."""
        if self.module is None:
            return LayeredNetwork(self._sizes, self._activation)
        n_features, n_outputs = self._sizes
        module = module_with_seed(self.module, n_features, n_outputs, 0)
        state = {name: torch.from_numpy(value) for name, value in self._module_state.items()}
        module.load_state_dict(state)
        return ModuleFamily(self._placed(module), n_outputs)

    def _linearize(
        self, X: np.ndarray, theta: np.ndarray | None = None, dtype: str | None = None
    ) -> Linearization:
        """f_θ(X) to first order, by default at the solution in the precision of the estimator."""
        device, dtype = check_device(self.device), dtype or self.dtype
        at = to_tensor(self._theta if theta is None else theta, dtype, device)
        return self._fitted_family().linearize(at, to_tensor(X, dtype, device))

    def _model(self, X: ArrayLike) -> np.ndarray:
        """f_θ(X) − f_θ₀(X) at the solution, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        return next(self._models(X, self._theta[None]))

    def _staged_models(self, X: ArrayLike) -> Iterator[np.ndarray]:
        """f_θ(X) − f_θ₀(X) at every recorded point."""
        check_is_fitted(self)
        if self._theta_path is None:
            raise ValueError(
                "staged predictions need the parameters along the path; set store_path=True "
                "before fit"
            )
        return self._models(X, self._theta_path)

    def _models(self, X: ArrayLike, thetas: np.ndarray) -> Iterator[np.ndarray]:
        return self._models_of(check_fitted_data(self, X), thetas)

    def _models_of(self, checked: np.ndarray, thetas: np.ndarray) -> Iterator[np.ndarray]:
        device = check_device(self.device)
        family = self._fitted_family()
        reference = to_tensor(self._theta_reference, self.dtype, device)

        def outputs(theta: Tensor) -> np.ndarray:
            parts = [
                to_numpy(family.outputs(theta, to_tensor(checked[rows], self.dtype, device)))
                for rows in row_chunks(len(checked))  # X may be mapped from disk
            ]
            return np.concatenate(parts)

        start = outputs(reference)
        for values in thetas:
            yield outputs(to_tensor(values, self.dtype, device)) - start


def _kernel_size(n_outputs: int) -> int:
    """Rows of the Gram that stands for a larger one."""
    return max(1, _KERNEL_SIZE // n_outputs)
