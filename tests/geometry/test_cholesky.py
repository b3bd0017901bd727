"""Functions of a matrix through its Cholesky factor."""

import math

import pytest
import torch

from sklearn_gflow.geometry import GramFunction, cholesky, factorize
from tests import oracles
from tests.geometry.problems import MATRICES, Dense, close, normal


class TestCholesky:
    def test_condition_of_cholesky_is_an_estimate_from_below(self):
        for seed in range(5):
            D = oracles.matrix(40, 60, 40, seed=seed, condition=1e3)
            factor = factorize(Dense(D), normal(40), eigenvectors=False)
            assert factor.solver == "cholesky"
            assert 0.3e6 < factor.condition < 1.0001e6

    def test_cholesky_scales_with_the_inverse_part(self):
        D, _ = MATRICES["full_rank"]
        r = normal(8)
        factor = factorize(Dense(D), r, eigenvectors=False)
        expected = 0.25 * torch.from_numpy(oracles.pinv_solve(D, r))
        close(factor.lift(GramFunction(0.25), r), expected)

    def test_a_ridge_that_bounds_the_condition_needs_no_estimate(self, monkeypatch):
        D = oracles.matrix(40, 60, 40, condition=1e3)
        expected = factorize(Dense(D), normal(40), ridge=0.1).condition

        def never(*args):
            raise AssertionError("estimated")

        with monkeypatch.context() as patch:
            patch.setattr(cholesky, "_extreme_eigenvalues", never)
            factor = factorize(Dense(D), normal(40), ridge=0.1)
            assert factor.solver == "cholesky"
        assert factor.condition == expected  # made when it is read

    def test_estimates_do_not_depend_on_the_unit(self):
        D = oracles.matrix(40, 60, 40, condition=1e3)
        expected = factorize(Dense(D), normal(40)).condition
        for unit in (1e-9, 1e-60, 1e60):  # G, and products with it, in other units
            found = factorize(Dense(D * unit), normal(40))
            assert found.solver == "cholesky"
            assert found.condition == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(
        ("dtype", "unit"), [(torch.float32, 1e15), (torch.float32, 1e-15), (torch.float64, 1e-110)]
    )
    def test_estimates_out_of_range_lead_to_eigenvectors(self, dtype, unit):
        # |A⁻¹v|² leaves the range of the dtype, below or above, while A and A⁻¹v are in it.
        D = oracles.matrix(8, 20, 8, condition=2.0).to(dtype) * unit
        factor = factorize(Dense(D), normal(8, dtype=dtype))
        assert (factor.solver, factor.rank) == ("eigh", 8)

    def test_condition_out_of_range_is_unknown(self):
        D = oracles.matrix(8, 20, 8, condition=2.0).float() * 1e15
        factor = factorize(Dense(D), normal(8, dtype=torch.float32), ridge=1e30)
        assert factor.solver == "cholesky"  # the ridge bounds the condition: no estimate is made
        assert math.isnan(factor.condition)
