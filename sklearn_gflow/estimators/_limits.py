"""How much memory can be had: of the machine, within its containers, under the limits of a process.

Each source names what it leaves, and the least counts. What cannot be read sets no limit: these
files are those of Linux.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

try:
    import resource
except ImportError:  # there are no such limits on Windows
    resource = None  # type: ignore[assignment]

__all__ = ["available_bytes"]

_GROUPS = "/sys/fs/cgroup"
# Names of limit, use and reclaimable cache in the two versions of control groups.
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
_VERSION_2 = "memory.max", "memory.current", "inactive_file"


def available_bytes(device: torch.device) -> int:
    """Memory that can be had on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return max(0, min([*_of_machine(), *_of_groups(), *_of_process()]))


def _of_machine() -> Iterator[int]:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    yield _physical()  # elsewhere this is the bound


def _physical() -> int:
    return 4096 * (os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63 // 4096)


def _of_groups() -> Iterator[int]:
    """What the control groups of this process leave, of both versions, and all above them."""
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.strip().split(":", 2)
        if not controllers:
            roots, names = [_GROUPS, f"{_GROUPS}/unified"], _VERSION_2
        elif "memory" in controllers.split(","):
            roots, names = [f"{_GROUPS}/memory"], _VERSION_1
        else:
            continue
        for root in roots:
            # In a container the path may be that of the host, and only the root is there.
            parts = [part for part in path.split("/") if part]
            for depth in range(len(parts) + 1):
                yield from _of_group("/".join([root, *parts[:depth]]), *names)


def _of_group(folder: str, limit: str, use: str, cache: str) -> Iterator[int]:
    bounds = _lines(f"{folder}/{limit}")
    # Version 1 has no word for no limit, and writes a number beyond all memory.
    if not bounds or bounds[0].strip() == "max" or int(bounds[0]) >= _physical():
        return
    used = _lines(f"{folder}/{use}")
    # Pages of files that were not touched lately are given back when memory is asked for.
    statistics = dict(line.split() for line in _lines(f"{folder}/memory.stat"))
    yield int(bounds[0]) - int((used or ["0"])[0]) + int(statistics.get(cache, 0))


def _of_process() -> Iterator[int]:
    """What ``ulimit`` leaves: of the address space, and of data."""
    pages = next(iter(_lines("/proc/self/statm")), "").split()
    if resource is None or not pages:
        return
    for kind, place in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft - int(pages[place]) * resource.getpagesize()


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as lines:
            return lines.readlines()
    except OSError:
        return []
