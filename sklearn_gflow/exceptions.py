"""Errors and warnings of the package."""

from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = ["ConvergenceWarning", "GramMemoryError", "NotFittedError"]


class GramMemoryError(MemoryError):
    """The Gram would not fit into memory; raised before it is allocated."""
