"""Scorers that read diagnostics off a fitted estimator, for searches that keep no estimator.

`GridSearchCV` keeps the best estimator only. With these in ``scoring`` its ``cv_results_`` shows
the diagnostics against ``alpha`` as well. They look at the training set and ignore X and y.
"""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

__all__ = ["collapse_scorer", "deviation_scorer", "ntk_rank_scorer"]


def ntk_rank_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Rank of the tangent kernel over Q·N: 1.0 where the straight line can be followed."""
    flow = _flow_of(estimator)
    return float(flow.ntk_rank_ / len(flow.ntk_eigenvalues_))


def deviation_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the relative deviation from the straight line at the end of the flow."""
    return -float(_flow_of(estimator).deviation_)


def collapse_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the part of the loss that lies within classes (3.11), of a classifier."""
    return -float(_flow_of(estimator).collapse_.within)


def _flow_of(estimator: Any) -> Any:
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator
