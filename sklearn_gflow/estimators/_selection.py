"""The search itself: which networks are followed, which of them is best, and which join.

1. Where leave-one-out has a closed form, it judges all candidates by the kernel of their start,
   and the best of them are followed. Else all are.
2. They are followed over folds: only a real path knows what a network learns beyond its kernel.
3. The best of them is followed anew with inputs that it has stretched itself.
4. The best is chosen, and others join it where the mean of their predictions is better.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from sklearn_gflow.estimators._candidates import Candidate, Grid
from sklearn_gflow.estimators._ensemble import greedy_weights
from sklearn_gflow.estimators._folds import in_fold
from sklearn_gflow.estimators._following import Path, follow
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._reports import failure, warn
from sklearn_gflow.estimators._stopping import judge_left_out
from sklearn_gflow.estimators._training import Training

__all__ = ["Choice", "Judged", "Search"]

# Rounds in which others join the best.
_ROUNDS = 12

Builder = Callable[[Candidate, Problem], Training]
"""A training of a candidate at its start."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate, and what was found out about it.

    Attributes
    ----------
    candidate : Candidate
        What it is.
    left_out : ndarray of shape (n_times,) or None
        Loss of the leave-one-out predictions of its linearised flow.
    paths : list of Path
        Of every fold; empty where it was not followed.
    scores, losses : ndarray of shape (n_times,)
        On the rows held out, of all folds together; NaN where it was not followed.
    splits : ndarray of shape (n_folds, n_times) or None
        Scores fold by fold.
    failure : str
        Why it could not be followed; empty where it was, or was not to be.
    """

    candidate: Candidate
    left_out: np.ndarray | None
    paths: list[Path]
    scores: np.ndarray
    losses: np.ndarray
    splits: np.ndarray | None = None
    failure: str = ""

    @property
    def followed(self) -> bool:
        """Whether it has paths."""
        return bool(self.paths)

    def least_left_out(self) -> float:
        """The least of its leave-one-out losses."""
        return np.inf if self.left_out is None else float(self.left_out.min())

    @property
    def best(self) -> int:
        """Index of its best time; between equal scores that of the lower loss."""
        pairs = list(zip(self.scores, -self.losses, strict=True))
        return max(range(len(pairs)), key=pairs.__getitem__)

    def readings(self, time: int) -> np.ndarray:
        """Predictions of all rows held out at a time."""
        return np.concatenate([path.readings[time] for path in self.paths])


@dataclass(frozen=True)
class Choice:
    """What is to be fitted on all rows.

    Attributes
    ----------
    members : list of (Candidate, float)
        Candidates and their stopping times, the best one first.
    weights : ndarray of shape (n_members,)
        Of their predictions.
    score : float
        Of the best one on the rows held out.
    readings : ndarray of shape (n_held_out, n_outputs)
        Predictions of all members together of the rows held out.
    """

    members: list[tuple[Candidate, float]]
    weights: np.ndarray
    score: float
    readings: np.ndarray


@dataclass(frozen=True)
class Search:
    """A search over a grid.

    Attributes
    ----------
    grid : Grid
        What is searched.
    build : callable
        Makes a training of a candidate.
    folds : list of Problem
        Rows to train on, and rows held out, before they are encoded.
    judgement : Judgement
        Of the rows held out, fold after fold.
    by_fold : bool
        Whether the score is the mean over the folds, as in scikit-learn's searches, and not that
        of all rows held out together.
    n_followed : int
        How many networks are followed, of those that leave-one-out judged best.
    seed : int
        Of encodings.
    """

    grid: Grid
    build: Builder
    folds: list[Problem]
    judgement: Judgement
    by_fold: bool
    n_followed: int
    seed: int

    def all_followed(self) -> list[Judged]:
        """All candidates over all folds."""
        return [self.followed(candidate) for candidate in self.grid.candidates()]

    def best_followed(self, problem: Problem, *, rescaled: bool) -> list[Judged]:
        """All candidates by leave-one-out on the rows of a problem, and the best over the folds.

        The columns as they are always take part: the kernel of a start knows nothing of what
        networks learn, and is to do no harm.
        """
        judged = self._left_out(problem)
        networks: dict[tuple[int, float], Judged] = {}
        for one in sorted(judged, key=Judged.least_left_out):
            place = self.grid.encodings.index(one.candidate.encoding)
            networks.setdefault((place, one.candidate.init_scale), one)
        order = list(networks.values())
        plain = [one for one in order[self.n_followed :] if one.candidate.encoding is None]
        for one in [*order[: self.n_followed], *plain[:1]]:
            place = next(k for k, other in enumerate(judged) if other is one)
            judged[place] = self.followed(one.candidate, one.left_out, stretch=rescaled)
        return [*judged, *self._rescaled(judged)] if rescaled else judged

    def _rescaled(self, judged: Sequence[Judged]) -> list[Judged]:
        """The best one anew, with inputs stretched by its own path in each fold."""
        followed = [one for one in judged if one.followed]
        if not followed:
            return []
        best = max(followed, key=lambda one: one.scores[one.best])
        factors = [path.factors for path in best.paths if path.factors is not None]
        if len(factors) < len(best.paths):  # a path did not come as far
            return []
        return [self.followed(best.candidate.rescaled(), factors=factors)]

    def _left_out(self, problem: Problem) -> list[Judged]:
        judged = []
        for encoding in self.grid.encodings:
            encoded = problem.encoded(encoding, self.seed)
            for scale in self.grid.init_scales:
                candidates = [Candidate(encoding, scale, alpha) for alpha in self.grid.alphas]
                training = self.build(candidates[0], encoded)
                times = self.grid.times
                found = judge_left_out(training, problem.coding.judge, self.grid.alphas, times)
                judged += [
                    self._unfollowed(candidate, of_alpha[:, 1])
                    for candidate, of_alpha in zip(candidates, found, strict=True)
                ]
        return judged

    def followed(
        self,
        candidate: Candidate,
        left_out: np.ndarray | None = None,
        *,
        stretch: bool = False,
        factors: Sequence[np.ndarray] | None = None,
    ) -> Judged:
        """A candidate over all folds."""
        judged = self._unfollowed(candidate, left_out)
        for k, fold in enumerate(self.folds):
            try:
                with in_fold(k, len(self.folds)):
                    problem = fold.encoded(candidate.encoding, self.seed)
                    if factors is not None:
                        problem = problem.stretched(factors[k])
                    training = self.build(candidate, problem)
                    path = follow(training, problem, self.grid.times, stretch=stretch)
            except ValueError as error:  # others may do better; `choice` tells
                return replace(judged, paths=[], failure=str(error))
            judged.paths.append(path)
        return self._scored(judged)

    def _unfollowed(self, candidate: Candidate, left_out: np.ndarray | None) -> Judged:
        nothing = np.full(len(self.grid.times), np.nan)
        splits = np.tile(nothing, (len(self.folds), 1)) if self.by_fold else None
        return Judged(candidate, left_out, [], nothing, nothing, splits)

    def _scored(self, judged: Judged) -> Judged:
        readings = [judged.readings(k) for k in range(len(self.grid.times))]
        losses = np.array([self.judgement.loss(x) for x in readings])
        if not self.by_fold:
            scores = np.array([self.judgement.score(x) for x in readings])
            return replace(judged, scores=scores, losses=losses)
        ends = np.cumsum([len(path.readings[0]) for path in judged.paths])
        parts = np.split(np.arange(ends[-1]), ends[:-1])
        judges = [self.judgement.take(part) for part in parts]
        splits = np.array(
            [[judge.score(x[part]) for x in readings]
             for judge, part in zip(judges, parts, strict=True)]
        )  # fmt: skip
        with np.errstate(invalid="ignore"):
            scores = splits.mean(axis=0)
        return replace(judged, scores=scores, losses=losses, splits=splits)

    # -- what is chosen --------------------------------------------------------------------------

    def choice(self, judged: Sequence[Judged], *, ensemble: bool) -> Choice:
        """The best one, and those that join it.

        Raises
        ------
        ValueError
            If no candidate has a score that is a number, or all failed.
        """
        followed = [one for one in judged if one.followed]
        failures = [one.failure for one in judged if one.failure]
        if failures and not followed:
            raise ValueError(failures[0])
        if failures:
            warn(
                f"{len(failures)} of {len(failures) + len(followed)} candidates failed and have no "
                f"score; the first: {failures[0]}"
            )
        ranked = sorted(followed, key=lambda one: (-one.scores[one.best], one.losses[one.best]))
        ranked = [one for one in ranked if np.isfinite(one.scores[one.best])]
        if not ranked:
            raise failure(0.0, "no candidate has a score that is a number", "")
        readings = np.array([one.readings(one.best) for one in ranked])
        weights = np.zeros(len(ranked))
        weights[0] = 1.0
        if ensemble and len(ranked) > 1:
            weights = greedy_weights(readings, self.judgement.loss, _ROUNDS)
        members = [
            (one.candidate, self.grid.times[one.best])
            for one, weight in zip(ranked, weights, strict=True)
            if weight > 0
        ]
        best = ranked[0]
        return Choice(
            members,
            weights[weights > 0],
            float(best.scores[best.best]),
            np.tensordot(weights, readings, axes=1),
        )

    def results(self, judged: Sequence[Judged]) -> dict[str, Any]:
        """All candidates at all times, in the form of `GridSearchCV.cv_results_`."""
        params = [
            {**one.candidate.parameters(), "t_end": t} for one in judged for t in self.grid.times
        ]
        scores = np.concatenate([one.scores for one in judged])
        results: dict[str, Any] = {"params": params}
        for name in params[0]:
            column = np.ma.masked_all(len(params), dtype=_dtype(name))
            for k, row in enumerate(params):
                column[k] = row[name]
            results[f"param_{name}"] = column
        splits = [one.splits for one in judged]
        if self.by_fold:
            stacked = np.concatenate([part for part in splits if part is not None], axis=1)
            for k, fold in enumerate(stacked):
                results[f"split{k}_test_score"] = fold
            with np.errstate(invalid="ignore"):
                results["std_test_score"] = stacked.std(axis=0)
        results["mean_test_score"] = scores
        results["rank_test_score"] = rankdata(
            np.where(np.isnan(scores), np.inf, -scores), method="min"
        ).astype(int)
        results["mean_test_loss"] = np.concatenate([one.losses for one in judged])
        if any(one.left_out is not None for one in judged):
            nothing = np.full(len(self.grid.times), np.nan)
            results["loo_loss"] = np.concatenate(
                [nothing if one.left_out is None else one.left_out for one in judged]
            )
        return results


def _dtype(name: str) -> Any:
    return {"encoding": object, "rescalings": int}.get(name, float)
