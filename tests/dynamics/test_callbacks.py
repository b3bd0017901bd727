"""What every flow owes its callbacks: order of calls, columns, vetoes, outcomes, and an end."""

import importlib
import math

import numpy as np
import pytest
import scipy.integrate
import torch

from sklearn_gflow.diagnostics import KernelDrift
from sklearn_gflow.dynamics import (
    Adaptive,
    BlockOptions,
    Callback,
    Callbacks,
    Epoch,
    Fixed,
    FlowOptions,
    LossReached,
    Outcome,
    block_flow,
    equal_steps,
    flow,
    reference_flow,
)
from sklearn_gflow.geometry import OutputMap, SquaredError
from sklearn_gflow.geometry.layered import LayeredLinearization
from tests.dynamics.problems import Flow

PROBLEM = Flow()
TAUS = [0.1, 0.2, 0.4]
OPTIONS = FlowOptions(alpha=0.3, store_path=True)


class Rows:
    """The rows of the problem as blocks."""

    n_samples, total_weight = len(PROBLEM.X), float(len(PROBLEM.X))

    def block(self, rows):
        output_map = OutputMap(PROBLEM.network, PROBLEM.X[rows], PROBLEM.map.offset[rows])
        return output_map, SquaredError(PROBLEM.y[rows].reshape(-1), float(len(PROBLEM.X[rows])))


def full(*callbacks, options=OPTIONS):
    return flow(*PROBLEM.pieces, Fixed(TAUS), options, callbacks)


def adaptive(*callbacks, options=OPTIONS):
    return flow(*PROBLEM.pieces, Adaptive(0.4, 1e-3, [0.1, 0.2]), options, callbacks)


def blocks(*callbacks, options=OPTIONS):
    epochs = [Epoch(h, h) for h in (0.1, 0.1, 0.2)]
    probe = (PROBLEM.map, PROBLEM.cost)
    return block_flow(
        Rows(), PROBLEM.theta, epochs, options, BlockOptions(3), probe=probe, callbacks=callbacks
    )


def reference(*callbacks, options=OPTIONS):
    times = (-np.expm1(-np.array(TAUS))).tolist()
    return reference_flow(
        *PROBLEM.pieces, options, t_end=times[-1], times=times, callbacks=callbacks
    )


FLOWS = {"fixed": full, "adaptive": adaptive, "blocks": blocks, "reference": reference}
STEPPING = ["fixed", "adaptive", "blocks"]  # by steps of their own


class Log(Callback):
    """Writes down each call, in a list that it may share with others."""

    def __init__(self, name="", calls=None):
        self.name, self.calls, self.events = name, [] if calls is None else calls, []

    def note(self, call, event):
        self.calls.append(self.name + call)
        self.events.append(event)
        return {f"tau{self.name}": event.point.tau, "calls": float(len(self.calls))}

    def start(self, event):
        return self.note("start", event)

    def step(self, event):
        return self.note("step", event)

    def end(self, trajectory):
        self.calls.append(self.name + "end")
        self.trajectory = trajectory


class Asking(Log):
    """Is asked before each step as well."""

    def accepts(self, before, after):
        self.calls.append(self.name + "accepts")
        return True


class Never(Log):
    """Rejects every step."""

    def accepts(self, before, after):
        self.calls.append("accepts")
        return False


class EndsAt(Log):
    """Has an outcome after so many points."""

    def __init__(self, n_points, **names):
        super().__init__(**names)
        self.n_points = n_points

    @property
    def outcome(self):
        return Outcome.EARLY_STOPPED if len(self.events) >= self.n_points else None


class TestOrder:
    @pytest.mark.parametrize("name", FLOWS)
    def test_start_steps_end(self, name):
        log = Log()
        path = FLOWS[name](log)
        assert log.calls == ["start", *["step"] * path.n_steps, "end"]
        assert path.n_steps >= 3
        assert log.trajectory is path

    @pytest.mark.parametrize("name", ["fixed", "blocks"])
    def test_each_step_is_accepted_before_it_is_shown(self, name):
        log = Asking()
        path = FLOWS[name](log)
        assert log.calls == ["start", *["accepts", "step"] * path.n_steps, "end"]

    @pytest.mark.parametrize("name", FLOWS)
    def test_events_follow_the_path(self, name):
        log = Log()
        path = FLOWS[name](log)
        assert [event.point.tau for event in log.events] == path.tau
        assert [event.point.loss for event in log.events] == path.loss
        assert log.events[0].before is None
        for former, event in zip(log.events, log.events[1:], strict=False):
            assert event.before.tau == former.point.tau
            assert torch.equal(event.before.theta, former.point.theta)
            assert (event.factor is None) is (name == "blocks")

    @pytest.mark.parametrize("name", FLOWS)
    def test_several_take_turns(self, name):
        calls = []
        path = FLOWS[name](Log("a", calls), Log("b", calls))
        points = ["astart", "bstart", *["astep", "bstep"] * path.n_steps]
        assert calls == [*points, "aend", "bend"]


class TestColumns:
    @pytest.mark.parametrize("name", FLOWS)
    def test_are_merged_with_one_value_a_point(self, name):
        path = FLOWS[name](Log("_a"), Log("_b"))
        history = path.history()
        assert {len(column) for column in history.values()} == {len(path.tau)}
        for column in ("tau_a", "tau_b"):
            np.testing.assert_array_equal(history[column], path.tau)

    def test_of_one_name_the_last_counts(self):
        first, second = Log(), Log()
        second.calls.append("earlier")
        path = Callbacks([first, second]).start(_event())
        assert path["calls"] == 2


def _event():
    log = Log()
    full(log)
    return log.events[0]


class TestVeto:
    @pytest.mark.parametrize("name", ["fixed", "adaptive"])
    def test_ends_a_flow_without_a_step(self, name):
        log = Never()
        path = FLOWS[name](log)
        assert (path.outcome, path.n_steps) == (Outcome.REJECTED, 0)
        assert not path.outcome.complete
        assert torch.equal(path.theta, PROBLEM.theta)
        assert (log.calls[0], log.calls[-1]) == ("start", "end")
        # Shorter steps are tried where lengths are chosen.
        assert (log.calls.count("accepts") > 5) is (name == "adaptive")

    def test_undoes_epochs(self):
        path = blocks(Never())
        assert (path.outcome, path.n_steps) == (Outcome.REJECTED, 0)
        assert "11 epochs raised the loss or were rejected" in path.detail
        assert torch.equal(path.theta, PROBLEM.theta)

    def test_of_long_epochs_shortens_them(self):
        class Careful(Callback):
            def accepts(self, before, after):
                return after.tau - before.tau < 0.06

        path = blocks(Careful())
        assert path.outcome is Outcome.REACHED_END
        assert max(np.diff(path.tau)) < 0.06
        assert path.extra["undone"][-1] == 2
        assert path.tau[-1] == pytest.approx(0.4)

    def test_of_long_steps_shortens_them(self):
        class Careful(Callback):
            def accepts(self, before, after):
                return after.tau - before.tau < 0.06

        path = flow(*PROBLEM.pieces, Adaptive(0.4, 1.0), OPTIONS, [Log(), Careful()])
        assert path.outcome is Outcome.REACHED_END
        assert max(np.diff(path.tau)) < 0.06

    def test_one_of_several_is_enough(self):
        assert full(Asking(), Never()).outcome is Outcome.REJECTED
        assert Callbacks([Log(), Asking()]).veto
        assert not Callbacks([Log(), LossReached(0.0)]).veto

    def test_classical_integrators_have_none(self):
        log = Never()
        with pytest.raises(ValueError, match=r"cannot reject the steps of method='DOP853'"):
            reference(log)
        assert log.calls == []


class TestOutcome:
    @pytest.mark.slow
    @pytest.mark.parametrize("n_points", [1, 2, 3, 4])
    @pytest.mark.parametrize("name", FLOWS)
    def test_ends_the_flow_at_its_point(self, name, n_points):
        log = EndsAt(n_points)
        path = FLOWS[name](log)
        assert path.outcome is Outcome.EARLY_STOPPED
        assert len(path.tau) == n_points
        assert log.calls[-1] == "end"

    def test_at_a_mark_inside_a_step(self):
        path = flow(*PROBLEM.pieces, Adaptive(2.0, 10.0, [0.1, 0.2]), OPTIONS, [EndsAt(2)])
        assert (path.tau, path.outcome) == ([0.0, 0.1], Outcome.EARLY_STOPPED)
        torch.testing.assert_close(path.end.outputs, path.outputs[-1])

    @pytest.mark.parametrize("name", FLOWS)
    def test_first_callback_decides(self, name):
        reached = LossReached(math.inf)
        assert FLOWS[name](EndsAt(1), reached).outcome is Outcome.EARLY_STOPPED
        assert FLOWS[name](reached, EndsAt(1)).outcome is Outcome.LOSS_REACHED

    @pytest.mark.parametrize("name", FLOWS)
    def test_first_best_point_is_the_solution(self, name):
        class Best(Log):
            def __init__(self, index):
                super().__init__()
                self.index = index

            @property
            def best(self):
                if len(self.events) <= self.index:
                    return None
                return self.index, self.events[self.index].point.theta

        path = FLOWS[name](Log(), Best(99), Best(2), Best(1))
        assert path.solution == 2
        assert torch.equal(path.theta, path.thetas[2])
        assert FLOWS[name](Best(99)).solution == path.n_steps

    @pytest.mark.parametrize(
        ("callback", "outcome"),
        [(Log, Outcome.STEP_UNDERFLOW), (lambda: EndsAt(2), Outcome.EARLY_STOPPED)],
    )
    def test_counts_before_what_scipy_meets_after_it(self, callback, outcome, monkeypatch):
        def gives_up(*args, **options):
            solution = scipy.integrate.solve_ivp(*args, **options)
            solution.success, solution.message = False, "no step"
            return solution

        module = importlib.import_module("sklearn_gflow.dynamics.reference")
        monkeypatch.setattr(module, "solve_ivp", gives_up)
        path = reference(callback())
        assert (path.outcome, path.detail) == (outcome, "no step")


class TestEnd:
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("where", ["start", "step"])
    @pytest.mark.parametrize("name", FLOWS)
    def test_is_called_once_whatever_flies(self, name, where, error):
        class Raises(Log):
            def note(self, call, event):
                super().note(call, event)
                if call == where:
                    raise error("enough")
                return {}

        raises, other = Raises(), Log()
        with pytest.raises(error, match="enough"):
            FLOWS[name](raises, other)
        assert raises.calls[-2:] == [where, "end"]
        for callback in (raises, other):
            assert callback.calls.count("end") == 1

    @pytest.mark.parametrize("name", STEPPING)
    def test_after_an_interrupt_between_calls(self, name, monkeypatch):
        def interrupted(*args, **options):
            raise KeyboardInterrupt

        module = f"sklearn_gflow.dynamics.{'block_step' if name == 'blocks' else 'flow'}"
        monkeypatch.setattr(importlib.import_module(module), "factorize", interrupted)
        log = Log()
        with pytest.raises(KeyboardInterrupt):
            FLOWS[name](log)
        assert log.calls == ["start", "end"]
        assert len(log.trajectory.tau) == 1

    @pytest.mark.parametrize("name", FLOWS)
    def test_of_one_that_raises_does_not_keep_the_others_from_theirs(self, name):
        class Clumsy(Callback):
            def end(self, trajectory):
                raise OSError("disk full")

        log = Log()
        with pytest.raises(OSError, match="disk full"):
            FLOWS[name](Clumsy(), log)
        assert log.calls[-1] == "end"


class TestGram:
    @pytest.fixture
    def made(self, monkeypatch):
        """How often a Gram was formed, and how often an output was pulled back."""
        counts = {"gram": 0, "pull": 0}

        def counting(name):
            original = getattr(LayeredLinearization, name)

            def counted(self, *args):
                counts[name] += 1
                return original(self, *args)

            monkeypatch.setattr(LayeredLinearization, name, counted)

        counting("gram")
        counting("pull")
        return counts

    def test_is_held_for_those_who_apply_it(self, made):
        options = FlowOptions(alpha=0.3, solver="eigh")
        plain = full(options=options)
        alone = dict(made)
        path = full(KernelDrift(), options=options)
        # One Gram a step, as without it; one more at the end, where nobody factorises.
        assert alone["gram"] == 3
        assert made["gram"] - alone["gram"] == 4
        assert made["pull"] == 2 * alone["pull"]
        assert torch.equal(path.theta, plain.theta)

    def test_is_not_formed_at_marks(self, made):
        marks, options = [0.05, 0.1, 0.2, 0.3], FlowOptions(alpha=0.3, solver="eigh")
        for times in ([], marks):
            made["gram"] = 0
            schedule = Adaptive(0.4, 1.0, times)
            path = flow(*PROBLEM.pieces, schedule, options, [KernelDrift()])
            assert made["gram"] == len(path.solvers) + 1 == 2

    def test_is_that_of_the_point(self):
        class Holds(Callback):
            uses_gram = True

            def __init__(self):
                self.products = []

            def start(self, event):
                self.products.append(event.point.tangent.gram_times(torch.eye(6).double()))
                return {}

            step = start

        holds = Holds()
        path = full(holds)
        for theta, G in zip(path.thetas, holds.products, strict=True):
            D = PROBLEM.network.linearize(theta, PROBLEM.X).jacobian()
            torch.testing.assert_close(G, D @ D.mT)

    def test_is_not_held_where_none_is_formed(self, made):
        full(KernelDrift(n_probes=2), options=FlowOptions(alpha=0.3, solver="svd"))
        assert made["gram"] == 0


class TestStateAlong:
    class Clock(Callback):
        """Integrates (1, 2τ), which is (τ, τ²)."""

        def __init__(self):
            self.states = []

        def initial(self, point):
            return torch.zeros(2, dtype=torch.float64)

        def rate(self, point, factor, state):
            return torch.tensor([1.0, 2 * point.tau], dtype=torch.float64)

        def start(self, event):
            self.states.append(event.state)
            return {}

        step = start

    @pytest.mark.slow
    @pytest.mark.parametrize("clock", ["tau", "t"])
    def test_is_integrated_with_the_parameters(self, clock):
        first, log, second = self.Clock(), Log(), self.Clock()
        path = reference_flow(
            *PROBLEM.pieces, OPTIONS, t_end=0.5, clock=clock, callbacks=[first, log, second],
            rtol=1e-9,
        )  # fmt: skip
        plain = reference_flow(*PROBLEM.pieces, OPTIONS, t_end=0.5, clock=clock, rtol=1e-9)
        torch.testing.assert_close(path.theta, plain.theta, rtol=1e-7, atol=1e-8)
        for callback in (first, second):
            states = torch.stack(callback.states)
            tau = torch.tensor(path.tau, dtype=torch.float64)
            torch.testing.assert_close(states, torch.stack([tau, tau**2], 1), rtol=1e-7, atol=1e-9)
        assert all(event.state is None for event in log.events)

    def test_needs_a_rate(self):
        class Half(Callback):
            def initial(self, point):
                return torch.zeros(1, dtype=torch.float64)

        with pytest.raises(TypeError, match="Half has an initial state and no rate"):
            reference(Half())

    def test_other_flows_carry_none(self):
        clock = self.Clock()
        flow(*PROBLEM.pieces, equal_steps(2, 0.5), OPTIONS, [clock])
        assert clock.states == [None] * 3
