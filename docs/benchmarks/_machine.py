"""What a benchmark ran on: processor, versions, threads, command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import threadpoolctl
import torch

import sklearn_gflow

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "torch-levenberg-marquardt")


def header(*more: str) -> str:
    """Describe machine, versions (of more packages too), threads and command as a Markdown list."""
    lines = {
        "Processor": f"{processor()}, {os.cpu_count()} cores, {memory()} of memory, no GPU used",
        "Versions": ", ".join([f"Python {platform.python_version()}", *_versions(more)]),
        "Threads": f"torch {torch.get_num_threads()}, {_blas_threads()}",
        "Command": f"`{command()}`",
    }
    return "\n".join(f"- {name}: {text}" for name, text in lines.items())


def processor() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory() -> str:
    """Size of the memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return "unknown size"
    return f"{size / 2**30:.0f} GiB"


def _versions(more: Sequence[str]) -> list[str]:
    found = [f"sklearn-gflow {sklearn_gflow.__version__}"]
    for name in (*_PACKAGES, *more):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} absent")
    return found


def _blas_threads() -> str:
    """Threads of the BLAS that NumPy and SciPy call; torch brings its own."""
    np.ones((2, 2)) @ np.ones((2, 2))
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{pool['internal_api']} {pool['num_threads']}" for pool in pools)


def command() -> str:
    """As it was called, but for the places of files."""
    words = sys.argv[1:]
    given, place = [], None
    for word in words:
        if word.startswith("--"):
            place = word if word in ("--data", "--out", "--results") else None
            given += ["--data", "DIR"] if word == "--data" else [] if place else [word]
        elif place is None:
            given.append(word)
    script = Path(sys.argv[0])
    parts = script.resolve().parts
    shown = "/".join(parts[parts.index("docs") :]) if "docs" in parts else script.name
    return shlex.join(["python", shown, *given])
