"""Scorers that read diagnostics off a fitted estimator, for searches that keep no estimator.

`GridSearchCV` keeps the best estimator only. With these in ``scoring`` its ``cv_results_`` shows
the diagnostics against ``alpha`` as well. They look at the training set and ignore X and y. The
flow may be the last step of a pipeline, the best estimator of a search, or inside a
`TransformedTargetRegressor` or a `FrozenEstimator`.
"""

from __future__ import annotations

from typing import Any

from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

__all__ = ["collapse_scorer", "deviation_scorer", "ntk_rank_scorer"]


def ntk_rank_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Rank of the tangent kernel over Q·N: 1.0 where the straight line can be followed.

    Parameters
    ----------
    estimator : estimator
        A fitted flow, or what has one inside.
    X, y : object
        Ignored.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If there is no single flow inside.
    """
    flow = _flow_of(estimator, "ntk_rank_scorer")
    return float(flow.ntk_rank_ / len(flow.ntk_eigenvalues_))


def deviation_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the relative deviation from the straight line at the end of the flow.

    Parameters
    ----------
    estimator : estimator
        A fitted flow, or what has one inside.
    X, y : object
        Ignored.

    Returns
    -------
    float
        At most 0.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If there is no single flow inside.
    """
    return -float(_flow_of(estimator, "deviation_scorer").deviation_)


def collapse_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the part of the loss that lies within classes (3.11), of a classifier.

    Parameters
    ----------
    estimator : estimator
        A fitted classifying flow, or what has one inside.
    X, y : object
        Ignored.

    Returns
    -------
    float
        At most 0.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If there is no single classifying flow inside, or its rows have several labels.
    """
    flow = _flow_of(estimator, "collapse_scorer")
    if getattr(flow, "collapse_", None) is None:
        raise ValueError(
            "collapse_scorer needs a classifier with one label a row, and this "
            f"{type(flow).__name__} predicts numbers or several labels a row, which have no "
            "classes to collapse"
        )
    return -float(flow.collapse_.within)


def _flow_of(estimator: Any, scorer: str) -> Any:
    """The fitted flow inside an estimator."""
    inside = estimator
    while not hasattr(inside, "ntk_rank_"):
        check_is_fitted(inside)
        if isinstance(inside, Pipeline):
            inside = inside[-1]
        elif isinstance(inside, TransformedTargetRegressor):
            inside = inside.regressor_
        elif isinstance(inside, FrozenEstimator):
            inside = inside.estimator
        elif hasattr(inside, "best_estimator_"):
            inside = inside.best_estimator_
        elif hasattr(inside, "cv_results_"):
            raise ValueError(
                f"{scorer} needs a fitted flow, and this {type(inside).__name__} has kept no "
                "best_estimator_; set refit=True before fit"
            )
        else:
            raise ValueError(
                f"{scorer} needs an adapted-flow estimator, or a pipeline, a search or a "
                f"TransformedTargetRegressor around one, and got {type(inside).__name__}; hand "
                "over the flow inside it"
            )
    return inside
