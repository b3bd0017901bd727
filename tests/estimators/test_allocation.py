"""Memory that a worker keeps for the length of a task."""

import os
import platform

import pytest

from sklearn_gflow.estimators import _allocation, _workers

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of this allocator alone")


@pytest.fixture
def told(monkeypatch):
    found = []
    monkeypatch.setattr(_allocation, "_set", lambda *given: found.append(given))
    return found


def fails():
    raise ValueError("full")


@glibc
@pytest.mark.parametrize(
    ("stated", "after"),
    [({}, (65536, 2**17)), ({"MALLOC_MMAP_THRESHOLD_": "1000000"}, (65536, 1_000_000))],
)
def test_a_worker_that_was_told_to_hand_memory_back_keeps_it_for_a_task(
    told, monkeypatch, stated, after
):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="full"):
        _workers._run(fails, os.getpid() + 1, 1)
    assert told == [(2**28, 2**25), after]


def test_where_nobody_was_told_nothing_changes(told, monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    _workers._run(int, os.getpid() + 1, 1)
    assert not told


@glibc
def test_the_allocator_takes_both_thresholds():
    mallopt = _allocation.ctypes.CDLL(None).mallopt
    assert mallopt(_allocation._TRIM_THRESHOLD, _allocation._KEPT) == 1
    assert mallopt(_allocation._MMAP_THRESHOLD, _allocation._LARGEST) == 1
