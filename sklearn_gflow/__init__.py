"""Neural networks trained by the gradient flows of Chen & Muñoz Ewald, in scikit-learn's form."""

from sklearn_gflow.estimators import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
    collapse_scorer,
    deviation_scorer,
    ntk_rank_scorer,
)
from sklearn_gflow.exceptions import GramMemoryError

__version__ = "0.1.0"

__all__ = [
    "AdaptedFlowClassifier",
    "AdaptedFlowRegressor",
    "GramMemoryError",
    "__version__",
    "collapse_scorer",
    "deviation_scorer",
    "ntk_rank_scorer",
]
