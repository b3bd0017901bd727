"""Candidates compared by what their paths say of rows held out.

The best is chosen, and others join it where the mean of their predictions is better.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from sklearn_gflow.estimators._candidates import Candidate, shown_time
from sklearn_gflow.estimators._checkpoint import Checkpoint
from sklearn_gflow.estimators._ensemble import even_weights, greedy_weights
from sklearn_gflow.estimators._following import Path
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._progress import Task
from sklearn_gflow.estimators._reports import failure, warn
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._validation import check_weights

__all__ = ["Asked", "Choice", "Compared", "Comparison", "Judged"]

# Rounds in which others join the best.
_ROUNDS = 12
# Parts of the rows held out, over which losses of candidates differ by chance.
_PARTS = 10


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

    @property
    def n_iter(self) -> int | None:
        """Epochs of its path, where rows kept apart ended it."""
        return self.paths[0].n_iter if self.paths else None

    def least_left_out(self) -> float:
        """The least of its leave-one-out losses."""
        return np.inf if self.left_out is None else float(self.left_out.min())

    @property
    def best(self) -> int:
        """Index of its best time; between equal scores that of the lower loss."""
        pairs = list(zip(self.scores, -self.losses, strict=True))
        return max(range(len(pairs)), key=pairs.__getitem__)

    def verdict(self, times: Sequence[Any]) -> str:
        """Its score, or why it has none."""
        if self.failure:
            return f"failed: {self.failure}"
        told = f"score = {self.scores[self.best]:.6g}"
        if self.n_iter is not None:
            return f"{told} after {self.n_iter} epochs"
        return f"{told} at t = {times[self.best]:.6g}"

    def readings(self, time: int) -> np.ndarray:
        """Predictions of all rows held out at a time."""
        return np.concatenate([path.readings[time] for path in self.paths])


@dataclass(frozen=True)
class Choice:
    """What is to be fitted on all rows.

    Attributes
    ----------
    members : list of (Candidate, float or str)
        Candidates and their stopping times, the best one first.
    place : int
        Of the best one in the results.
    weights : ndarray of shape (n_members,)
        Of their predictions.
    score : float
        Of the best one on the rows held out.
    readings : ndarray of shape (n_held_out, n_outputs)
        Predictions of all members together of the rows held out.
    candidates : list of int
        Which of those that were judged the members are.
    """

    members: list[tuple[Candidate, Any]]
    place: int
    weights: np.ndarray
    score: float
    readings: np.ndarray
    candidates: list[int]

    def __str__(self) -> str:
        """As a line names it."""
        candidate, t_end = self.members[0]
        told = f"{candidate}, t_end={shown_time(t_end)}, score = {self.score:.6g}"
        if len(self.members) == 1:
            return told
        return f"{told}; {len(self.members)} members of weights {self.weights.round(3).tolist()}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How candidates are compared.

    Attributes
    ----------
    times : sequence of float or str
        At which each path is looked at: t in increasing order, or the end that it finds itself.
    n_folds : int
        How many paths a candidate has.
    judgement : Judgement
        Of the rows held out, fold after fold.
    by_fold : bool
        Whether the score is the mean over the folds, as in scikit-learn's searches, and not that
        of all rows held out together.
    judgements_of_training : list of Judgement or None
        Of the rows that each fold trains on, where they are to be scored.
    even_rows : int
        As so many rows held out count even weights of the candidates that are about as good there
        as the best. With any the ensemble scores no lower there than the first candidate.
    """

    times: Sequence[Any]
    n_folds: int
    judgement: Judgement
    by_fold: bool = False
    judgements_of_training: list[Judgement] | None = None
    even_rows: int = 0

    def unfollowed(self, candidate: Candidate, left_out: np.ndarray | None = None) -> Judged:
        """A candidate of which no path is known."""
        nothing = self._nothing[0]
        splits = self._nothing if self.by_fold else None
        return Judged(candidate, left_out, [], nothing, nothing, splits)

    @property
    def _nothing(self) -> np.ndarray:
        """Scores of a candidate that was not followed, shape (n_folds, n_times)."""
        return np.full((self.n_folds, len(self.times)), np.nan)

    def scored(self, judged: Judged, paths: Sequence[Path | str]) -> Judged:
        """The same with its paths, and scores at all times; or why it has none."""
        followed = [path for path in paths if not isinstance(path, str)]
        if len(followed) < len(paths):  # others may do better; `choice` tells
            return replace(judged, failure=next(path for path in paths if isinstance(path, str)))
        judged = replace(judged, paths=followed)
        readings = [judged.readings(k) for k in range(len(self.times))]
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
            first = judged[0].scores[judged[0].best]
            weights = self._weights(readings, float(first) if np.isfinite(first) else -np.inf)
        joined = [one for one, weight in zip(ranked, weights, strict=True) if weight > 0]
        best = ranked[0]  # it has always weight
        places = [next(k for k, other in enumerate(judged) if other is one) for one in joined]
        return Choice(
            [(one.candidate, self.times[one.best]) for one in joined],
            places[0] * len(self.times) + best.best,
            weights[weights > 0],
            float(best.scores[best.best]),
            np.tensordot(weights, readings, axes=1),
            places,
        )

    def _weights(self, readings: np.ndarray, least: float) -> np.ndarray:
        """Of candidates, the best one first; their mean scores so much at the least."""
        chosen = greedy_weights(readings, self.judgement.loss, _ROUNDS)
        if not self.even_rows:
            return chosen
        n_rows = readings.shape[1]
        parts = [np.arange(k, n_rows, _PARTS) for k in range(_PARTS)]
        judges = [self.judgement.take(part) for part in parts]
        losses = [
            [judge.loss(one[part]) for judge, part in zip(judges, parts, strict=True)]
            for one in readings
        ]
        even = even_weights(np.array(losses))
        steady = (n_rows * chosen + self.even_rows * even) / (n_rows + self.even_rows)
        for weights in (steady, chosen):
            if self.judgement.score(np.tensordot(weights, readings, axes=1)) >= least:
                return weights
        return np.eye(len(readings))[0]

    def results(self, judged: Sequence[Judged]) -> dict[str, Any]:
        """All candidates at all times, in the form of `GridSearchCV.cv_results_`."""
        params = [{**one.candidate.parameters(), "t_end": t} for one in judged for t in self.times]
        scores = np.concatenate([one.scores for one in judged])
        results: dict[str, Any] = {"params": params}
        for name in params[0]:
            column = np.ma.masked_all(len(params), dtype=_dtype([row[name] for row in params]))
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
        if any(one.n_iter is not None for one in judged):
            epochs = [one.n_iter for one in judged]
            absent = [n is None for n in epochs]
            results["n_iter"] = np.ma.masked_array([n or 0 for n in epochs], absent)
        return results


@dataclass(frozen=True)
class Asked:
    """What a search is asked.

    Attributes
    ----------
    search : estimator
        The search, with its parameters.
    plain : estimator
        The estimator without the search.
    whole : Problem
        All rows.
    rows : Rows
        The same as the user gave them.
    given : (X, y, sample_weight)
        Arguments of ``fit``.
    groups : array-like or None
        Of rows that are held out together.
    seed : int
        Of all draws.
    kept : Checkpoint or None
        Where it is kept what was found.
    """

    search: Any
    plain: Any
    whole: Problem
    rows: Rows
    given: tuple[Any, Any, Any]
    groups: Any
    seed: int
    kept: Checkpoint | None

    @property
    def present(self) -> np.ndarray:
        """Whether the weight of each row that was given is positive."""
        X, _, sample_weight = self.given
        weights = check_weights(sample_weight, X)
        return np.ones(len(self.rows.y), bool) if weights is None else weights > 0


class Compared(NamedTuple):
    """What a search found.

    Attributes
    ----------
    comparison : Comparison
        How candidates compare.
    judged : list of Judged
        What is known of each.
    choice : Choice
        What is chosen.
    members : list of estimators
        The same, fitted; none with ``refit=False``.
    task : Task
        What is told of it, not ended yet.
    """

    comparison: Comparison
    judged: list[Judged]
    choice: Choice
    members: list[Any]
    task: Task


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


def _dtype(values: Sequence[Any]) -> Any:
    for kind in (int, float):
        if all(isinstance(value, kind) for value in values):
            return kind
    return object
