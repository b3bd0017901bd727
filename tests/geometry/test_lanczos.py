"""The Krylov space of one vector."""

import math

import numpy as np
import pytest
import torch

from sklearn_gflow.geometry import (
    FactorizationError,
    GramFunction,
    eigen,
    factorize,
    lanczos,
)
from tests import oracles
from tests.geometry.problems import EPS, MATRICES, Dense, close, normal


class TestSpace:
    @pytest.mark.parametrize("name", ["full_rank", "fewer_parameters"])
    def test_all_functions_of_a_vector_share_one_krylov_space(self, name, monkeypatch):
        products = []
        extend = lanczos.Lanczos._extend
        monkeypatch.setattr(
            lanczos.Lanczos, "_extend", lambda krylov: products.append(krylov) or extend(krylov)
        )
        D, _ = MATRICES[name]
        r = normal(len(D))
        factor = factorize(Dense(D), r)
        factor.lift(GramFunction(0.0, lambda lam: torch.exp(-lam)), r)
        made = len(products)
        factor.lift(GramFunction(0.0, lambda lam: torch.exp(-0.99 * lam)), r)
        assert len(products) == made > 0

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

    def test_krylov_space_of_zero_and_of_an_eigenvector(self):
        D = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        f = GramFunction(0.0, torch.exp)
        for b in (torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 2.0, 0.0]).double()):
            factor = factorize(Dense(D), b)
            close(factor.apply(f, b), math.exp(4.0) * b, 1e-12)


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


class TestNotFinite:
    def apply(self, A, b, f=torch.exp):
        space = lanczos.Lanczos(lambda v: A @ v, b)
        return space, space.apply(f)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_in_the_matrix_the_vector_or_the_function_is_nan_in_the_result(self, value):
        A, b = torch.diag(torch.arange(1.0, 21.0, dtype=torch.float64)), normal(20)
        broken, other = A.clone(), b.clone()
        broken[3, 4] = broken[4, 3] = other[2] = value
        for result in (
            self.apply(broken, b),
            self.apply(A, other),
            self.apply(A, b, lambda lam: lam * value),
        ):
            assert math.isnan(result[0].change)
            assert result[1].isnan().all()

    def test_of_one_function_leaves_the_next_one_as_it_is(self):
        A, b = torch.diag(torch.arange(1.0, 21.0, dtype=torch.float64)), normal(20)
        space, _ = self.apply(A, b, lambda lam: lam * math.nan)
        close(space.apply(torch.sqrt), A.diagonal().sqrt() * b)

    def test_eigenvalues_that_fail_are_a_failed_factorisation(self, monkeypatch):
        def fails(A):
            raise torch.linalg.LinAlgError("no luck")

        monkeypatch.setattr(eigen, "_eigh_by_torch", fails)
        with pytest.raises(FactorizationError, match="no luck"):
            self.apply(torch.eye(20, dtype=torch.float64), normal(20))
