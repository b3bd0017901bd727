"""The state of a flow between two of its steps: what it takes to go on as if it had never stopped.

A flow hands its state to a `Keeper` after each step, and goes on from one where the keeper has it.
What follows from θ₀ is no part of it and is computed again: a flow that goes on begins as it did
before, and then takes over what its steps have changed. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

__all__ = ["Keeper", "Resumable", "State"]

State = dict[str, Any]
"""By name: numbers, text, None, tensors, and lists, tuples and dicts of these."""


class Keeper(Protocol):
    """Keeps the state of one flow."""

    @property
    def state(self) -> Mapping[str, Any] | None:
        """From where the flow is to go on; None where it begins."""

    def keep(self, state: Callable[[], State], *, ended: bool = False) -> None:
        """A step is done, or the flow has ended; ``state`` makes the state, if it is wanted now.

        It has to be asked for before this returns.
        """


class Resumable:
    """A part of a flow, whose state is some of its attributes.

    Attributes
    ----------
    changing : tuple of str
        Names of the attributes that change from step to step.
    """

    changing: ClassVar[tuple[str, ...]] = ()

    def state(self) -> State:
        """What has changed since the start."""
        return {name: getattr(self, name) for name in self.changing}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what had changed before."""
        for name in self.changing:
            setattr(self, name, state[name])
