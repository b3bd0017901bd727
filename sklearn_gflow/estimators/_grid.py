"""The grid of a search over α and the stopping time: its pairs, their scores, the best of them.

One flow for each α passes through all times, so that a grid costs as many flows as it has values of
α. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from sklearn_gflow.dynamics import t_from_tau, tau_from_t
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._reports import failure
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._stopping import judged_by
from sklearn_gflow.estimators._training import MARKS, Training

__all__ = ["Grid", "judge_held_out"]


@dataclass(frozen=True)
class Grid:
    """All pairs of some α and some stopping times.

    Attributes
    ----------
    alphas, times : list of float
        Values of α, and times t in increasing order.
    """

    alphas: list[float]
    times: list[float]

    @classmethod
    def of(cls, alphas: Any, t_ends: Any) -> Grid:
        """The grid that parameters name; without times those of a whole path.

        Raises
        ------
        ValueError
            If a value is out of range, or there is none.
        """
        values = np.atleast_1d(np.asarray(alphas, dtype=float))
        if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"alphas must hold numbers in [0, 1], at least one; got {alphas}")
        if t_ends is None:
            return cls(values.tolist(), t_from_tau(MARKS).tolist())
        times = np.unique(np.atleast_1d(np.asarray(t_ends, dtype=float)))
        if times.ndim != 1 or not len(times) or not ((times > 0) & (times <= 1)).all():
            raise ValueError(
                f"t_ends must hold times in (0, 1], at least one, or be None; got {t_ends}"
            )
        return cls(values.tolist(), times.tolist())

    def results(self, judged: np.ndarray) -> dict[str, Any]:
        """Fitted attributes: the grid as in `GridSearchCV.cv_results_`, and the best of it.

        Parameters
        ----------
        judged : ndarray of shape (n_folds, n_alphas, n_times, 2)
            Score and loss.
        """
        flat = judged.reshape(len(judged), -1, 2)
        scores, losses = flat[..., 0], flat[..., 1]
        pairs = [(alpha, t) for alpha in self.alphas for t in self.times]
        mean, mean_loss = scores.mean(axis=0), losses.mean(axis=0)
        results = {
            "params": [{"alpha": alpha, "t_end": t} for alpha, t in pairs],
            "param_alpha": np.ma.array([alpha for alpha, _ in pairs]),
            "param_t_end": np.ma.array([t for _, t in pairs]),
            **{f"split{k}_test_score": fold for k, fold in enumerate(scores)},
            "mean_test_score": mean,
            "std_test_score": _deviation(scores),
            "rank_test_score": rankdata(-mean, method="min").astype(int),
            "mean_test_loss": mean_loss,
        }
        if not np.isfinite(mean).any():
            raise failure(0.0, "no pair of α and t has a score that is a number", "")
        best = min(range(len(pairs)), key=lambda k: (-mean[k], mean_loss[k]))
        alpha, t_end = pairs[best]
        return {
            "cv_results_": results,
            "alpha_": alpha,
            "t_end_": t_end,
            "best_score_": float(mean[best]),
        }


def _deviation(scores: np.ndarray) -> np.ndarray:
    """Standard deviation over the folds; NaN where a score is not finite."""
    with np.errstate(invalid="ignore"):
        deviation: np.ndarray = scores.std(axis=0)
    return deviation


def judge_held_out(training: Training, problem: Problem, grid: Grid) -> np.ndarray:
    """(score, loss) on the rows held out, shape (n_alphas, n_times, 2): one flow for each α.

    And one more for t = 1, which may have another ridge.
    """
    held_out = problem.held_out
    assert held_out is not None
    paths = [[t for t in grid.times if t < 1], [t for t in grid.times if t == 1]]
    return np.array(
        [
            np.concatenate(
                [_judge_path(training, problem, held_out, a, path) for path in paths if path]
            )
            for a in grid.alphas
        ]
    )


def _judge_path(
    training: Training,
    problem: Problem,
    held_out: TrainingData,
    alpha: float,
    times: Sequence[float],
) -> np.ndarray:
    """(score, loss) on rows held out, shape (n_times, 2)."""
    taus = tau_from_t(times)
    training = training.at(alpha, times[-1])
    judge = judged_by(training, held_out, problem.coding.judge)
    trajectory = training.until(times[-1], [judge], taus.tolist()).trajectory
    history = trajectory.history()
    judged = np.stack([history["validation_score"], history["validation_loss"]], axis=1)
    # Times after the end of a flow that came to rest early are scored as its last point is; so is
    # t = 1.
    index = np.searchsorted(trajectory.tau, taus * (1 - 1e-9))
    return judged[np.where(np.isinf(taus), len(judged) - 1, np.minimum(index, len(judged) - 1))]
