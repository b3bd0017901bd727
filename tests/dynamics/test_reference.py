import math

import numpy as np
import pytest
import torch

from sklearn_gflow.dynamics import (
    METHODS,
    FlowOptions,
    Outcome,
    follow_path,
    linear_path,
    reference_flow,
)
from sklearn_gflow.dynamics.reference import _QuietRadau
from tests import oracles
from tests.dynamics.problems import Flow


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_against_an_independent_integration(alpha, method):
    problem = Flow(4, (3, 5, 1), seed=2)
    expected = oracles.reference_flow(
        problem.theta, problem.X, problem.sizes, "tanh", problem.y, alpha=alpha, c=3.0, tau_end=0.5
    )
    options = FlowOptions(alpha=alpha, metric_scale=3.0)
    t_end = -math.expm1(-0.5)
    path = reference_flow(*problem.pieces, options, method=method, t_end=t_end, rtol=1e-6)
    assert path.outcome is Outcome.REACHED_END
    assert path.solver == method
    assert path.t[-1] == pytest.approx(t_end)
    assert float((path.theta - expected).norm()) < 1e-4 * float((expected - problem.theta).norm())


def test_times_are_reported():
    path = reference_flow(*Flow(4, (3, 5, 1)).pieces, t_end=0.5, times=[0.1, 0.25, 0.5])
    np.testing.assert_allclose(path.t, [0, 0.1, 0.25, 0.5], atol=1e-12)
    np.testing.assert_allclose(np.array(path.loss) / path.loss[0], (1 - path.t) ** 2, rtol=1e-3)


def test_both_clocks_agree():
    problem = Flow(4, (3, 5, 1))
    one, other = (reference_flow(*problem.pieces, t_end=0.5, clock=c) for c in ("tau", "t"))
    torch.testing.assert_close(one.theta, other.theta, rtol=1e-4, atol=1e-4)


def test_unknown_method():
    with pytest.raises(ValueError, match=r"method must be one of .*RK45.*, got 'Euler'"):
        reference_flow(*Flow().pieces, method="Euler")


def test_unknown_clock():
    with pytest.raises(ValueError, match="clock must be 'tau' or 't', got 's'"):
        reference_flow(*Flow().pieces, clock="s")


class TestPath:
    problem = Flow()
    x0 = torch.zeros(6, dtype=torch.float64)

    @pytest.mark.parametrize("times", [[0.0], [], [0.0, 0.5, 0.5], [0.5, 0.0]])
    def test_times_that_do_not_increase(self, times):
        path = linear_path(self.x0, self.x0 + 1)
        with pytest.raises(ValueError, match="times must increase and hold the start and"):
            follow_path(self.problem.map, self.problem.theta, path, times)

    def test_start_elsewhere(self):
        path = linear_path(self.x0 + 0.5, self.x0 + 1)
        with pytest.raises(ValueError, match=r"path must start at the outputs x.*; it starts 1 of"):
            follow_path(self.problem.map, self.problem.theta, path, [0.0, 1.0])

    def test_ends_at_the_end_of_the_line(self):
        y = self.problem.y.reshape(-1)
        end = follow_path(
            self.problem.map, self.problem.theta, linear_path(self.x0, y), [0.0, 0.5, 1.0]
        )
        torch.testing.assert_close(self.problem.moved(end.theta), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_flow_too_fast_for_its_time_ends_at_once(method):
    options = FlowOptions(alpha=0.5, metric_scale=1e-300)
    path = reference_flow(*Flow().pieces, options, method=method)
    assert (path.outcome, path.n_steps) == (Outcome.STEP_UNDERFLOW, 0)


@pytest.mark.parametrize("method", ["Radau", "LSODA"])
def test_an_implicit_method_that_meets_no_number_has_diverged(method, monkeypatch):
    monkeypatch.setattr(
        "sklearn_gflow.dynamics.reference.parameter_field",
        lambda tangent, *args, **more: tangent.pull(tangent.outputs) * math.nan,
    )
    assert reference_flow(*Flow().pieces, method=method).outcome is Outcome.DIVERGED


@pytest.mark.slow
def test_a_flow_that_gets_nowhere_is_broken_off(monkeypatch):
    """Steps that are rejected are no steps to ``max_iter``; the field is asked so often at most."""
    asked = []

    def without_end(rate, span, initial, **options):
        while True:
            asked.append(rate(0.0, initial))

    monkeypatch.setattr("sklearn_gflow.dynamics.reference.solve_ivp", without_end)
    problem = Flow(4, (3, 5, 1), seed=2)
    path = reference_flow(*problem.pieces, FlowOptions(max_iter=3), t_end=0.5)
    assert path.outcome is Outcome.STEP_UNDERFLOW
    assert len(asked) == 300


def test_a_singular_matrix_of_radau_is_no_warning():
    """It tries a shorter step: LAPACK says the same of a matrix that is singular."""
    solver = _QuietRadau(lambda t, y: -y, 0.0, np.ones(2), 1.0)
    lu, _ = solver.lu(np.zeros((2, 2)))
    assert not lu.any()
