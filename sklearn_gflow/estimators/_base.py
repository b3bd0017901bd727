"""What both estimators share: validate → build → flow → expose."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
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
    Fixed,
    FlowOptions,
    Observer,
    Outcome,
    Point,
    Trajectory,
    flow,
    reference_flow,
    tau_from_t,
)
from sklearn_gflow.estimators._validation import (
    Interval,
    StrOptions,
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

__all__ = ["BaseAdaptedFlow", "TrainingData"]

_STORED_GRAM_BYTES = 64 * 2**20
_DRIFT_PROBES = 4


@dataclass(frozen=True)
class TrainingData:
    """Rows of positive weight, with targets as the network sees them.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
    targets : ndarray of shape (n_samples, n_outputs)
    weights : ndarray of shape (n_samples,) or None
    start : ndarray of shape (n_outputs,)
        Output of the model for every input, before training.
    """

    X: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    start: np.ndarray


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
        "rcond": [Interval(Real, 0, 1, closed="left"), None],
        "damping": [Interval(Real, 0, None, closed="left")],
        "metric_scale": [StrOptions({"trace"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "module": [callable, None],
        "store_gram": [StrOptions({"auto"}), "boolean"],
        "warm_start": ["boolean"],
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

    def _build(self, data: TrainingData) -> tuple[OutputMap, Cost, Tensor]:
        """The output map, the cost on it, and the start θ."""
        device = check_device(self.device)
        n_samples, n_outputs = data.targets.shape
        family, initial = self._new_family(data.X.shape[1], n_outputs)
        check_gram_memory(n_samples, n_outputs, family.n_params, self.dtype, self.solver, device)
        sizes = getattr(family, "sizes", (data.X.shape[1], n_outputs))
        if not self._continues():
            self._theta = self._theta_reference = to_numpy(initial)
        elif len(self._theta) != family.n_params or sizes != self._sizes:
            raise ValueError(
                "warm_start=True continues from the last fit, but its network has "
                f"{len(self._theta)} parameters and this one {family.n_params}; set "
                "warm_start=False or keep hidden_layer_sizes and the data's shape"
            )

        def tensor(array: np.ndarray) -> Tensor:
            return to_tensor(array, self.dtype, device)

        self._sizes, self._activation = sizes, self.activation
        if isinstance(family, ModuleFamily):
            state = family.module.state_dict()
            self._module_state = {name: to_numpy(value) for name, value in state.items()}
        X, theta = tensor(data.X), tensor(self._theta)
        weights = None if data.weights is None else tensor(data.weights)
        if isinstance(family, ModuleFamily):
            family.check_rows(theta, X[:2])
        # The model is f_θ − f_θ₀ + start: it begins at the start without a dead block in D.
        offset = family.outputs(tensor(self._theta_reference), X) - tensor(data.start)
        output_map = OutputMap(family, X, offset, weights)
        return output_map, self._cost(output_map, tensor(data.targets)), theta

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

    def _train(self, data: TrainingData) -> tuple[OutputMap, Cost, Trajectory]:
        output_map, cost, theta = self._build(data)
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
        self._report(trajectory)
        return output_map, cost, trajectory

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

    def _expose(self, output_map: OutputMap, trajectory: Trajectory) -> None:
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
        self._expose_kernel(output_map, theta)
        self.history_["rank"][-1] = self.ntk_rank_
        self.history_["condition"][-1] = self.ntk_condition_

    def _expose_path(self, trajectory: Trajectory) -> None:
        missing = np.full(len(trajectory.tau), np.nan)
        self.history_ = {
            "deviation": missing, "predicted_deviation": missing.copy(), **trajectory.history()
        }  # fmt: skip
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

    def _expose_kernel(self, output_map: OutputMap, theta: Tensor) -> None:
        """The Gram on the training rows, its spectrum and rank, at the solution."""
        linearization = output_map.family.linearize(theta, output_map.X)
        store = self.store_gram
        if store == "auto":
            store = theta.element_size() * output_map.size**2 <= _STORED_GRAM_BYTES
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
