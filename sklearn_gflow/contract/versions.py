"""Which version of the package wrote a pickle or a file, and what is said where it was another."""

from __future__ import annotations

import warnings

from sklearn_gflow import __version__
from sklearn_gflow.exceptions import VersionWarning

__all__ = ["VERSION", "warn_of_version"]

VERSION: str = __version__
"""This one."""


def warn_of_version(what: str, version: str, stacklevel: int) -> None:
    """A `VersionWarning` where another version has written something."""
    if version != VERSION:
        warnings.warn(
            f"{what} was written by version {version} of sklearn_gflow, and this is version "
            f"{VERSION}: what it predicts may differ, or fail; fit it anew, or install that "
            "version",
            VersionWarning,
            stacklevel=stacklevel + 1,
        )
