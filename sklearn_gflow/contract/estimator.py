"""What all estimators of this package are to scikit-learn, whatever they learn."""

from __future__ import annotations

from sklearn.base import BaseEstimator

from sklearn_gflow.contract.checks import CallbackSupportMixin
from sklearn_gflow.contract.pages import DocumentedHere
from sklearn_gflow.contract.state import FittedState
from sklearn_gflow.contract.tags import RawTables

__all__ = ["Estimator"]


class Estimator(CallbackSupportMixin, DocumentedHere, RawTables, FittedState, BaseEstimator):
    """One that takes raw tables, whose fits are written at once and may be watched by callbacks."""
