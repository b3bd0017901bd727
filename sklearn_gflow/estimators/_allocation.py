"""Memory that a worker keeps between two arrays, where its cluster has told it to hand it back.

The allocator of glibc learns from the arrays of a process which sizes to keep. That ends where a
threshold is set from outside, as Dask does for its workers: each array of more than 128 KB is then
new memory, which the system hands out page by page. Searches took a third longer.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_memory"]

# Numbers and defaults of mallopt(3), in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_DEFAULT_TRIM = _DEFAULT_MMAP = 2**17
# The most that glibc takes for the second, and what a task holds at once for the first.
_KEPT, _LARGEST = 2**28, 2**25


@contextmanager
def kept_memory() -> Iterator[None]:
    """A task whose arrays may take the memory of those before; afterwards all is as it was."""
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ or platform.libc_ver()[0] != "glibc":
        yield
        return
    _set(_KEPT, _LARGEST)
    try:
        yield
    finally:
        _set(
            _stated("MALLOC_TRIM_THRESHOLD_", _DEFAULT_TRIM),
            _stated("MALLOC_MMAP_THRESHOLD_", _DEFAULT_MMAP),
        )


def _set(trim: int, mmap: int) -> None:
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_TRIM_THRESHOLD, trim)
    mallopt(_MMAP_THRESHOLD, mmap)


def _stated(name: str, default: int) -> int:
    """What the process was started with."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
