"""scikit-learn's face of the flows."""

from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._scorers import collapse_scorer, deviation_scorer, ntk_rank_scorer
from sklearn_gflow.estimators._search import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV

__all__ = [
    "AdaptedFlowClassifier",
    "AdaptedFlowClassifierCV",
    "AdaptedFlowRegressor",
    "AdaptedFlowRegressorCV",
    "collapse_scorer",
    "deviation_scorer",
    "ntk_rank_scorer",
]
