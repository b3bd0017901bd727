"""What both estimators share: validate → build → flow → expose."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
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
    Fixed,
    FlowOptions,
    Observer,
    Outcome,
    Point,
    Schedule,
    Trajectory,
    flow,
    metric_scale,
    reference_flow,
    t_from_tau,
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
    TangentFactor,
    tangent_spectrum,
)

__all__ = ["BaseAdaptedFlow", "Rows", "TrainingData"]

_STORED_GRAM_BYTES = 64 * 2**20
_DRIFT_PROBES = 4
# Times τ at which a path is scored, besides its own steps: dense enough to stop at the best.
MARKS = tuple(0.05 * 2 ** (k / 2) for k in range(19))


@dataclass(frozen=True)
class Rows:
    """Rows of positive weight as the user gave them."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None

    def take(self, index: np.ndarray) -> Rows:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[index]
        return Rows(self.X[index], self.y[index], weights)


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
        "early_stopping": ["boolean", StrOptions({"loo"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "module": [callable, None],
        "store_gram": [StrOptions({"auto"}), "boolean"],
        "store_path": ["boolean"],
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
    ) -> Rows:
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
            "damping > 0": self.damping > 0,
            "warm_start=True after a fit": self._continues(),
        }
        for setting, met in unfit.items():
            if met:
                raise ValueError(
                    "early_stopping='loo' needs the squared error, no damping, and a start that "
                    f"has not seen the targets, not {setting}; change it or set "
                    "early_stopping=True"
                )

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
            store_path=bool(self.store_path),
        )

    def _train(
        self, data: TrainingData, held_out: TrainingData | None
    ) -> tuple[OutputMap, Cost, Trajectory]:
        output_map, cost, theta = self._build(data)
        options, times = self._options(), check_schedule(self.schedule, self.t_end)
        monitor = None if held_out is None else self._monitor(output_map, held_out)
        t_end, at_start = self.t_end, False
        if isinstance(self.early_stopping, str):
            best = self._leave_one_out_time(output_map, cost, theta, data, times)
            t_end, at_start = best or float(self.loo_times_[1]), best == 0
        observers: list[Observer] = [KernelDrift(_DRIFT_PROBES)]
        if self.verbose:
            observers.append(_Progress())
        deviations = []
        if isinstance(cost, SquaredError):
            deviations.append(Deviation(cost.targets, options.alpha))
        if times is not None:
            times = [t for t in times if t <= t_end]
        if self.method == "exponential":
            schedule: Schedule = Adaptive(float(tau_from_t(t_end)), marks=MARKS if monitor else ())
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
        if at_start:
            trajectory.selected = 0, theta
        self._report(trajectory)
        return output_map, cost, trajectory

    # -- when to stop ------------------------------------------------------------------------

    def _monitor(self, output_map: OutputMap, held_out: TrainingData) -> BestPoint:
        """Judges every point of the path by rows that it is not trained on."""
        family, device = output_map.family, output_map.X.device
        X = to_tensor(held_out.X, self.dtype, device)
        reference = family.outputs(to_tensor(self._theta_reference, self.dtype, device), X)

        def judge(point: Point) -> tuple[float, float]:
            model = to_numpy(family.outputs(point.theta, X) - reference)
            return self._judge(held_out.start + model, held_out)

        return BestPoint(judge, "validation", self.n_iter_no_change, self.tol)

    def _leave_one_out_time(
        self,
        output_map: OutputMap,
        cost: Cost,
        theta: Tensor,
        data: TrainingData,
        times: list[float] | None,
    ) -> float:
        """The time t with the best leave-one-out predictions; keeps what all times scored.

        The scores come from the start alone, so that the flow need not go further than this.
        """
        self._check_leave_one_out()
        start = Point.at(output_map, cost, 0.0, theta)
        options = self._options()
        left_out = LeaveOneOut.at(start, rcond=options.rcond)
        scale = metric_scale(start.tangent, options)
        if times is None:
            times = [t for t in t_from_tau(MARKS).tolist() if t < self.t_end] + [self.t_end]
        self.loo_times_ = np.array([0.0, *times])
        judged = [
            self._judge(
                data.targets - to_numpy(left_out.residuals(options.alpha, float(tau), scale)), data
            )
            for tau in tau_from_t(self.loo_times_)
        ]
        self.loo_scores_, self.loo_losses_ = np.array(judged).T
        best = max(range(len(judged)), key=lambda k: (judged[k][0], -judged[k][1]))
        return float(self.loo_times_[best])

    @abstractmethod
    def _judge(self, outputs: np.ndarray, rows: TrainingData) -> tuple[float, float]:
        """(score, cost) of outputs for the given rows, the score being that of ``score``."""

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
        self._expose_scores(trajectory)
        self._expose_kernel(output_map, theta)
        self.history_["rank"][trajectory.solution] = self.ntk_rank_
        self.history_["condition"][trajectory.solution] = self.ntk_condition_

    def _expose_path(self, trajectory: Trajectory) -> None:
        missing = np.full(len(trajectory.tau), np.nan)
        self.history_ = {
            "deviation": missing, "predicted_deviation": missing.copy(), **trajectory.history()
        }  # fmt: skip
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
        inputs = to_tensor(check_fitted_data(self, X), self.dtype, check_device(self.device))
        family = self._fitted_family()
        reference = family.outputs(
            to_tensor(self._theta_reference, self.dtype, inputs.device), inputs
        )
        for theta in thetas:
            outputs = family.outputs(to_tensor(theta, self.dtype, inputs.device), inputs)
            yield to_numpy(outputs - reference)
