"""The schedule that keeps a factor for many moves: to the same end, with fewer Grams."""

import copy
import math

import numpy as np
import pytest
import torch

from sklearn_gflow.dynamics import Adaptive, Callback, Fast, FlowOptions, Outcome, flow
from sklearn_gflow.dynamics.fast import _Secants
from sklearn_gflow.geometry import CrossEntropy
from tests.dynamics.problems import Flow

TO_THE_END = FlowOptions(alpha=1.0)
# (rows, layers, spread of the inputs, Grams of those of steps that keep to the path). The kernel of
# the last one is ill-conditioned.
PROBLEMS = {
    "one layer": (60, (6, 100, 1), 1.0, 0.75),
    "two layers": (60, (4, 30, 30, 1), 1.0, 0.65),
    "two outputs": (50, (6, 40, 40, 2), 1.0, 0.65),
    "smooth": (20, (3, 60, 60, 1), 0.3, 0.95),
}


def problem(name, seed=0):
    n, sizes, spread, _ = PROBLEMS[name]
    return Flow(n, sizes, seed=seed, spread=spread)


def followed(problem, schedule, options=TO_THE_END, callbacks=(), keeper=None):
    return flow(*problem.pieces, schedule, options, callbacks, keeper=keeper)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_it_comes_to_the_end_with_fewer_grams(name):
    for seed in range(3):
        slow, fast = (followed(problem(name, seed), one) for one in (Adaptive(math.inf), Fast()))
        assert fast.outcome is Outcome.CONVERGED
        assert fast.loss[-1] < 1e-20 * fast.loss[0]
        assert fast.n_steps <= PROBLEMS[name][-1] * slow.n_steps, (fast.n_steps, slow.n_steps)


def test_secants_solve_a_linear_problem_that_the_factor_does_not_know():
    """With D⁺ of 1 where D is 1 plus three outer products, Broyden ends after a few moves."""
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 20, 3, generator=generator, dtype=torch.float64) / 10
    D, r = torch.eye(20).double() + u @ v.mT, torch.randn(20, generator=generator).double()
    secants, direction, eta, start = _Secants(), r, 0.7, float(r.norm())
    for _ in range(4):
        moved, before = eta * direction, r
        r = r - D @ moved
        direction = secants.after(direction, eta, r)
        a, s = secants.updates[-1]
        # The inverse takes the motion that was seen to the move that made it.
        seen = before - r
        for a, s in secants.updates:
            seen = seen + a * (s @ seen)
        torch.testing.assert_close(seen, moved)
        eta = 1.0
    for _ in range(3):
        r = r - D @ direction
        direction = secants.after(direction, 1.0, r)
    assert float(r.norm()) < 1e-4 * start


@pytest.mark.parametrize("length", [0.97, 2.0, math.nan])
def test_a_move_that_left_all_of_its_way_is_no_secant(length):
    direction = torch.tensor([1.0, 2.0])
    secants = _Secants()
    lifted = length * direction
    torch.testing.assert_close(secants.after(direction, 0.5, lifted), lifted, equal_nan=True)
    assert not secants.updates


@pytest.mark.parametrize("name", ["one layer", "two layers", "two outputs"])
def test_the_loss_falls_and_the_clock_of_moves_is_that_of_the_line(name):
    path = followed(problem(name), Fast())
    loss, t = np.array(path.loss), np.array(path.t)
    assert (np.diff(loss) < 0).all()
    np.testing.assert_allclose(loss / loss[0], (1 - t) ** 2, rtol=1e-6, atol=1e-12)


def test_the_error_of_a_step_is_how_far_its_end_is_from_the_line():
    one = problem("two layers")
    path = followed(one, Fast(), FlowOptions(alpha=1.0, store_path=True))
    y = one.cost.targets
    for k in range(1, len(path.tau)):
        before, after = (one.moved(path.thetas[j]) for j in (k - 1, k))
        share = (y - after).norm() / (y - before).norm()
        missed = after - before - (1 - share) * (y - before)
        assert path.step_error[k] == pytest.approx(float(missed.norm() / y.norm()), abs=1e-9)


def test_a_point_at_which_d_lacks_rank_is_where_the_flow_rests():
    one = Flow(12, (3, 2), y=None)  # a linear network has fewer parameters than outputs
    slow, fast = (followed(one, schedule) for schedule in (Adaptive(math.inf), Fast()))
    assert fast.outcome is Outcome.EQUILIBRIUM
    assert fast.loss[-1] == pytest.approx(slow.loss[-1], rel=1e-10)


def test_with_a_ridge_it_comes_as_far_in_as_many_steps():
    options = FlowOptions(alpha=1.0, damping=0.1, max_iter=40)
    slow, fast = (
        followed(problem("two layers"), one, options) for one in (Adaptive(math.inf), Fast())
    )
    assert fast.loss[-1] < 2 * slow.loss[-1]


def test_where_no_move_is_good_steps_keep_to_their_way(monkeypatch):
    monkeypatch.setattr(Fast, "_moved", lambda self, stepper: None)
    slow, fast = (followed(problem("one layer"), one) for one in (Adaptive(math.inf), Fast()))
    assert fast.tau == slow.tau
    torch.testing.assert_close(fast.theta, slow.theta, rtol=0, atol=0)


class Short(Callback):
    """Takes no step over which θ goes far."""

    def accepts(self, before, after):
        return float((after.theta - before.theta).norm()) < 1.0


def test_a_callback_may_reject_where_moves_have_led():
    options = FlowOptions(alpha=1.0, store_path=True)
    path = followed(problem("one layer"), Fast(), options, [Short()])
    lengths = [
        float((b - a).norm()) for a, b in zip(path.thetas[:-1], path.thetas[1:], strict=True)
    ]
    assert max(lengths) < 1.0
    assert path.outcome is Outcome.CONVERGED


def test_a_schedule_serves_several_flows():
    schedule = Fast()
    first, second = (followed(problem("two layers"), schedule) for _ in range(2))
    torch.testing.assert_close(first.theta, second.theta, rtol=0, atol=0)


class Kept:
    """Keeps every state that a flow hands over."""

    def __init__(self, state=None):
        self.state, self.states = state, []

    def keep(self, state, *, ended=False):
        self.states.append(copy.deepcopy(state()))


def test_it_goes_on_from_a_state_as_if_it_had_never_stopped():
    kept = Kept()
    options = FlowOptions(alpha=1.0, store_path=True)
    whole = followed(problem("two layers"), Fast(), options, keeper=kept)
    for state in kept.states[:-1]:
        again = followed(problem("two layers"), Fast(), options, keeper=Kept(state))
        assert again.tau == whole.tau
        torch.testing.assert_close(again.theta, whole.theta, rtol=0, atol=0)


@pytest.mark.parametrize("cost", ["alpha", "log-loss"])
def test_another_flow_is_refused(cost):
    one = problem("two outputs")
    pieces, alpha = one.pieces, 0.5
    if cost == "log-loss":
        labels = torch.nn.functional.one_hot(torch.arange(50) % 2).double()
        pieces, alpha = (one.map, CrossEntropy(labels), one.theta), 1.0
    with pytest.raises(ValueError, match="Fast follows the flow of α = 1 of the squared error"):
        flow(*pieces, Fast(), FlowOptions(alpha=alpha))
