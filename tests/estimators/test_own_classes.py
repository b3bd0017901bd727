"""A user's own losses and subclasses, where they differ from those of the package."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.geometry import Loss
from tests.estimators.data import classes, regressor, table

pytestmark = pytest.mark.slow

SHIFT = 0.7


@dataclass(frozen=True)
class Shifted(Loss):
    """|x − y − c|²/2: linear in x, and no squared error of y."""

    linear = True

    def value(self, x, y):
        return ((x - y - SHIFT) ** 2 / 2).sum(1)

    def gradient(self, x, y):
        return x - y - SHIFT

    def curvature(self, x, y):
        return x.new_tensor(1.0)

    def minimizer(self, x, y, floor):
        return y + SHIFT


@dataclass(frozen=True)
class NotANumber(Shifted):
    """A loss that is no number where outputs have moved far."""

    def value(self, x, y):
        return torch.where(x.abs() > 0.7, torch.nan, (x - y) ** 2 / 2).sum(1)


@pytest.mark.parametrize(
    ("method", "batch_size"), [("exponential", "auto"), ("exponential", 8), ("RK45", "auto")]
)
def test_a_linear_loss_that_is_no_squared_error(method, batch_size):
    X, y = table(40)
    parameters = {"method": method, "batch_size": batch_size, "alpha": 0.5}
    shifted = regressor(loss=Shifted(), **parameters).fit(X, y)
    plain = regressor(**parameters).fit(X, y)
    np.testing.assert_allclose(shifted.initial_output_, [SHIFT], rtol=1e-9)
    # Both start at their own best constant, and the flows are the same from there.
    expected = plain.predict(X) + SHIFT * y.std()
    np.testing.assert_allclose(shifted.predict(X), expected, rtol=1e-5)
    assert shifted.score(X, y) == pytest.approx(plain.score(X, y), abs=1e-5)
    with pytest.raises(ValueError, match=r"return_std .* no squared error"):
        shifted.predict(X, return_std=True)


def test_a_linear_loss_has_the_law_of_the_line():
    X, y = table(12)
    model = regressor(loss=Shifted(), alpha=1.0, schedule=50, hidden_layer_sizes=(40,)).fit(X, y)
    curve = np.array(model.loss_curve_) / model.loss_curve_[0]
    np.testing.assert_allclose(curve, (1 - model.history_["t"]) ** 2, rtol=1e-2)
    assert model.deviation_ < 1e-2


class FewerParameters(AdaptedFlowRegressor):
    """A subclass that shows its users three parameters."""

    def __init__(self, hidden_layer_sizes=(8,), alpha=0.3, extra=3):
        super().__init__(hidden_layer_sizes, alpha=alpha, random_state=0)
        self.extra = extra


class FewerClassParameters(AdaptedFlowClassifier):
    def __init__(self, alpha=0.3, extra=3):
        super().__init__((8,), alpha=alpha, random_state=0)
        self.extra = extra


class FewerSearchParameters(AdaptedFlowRegressorCV):
    def __init__(self, alphas=(0.0, 1.0), extra=3):
        super().__init__((8,), alphas=alphas, encodings=[None], random_state=0)
        self.extra = extra


class FewerClassSearchParameters(AdaptedFlowClassifierCV):
    def __init__(self, alphas=(0.0, 1.0), extra=3):
        super().__init__((8,), alphas=alphas, encodings=[None], random_state=0)
        self.extra = extra


@pytest.mark.parametrize(
    ("subclass", "base"),
    [
        (FewerParameters, AdaptedFlowRegressor),
        (FewerClassParameters, AdaptedFlowClassifier),
        (FewerSearchParameters, partial(AdaptedFlowRegressorCV, encodings=[None])),
        (FewerClassSearchParameters, partial(AdaptedFlowClassifierCV, encodings=[None])),
    ],
)
def test_a_subclass_with_a_constructor_of_its_own(subclass, base):
    X, y = classes(40) if "Class" in subclass.__name__ else table(40)
    model = clone(subclass(extra=5)).fit(X, y)
    assert model.get_params()["extra"] == 5
    own = {n: v for n, v in model.get_params().items() if n != "extra"}
    alone = base(**{"hidden_layer_sizes": (8,), "random_state": 0, **own}).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), alone.predict(X))


class TestNotFinite:
    def test_along_a_classical_integrator(self):
        with pytest.raises(ValueError, match="outputs or loss became non-finite"):
            regressor(loss=NotANumber(), method="RK45", t_end=0.99).fit(*table(40))

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_scores_of_a_search_that_are_none(self):
        X, y = table(40)
        for cv in (None, 3):
            search = AdaptedFlowRegressorCV(
                (8,), encodings=[None], cv=cv, scoring=lambda *_, **__: np.nan, random_state=0
            )
            with pytest.raises(ValueError, match="no candidate has a score that is a number"):
                search.fit(X, y)
        with pytest.raises(ValueError, match="no time has a leave-one-out score"):
            regressor(early_stopping="loo").fit(X, y, np.r_[1e200, np.ones(39)])
