"""When a training stops: by rows held out, or by leave-one-out in closed form.

Both judge outputs by a pair (score, loss), the score being what ``score`` of the estimator gives.
Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_gflow.diagnostics import LeaveOneOut
from sklearn_gflow.dynamics import (
    BestPoint,
    Callback,
    LossReached,
    Outcome,
    Point,
    WhileGaining,
    WhileMeanGains,
    mean_diagonal,
    metric_scale,
    t_from_tau,
    tau_from_t,
)
from sklearn_gflow.estimators._averages import of_member, share_of_epochs
from sklearn_gflow.estimators._reading import is_lazy, read, row_chunks
from sklearn_gflow.estimators._reports import failure
from sklearn_gflow.estimators._rows import TrainingData, as_tensor, subsample
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.estimators._training import MARKS, TrainedFlow, Training
from sklearn_gflow.geometry import FactorizationError, Shape

__all__ = [
    "Judge",
    "LeftOut",
    "judge_left_out",
    "judged_by",
    "model_apart",
    "rows_apart",
    "stopped_by_leave_one_out",
    "stopped_by_rows_apart",
]

Judge = Callable[[TrainingData], Callable[[np.ndarray], tuple[float, float]]]
"""``rows -> (outputs -> (score, loss))``, of the model's outputs for the given rows."""


# Of the rows so many are kept apart where these say when to stop: a twentieth between the second
# and the third number, and of few rows a tenth. Flows that lack a tenth of 5,000 rows until they
# close scored lower (docs/benchmarks/blocks_trials.md).
_APART, _ENOUGH_APART, _MOST_APART = 0.05, 250, 2000
_APART_OF_FEW = 0.1


def judged_by(
    training: Training,
    held_out: TrainingData,
    judge: Judge,
    score: Callable[[np.ndarray], float] | None = None,
) -> BestPoint:
    """A callback that scores every point of the path on rows that it is not trained on.

    It does so by the judge, or by another score of f_θ − f_θ₀ where there is one.
    """
    patience, tol = training.settings.given["n_iter_no_change"], training.settings.given["tol"]
    return BestPoint(_judged(training, held_out, judge, score), "validation", patience, tol)


def rows_apart(training: Training) -> np.ndarray:
    """Which rows a flow without a given end keeps apart, where it is not told."""
    size = len(training.data.X)
    # One row of each label comes first in a subsample, so that the last ones lack none.
    order = subsample(size, size, training.settings.generator(), training.labels)
    return np.sort(order[-_n_apart(size) :])


def stopped_by_rows_apart(
    training: Training, judge: Judge, apart: np.ndarray | None = None
) -> tuple[Training, TrainedFlow]:
    """Follow the flow in blocks while some of the rows, kept apart, gain; then over all rows.

    The training is another where that of one network was followed in place of a mean of several.
    """
    apart = rows_apart(training) if apart is None else apart
    held_out = training.data.take(apart)
    if training.settings.n_members > 1:
        gaining = _while_mean_gains(training, held_out, judge)
        trained = training.while_gaining(gaining, apart)
        if gaining.alone is None or trained.trajectory.outcome is not Outcome.NOTHING_GAINED:
            return training, trained
        training = of_member(training, gaining.alone)
    # They decide and are not reported, so that the precision of the blocks will do.
    judged = _judged(training, held_out, judge, dtype=training.settings.block_dtype)
    return training, training.while_gaining(WhileGaining(lambda point: judged(point)[1]), apart)


def model_apart(training: Training, trained: TrainedFlow, rows: TrainingData) -> np.ndarray:
    """f_θ − f_θ₀ of rows at the point of a flow that rows apart chose, before it was closed."""
    trajectory, settings = trained.trajectory, training.settings
    chosen = trajectory.closed_from or trajectory.selected
    theta = trajectory.theta if chosen is None else chosen[1]
    models = _models(training, rows, settings.block_dtype, training.family.outputs)
    return models(theta)


def _while_mean_gains(training: Training, held_out: TrainingData, judge: Judge) -> WhileMeanGains:
    """What ends a mean of several networks; of a fit that goes on none is followed alone."""
    settings = training.settings
    models = _models(training, held_out, settings.block_dtype, training.family.offsets)
    of_outputs, start = judge(held_out), held_out.start
    may_be_alone = training.before is None and isinstance(settings.given["n_members"], str)

    def losses(point: Point) -> list[float]:
        members = models(point.theta)
        shown = [members.mean(1), *(members.swapaxes(0, 1) if may_be_alone else ())]
        return [of_outputs(start + model)[1] for model in shown]

    return WhileMeanGains(losses, share_of_epochs(settings))


def _n_apart(size: int) -> int:
    return int(min(_APART_OF_FEW * size, max(_APART * size, _ENOUGH_APART), _MOST_APART))


def _judged(
    training: Training,
    held_out: TrainingData,
    judge: Judge,
    score: Callable[[np.ndarray], float] | None = None,
    dtype: str | None = None,
) -> Callable[[Point], tuple[float, float]]:
    """Score and loss of a point on rows, in the precision of the user or another."""
    dtype = training.settings.dtype if dtype is None else dtype
    models = _models(training, held_out, dtype, training.family.outputs)
    of_outputs = judge(held_out)

    def judged(point: Point) -> tuple[float, float]:
        model = models(point.theta)
        own, loss = of_outputs(held_out.start + model)
        return own if score is None else score(model), loss

    return judged


def _models(
    training: Training,
    held_out: TrainingData,
    dtype: str,
    outputs_of: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor], np.ndarray]:
    """f_θ − f_θ₀ on rows, from θ, in a precision; or what else is made of θ and inputs."""
    family, device = training.family, training.start.device
    theta, X = to_tensor(training.network.reference, dtype, device), held_out.X

    def as_inputs(rows: Any) -> Tensor:
        return as_tensor(family, rows, dtype, device)

    at_once = None if is_lazy(X) else as_inputs(X)

    def outputs(theta: Tensor) -> Tensor:
        if at_once is not None:
            return outputs_of(theta, at_once)
        chunks = (as_inputs(read(X, rows)) for rows in row_chunks(len(X)))
        return torch.cat([outputs_of(theta, chunk) for chunk in chunks])

    reference = outputs(theta)
    return lambda point: to_numpy(outputs(point.to(theta.dtype)) - reference)


@dataclass(frozen=True)
class LeftOut:
    """What the linearised flow scores at some times when each row is left out in turn.

    Attributes
    ----------
    times : ndarray of shape (n_times,)
        Times t, 0 the first.
    judged : ndarray of shape (n_times, 3)
        Score and loss of the leave-one-out predictions, and the loss of training.
    """

    times: np.ndarray
    judged: np.ndarray

    @property
    def best(self) -> int:
        """Index of the best time; between equal scores that of the lower loss."""
        return max(range(len(self.judged)), key=lambda k: (self.judged[k][0], -self.judged[k][1]))

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes."""
        scores, losses, _ = self.judged.T
        return {"loo_times_": self.times, "loo_scores_": scores, "loo_losses_": losses}


def stopped_by_leave_one_out(
    training: Training, judge: Judge, say: Callable[[str], None]
) -> tuple[TrainedFlow, LeftOut]:
    """Follow the flow to the time with the best leave-one-out predictions.

    The scores come from the start alone, so that the flow need not go further than this. Where
    the network learns faster than its linearisation, it has learnt as much before, and ends
    there. Blocks go to their end: a loss after an epoch says little of when to stop.
    """
    settings = training.settings
    times = [0.0, *_times_to_try(training)]
    (judged,) = judge_left_out(training, judge, [settings.alpha], times)
    left_out = LeftOut(np.array(times), judged)
    if not np.isfinite(judged[:, 0]).any():
        raise failure(0.0, "no time has a leave-one-out score that is a number", "")
    best = left_out.best
    end = float(left_out.times[max(best, 1)])
    score = judged[best, 0]
    say(f"leave-one-out: best score = {score:.6g}, at t = {left_out.times[best]:.6g}")
    callbacks: list[Callback] = []
    if not settings.in_blocks:
        callbacks.append(LossReached(float(left_out.judged[best, 2])))
    trained = training.until(end, callbacks, MARKS)
    if best == 0:  # rows left out are predicted best by the start
        trained.trajectory.selected = 0, training.start
    return trained, left_out


def _times_to_try(training: Training) -> list[float]:
    settings = training.settings
    if settings.times is not None:
        return list(settings.times)
    times = [t for t in t_from_tau(MARKS).tolist() if t < settings.t_end]
    # With a ridge the labels are not reached, and the flow has no end at t = 1.
    if settings.t_end < 1 or settings.damping == 0:
        times.append(settings.t_end)
    return times


def judge_left_out(
    training: Training,
    judge: Judge,
    alphas: Sequence[float],
    times: Sequence[float],
) -> np.ndarray:
    """What the linearised flows score, shape (n_alphas, n_times, 3).

    Score and loss of their leave-one-out predictions, copies of a row left out together, and
    the loss of training.

    Raises
    ------
    ValueError
        If the frozen flow is not the one that is left out of, or the Gram of the start could not
        be decomposed.
    GramMemoryError
        If the Gram would not fit into memory.
    """
    _check_left_out(training)
    training.settings.check_left_out_memory()
    settings = training.settings
    data, options = training.data.distinct(), settings.options
    start = Point.at(*training.whole(data), 0.0, training.start)
    shared = settings.left_out_solver.forms(Shape.of(start.tangent)) == "K̄"
    try:
        decomposed = LeaveOneOut.at(start, shared=shared, rcond=options.rcond)
    except FactorizationError as error:
        raise failure(0.0, "the Gram could not be factorised", str(error)) from error
    scale, unit = metric_scale(start.tangent, options), mean_diagonal(start.tangent)
    of_outputs, taus, judged = judge(data), tau_from_t(times).tolist(), []
    for alpha in alphas:
        ridge = settings.damping_at(alpha) * unit
        for tau in taus:
            flow_of = float(alpha), tau, scale, ridge
            residuals = to_numpy(decomposed.residuals(*flow_of))
            score, loss = of_outputs(data.targets - residuals)
            judged.append((score, loss, decomposed.training_loss(*flow_of)))
    return np.array(judged).reshape(len(alphas), len(taus), 3)


def _check_left_out(training: Training) -> None:
    unfit = {
        f"loss={training.settings.given['loss']!r}": not training.loss.squared,
        "warm_start=True after a fit": training.before is not None,
    }
    for setting, met in unfit.items():
        if met:
            raise ValueError(
                "leave-one-out needs the squared error and a start that has not seen the "
                f"targets, not {setting}; change it, or set early_stopping=True (a search: cv=5)"
            )
