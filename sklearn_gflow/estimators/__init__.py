"""scikit-learn's face of the flows."""

from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor

__all__ = ["AdaptedFlowClassifier", "AdaptedFlowRegressor"]
