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

from sklearn_gflow.dynamics import (
    Adaptive,
    FlowOptions,
    Outcome,
    Point,
    Schedule,
    Trajectory,
    equal_steps,
    flow,
    tau_from_t,
)
from sklearn_gflow.dynamics.schedule import Fixed
from sklearn_gflow.estimators._validation import (
    Interval,
    StrOptions,
    check_alpha,
    check_device,
    check_fitted_data,
    check_gram_memory,
    check_schedule,
    check_weights,
    seed_generator,
    to_numpy,
    to_tensor,
    validate_data,
)
from sklearn_gflow.exceptions import ConvergenceWarning
from sklearn_gflow.geometry import (
    ACTIVATIONS,
    SOLVERS,
    LayeredNetwork,
    OutputMap,
    SquaredError,
    TangentFactor,
    tangent_spectrum,
)

__all__ = ["BaseAdaptedFlow", "TrainingData"]

_STORED_GRAM_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TrainingData:
    """Rows of positive weight, with targets as the network sees them.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
    targets : ndarray of shape (n_samples, n_outputs)
        Labels minus their mean, divided by their scale.
    weights : ndarray of shape (n_samples,) or None
    """

    X: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None


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
        "solver": [StrOptions(set(SOLVERS))],
        "rcond": [Interval(Real, 0, 1, closed="left"), None],
        "damping": [Interval(Real, 0, None, closed="left")],
        "metric_scale": [StrOptions({"trace"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
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
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, **check_y: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
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

    def _network(self, n_features: int, n_outputs: int) -> LayeredNetwork:
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        for width in hidden:
            if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
                raise ValueError(
                    "hidden_layer_sizes must hold positive integers, one a hidden layer; "
                    f"got {self.hidden_layer_sizes!r}"
                )
        return LayeredNetwork((n_features, *map(int, hidden), n_outputs), self.activation)

    def _build(self, data: TrainingData) -> tuple[OutputMap, SquaredError, Tensor]:
        """The output map, the cost on it, and the start θ."""
        device = check_device(self.device)
        n_samples, n_outputs = data.targets.shape
        network = self._network(data.X.shape[1], n_outputs)
        check_gram_memory(n_samples, n_outputs, network.n_params, self.dtype, self.solver, device)
        if self._continues():
            theta, reference = self._theta, self._theta_reference
            if len(theta) != network.n_params:
                raise ValueError(
                    "warm_start=True continues from the last fit, but its network has "
                    f"{len(theta)} parameters and this one {network.n_params}; set "
                    "warm_start=False or keep hidden_layer_sizes and the data's shape"
                )
        else:
            theta = reference = to_numpy(network.initial(seed_generator(self.random_state)))
        self._theta_reference, self._sizes = reference, network.sizes
        X = to_tensor(data.X, self.dtype, device)
        weights = None if data.weights is None else to_tensor(data.weights, self.dtype, device)
        # The model is f_θ − f_θ₀: it starts at zero without a dead block in D.
        offset = network.outputs(to_tensor(reference, self.dtype, device), X)
        output_map = OutputMap(network, X, offset, weights)
        targets = output_map.scale(to_tensor(data.targets, self.dtype, device))
        cost = SquaredError(targets, output_map.total_weight)
        return output_map, cost, to_tensor(theta, self.dtype, device)

    def _continues(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "_theta")

    # -- flow --------------------------------------------------------------------------------

    def _schedule(self) -> Schedule:
        schedule = check_schedule(self.schedule, self.t_end)
        if isinstance(schedule, str):
            return Adaptive(float(tau_from_t(self.t_end)))
        if isinstance(schedule, int):
            return equal_steps(schedule, self.t_end)
        return Fixed.at_times(schedule)

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

    def _train(self, data: TrainingData) -> tuple[OutputMap, Trajectory]:
        output_map, cost, theta = self._build(data)
        observers = [_Progress()] if self.verbose else []
        trajectory = flow(output_map, cost, theta, self._schedule(), self._options(), observers)
        self._report(trajectory)
        return output_map, trajectory

    def _report(self, trajectory: Trajectory) -> None:
        """Turn the outcome of a flow into an error or a warning, where it is one."""
        outcome, detail = trajectory.outcome, trajectory.detail
        if outcome in (Outcome.DIVERGED, Outcome.FACTORIZATION_FAILED):
            raise ValueError(
                f"Training failed at t={trajectory.t[-1]:.3g}: {outcome.value}. Scale the "
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

    def _expose(self, data: TrainingData, output_map: OutputMap, trajectory: Trajectory) -> None:
        theta = trajectory.theta
        self._theta = to_numpy(theta)
        layers = list(output_map.family.layers(torch.from_numpy(self._theta)))
        self.coefs_ = [W.numpy().copy() for W, _ in layers]
        self.intercepts_ = [b.numpy().copy() for _, b in layers]
        self.n_layers_ = len(self._sizes)
        self.n_outputs_ = self._sizes[-1]
        self._expose_path(trajectory)
        self._expose_kernel(output_map, theta)
        self.history_["rank"][-1] = self.ntk_rank_
        self.history_["condition"][-1] = self.ntk_condition_

    def _expose_path(self, trajectory: Trajectory) -> None:
        self.history_ = trajectory.history()
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

    def _rebuilt(self) -> LayeredNetwork:
        return LayeredNetwork(self._sizes, self.activation)

    def _linearize(self, X: np.ndarray) -> Any:
        device = check_device(self.device)
        theta = to_tensor(self._theta, self.dtype, device)
        return self._rebuilt().linearize(theta, to_tensor(X, self.dtype, device))

    def _model(self, X: ArrayLike) -> np.ndarray:
        """f_θ(X) − f_θ₀(X) in units of the scaled targets, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        checked = check_fitted_data(self, X)
        device = check_device(self.device)
        network = self._rebuilt()
        inputs = to_tensor(checked, self.dtype, device)
        theta, reference = (
            to_tensor(parameters, self.dtype, device)
            for parameters in (self._theta, self._theta_reference)
        )
        return to_numpy(network.outputs(theta, inputs) - network.outputs(reference, inputs))
