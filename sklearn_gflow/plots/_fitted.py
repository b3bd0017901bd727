"""From what a user hands over to the fitted flow inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

__all__ = ["FittedFlow", "fitted_flow"]


@dataclass(frozen=True)
class FittedFlow:
    """A fitted flow, and what stands before it.

    Attributes
    ----------
    estimator : estimator
        The fitted `AdaptedFlowRegressor` or `AdaptedFlowClassifier`.
    before : list of transformers
        Steps of pipelines that X goes through first.
    predicting : estimator
        What predicts: the flow, or the search of this package that has it among its members.
    """

    estimator: Any
    before: list[Any]
    predicting: Any

    def inputs(self, X: Any) -> Any:
        """X as the flow sees it."""
        for steps in self.before:
            X = steps.transform(X)
        return X

    def kept(self, attribute: str, cure: str) -> Any:
        """A fitted attribute.

        Raises
        ------
        ValueError
            If the fit has not kept it, with the cure.
        """
        value = getattr(self.estimator, attribute, None)
        if value is None:
            raise ValueError(f"the fit has kept no {attribute}; {cure}")
        return value


def fitted_flow(estimator: Any, display: str) -> FittedFlow:
    """The flow in an estimator, a search's best one and a pipeline's last step unwrapped.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If there is no flow, or a search has kept no estimator.
    """
    before: list[Any] = []
    inside, predicting = estimator, None
    while True:
        check_is_fitted(inside)
        if isinstance(inside, Pipeline):
            before += [inside[:-1]] if len(inside) > 1 else []
            inside = inside[-1]
        elif hasattr(inside, "best_estimator_"):
            if hasattr(inside, "ensemble_weights_"):
                predicting = inside
            inside = inside.best_estimator_
        elif hasattr(inside, "cv_results_"):
            raise ValueError(
                f"{display} needs a fitted flow, and this {type(inside).__name__} has kept no "
                "best_estimator_; set refit=True before fit"
            )
        else:
            break
    if not hasattr(inside, "history_"):
        raise ValueError(
            f"Expected 'estimator' to be an adapted-flow estimator, or a pipeline or search that "
            f"ends in one. Got {type(inside).__name__} instead; hand over the flow inside it."
        )
    return FittedFlow(inside, before, inside if predicting is None else predicting)
