"""Fits that go on: from the last solution, and from a checkpoint.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sklearn_gflow.dynamics import Carried, tau_from_t
from sklearn_gflow.estimators._averages import standing_at
from sklearn_gflow.estimators._checkpoint import Checkpoint, told_of
from sklearn_gflow.estimators._exposure import joined
from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._plain import digest
from sklearn_gflow.estimators._problem import Ended, Problem
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.estimators._tensors import to_tensor
from sklearn_gflow.estimators._training import Before
from sklearn_gflow.geometry import Loss

__all__ = ["Continuing"]

# What a call that goes on takes from the last one, besides the network.
_LEFT = ("history_", "_solution", "_metric_scale", "_block_state", "_last_step")


class Continuing:
    """What an estimator hands to a fit that goes on."""

    history_: dict[str, np.ndarray]
    t_: float
    warm_start: bool
    _block_state: np.ndarray | None
    _last_step: np.ndarray | None
    _metric_scale: float
    _network: FittedNetwork

    def _is_fitted(self) -> bool:
        return hasattr(self, "n_iter_")

    def __sklearn_is_fitted__(self) -> bool:
        """What scikit-learn asks before a prediction; it would look at all attributes otherwise."""
        return self._is_fitted()

    def _continues(self, *, chunk: bool = False) -> bool:
        """Whether training goes on from the last solution: a chunk's does if there is one."""
        return (chunk or bool(self.warm_start)) and self._is_fitted()

    @staticmethod
    def _continuing(chunk: bool) -> str:
        """What makes training continue, for messages."""
        return "partial_fit" if chunk else "warm_start=True"

    def _other_loss(self, before: Loss, asked: Loss, *, chunk: bool) -> str:
        """What to say where a fit that goes on is asked for another loss."""
        return (
            f"{self._continuing(chunk)} continues from the last fit, whose loss was {before!r}, "
            f"and loss is {asked!r} now (losses are compared by ==, for which a frozen dataclass "
            "is enough); keep it, or start anew by fit with warm_start=False"
        )

    def _before(self, settings: Settings) -> Before:
        """What this fit leaves to one that goes on."""
        carried, last = None, self._last_step
        if self._block_state is not None:
            step = None if last is None else to_tensor(last, settings.block_dtype, settings.device)
            carried = Carried(torch.from_numpy(self._block_state), step)
        return Before(self._metric_scale, float(tau_from_t(self.t_)), carried)

    # -- checkpoints -------------------------------------------------------------------------------

    def _under(
        self,
        checkpoint: Checkpoint | None,
        problem: Problem,
        fit: Callable[[Problem], dict[str, Any]],
    ) -> dict[str, Any]:
        """Fitted attributes of a call that is kept in a checkpoint, if there is one."""
        if checkpoint is None:
            return fit(problem)
        problem = self._opened(problem, checkpoint)
        if checkpoint.passed_over:
            attributes = self._passed_over(problem, checkpoint)
        else:
            attributes = fit(problem)
        return {**attributes, "_checkpointed": checkpoint.calls}

    def _opened(self, problem: Problem, checkpoint: Checkpoint) -> Problem:
        """The problem with the checkpoint, which is held to be of this call."""
        goes_on = self._continues(chunk=problem.chunk)
        calls = self._calls() if goes_on else []
        part = checkpoint.open(told_of(problem), calls, self._left if goes_on else None)
        return problem.kept_by(part)

    def _calls(self) -> list[str]:
        """What the calls up to now were about; of a fit without a checkpoint what it ended with."""
        known: list[str] | None = vars(self).get("_checkpointed")
        return [f"solution:{digest(self._network.theta)}"] if known is None else known

    def _left(self) -> dict[str, Any]:
        """Where a fit that goes on begins, as plain values."""
        known = self._network
        network = {"theta": known.theta, "path": known.path, "reference": known.reference}
        return {**{name: getattr(self, name) for name in _LEFT}, **network}

    def _passed_over(self, problem: Problem, checkpoint: Checkpoint) -> dict[str, Any]:
        """Fitted attributes after a call that the checkpoint lies behind: where its last begins."""
        left = checkpoint.before
        assert left is not None
        problem = self._prepared(problem)
        training = standing_at(self._build(problem), left["theta"], left["reference"])
        trained = training.standing(chunk=problem.chunk)
        attributes = self._expose(Ended(problem, training, trained))
        network = replace(attributes["_network"], path=left["path"])
        earlier = {**left, "_network": network}
        found = joined(earlier, attributes)
        return {**found, **{name: left[name] for name in _LEFT[2:]}}

    def _prepared(self, problem: Problem) -> Problem:
        raise NotImplementedError

    def _build(self, problem: Problem) -> Any:
        raise NotImplementedError

    def _expose(self, ended: Ended) -> dict[str, Any]:
        raise NotImplementedError
