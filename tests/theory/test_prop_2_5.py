"""Proposition 2.5: how far rank loss takes the adapted flow off the line, from P_t alone."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_gflow.diagnostics import Deviation, unreachable_loss
from sklearn_gflow.dynamics import FlowOptions, equal_steps, flow
from sklearn_gflow.geometry import LayeredNetwork, ModuleFamily, OutputMap, SquaredError
from tests import oracles
from tests.theory.problems import Problem, RecordedDeviation, adapted_flow, factor_at, normal

pytestmark = pytest.mark.slow

TIMES = tuple(np.linspace(0, 0.9, 10)[1:].tolist())


def of(output_map, y, theta):
    return output_map, SquaredError(y.reshape(-1), float(len(output_map.X))), theta


def duplicated_inputs():
    """Two pairs of equal inputs between different labels; P is constant, and so is its rank."""
    p = Problem.draw(6, (3, 12, 2), seed=21)
    p.X[4:] = p.X[:2]
    return of(p.map, p.y, p.theta)


def narrow_net():
    """K = 14 < QN = 40: ran D turns as θ moves.

    Labels near the reach of the network, since a large residual out of reach makes Gauss–Newton
    flows stiff: x' meets P^⊥(x − y) through the curvature of x(θ), divided by σ².
    """
    p = Problem.draw(20, (3, 2, 2), seed=22)
    goal = p.theta + 0.3 * normal(len(p.theta), seed=29)
    return of(p.map, p.map.family.outputs(goal, p.X) + 0.1 * p.y, p.theta)


def dead_relu_unit():
    """One unit of three is dead on all inputs, and two see all of them: D spans what is affine."""
    p = Problem.draw(9, (2, 3, 1), "relu", seed=23)
    p.theta[6:9] = torch.tensor([9.0, 9.0, -9.0], dtype=torch.float64)  # biases
    return of(p.map, p.y, p.theta)


class MaskedUnits(nn.Module):
    """A tanh network some of whose units are switched off."""

    def __init__(self, mask):
        super().__init__()
        self.first, self.last = nn.Linear(2, len(mask)), nn.Linear(len(mask), 1)
        self.register_buffer("mask", torch.tensor(mask, dtype=torch.float64))
        self.double()

    def forward(self, X):
        return self.last(torch.tanh(self.first(X)) * self.mask)


def dead_unit_of_a_module():
    """Four units, two of them dead: K = 17 > QN = 15, but 9 parameters do all the work."""
    with torch.random.fork_rng():
        torch.manual_seed(20)
        family = ModuleFamily(MaskedUnits([1.0, 0.0, 1.0, 0.0]), 1)
    theta, X = 2.5 * family.initial(), normal(15, 2, seed=20)
    goal = theta + 0.3 * normal(len(theta), seed=27)
    y = family.outputs(goal, X) + 0.1 * normal(15, 1, seed=29)
    return of(OutputMap(family, X), y, theta)


class ConstantOutput(nn.Module):
    """The second of two outputs is a constant."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 12), nn.Linear(12, 1)
        self.double()

    def forward(self, X):
        x = self.last(torch.tanh(self.first(X)))
        return torch.cat([x, torch.full_like(x, 0.3)], dim=1)


def constant_output():
    with torch.random.fork_rng():
        torch.manual_seed(26)
        family = ModuleFamily(ConstantOutput(), 2)
    X = normal(6, 2, seed=26)
    return of(OutputMap(family, X), normal(6, 2, seed=27), 2 * family.initial())


def linear_model():
    """D depends on X alone."""
    p = Problem.draw(10, (3, 2), "identity", seed=28)
    return of(p.map, p.y, p.theta)


CONSTANT_P = (duplicated_inputs, dead_relu_unit, constant_output, linear_model)
TURNING_P = (narrow_net, dead_unit_of_a_module)


@functools.cache
def integrate(case, clock="tau"):
    """The flow to t = 0.9, with the prediction beside it."""
    output_map, cost, theta = case()
    recorded = RecordedDeviation(cost.targets)
    path = adapted_flow(output_map, cost, theta, TIMES, callbacks=[recorded], clock=clock)
    np.testing.assert_allclose(path.t, [0, *TIMES], atol=1e-12)
    return output_map, cost, path, recorded


@pytest.mark.parametrize("clock", ["tau", "t"])
@pytest.mark.parametrize("case", [*CONSTANT_P, *TURNING_P])
def test_predicted_and_measured_deviation_agree(case, clock, measured):
    _, _, path, recorded = integrate(case, clock)
    gaps = np.abs(np.subtract(recorded.measured, recorded.forecast)) / recorded.length
    measured("predicted − measured deviation, entry by entry", gaps.max(), at_most=1e-5)
    # What the history states are the lengths of these vectors.
    history = path.history()
    for column, vectors in (
        ("deviation", recorded.measured),
        ("predicted_deviation", recorded.forecast),
    ):
        lengths = np.linalg.norm(vectors, axis=1) / recorded.length
        np.testing.assert_allclose(history[column], lengths, rtol=1e-12, atol=1e-15)
    measured("deviation at t = 0.9", history["deviation"][-1], at_least=0.05)


@pytest.mark.parametrize("case", CONSTANT_P)
def test_constant_projector(case, measured):
    """e(t) = t·P^⊥(x₀ − y), with P from a dense D at the start."""
    output_map, cost, path, recorded = integrate(case)
    D = output_map.linearize(path.thetas[0]).jacobian()
    way = (path.outputs[0] - cost.targets).numpy()
    outside = way - oracles.project(D, way, 1e-8)
    expected = np.multiply.outer(path.t, outside)
    for name, vectors in (("measured", recorded.measured), ("predicted", recorded.forecast)):
        gap = np.abs(np.asarray(vectors) - expected).max() / recorded.length
        measured(f"{name} deviation against t·P^⊥(x₀ − y)", gap, at_most=1e-7)


@pytest.mark.parametrize("case", TURNING_P)
def test_projector_turns(case, measured):
    """The case that the constant-P formula does not cover."""
    output_map, cost, path, recorded = integrate(case)
    way = (path.outputs[0] - cost.targets).numpy()
    D = [output_map.linearize(theta).jacobian().numpy() for theta in path.thetas]
    outside = way - oracles.project(D[0], way, 1e-8)
    gap = np.linalg.norm(recorded.measured[-1] - path.t[-1] * outside) / recorded.length
    measured("deviation off t·P₀^⊥(x₀ − y) where P turns", gap, at_least=0.01)
    turned = np.linalg.norm(
        oracles.project(D[-1], np.eye(len(way)), 1e-8)
        - oracles.project(D[0], np.eye(len(way)), 1e-8)
    )
    measured("|P(0.9) − P(0)| where P turns", turned, at_least=0.1)
    assert len(set(path.rank)) == 1, "the rank itself stays"


@pytest.mark.parametrize("case", TURNING_P)
def test_against_the_propagator(case, measured):
    """(2.59)–(2.60) as the list of errata corrects them, summed over the path's projectors."""
    output_map, cost, theta = case()
    times = np.linspace(0, 0.9, 361)[1:]
    recorded = RecordedDeviation(cost.targets)
    path = adapted_flow(output_map, cost, theta, times.tolist(), callbacks=[recorded])
    way = (path.outputs[0] - cost.targets).numpy()
    identity = np.eye(len(way))
    t, R = path.t, np.zeros_like(way)
    for k in range(0, len(times), 2):  # P in the middle of two intervals counts for both
        D = output_map.linearize(path.thetas[k + 1]).jacobian()
        P = oracles.project(D, identity, 1e-8)
        # U = exp(∫P^⊥/(1−t)) = P + (1−t₁)/(1−t₂)·P^⊥, of R' = P^⊥(R + x₀ − y)/(1−t) (2.64).
        growth = (1 - t[k]) / (1 - t[k + 2])
        R = P @ R + growth * (R - P @ R) + (growth - 1) * (way - P @ way)
    gap = np.linalg.norm((1 - t[-1]) * R - recorded.measured[-1]) / recorded.length
    measured("(2.59) by the propagator of P^⊥ − measured", gap, at_most=1e-4)


@pytest.mark.parametrize("case", [*CONSTANT_P, *TURNING_P])
def test_velocity_is_projected(case, measured):
    """(2.58): x̃' = −P_t(x̃ − y)/(1 − t), x̃' by central differences of the flow."""
    output_map, cost, theta = case()
    middle, d = 0.4, 1e-4
    path = adapted_flow(output_map, cost, theta, [middle - d, middle, middle + d], tol=1e-12)
    before, at, after = path.outputs[1:]
    slope = ((after - before) / (2 * d)).numpy()
    D = output_map.linearize(path.thetas[2]).jacobian()
    expected = -oracles.project(D, at - cost.targets, 1e-8) / (1 - middle)
    gap = np.linalg.norm(slope - expected) / np.linalg.norm(expected)
    measured("x̃' against (2.58)", gap, at_most=1e-5)


@pytest.mark.parametrize("case", [*CONSTANT_P, *TURNING_P])
def test_loss_out_of_reach(case, measured):
    """½|P^⊥(x − y)|²/N: the loss that is left where P stays."""
    output_map, cost, path, _ = integrate(case)
    tangent = output_map.linearize(path.theta)
    residual = (path.outputs[-1] - cost.targets).numpy()
    outside = residual - oracles.project(tangent.jacobian(), residual, 1e-8)
    found = unreachable_loss(factor_at(tangent), torch.from_numpy(residual), cost.total_weight)
    expected = (outside @ outside) / (2 * len(output_map.X))
    measured("loss out of reach against the oracle", abs(found / expected - 1), at_most=1e-6)
    if case in CONSTANT_P:
        law = (path.loss[0] - found) * (1 - path.t[-1]) ** 2 + found
        measured("C(t) against its law", abs(path.loss[-1] / law - 1), at_most=1e-6)


# -- along the exponential steps --------------------------------------------------------------


@pytest.mark.parametrize("case", CONSTANT_P)
def test_steps_of_any_length_are_exact_where_the_projector_is_constant(case, measured):
    output_map, cost, theta = case()
    observer = Deviation(cost.targets)
    flow(output_map, cost, theta, equal_steps(2, 0.9), FlowOptions(tol=0.0), [observer])
    D = output_map.linearize(theta).jacobian()
    way = (output_map.outputs(theta) - cost.targets).numpy()
    expected = 0.9 * (way - oracles.project(D, way, 1e-8))
    gap = np.abs(observer.predicted.numpy() - expected).max() / observer.length
    measured("prediction of two steps against t·P^⊥(x₀ − y)", gap, at_most=1e-6)


@pytest.mark.parametrize("case", TURNING_P)
def test_prediction_by_steps_converges(case, measured):
    """P held fixed over each step: order one."""
    output_map, cost, theta = case()
    counts, errors = (50, 100, 200, 400), []
    exact = adapted_flow(output_map, cost, theta, [0.6]).outputs[-1]
    x0 = output_map.outputs(theta)
    deviation = exact - torch.lerp(x0, cost.targets, 0.6)
    for count in counts:
        observer = Deviation(cost.targets)
        flow(output_map, cost, theta, equal_steps(count, 0.6), FlowOptions(tol=0.0), [observer])
        errors.append(float((observer.predicted - deviation).norm()) / observer.length)
    slope = oracles.observed_order([1 / count for count in counts], errors)
    measured("slope of the prediction by steps, less 1", abs(slope - 1), at_most=0.1)


def test_no_prediction_below_alpha_one():
    """Prop 2.5 speaks of the adapted flow."""
    output_map, cost, theta = linear_model()
    observer = Deviation(cost.targets, alpha=0.5)
    options = FlowOptions(alpha=0.5, tol=0.0)
    path = flow(output_map, cost, theta, equal_steps(3, 0.5), options, [observer])
    assert all(math.isnan(value) for value in path.extra["predicted_deviation"])
    assert path.extra["deviation"][-1] > 0.01


def test_dead_units_are_dead():
    """The relu unit stays off and the others on, all along; its parameters never matter."""
    output_map, _, path, _ = integrate(dead_relu_unit)
    assert isinstance(output_map.family, LayeredNetwork)
    for theta in path.thetas:
        W, b = next(iter(output_map.family.layers(theta)))
        z = output_map.X @ W + b
        assert (z[:, :2] > 0).all()
        assert (z[:, 2] < 0).all()
    assert set(path.rank) == {3.0}
