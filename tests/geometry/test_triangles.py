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
        assert ladder._cholesky(A, float(A.trace()), 0.9, 1e-3, once=False, tolerance=None) is None
        assert torch.equal(A, before)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("entry", [(1, 0), (149, 7), (75, 74)])
    def test_a_matrix_that_is_not_finite_has_no_factor(self, threads, entry, value):
        """Some libraries report success where a pivot is NaN."""
        A = torch.eye(150, dtype=torch.float64)
        A[entry] = A[entry[::-1]] = value
        assert triangles.triangles(A, 0.0) is None
        whole = triangles.triangles(torch.eye(150, dtype=torch.float64), 0.0)
        assert whole.resolvent(1.0) is not None
        assert whole.resolvent(math.nan) is None


class TestRefined:
    """A factor in float32, and solutions as good as those of one in float64."""

    def matrix(self, condition, *, size=150, unit=1.0):
        D = oracles.matrix(size, size + 50, size, seed=5, condition=condition**0.5)
        return unit * D @ D.mT

    def backward_error(self, A, x, b):
        left = (b - A @ x).abs().amax(0)
        return float((left / (torch.linalg.matrix_norm(A, math.inf) * x.abs().amax(0))).max())

    @pytest.mark.parametrize("unit", [1.0, 1e-20, 1e20])
    @pytest.mark.parametrize("condition", [1e2, 1e5, 1e6])
    def test_solves_as_well_as_double_precision(self, condition, unit):
        A, b = self.matrix(condition, unit=unit), normal((150, 2))
        refined = triangles.Refined(A.clone(), 0.0, 0.0)
        assert refined.L.dtype == torch.float32
        for given in (b, b[:, 0]):
            error = self.backward_error(A, refined.solve(given), given)
            assert error < 150**0.5 * torch.finfo(torch.float64).eps

    def test_single_precision_alone_does_not(self):
        """The bound above can fail."""
        A, b = self.matrix(1e5), normal((150, 2))
        L = triangles.Refined(A.clone(), 0.0, 0.0).L
        x = triangles.cholesky_solve(L, b.float()).double()
        assert self.backward_error(A, x, b) > 1e-9

    def test_shifts(self):
        A, b = self.matrix(1e5), normal(150)
        refined = triangles.Refined(A.clone(), 0.3, 0.2)
        identity = torch.eye(150, dtype=torch.float64)
        close(refined.times(b), (A + 0.3 * identity) @ b, 1e-12)
        close(refined.solve(b), torch.linalg.solve(A + 0.5 * identity, b), 1e-12)
        close(refined.resolvent(0.7)(b), torch.linalg.solve(A + identity, b), 1e-12)
        close(refined.restore(), A, 0.0)

    def test_where_refinement_does_not_get_there_float64_solves(self, monkeypatch):
        A, b = self.matrix(1e6), normal(150)
        refined = triangles.Refined(A.clone(), 0.0, 0.0)
        refined.L = 3 * refined.L  # as bad as the factor of a matrix beyond float32
        assert self.backward_error(A, refined.solve(b), b) < 1e-13

    @pytest.mark.parametrize("slow", [True, False])
    def test_taken_where_double_precision_is_slow(self, monkeypatch, slow):
        monkeypatch.setattr(triangles, "_LARGE", 100)
        monkeypatch.setattr(triangles, "double_is_slow", lambda device: slow)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        A = self.matrix(1e4)
        assert isinstance(triangles.triangles(A.clone(), 0.0), triangles.Refined) == slow
        # In float32 there is nothing to refine.
        assert not isinstance(triangles.triangles(A.float(), 0.0), triangles.Refined)
        # What float32 cannot factorise float64 can.
        steep = self.matrix(1e11)
        assert isinstance(triangles.triangles(steep, 0.0), triangles.OutOfPlace)

    def test_slowness_is_measured(self, monkeypatch):
        triangles.double_is_slow.cache_clear()
        seconds = {torch.float64: 1.0, torch.float32: 0.1}
        monkeypatch.setattr(triangles, "_seconds", lambda dtype, device: seconds[dtype])
        assert triangles.double_is_slow(torch.device("meta"))
        seconds[torch.float32] = 0.5
        assert triangles.double_is_slow(torch.device("meta"))  # measured once
        triangles.double_is_slow.cache_clear()
        assert not triangles.double_is_slow(torch.device("meta"))
        triangles.double_is_slow.cache_clear()
        assert not triangles.double_is_slow(torch.device("cpu"))
