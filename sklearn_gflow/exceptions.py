"""Errors and warnings that a user of the package may want to catch.

Those of scikit-learn are repeated here, so that one import serves for all.
"""

from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = ["ConvergenceWarning", "GramMemoryError", "NotFittedError"]


class GramMemoryError(MemoryError):
    """The Gram would not fit into memory; raised before it is allocated."""
