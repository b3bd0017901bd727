"""Rank against depth and width, and sets of equilibria where rank is lost (arXiv:2311.15487)."""

import numpy as np
import pytest
import torch

from sklearn_gflow.diagnostics import critical_set, rank_by_shape
from sklearn_gflow.geometry import LayeredNetwork
from tests import oracles
from tests.theory.problems import normal
from tests.theory.test_thm_2_3 import (
    all_units_alike,
    contradicting_labels,
    generic_and_overdetermined,
    last_layer_zero,
    trained,
)


def dense_hessian(problem):
    """Of C∘x, by automatic differentiation."""
    N = len(problem.X)

    def loss(theta):
        x = oracles.forward(theta, problem.X, problem.sizes, problem.activation)
        return ((x - problem.y) ** 2).sum() / (2 * N)

    return torch.func.jacrev(torch.func.jacrev(loss))(problem.theta).numpy()


def found_at(point):
    problem = point()
    found = critical_set(problem.map, problem.cost, problem.theta)
    sigma = np.abs(np.linalg.eigvalsh(dense_hessian(problem)))
    kernel = len(sigma) - int((sigma > 1e-6 * sigma.max()).sum())
    assert found.measured == kernel
    assert found.gradient <= 1e-10
    rank = len(oracles.thin_svd(problem.D(), 1e-8)[1])
    assert found.predicted == len(problem.theta) - rank
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "dimension"),
    [(trained, 98 - 12), (contradicting_labels, 122 - 8)],
)
def test_dimension_where_rank_is_constant_nearby(point, dimension):
    """Zero loss at full rank, and equal inputs between two labels: K − rank D."""
    found = found_at(point)
    assert found.predicted == found.measured == dimension


@pytest.mark.parametrize("point", [all_units_alike, last_layer_zero, generic_and_overdetermined])
def test_where_rank_is_lost_at_the_point_alone_the_set_is_no_larger(point, measured):
    """∇ₓC ≠ 0 then bends C along ker D, so that the kernel is a part of it."""
    found = found_at(point)
    measured("kernel of the Hessian, of K − rank D", found.measured, at_most=found.predicted)
    if point is not generic_and_overdetermined:  # K = rank D there: the point is isolated
        assert found.measured < found.predicted


def test_ranks_against_dense_jacobians():
    X = normal(30, 3, seed=1)
    for found in rank_by_shape(X, [1, 2, 3], [2, 4, 16], n_outputs=2):
        sizes = (3, *[found.width] * found.depth, 2)
        theta = LayeredNetwork(sizes, "tanh").initial(torch.Generator().manual_seed(0))
        sigma = oracles.thin_svd(oracles.jacobian(theta.double(), X, sizes, "tanh").numpy())[1]
        resolved = int((sigma > 1e-7 * sigma[0]).sum())
        assert abs(found.rank - resolved) <= 1
        assert found.size == 60
        assert found.n_params == len(theta)
        assert found.rank <= min(found.size, found.n_params)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_depth_and_width(activation, measured):
    """40 rows of five normal columns: width mends the condition, and depth costs it in the end."""
    X = normal(40, 5, seed=2)
    shapes = rank_by_shape(X, [1, 2, 4, 8], [4, 16, 64], activation=activation)
    ranks = {(found.depth, found.width): found for found in shapes}
    assert ranks[1, 64].rank == 40
    for depth in (1, 2, 4):
        narrow, wide = ranks[depth, 16], ranks[depth, 64]
        assert wide.rank >= narrow.rank
        if wide.rank == narrow.rank:
            measured("condition, width 64 over 16", wide.condition / narrow.condition, at_most=1.0)
    deep = ranks[8, 4].condition / ranks[4, 4].condition
    measured("condition, 8 layers of 4 units over 4 layers", deep, at_least=50)
    # Depth was not seen to cost rank at these starts, which the condition resolves just yet.
    assert all(found.rank == 40 for found in shapes if found.depth > 1)
