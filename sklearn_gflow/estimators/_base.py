"""What both estimators share: validate → build → flow → expose."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_gflow.diagnostics import LeaveOneOut
from sklearn_gflow.dynamics import (
    Callback,
    LossReached,
    Outcome,
    Trajectory,
    t_from_tau,
)
from sklearn_gflow.estimators._parameters import FlowParameters, NetworkParameters, PathParameters
from sklearn_gflow.estimators._rows import Rows, TrainingData, row_chunks
from sklearn_gflow.estimators._training import (
    MARKS,
    TrainedFlow,
    Training,
    is_small_gram,
    new_family,
    random_start,
    rows_of_a_block,
)
from sklearn_gflow.estimators._validation import (
    check_alpha,
    check_device,
    check_fitted_data,
    check_schedule,
    check_weights,
    hold_out,
    module_with_seed,
    place_module,
    to_numpy,
    to_tensor,
    validate_data,
)
from sklearn_gflow.exceptions import ConvergenceWarning
from sklearn_gflow.geometry import (
    Cost,
    LayeredNetwork,
    Linearization,
    ModuleFamily,
    OutputMap,
    SquaredError,
    tangent_spectrum,
)

__all__ = ["BaseAdaptedFlow"]


class BaseAdaptedFlow(FlowParameters, PathParameters, NetworkParameters, BaseEstimator):
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
    _n_seen: float
    _sizes: tuple[int, ...]
    _theta: np.ndarray
    _theta_reference: np.ndarray

    _doc_link_module = "sklearn_gflow"

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

    # -- build -------------------------------------------------------------------------------

    def _begin(
        self, data: TrainingData, labels: np.ndarray | None = None, *, chunk: bool = False
    ) -> Training:
        """The training on some rows, from a new start or from the last solution."""
        device = check_device(self.device)
        n_samples, n_outputs = data.targets.shape
        family = new_family(self, data.X.shape[1], n_outputs)
        batch_size = rows_of_a_block(self, family, n_samples, chunk=chunk)
        sizes = getattr(family, "sizes", (data.X.shape[1], n_outputs))
        continues = self._continues(chunk=chunk)
        if not continues:
            initial = random_start(self, family, in_blocks=batch_size is not None)
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
        return Training(
            self, family, theta, self._theta_reference, data, labels, batch_size,
            make_cost=self._cost, judge=self._judge, n_before=self.n_iter_ if continues else None,
        )  # fmt: skip

    def _cost(self, output_map: OutputMap, targets: Tensor) -> Cost:
        return SquaredError(output_map.weigh(targets), output_map.total_weight)

    @abstractmethod
    def _judge(self, outputs: np.ndarray, rows: TrainingData) -> tuple[float, float]:
        """(score, cost) of outputs for the given rows, the score being that of ``score``."""

    def _continues(self, *, chunk: bool = False) -> bool:
        """Whether training goes on from the last solution: a chunk's does if there is one."""
        return (chunk or bool(self.warm_start)) and hasattr(self, "n_iter_")

    @staticmethod
    def _continuing(chunk: bool) -> str:
        """What makes training continue, for messages."""
        return "partial_fit" if chunk else "warm_start=True"

    # -- flow --------------------------------------------------------------------------------

    def _train(
        self,
        data: TrainingData,
        held_out: TrainingData | None,
        labels: np.ndarray | None,
    ) -> TrainedFlow:
        training = self._begin(data, labels)
        monitor: Callback | None = None if held_out is None else training.judged_by(held_out)
        t_end, at_start = self.t_end, False
        if isinstance(self.early_stopping, str):
            best, loss = self._leave_one_out_time(training)
            t_end, at_start = best or float(self.loo_times_[1]), best == 0
            # Where the network learns faster than its linearisation, it has learnt as much before.
            monitor = LossReached(loss)
        trained = training.until(t_end, monitor)
        if at_start:
            trained.trajectory.selected = 0, training.start
        self._report(trained)
        return trained

    def _train_chunk(self, data: TrainingData, labels: np.ndarray | None = None) -> TrainedFlow:
        """One pass over a chunk, from the last solution if there is one."""
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
        training = self._begin(data, labels, chunk=True)
        trained = training.over_chunk(self._metric_scale if self._continues(chunk=True) else None)
        self._report(trained)
        return trained

    def _leave_one_out_time(self, training: Training) -> tuple[float, float]:
        """The time t with the best leave-one-out predictions, and the linearised loss there.

        Keeps what all times scored. The scores come from the start alone, so that the flow need
        not go further than this.
        """
        times = check_schedule(self.schedule, self.t_end)
        if times is None:
            times = [t for t in t_from_tau(MARKS).tolist() if t < self.t_end]
            if self.t_end < 1 or not training.damped:  # with a ridge the way to t = 1 has no end
                times.append(self.t_end)
        self.loo_times_ = np.array([0.0, *times])
        taus = self.loo_times_.tolist()
        left_out, self._left_out = self._left_out, None  # as large as the Gram
        (judged,), _ = training.judge_left_out([self.alpha], taus, left_out)
        self.loo_scores_, self.loo_losses_, losses = judged.T
        best = max(range(len(judged)), key=lambda k: (judged[k][0], -judged[k][1]))
        return float(self.loo_times_[best]), float(losses[best])

    def _report(self, trained: TrainedFlow) -> None:
        """Turn the outcome of a flow into an error or a warning, where it is one."""
        trajectory = trained.trajectory
        outcome, detail = trajectory.outcome, trajectory.detail
        if outcome in (Outcome.DIVERGED, Outcome.FACTORIZATION_FAILED):
            reached = trajectory.t[-1] if trajectory.tau else 0.0
            raise ValueError(
                f"Training failed at t={reached:.3g}: {outcome.value}. Scale the "
                "features, for instance with StandardScaler, or raise damping. " + detail
            )
        if not outcome.complete:
            cure = "Raise max_iter, lower t_end, or raise tol."
            if outcome is Outcome.STEP_UNDERFLOW:
                cure = "Scale the features, for instance with StandardScaler, or raise damping."
            warnings.warn(
                f"The flow stopped at t={trajectory.t[-1]:.6g} of t_end={trained.t_end:.6g}: "
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
            outputs = linearization.outputs
            store = is_small_gram(outputs.numel(), outputs.element_size())
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
        return ModuleFamily(place_module(module, self.dtype, self.device), n_outputs)

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
