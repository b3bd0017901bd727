"""Memory: what is there, and the refusal of a Gram that would not fit, before it is allocated.

How much a back end needs it says itself (`Solver.working_bytes`). Here this is compared with what
the device has, and the error names what may be changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from sklearn_gflow.exceptions import GramMemoryError
from sklearn_gflow.geometry import SOLVERS, Shape, Solver

__all__ = ["Demand", "available_bytes", "check_memory"]


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


def check_memory(demand: Demand, device: torch.device) -> None:
    """Refuse what would not fit, before anything of its size is allocated.

    Raises
    ------
    GramMemoryError
        Naming the bytes and the parameters to change.
    """
    available = available_bytes(device)
    if demand.needed <= available:
        return
    purpose = "the Gram and its factorisation"
    if demand.solver.matrix_free and demand.needed > demand.stored_bytes:
        purpose = "columns of the Gram"
    cures = ", or ".join(_cures(demand, available))
    raise GramMemoryError(
        f"{demand.kind} on {demand.shape.n_samples} rows × {demand.shape.n_outputs} outputs needs "
        f"{demand.needed} bytes for {purpose}, and {available} bytes are available on {device}; "
        + cures
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


def available_bytes(device: torch.device) -> int:
    """Memory that can be had on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # there is such a file on Linux only
    # Elsewhere the physical memory is the bound.
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63 // 4096
    return pages * 4096
