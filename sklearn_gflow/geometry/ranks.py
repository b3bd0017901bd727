"""Ranks: the processes of a group of `torch.distributed` that share one output map.

Two maps know of them, and nothing else in this room or in `dynamics` does. Of a `ShardedMap` each
rank has its own rows, and vectors are `Sharded`: D·v is local, Dᵀ·u a local pass and one sum over
the ranks. Of a `DividedMap` every rank has all rows, and the rows of its Gram are shared out.
Whatever is summed over ranks has the same bits on each of them, so that all take the same
decisions. Symbols: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sklearn_gflow.geometry.cost import Cost
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.output_map import OutputMap, Tangent
from sklearn_gflow.geometry.rows import dense
from sklearn_gflow.geometry.sharded import Sharded, Shares

__all__ = ["DividedMap", "Ranks", "RanksError", "ShardedCost", "ShardedMap", "ShardedTangent"]


class RanksError(RuntimeError):
    """A rank has ended, or did not answer within the timeout of the group."""


@dataclass(frozen=True)
class Ranks:
    """A process group, seen from one of its members.

    Every method is collective: all ranks call it, in the same order, or those that do wait until
    the timeout of the group.

    Parameters
    ----------
    group : ProcessGroup, optional
        Of `torch.distributed`; None is the default group, which must have been started.
    device : str or torch.device
        Where numbers are put for messages: a GPU for ``nccl``, the CPU for ``gloo``.
    """

    group: Any = None
    device: str | torch.device = "cpu"

    @property
    def rank(self) -> int:
        """The number of this process, from 0 on."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """The number of processes."""
        return dist.get_world_size(self.group)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over ranks, on all of them; the tensor itself stays."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        self._told(dist.all_reduce, total)
        return total

    def sums(self, *numbers: float) -> list[float]:
        """The sums of some numbers over ranks, in one message."""
        return self.sum(self._numbers(numbers)).tolist()

    def largest(self, *numbers: float) -> list[float]:
        """The largest of some numbers over ranks; NaN where one is."""
        found = self._numbers(numbers)
        self._told(dist.all_reduce, found, op=dist.ReduceOp.MAX)
        lost = self.sums(*(float(math.isnan(number)) for number in numbers))
        return [math.nan if nan else value for nan, value in zip(lost, found.tolist(), strict=True)]

    def all(self, met: bool) -> bool:
        """Whether something holds on all ranks."""
        return self.sums(0.0 if met else 1.0) == [0.0]

    def counts(self, count: int) -> tuple[int, ...]:
        """A whole number of each rank, in their order."""
        own = [float(count) if rank == self.rank else 0.0 for rank in range(self.size)]
        return tuple(int(number) for number in self.sums(*own))

    def joined(self, part: Tensor, counts: Sequence[int]) -> Tensor:
        """The parts of all ranks below each other; ``counts`` are their numbers of rows."""
        # Of some back ends all parts of a message must have one size.
        padded = part.new_zeros((max(counts), *part.shape[1:]))
        padded[: len(part)] = part
        found = [torch.empty_like(padded) for _ in counts]
        self._told(dist.all_gather, found, padded)
        return torch.cat([other[:count] for other, count in zip(found, counts, strict=True)])

    def shared(self, value: Any) -> Any:
        """What rank 0 has: any object that can be pickled."""
        held = [value]
        self._told(dist.broadcast_object_list, held, src=self._root, device=self.device)
        return held[0]

    def objects(self, value: Any) -> list[Any]:
        """What each rank has, in their order: objects that can be pickled."""
        found: list[Any] = [None] * self.size
        self._told(dist.all_gather_object, found, value)
        return found

    @property
    def _root(self) -> int:
        return 0 if self.group is None else dist.get_global_rank(self.group, 0)

    def _told(self, message: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Send a message to the group.

        Raises
        ------
        RanksError
            If not all ranks take part in it.
        """
        try:
            message(*args, group=self.group, **kwargs)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RanksError(
                "a rank of the process group has ended, or did not answer within the timeout of "
                f"the group ({reason})"
            ) from error

    def _numbers(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)


# -- every rank has its own rows -----------------------------------------------------------------


@dataclass(frozen=True)
class ShardedMap:
    """x(θ) of the rows of all ranks, one rank's below the other's.

    Parameters
    ----------
    own : OutputMap
        Of the rows of this rank; none of them may be none.
    shares : Shares
        How many rows each rank has.
    total_weight : float
        Sum of the weights of all rows.
    """

    own: OutputMap
    shares: Shares
    total_weight: float

    @classmethod
    def of(cls, own: OutputMap, ranks: Ranks) -> ShardedMap:
        """From the rows of each rank; collective."""
        shares = Shares(ranks, ranks.counts(own.n_samples))
        return cls(own, shares, ranks.sums(own.total_weight)[0])

    @property
    def n_samples(self) -> int:
        """Number of samples of all ranks."""
        return self.shares.total

    @property
    def n_outputs(self) -> int:
        """Q."""
        return self.own.n_outputs

    @property
    def n_params(self) -> int:
        """K."""
        return self.own.n_params

    @property
    def dtype(self) -> torch.dtype:
        """In which θ is taken and x(θ) given."""
        return self.own.dtype

    @cached_property
    def space(self) -> Shares:
        """How many numbers of a vector each rank has."""
        return self.shares.times(self.n_outputs)

    def vector(self, own: Tensor) -> Any:
        """A vector of output space, from what this rank has of it."""
        return Sharded(own, self.space)

    @property
    def origin(self) -> Any:
        """Zero in output space."""
        return self.vector(self.own.origin)

    def unweigh(self, x: Any) -> Tensor:
        """W^−½ on a vector: plain values of this rank's rows."""
        return self.own.unweigh(x.own)

    def outputs(self, theta: Tensor) -> Any:
        """x(θ), no message."""
        return self.vector(self.own.outputs(theta))

    def linearize(self, theta: Tensor) -> ShardedTangent:
        """x(θ) with D at one θ, no message."""
        return ShardedTangent(self, theta, self.own.linearize(theta))


class ShardedTangent(TangentMap):
    """The rows of D of all ranks.

    Parameters
    ----------
    output_map : ShardedMap
        x(θ).
    theta : Tensor of shape (K,)
        θ.
    own : Tangent
        The rows of D that this rank has.
    """

    def __init__(self, output_map: ShardedMap, theta: Tensor, own: Tangent) -> None:
        self.output_map, self.theta, self.own = output_map, theta, own
        self.ranks: Ranks = output_map.shares.ranks
        self.n_samples, self.n_outputs = output_map.n_samples, output_map.n_outputs
        self.n_params = output_map.n_params
        self.outputs = output_map.vector(own.outputs)

    @property
    def sample_weights(self) -> Any:
        """w."""
        return Sharded(self.own.sample_weights, self.output_map.shares)

    @property
    def total_weight(self) -> float:
        """N: the sum of the weights of all ranks."""
        return self.output_map.total_weight

    def unweigh(self, x: Any) -> Tensor:
        """W^−½ on a vector: plain values of this rank's rows."""
        return self.output_map.unweigh(x)

    @property
    def members(self) -> Sequence[tuple[ShardedMap, ShardedTangent]]:
        """The output maps whose mean this is, and each at its θ; none where it is no mean."""
        own = self.own.members
        maps = [replace(self.output_map, own=one) for one, _ in own]
        parts = self.theta.chunk(len(own)) if own else ()
        return [
            (one, ShardedTangent(one, theta, tangent))
            for one, theta, (_, tangent) in zip(maps, parts, own, strict=True)
        ]

    def push(self, v: Tensor) -> Any:
        """D·v, no message."""
        return self.output_map.vector(self.own.push(v))

    def pull(self, u: Any) -> Tensor:
        """Dᵀ·u, a sum of K numbers over ranks."""
        return self.ranks.sum(self.own.pull(u.own))

    def gram(self) -> Tensor:
        """No rank has the rows that G takes."""
        raise NotImplementedError(
            "the rows of a ShardedMap are on several ranks, and no Gram is formed of them; use "
            "solver='krylov', or a DividedMap"
        )

    def columns(self, samples: Tensor) -> Any:
        """Columns of G of some samples: a message of their inputs and weights."""
        own = self.own.output_map
        inputs = self._of_samples(dense(own.X), samples)
        some = OutputMap(own.family, inputs).linearize(self.theta)
        columns = self.own.inner.cross_gram(some.inner)
        if not self.ranks.all(not own.weighted):
            root = torch.repeat_interleave(self.own.sample_weights.sqrt(), self.n_outputs)
            theirs = self._of_samples(self.own.sample_weights.sqrt(), samples)
            columns = columns * root[:, None] * torch.repeat_interleave(theirs, self.n_outputs)
        return Sharded(columns, self.output_map.space)

    def _of_samples(self, rows: Tensor, samples: Tensor) -> Tensor:
        found: Tensor = Sharded(rows, self.output_map.shares)[samples]
        return found

    def gram_diagonal(self) -> Any:
        """The diagonal of G, no message."""
        return self.output_map.vector(self.own.gram_diagonal())

    def trace(self) -> float:
        """Trace of G; of several outputs by K̄, of which blocks make use again."""
        if self.n_outputs == 1:
            own = self.own.trace()
        else:
            own = self.n_outputs * float(self.own.shared_gram.trace())
        return self.ranks.sums(own)[0]


class ShardedCost(Cost):
    """C(x) of the rows of all ranks, from those of each.

    Parameters
    ----------
    own : Cost
        Of the rows of this rank.
    shares : Shares
        How many numbers of a vector each rank has.
    total_weight : float
        Of all rows.
    """

    def __init__(self, own: Cost, shares: Shares, total_weight: float) -> None:
        self.own, self.shares, self.total_weight = own, shares, total_weight
        self.ranks: Ranks = shares.ranks
        self.linear, self.unit, self.bounded = own.linear, own.unit, own.bounded

    @property
    def attained(self) -> bool:
        """Whether the least cost is at a finite x on all ranks."""
        return self.ranks.all(self.own.attained)

    def value(self, x: Any) -> float:
        """C(x), a message of one number."""
        return self._mean(self.own.value, x)

    def gradient(self, x: Any) -> Any:
        """∇ₓC(x), no message."""
        return Sharded(self.own.residual(x.own) / -self.total_weight, x.shares)

    def residual(self, x: Any) -> Any:
        """−N∇ₓC(x), which does not depend on N."""
        return Sharded(self.own.residual(x.own), x.shares)

    def curvature(self, x: Any) -> float:
        """The largest over ranks."""
        return self.ranks.largest(self.own.curvature(x.own) if len(x.own) else 0.0)[0]

    def minimizer(self, x: Any) -> Any:
        """Where Euclidean gradient flow from x ends, no message."""
        return Sharded(self.own.minimizer(x.own), x.shares)

    def distance(self, x: Any) -> float:
        """|x* − x|."""
        return math.sqrt(self.ranks.sums(self.own.distance(x.own) ** 2)[0])

    def least(self, x: Any) -> float:
        """The least value that can be reached."""
        return self._mean(self.own.least, x)

    def _mean(self, of_own: Callable[[Tensor], float], x: Any) -> float:
        own = self.own.total_weight * of_own(x.own) if len(x.own) else 0.0
        return self.ranks.sums(own)[0] / self.total_weight


# -- every rank has all rows ---------------------------------------------------------------------


@dataclass(frozen=True)
class DividedMap(OutputMap):
    """An output map that every rank has whole, whose Gram they make together.

    Each rank makes the rows of G that fall to it and hears of the others. All else, which is less,
    each does alone, so that vectors, factors and callbacks are those of one process.

    Parameters
    ----------
    ranks : Ranks
        Who takes part. All have the same rows and the same weights.
    """

    ranks: Ranks = Ranks()

    @classmethod
    def of(cls, whole: OutputMap, ranks: Ranks) -> DividedMap:
        """From the map of all rows."""
        return cls(whole.family, whole.X, whole.offset, whole.weights, ranks)

    def linearize(self, theta: Tensor) -> _DividedTangent:
        """x(θ) with D at one θ."""
        inner = self.family.linearize(theta, self.X)
        return _DividedTangent(self, inner, self._place(inner.outputs))

    def panels(self) -> list[slice]:
        """The samples whose rows of G, up to the diagonal, fall to each rank.

        So many entries of a triangle are above the k-th of R cuts at the root of k/R.
        """
        size = self.ranks.size
        edges = [round(self.n_samples * math.sqrt(rank / size)) for rank in range(size + 1)]
        return [slice(*pair) for pair in pairwise(edges)]


@dataclass(frozen=True)
class _DividedTangent(Tangent):
    """D of all rows on every rank, and G by panels of its lower triangle."""

    output_map: DividedMap

    def gram(self) -> Tensor:
        """G = DDᵀ: a panel made here, the others heard of, and the mirror image of all."""
        if self._held:
            return self._held.pop()
        Q, panels, ranks = self.n_outputs, self.output_map.panels(), self.output_map.ranks
        joined = ranks.joined(self._panel(panels[ranks.rank]), [_entries(p, Q) for p in panels])
        gram = joined.new_empty((len(self.outputs),) * 2)
        for panel, entries in zip(
            panels, joined.split([_entries(p, Q) for p in panels]), strict=True
        ):
            start, stop = panel.start * Q, panel.stop * Q
            gram[start:stop, :stop] = entries.view(stop - start, stop)
            gram[:start, start:stop] = gram[start:stop, :start].mT
        root = self._root_weights()
        return gram if root is None else gram.mul_(root[:, None]).mul_(root)

    def _panel(self, panel: slice) -> Tensor:
        """The entries of some rows of the triangle, one row after the other."""
        samples = torch.arange(panel.stop, device=self.outputs.device)
        inner = self.inner.take(samples)
        return inner.take(samples[panel]).cross_gram(inner).reshape(-1)


def _entries(panel: slice, n_outputs: int) -> int:
    return (panel.stop - panel.start) * panel.stop * n_outputs**2
