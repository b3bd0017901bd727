"""The metric h_α = (α1 + (1−α)G)⁻¹ on ran G (2.45)–(2.46), Riemannian or sub-Riemannian."""

import numpy as np
import pytest
import torch

from sklearn_gflow.dynamics import Metric, output_field
from sklearn_gflow.geometry import CrossEntropy, OutputMap, SquaredError
from tests import oracles
from tests.theory.problems import ALPHAS, RANKS, factor_at, normal, relative

SCALE = 3.0


class Dense:
    """h_α and its inverse as matrices, from the singular values of the oracle's D."""

    def __init__(self, D, alpha, scale):
        self.U, sigma, _ = oracles.thin_svd(D, 1e-8)
        spectrum = alpha + (1 - alpha) * sigma**2 / scale
        self.h = (self.U / spectrum) @ self.U.T
        self.inverse = (self.U * spectrum) @ self.U.T
        self.P = self.U @ self.U.T

    def tangent_vector(self, seed):
        return torch.from_numpy(self.P @ normal(len(self.P), seed=seed).numpy())


@pytest.fixture(params=list(RANKS))
def problem(request):
    return RANKS[request.param]()


@pytest.fixture(params=["auto", "eigh"])
def solver(request):
    return request.param


@pytest.fixture(params=ALPHAS)
def setting(problem, solver, request):
    p, _ = problem
    tangent = p.map.linearize(p.theta)
    metric = Metric(tangent, factor_at(tangent, solver=solver), request.param, SCALE)
    return p, metric, Dense(p.D(), request.param, SCALE)


def test_against_matrices(setting, measured):
    p, metric, dense = setting
    v = normal(p.map.size, seed=71)  # any vector: the part outside ran G has no length
    measured("h_α⁻¹v against (2.41)", relative(metric.raise_index(v), dense.inverse @ v.numpy()),
             at_most=1e-10)  # fmt: skip
    measured("h_αv against (2.46)", relative(metric.lower_index(v), dense.h @ v.numpy()),
             at_most=1e-8)  # fmt: skip


def test_full_rank_is_the_inverse_matrix(measured):
    """(2.45), by a solver that knows of no spectrum."""
    p, _ = RANKS["full_rank"]()
    tangent, v = p.map.linearize(p.theta), normal(p.map.size, seed=72)
    D = p.D()
    for alpha in ALPHAS:
        metric = Metric(tangent, factor_at(tangent, solver="eigh"), alpha)
        A = alpha * np.eye(len(D)) + (1 - alpha) * D @ D.T
        gap = relative(metric.lower_index(v), np.linalg.solve(A, v.numpy()))
        measured("h_αv against numpy's solve (2.45)", gap, at_most=1e-9)


def test_lowering_inverts_raising_on_the_range(setting, measured):
    _, metric, dense = setting
    v = dense.tangent_vector(seed=73)
    for name, composed in (
        ("h_α h_α⁻¹ v − v", metric.lower_index(metric.raise_index(v))),
        ("h_α⁻¹ h_α v − v", metric.raise_index(metric.lower_index(v))),
    ):
        # The condition of G, up to 1e10 here, is what rounding is multiplied by.
        measured(f"{name}, v in ran G", relative(composed, v), at_most=1e-6)


@pytest.mark.slow
def test_inner_product_and_norm(setting, measured):
    _, metric, dense = setting
    u, v = dense.tangent_vector(seed=74), dense.tangent_vector(seed=75)
    unit = metric.norm(u) * metric.norm(v)
    expected = u.numpy() @ dense.h @ v.numpy()
    measured("⟨u, v⟩ against uᵀh_αv", abs(metric.inner(u, v) - expected) / unit, at_most=1e-9)
    measured("⟨u, v⟩ − ⟨v, u⟩", abs(metric.inner(u, v) - metric.inner(v, u)) / unit, at_most=1e-9)
    assert metric.norm(v) == pytest.approx(np.sqrt(v.numpy() @ dense.h @ v.numpy()), rel=1e-9)
    assert metric.norm(v) > 0
    assert abs(metric.inner(u, v)) < unit
    assert metric.norm(2 * v) == pytest.approx(2 * metric.norm(v), rel=1e-12)


@pytest.mark.slow
def test_output_field_is_minus_the_gradient(setting, measured):
    """⟨V_x,α, v⟩ = −dC(v) for every v in ran G, and V_x,α lies there: that is the gradient."""
    p, metric, dense = setting
    for cost in (p.cost, p.cross_entropy):
        V = output_field(metric.tangent, metric.factor, cost, metric.alpha, scale=SCALE)
        V_ = V.numpy()
        measured("P^⊥V_x,α", np.linalg.norm(V_ - dense.P @ V_) / np.linalg.norm(V_), at_most=1e-9)
        differential = cost.gradient(metric.tangent.outputs)
        v = dense.tangent_vector(seed=76)
        slope = float(differential @ v)
        gap = abs(metric.inner(V, v) + slope) / (metric.norm(V) * metric.norm(v))
        measured("⟨V_x,α, v⟩ + dC(v)", gap, at_most=1e-9)
        # Steepest: no tangent vector of this length falls faster.
        assert -float(differential @ V) == pytest.approx(metric.norm(V) ** 2, rel=1e-8)


def test_vertical_directions_have_no_length(setting, measured):
    """Sub-Riemannian where the rank drops: what is orthogonal to ran G is not tangent."""
    p, metric, dense = setting
    w = normal(p.map.size, seed=77)
    outside = w - torch.from_numpy(dense.P @ w.numpy())
    if len(dense.U.T) == p.map.size:
        measured("P^⊥ at full rank", outside.norm() / w.norm(), at_most=1e-9)
        return
    assert outside.norm() > 0.1
    size = float(np.linalg.norm(dense.h, 2))
    measured("h_α P^⊥w", metric.lower_index(outside).norm() / size, at_most=1e-9)
    measured("h_α⁻¹ P^⊥w", metric.raise_index(outside).norm() / np.linalg.norm(dense.inverse, 2),
             at_most=1e-9)  # fmt: skip
    v = dense.tangent_vector(seed=78)
    assert metric.inner(v + outside, v) == pytest.approx(metric.inner(v, v), rel=1e-8)


def test_ends_are_the_two_euclidean_structures(problem, measured):
    """α = 1: that of output space. α = 0: that of parameter space, |Dw| = |P_ran(Dᵀ)w|."""
    p, _ = problem
    tangent = p.map.linearize(p.theta)
    factor = factor_at(tangent, solver="eigh")
    D = p.D()
    w = normal(D.shape[1], seed=79).numpy()
    v = torch.from_numpy(D @ w)
    measured("|v| at α = 1", abs(Metric(tangent, factor, 1.0).norm(v) / float(v.norm()) - 1),
             at_most=1e-9)  # fmt: skip
    _, _, Vh = oracles.thin_svd(D, 1e-8)
    horizontal = np.linalg.norm(Vh @ w)
    measured("|Dw| at α = 0 against |P_ran(Dᵀ) w|",
             abs(Metric(tangent, factor, 0.0).norm(v) / horizontal - 1), at_most=1e-9)  # fmt: skip


def test_sample_weights_enter_through_the_coordinates(measured):
    """With W^½x for x the formulas hold as they stand."""
    p, _ = RANKS["full_rank"]()
    weights = torch.tensor([0.5, 1, 2, 1, 3, 0.25], dtype=torch.float64)
    weighted = OutputMap(p.map.family, p.X, None, weights)
    tangent = weighted.linearize(p.theta)
    D = np.repeat(weights.sqrt().numpy(), 2)[:, None] * p.D()
    dense = Dense(D, 0.3, 1.0)
    metric = Metric(tangent, factor_at(tangent, solver="eigh"), 0.3)
    v = normal(12, seed=80)
    gap = relative(metric.lower_index(v), dense.h @ v.numpy())
    measured("h_αv with weights", gap, at_most=1e-9)
    for cost in (
        SquaredError(weighted.weigh(p.y), weighted.total_weight),
        CrossEntropy(torch.softmax(p.y, dim=1), weights),
    ):
        V = output_field(tangent, metric.factor, cost, 0.3).numpy()
        gradient = cost.gradient(tangent.outputs).numpy()
        measured("V_x,α with weights", relative(V, -dense.inverse @ gradient), at_most=1e-9)
