"""Neural networks trained by the gradient flows of Chen & Muñoz Ewald, in scikit-learn's form.

The estimators and what they need are imported from here; the rooms `geometry`, `dynamics` and
`diagnostics` serve research without an estimator. Notation: docs/notation.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn_gflow.estimators import (
        AdaptedFlowClassifier,
        AdaptedFlowClassifierCV,
        AdaptedFlowRegressor,
        AdaptedFlowRegressorCV,
        collapse_scorer,
        deviation_scorer,
        load,
        ntk_rank_scorer,
        save,
    )
    from sklearn_gflow.exceptions import ArchiveError, GramMemoryError, VersionWarning
    from sklearn_gflow.inputs import (
        FrequentValueEncoder,
        PeriodicEncoder,
        PiecewiseLinearEncoder,
        SmoothRobustScaler,
        TableEncoder,
    )

__version__ = "0.1.0"

__all__ = [
    "AdaptedFlowClassifier",
    "AdaptedFlowClassifierCV",
    "AdaptedFlowRegressor",
    "AdaptedFlowRegressorCV",
    "ArchiveError",
    "FrequentValueEncoder",
    "GramMemoryError",
    "PeriodicEncoder",
    "PiecewiseLinearEncoder",
    "SmoothRobustScaler",
    "TableEncoder",
    "VersionWarning",
    "__version__",
    "collapse_scorer",
    "deviation_scorer",
    "load",
    "ntk_rank_scorer",
    "save",
]

_ROOMS = ("geometry", "dynamics", "diagnostics", "inputs", "estimators", "plots", "exceptions")
_INPUTS = (
    "FrequentValueEncoder", "PeriodicEncoder", "PiecewiseLinearEncoder", "SmoothRobustScaler",
    "TableEncoder",
)  # fmt: skip
_EXCEPTIONS = ("ArchiveError", "GramMemoryError", "VersionWarning")


def __getattr__(name: str) -> Any:
    # torch and scikit-learn take seconds to load: they wait until a name is asked for.
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "inputs" if name in _INPUTS else "exceptions" if name in _EXCEPTIONS else "estimators"
    return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
