"""A search over folds: which rows are held out, and what was chosen fitted to all rows.

How candidates are followed is in `_selection`. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_consistent_length

from sklearn_gflow.estimators._candidates import Grid
from sklearn_gflow.estimators._checkpoint import told_of
from sklearn_gflow.estimators._coding import CodedClasses
from sklearn_gflow.estimators._comparison import Asked, Compared
from sklearn_gflow.estimators._duration import least_seconds, long
from sklearn_gflow.estimators._folds import Folds, default_folds, folds_of, in_fold, present_folds
from sklearn_gflow.estimators._judgement import Judgement
from sklearn_gflow.estimators._members import fit_members, numbered_member, to_be_judged
from sklearn_gflow.estimators._progress import Task
from sklearn_gflow.estimators._reports import warn
from sklearn_gflow.estimators._selection import Search
from sklearn_gflow.estimators._workers import Workers

__all__ = ["over_folds"]

# Leave-one-out judges by at most so many random rows; its price grows with their cube.
_JUDGED_ROWS = 300
# So many networks are followed, of those that leave-one-out judged best; over a single part fewer.
_FOLLOWED, _FOLLOWED_ONCE = 4, 2
# Beyond so many rows, or outputs, a single part is held out.
_ONCE_ROWS, _ONCE_OUTPUTS = 2000, 8000


def over_folds(asked: Asked) -> Compared:
    """Candidates judged over folds, and those that are chosen fitted."""
    given, plain, whole, seed = asked.search, asked.plain, asked.whole, asked.seed
    closed_form = _closed_form(asked)
    folds = _folds(asked)
    part = None if asked.kept is None else asked.kept.open(told_of(whole, folds), [])
    # The parts of a search: leave-one-out, paths, stretched columns, fit.
    n_parts = 1 + bool(given.refit) + closed_form * (1 + (given.module is None))
    task = Task.begun(given, *asked.given, n_parts, level=2)
    search = replace(_search_over(asked, folds), checkpoint=part, task=task)
    paths = search.n_paths(followed=closed_form)
    warn(long(paths * least_seconds(plain._build(search.folds[0])), "search"), UserWarning)
    if closed_form:
        drawn = np.random.RandomState(seed).permutation(len(asked.rows.y))[:_JUDGED_ROWS]
        judged = search.best_followed(whole.take(np.sort(drawn)), rescaled=given.module is None)
    else:
        judged = search.all_followed()
    choice = search.choice(judged, ensemble=given.ensemble)
    task.say(f"chosen: {choice}")
    members = [
        numbered_member(plain, candidate, k, t)
        for k, (candidate, t) in enumerate(choice.members if given.refit else ())
    ]
    members = fit_members(members, whole, search.workers, search.checkpoint, task)
    return Compared(search, judged, choice, members, task)


def _closed_form(asked: Asked) -> bool:
    return asked.search.cv is None and asked.whole.loss.squared


def _search_over(asked: Asked, folds: Folds) -> Search:
    """The search over folds."""
    given, plain, whole, rows = asked.search, asked.plain, asked.whole, asked.rows
    classes = whole.coding.classes if isinstance(whole.coding, CodedClasses) else None
    problems = []
    for k, (training, held_out) in enumerate(folds):
        with in_fold(k, len(folds)):
            parts = rows.take(training), rows.take(held_out)
            problems.append(plain._problem(*parts, {}, classes))
    all_held_out = np.concatenate([held_out for _, held_out in folds])
    grid = Grid.of(
        given,
        closed_form=_closed_form(asked),
        in_blocks=plain._build(whole).settings.in_blocks,
        once=len(folds) == 1,
        sparse=whole.inputs.sparse,
        first=whole.encoding_by_default,
    )
    return Search(
        times=grid.times,
        n_folds=len(folds),
        grid=grid,
        build=partial(to_be_judged, plain, quick=given.cv is None),
        folds=problems,
        judgement=Judgement(
            whole.coding, rows.take(all_held_out), given.scoring, places=all_held_out
        ),
        by_fold=given.cv is not None and min(len(part) for _, part in folds) > 1,
        n_followed=_FOLLOWED if len(folds) > 1 else _FOLLOWED_ONCE,
        seed=asked.seed,
        workers=Workers(given.n_jobs),
        judgements_of_training=[
            Judgement(whole.coding, rows.take(training), given.scoring) for training, _ in folds
        ]
        if given.return_train_score
        else None,
    )


def _folds(asked: Asked) -> Folds:
    """Rows to train on and rows held out, among those of positive weight."""
    given, rows, whole, (X, y, _) = asked.search, asked.rows, asked.whole, asked.given
    present = asked.present
    classify = is_classifier(given) and rows.y.ndim == 1
    if given.cv is None:
        check_consistent_length(asked.groups, present)
        some = None if asked.groups is None else np.asarray(asked.groups)[present]
        n_rows, n_outputs = whole.data.targets.shape
        once = n_rows > _ONCE_ROWS or n_rows * n_outputs > _ONCE_OUTPUTS
        return default_folds(
            whole.data.X, rows.y, some, classify=classify, once=once, seed=asked.seed
        )
    return present_folds(folds_of(given.cv, X, y, asked.groups, classify=classify), present)
