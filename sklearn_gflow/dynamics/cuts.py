"""Which rows make the blocks of an epoch, and how far an epoch has come.

Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.dynamics.epochs import Epoch
from sklearn_gflow.dynamics.state import Resumable, State

__all__ = ["Cuts", "Place"]


class Place(NamedTuple):
    """Between two blocks of an epoch.

    Attributes
    ----------
    epoch : Epoch
        The lengths of its steps.
    generator : Tensor
        State of the generator before the epoch was cut.
    theta : Tensor of shape (K,)
        θ.
    done : int
        Number of blocks that have flowed.
    met : float
        What these had of the loss.
    """

    epoch: Epoch
    generator: Tensor
    theta: Tensor
    done: int = 0
    met: float = 0.0

    @classmethod
    def of(cls, state: tuple[Any, ...] | None) -> Place | None:
        """From a plain tuple of the same members."""
        return None if state is None else cls(Epoch(*state[0]), *state[1:])


class Cuts(Resumable):
    """Draws the blocks of one epoch after the other.

    Parameters
    ----------
    n_samples, batch_size : int
        Number of rows, of which a block has at most so many.
    shuffle : bool
        Whether the blocks are drawn, or runs of rows in their order.
    seed : int
        Of the generator.
    carried : Tensor, optional
        State of another generator, with which this one goes on.
    """

    def __init__(
        self,
        n_samples: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        carried: Tensor | None = None,
    ) -> None:
        self.n_samples, self.shuffle = n_samples, shuffle
        self.n_blocks = math.ceil(n_samples / batch_size)
        self._generator = torch.Generator().manual_seed(seed)
        if carried is not None:
            self.generator = carried

    @property
    def generator(self) -> Tensor:
        """State of the generator."""
        return self._generator.get_state()

    @generator.setter
    def generator(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def state(self) -> State:
        """That of the generator."""
        return {"generator": self.generator}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set it back; the generator lives on the CPU, wherever θ does."""
        self.generator = state["generator"].cpu()

    def blocks(self) -> list[Tensor]:
        """The blocks of the next epoch; rows ascend in a block, for sources on disk."""
        if not self.shuffle:
            return list(torch.arange(self.n_samples).tensor_split(self.n_blocks))
        order = torch.randperm(self.n_samples, generator=self._generator)
        return [rows.sort().values for rows in order.tensor_split(self.n_blocks)]
