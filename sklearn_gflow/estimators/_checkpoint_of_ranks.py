"""The state of a flow whose vectors are shared out among ranks, in their one checkpoint.

Rank 0 says when it is worth a write. All then put their parts of each vector together, it writes
these down, and from the file each takes its own part again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sklearn_gflow.dynamics import State
from sklearn_gflow.estimators._checkpoint import FlowKeeper
from sklearn_gflow.geometry import Sharded, Shares

__all__ = ["KeeperOfRanks"]

# How a vector over ranks stands in a state.
_WHOLE = "of all ranks"


@dataclass(frozen=True)
class KeeperOfRanks:
    """Keeps the state of a flow; every call is one of all ranks.

    Parameters
    ----------
    own : FlowKeeper
        That of this rank, of which only the one of rank 0 writes.
    space : Shares
        How many numbers of a vector each rank has.
    """

    own: FlowKeeper
    space: Shares

    @property
    def state(self) -> Mapping[str, Any] | None:
        """What the file has of the flow, with the parts of this rank."""
        found = self.own.state
        return None if found is None else _mapped(found, self._apart)

    def keep(self, state: Callable[[], State], *, ended: bool = False) -> None:
        """Keep the state, where rank 0 finds it is time to."""
        if self.space.ranks.shared(ended or self.own.checkpoint.due):
            whole = _mapped(state(), _together)
            self.own.keep(lambda: whole, ended=ended)

    def _apart(self, part: Any) -> Any:
        if not (isinstance(part, dict) and _WHOLE in part):
            return part
        vector: Tensor = part[_WHOLE]
        return Sharded(vector[self.space.start :][: self.space.count].clone(), self.space)


def _together(part: Any) -> Any:
    return {_WHOLE: part.whole()} if isinstance(part, Sharded) else part


def _mapped(part: Any, f: Callable[[Any], Any]) -> Any:
    """A state with a function applied to what it is made of."""
    made = f(part)
    if made is not part:
        return made
    if isinstance(part, Mapping):
        return {name: _mapped(one, f) for name, one in part.items()}
    if type(part) in (list, tuple):
        return type(part)(_mapped(one, f) for one in part)
    return part
