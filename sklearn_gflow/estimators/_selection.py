"""The search over folds: which networks are followed.

1. Where leave-one-out has a closed form, it judges all candidates by the kernel of their start,
   and the best of them are followed. Else all are.
2. They are followed over folds: only a real path knows what a network learns beyond its kernel.
3. The best of them is followed anew with inputs that it has stretched itself.

They are compared by rows held out (`_comparison`).

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from sklearn_gflow.estimators._candidates import Candidate, Grid
from sklearn_gflow.estimators._checkpoint import Part
from sklearn_gflow.estimators._comparison import Comparison, Judged
from sklearn_gflow.estimators._folds import in_fold
from sklearn_gflow.estimators._following import Path, follow
from sklearn_gflow.estimators._kept_tasks import each_once, kept_alone
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._progress import FLOW, UNTOLD, Task
from sklearn_gflow.estimators._stopping import judge_left_out
from sklearn_gflow.estimators._training import Training
from sklearn_gflow.estimators._workers import Workers

__all__ = ["Search"]

Builder = Callable[[Candidate, Problem], Training]
"""A training of a candidate at its start."""


@dataclass(frozen=True, kw_only=True)
class Search(Comparison):
    """A search over a grid.

    Attributes
    ----------
    grid : Grid
        What is searched.
    build : callable
        Makes a training of a candidate.
    folds : list of Problem
        Rows to train on, and rows held out, before they are encoded.
    n_followed : int
        How many networks are followed, of those that leave-one-out judged best.
    seed : int
        Of encodings.
    workers : Workers
        Who does it.
    checkpoint : Part or None
        Where it is kept what was found.
    task : Task
        What is told of it.
    """

    grid: Grid
    build: Builder
    folds: list[Problem]
    n_followed: int
    seed: int
    workers: Workers
    checkpoint: Part | None = None
    task: Task = UNTOLD

    def n_paths(self, *, followed: bool) -> int:
        """How many paths are followed at the least: of the best networks, or of all candidates."""
        return len(self.folds) * (self.n_followed if followed else len(self.grid.candidates()))

    def all_followed(self) -> list[Judged]:
        """All candidates over all folds."""
        return self.followed([self.unfollowed(one) for one in self.grid.candidates()])

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
        again = [self.unfollowed(best.candidate.rescaled())]
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
            self.unfollowed(Candidate(*network, alpha), losses)
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
            self.scored(one, paths[k * n_folds : (k + 1) * n_folds])
            for k, one in enumerate(candidates)
        ]
        for one in judged:
            task.say(f"{one.candidate}: {one.verdict(self.grid.times)}")
        return judged


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
