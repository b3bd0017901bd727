"""The schedule that keeps a factor for many moves, in float32 where D⁺ and outputs allow it."""

import sys

import pytest
import torch
from sklearn.datasets import load_diabetes

from sklearn_gflow.dynamics import Adaptive, Fast, FlowOptions, Outcome, flow
from sklearn_gflow.dynamics.fast import _following
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    LayeredNetwork,
    OutputMap,
    factorize,
    factorize_in_single,
    in_single,
)
from tests.dynamics.problems import Flow

LOOP = sys.modules["sklearn_gflow.dynamics.flow"]
TO_THE_END = FlowOptions(alpha=1.0)
PROBLEMS = {"resolved": (60, (6, 100, 1), 1.0), "not resolved": (20, (3, 60, 60, 1), 0.3)}


def problem(name, seed=0, **options):
    n, sizes, spread = PROBLEMS[name]
    return Flow(n, sizes, seed=seed, spread=spread, **options)


def test_a_factor_in_single_precision_is_that_of_double_to_rounding():
    one = problem("resolved")
    tangent, r = one.map.linearize(one.theta), one.cost.targets
    exact, rough = factorize(tangent, r), factorize_in_single(in_single(one.map), one.theta)
    assert rough.rank == exact.rank == len(r)
    assert rough.condition == pytest.approx(exact.condition, rel=1e-2)
    for size in (1.0, 1e-60, 1e60, 0.0):
        found, expected = (factor.lift(PSEUDOINVERSE, size * r) for factor in (rough, exact))
        assert found.dtype == torch.float64
        bound = torch.finfo(torch.float32).eps * exact.condition
        assert float((found - expected).norm()) <= bound * float(expected.norm())
    torch.testing.assert_close(rough.push(one.theta), tangent.push(one.theta), rtol=1e-4, atol=1e-4)
    u, solved = (factor.apply(PSEUDOINVERSE, r) for factor in (rough, exact))
    assert float((u - solved).norm()) <= bound * float(solved.norm())


def test_where_single_precision_does_not_resolve_all_modes_there_is_no_factor():
    one = problem("not resolved")
    assert factorize_in_single(in_single(one.map), one.theta) is None


def test_a_map_in_single_precision_is_made_of_one_in_double_whose_family_allows_it():
    weights = torch.arange(60).double() + 1
    one = problem("resolved", weights=weights)
    rough = in_single(one.map)
    for part in (rough.X, rough.offset, rough.weights, rough.outputs(one.theta.float())):
        assert part.dtype == torch.float32
    assert in_single(rough) is None
    assert in_single(OutputMap(one.network, one.X, None, 1e-50 * weights)) is None

    class Doubles(LayeredNetwork):
        any_precision = False

    assert in_single(OutputMap(Doubles(one.sizes), one.X)) is None


@pytest.mark.parametrize("seed", range(3))
def test_moves_in_single_precision_end_as_exactly_as_others(seed):
    path = flow(*problem("resolved", seed).pieces, Fast(), TO_THE_END)
    assert path.outcome is Outcome.CONVERGED
    assert path.loss[-1] < 1e-20 * path.loss[0]
    assert all("float32" in solver for solver in path.solvers)
    assert path.rank[0] == 60


def test_double_precision_takes_over_and_is_left_once_the_condition_allows(monkeypatch):
    conditions, tried = [], []

    def attempt(output_map, theta):
        tried.append(len(conditions))
        return factorize_in_single(output_map, theta)

    def exactly(*args, **options):
        factor = factorize(*args, **options)
        conditions.append(factor.condition)
        return factor

    monkeypatch.setattr(LOOP, "factorize_in_single", attempt)
    monkeypatch.setattr(LOOP, "factorize", exactly)
    path = flow(*problem("not resolved").pieces, Fast(), TO_THE_END)
    assert path.outcome is Outcome.CONVERGED
    assert tried[0] == 0
    # Behind a factor in float64 float32 is tried again where the condition of that one allows it.
    assert all(conditions[number - 1] < 5e6 for number in tried[1:] if number)
    assert 1 not in tried


@pytest.mark.parametrize(
    "options",
    [{"solver": "cholesky"}, {"solver": "eigh"}, {"damping": 0.01, "max_iter": 3}, {"rcond": 1e-6}],
)
def test_what_a_caller_asks_for_is_in_double_precision(options):
    path = flow(*problem("resolved").pieces, Fast(), FlowOptions(alpha=1.0, **options))
    assert path.solvers
    assert not any("float32" in solver for solver in path.solvers)


def test_a_flow_that_keeps_to_its_path_is_in_double_precision():
    path = flow(*problem("resolved").pieces, Adaptive(1.0), TO_THE_END)
    assert not any("float32" in solver for solver in path.solvers)


def test_large_outputs_beside_small_targets_are_not_rounded():
    """Outputs in float32 would miss targets that are smaller than their rounding."""
    one = problem(
        "resolved", y=1e-4 * torch.randn(60, 1, generator=torch.Generator().manual_seed(0)).double()
    )
    path = flow(*one.pieces, Fast(), TO_THE_END)
    assert path.outcome is Outcome.CONVERGED
    assert path.loss[-1] < 1e-16 * path.loss[0]


def test_diabetes_takes_five_grams(monkeypatch):
    X, y = (torch.from_numpy((a - a.mean(0)) / a.std(0)) for a in load_diabetes(return_X_y=True))
    moves, outputs = [], LOOP.Stepper.outputs
    monkeypatch.setattr(LOOP.Stepper, "outputs", lambda *args: moves.append(args) or outputs(*args))
    one = Flow(sizes=(10, 64, 64, 1), X=X, y=y[:, None])
    path = flow(*one.pieces, Fast(), FlowOptions(alpha=1.0, tol=1e-5))
    assert path.outcome is Outcome.CONVERGED
    assert path.n_steps <= 6
    assert len(moves) <= 30


def test_a_move_that_misses_nothing_is_followed_by_a_longer_one():
    assert _following(0.3, 0.0) == pytest.approx(0.6)
    assert _following(1.0, 0.0) == 1.0
