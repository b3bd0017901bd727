"""What is settled before a flow: how it ends, and the precision of its blocks."""

import numpy as np
import pytest
import torch

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.geometry import LayeredNetwork, Shape, enough_damping
from sklearn_gflow.geometry.ladder import factor_symmetric


@pytest.fixture
def calls(monkeypatch):
    """How often parameters were settled and starts were drawn."""
    counts = {"settled": 0, "initial": 0}
    for owner, name in ((Problem, "settled"), (LayeredNetwork, "initial")):
        inner = getattr(owner, name)

        def counted(self, *args, inner=inner, name=name, **kwargs):
            counts[name] += 1
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    return counts


@pytest.mark.parametrize("estimator", [AdaptedFlowClassifier, AdaptedFlowRegressor])
def test_how_a_flow_ends_is_asked_once_and_draws_no_start(estimator, calls):
    X = np.random.default_rng(0).normal(size=(1000, 2))
    y = (X[:, 0] > 0).astype(int)
    model = estimator((4,), batch_size=250, max_iter=2, random_state=0).fit(X, y)
    assert model.rescalings_ == 1
    # Besides the question there are two flows, the first of which has a rough start too.
    assert calls == {"settled": 3, "initial": 3}


@pytest.mark.parametrize("rows", [256, 2048])
def test_blocks_are_in_single_precision_where_their_factor_cuts_no_mode(rows):
    enough = enough_damping(rows, torch.float32)

    def dtype(damping):
        given = AdaptedFlowRegressor(batch_size=rows, damping=damping).get_params()
        return Settings.of(given, Shape(10**5, 1, 10**4), 0).block_dtype

    def certain(damping):
        factor = factor_symmetric(torch.eye(rows), threshold=1e-4, ridge=damping)
        return "extremes" not in vars(factor)  # no look at the smallest eigenvalue was needed

    below, above = 0.99 * enough, 1.01 * enough
    assert (dtype(below), dtype(above)) == ("float64", "float32")
    assert (certain(below), certain(above)) == (False, True)
