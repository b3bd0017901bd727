"""Checkpoints: a fit that is written down as it goes, and goes on where it was left.

One file tells of a fit, or of several calls that went on with each other. It holds what they were
about, as digests, and parts by name: the state of a flow, or the result of what is done. The file
is always whole, for `archive` replaces it in one step.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch

from sklearn_gflow import archive
from sklearn_gflow.dynamics import State
from sklearn_gflow.estimators._group import by_all, ranks_of
from sklearn_gflow.estimators._plain import Reader, Writer, digest, in_words, on_device
from sklearn_gflow.estimators._reading import read, row_chunks
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._sparse import SparseRows
from sklearn_gflow.estimators._tensors import seed_of, to_numpy
from sklearn_gflow.exceptions import ArchiveError
from sklearn_gflow.geometry import Ranks

__all__ = ["CHECKPOINT", "Checkpoint", "FlowKeeper", "Part", "checkpointed", "once", "told_of"]

CHECKPOINT = """
A file in which the fit is written down as it goes, at least every half minute and at its end. The
same fit started again goes on from there and ends where it would have ended; one of another table
or other parameters is refused. Needs ``method="exponential"``.
"""
"""What the parameter is."""

Folds = Sequence[tuple[np.ndarray, np.ndarray]]

_FORMAT = 1
# Seconds between two writes: as many as one takes, times the first number, and never more than the
# second. So writing takes a twentieth of the time at most, and half a minute is all that is lost.
_SHARE, _LONGEST = 20, 30.0
# What is not asked for: where the file is, what is told on the way, and who computes.
_FREE = ("checkpoint", "distributed", "n_jobs", "verbose")
# Results that calls after the first use as well.
_LASTING = "rescaling"


@contextmanager
def checkpointed(estimator: Any) -> Iterator[tuple[Any, Checkpoint | None]]:
    """The estimator with a seed, and its checkpoint, whose end is written where all went well.

    They are the estimator itself and None where it has no checkpoint.

    Raises
    ------
    ValueError
        If its method has no steps that can be gone on from, or the file is none of a checkpoint.
    """
    if estimator.checkpoint is None:
        yield estimator, None
        return
    if (method := getattr(estimator, "method", "exponential")) != "exponential":
        raise ValueError(
            f"checkpoint keeps the steps of method='exponential', and those of method={method!r} "
            "are scipy's own; set checkpoint=None"
        )
    ranks = ranks_of(estimator)
    checkpoint = Checkpoint.of(estimator) if ranks is None else Checkpoint.shared(estimator, ranks)
    if estimator.random_state is None:
        if checkpoint.seed is None:
            checkpoint.seed = seed_of(None)
        estimator = copy.copy(estimator)
        estimator.random_state = checkpoint.seed
    yield estimator, checkpoint
    checkpoint.finish()


class Checkpoint:
    """The file of a fit.

    Parameters
    ----------
    path : str or path-like
        Where it is.
    parameters : dict of str
        The parameters of this call, in words.

    Attributes
    ----------
    calls : list of str
        What this call and those before it are about, each as digests.
    before : dict or None
        Where the last call in the file began, if it went on with another.
    parts : dict
        States of flows and results, by name.
    seed : int or None
        Of a fit without ``random_state``.
    passed_over : bool
        Whether the file has gone further than this call.
    """

    def __init__(self, path: str | os.PathLike[str], parameters: Mapping[str, str]) -> None:
        self.path, self.parameters = path, dict(parameters)
        self.calls: list[str] = []
        self.before: dict[str, Any] | None = None
        self.parts: dict[str, Any] = {}
        self.seed: int | None = None
        self.passed_over = False
        self.writes = True  # of ranks that share a fit the first one alone
        self._found: list[str] = []  # calls in the file
        self._known: dict[str, dict[str, str]] = {}  # their parameters, by digest
        self._written, self._cost, self._changed = time.monotonic(), 0.0, False

    @classmethod
    def of(cls, estimator: Any) -> Checkpoint:
        """That of an estimator's ``checkpoint``, with what is in the file if there is one.

        Raises
        ------
        ArchiveError
            If the file is torn, or none of a checkpoint.
        """
        given = {declared.name: getattr(estimator, declared.name) for declared in fields(estimator)}
        parameters = {name: in_words(value) for name, value in given.items() if name not in _FREE}
        checkpoint = cls(estimator.checkpoint, {"class": type(estimator).__name__, **parameters})
        archive.tidy(checkpoint.path)
        if os.path.exists(checkpoint.path):
            checkpoint._read()
        return checkpoint

    @classmethod
    def shared(cls, estimator: Any, ranks: Ranks) -> Checkpoint:
        """That of ranks which share a fit: rank 0 reads and writes the file."""
        own = by_all(ranks, lambda: cls.of(estimator) if ranks.rank == 0 else None)
        checkpoint: Checkpoint = ranks.shared(own)
        checkpoint.writes = ranks.rank == 0
        return checkpoint

    def _read(self) -> None:
        arrays, facts = archive.read(self.path)
        try:
            if facts["checkpoint"] != _FORMAT:
                raise ArchiveError(
                    f"{os.fspath(self.path)!r} is a checkpoint of another version of this package; "
                    "remove it, or name another file in checkpoint"
                )
            value = Reader(arrays).value
            self._found, self._known = facts["calls"], facts["parameters"]
            self.seed, self.before = facts["seed"], value(facts["before"])
            self.parts = value(facts["parts"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(
                f"{os.fspath(self.path)!r} is no checkpoint; remove it, or name another file in "
                "checkpoint"
            ) from error

    # -- what a call is about ----------------------------------------------------------------------

    def open(
        self,
        about: Mapping[str, str],
        calls: list[str],
        before: Callable[[], dict[str, Any]] | None = None,
    ) -> Part:
        """Hold what a call is about to what the file tells, and begin with it or go on.

        Parameters
        ----------
        about : dict of str
            Digests by what they are of.
        calls : list of str
            Of the calls that this one goes on with.
        before : callable, optional
            Where it begins, if it goes on with another.

        Raises
        ------
        ValueError
            If the file is of another fit.
        OSError
            If it cannot be written.
        """
        known = digest(sorted(self.parameters.items()))
        self.calls = [
            *calls,
            " ".join(f"{k}:{v}" for k, v in {**about, "parameters": known}.items()),
        ]
        found = self._found
        self.passed_over = len(self.calls) < len(found) and found[: len(self.calls)] == self.calls
        if self.passed_over or self.calls == found:
            return Part(self)
        if found and self.calls[:-1] != found:
            raise ValueError(self._difference())
        self._known[known] = self.parameters
        self._found, self.before = self.calls, None if before is None else before()
        self.parts = {k: part for k, part in self.parts.items() if k.startswith(_LASTING)}
        self._write()
        return Part(self)

    def _difference(self) -> str:
        """Why the file is refused."""
        pairs = zip(self.calls, self._found, strict=False)
        k = next((k for k, (own, other) in enumerate(pairs) if own != other), len(self._found) - 1)
        told = f"checkpoint={os.fspath(self.path)!r} is of another fit: "
        if k < len(self.calls) - 1 or k >= len(self._found):
            told += "it began otherwise, or with other calls"
        else:
            own, other = (
                dict(pair.split(":") for pair in calls[k].split())
                for calls in (self.calls, self._found)
            )
            differing = [name for name in own if own[name] != other.get(name)]
            told += "; ".join(
                part
                for name in differing
                for part in (
                    self._other_parameters(other.get(name, ""))
                    if name == "parameters"
                    else [f"{name} differs"]
                )
            )
        return f"{told}; hand over the same, remove the file, or name another in checkpoint"

    def _other_parameters(self, known: str) -> list[str]:
        """Which parameters differ from those of that digest."""
        own, other = self.parameters, self._known.get(known, {})
        return [
            f"{name} is {other.get(name)} there and {own.get(name)} here"
            for name in {**other, **own}
            if other.get(name) != own.get(name)
        ]

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written >= min(_LONGEST, _SHARE * self._cost)

    # -- what is kept ------------------------------------------------------------------------------

    def note(self, name: str, make: Callable[[], Any], *, ended: bool = False) -> None:
        """Keep a part, where it is time to, or it is the last word."""
        due = self.due
        if not self.writes or not (due or ended):
            return
        self.parts[name] = make()
        self._changed = True
        if due:
            self._write()

    def finish(self) -> None:
        """Write what is not yet written."""
        if self._changed:
            self._write()

    def _write(self) -> None:
        if not self.writes:
            return
        began, writer = time.monotonic(), Writer()
        facts = {
            "checkpoint": _FORMAT,
            "calls": self._found,
            "parameters": self._known,
            "seed": self.seed,
            "before": writer.form(self.before),
            "parts": writer.form(self.parts),
        }
        try:
            archive.write(self.path, writer.arrays, facts)
        except OSError as error:
            raise OSError(
                error.errno,
                f"the checkpoint could not be written ({error.strerror}); what was there before is "
                "kept. Make room, or name another file in checkpoint",
                os.fspath(self.path),
            ) from error
        self._written, self._changed = time.monotonic(), False
        self._cost = self._written - began


@dataclass(frozen=True)
class Part:
    """What one of several trainings sees of a checkpoint.

    Attributes
    ----------
    checkpoint : Checkpoint
        All of it.
    prefix : str
        Of the names of its parts.
    """

    checkpoint: Checkpoint
    prefix: str = ""

    def under(self, name: str) -> Part:
        """That of a training within this one."""
        return Part(self.checkpoint, f"{self.prefix}{name} ")

    def has(self, name: str) -> bool:
        """Whether there is a result of that name."""
        return self.prefix + name in self.checkpoint.parts

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """A result, made if the file has it not."""
        name, parts = self.prefix + name, self.checkpoint.parts
        if name not in parts:
            made = make()
            for within in [other for other in parts if other.startswith(f"{name} ")]:
                del parts[within]
            self.checkpoint.note(name, lambda: made, ended=True)
        return parts[name]

    def keeper(self, start: torch.Tensor) -> FlowKeeper:
        """What keeps the state of the flow from a start."""
        return FlowKeeper(self.checkpoint, f"{self.prefix}flow", start)


def once(part: Part | None, name: str, make: Callable[[], Any]) -> Any:
    """A result, from a checkpoint if there is one that has it."""
    return make() if part is None else part.once(name, make)


@dataclass
class FlowKeeper:
    """Keeps the state of a flow in a checkpoint."""

    checkpoint: Checkpoint
    name: str
    start: torch.Tensor
    moved: bool = False  # whether there was a step since it began, or went on

    def under(self, name: str) -> FlowKeeper:
        """That of one of several flows from the same start."""
        return FlowKeeper(self.checkpoint, f"{self.name} {name}", self.start)

    @property
    def state(self) -> State | None:
        """What the file has of it.

        Raises
        ------
        ValueError
            If the flow began elsewhere.
        """
        part = self.checkpoint.parts.get(self.name)
        if part is None:
            return None
        if part["start"] != self._start():
            raise ValueError(
                f"checkpoint={os.fspath(self.checkpoint.path)!r} is of another fit: its network "
                "began elsewhere; hand over the same module and random_state, remove the file, or "
                "name another in checkpoint"
            )
        found: State = on_device(part["state"], self.start.device)
        return found

    def keep(self, state: Callable[[], State], *, ended: bool = False) -> None:
        """Keep it, where it is time to; the end that was read from the file is there already."""
        if ended and not self.moved and self.name in self.checkpoint.parts:
            return
        self.moved = True
        self.checkpoint.note(
            self.name, lambda: {"start": self._start(), "state": state()}, ended=ended
        )

    def _start(self) -> str:
        return digest(to_numpy(self.start))


# -- digests -------------------------------------------------------------------------------------


class About(Protocol):
    """What a training is about: a problem."""

    @property
    def data(self) -> TrainingData:
        """Rows to train on."""

    @property
    def held_out(self) -> TrainingData | None:
        """Rows to stop by."""

    @property
    def coding(self) -> Any:
        """How y became targets."""

    @property
    def shared(self) -> Any:
        """The rows of ranks that share a fit, or None."""


def told_of(problem: About, folds: Folds = ()) -> dict[str, str]:
    """Digests of a table, by the arguments of ``fit`` that they tell of."""
    data, held_out = problem.data, problem.held_out
    tables = [data] if held_out is None else [data, held_out]
    told = {
        "X": digest(*(_of_table(table.X) for table in tables)),
        "y": digest(*(table.targets for table in tables), *_arrays(problem.coding.attributes())),
        "sample_weight": digest(*(table.weights for table in tables)),
    }
    if problem.shared is not None:
        told |= problem.shared.told()
    return (
        {**told, "folds": digest(*(index for fold in folds for index in fold))} if folds else told
    )


def _of_table(X: Any) -> list[str]:
    """Digests of the rows of a table, which may be mapped from disk, chunk by chunk."""
    if isinstance(X, SparseRows):
        return [digest(X.values, X.places, X.ends)]
    return [digest(np.asarray(read(X, rows))) for rows in row_chunks(len(X))]


def _arrays(coded: Mapping[str, Any]) -> list[Any]:
    """Units of y, or its classes."""
    named = sorted(coded.items())
    return [part for _, part in named if isinstance(part, np.ndarray)]
