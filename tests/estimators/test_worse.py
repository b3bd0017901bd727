"""A fit that ends worse than it began says so, whatever way it went; long steps do not blow up."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.dynamics import Trajectory
from sklearn_gflow.estimators import _training
from sklearn_gflow.exceptions import ConvergenceWarning


def diabetes(n=442):
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X[:n]), y[:n]


@pytest.mark.slow
def test_a_step_that_would_blow_up_is_cut():
    X, y = diabetes()
    model = AdaptedFlowRegressor((50,), alpha=1.0, t_end=0.3, schedule=1, random_state=0).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.t_ == pytest.approx(0.3)
    assert "cut short" in model.outcome_


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", [{}, {"schedule": 2}, {"batch_size": 10}, {"method": "RK45", "hidden_layer_sizes": (4,)}]
)
def test_a_worse_end_warns_with_both_losses(way, monkeypatch):
    """The way is a sound one; the record of its end is raised afterwards."""
    X, y = diabetes(20)
    model = AdaptedFlowRegressor(random_state=0, **way)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)

    def raised(flow):
        def run(*args, **more):
            trajectory: Trajectory = flow(*args, **more)
            trajectory.loss[-1] = 3 * trajectory.loss[0]
            return trajectory

        return run

    for name in ("flow", "block_flow", "reference_flow"):
        monkeypatch.setattr(_training, name, raised(getattr(_training, name)))
    start = model.loss_curve_[0]
    with pytest.warns(ConvergenceWarning, match="ended worse than it began") as caught:
        model.fit(X, y)
    assert f"rose from {start:.6g} to {3 * start:.6g}" in str(caught[0].message)


def test_a_start_at_the_minimum_is_no_rise():
    X, _ = diabetes(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        AdaptedFlowRegressor((4,), random_state=0).fit(X, np.full(20, 3.0))
