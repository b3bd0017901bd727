import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    FactorizationError,
    GramFunction,
    LayeredNetwork,
    OutputMap,
    factorize,
    gram_spectrum,
    spectrum,
    symmetric,
    tangent_spectrum,
    working_bytes,
)
from tests import oracles

EPS = torch.finfo(torch.float64).eps


class Dense:
    """A tangent with a given D."""

    def __init__(self, D):
        self.D = D
        self.outputs = D.new_zeros(D.shape[0])
        self.n_params = D.shape[1]

    def push(self, v):
        return self.D @ v

    def pull(self, u):
        return self.D.mT @ u

    def gram(self):
        return self.D @ self.D.mT

    def jacobian(self):
        return self.D


def duplicate_rows():
    D = oracles.matrix(6, 20, 6, seed=1)
    return torch.cat([D, D[1:4], D[:1]])


MATRICES = {  # D, rank
    "full_rank": (oracles.matrix(8, 20, 8, seed=2), 8),
    "square": (oracles.matrix(9, 9, 9, seed=3), 9),
    "duplicate_rows": (duplicate_rows(), 6),
    "narrow_net": (oracles.matrix(10, 15, 4, seed=4), 4),
    "fewer_parameters": (oracles.matrix(20, 8, 8, seed=5), 8),
    "fewer_parameters_and_rank": (oracles.matrix(20, 8, 5, seed=6), 5),
    "one_row": (oracles.matrix(1, 5, 1, seed=7), 1),
    "one_parameter": (oracles.matrix(5, 1, 1, seed=8), 1),
    "zero": (torch.zeros(4, 6, dtype=torch.float64), 0),
    "zero_with_fewer_parameters": (torch.zeros(6, 4, dtype=torch.float64), 0),
}
SOLVERS = ["auto", "cholesky", "eigh", "svd"]
FULL_RANK = ["full_rank", "square", "fewer_parameters"]


def normal(size, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=dtype)


def close(actual, expected, tol=1e-9):
    expected = torch.as_tensor(expected)
    assert actual.shape == expected.shape
    bound = tol * max(float(expected.abs().max()), 1e-3)
    assert float((actual.double() - expected).abs().max()) <= bound


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", MATRICES)
class TestEverySolverOnEveryRank:
    @pytest.fixture(autouse=True)
    def _cholesky_at_full_rank(self, name, solver, request):
        """Asked for by name, Cholesky takes a jitter below full rank, which has its own tests."""
        if solver == "cholesky" and name not in FULL_RANK:
            request.getfixturevalue("monkeypatch").setattr(symmetric, "_JITTERS", ())

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


class TestThreshold:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("size", [1, 100, 10_000])
    def test_follows_dtype_and_size(self, dtype, size):
        noise = size * torch.finfo(dtype).eps
        for rcond in (None, 0.0):
            of_gram = spectrum.relative_threshold(rcond, dtype, size, squared=True)
            assert of_gram == pytest.approx(math.sqrt(noise))
            of_jacobian = spectrum.relative_threshold(rcond, dtype, size, squared=False)
            assert of_jacobian == pytest.approx(noise)

    def test_rcond_counts_where_it_can_be_resolved(self):
        for squared in (True, False):
            assert spectrum.relative_threshold(0.3, torch.float64, 10, squared=squared) == 0.3
        assert spectrum.relative_threshold(1e-12, torch.float64, 10, squared=False) == 1e-12
        assert spectrum.relative_threshold(1e-12, torch.float64, 10, squared=True) > 1e-8

    @pytest.mark.parametrize(
        ("dtype", "sigma"),
        [(torch.float64, [1, 1e-5, 1e-10]), (torch.float32, [1, 2e-2, 1e-4])],
    )
    @pytest.mark.parametrize("shape", [(3, 20), (20, 3)])
    def test_svd_resolves_what_the_gram_does_not(self, dtype, sigma, shape):
        U, _, V = oracles.thin_svd(normal(shape))
        D = torch.from_numpy(U * sigma @ V).to(dtype)
        r = normal(len(D), dtype=dtype)
        assert factorize(Dense(D), r, solver="svd").rank == 3
        for eigenvectors in (True, False):
            assert factorize(Dense(D), r, eigenvectors=eigenvectors).rank == 2

    @pytest.mark.parametrize("solver", ["auto", "eigh", "svd"])
    @pytest.mark.parametrize("eigenvectors", [True, False])
    @pytest.mark.parametrize("shape", [(3, 20), (20, 3)])
    def test_singular_values_below_rcond_are_zero(self, solver, eigenvectors, shape):
        U, _, V = oracles.thin_svd(normal(shape))
        D = torch.from_numpy(U * [1, 0.1, 0.01] @ V)
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors, rcond=0.05)
        assert factor.rank == 2
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r, 0.05))
        close(factor.project(r), oracles.project(D, r, 0.05))

    @pytest.mark.parametrize("solver", ["eigh", "svd"])
    def test_a_singular_value_at_rcond_is_zero(self, solver):
        D = torch.tensor([[1.0, 0, 0], [0, 0.5, 0]], dtype=torch.float64)
        at, below = (factorize(Dense(D), normal(2), solver=solver, rcond=c) for c in (0.5, 0.49))
        assert (at.rank, below.rank) == (1, 2)

    def test_gram_spectrum_has_the_threshold_of_its_size(self):
        n = 50
        noise = n * EPS
        gram = torch.diag(torch.cat([torch.ones(48), torch.tensor([3 * noise, noise / 3])]))
        assert gram_spectrum(gram.double()).rank == 49


class TestLadder:
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

    @pytest.mark.parametrize("name", ["full_rank", "fewer_parameters"])
    def test_all_functions_of_a_vector_share_one_krylov_space(self, name, monkeypatch):
        products = []
        extend = symmetric.Lanczos._extend
        monkeypatch.setattr(
            symmetric.Lanczos, "_extend", lambda krylov: products.append(krylov) or extend(krylov)
        )
        D, _ = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r)
        factor.lift(GramFunction(0.0, lambda lam: torch.exp(-lam)), r)
        made = len(products)
        factor.lift(GramFunction(0.0, lambda lam: torch.exp(-0.99 * lam)), r)
        assert len(products) == made > 0

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

    @pytest.mark.parametrize(
        "name", ["fewer_parameters", "fewer_parameters_and_rank", "one_parameter"]
    )
    def test_damping_leaves_projector_and_rank_on_the_side_of_parameters(self, name):
        D, rank = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, ridge=0.2)
        close(factor.project(r), oracles.project(D, r, 1e-8))
        assert factor.rank == rank

    def test_singular_and_inconsistent_takes_eigenvectors_where_cholesky_is_asked_for(self):
        D = duplicate_rows()
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver="cholesky", eigenvectors=False)
        assert (factor.solver, factor.rank) == ("eigh", 6)

    def test_condition_of_cholesky_is_an_estimate_from_below(self):
        for seed in range(5):
            D = oracles.matrix(40, 60, 40, seed=seed, condition=1e3)
            factor = factorize(Dense(D), normal(40), eigenvectors=False)
            assert factor.solver == "cholesky"
            assert 0.3e6 < factor.condition < 1.0001e6

    @pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
    def test_krylov_space_serves_every_smooth_function(self, dtype, tol):
        D = oracles.matrix(60, 90, 60, seed=1, condition=1e2)
        r = normal(60)
        factor = factorize(Dense(D.to(dtype)), r.to(dtype))
        b = r.to(dtype)
        for kappa in (0.1, 30.0, 1e3):
            f = GramFunction(0.3, lambda lam, k=kappa: -torch.expm1(-k * lam) / lam)
            expected = oracles.lift(
                D, lambda lam, k=kappa: (0.3 - np.expm1(-k * lam)) / lam, r, 1e-8
            )
            close(factor.lift(f, b), expected, tol)
        assert factor.solver == "cholesky + lanczos"

    @pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
    @pytest.mark.parametrize("kappa", [0.1, 30.0, 1e4])
    def test_a_series_serves_a_function_that_is_asked_for_once(self, kappa, dtype, tol):
        # Its length does not grow with the spectrum: κ·λ_max is up to 1e4 here.
        D = oracles.matrix(60, 90, 60, seed=1, condition=1e2)
        b = normal((60, 3))
        f = GramFunction(0.3, lambda lam: -torch.expm1(-kappa * lam) / lam, turn=1 / kappa)
        factor = factorize(Dense(D.to(dtype)), b[:, 0].to(dtype), once=True)
        for column in b.mT:
            expected = oracles.lift(D, lambda lam: (0.3 - np.expm1(-kappa * lam)) / lam, column, 0)
            close(factor.lift(f, column.to(dtype)), expected, tol)
        columns = factor.apply(f, b.to(dtype))
        for k, column in enumerate(b.mT):
            close(columns[:, k], factor.apply(f, column.to(dtype)).double(), tol)
        assert factor.solver == "cholesky + rational series"

    def test_a_function_without_a_short_series_takes_the_krylov_space(self):
        D = oracles.matrix(20, 30, 20, seed=1, condition=10.0)
        r = normal(20)
        f = GramFunction(0.0, lambda lam: torch.cos(40 * lam), turn=1.0)
        factor = factorize(Dense(D), r, once=True)
        expected = oracles.lift(D, lambda lam: np.cos(40 * lam), r, 0)
        close(factor.lift(f, r), expected, 1e-8)
        assert factor.solver == "cholesky + lanczos"

    def test_a_ridge_that_bounds_the_condition_needs_no_estimate(self, monkeypatch):
        D = oracles.matrix(40, 60, 40, condition=1e3)
        expected = factorize(Dense(D), normal(40), ridge=0.1).condition

        def never(*args):
            raise AssertionError("estimated")

        with monkeypatch.context() as patch:
            patch.setattr(symmetric, "_extreme_eigenvalues", never)
            factor = factorize(Dense(D), normal(40), ridge=0.1)
            assert factor.solver == "cholesky"
        assert factor.condition == expected  # made when it is read

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

    def test_krylov_space_of_zero_and_of_an_eigenvector(self):
        D = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        f = GramFunction(0.0, torch.exp)
        for b in (torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 2.0, 0.0]).double()):
            factor = factorize(Dense(D), b)
            close(factor.apply(f, b), math.exp(4.0) * b, 1e-12)

    def test_cholesky_scales_with_the_inverse_part(self):
        D, _ = MATRICES["full_rank"]
        r = normal(8)
        factor = factorize(Dense(D), r, eigenvectors=False)
        expected = 0.25 * torch.from_numpy(oracles.pinv_solve(D, r))
        close(factor.lift(GramFunction(0.25), r), expected)

    def test_failed_eigenvectors_are_tried_in_float64(self, monkeypatch):
        eigh = symmetric._eigh

        def fails_in_float32(A):
            if A.dtype == torch.float32:
                raise torch.linalg.LinAlgError("did not converge")
            return eigh(A)

        monkeypatch.setattr(symmetric, "_eigh", fails_in_float32)
        D, _ = MATRICES["full_rank"]
        r = normal(8, dtype=torch.float32)
        factor = factorize(Dense(D.float()), r, solver="eigh")
        assert factor.solver == "eigh in float64"
        assert factor.lift(PSEUDOINVERSE, r).dtype == torch.float32
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r), 1e-2)

    @pytest.mark.parametrize(
        ("dtype", "message"),
        [
            (torch.float64, "^eigh: no luck$"),
            (torch.float32, "^eigh: no luck; eigh in float64: no luck$"),
        ],
    )
    def test_every_failure_is_named(self, monkeypatch, dtype, message):
        def fails(A):
            raise torch.linalg.LinAlgError("no luck")

        monkeypatch.setattr(symmetric, "_eigh", fails)
        D = MATRICES["full_rank"][0].to(dtype)
        with pytest.raises(FactorizationError, match=message):
            factorize(Dense(D), normal(8, dtype=dtype), solver="eigh")

    @pytest.mark.parametrize("name", ["full_rank", "fewer_parameters"])
    def test_failed_svd_falls_back(self, monkeypatch, name):
        def fails(*args, **options):
            raise torch.linalg.LinAlgError("no luck")

        monkeypatch.setattr(torch.linalg, "svd", fails)
        D, rank = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r, solver="svd")
        assert factor.solver.startswith("svd → eigh")
        assert factor.rank == rank
        close(factor.lift(PSEUDOINVERSE, r), oracles.pinv_solve(D, r))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_eigenvalues_on_one_core_and_elsewhere(monkeypatch, threads, dtype, tol):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    D = oracles.matrix(40, 60, 30, seed=5)
    found = symmetric.ascending_eigenvalues((D @ D.mT).to(dtype))
    assert found.dtype == dtype
    expected = np.sort(np.linalg.svd(D.numpy(), compute_uv=False) ** 2)
    close(found, torch.from_numpy(expected), tol)


class TestTriangles:
    """A beside its factor, in one matrix on one core and in two elsewhere."""

    @pytest.fixture(params=[1, 2])
    def threads(self, request, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
        return request.param

    @pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
    @pytest.mark.parametrize("ridge", [0.0, 0.3])
    def test_products_and_solves_take_turns(self, threads, ridge, dtype, tol):
        D = oracles.matrix(150, 200, 150, seed=3, condition=3.0).to(dtype) * 1e-6
        A, b = D @ D.mT, normal((150, 2), dtype=dtype)
        ridge *= float(A.trace()) / len(A)
        factor = symmetric.factor_symmetric(
            A.clone(), b[:, 0], solver="auto", threshold=1e-6, ridge=ridge
        )
        one_matrix = isinstance(factor.triangles, symmetric._InPlace)
        assert one_matrix == (threads == 1)
        solved = torch.linalg.solve(A.double() + ridge * torch.eye(150).double(), b.double())
        for _ in range(2):
            close(factor.times(b), (A @ b).double(), tol)
            close(factor.times(b[:, 1].clone()), (A @ b[:, 1]).double(), tol)
            close(factor.solve(b) * 1e-12, solved * 1e-12, 100 * tol)

    def test_what_has_no_factor_is_left_as_it_was(self, threads):
        D = oracles.matrix(150, 200, 30, seed=4)
        A = D @ D.mT
        A = (A + A.mT) / 2
        before = A.clone()
        for solver in ("auto", "cholesky"):
            symmetric.factor_symmetric(A, normal(150), solver=solver, threshold=1e-6, ridge=0.0)
            assert torch.equal(A, before)
        assert symmetric._cholesky(A, 0.9, 1e-3, once=False) is None
        assert torch.equal(A, before)


class TestSpectrum:
    @pytest.mark.parametrize("name", MATRICES)
    def test_eigenvalues_rank_condition(self, name):
        D, rank = MATRICES[name]
        found = tangent_spectrum(Dense(D))
        expected = torch.linalg.eigvalsh(D @ D.mT).flip(0)
        assert found.eigenvalues.shape == (len(D),)
        torch.testing.assert_close(found.eigenvalues, expected, rtol=1e-9, atol=1e-13)
        assert found.rank == rank
        sigma = oracles.thin_svd(D, 1e-8)[1]
        expected = (sigma[0] / sigma[-1]) ** 2 if rank else math.inf
        assert found.condition == pytest.approx(expected, rel=1e-9)

    def test_takes_the_gram_at_hand(self):
        D, _ = MATRICES["full_rank"]
        found = tangent_spectrum(Dense(D), gram=4 * D @ D.mT)
        torch.testing.assert_close(found.eigenvalues, 4 * tangent_spectrum(Dense(D)).eigenvalues)

    def test_rcond(self):
        D = torch.diag(torch.tensor([1, 0.1, 0.01], dtype=torch.float64))
        assert tangent_spectrum(Dense(D), rcond=0.05).rank == 2
        assert tangent_spectrum(Dense(D), rcond=0.05).condition == pytest.approx(100)
        assert gram_spectrum(D @ D, rcond=0.5).rank == 1


@pytest.mark.parametrize("shape", [(60, 80), (80, 60)])
@pytest.mark.parametrize("condition", [10.0, 1e3, 1e6])
@pytest.mark.parametrize(
    "f",
    [
        lambda lam: torch.exp(-3 * lam),
        lambda lam: -torch.expm1(-0.5 * lam) / lam,
        lambda lam: -torch.expm1(-20 * lam) / lam,
    ],
)
def test_krylov_space_against_the_decomposition(shape, condition, f):
    """The smooth parts that flows ask for: e^{−κλ} and (1 − e^{−κλ})/λ."""
    D = oracles.matrix(*shape, 60, seed=9, condition=condition)
    r, other = normal(len(D)), normal(len(D), seed=5)
    factor = factorize(Dense(D), r)
    assert factor.solver.startswith("cholesky")

    def expected(b):
        return oracles.lift(D, lambda lam: f(torch.from_numpy(lam)).numpy(), b)

    close(factor.lift(GramFunction(0.0, f), r), expected(r), 1e-7)
    # The same function of another vector, and another function of the first.
    close(factor.lift(GramFunction(0.0, f), other), expected(other), 1e-7)
    both = expected(r) + 2 * oracles.pinv_solve(D, r)
    close(factor.lift(GramFunction(2.0, f), r), both, 1e-7 + 100 * EPS * condition**2)


def test_working_bytes():
    assert working_bytes(100, 1000, 8, "auto") == 3 * 8 * 100**2
    assert working_bytes(100, 1000, 4, "eigh") == 3 * 4 * 100**2
    assert working_bytes(1000, 10, 8, "auto") == 8 * (1000 * 10 + 3 * 10**2)
    assert working_bytes(1000, 10, 8, "shared") == 3 * 8 * 1000**2
    assert working_bytes(100, 1000, 8, "svd") == 3 * 8 * 100 * 1000
    assert working_bytes(10**6, 1000, 8, "krylov") == 8 * (1424 * 10**6 + 4 * 1024**2)


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

    @reproducibly
    @given(D=tangents(), seed=st.integers(0, 999))
    def test_jacobian_times_pseudoinverse_is_the_projector(self, solver, eigenvectors, D, seed):
        r = normal(len(D), seed)
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors)
        close(D @ factor.lift(PSEUDOINVERSE, r), factor.project(r), 1e-9)

    @reproducibly
    @given(D=tangents(), seed=st.integers(0, 999))
    def test_pseudoinverse_of_the_kernel_is_zero(self, solver, eigenvectors, D, seed):
        r = normal(len(D), seed)
        factor = factorize(Dense(D), r, solver=solver, eigenvectors=eigenvectors)
        kernel = r - factor.project(r)
        assert float(factor.lift(PSEUDOINVERSE, kernel).norm()) <= 1e-8 * float(r.norm())


@pytest.mark.parametrize("solver", SOLVERS)
@reproducibly
@given(D=tangents(), seed=st.integers(0, 999), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_lift_is_linear_in_the_function(solver, D, seed, a, b):
    r = normal(len(D), seed)
    factor = factorize(Dense(D), r, solver=solver)
    combined = factor.lift(GramFunction(a, lambda lam: b * torch.sin(lam)), r)
    separate = a * factor.lift(PSEUDOINVERSE, r) + b * factor.lift(GramFunction(0.0, torch.sin), r)
    close(combined, separate, 1e-9)


class TestSharedKernel:
    """f(K̄) ⊗ 1_Q in place of f(G), with K̄ from a tangent of a network."""

    def _tangent(self, sizes, *, n=7, weights=None):
        theta, X = oracles.problem(n, sizes)
        family = LayeredNetwork(sizes)
        return OutputMap(family, X, family.outputs(theta, X), weights).linearize(theta)

    @pytest.mark.parametrize("ridge", [0.0, 0.3])
    def test_one_output_has_nothing_to_share(self, ridge):
        tangent, r = self._tangent((3, 9, 1)), normal(7)
        shared = factorize(tangent, r, solver="shared", ridge=ridge)
        plain = factorize(tangent, r, ridge=ridge)
        assert shared.solver == plain.solver
        for f in (PSEUDOINVERSE, GramFunction(0.3, torch.exp)):
            close(shared.lift(f, r), plain.lift(f, r), 1e-13)

    @pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2, 1, 3, 1, 2, 4]).double()])
    @pytest.mark.parametrize("ridge", [0.0, 0.3])
    @pytest.mark.parametrize("eigenvectors", [True, False])
    def test_is_exact_where_outputs_share_no_parameter(self, eigenvectors, ridge, weights):
        # A linear model has G = K̄ ⊗ 1, K̄ = ⟨x, x'⟩ + 1, of rank 7 < 9.
        tangent, r = self._tangent((8, 3), weights=weights), normal(21)
        shared = factorize(tangent, r, solver="shared", eigenvectors=eigenvectors, ridge=ridge)
        dense = factorize(tangent, r, solver="eigh", ridge=ridge)
        f = GramFunction(0.3, lambda lam: torch.exp(-lam))
        for g in (PSEUDOINVERSE, f):
            close(shared.lift(g, r), dense.lift(g, r))
            close(shared.apply(g, r), dense.apply(g, r))
        pair = torch.stack([r, normal(21, seed=1)], dim=1)
        close(shared.apply(f, pair), dense.apply(f, pair))
        close(shared.move(f, r)[1], dense.move(f, r)[1])
        if not ridge:
            close(shared.project(pair), dense.project(pair))
        assert math.isnan(shared.rank)
        assert shared.damped
        assert shared.solver.endswith("of the shared kernel")

    def test_rank_deficient_kernel(self):
        tangent, r = self._tangent((2, 3)), normal(21)  # K̄ has rank 3
        shared = factorize(tangent, r, solver="shared")
        assert shared.solver == "eigh of the shared kernel"
        close(shared.lift(PSEUDOINVERSE, r), oracles.pinv_solve(tangent.jacobian(), r), 1e-8)

    def test_length_is_that_of_a_conjugate_gradient_step(self):
        tangent, r = self._tangent((3, 30, 4)), normal(28)
        G, K = tangent.gram(), torch.kron(tangent.shared_gram, torch.eye(4).double())
        shared = factorize(tangent, r, solver="shared", ridge=0.2)
        identity = 0.2 * torch.eye(28).double()
        z = torch.linalg.solve(K + identity, r)
        expected = tangent.pull(z) * (r @ z) / (z @ (G + identity) @ z)
        close(shared.lift(PSEUDOINVERSE, r), expected)

    def test_nothing_to_lift(self):
        tangent, r = self._tangent((3, 30, 4)), torch.zeros(28).double()
        assert not factorize(tangent, r, solver="shared").lift(PSEUDOINVERSE, r).any()

    def test_trace_is_that_of_the_gram(self):
        tangent = self._tangent((3, 6, 5, 4))
        assert float(tangent.shared_gram.trace()) == pytest.approx(tangent.trace() / 4)
