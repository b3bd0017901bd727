"""Rational Chebyshev series."""

import numpy as np
import pytest
import torch

from sklearn_gflow.geometry import GramFunction, factorize
from tests import oracles
from tests.geometry.problems import Dense, close, normal


class TestSeries:
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

    def test_little_accuracy_of_a_large_matrix_takes_a_few_products_and_no_second_factor(self):
        D = oracles.matrix(450, 500, 450, seed=1, condition=1e2)
        b = normal(450)
        f = GramFunction(0.3, lambda lam: -torch.expm1(-lam) / lam, turn=1.0)
        D32, b32 = Dense(D.float()), b.float()
        factor = factorize(D32, b32, once=True, tolerance=1e-3, ridge=0.1)
        exact = factorize(Dense(D), b, eigenvectors=True, ridge=0.1)
        close(factor.lift(f, b32).double(), exact.lift(f, b), 2e-3)
        assert factor.solver == "cholesky + lanczos"
