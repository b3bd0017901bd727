import itertools
import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from sklearn_gflow.dynamics import (
    Adaptive,
    Fixed,
    FlowOptions,
    Outcome,
    Point,
    Step,
    equal_steps,
    flow,
)
from tests.dynamics.problems import Flow


@dataclass
class Scripted:
    """A stepper whose error and loss are given functions of h."""

    error: object = lambda h: 0.0
    loss: object = lambda h: 0.0
    order: int = 2
    closed_form: bool = True
    residual: float = 2.0
    distance: float = 2.0
    tau: float = 0.0
    tried: list = field(default_factory=list)

    @property
    def point(self):
        problem = Flow()
        return replace(
            Point.at(problem.map, problem.cost, 0.0, problem.theta),
            tau=self.tau,
            loss=1.0,
            residual=torch.tensor([self.residual]).double(),
        )

    def vetoed(self, step):
        return False

    def rise(self, error):
        return error

    def step(self, h):
        self.tried.append(h)
        empty = torch.empty(0)
        return Step(h, empty, empty, self.loss(h), self.error(h))


def progress(h):
    return -math.expm1(-h)


class TestAdaptive:
    @pytest.mark.parametrize("tau_end", [0.4, math.inf])
    def test_without_error_one_step_reaches_the_end(self, tau_end):
        stepper = Scripted()
        assert Adaptive(tau_end).take(stepper).h == tau_end
        assert stepper.tried == [tau_end]

    @pytest.mark.parametrize("closed_form", [True, False])
    def test_infinity_is_not_tried_at_every_step_where_it_is_dear(self, closed_form):
        """Short steps err so little that the next length would always be infinite."""
        schedule = Adaptive(math.inf)
        stepper = Scripted(lambda h: 10.0 if h > 2 else 1e-5, closed_form=closed_form)
        for tau in (1e-3, 1.0, 1.2, 1.4, 1.6):
            schedule.take(replace(stepper, tau=tau))
        assert sum(map(math.isinf, stepper.tried)) == (5 if closed_form else 2)

    def test_never_beyond_the_end(self):
        assert Adaptive(3.0).take(Scripted(tau=2.25)).h == 0.75

    @pytest.mark.parametrize("order", [2, 3])
    def test_rejected_until_within_tolerance(self, order):
        def error(h):
            return progress(h) ** order

        stepper = Scripted(error, order=order)
        step = Adaptive(math.inf, tolerance=0.04).take(stepper)
        assert 0.04 * 0.9**order * 0.99 < step.error <= 0.04  # as long as the tolerance allows
        assert len(stepper.tried) == 2
        assert error(stepper.tried[0]) > 0.04

    def test_next_step_has_the_length_that_the_last_error_allows(self):
        schedule = Adaptive(math.inf, tolerance=0.01)
        first = schedule.take(Scripted(lambda h: progress(h) ** 2))
        later = Scripted(lambda h: progress(h) ** 2, tau=first.h)
        schedule.take(later)
        ratio = math.sqrt(0.01 / first.error)
        assert progress(later.tried[0]) == pytest.approx(0.9 * ratio * progress(first.h))

    def test_lengths_are_displacements(self):
        schedule = Adaptive(math.inf, tolerance=0.01)
        first = schedule.take(Scripted(lambda h: progress(h) ** 2))
        halved = Scripted(lambda h: progress(h) ** 2, residual=1.0, tau=first.h)
        schedule.take(halved)
        ratio = math.sqrt(0.01 / first.error)
        assert progress(halved.tried[0]) == pytest.approx(2 * 0.9 * ratio * progress(first.h))

    def test_step_that_raises_the_loss_is_not_accepted(self):
        stepper = Scripted(loss=lambda h: 1 + h - 0.5 * (h < 0.01))
        step = Adaptive(math.inf).take(stepper)
        assert step.loss <= 1
        assert step.h < 0.01
        assert len(stepper.tried) > 1

    def test_step_that_keeps_the_loss_is_accepted(self):
        assert Adaptive(0.5).take(Scripted(loss=lambda h: 1.0)).h == 0.5

    def test_loss_that_rises_at_every_length_is_a_stall(self):
        assert Adaptive(math.inf).take(Scripted(loss=lambda h: 1.5)) is Outcome.STALLED

    def test_error_at_every_length_is_an_underflow(self):
        assert Adaptive(math.inf).take(Scripted(lambda h: 0.06)) is Outcome.STEP_UNDERFLOW

    @pytest.mark.parametrize("what", ["error", "loss"])
    def test_nothing_finite_at_any_length_is_divergence(self, what):
        for value in (math.nan, math.inf):
            stepper = Scripted(**{what: lambda h, value=value: value})
            assert Adaptive(1.0).take(stepper) is Outcome.DIVERGED

    def test_non_finite_steps_are_cut_until_finite(self):
        stepper = Scripted(lambda h: math.nan if h > 1e-3 else 0.0)
        assert Adaptive(math.inf).take(stepper).h <= 1e-3

    def test_cuts_are_bounded(self):
        stepper = Scripted(lambda h: 1e9)
        Adaptive(math.inf).take(stepper)
        ratios = [progress(b) / progress(a) for a, b in itertools.pairwise(stepper.tried)]
        assert all(0.0999 < ratio < 0.8001 for ratio in ratios)

    @pytest.mark.parametrize("tau_end", [0.1 * k for k in range(1, 40)])
    @pytest.mark.parametrize("tau", [0.0, 0.03, 0.07])
    def test_longest_step_ends_the_flow_in_spite_of_rounding(self, tau_end, tau):
        schedule = Adaptive(tau_end)
        assert not schedule.ended(tau)
        assert schedule.ended(tau + schedule.take(Scripted(tau=tau)).h)

    def test_at_infinity_the_flow_goes_on(self):
        assert not Adaptive(math.inf).ended(math.inf)
        assert Adaptive(math.inf).take(Scripted(tau=math.inf)).h == math.inf


class TestFixed:
    def test_ends_at_the_last_time(self):
        for taus in ([0.1, 0.3], [0.3, math.inf]):
            schedule = Fixed(taus)
            assert not schedule.ended(taus[0])
            assert schedule.ended(taus[1])
        assert Fixed([0.1, 0.3]).ended(0.1 + (0.3 - 0.1))  # an ulp beside 0.3

    def test_steps_to_the_times_in_turn(self):
        schedule = Fixed([0.5, 0.75, math.inf])
        assert schedule.ended(math.inf)
        assert schedule.take(Scripted()).h == 0.5
        assert schedule.take(Scripted(tau=0.5)).h == 0.25
        assert schedule.take(Scripted(tau=0.75)).h == math.inf

    def test_whatever_the_error(self):
        assert Fixed([0.5]).take(Scripted(lambda h: 7.0)).h == 0.5

    def test_halved_while_the_loss_rises_by_more_than_the_tolerance(self):
        schedule = Fixed([math.log(2), 5.0], tolerance=0.05)
        stepper = Scripted(loss=lambda h: 1 + 4 * progress(h) ** 2)  # `rise` of 0.05·2 is 0.1
        step = schedule.take(stepper)
        assert [progress(h) for h in stepper.tried] == pytest.approx([0.5, 0.25, 0.125])
        assert (step.h, step.loss, schedule.cuts) == (stepper.tried[-1], 1.0625, 1)
        rest = Scripted(tau=step.h)
        assert step.h + schedule.take(rest).h == pytest.approx(math.log(2))
        assert schedule.cuts == 1

    def test_halves_of_a_step_to_infinity_are_finite(self):
        stepper = Scripted(loss=lambda h: 9.0 if h > 0.2 else 0.5)
        assert progress(Fixed([math.inf]).take(stepper).h) == pytest.approx(0.125)

    def test_loss_that_rises_at_every_length_is_an_underflow(self):
        assert Fixed([0.5]).take(Scripted(loss=lambda h: 9.0)) is Outcome.STEP_UNDERFLOW

    @pytest.mark.parametrize("what", ["error", "loss"])
    def test_non_finite_step_is_divergence(self, what):
        stepper = Scripted(**{what: lambda h: math.nan})
        assert Fixed([0.5]).take(stepper) is Outcome.DIVERGED

    def test_times_are_values_of_t(self):
        schedule = Fixed.at_times([0.5, 0.75, 1.0])
        assert schedule.taus == pytest.approx([math.log(2), math.log(4), math.inf])

    def test_equal_steps_are_equal_in_t(self):
        schedule = equal_steps(4, 0.8)
        assert [progress(tau) for tau in schedule.taus] == pytest.approx([0.2, 0.4, 0.6, 0.8])


class TestEnd:
    @pytest.mark.slow
    @pytest.mark.parametrize(("count", "t_end"), [(206, 0.8), (123, 0.95)])
    def test_rounding_adds_no_step(self, count, t_end):
        path = flow(*Flow(3, (2, 1)).pieces, equal_steps(count, t_end))
        assert (path.outcome, path.n_steps) == (Outcome.REACHED_END, count)

    def test_one_rounding_error_before_the_end_is_the_end(self):
        end = 0.916290731874155
        before = math.nextafter(end, 0)
        assert Adaptive(end).ended(before)
        assert Fixed([end]).ended(before)
        assert not Adaptive(end).ended(end * (1 - 1e-9))

    def test_times_up_to_one_end_there_and_adaptive_steps_go_on(self):
        path = flow(*Flow(8, (2, 40, 1)).pieces, equal_steps(2, 1.0))
        assert (path.outcome, path.n_steps) == (Outcome.REACHED_END, 2)
        assert not Adaptive(math.inf).ended(math.inf)


def test_a_schedule_serves_several_flows():
    schedule, problem = Adaptive(1.0, 1e-3), Flow()
    first, second = (flow(*problem.pieces, schedule, FlowOptions(alpha=0.3)).tau for _ in range(2))
    assert first == second
    assert len(first) > 5
