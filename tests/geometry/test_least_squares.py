"""D⁺r by least squares that a factor of the smaller side of D carries, against the SVD of D."""

import math

import pytest
import torch

from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    FactorizationError,
    GramFunction,
    LayeredNetwork,
    ModuleFamily,
    OutputMap,
    factorize,
    least_squares,
)
from sklearn_gflow.geometry.least_squares import SmallerSide, numbers_of_side
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.solvers import krylov
from sklearn_gflow.geometry.solvers.krylov import KRYLOV
from tests import oracles
from tests.geometry.problems import distance, exponential, normal
from tests.geometry.test_krylov import ACCURACY, CASES, case

ROOMY = KRYLOV.within(10**9)


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Problems of a test are small."""
    monkeypatch.setattr(krylov, "_FEW_OUTPUTS", 0)


def factor_of(tangent, r, **options):
    return factorize(tangent, r, solver=ROOMY, **options)


@pytest.mark.parametrize("name", CASES)
class TestAgainstTheDecomposition:
    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.0, 0.001, 0.3, 1.0])
    def test_motion_of_every_alpha(self, name, alpha):
        tangent, D, r = case(name)
        f, function = exponential(alpha)
        motion = D @ factor_of(tangent, r).lift(f, r)
        expected = D.numpy() @ oracles.lift(D, function, r, 1e-7)
        assert distance(motion, expected) <= 2 * ACCURACY * float(r.norm())

    def test_least_squares_of_least_norm(self, name):
        tangent, D, r = case(name)
        factor = factor_of(tangent, r)
        theta = factor.lift(PSEUDOINVERSE, r)
        expected = oracles.lift(D, lambda lam: 1 / lam, r, 1e-7)
        assert distance(D @ theta, D.numpy() @ expected) <= ACCURACY * float(r.norm())
        assert distance(factor.project(r), oracles.project(D, r, 1e-7)) <= ACCURACY * float(
            r.norm()
        )
        # Nothing of it lies in the kernel of D, which would make it longer.
        assert float(theta.norm()) <= (1 + 1e-3) * float(torch.tensor(expected).norm())

    def test_function_in_output_space(self, name):
        tangent, D, r = case(name)
        f = GramFunction(0.3, lambda lam: torch.exp(-lam))
        U, sigma, _ = oracles.thin_svd(D, 1e-7)
        pair = torch.stack([r, normal(len(r), seed=2)], dim=1)
        expected = (U * (0.3 / sigma**2 + math.e ** -(sigma**2))) @ (U.T @ pair.numpy())
        found = factor_of(tangent, r).apply(f, pair)
        assert distance(found, expected) <= 1e-4 * float(torch.tensor(expected).norm())

    def test_single_precision(self, name):
        tangent, D, r = case(name, torch.float32)
        theta = factor_of(tangent, r.float()).lift(PSEUDOINVERSE, r.float())
        assert theta.dtype == torch.float32
        U, sigma, _ = oracles.thin_svd(D, 1e-7)
        # What lies far below the rounding of G may stay.
        large = U[:, sigma > 3e-3 * sigma.max()]
        missed = large.T @ (r - D @ theta.double()).numpy()
        assert abs(missed).max() <= 1e-3 * float(r.norm())

    def test_normal_matrix_is_summed_over_panels(self, name):
        tangent, D, _ = case(name)
        torch.testing.assert_close(tangent.normal_matrix(), D.mT @ D)
        torch.testing.assert_close(TangentMap.normal_matrix(tangent), D.mT @ D)


@pytest.mark.slow
def test_a_few_iterations_do_where_columns_need_hundreds(monkeypatch):
    theta, X = oracles.problem(600, (5, 30, 12, 1))
    theta *= 0.6  # a smooth network: λ_max/λ_min is 7e14
    tangent = OutputMap(LayeredNetwork((5, 30, 12, 1)), X).linearize(theta)
    assert tangent.n_params < 600
    passes, pull = [], type(tangent).pull
    monkeypatch.setattr(type(tangent), "pull", lambda self, u: passes.append(1) or pull(self, u))
    r = normal(600)
    factor = factor_of(tangent, r)
    theta = factor.lift(PSEUDOINVERSE, r)
    assert len(passes) <= 20
    assert factor.solver.startswith("krylov (residual below 1e-")
    expected = oracles.project(tangent.jacobian(), r, 1e-8)
    assert distance(tangent.push(theta), expected) <= ACCURACY * float(r.norm())


def test_shortest_where_parameters_do_the_same():
    sizes = (3, 6, 1)
    theta, X = oracles.problem(60, sizes)
    network = LayeredNetwork(sizes)
    W, b = next(network.layers(theta))
    W[:, 1], b[1] = W[:, 0], b[0]  # two neurons alike: their columns of D are so too
    tangent, r = OutputMap(network, X).linearize(theta), normal(60)
    expected = oracles.lift(tangent.jacobian(), lambda lam: 1 / lam, r, 1e-7)
    found = factor_of(tangent, r).lift(PSEUDOINVERSE, r)
    assert distance(found, expected) <= 1e-4 * float(torch.tensor(expected).norm())


def test_first_vector_is_solved_for_once(monkeypatch):
    tangent, _, r = case("full_rank")
    factor = factor_of(tangent, r)
    before = factor.lift(PSEUDOINVERSE, r)
    monkeypatch.setattr(SmallerSide, "inverse", None)
    torch.testing.assert_close(factor.lift(PSEUDOINVERSE, r), before)


def test_what_was_solved_loosely_is_solved_again():
    tangent, D, r = case("full_rank")
    factor = factor_of(tangent, r)
    factor.lift(GramFunction(1e-12), r)
    assert distance(D @ factor.lift(PSEUDOINVERSE, r), r.numpy()) <= ACCURACY * float(r.norm())


def test_at_rest():
    tangent, D, r = case("contradicting_rows")
    factor = factor_of(tangent, r)
    outside = r - torch.from_numpy(oracles.project(D, r, 1e-7))
    assert factor.at_rest(outside, 1e-6 * float(r.norm()))
    assert not factor.at_rest(D @ normal(D.shape[1]), 1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_vector_that_is_not_finite_has_no_solution(value):
    tangent, _, r = case("full_rank")
    broken = r.clone()
    broken[4] = value
    factor = factor_of(tangent, r)
    for f in (PSEUDOINVERSE, exponential(0.3)[0]):
        assert factor.lift(f, broken).isnan().all()
    assert factor.project(broken).isnan().all()
    assert factor.solver == "krylov (numbers that are not finite)"
    expected = factor_of(tangent, r).lift(PSEUDOINVERSE, r)
    torch.testing.assert_close(factor.lift(PSEUDOINVERSE, r), expected)


class TestWhereItIsUsed:
    def test_memory_decides(self):
        tangent, _, r = case("full_rank")
        needed = 8 * numbers_of_side(60, tangent.n_params)
        for spare, side in [(needed, True), (needed - 1, False)]:
            factor = factorize(tangent, r, solver=KRYLOV.within(spare))
            assert hasattr(factor, "side") == side

    def test_a_ridge_needs_none(self):
        tangent, _, r = case("full_rank")
        assert not hasattr(factor_of(tangent, r, ridge=0.1), "side")

    def test_few_outputs_have_all_their_columns(self, monkeypatch):
        monkeypatch.setattr(krylov, "_FEW_OUTPUTS", 60)
        tangent, _, r = case("full_rank")
        assert not hasattr(factor_of(tangent, r), "side")

    def test_what_cannot_be_factorised_is_iterated_on(self, monkeypatch):
        monkeypatch.setattr(least_squares, "triangles", lambda *args, **options: None)
        tangent, D, r = case("full_rank")
        factor = factor_of(tangent, r)
        motion = D @ factor.lift(PSEUDOINVERSE, r)
        assert distance(motion, r.numpy()) <= ACCURACY * float(r.norm())
        assert factor.solver.startswith("cholesky → krylov (residual")

    def test_numbers_that_are_not_finite(self):
        tangent, _, r = case("full_rank")
        nan = tangent.output_map.linearize(torch.full((201,), math.nan, dtype=torch.float64))
        with pytest.raises(FactorizationError, match="holds numbers that are not finite"):
            factor_of(nan, r)


def test_module():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
    family = ModuleFamily(module.double(), 2)
    tangent = OutputMap(family, normal((25, 3))).linearize(family.initial())
    r, D = normal(50), tangent.jacobian()
    assert family.n_params < 50
    found = D @ factor_of(tangent, r).lift(PSEUDOINVERSE, r)
    assert distance(found, oracles.project(D, r, 1e-7)) <= ACCURACY * float(r.norm())
