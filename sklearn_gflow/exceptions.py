"""Errors and warnings that a user of the package may want to catch.

Those of scikit-learn are repeated here, so that one import serves for all.
"""

from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = [
    "ArchiveError",
    "ConvergenceWarning",
    "GramMemoryError",
    "NotFittedError",
    "VersionWarning",
]


class ArchiveError(ValueError):
    """A file is torn, was changed, or is none that this package has written.

    Nothing that such a file holds is run, and nothing of it is handed on.
    """


class GramMemoryError(MemoryError):
    """The Gram, or what else a fit needs, would not fit into memory; raised before it is allocated.

    Where the estimate was too low, it stands in for the error of an allocator.
    """


class VersionWarning(UserWarning):
    """A pickle or a file was written by another version of the package."""
