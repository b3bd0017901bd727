"""The back ends that climb the ladder on G or on DᵀD, and the SVD, on every rank."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    GramFunction,
    factorize,
    ladder,
)
from tests import oracles
from tests.geometry.problems import FULL_RANK, MATRICES, Dense, close, duplicate_rows, normal

SOLVERS = ["auto", "cholesky", "eigh", "svd"]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", MATRICES)
class TestEverySolverOnEveryRank:
    @pytest.fixture(autouse=True)
    def _cholesky_at_full_rank(self, name, solver, request):
        """Asked for by name, Cholesky takes a jitter below full rank, which has its own tests."""
        if solver == "cholesky" and name not in FULL_RANK:
            request.getfixturevalue("monkeypatch").setattr(ladder, "_JITTERS", ())

    def test_pseudoinverse(self, name, solver):
        D, _ = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver=solver)
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r, 1e-8))

    def test_pseudoinverse_alone(self, name, solver):
        solver = "auto" if solver == "cholesky" else solver
        D, _ = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=False)
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r, 1e-8))

    def test_projector(self, name, solver):
        D, _ = MATRICES[name]
        r = normal(len(D))
        for eigenvectors in (True, False):
            factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors)
            close(factor.project(r), oracles.project(D, r, 1e-8))

    def test_function_with_a_smooth_part(self, name, solver):
        D, _ = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver=solver)
        f = GramFunction(0.3, lambda lam: torch.exp(-2 * lam))
        expected = oracles.lift(D, lambda lam: 0.3 / lam + np.exp(-2 * lam), r, 1e-8)
        close(factor.lift(f, r), expected)

    def test_apply_is_the_function_in_output_space(self, name, solver):
        D, _ = MATRICES[name]
        r, columns = normal(len(D)), normal((len(D), 3), seed=4)
        factor = factorize(Dense(D), r, solver=solver)
        f = GramFunction(0.3, lambda lam: lam)
        U, sigma, _ = oracles.thin_svd(D, 1e-8)
        matrix = (U * (0.3 / sigma**2 + sigma**2)) @ U.T
        close(factor.apply(f, r), matrix @ r.numpy())
        close(factor.apply(f, columns), matrix @ columns.numpy())

    def test_rank_and_condition(self, name, solver):
        D, rank = MATRICES[name]
        factor = factorize(Dense(D), normal(len(D)), solver=solver, eigenvectors=True)
        assert factor.rank == rank
        sigma = oracles.thin_svd(D, 1e-8)[1]
        expected = (sigma[0] / sigma[-1]) ** 2 if rank else math.inf
        assert factor.condition == pytest.approx(expected, rel=1e-6)

    def test_ridge_shifts_the_eigenvalues_of_the_function(self, name, solver):
        D, _ = MATRICES[name]
        r = normal(len(D))
        expected = oracles.lift(D, lambda lam: 1 / (lam + 0.2), r, 1e-8)
        for eigenvectors in (True, False):
            factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors, ridge=0.2)
            close(factor.lift(PSEUDOINVERSE, r), expected)

    def test_ridge_leaves_projector_and_rank(self, name, solver):
        D, rank = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=True, ridge=0.2)
        close(factor.project(r), oracles.project(D, r, 1e-8))
        assert factor.rank == rank

    def test_float32(self, name, solver):
        D, rank = MATRICES[name]
        r = normal(len(D), dtype=torch.float32)
        factor = factorize(Dense(D.float()), r, solver=solver, rcond=5e-3)
        theta = factor.lift(PSEUDOINVERSE, r)
        assert theta.dtype == torch.float32
        close(theta, oracles.pinv_solve(D, r, 5e-3), 5e-2)
        close(factor.project(r), oracles.project(D, r, 5e-3), 1e-2)
        assert factor.rank == rank


class TestSides:
    """Which matrix is factorised, and by which rung."""

    def test_positive_definite_takes_cholesky(self):
        for name, expected in [("full_rank", "cholesky"), ("fewer_parameters", "cholesky of DᵀD")]:
            D, rank = MATRICES[name]
            factor = factorize(Dense(D), normal(len(D)), eigenvectors=False)
            assert (factor.solver, factor.rank) == (expected, rank)

    @pytest.mark.parametrize("name", ["duplicate_rows", "narrow_net", "zero"])
    def test_singular_takes_eigenvectors(self, name):
        D, rank = MATRICES[name]
        factor = factorize(Dense(D), normal(len(D)), eigenvectors=False)
        assert (factor.solver, factor.rank) == ("eigh", rank)

    def test_below_the_threshold_takes_eigenvectors_though_cholesky_succeeds(self):
        D = torch.diag(torch.tensor([1.0, 1.0, 1e-3], dtype=torch.float64))
        assert factorize(Dense(D), normal(3), eigenvectors=False).solver == "cholesky"
        factor = factorize(Dense(D), normal(3), eigenvectors=False, rcond=1e-2)
        assert (factor.solver, factor.rank) == ("eigh", 2)

    @pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh"])
    def test_eigenvectors_where_they_are_asked_for(self, solver):
        D, _ = MATRICES["full_rank"]
        factor = factorize(Dense(D), normal(8), solver=solver, eigenvectors=True)
        assert factor.solver == "eigh"
        D, _ = MATRICES["fewer_parameters"]
        factor = factorize(Dense(D), normal(20), solver=solver, eigenvectors=True)
        assert factor.solver == "eigh of DᵀD"

    def test_rank_of_a_damped_gram_stays_unknown(self):
        D = duplicate_rows()
        factor = factorize(Dense(D), normal(len(D)), ridge=0.2)
        assert (factor.solver, math.isnan(factor.rank)) == ("cholesky", True)

    def test_damped_cholesky_projects_as_ridge_regression_fits(self):
        D = duplicate_rows()
        r = normal(len(D))
        U, sigma, _ = oracles.thin_svd(D, 1e-8)
        hat = (U * (sigma**2 / (sigma**2 + 0.2))) @ U.T
        factor = factorize(Dense(D), r, ridge=0.2)
        assert factor.damped
        close(factor.project(r), hat @ r.numpy(), 1e-10)

    @pytest.mark.parametrize(
        "name", ["fewer_parameters", "fewer_parameters_and_rank", "one_parameter"]
    )
    def test_damping_leaves_projector_and_rank_on_the_side_of_parameters(self, name):
        D, rank = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, ridge=0.2)
        close(factor.project(r), oracles.project(D, r, 1e-8))
        assert factor.rank == rank

    def test_singular_and_consistent_takes_jitter_where_cholesky_is_asked_for(self):
        D = duplicate_rows()
        r = D @ normal(D.shape[1])
        factor = factorize(Dense(D), r, solver="cholesky", eigenvectors=False)
        assert factor.solver == "cholesky with jitter"
        assert math.isnan(factor.rank)
        assert math.isnan(factor.condition)
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r, 1e-8), 1e-7)
        close(factor.project(r), r)

    def test_jitter_is_taken_out_again(self):
        D = oracles.matrix(6, 20, 6, seed=1, condition=1e3)
        D = torch.cat([D, D[:3]])
        r = D @ normal(20)
        factor = factorize(Dense(D), r, solver="cholesky", eigenvectors=False)
        assert factor.solver == "cholesky with jitter"
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r, 1e-8), 1e-11)

    def test_singular_and_inconsistent_takes_eigenvectors_where_cholesky_is_asked_for(self):
        D = duplicate_rows()
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver="cholesky", eigenvectors=False)
        assert (factor.solver, factor.rank) == ("eigh", 6)

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("ridge", [0.0, 0.3])
    @pytest.mark.parametrize("name", MATRICES)
    def test_motion_is_that_of_the_lift(self, name, ridge, solver):
        D, _ = MATRICES[name]
        r = D @ normal(D.shape[1])  # in the range of D: what a jitter can be certified for
        factor = factorize(Dense(D), r, solver=solver, ridge=ridge)
        for f in (PSEUDOINVERSE, GramFunction(0.3, lambda lam: torch.exp(-2 * lam))):
            displacement, motion = factor.move(f, r)
            close(displacement, factor.lift(f, r))
            close(motion, D @ displacement)

    def test_terms_are_lifted_together(self):
        for name in FULL_RANK:
            D, _ = MATRICES[name]
            r, s = normal(len(D)), normal(len(D), seed=1)
            f = GramFunction(0.0, lambda lam: torch.exp(-2 * lam))
            for solver in ("auto", "svd"):
                factor = factorize(Dense(D), r, solver=solver)
                together = factor.lift_all((PSEUDOINVERSE, r), (f, s))
                close(together, factor.lift(PSEUDOINVERSE, r) + factor.lift(f, s))


@st.composite
def tangents(draw):
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rank = draw(st.integers(1, min(rows, columns)))
    return oracles.matrix(rows, columns, rank, seed=draw(st.integers(0, 999)), condition=30.0)


reproducibly = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("eigenvectors", [True, False])
@pytest.mark.parametrize("solver", ["auto", "eigh", "svd"])
class TestPenrose:
    """Identities of appendix A."""

    @pytest.mark.slow
    @reproducibly
    @given(D=tangents(), seed=st.integers(0, 999))
    def test_projector_is_idempotent_symmetric_and_fixes_the_range(
        self, solver, eigenvectors, D, seed
    ):
        r, u = normal(len(D), seed), normal(len(D), seed + 1)
        # A vector that is not in the range: the factor then serves all vectors.
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors)
        P = factor.project
        close(P(P(r)), P(r), 1e-10)
        assert float(u @ P(r)) == pytest.approx(float(P(u) @ r), abs=1e-9)
        for column in D.mT:
            close(P(column), column, 1e-9)

    @pytest.mark.slow
    @reproducibly
    @given(D=tangents(), seed=st.integers(0, 999))
    def test_jacobian_times_pseudoinverse_is_the_projector(self, solver, eigenvectors, D, seed):
        r = normal(len(D), seed)
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors)
        close(D @ factor.lift(PSEUDOINVERSE, r), factor.project(r), 1e-9)

    @pytest.mark.slow
    @reproducibly
    @given(D=tangents(), seed=st.integers(0, 999))
    def test_pseudoinverse_of_the_kernel_is_zero(self, solver, eigenvectors, D, seed):
        r = normal(len(D), seed)
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors)
        kernel = r - factor.project(r)
        assert float(factor.lift(PSEUDOINVERSE, kernel).norm()) <= 1e-8 * float(r.norm())


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@reproducibly
@given(D=tangents(), seed=st.integers(0, 999), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_lift_is_linear_in_the_function(solver, D, seed, a, b):
    r = normal(len(D), seed)
    factor = factorize(Dense(D), r, solver=solver)
    combined = factor.lift(GramFunction(a, lambda lam: b * torch.sin(lam)), r)
    separate = a * factor.lift(PSEUDOINVERSE, r) + b * factor.lift(GramFunction(0.0, torch.sin), r)
    close(combined, separate, 1e-9)
