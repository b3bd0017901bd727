"""What every class that scikit-learn is to know owes it: parameters told once, checks, state.

Estimators and transformers import it, and it imports nothing of them.
"""

from sklearn_gflow.contract.checks import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    check_container,
    check_weights,
    validate_data,
)
from sklearn_gflow.contract.description import described, parameter
from sklearn_gflow.contract.estimator import Estimator
from sklearn_gflow.contract.pages import DocumentedHere
from sklearn_gflow.contract.state import STAMP, FittedState
from sklearn_gflow.contract.tags import RawTables
from sklearn_gflow.contract.versions import VERSION, warn_of_version

__all__ = [
    "STAMP",
    "VERSION",
    "CallbackSupportMixin",
    "DocumentedHere",
    "Estimator",
    "FittedState",
    "HasMethods",
    "Interval",
    "RawTables",
    "RealNotInt",
    "StrOptions",
    "_check_feature_names_in",
    "_fit_context",
    "check_container",
    "check_weights",
    "described",
    "parameter",
    "validate_data",
    "warn_of_version",
]
