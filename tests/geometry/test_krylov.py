"""f(G)·r without a matrix, against the singular values of D."""

import math
import weakref

import numpy as np
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
    krylov,
)
from sklearn_gflow.geometry.krylov import _drawn
from tests import oracles
from tests.geometry.problems import distance, exponential, normal

ACCURACY = 1e-6  # as the docstring of Krylov states it


def weights(n):
    return torch.linspace(0.3, 2.0, n, dtype=torch.float64)


CASES = {  # samples, sizes, weighted, duplicates
    "full_rank": (60, (3, 40, 1), False, 0),
    "three_outputs": (30, (3, 30, 3), False, 0),
    "weights": (30, (3, 30, 3), True, 0),
    "fewer_parameters": (90, (3, 4, 1), False, 0),
    "fewer_parameters_and_three_outputs": (60, (3, 4, 3), False, 0),
    "contradicting_rows": (40, (3, 30, 1), False, 8),
    "contradicting_rows_with_three_outputs": (30, (3, 30, 3), True, 6),
}


def case(name, dtype=torch.float64):
    """The tangent of a network, its D, and a residual that knows nothing of D."""
    n, sizes, weighted, duplicates = CASES[name]
    theta, X = oracles.problem(n, sizes)
    if duplicates:
        X[-duplicates:] = X[:duplicates]
    D, w = oracles.jacobian(theta, X, sizes, "tanh"), weights(n) if weighted else None
    if weighted:
        D = torch.repeat_interleave(w, sizes[-1]).sqrt()[:, None] * D
    output_map = OutputMap(
        LayeredNetwork(sizes), X.to(dtype), weights=None if w is None else w.to(dtype)
    )
    return output_map.linearize(theta.to(dtype)), D, normal(len(D), seed=5)


@pytest.fixture(params=[1024, 16], ids=["all_columns", "few_columns"])
def _columns(request, monkeypatch):
    monkeypatch.setattr(krylov, "_COLUMNS", request.param)


@pytest.mark.usefixtures("_columns")
@pytest.mark.parametrize("name", CASES)
class TestAgainstTheDecomposition:
    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.0, 0.001, 0.3, 1.0])
    def test_motion_of_every_alpha(self, name, alpha):
        tangent, D, r = case(name)
        f, function = exponential(alpha)
        motion = D @ factorize(tangent, r, solver="krylov").lift(f, r)
        expected = D.numpy() @ oracles.lift(D, function, r, 1e-7)
        assert distance(motion, expected) <= 2 * ACCURACY * float(r.norm())

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    @pytest.mark.parametrize("ridge", [0.1, 10.0])
    def test_ridge(self, name, alpha, ridge):
        tangent, D, r = case(name)
        f, function = exponential(alpha)
        factor = factorize(tangent, r, solver="krylov", ridge=ridge)
        expected = oracles.lift(D, lambda lam: function(lam + ridge), r, 1e-7)
        assert factor.damped
        error = distance(D @ factor.lift(f, r), D.numpy() @ expected)
        assert error <= 2 * ACCURACY * float(r.norm())

    @pytest.mark.slow
    def test_projector(self, name):
        tangent, D, r = case(name)
        factor = factorize(tangent, r, solver="krylov")
        expected = oracles.project(D, r, 1e-7)
        assert distance(factor.project(r), expected) <= ACCURACY * float(r.norm())
        pair = torch.stack([r, D @ normal(D.shape[1])], dim=1)
        projected = factor.project(pair)
        assert distance(projected[:, 0], expected) <= ACCURACY * float(r.norm())
        assert distance(projected[:, 1], pair[:, 1]) <= ACCURACY * float(pair[:, 1].norm())

    def test_damped_projector_is_the_fit_of_ridge_regression(self, name):
        tangent, D, r = case(name)
        U, sigma, _ = oracles.thin_svd(D, 1e-8)
        expected = (U * (sigma**2 / (sigma**2 + 0.2))) @ (U.T @ r.numpy())
        found = factorize(tangent, r, solver="krylov", ridge=0.2).project(r)
        assert distance(found, expected) <= 2 * ACCURACY * float(r.norm())

    @pytest.mark.slow
    def test_function_in_output_space(self, name):
        tangent, D, r = case(name)
        f = GramFunction(0.3, lambda lam: torch.exp(-lam))
        U, sigma, _ = oracles.thin_svd(D, 1e-7)
        pair = torch.stack([r, normal(len(r), seed=2)], dim=1)
        expected = (U * (0.3 / sigma**2 + np.exp(-(sigma**2)))) @ (U.T @ pair.numpy())
        found = factorize(tangent, r, solver="krylov").apply(f, pair)
        assert distance(found, expected) <= 1e-4 * np.linalg.norm(expected)

    def test_single_precision(self, name):
        tangent, D, r = case(name, torch.float32)
        factor = factorize(tangent, r.float(), solver="krylov", ridge=1.0)
        theta = factor.lift(PSEUDOINVERSE, r.float())
        expected = oracles.lift(D, lambda lam: 1 / (lam + 1.0), r, 1e-7)
        assert theta.dtype == torch.float32
        assert distance(D @ theta.double(), D.numpy() @ expected) <= 1e-4 * float(r.norm())

    @pytest.mark.slow
    def test_rest(self, name):
        tangent, D, r = case(name)
        factor = factorize(tangent, r, solver="krylov")
        outside = r - torch.from_numpy(oracles.project(D, r, 1e-7))
        inside = D @ normal(D.shape[1])
        assert factor.at_rest(outside, 1e-7 * float(r.norm()))
        assert not factor.at_rest(inside, 0.5 * float(inside.norm()))
        assert not factor.at_rest(inside, 1e-9)


class TestWhatIsKnown:
    def test_residual_is_in_the_name(self):
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov", ridge=0.1)
        factor.lift(PSEUDOINVERSE, r)
        stated = float(factor.solver.removeprefix("krylov (residual below ").removesuffix(")"))
        u = factor.krylov.apply(PSEUDOINVERSE, r)
        reached = float((r - tangent.push(tangent.pull(u)) - 0.1 * u).norm() / r.norm())
        assert reached <= stated <= ACCURACY

    def test_rank_and_condition_are_not(self):
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov")
        assert math.isnan(factor.rank)
        assert math.isnan(factor.condition)
        assert not factor.damped

    def test_limit_on_iterations_is_in_the_name(self, monkeypatch):
        monkeypatch.setattr(krylov, "_COLUMNS", 4)
        monkeypatch.setattr(krylov, "_MOST_ITERATIONS", 5)
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov")
        factor.lift(PSEUDOINVERSE, r)
        assert factor.solver.startswith("krylov (stopped at its limit, residual below 1e")

    def test_limit_on_the_space_is_in_the_name(self, monkeypatch):
        monkeypatch.setattr(krylov, "_LARGEST_SPACE", 12)
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov")
        factor.lift(GramFunction(0.0, lambda lam: torch.exp(-100 * lam)), r)
        assert factor.solver.startswith("krylov (stopped at its limit, residual below 1e")
        assert len(factor.krylov._space.V) == 12

    def test_shorter_steps_cost_no_product(self, monkeypatch):
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov")
        long, short = exponential(0.3, 2.0)[0], exponential(0.3, 1.9)[0]
        factor.lift(long, r)

        def product(self, v):
            raise AssertionError("a product")

        monkeypatch.setattr(type(tangent), "pull", product)
        monkeypatch.setattr(factor.tangent.inner.__class__, "push", product)
        factor.krylov.apply(short, r)

    def test_is_gone_with_its_step(self):
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov")
        factor.lift(exponential(0.3)[0], r)
        gone = weakref.ref(factor.krylov)
        del factor
        assert gone() is None  # without the garbage collector, which waits for many cycles

    def test_nothing_to_solve(self):
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, torch.zeros_like(r), solver="krylov")
        f = GramFunction(0.3, torch.exp)
        assert not factor.lift(f, torch.zeros_like(r)).any()
        assert factor.at_rest(torch.zeros_like(r), 0.0)

    def test_network_that_ignores_its_parameters(self):
        tangent, _, r = case("full_rank")
        dead = OutputMap(LayeredNetwork((3, 40, 1), "relu"), tangent.output_map.X * 0).linearize(
            torch.zeros(201, dtype=torch.float64) - 1
        )
        # Only the output bias is alive: G is a constant, of rank one.
        factor = factorize(dead, r, solver="krylov")
        assert distance(factor.project(r), np.full(60, float(r.mean()))) <= 1e-9

    def test_diagonal_that_is_not_finite(self):
        tangent, _, r = case("full_rank")
        with pytest.raises(FactorizationError, match="holds numbers that are not finite"):
            factorize(
                tangent.output_map.linearize(torch.full((201,), math.nan, dtype=torch.float64)),
                r,
                solver="krylov",
            )

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("ridge", [0.0, 0.1])
    def test_vector_that_is_not_finite_has_no_solution(self, ridge, value):
        tangent, _, r = case("full_rank")
        broken = r.clone()
        broken[4] = value
        factor = factorize(tangent, r, solver="krylov", ridge=ridge)
        for f in (PSEUDOINVERSE, exponential(0.0)[0], exponential(0.3)[0]):
            assert factor.lift(f, broken).isnan().all()
        assert factor.project(broken).isnan().all()
        assert not factor.at_rest(broken, 1.0)
        assert factor.solver == "krylov (numbers that are not finite)"
        # The next vector is none the worse for it.
        expected = factorize(tangent, r, solver="krylov", ridge=ridge).lift(PSEUDOINVERSE, r)
        torch.testing.assert_close(factor.lift(PSEUDOINVERSE, r), expected)
        assert factor.solver == "krylov (numbers that are not finite)"  # it has been met

    def test_product_that_is_not_finite_has_no_solution(self, monkeypatch):
        tangent, _, r = case("full_rank")
        factor = factorize(tangent, r, solver="krylov")
        monkeypatch.setattr(type(tangent), "push", lambda self, v: torch.full_like(r, math.nan))
        assert factor.krylov.apply(PSEUDOINVERSE, r).isnan().all()
        assert factor.krylov.apply(GramFunction(0.0, torch.exp), r).isnan().all()
        assert factor.solver == "krylov (numbers that are not finite)"

    def test_threshold_that_it_cannot_see(self):
        tangent, _, r = case("full_rank")
        with pytest.raises(ValueError, match=r"no singular values to cut at rcond=0\.1; set rcond"):
            factorize(tangent, r, solver="krylov", rcond=0.1)


@pytest.mark.parametrize("n_columns", [1024, 20])
def test_preconditioner(monkeypatch, n_columns):
    """Positive definite, the identity on the kernel of G, and worth its columns."""
    monkeypatch.setattr(krylov, "_COLUMNS", n_columns)
    tangent, D, r = case("contradicting_rows_with_three_outputs")
    B = krylov.PartialCholesky(tangent, tangent.gram_diagonal(), 0.0)
    matrix = torch.stack([B(e) for e in torch.eye(len(r), dtype=torch.float64)])
    torch.testing.assert_close(matrix, matrix.mT, rtol=0, atol=1e-10)
    assert float(torch.linalg.eigvalsh(matrix)[0]) > 0
    outside = r - torch.from_numpy(oracles.project(D, r, 1e-7))
    torch.testing.assert_close(B(outside), outside, rtol=0, atol=1e-9)
    spectrum = torch.linalg.eigvals(matrix @ D @ D.mT).real.sort().values[-72:]
    sigma = oracles.thin_svd(D, 1e-7)[1]
    assert len(sigma) == 72
    condition = float(spectrum[-1] / spectrum[0])
    assert condition <= (1.01 if n_columns == 1024 else (sigma[0] / sigma[-1]) ** 2 / 10)


def test_columns_are_drawn_in_proportion_to_their_weights():
    weights = torch.tensor([0.0, 0.2, 1.0, 0.0, 0.8, 3.0, 0.0], dtype=torch.float64)
    draws = [_drawn(weights, 2, (k + 0.5) / 1000) for k in range(1000)]
    counts = torch.bincount(torch.cat(draws), minlength=7) / 1000
    assert (counts - 2 * weights / 5).abs().max() < 2e-3


def test_columns_of_weighted_grams():
    for name in CASES:
        tangent, D, _ = case(name)
        Q = CASES[name][1][-1]
        G = (D @ D.mT).unflatten(1, (-1, Q))
        samples = torch.tensor([3, 0, 7])
        torch.testing.assert_close(tangent.columns(samples), G[:, samples].flatten(1))
        torch.testing.assert_close(tangent.gram_diagonal(), G.flatten(1).diagonal())


def test_module():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 9), torch.nn.SiLU(), torch.nn.Linear(9, 2))
    family = ModuleFamily(module.double(), 2)
    tangent = OutputMap(family, normal((15, 3))).linearize(family.initial())
    r = normal(30)
    D = tangent.jacobian()
    found = D @ factorize(tangent, r, solver="krylov").lift(PSEUDOINVERSE, r)
    assert distance(found, oracles.project(D, r, 1e-7)) <= ACCURACY * float(r.norm())


def test_memory_is_linear_and_bounded(monkeypatch):
    """No tensor beyond activations has more rows × columns than the bound says."""
    largest = []
    for name in ("new_empty", "new_zeros"):
        make = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, size, *rest, make=make, **options: (
                largest.append(math.prod(np.atleast_1d(size))) or make(self, size, *rest, **options)
            ),
        )
    monkeypatch.setattr(krylov, "_COLUMNS", 32)
    theta, X = oracles.problem(3000, (3, 40, 1))
    tangent = OutputMap(LayeredNetwork((3, 40, 1)), X).linearize(theta)
    r = normal(3000)
    factorize(tangent, r, solver="krylov", ridge=1.0).lift(exponential(0.3)[0], r)
    assert max(largest) * 8 <= 8 * krylov.numbers_held(3000) < 8 * 3000**2 / 6
