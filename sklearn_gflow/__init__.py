"""Neural networks trained by the gradient flows of Chen & Muñoz Ewald, in scikit-learn's form."""

from sklearn_gflow.estimators import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.exceptions import GramMemoryError

__version__ = "0.1.0"

__all__ = ["AdaptedFlowClassifier", "AdaptedFlowRegressor", "GramMemoryError", "__version__"]
