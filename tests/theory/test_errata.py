"""The slips of the paper's text: the printed formula fails where the corrected one holds."""

import math

import numpy as np
import pytest
import torch

from sklearn_gflow.diagnostics import collapse
from sklearn_gflow.dynamics import Fixed, FlowOptions, flow, output_field, reference_flow
from sklearn_gflow.geometry import SquaredError
from tests import oracles
from tests.theory.problems import (
    Problem,
    RecordedDeviation,
    adapted_flow,
    factor_at,
    off_the_line,
    relative,
)

T = 0.5


class UnhalvedSquaredError(SquaredError):
    """(2.7) and (2.11) as printed, C = |x − y|²/N: the gradient is twice that of (2.48)."""

    def value(self, x):
        return 2 * super().value(x)

    def gradient(self, x):
        return 2 * super().gradient(x)


def full_rank():
    return Problem.draw(6, (3, 16, 2), seed=101)


def rank_deficient():
    """Two pairs of equal inputs: P is constant and not 1."""
    p = Problem.draw(6, (3, 12, 2), seed=102)
    p.X[4:] = p.X[:2]
    return p


# -- 1: the clock -----------------------------------------------------------------------------


@pytest.mark.slow
def test_clock_belongs_to_the_halved_cost(measured):
    """t = 1 − e^{−s/N} with (2.48), not with (2.7): there x(s) = y + e^{−2s/N}(x₀ − y)."""
    p = full_rank()
    options = FlowOptions(alpha=1.0, tol=0.0)
    gaps = {}
    for cost in (p.cost, UnhalvedSquaredError(p.cost.targets, p.cost.total_weight)):
        path = reference_flow(
            p.map, cost, p.theta, options, t_end=T, times=[T], rtol=1e-10, atol=1e-10
        )
        gaps[type(cost)] = off_the_line(path, p.target)
    measured("off the line with (2.48)", gaps[SquaredError], at_most=1e-7)
    # (1−t) − (1−t)² at t = ½.
    measured("off the line with (2.7)", gaps[UnhalvedSquaredError], at_least=0.25 - 1e-7)


def test_clock_of_the_reported_loss(measured):
    """C(t)/C(0) = (1−t)² in the package's t; (2.7) would give (1−t)⁴."""
    p = full_rank()
    path = adapted_flow(p.map, p.cost, p.theta, [T])
    ratio = path.loss[-1] / path.loss[0]
    measured("C(½)/C(0) − ¼", abs(ratio - 0.25), at_most=1e-7)
    measured("C(½)/C(0) off 1/16", abs(ratio - 1 / 16), at_least=0.18)
    # The value itself is (2.48)'s, too.
    residual = p.outputs() - p.target
    measured("C against |x−y|²/(2N)", abs(path.loss[0] / (residual @ residual / 12) - 1),
             at_most=1e-12)  # fmt: skip
    measured("C off |x−y|²/N", abs(path.loss[0] / (residual @ residual / 6) - 1), at_least=0.49)


# -- 2: the sign of (2.49) --------------------------------------------------------------------


def test_euclidean_flow_goes_downhill(measured):
    """x' = −(1/N)(x − y) (2.49); as printed, without the minus, it is the opposite."""
    p = full_rank()
    tangent = p.map.linearize(p.theta)
    V = output_field(tangent, factor_at(tangent), p.cost, 1.0).numpy()
    printed = (p.outputs() - p.target) / len(p.X)
    measured("V_x,1 against −(x−y)/N", relative(V, -printed), at_most=1e-9)
    measured("V_x,1 against (x−y)/N as printed", relative(V, printed), at_least=2 - 1e-9)


def test_slope_of_the_flow_in_s(measured):
    """The same by differences of the flow itself, in the trajectory's own s."""
    p = full_rank()
    d = 1e-4
    path = adapted_flow(p.map, p.cost, p.theta, [d, 2 * d], tol=1e-12)
    slope = ((path.outputs[2] - path.outputs[0]) / (path.s[2] - path.s[0])).numpy()
    printed = (path.outputs[1].numpy() - p.target) / len(p.X)
    measured("∂ₛx against −(x−y)/N", relative(slope, -printed), at_most=1e-6)
    measured("∂ₛx against (x−y)/N as printed", relative(slope, printed), at_least=1.99)


# -- 3: the left side of (2.59) ---------------------------------------------------------------


@pytest.mark.slow
def test_deviation_is_from_the_line_to_y(measured):
    """x̃ − ((1−t)x₀ + t·y) is what the right side gives; with − t·y it is off by 2t·y."""
    p = rank_deficient()
    path = adapted_flow(p.map, p.cost, p.theta, [T])
    x0, x, y = path.outputs[0].numpy(), path.outputs[-1].numpy(), p.target
    right = T * (x0 - y - oracles.project(p.D(), x0 - y, 1e-8))  # (2.59)'s, at constant P
    length = np.linalg.norm(y - x0)
    corrected = x - ((1 - T) * x0 + T * y)
    printed = x - ((1 - T) * x0 - T * y)
    measured("corrected (2.59)", np.linalg.norm(corrected - right) / length, at_most=1e-7)
    measured("printed (2.59)", np.linalg.norm(printed - right) / length, at_least=0.5)
    # At full rank the right side is zero, and so is the corrected left side alone.
    q = full_rank()
    path = adapted_flow(q.map, q.cost, q.theta, [T])
    printed = off_the_line(path, q.target, lambda t: (1 - t) * q.outputs() - t * q.target)
    measured("off (1−t)x₀ + t·y at full rank", off_the_line(path, q.target), at_most=1e-7)
    measured("off (1−t)x₀ − t·y at full rank", printed, at_least=0.5)


# -- 4: the projector in the propagator (2.60) ------------------------------------------------


def duhamel(generator, t, source):
    """∫₀ᵗ U_{t,t'} (1−t)/(1−t') source dt' for ∂ₜU = generator·U/(1−t), generator constant.

    U_{t,t'} = exp(generator·ln((1−t')/(1−t))), by eigenvectors; Gauss–Legendre in t'.
    """
    values, vectors = np.linalg.eigh(generator)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = np.zeros_like(source)
    for node, weight in zip((nodes + 1) * t / 2, weights * t / 2, strict=True):
        growth = np.exp(values * math.log((1 - node) / (1 - t)))
        U = (vectors * growth) @ vectors.T
        total += weight * (1 - t) / (1 - node) * (U @ source)
    return total


def test_propagator_carries_the_complement(measured):
    """(2.59) with ∂ₜU = P^⊥U/(1−t) gives the flow's deviation; with P, −(1−t)ln(1−t) for t."""
    p = rank_deficient()
    t = 0.9
    recorded = RecordedDeviation(p.cost.targets)
    path = adapted_flow(p.map, p.cost, p.theta, [t], callbacks=[recorded])
    P = oracles.project(p.D(), np.eye(p.map.size), 1e-8)
    way = path.outputs[0].numpy() - p.target
    source = way - P @ way
    found, unit = recorded.measured[-1], np.linalg.norm(source)
    for name, deviation in (("measured", found), ("predicted", recorded.forecast[-1])):
        corrected = duhamel(np.eye(len(P)) - P, t, source)
        printed = duhamel(P, t, source)
        measured(f"{name} against the propagator of P^⊥",
                 np.linalg.norm(deviation - corrected) / unit, at_most=1e-6)  # fmt: skip
        measured(f"{name} against the propagator of P, as printed",
                 np.linalg.norm(deviation - printed) / unit, at_least=0.66)  # fmt: skip
    # |t + (1−t)ln(1−t)| = 0.6697… at t = 0.9.
    np.testing.assert_allclose(printed, -(1 - t) * math.log(1 - t) * source, atol=1e-9)


def test_propagator_by_steps(measured):
    """The same for the prediction that exponential steps carry along."""
    p = rank_deficient()
    recorded = RecordedDeviation(p.cost.targets)
    schedule = Fixed.at_times([0.3, 0.6, 0.9])
    flow(p.map, p.cost, p.theta, schedule, FlowOptions(tol=0.0), [recorded])
    P = oracles.project(p.D(), np.eye(p.map.size), 1e-8)
    way = p.outputs() - p.target
    source = way - P @ way
    found, unit = recorded.predicted.numpy(), np.linalg.norm(source)
    for generator, bound in ((np.eye(len(P)) - P, {"at_most": 1e-6}), (P, {"at_least": 0.66})):
        name = "P^⊥" if "at_most" in bound else "P, as printed"
        gap = np.linalg.norm(found - duhamel(generator, 0.9, source)) / unit
        measured(f"prediction by steps against the propagator of {name}", gap, **bound)


# -- 5: the weights in (3.11) -----------------------------------------------------------------


def test_class_means_count_by_their_size(measured):
    """C = within + Σ_j (N_j/N)|mean_j − y_j|²/2; without N_j/N the sum is not the cost."""
    labels, y = np.array([0, 0, 0, 0, 1, 1, 2]), np.eye(3)
    rng = np.random.default_rng(103)
    x = rng.normal(size=(7, 3))
    cost = SquaredError(torch.from_numpy(y[labels].ravel()), 7.0).value(torch.from_numpy(x.ravel()))
    found = collapse(x, labels, y)
    gaps = ((found.class_means - y) ** 2).sum(axis=1)
    printed = gaps.sum() / 2
    corrected = np.bincount(labels) / 7 @ gaps / 2
    measured("within + between against C", abs((found.within + found.between) / cost - 1),
             at_most=1e-12)  # fmt: skip
    measured("between against Σ N_j/N", abs(found.between / corrected - 1), at_most=1e-12)
    measured("within + printed sum off C", abs((found.within + printed) / cost - 1), at_least=0.5)
