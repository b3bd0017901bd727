"""Errors and warnings of a training: the only place that turns an outcome of a flow into one."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

from sklearn_gflow.dynamics import Outcome
from sklearn_gflow.estimators._reading import read
from sklearn_gflow.estimators._rows import few
from sklearn_gflow.estimators._sparse import dense
from sklearn_gflow.estimators._training import TrainedFlow
from sklearn_gflow.exceptions import ConvergenceWarning

__all__ = ["elsewhere", "failure", "incomplete", "undetermined", "unscaled", "warn", "worse"]

# Rises below this share of the loss at the start are rounding, that of single precision included.
_RISE_FLOOR = 1e-6
# Beyond these estimates the last bits of the inputs move predictions by more than a hundredth of
# their range (docs/reliability.md). With a ridge, as by default, float32 stays below.
_UNDETERMINED = {torch.float64: 2e-3, torch.float32: 5e-2}
# So much of the outputs may be missed by a flow that is followed once more.
_ELSEWHERE = 1e-2
# Files whose frames lie between a training and the line of the user that asked for it.
_INSIDE = tuple(f"{d}{os.sep}" for d in (Path(__file__).parents[1], Path(sklearn.__file__).parent))
# Columns are looked at on so many rows. One is told of that is so many times a typical one, and so
# large that it saturates a network by itself; so many are named.
_LOOKED_AT_ROWS, _DWARFS, _SATURATES, _NAMED = 256, 100, 10.0, 5
_CURE = "Scale the features, for instance with StandardScaler, or raise damping."


def failure(t: float, reason: str, detail: str) -> ValueError:
    """The error of a training that failed at a time t."""
    return ValueError(f"Training failed at t={t:.3g}: {reason}. {_CURE} {detail}")


def incomplete(trained: TrainedFlow) -> str | None:
    """What to warn of where a flow did not come to its end; None where it did.

    Raises
    ------
    ValueError
        If it failed.
    """
    trajectory = trained.trajectory
    outcome = trajectory.outcome
    if outcome in (Outcome.DIVERGED, Outcome.FACTORIZATION_FAILED):
        reached = float(trajectory.t[-1]) if trajectory.tau else 0.0
        raise failure(reached, outcome.value, trajectory.detail)
    if outcome.complete:
        return None
    cure = "Raise max_iter, lower t_end, raise tol, or raise damping."
    if outcome is Outcome.STEP_UNDERFLOW:
        cure = _CURE
    return (
        f"The flow stopped at t={trajectory.t[-1]:.6g} of t_end={trained.t_end:.6g}: "
        f"{outcome.value}. {cure}"
    )


def worse(trained: TrainedFlow) -> str | None:
    """What to warn of where the loss is larger at the solution than at the start, else None."""
    trajectory = trained.trajectory
    start, end = trajectory.loss[0], trajectory.loss[trajectory.solution]
    if end <= start + _RISE_FLOOR * abs(start):
        return None
    return (
        f"The fit ended worse than it began: the loss rose from {start:.6g} to {end:.6g}. "
        "Shorten the steps (schedule, batch_size), or raise damping."
    )


def undetermined(trained: TrainedFlow) -> str | None:
    """What to warn of where rounding decides the solution, else None."""
    trajectory = trained.trajectory
    estimates = trajectory.extra.get("sensitivity")
    estimate = estimates[trajectory.solution] if estimates else 0.0
    limit = _UNDETERMINED[trajectory.theta.dtype]
    if not estimate > limit:  # which is false of NaN, where nothing is known
        return None
    return (
        "Rounding decides this fit: the last bits of X move the parameters by about "
        f"{estimate:.1g} of their way, and predictions between the training rows by more than a "
        "hundredth of their range. Raise damping, to 1e-3 for instance, or lower alpha to 0."
    )


def elsewhere(found: np.ndarray, model: np.ndarray) -> str | None:
    """What to warn of where a flow that was followed once more leads to other outputs, else None.

    Parameters
    ----------
    found, model : ndarray of shape (n_samples, n_outputs)
        f_θ − f_θ₀ of the flow that was followed, and of the fit.
    """
    missed, size = np.abs(found - model).max(initial=0), np.abs(model).max(initial=0)
    if missed <= _ELSEWHERE * size:
        return None
    share = missed / max(size, np.finfo(float).tiny)
    return (
        "The flow of the fit was followed once more, row by row, and ended elsewhere: outputs "
        f"differ by {share:.1g} of the largest, since modes that the fit follows are hardly "
        "resolved. What was asked of its rows does not suit its predictions. Fit with damping, "
        "1e-3 for instance, and in dtype='float64'."
    )


def unscaled(problem: Any) -> str | None:
    """What to warn of where columns that are not scaled dwarf the others, else None.

    Small columns are no reason: rare indicators and counts are small beside numbers of size one.
    Nor is a table of which all columns are large, which is a choice of units.
    """
    X, inputs = problem.data.X, problem.inputs
    some = dense(read(X, few(len(X), _LOOKED_AT_ROWS)))
    sizes = np.sqrt(np.square(some).mean(axis=0, dtype=np.float64))
    if not (sizes > 0).any():
        return None
    typical = float(np.median(sizes[sizes > 0]))
    large = np.flatnonzero((sizes > _DWARFS * typical) & (sizes > _SATURATES))
    if not large.size:
        return None
    n_features = problem.described["n_features_in_"]
    names = problem.described.get("feature_names_in_", [f"x{j}" for j in range(n_features)])
    origins = inputs.origins(n_features, len(sizes))
    told = [f"{str(names[origins[j]])!r} ({sizes[j]:.3g})" for j in large[:_NAMED]]
    more = f" and {large.size - _NAMED} more" if large.size > _NAMED else ""
    return (
        f"The columns {', '.join(told)}{more} of X are more than {_DWARFS} times as large as a "
        f"typical one ({typical:.3g}), and the network hardly sees the others. Set "
        "scale_inputs=True, or scale X before, for instance with StandardScaler."
    )


def warn(message: str | None, category: type[Warning] = ConvergenceWarning) -> None:
    """A warning, where there is something to say, at the line that called the package.

    How deep the call is differs between a fit, a chunk and a search, so that it is looked up.
    """
    if message is not None:
        warnings.warn(message, category, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """The stacklevel, in `warn`, of the first frame beyond this package and scikit-learn."""
    depth, frame = 1, inspect.currentframe()
    frame = frame.f_back if frame else None  # that of `warn`
    while frame and frame.f_code.co_filename.startswith(_INSIDE):
        depth, frame = depth + 1, frame.f_back
    return depth
