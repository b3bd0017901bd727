"""A search over blocks without a given end: candidates are fits, and rows kept apart judge them.

All keep the same rows apart. What a network says of these at the point that they chose, before an
epoch over all rows closes its flow, compares the candidates; so none of them is fitted again.

Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from sklearn_gflow.estimators._candidates import OPEN, Candidate, open_candidates
from sklearn_gflow.estimators._checkpoint import Part, told_of
from sklearn_gflow.estimators._coding import CodedClasses, CodedNumbers
from sklearn_gflow.estimators._comparison import Asked, Compared, Comparison, Judged
from sklearn_gflow.estimators._duration import least_seconds, long
from sklearn_gflow.estimators._folds import groups_apart
from sklearn_gflow.estimators._following import Path
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._kept_tasks import kept_alone
from sklearn_gflow.estimators._members import numbered_member, written
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._progress import FLOW, Task
from sklearn_gflow.estimators._reading import on_disk
from sklearn_gflow.estimators._reports import warn
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._stopping import model_apart, rows_apart
from sklearn_gflow.estimators._workers import Workers

__all__ = ["Fit", "OpenSearch", "among_fits"]

# As so many rows held out count even weights of candidates that are about as good, and logits whose
# temperature is 1: of 5,000 rows a flow keeps 250 apart (docs/benchmarks/blocks_trials.md).
_BELIEVED = 500


def among_fits(asked: Asked) -> Compared:
    """Candidates fitted to all rows, and those of them that are chosen."""
    search, plain, whole = asked.search, asked.plain, asked.whole
    apart = _rows_apart(asked)
    # Others would stand in place of the indicators of frequent values, or be made for no module.
    encodable = not whole.inputs.sparse and search.module is None
    encodable = encodable and whole.encoding_by_default is None
    n_numbers = whole.inputs.n_numbers if encodable else 0
    candidates = open_candidates(search, plain._n_rescalings(whole), n_numbers)
    rest = np.setdiff1d(np.arange(len(asked.rows.y)), apart)
    folds = [(rest, apart)]
    part = None if asked.kept is None else asked.kept.open(told_of(whole, folds), [])
    task = Task.begun(search, *asked.given, 1, level=2)
    warn(long(len(candidates) * least_seconds(plain._build(whole)), "search"), UserWarning)
    fits = OpenSearch(
        plain, replace(whole, apart=apart), asked.rows, candidates,
        Workers(search.n_jobs), part, task,
    )  # fmt: skip
    comparison, judged, fitted = fits.compared(both=search.return_train_score)
    choice = comparison.choice(judged, ensemble=search.ensemble)
    task.say(f"chosen: {choice}")
    members = [fitted[k] for k in choice.candidates] if search.refit else []
    return Compared(comparison, judged, choice, members, task)


def _rows_apart(asked: Asked) -> np.ndarray:
    """Those that the plain estimator would keep apart, or as many rows of whole groups."""
    drawn = rows_apart(asked.plain._build(asked.whole, several=False))
    if asked.groups is None:
        return drawn
    check_consistent_length(asked.groups, asked.present)
    return groups_apart(np.asarray(asked.groups)[asked.present], len(drawn), asked.seed)


@dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes
    ----------
    attributes : dict
        Fitted attributes.
    coding : CodedNumbers or CodedClasses
        How y became targets.
    path : Path
        What it said of the rows that it kept apart.
    """

    attributes: dict[str, Any]
    coding: CodedNumbers | CodedClasses
    path: Path


@dataclass(frozen=True)
class OpenSearch:
    """A search whose candidates are fits.

    Attributes
    ----------
    plain : estimator
        The estimator without the search.
    problem : Problem
        All rows, with those that are kept apart.
    rows : Rows
        The same as the user gave them.
    candidates : list of Candidate
        The first is that of the defaults.
    workers : Workers
        Who fits them.
    checkpoint : Part or None
        Where steps are kept.
    task : Task
        What is told of it.
    """

    plain: Any
    problem: Problem
    rows: Rows
    candidates: list[Candidate]
    workers: Workers
    checkpoint: Part | None
    task: Task

    def compared(self, *, both: bool) -> tuple[Comparison, list[Judged], list[Any]]:
        """How the candidates compare, and their estimators, of which some may have failed.

        Raises
        ------
        ValueError
            If all failed.
        """
        members, found = self._fits(both=both)
        fits = [fit for fit in found if not isinstance(fit, str)]
        if not fits:
            raise ValueError(found[0])
        apart, scoring, coding = self.problem.apart, self.plain.scoring, fits[0].coding
        assert apart is not None
        rest = np.setdiff1d(np.arange(len(self.rows.y)), apart)
        logits = isinstance(coding, CodedClasses) and not coding.loss.loss.squared
        comparison = Comparison(
            times=[OPEN],
            n_folds=1,
            judgement=Judgement(
                coding,
                self.rows.take(apart),
                scoring,
                places=apart,
                trusted=_BELIEVED if logits else 0,
            ),
            judgements_of_training=[Judgement(coding, self.rows.take(rest), scoring)]
            if both
            else None,
            even_rows=_BELIEVED,
        )
        judged = [
            comparison.scored(
                comparison.unfollowed(candidate), [fit if isinstance(fit, str) else fit.path]
            )
            for candidate, fit in zip(self.candidates, found, strict=True)
        ]
        for one in judged:
            self.task.say(f"{one.candidate}: {one.verdict(comparison.times)}")
        return comparison, judged, members

    def _fits(self, *, both: bool) -> tuple[list[Any], list[Fit | str]]:
        """Estimators of all candidates, fitted where nothing failed."""
        workers = self.workers
        members = [
            numbered_member(self.plain, candidate, k, OPEN)
            for k, candidate in enumerate(self.candidates)
        ]
        mapped = on_disk(self.problem.data.X) is not None
        with self.task.subtask("candidates", len(members)) as task:
            tasks = []
            for k, (member, candidate) in enumerate(zip(members, self.candidates, strict=True)):
                problem = kept_alone(self.checkpoint, workers, f"candidate {k}", self.problem)
                told = task.numbered("candidate", FLOW, str(candidate))
                tasks.append((member, problem, mapped, told, both))
            found = workers.each(_fitted, tasks)
        for member, fit in zip(members, found, strict=True):
            if not isinstance(fit, str):
                written(member, fit.attributes, self.problem)
        return members, found


def _fitted(member: Any, problem: Problem, mapped: bool, task: Task, both: bool) -> Fit | str:
    """A candidate fitted to all rows, or why it is not."""
    with task:
        problem = problem.told_by(task)
        try:
            ended = member._ended(problem if mapped else problem.in_memory())
        except ValueError as error:
            return str(error)
        data, coding, apart = ended.problem.data, ended.problem.coding, ended.problem.apart

        def readings(rows: np.ndarray) -> np.ndarray:
            model = model_apart(ended.training, ended.trained, data.take(rows))
            return np.asarray(coding.readings(model))[None]

        rest = np.setdiff1d(np.arange(len(data.X)), apart)
        attributes = member._expose(ended)
        path = Path(
            readings(apart),
            training=readings(rest) if both else None,
            n_iter=attributes["n_iter_"],
        )
        return Fit(attributes, coding, path)
