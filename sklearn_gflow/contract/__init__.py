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
    check_weights,
    validate_data,
)
from sklearn_gflow.contract.description import described, parameter
from sklearn_gflow.contract.state import FittedState
from sklearn_gflow.contract.tags import RawTables

__all__ = [
    "CallbackSupportMixin",
    "FittedState",
    "HasMethods",
    "Interval",
    "RawTables",
    "RealNotInt",
    "StrOptions",
    "_check_feature_names_in",
    "_fit_context",
    "check_weights",
    "described",
    "parameter",
    "validate_data",
]
