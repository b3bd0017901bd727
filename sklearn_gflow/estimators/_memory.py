"""Memory: the refusal of what would not fit, before it is allocated.

How much a back end needs it says itself (`Solver.working_bytes`). Here this is compared with what
the device has, and the error names what may be changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sklearn_gflow.estimators._limits import available_bytes
from sklearn_gflow.exceptions import GramMemoryError
from sklearn_gflow.geometry import SOLVERS, Shape, Solver

__all__ = [
    "Demand",
    "Room",
    "available_bytes",
    "check_classes",
    "check_indicators",
    "check_memory",
]


@dataclass(frozen=True)
class Room:
    """Memory that a fit may still take.

    Attributes
    ----------
    available : int
        Bytes.
    where : str
        Of what, for messages.
    """

    available: int
    where: str

    @classmethod
    def on(cls, device: torch.device, max_memory: int | None) -> Room:
        """What a device has, or the part of it that the user gives."""
        available = available_bytes(device)
        if max_memory is not None and max_memory < available:
            return cls(int(max_memory), f"under max_memory={max_memory}")
        return cls(available, f"on {device}")

    def after(self, what: str, needed: int, cure: str) -> Room:
        """What is left when something has been taken.

        Raises
        ------
        GramMemoryError
            If there is not as much.
        """
        if needed > self.available:
            raise GramMemoryError(
                f"{what} needs {needed} bytes, and {self.available} bytes are available "
                f"{self.where}; {cure}"
            )
        return Room(self.available - needed, self.where)


@dataclass(frozen=True)
class Demand:
    """Something that needs a Gram, or what stands for one.

    Attributes
    ----------
    kind : str
        For messages: what is done with it.
    shape : Shape
        Of D on the rows that it is made of.
    solver : Solver
        The back end.
    itemsize : int
        Bytes of a number.
    cures : tuple of str
        What the user may change, besides the precision and the back end.
    whole : bool
        Whether it is of all rows at once, so that a back end without a matrix could do it.
    stored : bool
        Whether the Gram of these rows is formed and kept, whatever the back end forms.
    """

    kind: str
    shape: Shape
    solver: Solver
    itemsize: int
    cures: tuple[str, ...]
    whole: bool = False
    stored: bool = False

    @property
    def stored_bytes(self) -> int:
        """For a Gram that is kept: the matrix, and what its eigenvalues need."""
        return 3 * self.itemsize * self.shape.size**2 if self.stored else 0

    @property
    def needed(self) -> int:
        """Bytes at the peak."""
        return max(self.solver.working_bytes(self.shape, self.itemsize), self.stored_bytes)


def check_memory(demand: Demand, room: Room) -> Room:
    """Refuse what would not fit, before anything of its size is allocated; tell what is left.

    Raises
    ------
    GramMemoryError
        Naming the bytes and the parameters to change.
    """
    if demand.needed <= room.available:
        return Room(room.available - demand.needed, room.where)
    purpose = "the Gram and its factorisation"
    if demand.solver.matrix_free and demand.needed > demand.stored_bytes:
        purpose = "columns of the Gram"
    cures = ", or ".join(_cures(demand, room.available))
    raise GramMemoryError(
        f"{demand.kind} on {demand.shape.n_samples} rows × {demand.shape.n_outputs} outputs needs "
        f"{demand.needed} bytes for {purpose}, and {room.available} bytes are available "
        f"{room.where}; {cures}"
    )


def check_classes(n_classes: int, n_samples: int, max_memory: int | None) -> None:
    """Refuse more classes than there is memory for the codes and targets of.

    Raises
    ------
    GramMemoryError
        Naming the bytes.
    """
    # Of a matrix of classes × classes and of one of rows × classes so many are held at once.
    needed = torch.float64.itemsize * (8 * n_classes**2 + 4 * n_samples * n_classes)
    Room.on(torch.device("cpu"), max_memory).after(
        f"y with its {n_classes} classes on {n_samples} rows", needed,
        "leave out rare classes, or merge them; numbers are for AdaptedFlowRegressor",
    )  # fmt: skip


def check_indicators(n_labels: int, n_samples: int, max_memory: int | None) -> None:
    """Refuse more labels a row than there is memory for.

    Raises
    ------
    GramMemoryError
        Naming the bytes.
    """
    # The indicators, the targets, the outputs and what is made of them on the way.
    needed = torch.float64.itemsize * 6 * n_samples * n_labels
    Room.on(torch.device("cpu"), max_memory).after(
        f"y with its {n_labels} labels on {n_samples} rows", needed, "leave out rare labels"
    )


def _cures(demand: Demand, available: int) -> list[str]:
    """What may be changed, the least loss first."""
    working = demand.solver.working_bytes(demand.shape, demand.itemsize)
    forced = demand.stored_bytes > working
    cures = []
    if forced:
        cures.append("set store_gram=False")
    if working > SOLVERS["auto"].working_bytes(demand.shape, demand.itemsize):
        cures.append("set solver='auto'")
    if demand.itemsize == torch.float64.itemsize:
        cures.append("set dtype='float32'")
    cures += demand.cures
    free = [solver for solver in SOLVERS.values() if solver.matrix_free]
    if demand.whole and not forced and demand.solver not in free:
        fitting = (s for s in free if s.working_bytes(demand.shape, demand.itemsize) <= available)
        cures += [f"set solver={solver.name!r}" for solver in fitting]
    return cures
