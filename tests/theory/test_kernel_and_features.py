"""Kernel against features: alignment with the targets and effective rank along flows, by α."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.diagnostics import KernelAlignment, KernelDrift, kernel_shape
from sklearn_gflow.dynamics import Adaptive, FlowOptions, LossReached, flow
from sklearn_gflow.geometry import LayeredNetwork, OutputMap
from tests.theory.problems import RANKS, Problem, full_rank, normal, relative


def dense(D, y, weights, n_outputs):
    """(alignment, effective rank) of HDDᵀH and ỹỹᵀ, by numpy; rows of D and y have weights in."""
    root = np.sqrt(weights)
    projector = np.eye(len(root)) - np.outer(root, root) / weights.sum()
    H = np.kron(projector, np.eye(n_outputs))
    A, target = H @ D @ D.T @ H, H @ y
    norm = np.linalg.norm(A)
    return target @ A @ target / (norm * (target @ target)), np.trace(A) ** 2 / norm**2


@pytest.mark.parametrize("name", RANKS)
def test_small_kernels_are_exact(name, measured):
    problem, _ = RANKS[name]()
    shape = kernel_shape(problem.map.linearize(problem.theta), problem.y.reshape(-1), n_probes=40)
    expected = dense(problem.D(), problem.target, np.ones(len(problem.X)), problem.sizes[-1])
    measured("alignment and effective rank, dense", relative(shape, expected), at_most=1e-12)


def test_weights_are_copies(measured):
    problem, _ = full_rank()
    w = torch.tensor([1.0, 3, 1, 2, 1, 1], dtype=torch.float64)
    network = LayeredNetwork(problem.sizes, problem.activation)
    weighted = OutputMap(network, problem.X, weights=w)
    found = kernel_shape(weighted.linearize(problem.theta), weighted.weigh(problem.y))
    copies = w.long()
    rows = OutputMap(network, problem.X.repeat_interleave(copies, 0))
    expected = kernel_shape(
        rows.linearize(problem.theta), problem.y.repeat_interleave(copies, 0).reshape(-1)
    )
    measured("weights against copies", relative(found, expected), at_most=1e-12)
    by_hand = dense(
        np.repeat(w.sqrt().numpy(), 2)[:, None] * problem.D(), weighted.weigh(problem.y).numpy(),
        w.numpy(), 2,
    )  # fmt: skip
    measured("weights, dense", relative(found, by_hand), at_most=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_estimates_where_no_gram_is_formed(activation, measured):
    problem = Problem.draw(200, (5, 30, 1), activation, seed=3)
    shape = kernel_shape(problem.map.linearize(problem.theta), problem.y.reshape(-1))
    expected = dense(problem.D(), problem.target, np.ones(200), 1)
    measured("alignment of 200 outputs by 72 products", abs(shape[0] / expected[0] - 1),
             at_most=2e-3)  # fmt: skip
    measured("effective rank of 200 outputs by 72 products", abs(shape[1] / expected[1] - 1),
             at_most=5e-3)  # fmt: skip


def test_ends_of_the_scale():
    """A kernel ∝ ỹỹᵀ has alignment 1 and rank 1; one that is constant over rows has none."""
    X = normal(9, 1, seed=1)
    line = OutputMap(LayeredNetwork((1, 1), "tanh"), X)
    shape = kernel_shape(line.linearize(normal(2)), X[:, 0])
    assert shape == pytest.approx((1.0, 1.0))
    constant = OutputMap(LayeredNetwork((1, 1), "tanh"), torch.ones_like(X))
    assert math.isnan(kernel_shape(constant.linearize(normal(2)), X[:, 0]).alignment)
    assert math.isnan(kernel_shape(line.linearize(normal(2)), torch.ones(9).double()).alignment)


def test_columns_along_a_flow(measured):
    problem, _ = full_rank()
    options = FlowOptions(alpha=0.5, store_path=True)
    y = problem.y.reshape(-1)
    path = flow(problem.map, problem.cost, problem.theta, Adaptive(2.0), options,
                [KernelAlignment(y)])  # fmt: skip
    for k, theta in enumerate(path.thetas):
        expected = dense(problem.D(theta), problem.target, np.ones(6), 2)
        found = path.extra["kernel_alignment"][k], path.extra["effective_rank"][k]
        measured("columns of a flow, dense", relative(found, expected), at_most=1e-10)


def along_one_direction():
    """200 rows of ten columns, of which a wave sees one direction, to a tenth of the loss."""
    Z = np.random.default_rng(0).normal(size=(200, 10))
    return Z, np.sin(Z @ np.full(10, 0.4)), 0.1


def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X[:200], y[:200], 0.45


def ends(table, alpha):
    """Columns at both ends of a flow to a share of the loss, without a ridge, as in the example."""
    X, y, share = table
    model = AdaptedFlowRegressor((64,), alpha=alpha, damping=0.0, random_state=0)
    start = model.start_of(X, y)
    eps = share * start.cost.value(start.output_map.outputs(start.theta))
    schedule = Adaptive(100.0, marks=list(np.geomspace(1e-2, 100, 40)))
    columns = [KernelAlignment(start.cost.targets), KernelDrift()]
    path = flow(*start[:3], schedule, start.options, [LossReached(eps), *columns])
    assert path.loss[-1] <= eps
    return {name: (values[0], values[-1]) for name, values in path.extra.items()}


@pytest.mark.slow
@pytest.mark.parametrize("table", [along_one_direction, diabetes])
def test_the_kernel_turns_to_the_targets_the_less_the_larger_alpha(table, measured):
    """At the same loss: D⁺ moves the kernel farther, and less towards the targets."""
    found = {alpha: ends(table(), alpha) for alpha in (0.0, 0.1, 0.9)}
    rises = [np.divide(*found[a]["kernel_alignment"][::-1]) for a in found]
    measured("rise of the alignment, α = 0", rises[0], at_least=1.05)
    measured("rise of the alignment, α = 0.9", rises[2], at_most=1.03)
    assert rises == sorted(rises, reverse=True)
    drifts = [found[a]["ntk_drift"][1] for a in found]
    measured("drift at α = 0.9 over that at α = 0", drifts[2] / drifts[0], at_least=2)
    assert drifts == sorted(drifts)
