"""Members of an ensemble: candidates as estimators, fitted and used together.

X is read once for all of them, and what they say of it is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.estimators._candidates import Candidate
from sklearn_gflow.estimators._checkpoint import Part
from sklearn_gflow.estimators._kept_tasks import kept_alone
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._progress import FLOW, Task
from sklearn_gflow.estimators._reading import on_disk
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._training import Training
from sklearn_gflow.estimators._workers import Workers

__all__ = ["Members", "fit_members", "numbered_member", "to_be_judged", "written"]

_LARGEST_SEED = 2**31 - 1

T = TypeVar("T")


def _member_of(plain: Any, candidate: Candidate, **parameters: Any) -> Any:
    """The estimator of a candidate, and of other parameters."""
    given = {declared.name: getattr(plain, declared.name) for declared in fields(plain)}
    return type(plain)(**{**given, **candidate.parameters(), **parameters})


def numbered_member(plain: Any, candidate: Candidate, number: int, t_end: float | str) -> Any:
    """The estimator of one of several candidates, each with a start of its own.

    The first has the start of the plain estimator, and alone keeps a Gram that nobody asked for.
    """
    own: dict[str, Any] = {"t_end": t_end}
    if number:
        own["random_state"] = (plain.random_state + number) % _LARGEST_SEED
    if number and isinstance(plain.store_gram, str):  # one Gram to look at is enough
        own["store_gram"] = False
    return _member_of(plain, candidate, **own)


def to_be_judged(plain: Any, candidate: Candidate, problem: Problem, *, quick: bool) -> Training:
    """The training of a candidate; of a splitter's folds it is that of a fit, to the bit."""
    training: Training = _member_of(plain, candidate)._build(problem)
    return training.quick() if quick else training


def fit_members(
    members: Sequence[Any], problem: Problem, workers: Workers, part: Part | None, task: Task
) -> list[Any]:
    """Estimators that are fitted to one problem, which share what reads and scales X."""
    mapped = on_disk(problem.data.X) is not None
    problems = [kept_alone(part, workers, f"member {k}", problem) for k in range(len(members))]
    if not members:
        return []
    with task.subtask("fit", len(members)) as fits:
        tasks = [
            (member, own, mapped, fits.numbered("member", FLOW))
            for member, own in zip(members, problems, strict=True)
        ]
        found = workers.each(_fitted, tasks)
    return [
        written(member, attributes, problem)
        for member, attributes in zip(members, found, strict=True)
    ]


def written(member: Any, attributes: dict[str, Any], problem: Problem) -> Any:
    """A member with its fitted attributes, which share what those of a problem have in common."""
    own = {"_inputs": attributes["_inputs"].sharing(problem.inputs)}
    if "_kept" in attributes:
        own |= attributes["_kept"].sharing(problem.data).attributes()
    return member._write({**attributes, **own})


def _fitted(member: Any, problem: Problem, mapped: bool, task: Task) -> dict[str, Any]:
    """Fitted attributes; a table that the user has mapped from disk is not read whole."""
    with task:
        problem = problem.told_by(task)
        task.say(f"alpha={member.alpha!r}, encoding={member.encoding!r}, t_end={member.t_end:.6g}")
        found: dict[str, Any] = member._fitted(problem if mapped else problem.in_memory())
    return found


@dataclass(frozen=True)
class Members:
    """Fitted estimators with weights.

    Attributes
    ----------
    estimators : sequence of estimators
        At least one.
    weights : ndarray of shape (n_members,)
        Theirs.
    """

    estimators: Sequence[Any]
    weights: np.ndarray

    @classmethod
    def of(cls, search: Any) -> Members:
        """Those of a search.

        Raises
        ------
        AttributeError
            If it fitted none.
        """
        check_is_fitted(search)
        if not hasattr(search, "estimators_"):
            raise AttributeError(
                f"This {type(search).__name__} instance was initialized with `refit=False`. It "
                "predicts only after refitting on the best parameters. You can refit an estimator "
                "manually using the `best_params_` attribute"
            )
        return cls(search.estimators_, search.ensemble_weights_)

    def use(self, X: Any, use: Callable[[Any, Any], T]) -> list[T]:
        """What ``use(member, columns)`` makes of each member and of the columns that X is to it.

        X is read and scaled once for all that do it alike, as they do where one search made them.
        """
        first = self.estimators[0]
        with undisturbed():
            scaled, found = first._inputs.scaled(first, X), []
            for member in self.estimators:
                inputs = member._inputs
                alike = inputs.scales_like(first._inputs)
                own = scaled if alike else inputs.scaled(member, X)
                found.append(use(member, inputs.finished(own)))
        return found

    def readings(self, X: Any) -> np.ndarray:
        """What they predict on average, shape (n_samples, n_outputs)."""
        return self.mean(self.use(X, _reading))

    def readings_and_deviations(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """The same, and the standard deviation of a new observation, shaped as y is.

        The square error of a mean is at most the mean of the square errors.
        """
        readings, deviations = zip(*self.use(X, _reading_and_deviation), strict=True)
        return self.mean(readings), np.sqrt(self.mean([one**2 for one in deviations]))

    def mean(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Weighted mean of a value of each."""
        weighted = [weight * one for weight, one in zip(self.weights, values, strict=True)]
        total: np.ndarray = np.sum(weighted, axis=0)
        return total


def _reading(member: Any, columns: Any) -> np.ndarray:
    readings: np.ndarray = member._coding.readings(member._network.model(columns))
    return readings


def _reading_and_deviation(member: Any, columns: Any) -> tuple[np.ndarray, np.ndarray]:
    model = member._network.model(columns)
    return member._coding.readings(model), member._deviations(columns, model)
