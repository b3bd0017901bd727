"""A matrix beside its Cholesky factor."""

import math

import pytest
import torch

from sklearn_gflow.geometry import ladder, triangles
from tests import oracles
from tests.geometry.problems import close, normal


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
        factor = ladder.factor_symmetric(A.clone(), threshold=1e-6, ridge=ridge)
        one_matrix = isinstance(factor.triangles, triangles.InPlace)
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
        for jitter_for in (None, normal(150)):
            ladder.factor_symmetric(A, threshold=1e-6, ridge=0.0, jitter_for=jitter_for)
            assert torch.equal(A, before)
        assert ladder._cholesky(A, 0.9, 1e-3, once=False) is None
        assert torch.equal(A, before)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("entry", [(1, 0), (149, 7), (75, 74)])
    def test_a_matrix_that_is_not_finite_has_no_factor(self, threads, entry, value):
        """Some libraries report success where a pivot is NaN."""
        A = torch.eye(150, dtype=torch.float64)
        A[entry] = A[entry[::-1]] = value
        assert triangles.triangles(A, 0.0) is None
        whole = triangles.triangles(torch.eye(150, dtype=torch.float64), 0.0)
        assert whole.shifted(1.0) is not None
        assert whole.shifted(math.nan) is None
