"""What every class that scikit-learn is to know owes it: parameters told once, checks of its input.

Estimators and transformers import it, and it imports nothing of them.
"""

from sklearn_gflow.contract.checks import (
    Interval,
    RealNotInt,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    check_weights,
    validate_data,
)
from sklearn_gflow.contract.description import described, parameter

__all__ = [
    "Interval",
    "RealNotInt",
    "StrOptions",
    "_check_feature_names_in",
    "_fit_context",
    "check_weights",
    "described",
    "parameter",
    "validate_data",
]
