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
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import rankdata

from sklearn_gflow.estimators._candidates import Candidate, Grid
from sklearn_gflow.estimators._checkpoint import Part
from sklearn_gflow.estimators._ensemble import greedy_weights
from sklearn_gflow.estimators._folds import in_fold
from sklearn_gflow.estimators._following import Path, follow
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._kept_tasks import each_once, kept_alone
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._progress import FLOW, UNTOLD, Task
from sklearn_gflow.estimators._reports import failure, warn
from sklearn_gflow.estimators._stopping import judge_left_out
from sklearn_gflow.estimators._training import Training
from sklearn_gflow.estimators._workers import Workers

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
    training : ndarray of shape (n_folds, n_times) or None
        Scores of the rows that were trained on, where they were asked for.
    """

    candidate: Candidate
    left_out: np.ndarray | None
    paths: list[Path]
    scores: np.ndarray
    losses: np.ndarray
    splits: np.ndarray | None = None
    failure: str = ""
    training: np.ndarray | None = None

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

    def verdict(self, times: Sequence[float]) -> str:
        """Its score, or why it has none."""
        if self.failure:
            return f"failed: {self.failure}"
        return f"score = {self.scores[self.best]:.6g} at t = {times[self.best]:.6g}"

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
    place : int
        Of the best one in the results.
    weights : ndarray of shape (n_members,)
        Of their predictions.
    score : float
        Of the best one on the rows held out.
    readings : ndarray of shape (n_held_out, n_outputs)
        Predictions of all members together of the rows held out.
    """

    members: list[tuple[Candidate, float]]
    place: int
    weights: np.ndarray
    score: float
    readings: np.ndarray

    def __str__(self) -> str:
        """As a line names it."""
        candidate, t_end = self.members[0]
        told = f"{candidate}, t_end={t_end:.6g}, score = {self.score:.6g}"
        if len(self.members) == 1:
            return told
        return f"{told}; {len(self.members)} members of weights {self.weights.round(3).tolist()}"


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
    workers : Workers
        Who does it.
    judgements_of_training : list of Judgement or None
        Of the rows that each fold trains on, where they are to be scored.
    checkpoint : Part or None
        Where it is kept what was found.
    task : Task
        What is told of it.
    """

    grid: Grid
    build: Builder
    folds: list[Problem]
    judgement: Judgement
    by_fold: bool
    n_followed: int
    seed: int
    workers: Workers
    judgements_of_training: list[Judgement] | None = None
    checkpoint: Part | None = None
    task: Task = UNTOLD

    def n_paths(self, *, followed: bool) -> int:
        """How many paths are followed at the least: of the best networks, or of all candidates."""
        return len(self.folds) * (self.n_followed if followed else len(self.grid.candidates()))

    def all_followed(self) -> list[Judged]:
        """All candidates over all folds."""
        return self.followed([self._unfollowed(one, None) for one in self.grid.candidates()])

    def best_followed(self, problem: Problem, *, rescaled: bool) -> list[Judged]:
        """All candidates by leave-one-out on the rows of a problem, and the best over the folds.

        The columns as they are always take part: the kernel of a start knows nothing of what
        networks learn, and is to do no harm.
        """
        judged = self._left_out(problem)
        networks: dict[tuple[int, float], int] = {}
        for k in sorted(range(len(judged)), key=lambda k: judged[k].least_left_out()):
            place = self.grid.encodings.index(judged[k].candidate.encoding)
            networks.setdefault((place, judged[k].candidate.init_scale), k)
        order = list(networks.values())
        plain = [k for k in order[self.n_followed :] if judged[k].candidate.plain]
        places = [*order[: self.n_followed], *plain[:1]]
        followed = self.followed([judged[k] for k in places], stretch=rescaled)
        for k, one in zip(places, followed, strict=True):
            judged[k] = one
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
        again = [self._unfollowed(best.candidate.rescaled(), None)]
        return self.followed(again, factors=factors, name="stretched columns")

    def _left_out(self, problem: Problem) -> list[Judged]:
        grid = self.grid
        networks = list(product(grid.encodings, grid.init_scales))
        firsts = [Candidate(*network, grid.alphas[0]) for network in networks]
        with self.task.subtask("leave-one-out", len(firsts)) as task:
            found = each_once(
                self.checkpoint,
                self.workers,
                partial(_losses_left_out, self.build, grid.times, self.seed, grid.alphas),
                {
                    f"left out {k}, {first}": (first, problem, task.numbered("network"))
                    for k, first in enumerate(firsts)
                },
            )
        return [
            self._unfollowed(Candidate(*network, alpha), losses)
            for network, of_network in zip(networks, found, strict=True)
            for alpha, losses in zip(grid.alphas, of_network, strict=True)
        ]

    def followed(
        self,
        candidates: Sequence[Judged],
        *,
        stretch: bool = False,
        factors: Sequence[np.ndarray] | None = None,
        name: str = "paths",
    ) -> list[Judged]:
        """Candidates over all folds."""
        n_folds = len(self.folds)
        work = partial(
            _path, self.build, self.grid.times, self.seed, n_folds,
            stretch=stretch, both=self.judgements_of_training is not None,
        )  # fmt: skip
        with self.task.subtask(name, len(candidates) * n_folds) as task:
            named = {}
            for (j, one), (k, fold) in product(enumerate(candidates, 1), enumerate(self.folds)):
                # Several candidates may look alike.
                name = f"path {j}, of {one.candidate}, over fold {k}"
                place = f"candidate {j} of {len(candidates)}, fold {k + 1} of {n_folds}"
                own = kept_alone(self.checkpoint, self.workers, name, fold)
                told = task.subtask(place, FLOW, str(one.candidate))
                of_fold = None if factors is None else factors[k]
                named[name] = one.candidate, k, own, of_fold, told
            found = each_once(self.checkpoint, self.workers, work, named)
        paths = [one if isinstance(one, str) else Path(**one) for one in found]
        judged = [
            self._scored(one, paths[k * n_folds : (k + 1) * n_folds])
            for k, one in enumerate(candidates)
        ]
        for one in judged:
            task.say(f"{one.candidate}: {one.verdict(self.grid.times)}")
        return judged

    def _unfollowed(self, candidate: Candidate, left_out: np.ndarray | None) -> Judged:
        nothing = self._nothing[0]
        splits = self._nothing if self.by_fold else None
        return Judged(candidate, left_out, [], nothing, nothing, splits)

    @property
    def _nothing(self) -> np.ndarray:
        """Scores of a candidate that was not followed, shape (n_folds, n_times)."""
        return np.full((len(self.folds), len(self.grid.times)), np.nan)

    def _scored(self, judged: Judged, paths: Sequence[Path | str]) -> Judged:
        followed = [path for path in paths if not isinstance(path, str)]
        if len(followed) < len(paths):  # others may do better; `choice` tells
            return replace(judged, failure=next(path for path in paths if isinstance(path, str)))
        judged = replace(judged, paths=followed)
        readings = [judged.readings(k) for k in range(len(self.grid.times))]
        losses = np.array([self.judgement.loss(x) for x in readings])
        judged = replace(judged, losses=losses, training=self._scores_of_training(followed))
        if not self.by_fold:
            scores = np.array([self.judgement.score(x) for x in readings])
            return replace(judged, scores=scores)
        ends = np.cumsum([len(path.readings[0]) for path in followed])
        parts = np.split(np.arange(ends[-1]), ends[:-1])
        judges = [self.judgement.take(part) for part in parts]
        splits = np.array(
            [[judge.score(x[part]) for x in readings]
             for judge, part in zip(judges, parts, strict=True)]
        )  # fmt: skip
        with np.errstate(invalid="ignore"):
            scores = splits.mean(axis=0)
        return replace(judged, scores=scores, splits=splits)

    def _scores_of_training(self, paths: Sequence[Path]) -> np.ndarray | None:
        """Of the rows that were trained on, fold by fold."""
        if self.judgements_of_training is None:
            return None
        return np.array(
            [[judge.score(x) for x in path.training]
             for judge, path in zip(self.judgements_of_training, paths, strict=True)
             if path.training is not None]
        )  # fmt: skip

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
        place = next(k for k, one in enumerate(judged) if one is best)
        return Choice(
            members,
            place * len(self.grid.times) + best.best,
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
        if self.by_fold:
            results |= _split_scores("test", [one.splits for one in judged], self._nothing)
        if self.judgements_of_training is not None:
            results |= _split_scores("train", [one.training for one in judged], self._nothing)
        results["mean_test_score"] = scores
        results["rank_test_score"] = rankdata(
            np.where(np.isnan(scores), np.inf, -scores), method="min"
        ).astype(int)
        results["mean_test_loss"] = np.concatenate([one.losses for one in judged])
        if any(one.left_out is not None for one in judged):
            nothing = self._nothing[0]
            results["loo_loss"] = np.concatenate(
                [nothing if one.left_out is None else one.left_out for one in judged]
            )
        return results


def _losses_left_out(
    build: Builder,
    times: Sequence[float],
    seed: int,
    alphas: Sequence[float],
    candidate: Candidate,
    problem: Problem,
    task: Task,
) -> np.ndarray:
    """Losses of the leave-one-out predictions by a network's kernel, shape (n_alphas, n_times).

    One problem goes to all workers, and becomes that of a task there: so it is sent once.
    """
    with task:
        problem = problem.told_by(task).in_memory().encoded(candidate.encoding, seed)
        found = judge_left_out(build(candidate, problem), problem.coding.judge, alphas, times)
        losses = found[:, :, 1]
        best = replace(candidate, alpha=alphas[losses.min(axis=1).argmin()])
        task.say(f"{best}: loss = {losses.min():.6g}")
    return losses


def _path(
    build: Builder,
    times: Sequence[float],
    seed: int,
    n_folds: int,
    candidate: Candidate,
    k: int,
    fold: Problem,
    factors: np.ndarray | None,
    task: Task,
    *,
    stretch: bool,
    both: bool,
) -> dict[str, Any] | str:
    """The members of a path of a candidate over a fold, or why there is none."""
    try:
        with in_fold(k, n_folds), task:
            problem = fold.told_by(task).in_memory().encoded(candidate.encoding, seed)
            if factors is not None:
                problem = problem.stretched(factors)
            training = build(candidate, problem)
            return vars(follow(training, problem, times, stretch=stretch, both=both))
    except ValueError as error:
        return str(error)


def _split_scores(
    kind: str, splits: Sequence[np.ndarray | None], nothing: np.ndarray
) -> dict[str, Any]:
    """Scores fold by fold, and what scikit-learn's searches say of them."""
    stacked = np.concatenate([nothing if part is None else part for part in splits], axis=1)
    results: dict[str, Any] = {f"split{k}_{kind}_score": fold for k, fold in enumerate(stacked)}
    with np.errstate(invalid="ignore"):
        results[f"mean_{kind}_score"] = stacked.mean(axis=0)
        results[f"std_{kind}_score"] = stacked.std(axis=0)
    return results


def _dtype(name: str) -> Any:
    return {"encoding": object, "rescalings": int}.get(name, float)
