"""Every cost of `COSTS` through every flow: against classical integrators, and against scipy."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch

from sklearn_gflow.dynamics import (
    Adaptive,
    BlockOptions,
    Epoch,
    Fixed,
    FlowOptions,
    FrozenFlow,
    Outcome,
    block_flow,
    flow,
    needs_eigenvectors,
    reference_flow,
    timed_epochs,
)
from sklearn_gflow.geometry import SOLVERS, Huber, OutputMap, Poisson, RowCost, factorize
from tests import oracles
from tests.costs import COSTS, weights_of
from tests.dynamics.problems import Flow

pytestmark = pytest.mark.slow

ALPHAS = [0.0, 0.3, 1.0]
COUNTS = [10, 20]  # of equal steps, whose errors give an order
Q, SCALE = 2, 3.0
PROBLEM = Flow(4, (3, 10, Q), seed=2)
NONLINEAR = [name for name in COSTS if not name.startswith("squared error")]


def drawn(name, problem=PROBLEM):
    targets = COSTS[name].draw(len(problem.X), Q, seed=1)
    return COSTS[name].cost(targets, problem.weights)


def equal(n_steps, tau_end=1.0):
    return [tau_end * k / n_steps for k in range(1, n_steps + 1)]


@pytest.fixture(scope="module")
def exact():
    """(x, θ) at τ = 1 by a classical integrator, each made once."""
    made = {}

    def at_one(name, alpha):
        if (name, alpha) not in made:
            path = reference_flow(
                PROBLEM.map, drawn(name), PROBLEM.theta,
                FlowOptions(alpha=alpha, metric_scale=SCALE),
                t_end=-math.expm1(-1.0), times=[-math.expm1(-1.0)], rtol=1e-9, atol=1e-11,
            )  # fmt: skip
            assert path.outcome is Outcome.REACHED_END
            made[name, alpha] = path.outputs[-1], path.theta
        return made[name, alpha]

    return at_one


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", COSTS)
class TestFullBatch:
    def run(self, name, alpha, schedule):
        options = FlowOptions(alpha=alpha, metric_scale=SCALE)
        return flow(PROBLEM.map, drawn(name), PROBLEM.theta, schedule, options)

    def error(self, name, path, x):
        start = drawn(name).distance(path.outputs[0])
        return float((path.outputs[-1] - x).norm()) / start

    def test_order_in_equal_steps(self, exact, name, alpha):
        # The chord at α = 1 puts the outputs back on their way: second order in x, first in θ.
        x, theta = exact(name, alpha)
        counts, in_x, in_theta = [*COUNTS, 40] if alpha == 1 else COUNTS, [], []
        for count in counts:
            path = self.run(name, alpha, Fixed(equal(count)))
            in_x.append(self.error(name, path, x))
            in_theta.append(float((path.theta - theta).norm()))
        steps = [1 / count for count in counts]
        order = oracles.observed_order(steps, in_x)
        assert order == pytest.approx(2 if alpha == 1 else 1, abs=0.5 if alpha == 1 else 0.12)
        assert oracles.observed_order(steps, in_theta) == pytest.approx(1, abs=0.1)
        # Measured: up to 1.4e-3 and 1.4e-5.
        assert in_x[-1] < (3e-5 if alpha == 1 else 2e-3)

    def test_reported_errors_bound_the_error(self, exact, name, alpha):
        # Measured: from 0.04 (Poisson) to 2.4 (binary log-loss at α = 0) of their sum.
        x, _ = exact(name, alpha)
        path = self.run(name, alpha, Adaptive(1.0, 1e-3))
        assert self.error(name, path, x) < 3 * np.nansum(path.step_error)
        assert np.nanmax(path.step_error) <= 1e-3

    def test_comes_to_the_minimum(self, name, alpha):
        path = self.run(name, alpha, Adaptive(math.inf))
        cost = drawn(name)
        assert path.outcome is Outcome.CONVERGED
        best = cost.minimizer(path.outputs[0])
        if name == "cross-entropy" and alpha < 1:  # other ways change the mean logit
            assert cost.value(path.outputs[-1]) == pytest.approx(cost.value(best), rel=1e-12)
        else:
            tolerance = 1e-4 if name == "cross-entropy" else 1e-8
            torch.testing.assert_close(path.outputs[-1], best, rtol=0, atol=tolerance)


class Rows:
    """The rows of a problem as blocks, with any cost."""

    def __init__(self, problem, name):
        self.problem, self.name = problem, name
        self.targets = COSTS[name].draw(len(problem.X), Q, seed=1)

    @property
    def n_samples(self):
        return len(self.problem.X)

    @property
    def total_weight(self):
        return self.problem.map.total_weight

    def block(self, rows):
        p = self.problem
        weights = None if p.weights is None else p.weights[rows]
        output_map = OutputMap(p.network, p.X[rows], p.map.offset[rows], weights)
        return output_map, COSTS[self.name].cost(self.targets[rows], weights)


def in_blocks(problem, name, epochs, size, **options):
    return block_flow(
        Rows(problem, name), problem.theta, epochs,
        FlowOptions(metric_scale=SCALE, solver="eigh", **options),
        BlockOptions(size, shuffle=False), probe=(problem.map, drawn(name, problem)),
    )  # fmt: skip


@pytest.mark.parametrize("name", COSTS)
class TestBlocks:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("alpha", [0.0, 0.3])
    def test_one_block_is_the_full_batch(self, name, alpha, weighted):
        problem = Flow(4, (3, 10, Q), seed=2, weights=weights_of(4, weighted))
        taus = [0.1, 0.5, 1.0]
        options = FlowOptions(alpha=alpha, metric_scale=SCALE, solver="eigh")
        full = flow(problem.map, drawn(name, problem), problem.theta, Fixed(taus), options)
        block = in_blocks(problem, name, timed_epochs(taus), 4, alpha=alpha)
        torch.testing.assert_close(block.theta, full.theta, rtol=1e-10, atol=1e-12)
        assert block.loss == pytest.approx(full.loss, rel=1e-10)

    def test_at_alpha_one_without_the_chord(self, exact, name):
        _, theta = exact(name, 1.0)
        errors = []
        for count in COUNTS:
            path = in_blocks(PROBLEM, name, timed_epochs(equal(count)), 4, alpha=1.0)
            errors.append(float((path.theta - theta).norm()))
        assert oracles.observed_order([2, 1], errors) == pytest.approx(1, abs=0.15)

    def test_two_blocks_converge_to_gradient_flow_of_all_rows(self, exact, name):
        _, theta = exact(name, 0.0)
        errors = []
        for count in COUNTS:
            path = in_blocks(PROBLEM, name, [Epoch(1 / count, 1 / count)] * count, 2, alpha=0.0)
            errors.append(float((path.theta - theta).norm()))
        assert oracles.observed_order([2, 1], errors) == pytest.approx(1, abs=0.15)
        assert errors[-1] < 0.06 * float((theta - PROBLEM.theta).norm())


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", COSTS)
class TestRidge:
    """D frozen: the flow of C and of a pull κ₀μ|Δθ|²/2N, in parameters and without eigenvectors."""

    @pytest.fixture(autouse=True)
    def _frozen(self, name, alpha):
        self.cost, self.ridge = drawn(name), 0.5
        tangent = PROBLEM.map.linearize(PROBLEM.theta)
        self.x, self.D = tangent.outputs, PROBLEM.D.numpy()
        residual = self.cost.residual(self.x)
        factor = factorize(
            tangent, residual, ridge=self.ridge,
            eigenvectors=needs_eigenvectors(self.cost, alpha, damped=True),
        )  # fmt: skip
        self.frozen = FrozenFlow(factor, self.cost, self.x, residual, alpha, SCALE, self.ridge)
        # Substeps err by 1e-3 of the way for α < 1, by 1e-5 at α = 1, where they cost less.
        self.tolerance = 1e-4 if alpha == 1 else 5e-3

    def at(self, step):
        return self.x + torch.from_numpy(self.D @ step)

    def force(self, step):
        """−N∇ of C(x + DΔθ) + κ₀μ|Δθ|²/2N in Δθ."""
        return self.D.T @ self.cost.residual(self.at(step)).numpy() - (
            self.cost.unit * self.ridge * step
        )

    @pytest.mark.parametrize("h", [0.3, 2.0])
    def test_is_the_flow_of_the_cost_and_the_pull(self, alpha, h):
        K = self.D.shape[1]
        inverse = np.linalg.inv(self.D.T @ self.D + self.ridge * np.eye(K))
        metric = alpha * inverse + (1 - alpha) / SCALE * np.eye(K)
        path = scipy.integrate.solve_ivp(
            lambda _, step: metric @ self.force(step), (0, h), np.zeros(K),
            method="LSODA", rtol=1e-9, atol=1e-11,
        )  # fmt: skip
        expected = torch.from_numpy(path.y[:, -1])
        step, motion = self.frozen.move(h)
        assert float((step - expected).norm()) < self.tolerance * float(expected.norm())
        torch.testing.assert_close(motion, self.at(step.numpy()) - self.x, rtol=1e-8, atol=1e-10)

    def test_ends_at_the_minimum_of_both(self):
        def objective(step):
            pull = self.cost.unit * self.ridge * step @ step / 2
            return self.cost.total_weight * self.cost.value(self.at(step)) + pull

        best = scipy.optimize.minimize(
            objective, np.zeros(self.D.shape[1]), jac=lambda step: -self.force(step),
            method="BFGS", options={"gtol": 1e-8},
        ).x  # fmt: skip
        step, _ = self.frozen.move(math.inf)
        assert np.linalg.norm(step.numpy() - best) < self.tolerance * np.linalg.norm(best)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize(("alpha", "damping"), [(0.3, 0.1), (1.0, 0.0)])
def test_solvers_agree(name, alpha, damping):
    ends = {}
    for solver in (key for key, solver in SOLVERS.items() if solver.exact):
        options = FlowOptions(alpha=alpha, solver=solver, damping=damping, metric_scale=SCALE)
        path = flow(PROBLEM.map, drawn(name), PROBLEM.theta, Fixed([0.2]), options)
        ends[solver] = path.theta - PROBLEM.theta
    for end in ends.values():
        torch.testing.assert_close(end, ends["svd"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NONLINEAR)
def test_who_needs_eigenvectors(name):
    cost, linear = drawn(name), drawn("squared error")
    cases = [(0.0, False), (0.3, False), (0.3, True), (1.0, True), (1.0, False)]
    needs = [needs_eigenvectors(cost, alpha, damped=damped) for alpha, damped in cases]
    assert needs == [True, True, True, True, False]
    assert not any(needs_eigenvectors(linear, alpha, damped=damped) for alpha, damped in cases)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_many_short_steps_of_huber_do_not_stall(alpha):
    # Far from the labels the residual stands still while the loss falls.
    cost = RowCost(Huber(0.05), 3 * PROBLEM.y)
    path = flow(
        PROBLEM.map, cost, PROBLEM.theta, Fixed(equal(400)), FlowOptions(alpha=alpha, max_iter=500)
    )
    assert (path.outcome, path.n_steps) == (Outcome.REACHED_END, 400)
    assert path.loss == sorted(path.loss, reverse=True)


class TestNoWayToGo:
    def shifted(self, by):
        return OutputMap(PROBLEM.network, PROBLEM.X, PROBLEM.map.offset - by)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_a_start_at_the_minimum_has_converged(self, alpha):
        # Up to rounding, of which no step error is a multiple.
        counts = torch.full((4, Q), 3.0, dtype=torch.float64)
        path = flow(
            self.shifted(math.log(3)), RowCost(Poisson(), counts), PROBLEM.theta, Adaptive(1.0),
            FlowOptions(alpha=alpha),
        )  # fmt: skip
        assert (path.outcome, path.n_steps) == (Outcome.CONVERGED, 0)

    @pytest.mark.parametrize("start", [math.log(0.01), -6.0])
    def test_a_start_beyond_the_stand_in_goes_on(self, start):
        cost = RowCost(Poisson(), torch.zeros(4, Q, dtype=torch.float64))
        path = flow(self.shifted(start), cost, PROBLEM.theta, Adaptive(1.0), FlowOptions(alpha=1.0))
        assert path.outcome is Outcome.REACHED_END
        assert path.loss[-1] < path.loss[0]

    def test_a_curvature_without_bound_is_told_soon(self):
        # e^x overflows while the residual of the start, in another row, is finite.
        class Steep(Poisson):
            asked = 0

            def curvature(self, x, y):
                Steep.asked += 1
                return super().curvature(x, y) * math.inf

        cost = RowCost(Steep(), torch.ones(4, Q, dtype=torch.float64))
        path = flow(self.shifted(1.0), cost, PROBLEM.theta, Fixed([1.0]), FlowOptions(alpha=0.3))
        assert path.outcome is Outcome.DIVERGED
        assert Steep.asked < 100
