"""What both estimators share: validate → build → flow → expose."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_gflow.diagnostics import Deviation, KernelDrift
from sklearn_gflow.dynamics import (
    METHODS,
    Adaptive,
    BlockOptions,
    Epoch,
    Fixed,
    FlowOptions,
    Observer,
    Outcome,
    Point,
    Trajectory,
    block_flow,
    decaying_epochs,
    flow,
    reference_flow,
    tau_from_t,
    timed_epochs,
)
from sklearn_gflow.estimators._rows import TableRows, TrainingData, subsample
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
    TangentFactor,
    tangent_spectrum,
)

__all__ = ["BaseAdaptedFlow", "TrainedFlow", "TrainingData"]

_STORED_GRAM_BYTES = 64 * 2**20
_DRIFT_PROBES = 4
# What blocks need where the user leaves it open; tuned on validation parts of tables.
_BLOCK_DAMPING = 0.01
_BLOCK_MOMENTUM = 0.5
_SINGLE_PRECISION_DAMPING = 1e-4  # from here on the rounding of float32 drowns in the ridge
_PROBE_ROWS, _KERNEL_SIZE = 2000, 500  # rows with recorded outputs, outputs in the Gram


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
        The first ones of them, whose Gram is exposed.
    """

    output_map: OutputMap
    cost: Cost
    trajectory: Trajectory
    rows: np.ndarray
    kernel_rows: np.ndarray


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
    initial_output_: np.ndarray
    target_mean_: np.ndarray
    target_scale_: np.ndarray
    _activation: str
    _sizes: tuple[int, ...]
    _theta: np.ndarray
    _theta_reference: np.ndarray

    _doc_link_module = "sklearn_gflow"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
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
        "damping": [Interval(Real, 0, None, closed="left")],
        "metric_scale": [StrOptions({"trace"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "module": [callable, None],
        "store_gram": [StrOptions({"auto"}), "boolean"],
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
        self, X: Any, y: Any, sample_weight: ArrayLike | None, **check_y: Any
    ) -> tuple[Any, Any, np.ndarray | None]:
        """X, y and weights, without the rows whose weight is zero."""
        check_alpha(self.alpha)
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            order="C",
            ensure_min_samples=2,
            **check_y,
        )
        weights = check_weights(sample_weight, X)
        if weights is None or weights.all():
            return X, y, weights
        present = weights > 0
        return X[present], y[present], weights[present]

    # -- build -------------------------------------------------------------------------------

    def _new_family(
        self, n_features: int, n_outputs: int
    ) -> tuple[LayeredNetwork | ModuleFamily, Tensor]:
        """The family f_θ and a random start θ₀ in it."""
        generator = seed_generator(self.random_state)
        if self.module is None:
            network = LayeredNetwork(
                (n_features, *self._hidden_widths(), n_outputs), self.activation
            )
            return network, network.initial(generator)
        module = module_with_seed(self.module, n_features, n_outputs, generator.initial_seed())
        family = ModuleFamily(self._placed(module), n_outputs)
        return family, family.initial()

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
        self, data: TrainingData
    ) -> tuple[LayeredNetwork | ModuleFamily, Tensor, int | None]:
        """The family, the start θ, and the rows of a block (None: full batch)."""
        device = check_device(self.device)
        n_samples, n_outputs = data.targets.shape
        family, initial = self._new_family(data.X.shape[1], n_outputs)
        rows = block_rows(
            self.batch_size, n_samples, n_outputs, family.n_params,
            solver=self.solver, method=self.method, damping=self.damping,
        )  # fmt: skip
        solver = self.solver if rows is None else block_solver(self.solver, n_outputs)
        check_gram_memory(
            n_samples, n_outputs, family.n_params, self.dtype, solver, device, batch_size=rows
        )
        sizes = getattr(family, "sizes", (data.X.shape[1], n_outputs))
        if not self._continues():
            self._theta = self._theta_reference = to_numpy(initial)
        elif len(self._theta) != family.n_params or sizes != self._sizes:
            raise ValueError(
                "warm_start=True continues from the last fit, but its network has "
                f"{len(self._theta)} parameters and this one {family.n_params}; set "
                "warm_start=False or keep hidden_layer_sizes and the data's shape"
            )
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

    def _continues(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "n_iter_")

    # -- flow --------------------------------------------------------------------------------

    def _options(self) -> FlowOptions:
        return FlowOptions(
            alpha=check_alpha(self.alpha),
            solver=self.solver,
            rcond=self.rcond,
            damping=self.damping,
            metric_scale=None if isinstance(self.metric_scale, str) else float(self.metric_scale),
            tol=self.tol,
            max_iter=self.max_iter,
            n_iter_no_change=self.n_iter_no_change,
        )

    def _train(self, data: TrainingData, labels: np.ndarray | None = None) -> TrainedFlow:
        family, theta, batch_size = self._build(data)
        if batch_size is None:
            trained = self._train_at_once(family, data, theta)
        else:
            trained = self._train_in_blocks(family, data, theta, batch_size, labels)
        self._report(trained.trajectory)
        return trained

    def _train_at_once(
        self, family: LayeredNetwork | ModuleFamily, data: TrainingData, theta: Tensor
    ) -> TrainedFlow:
        output_map, cost = self._rows(family, data, self.dtype).block(slice(None))
        options, times = self._options(), check_schedule(self.schedule, self.t_end)
        observers: list[Observer] = [KernelDrift(_DRIFT_PROBES)]
        if self.verbose:
            observers.append(_Progress())
        deviations = []
        if isinstance(cost, SquaredError):
            deviations.append(Deviation(cost.targets, options.alpha))
        if self.method == "exponential":
            schedule = (
                Adaptive(float(tau_from_t(self.t_end))) if times is None else Fixed.at_times(times)
            )
            trajectory = flow(output_map, cost, theta, schedule, options, [*observers, *deviations])
        else:
            trajectory = reference_flow(
                output_map, cost, theta, options,
                method=self.method, t_end=self.t_end, times=times,
                companions=deviations, observers=observers,
            )  # fmt: skip
        rows = np.arange(len(data.X))
        return TrainedFlow(output_map, cost, trajectory, rows, rows)

    def _train_in_blocks(
        self,
        family: LayeredNetwork | ModuleFamily,
        data: TrainingData,
        theta: Tensor,
        batch_size: int,
        labels: np.ndarray | None,
    ) -> TrainedFlow:
        options = self._options()
        options = replace(
            options,
            damping=options.damping or _BLOCK_DAMPING,
            solver=block_solver(self.solver, family.n_outputs),
        )
        generator = seed_generator(self.random_state)
        rows = subsample(len(data.X), _PROBE_ROWS, generator, labels)
        probe = self._rows(family, data.take(rows), self.dtype)
        kernel_rows = rows[: max(1, _KERNEL_SIZE // family.n_outputs)]
        kernel, _ = probe.block(slice(0, len(kernel_rows)))
        output_map, cost = probe.block(slice(None))
        trajectory = block_flow(
            self._rows(family, data, self._block_dtype(family, options.damping)),
            theta,
            self._epochs(),
            options,
            BlockOptions(batch_size, bool(self.shuffle), _BLOCK_MOMENTUM, generator.initial_seed()),
            probe=(output_map, cost),
            kernel=kernel,
            observers=[_Progress()] if self.verbose else [],
        )
        return TrainedFlow(output_map, cost, trajectory, rows, kernel_rows)

    def _block_dtype(self, family: LayeredNetwork | ModuleFamily, damping: float) -> str:
        """Precision of the steps; θ itself stays in that of the user."""
        harmless = damping >= _SINGLE_PRECISION_DAMPING and isinstance(family, LayeredNetwork)
        return "float32" if harmless else self.dtype

    def _epochs(self) -> list[Epoch]:
        """The way in blocks; without an end or a number of epochs, ``max_iter`` is that number."""
        times, tau_end = check_schedule(self.schedule, self.t_end), float(tau_from_t(self.t_end))
        if times is None:
            return decaying_epochs(tau_end, self.max_iter if self.t_end == 1 else None)
        if np.ndim(self.schedule) == 0:
            return decaying_epochs(tau_end, len(times))
        return timed_epochs([float(tau) for tau in tau_from_t(times)])

    def _report(self, trajectory: Trajectory) -> None:
        """Turn the outcome of a flow into an error or a warning, where it is one."""
        outcome, detail = trajectory.outcome, trajectory.detail
        if outcome in (Outcome.DIVERGED, Outcome.FACTORIZATION_FAILED):
            reached = trajectory.t[-1] if trajectory.tau else 0.0
            raise ValueError(
                f"Training failed at t={reached:.3g}: {outcome.value}. Scale the "
                "features, for instance with StandardScaler, or set damping > 0. " + detail
            )
        if not outcome.complete:
            warnings.warn(
                f"The flow stopped at t={trajectory.t[-1]:.6g} of t_end={self.t_end}: "
                f"{outcome.value}. Raise max_iter, lower t_end, or raise tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # -- expose ------------------------------------------------------------------------------

    def _expose(self, trained: TrainedFlow) -> None:
        output_map, trajectory = trained.output_map, trained.trajectory
        theta = trajectory.theta
        self._theta = to_numpy(theta)
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
        self._expose_kernel(trained)
        self.history_["rank"][-1] = self.ntk_rank_
        self.history_["condition"][-1] = self.ntk_condition_

    def _expose_path(self, trajectory: Trajectory) -> None:
        names = ("deviation", "predicted_deviation", "ntk_drift")
        missing = {name: np.full(len(trajectory.tau), np.nan) for name in names}
        self.history_ = {**missing, **trajectory.history()}
        self.deviation_ = float(self.history_["deviation"][-1])
        self.predicted_deviation_ = float(self.history_["predicted_deviation"][-1])
        self.loss_curve_ = self.history_["loss"].tolist()
        self.loss_ = self.loss_curve_[-1]
        self.best_loss_ = min(self.loss_curve_)
        self.n_iter_ = trajectory.n_steps
        self.t_ = float(trajectory.t[-1])
        self.solver_ = trajectory.solver
        self.outcome_ = trajectory.outcome.value
        if trajectory.detail:
            self.outcome_ += f" ({trajectory.detail})"

    def _expose_kernel(self, trained: TrainedFlow) -> None:
        """The Gram on the training rows, its spectrum and rank, at the solution."""
        output_map, theta = trained.output_map, trained.trajectory.theta
        self.kernel_rows_ = trained.kernel_rows
        X = output_map.X[: len(trained.kernel_rows)]
        linearization = output_map.family.linearize(theta, X)
        store = self.store_gram
        if store == "auto":
            size = linearization.outputs.numel()
            store = theta.element_size() * size**2 <= _STORED_GRAM_BYTES
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

    def _linearize(self, X: np.ndarray) -> Linearization:
        device = check_device(self.device)
        theta = to_tensor(self._theta, self.dtype, device)
        return self._fitted_family().linearize(theta, to_tensor(X, self.dtype, device))

    def _model(self, X: ArrayLike) -> np.ndarray:
        """f_θ(X) − f_θ₀(X), shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        inputs = to_tensor(check_fitted_data(self, X), self.dtype, check_device(self.device))
        family = self._fitted_family()
        theta, reference = (
            to_tensor(parameters, self.dtype, inputs.device)
            for parameters in (self._theta, self._theta_reference)
        )
        return to_numpy(family.outputs(theta, inputs) - family.outputs(reference, inputs))
