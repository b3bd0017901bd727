import math

import numpy as np
import pytest
import torch

from sklearn_gflow.dynamics import Point, exponential
from sklearn_gflow.geometry import PSEUDOINVERSE
from tests import oracles
from tests.dynamics.problems import Flow

ALPHAS = [0.0, 0.1, 0.5, 1.0]


class TestExponential:
    LAMBDA = torch.tensor([1e-9, 0.01, 1.0, 30.0, 1e6], dtype=torch.float64)

    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("h", [1e-6, 0.3, 5.0, 700.0])
    def test_is_the_formula(self, alpha, h):
        rate = alpha + (1 - alpha) * self.LAMBDA / 2.5
        expected = -torch.expm1(-h * rate) / self.LAMBDA
        torch.testing.assert_close(
            exponential(alpha, h, 2.5)(self.LAMBDA), expected, rtol=1e-13, atol=0
        )

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_forever_is_the_pseudoinverse(self, alpha):
        assert exponential(alpha, math.inf, 2.5) is PSEUDOINVERSE
        late = exponential(alpha, 1e12, 2.5)(self.LAMBDA)
        torch.testing.assert_close(late, 1 / self.LAMBDA)

    def test_adapted_flow_has_no_smooth_part(self):
        f = exponential(1.0, 0.3, 2.5)
        assert f.smooth is None
        assert f.inverse == pytest.approx(1 - math.exp(-0.3))


def test_point_of_the_squared_error():
    weights = torch.tensor([1.0, 2, 0.5, 1, 1, 3], dtype=torch.float64)
    problem = Flow(weights=weights)
    point = Point.at(problem.map, problem.cost, 0.7, problem.theta)
    root = weights**0.5
    torch.testing.assert_close(point.residual, root * problem.y[:, 0])
    torch.testing.assert_close(point.outputs, torch.zeros(6).double(), rtol=0, atol=1e-15)
    assert point.loss == pytest.approx(float((weights * problem.y[:, 0] ** 2).sum() / 17))
    assert point.tau == 0.7


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 9])  # K = 4 parameters an output: wide, square, tall
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("h", [1e-3, 0.4, 3.0, 50.0])
def test_linear_model_steps_exactly_at_any_length(n, alpha, h):
    problem = Flow(n, (3, 2))
    step = problem.stepper(alpha, scale=2.0).step(h)
    delta, motion = oracles.frozen_flow(problem.D, problem.y.reshape(-1), h, alpha, 2.0)
    torch.testing.assert_close(
        step.theta - problem.theta, torch.from_numpy(delta), rtol=1e-8, atol=1e-10
    )
    torch.testing.assert_close(
        step.tangent.outputs, torch.from_numpy(motion), rtol=1e-8, atol=1e-10
    )
    assert step.error < 1e-12
    residual = problem.y.reshape(-1) - torch.from_numpy(motion)
    assert step.loss == pytest.approx(float(residual @ residual) / (2 * n), rel=1e-6, abs=1e-20)
    assert step.h == h


@pytest.mark.parametrize("n", [3, 9])
@pytest.mark.parametrize("alpha", [0.1, 0.5])
@pytest.mark.parametrize("h", [0.4, 3.0])
def test_ridge_is_a_pull_to_the_start_of_the_step(n, alpha, h):
    """The exact flow of |r|² + μ|Δθ|²: of D with √μ·1 below it, and r with zeros."""
    problem, ridge = Flow(n, (3, 2)), 0.3
    step = problem.stepper(alpha, scale=2.0, ridge=ridge).step(h)
    D, r = problem.D, problem.y.reshape(-1).numpy()
    K = D.shape[1]
    pulled = np.concatenate([D, np.sqrt(ridge) * np.eye(K)])
    delta, _ = oracles.frozen_flow(pulled, np.concatenate([r, np.zeros(K)]), h, alpha, 2.0)
    torch.testing.assert_close(
        step.theta - problem.theta, torch.from_numpy(delta), rtol=1e-8, atol=1e-10
    )


def test_short_steps_with_a_ridge_follow_the_damped_field():
    """θ' = −(α(DᵀD + μ)⁻¹ + (1−α)/c)∇C: the steps tend to it with order one in h."""
    problem, ridge, alpha = Flow(9, (3, 2)), 0.3, 0.5
    r = problem.y.reshape(-1)
    errors = []
    for h in (0.1, 0.05, 0.025):
        step = problem.stepper(alpha, scale=2.0, ridge=ridge).step(h)
        delta, _ = oracles.frozen_flow(problem.D, r, h, alpha, 2.0, ridge)
        errors.append(float((step.theta - problem.theta - torch.from_numpy(delta)).norm()) / h)
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 1, atol=0.1)


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", "svd"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_last_step_of_a_linear_model_is_gauss_newton(alpha, solver):
    for n in (3, 9):
        problem = Flow(n, (3, 2))
        step = problem.stepper(alpha, solver=solver).step(math.inf)
        expected = oracles.pinv_solve(problem.D, problem.y.reshape(-1))
        torch.testing.assert_close(
            step.theta - problem.theta, torch.from_numpy(expected), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_metric_scale_is_the_unit_of_eigenvalues(alpha):
    problem = Flow(5, (3, 2))
    D, r = problem.D, problem.y.reshape(-1)
    for c in (0.5, 8.0):
        step = problem.stepper(alpha, scale=c).step(0.3)
        expected = oracles.lift(
            D, lambda lam, c=c: -(math.e ** (-0.3 * (alpha + (1 - alpha) * lam / c)) - 1) / lam, r
        )
        torch.testing.assert_close(step.theta - problem.theta, torch.from_numpy(expected))


@pytest.mark.parametrize(("alpha", "order"), [(0.0, 2), (0.3, 2), (0.9, 2), (1.0, 3)])
def test_order_of_the_defect(alpha, order):
    # Near α = 1 the part of the second order is small, and seen in short steps alone.
    stepper = Flow(5, (2, 20, 1), seed=3).stepper(alpha)
    assert stepper.order == order
    h = [(0.002 if alpha == 0.9 else 0.1) / 2**k for k in range(6)]
    slope = oracles.observed_order(h, [stepper.step(length).error for length in h])
    assert slope == pytest.approx(order, abs=0.15)


def test_defect_of_the_adapted_step_is_the_distance_from_the_line():
    problem = Flow(5, (2, 20, 1), seed=3)
    step = problem.stepper(1.0).step(0.2)
    y = problem.y.reshape(-1)
    line = -math.expm1(-0.2) * y
    measured = float((problem.moved(step.theta) - line).norm() / y.norm())
    assert step.error == pytest.approx(measured, rel=1e-6)
    assert 0 < measured < 1e-2


def test_step_leaves_the_point():
    problem = Flow()
    before = problem.theta.clone()
    stepper = problem.stepper(1.0)
    first = stepper.step(0.3)
    stepper.step(0.1)
    assert torch.equal(problem.theta, before)
    assert torch.equal(stepper.step(0.3).theta, first.theta)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_overflow_is_not_finite(alpha):
    problem = Flow(activation="identity", y=torch.full((6, 1), 1e200, dtype=torch.float64))
    assert not problem.stepper(alpha).step(1.0).finite
    assert Flow().stepper(alpha).step(1.0).finite
