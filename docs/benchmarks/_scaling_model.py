"""What ranks of one fit send: a simulator of its messages, and their time on a network.

A message is (kind, numbers, bytes of a number). Ring algorithms are assumed, of which each rank
sends 2(R − 1)/R times the bytes of a sum, and R − 1 times its own part where parts are joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_EVALUATED_ROWS = 2048
_SCALAR = 8
_WALKING, _ROWS_OF_A_WALK, _FEWEST_WALKS = 4, 2048, 4


class Message(NamedTuple):
    """So many numbers are summed, or parts of so many joined."""

    kind: str
    numbers: float
    itemsize: int

    def sent(self, ranks: int) -> float:
        """Bytes that each rank sends."""
        share = 2 * (ranks - 1) / ranks if self.kind == "sum" else ranks - 1
        return share * self.numbers * self.itemsize


@dataclass(frozen=True)
class Fit:
    """Shape of a fit: N rows of M columns on each rank, K parameters, Q outputs."""

    rows: int
    columns: int
    n_params: int
    n_outputs: int
    itemsize: int = 4

    def block_step(self, directions: int = 2) -> Iterator[Message]:
        """Loss, ridge, and one or two directions with their products."""
        for _ in range(2):
            yield Message("sum", 1, _SCALAR)
        for k in range(directions):
            yield Message("sum", self.n_params + 2 + k, self.itemsize)

    def evaluation(self) -> Iterator[Message]:
        """Loss and least loss of all rows after an epoch, and the length of the residual."""
        for _ in range(-(-self.rows // _EVALUATED_ROWS)):
            yield Message("sum", 1, _SCALAR)
            yield Message("sum", 1, _SCALAR)
            yield Message("sum", 1, self.itemsize)

    def walk(self) -> Iterator[Message]:
        """Ways, their squares, and the loss that was met on them."""
        yield Message("sum", self.n_params + 2, self.itemsize)

    def blocks_of_a_walk(self, batch: int, ranks: int) -> int:
        """How many a rank goes over before it hears of the others."""
        n_blocks = -(-self.rows // batch)
        return max(1, min(_ROWS_OF_A_WALK // batch, n_blocks // _FEWEST_WALKS)) if ranks == 2 else 1

    def epoch(self, batch: int, ranks: int) -> Iterator[Message]:
        """All of one epoch over blocks."""
        for _ in range(-(-self.rows // (batch * self.blocks_of_a_walk(batch, ranks)))):
            yield from self.walk() if ranks <= _WALKING else self.block_step()
        if ranks <= _WALKING:
            yield Message("sum", 3, _SCALAR)
        else:
            yield from self.evaluation()

    def gram(self, ranks: int) -> Iterator[Message]:
        """The panels of the lower triangle, padded to the largest, on N rows of all ranks."""
        edges = [round(self.rows * (k / ranks) ** 0.5) for k in range(ranks + 1)]
        largest = max(b * (b - a) for a, b in pairwise(edges))
        yield Message("join", largest * self.n_outputs**2, self.itemsize)

    def preconditioner(self, columns: int) -> Iterator[Message]:
        """Columns of G in eight rounds: whence they are drawn, their inputs, and inner products."""
        a_round, Q = columns // (8 * self.n_outputs), self.n_outputs
        for k in range(8):
            yield Message("join", self.rows, self.itemsize)
            yield Message("sum", a_round * self.columns, self.itemsize)
            yield Message("sum", a_round * Q * (k * a_round * Q), self.itemsize)
            yield Message("sum", (a_round * Q) ** 2, self.itemsize)
        yield Message("sum", columns**2, self.itemsize)

    def residuals(self, columns: int) -> Iterator[Message]:
        """An iteration of conjugate residuals: Dᵀv, the preconditioner, five inner products."""
        yield Message("sum", self.n_params, self.itemsize)
        yield Message("sum", columns, self.itemsize)
        for _ in range(5):
            yield Message("sum", 1, self.itemsize)

    def lanczos(self, dimension: int) -> Iterator[Message]:
        """A dimension of a Krylov space: Dᵀv, and two orthogonalisations against those before."""
        yield Message("sum", self.n_params, self.itemsize)
        for _ in range(2):
            yield Message("sum", dimension, self.itemsize)
        for _ in range(2):
            yield Message("sum", 1, self.itemsize)


@dataclass(frozen=True)
class Network:
    """What connects the ranks.

    Parameters
    ----------
    latency : float
        Seconds until the first byte is there.
    bandwidth : float
        Bytes a second that a rank sends.
    """

    latency: float
    bandwidth: float

    def seconds(self, messages: Iterator[Message], ranks: int) -> float:
        """Time of messages after each other; a sum goes round the ring twice, small ones a tree."""
        total = 0.0
        for message in messages:
            sent = message.sent(ranks)
            # Below the product of latency and bandwidth a tree of 2 log₂ R trips is quicker.
            trips = min(2 * (ranks - 1), 2 * max(1, (ranks - 1).bit_length()))
            total += trips * self.latency + sent / self.bandwidth
        return total
