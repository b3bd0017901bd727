"""Tasks of a search whose results a checkpoint keeps, so that none of them is done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sklearn_gflow.estimators._checkpoint import Part
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._workers import Workers

__all__ = ["each_once", "kept_alone"]


def each_once(
    part: Part | None,
    workers: Workers,
    function: Callable[..., Any],
    named: Mapping[str, tuple[Any, ...]],
) -> list[Any]:
    """The results of tasks, in their order, of which those are done that the checkpoint has not.

    Parameters
    ----------
    part : Part or None
        Of the checkpoint.
    workers : Workers
        Who does them.
    function : callable
        What a task is; its result is plain.
    named : dict of tuple
        Its arguments, by names that tell them apart.
    """
    if part is None:
        return workers.each(function, list(named.values()))
    missing = [name for name in named if not part.has(name)]

    def keep(k: int, result: Any) -> None:
        part.once(missing[k], lambda: result)

    workers.each(function, [named[name] for name in missing], keep)
    return [part.once(name, lambda: None) for name in named]


def kept_alone(part: Part | None, workers: Workers, name: str, problem: Problem) -> Problem:
    """A problem whose steps are kept as well, where no other process is to do it."""
    return problem if part is None or not workers.alone else problem.kept_by(part.under(name))
