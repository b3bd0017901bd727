"""scikit-learn's face of the flows: two estimators, two searches and three scorers.

This is the only room that imports scikit-learn. How a fit goes from parameters to fitted attributes
is told in `_base`.
"""

from sklearn_gflow.estimators._classifier import AdaptedFlowClassifier
from sklearn_gflow.estimators._regressor import AdaptedFlowRegressor
from sklearn_gflow.estimators._saving import load, save
from sklearn_gflow.estimators._scorers import collapse_scorer, deviation_scorer, ntk_rank_scorer
from sklearn_gflow.estimators._search import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV

__all__ = [
    "AdaptedFlowClassifier",
    "AdaptedFlowClassifierCV",
    "AdaptedFlowRegressor",
    "AdaptedFlowRegressorCV",
    "collapse_scorer",
    "deviation_scorer",
    "load",
    "ntk_rank_scorer",
    "save",
]
