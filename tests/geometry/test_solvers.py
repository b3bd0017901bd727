"""The contract of a back end, for every entry of the registry; and the door that chooses.

A new back end is held to all of this by its line in `SOLVERS`. Values are those of the singular
values of D, by the oracle. Back ends without a matrix are iterations, with an accuracy in output
space. One that is no exact f(G) is held to the values where there is one output.
"""

import math

import numpy as np
import pytest
import torch

from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    SOLVERS,
    LayeredNetwork,
    OutputMap,
    Request,
    Shape,
    Solver,
    TangentFactor,
    factorize,
    solver_for,
)
from tests import oracles
from tests.geometry.problems import Dense, distance, duplicate_rows, exponential, normal

pytestmark = pytest.mark.slow

RTOL = 1e-7  # singular values of D up to this share of the largest are zero


def network(n, sizes, *, weighted):
    """The tangent of a network, and its D by the oracle."""
    theta, X = oracles.problem(n, sizes)
    D = oracles.jacobian(theta, X, sizes, "tanh")
    w = torch.linspace(0.3, 2.0, n, dtype=torch.float64) if weighted else None
    if weighted:
        D = torch.repeat_interleave(w, sizes[-1]).sqrt()[:, None] * D
    return OutputMap(LayeredNetwork(sizes), X, weights=w).linearize(theta), D


def dense(D, n_outputs=1):
    return Dense(D, n_outputs), D


CASES = {
    "wide": lambda: dense(oracles.matrix(8, 20, 8, seed=2)),
    "square": lambda: dense(oracles.matrix(9, 9, 9, seed=3)),
    "tall": lambda: dense(oracles.matrix(20, 8, 8, seed=5)),
    "rank_deficient": lambda: dense(duplicate_rows()),
    "tall_and_rank_deficient": lambda: dense(oracles.matrix(20, 8, 5, seed=6)),
    "one_row": lambda: dense(oracles.matrix(1, 5, 1, seed=7)),
    "zero": lambda: dense(torch.zeros(4, 6, dtype=torch.float64)),
    "several_outputs": lambda: dense(oracles.matrix(12, 20, 12, seed=9), 3),
    "tall_with_several_outputs": lambda: dense(oracles.matrix(24, 10, 10, seed=9), 2),
    "weighted": lambda: network(8, (3, 20, 1), weighted=True),
    "weighted_with_several_outputs": lambda: network(8, (3, 20, 2), weighted=True),
}
FUNCTIONS = {
    "pseudoinverse": (PSEUDOINVERSE, lambda lam: 1 / lam),
    **{f"exponential_{alpha}": exponential(alpha) for alpha in (0.0, 0.3, 1.0)},
}


class Problem:
    """A back end on a tangent, its request, and the oracle's answers."""

    def __init__(self, name, case, ridge, eigenvectors):
        self.tangent, self.D = CASES[case]()
        self.r, self.s = normal(len(self.D)), normal(len(self.D), seed=1)
        self.solver = solver_for(name, self.tangent.n_outputs)
        self.shape = Shape.of(self.tangent)
        self.factor = factorize(
            self.tangent, self.r, solver=name, ridge=ridge, eigenvectors=eigenvectors
        )
        self.ridge, self.eigenvectors = ridge, eigenvectors
        self.U, self.sigma, self.V = oracles.thin_svd(self.D, RTOL)

    @property
    def rank(self):
        return len(self.sigma)

    def lifted(self, function, r):
        """Dᵀ f(G + ridge) r."""
        return oracles.lift(self.D, lambda lam: function(lam + self.ridge), r, RTOL)

    def agree(self, found, expected, r):
        """In output space: iterations to 2e-6 of the vector, decompositions to rounding."""
        accuracy = 2e-6 if self.solver.matrix_free else 1e-9
        return distance(found, expected) <= accuracy * float(r.norm())


@pytest.fixture(params=SOLVERS)
def name(request):
    return request.param


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def problems(*, exact):
    """Every back end on every case, with a ridge and without one where it can do without.

    One of the two is with eigenvectors, by turns.
    """
    for name in SOLVERS:
        for place, (case, make) in enumerate(CASES.items()):
            tangent, _ = make()
            solver, shape = solver_for(name, tangent.n_outputs), Shape.of(tangent)
            for ridge in [0.2] if solver.needs_ridge(shape) else [0.0, 0.2]:
                eigenvectors = (place + (ridge > 0)) % 2 == 1
                if solver.exact or not exact:
                    yield name, case, ridge, eigenvectors


@pytest.fixture(params=problems(exact=False), ids=str)
def problem(request):
    return Problem(*request.param)


@pytest.fixture(params=problems(exact=True), ids=str)
def exact(request):
    return Problem(*request.param)


class TestValues:
    """Of back ends that are exact."""

    def test_lift_of_the_probe_and_of_another_vector(self, exact):
        for f, function in FUNCTIONS.values():
            for r in (exact.r, exact.s):
                found, expected = exact.factor.lift(f, r), exact.lifted(function, r)
                assert found.shape == expected.shape
                assert exact.agree(exact.D @ found, exact.D.numpy() @ expected, r)

    def test_lift_is_in_the_row_space(self, exact):
        """Dᵀ is applied exactly: what D cannot see of a displacement is nothing at all."""
        for f, _ in FUNCTIONS.values():
            found = exact.factor.lift(f, exact.r).numpy()
            inside = exact.V.T @ (exact.V @ found)
            assert distance(found, inside) <= 1e-9 * max(1.0, np.linalg.norm(found))

    def test_lift_all_is_the_sum(self, exact):
        both = torch.stack([exact.r, exact.s])
        for f, function in FUNCTIONS.values():
            found = exact.factor.lift_all((f, exact.r), (PSEUDOINVERSE, exact.s))
            expected = exact.lifted(function, exact.r)
            expected = expected + exact.lifted(lambda lam: 1 / lam, exact.s)
            assert exact.agree(exact.D @ found, exact.D.numpy() @ expected, both)

    def test_apply_on_the_range_of_a_vector_and_of_columns(self, exact):
        both = torch.stack([exact.r, exact.s], dim=1)
        G = (exact.D @ exact.D.mT).numpy()
        for f, function in FUNCTIONS.values():
            values = exact.sigma**2 * function(exact.sigma**2 + exact.ridge)
            expected = (exact.U * values) @ (exact.U.T @ both.numpy())
            assert exact.agree(G @ exact.factor.apply(f, both).numpy(), expected, both)
            vector = exact.factor.apply(f, exact.r).numpy()
            assert exact.agree(G @ vector, expected[:, 0], exact.r)
            if not exact.ridge:
                outside = vector - exact.U @ (exact.U.T @ vector)
                assert np.linalg.norm(outside) <= 1e-4 * max(1.0, np.linalg.norm(vector))

    def test_projector(self, exact):
        """DD⁺, or with a ridge either that or what ridge regression fits."""
        both = torch.stack([exact.r, exact.s], dim=1)
        found = exact.factor.project(both)
        coordinates = exact.U.T @ both.numpy()
        candidates = [exact.U @ coordinates]
        if exact.ridge:
            share = exact.sigma**2 / (exact.sigma**2 + exact.ridge)
            candidates.append((exact.U * share) @ coordinates)
        assert any(exact.agree(found, expected, both) for expected in candidates)
        assert exact.agree(exact.factor.project(exact.r), found[:, 0], exact.r)


class TestMotion:
    """What approximations are held to as well."""

    def test_push_is_the_product(self, problem):
        displacement = problem.factor.lift(PSEUDOINVERSE, problem.r)
        motion = problem.factor.push(displacement)
        assert distance(motion, problem.D @ displacement) <= 1e-9 * float(problem.r.norm())

    def test_move_is_the_lift_and_where_it_leads(self, problem):
        for f, _ in FUNCTIONS.values():
            displacement, motion = problem.factor.move(f, problem.r)
            torch.testing.assert_close(displacement, problem.factor.lift(f, problem.r))
            assert distance(motion, problem.D @ displacement) <= 1e-9 * float(problem.r.norm())

    def test_moves_along_the_residual(self, problem):
        for f, _ in FUNCTIONS.values():
            assert float(problem.factor.move(f, problem.r)[1] @ problem.r) >= 0

    def test_rest(self, problem):
        length = float(problem.factor.project(problem.r).norm())
        assert problem.factor.at_rest(problem.r, 1.1 * length + 1e-9)
        if problem.rank:
            assert not problem.factor.at_rest(problem.r, 0.9 * length)


class TestFacts:
    def test_rank(self, problem):
        if not problem.solver.sees_rank:
            assert math.isnan(problem.factor.rank)
        elif problem.eigenvectors:
            assert problem.factor.rank == problem.rank
        else:
            assert problem.factor.rank == problem.rank or math.isnan(problem.factor.rank)

    def test_damped_tells_of_a_ridge(self, problem):
        if problem.solver.exact:
            assert problem.factor.damped == (problem.ridge > 0)
        assert isinstance(problem.factor.damped, bool)

    def test_condition(self, problem):
        if problem.solver.sees_rank and problem.eigenvectors and problem.rank:
            expected = (problem.sigma[0] / problem.sigma[-1]) ** 2
            assert problem.factor.condition == pytest.approx(expected, rel=1e-6)

    def test_what_was_used_has_a_name(self, problem):
        problem.factor.lift(PSEUDOINVERSE, problem.r)
        assert isinstance(problem.factor.solver, str)
        assert problem.factor.solver

    def test_forms_what_it_says(self, name, case, monkeypatch):
        tangent, _ = CASES[case]()
        solver, shape = solver_for(name, tangent.n_outputs), Shape.of(tangent)
        formed = set()
        for word in ("gram", "jacobian", "shared_gram"):
            watch(monkeypatch, type(tangent), word, formed)
        solver.factorize(tangent, normal(shape.size), Request(ridge=0.2))
        said = solver.forms(shape)
        expected = {"G": "gram", "DᵀD": "jacobian", "D": "jacobian", "K̄": "shared_gram"}
        assert formed == ({expected[said]} if said else set())
        assert solver.matrix_free == (said == "")

    def test_memory_holds_what_is_formed(self, name, case):
        tangent, _ = CASES[case]()
        solver, shape = solver_for(name, tangent.n_outputs), Shape.of(tangent)
        N, QN, K = shape.n_samples, shape.size, shape.n_params
        entries = {"G": QN**2, "DᵀD": QN * K + K**2, "D": QN * K, "K̄": N**2, "": 0}
        assert solver.working_bytes(shape, 8) >= 8 * entries[solver.forms(shape)]
        assert solver.working_bytes(shape, 8) == 2 * solver.working_bytes(shape, 4)
        assert (solver.entries(shape) == 0) == solver.matrix_free

    def test_one_output_needs_no_ridge(self, name):
        solver = solver_for(name, 1)
        assert solver.exact
        assert not solver.needs_ridge(Shape(10, 1, 20))

    @pytest.mark.parametrize("shape", [(3, 20), (20, 3)])
    @pytest.mark.parametrize("ridge", [0.0, 0.2])
    def test_rcond_cuts_or_is_refused(self, name, shape, ridge):
        U, _, V = oracles.thin_svd(normal(shape))
        D = torch.from_numpy(U * [1, 0.1, 0.01] @ V)
        r = normal(len(D))
        if not solver_for(name, 1).takes_rcond:
            with pytest.raises(ValueError, match=r"no singular values to cut at rcond=0\.05"):
                factorize(Dense(D), r, solver=name, rcond=0.05, ridge=ridge)
            return
        factor = factorize(Dense(D), r, solver=name, rcond=0.05, ridge=ridge)
        expected = oracles.lift(D, lambda lam: 1 / (lam + ridge), r, 0.05)
        assert factor.rank == 2
        assert distance(factor.lift(PSEUDOINVERSE, r), expected) <= 1e-9 * float(r.norm()) * 10


def watch(monkeypatch, tangent, word, formed):
    """Note the calls of a method, or the reads of a property, of a class of tangents."""
    member = getattr(tangent, word)
    if callable(member):
        monkeypatch.setattr(tangent, word, lambda self: formed.add(word) or member(self))
    else:
        read = member.fget if isinstance(member, property) else member.func
        monkeypatch.setattr(tangent, word, property(lambda self: formed.add(word) or read(self)))


@pytest.mark.parametrize(
    ("name", "shape", "forms", "entries", "numbers"),
    [
        ("auto", Shape(50, 2, 1000), "G", 100**2, 3 * 100**2),
        ("cholesky", Shape(50, 2, 100), "G", 100**2, 3 * 100**2),
        ("eigh", Shape(1000, 1, 10), "DᵀD", 1000 * 10, 1000 * 10 + 3 * 10**2),
        ("svd", Shape(50, 2, 1000), "D", 100**2, 3 * 100 * 1000),
        ("shared", Shape(1000, 3, 10), "K̄", 1000 * 10, 3 * 1000**2),
        ("krylov", Shape(10**6, 1, 1000), "", 0, 1424 * 10**6 + 4 * 1024**2),
    ],
)
def test_facts_of_the_back_ends_here(name, shape, forms, entries, numbers):
    solver = SOLVERS[name]
    assert (solver.forms(shape), solver.entries(shape)) == (forms, entries)
    assert [solver.working_bytes(shape, size) for size in (4, 8)] == [4 * numbers, 8 * numbers]
    assert solver.needs_ridge(shape) == (name == "shared")


class TestDoor:
    def test_names(self):
        # Names that users have in their scripts, in the order in which messages list them.
        published = ["auto", "cholesky", "eigh", "svd", "shared", "krylov"]
        assert [name for name in SOLVERS if name in published] == published
        assert all(solver.name == name for name, solver in SOLVERS.items())

    def test_a_name_stands_for_its_entry(self, name):
        assert solver_for(name, 2) is SOLVERS[name]
        assert solver_for(SOLVERS[name], 2) is SOLVERS[name]

    @pytest.mark.parametrize("given", ["shared", SOLVERS["shared"]])
    def test_one_output_has_nothing_to_share(self, given):
        for in_blocks in (False, True):
            assert solver_for(given, 1, in_blocks=in_blocks) is SOLVERS["auto"]

    def test_automatic_in_blocks(self):
        found = [solver_for("auto", Q, in_blocks=True).name for Q in (1, 2, 3, 10)]
        assert found == ["auto", "auto", "shared", "shared"]
        assert solver_for("eigh", 10, in_blocks=True) is SOLVERS["eigh"]

    def test_a_name_that_no_back_end_has(self):
        with pytest.raises(ValueError, match="solver='lu' is none of 'auto', 'cholesky', 'eigh'"):
            factorize(Dense(normal((3, 5))), normal(3), solver="lu")


class Inverse(Solver):
    """A back end of one's own: the inverse of a dense G, for 1/λ alone."""

    name = "inverse"
    sees_rank = takes_rcond = False

    def forms(self, shape):
        return "G"

    def working_bytes(self, shape, itemsize):
        return 2 * itemsize * shape.size**2

    def factorize(self, tangent, probe, request):
        return InverseFactor(tangent, request.ridge)


class InverseFactor(TangentFactor):
    rank = condition = math.nan
    solver = "inverse"

    def __init__(self, tangent, ridge):
        self.tangent, self.damped = tangent, ridge > 0
        identity = torch.eye(len(tangent.outputs), dtype=tangent.outputs.dtype)
        self.inverse = torch.linalg.inv(tangent.gram() + ridge * identity)

    def lift(self, f, r):
        return self.tangent.pull(self.apply(f, r))

    def push(self, v):
        return self.tangent.push(v)

    def apply(self, f, r):
        return f.inverse * self.inverse @ r

    def project(self, r):
        return self.tangent.gram() @ self.inverse @ r


class TestOwnSolver:
    def test_goes_where_a_name_does(self):
        D = oracles.matrix(8, 20, 8, seed=2)
        r = normal(8)
        factor = factorize(Dense(D), r, solver=Inverse(), ridge=0.2)
        expected = oracles.lift(D, lambda lam: 1 / (lam + 0.2), r)
        for found in (factor.lift(PSEUDOINVERSE, r), factor.move(PSEUDOINVERSE, r)[0]):
            np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert solver_for(own := Inverse(), 1, in_blocks=True) is own
        assert own.entries(Shape(8, 1, 20)) == 64

    def test_what_it_cannot_do_is_refused_for_it(self):
        with pytest.raises(ValueError, match="solver='inverse' sees no singular values to cut"):
            factorize(Dense(normal((3, 5))), normal(3), solver=Inverse(), rcond=0.1)
