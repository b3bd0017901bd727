"""Vectors of which each rank has a part: what the rest of the package does with vectors of rows.

A `Sharded` has the length of the whole vector and the numbers of this rank. Sums, maxima and inner
products over rows are those of all ranks; what treats rows apart is local. An operation that is not
named here is an error, and never a silent result of one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["Sharded", "Shares"]


@dataclass(frozen=True)
class Shares:
    """How many rows of something each rank has.

    Parameters
    ----------
    ranks : Ranks
        The ranks; see `sklearn_gflow.geometry.ranks`.
    counts : tuple of int
        Numbers of rows, in the order of the ranks.
    """

    ranks: Any
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """The rows of all ranks."""
        return sum(self.counts)

    @property
    def start(self) -> int:
        """The place of the first row of this rank."""
        return sum(self.counts[: self.ranks.rank])

    @property
    def count(self) -> int:
        """The number of rows of this rank."""
        return self.counts[self.ranks.rank]

    def times(self, factor: int) -> Shares:
        """The same with so many numbers for each row."""
        return Shares(self.ranks, tuple(count * factor for count in self.counts))

    def over(self, divisor: int) -> Shares:
        """The same with so many numbers taken together."""
        return Shares(self.ranks, tuple(count // divisor for count in self.counts))

    def own_places(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Which of some places in the whole are here, as a mask, and where these are."""
        local = places - self.start
        here = (local >= 0) & (local < self.count)
        return here, local[here]


class Sharded:
    """A vector over ranks, or several such vectors side by side.

    Parameters
    ----------
    own : Tensor
        The numbers of this rank.
    shares : Shares
        How many of them each rank has.
    axis : {0, 1}
        The axis that is shared out.
    """

    _FUNCTIONS: ClassVar[dict[Any, Callable[..., Any]]] = {}

    def __init__(self, own: Tensor, shares: Shares, axis: int = 0) -> None:
        self.own, self.shares, self.axis = own, shares, axis

    def _like(self, own: Tensor, axis: int | None = None) -> Sharded:
        return Sharded(own, self.shares, self.axis if axis is None else axis)

    def _sum(self, own: Tensor) -> Tensor:
        found: Tensor = self.shares.ranks.sum(own)
        return found

    # -- what it is --------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers."""
        return self.own.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.own.device

    @property
    def ndim(self) -> int:
        """1 for a vector, 2 for several."""
        return self.own.ndim

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole."""
        whole = list(self.own.shape)
        whole[self.axis] = self.shares.total
        return torch.Size(whole)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Sharded]:
        _only(self.axis == 1, "rows one by one")
        return (self._like(row, 0) for row in self.own)

    def whole(self) -> Tensor:
        """The numbers of all ranks."""
        moved = self.own.movedim(self.axis, 0)
        found: Tensor = self.shares.ranks.joined(moved, self.shares.counts)
        return found.movedim(0, self.axis)

    # -- what treats rows apart: local -------------------------------------------------------------

    def rowwise(self, f: Callable[[Tensor], Tensor]) -> Sharded:
        """A function that treats rows apart."""
        return self._like(f(self.own))

    def _with(self, other: Any, f: Callable[[Any, Any], Tensor]) -> Sharded:
        if isinstance(other, Sharded):
            # Of other dimensions torch would put rows beside columns where their numbers agree.
            _only((other.axis, other.ndim) == (self.axis, self.ndim), "of rows with columns")
            other = other.own
        elif isinstance(other, Tensor) and other.ndim:
            # Numbers of columns go with all rows; a plain tensor has no rows of this rank.
            _only(self.ndim == 2 and self.axis == 0 and other.ndim == 1, "with a plain tensor")
        return self._like(f(self.own, other))

    def __add__(self, other: Any) -> Sharded:
        return self._with(other, torch.add)

    def __sub__(self, other: Any) -> Sharded:
        return self._with(other, torch.sub)

    def __mul__(self, other: Any) -> Sharded:
        return self._with(other, torch.mul)

    def __truediv__(self, other: Any) -> Sharded:
        return self._with(other, torch.div)

    def __rsub__(self, other: Any) -> Sharded:
        return self._with(other, torch.rsub)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Sharded:
        return self._like(-self.own)

    def __iadd__(self, other: Any) -> Sharded:
        self.own += self._with(other, lambda own, other: other).own
        return self

    def __isub__(self, other: Any) -> Sharded:
        self.own -= self._with(other, lambda own, other: other).own
        return self

    def mul_(self, factor: float) -> Sharded:
        """In place, by a number."""
        self.own.mul_(factor)
        return self

    def square(self) -> Sharded:
        """The squares."""
        return self._like(self.own.square())

    def clamp_min(self, least: float) -> Sharded:
        """Nothing below a number."""
        return self._like(self.own.clamp_min(least))

    def clone(self) -> Sharded:
        """A copy."""
        return self._like(self.own.clone())

    def cpu(self) -> Sharded:
        """On the host."""
        return self._like(self.own.cpu())

    def to(self, dtype: torch.dtype) -> Sharded:
        """In another precision."""
        return self._like(self.own.to(dtype))

    def __gt__(self, bound: Any) -> Sharded:
        return self._with(bound, torch.gt)

    # -- shapes ------------------------------------------------------------------------------------

    @property
    def mT(self) -> Sharded:
        """Transposed."""
        return self._like(self.own.mT, 1 - self.axis)

    def view(self, *shape: int) -> Sharded:
        """(m,) as (−1, Q): so many numbers of a row together."""
        _only(self.ndim == 1 and len(shape) == 2 and shape[0] == -1, "view as other than (-1, Q)")
        return Sharded(self.own.view(-1, shape[1]), self.shares.over(shape[1]))

    def new_tensor(self, values: Any) -> Tensor:
        """A tensor that all ranks have, in this precision."""
        return self.own.new_tensor(values)

    def new_full(self, shape: tuple[int, ...], value: float) -> Tensor:
        """A tensor that all ranks have, in this precision."""
        return self.own.new_full(shape, value)

    def new_empty(self, shape: int | tuple[int, ...]) -> Tensor:
        """A tensor that all ranks have, in this precision."""
        return self.own.new_empty(shape)

    def room_for(self, count: int, axis: int) -> Sharded:
        """So many vectors like this one along an axis, not filled yet."""
        shape = (count, len(self.own)) if axis == 0 else (len(self.own), count)
        return self._like(self.own.new_empty(shape), 1 - axis)

    def __getitem__(self, key: Any) -> Any:
        """Rows by a tensor of places in the whole, on all ranks; or along the other axis."""
        first = key[0] if isinstance(key, tuple) else key
        if self.axis == 1:
            _only(not isinstance(key, tuple), "a choice of columns that are rows")
            return self._like(self.own[key], 0 if isinstance(key, int) else 1)
        if isinstance(first, Tensor):
            rows = self.own if not isinstance(key, tuple) else self.own[:, key[1]]
            here, local = self.shares.own_places(first)
            found = rows.new_zeros((len(first), *rows.shape[1:]))
            found[here] = rows[local]
            return self._sum(found)
        _only(isinstance(key, tuple) and first == slice(None), "rows that no tensor names")
        return self._like(self.own[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, Tensor):
            _only(not isinstance(value, Tensor | Sharded), "a number for each of some rows")
            self.own[self.shares.own_places(key)[1]] = value
        else:
            along = isinstance(key, tuple) and key[0] == slice(None)
            _only(along == (self.axis == 0), "rows that no tensor names")
            self.own[key] = value.own

    # -- over rows: of all ranks -------------------------------------------------------------------

    def __matmul__(self, other: Any) -> Any:
        if self.axis == 0 and isinstance(other, Tensor) and self.ndim == 2:
            return self._like(self.own @ other)  # combinations of the vectors
        inner = isinstance(other, Sharded) and other.axis == 0
        _only(inner and (self.axis == 1 or self.ndim == 1), "a product that is not over rows")
        return self._sum(self.own @ other.own)  # inner products

    def cumsum(self, dim: int) -> Tensor:
        """Sums up to each row, of all ranks and on all of them."""
        return self.whole().cumsum(dim)

    def sum(self, dim: int | None = None) -> Any:
        """Over everything, or over what a row has."""
        if dim is None:
            return self._sum(self.own.sum())
        _only(dim == 1 and self.ndim == 2 and self.axis == 0, "a sum of each column")
        return self._like(self.own.sum(1))

    def max(self) -> Tensor:
        """Over everything."""
        own = float(self.own.max()) if self.own.numel() else -torch.inf
        return self.own.new_tensor(self.shares.ranks.largest(own)[0])

    # -- functions of torch ------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _only(func in cls._FUNCTIONS, f"torch's {getattr(func, '__name__', func)}")
        return cls._FUNCTIONS[func](*args, **(kwargs or {}))


def _only(met: bool, what: str) -> None:
    """Refuse what has no meaning here, or none yet: the result would be that of one rank."""
    if not met:
        raise NotImplementedError(f"{what} is not defined for vectors over ranks")


def _norm(x: Sharded) -> Tensor:
    own = torch.linalg.vector_norm(x.own)
    return x._sum(own.to(torch.float64).square()).sqrt().to(x.dtype)


def _lerp(start: Sharded, end: Sharded, weight: float) -> Sharded:
    return start._like(torch.lerp(start.own, end.own, weight))


def _part(whole: Tensor, like: Sharded) -> Sharded:
    """The part of this rank of a tensor that all ranks have, the last axis being that of rows."""
    _only(whole.shape[-1] == len(like), "a part of what has other rows")
    own = whole[..., like.shares.start : like.shares.start + like.shares.count]
    return Sharded(own.to(like.own), like.shares, whole.ndim - 1)


def _stack(vectors: list[Sharded], dim: int = 0) -> Sharded:
    _only(dim in (0, 1) and vectors[0].ndim == 1, "a stack of more than vectors")
    return vectors[0]._like(torch.stack([v.own for v in vectors], dim), 1 - dim)


def _cat(stacks: list[Sharded], dim: int = 0) -> Sharded:
    _only(dim in (0, 1) and all(stack.axis != dim for stack in stacks), "rows below each other")
    return stacks[0]._like(torch.cat([stack.own for stack in stacks], dim))


def _equal(first: Any, second: Any) -> bool:
    same: bool = first.shares.ranks.all(torch.equal(first.own, second.own))
    return same


def _local(f: Callable[..., Tensor]) -> Callable[..., Sharded]:
    return lambda x, *args, **kwargs: x._like(f(x.own, *args, **kwargs))


def _reflected(name: str) -> Callable[[Tensor, Sharded], Sharded]:
    return lambda plain, x: getattr(x, name)(plain)


Sharded._FUNCTIONS.update(
    {
        torch.linalg.vector_norm: _norm,
        torch.lerp: _lerp,
        torch.stack: _stack,
        torch.cat: _cat,
        torch.equal: _equal,
        Tensor.to: _part,
        **{f: _local(f) for f in (torch.zeros_like, torch.empty_like, torch.full_like)},
        **{
            getattr(Tensor, name): _reflected(reflected)
            for name, reflected in (
                ("mul", "__rmul__"), ("__mul__", "__rmul__"), ("add", "__radd__"),
                ("__add__", "__radd__"), ("__rsub__", "__sub__"), ("__rmul__", "__mul__"),
            )
        },
    }
)  # fmt: skip
