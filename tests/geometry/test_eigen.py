"""Eigenvalue routines, and the tries that follow one that fails."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from sklearn_gflow.geometry import PSEUDOINVERSE, FactorizationError, eigen, factorize
from tests import oracles
from tests.geometry.problems import MATRICES, Dense, close, normal


class TestTries:
    def test_failed_eigenvectors_are_tried_in_float64(self, monkeypatch):
        eigh = eigen._eigh

        def fails_in_float32(A):
            if A.dtype == torch.float32:
                raise torch.linalg.LinAlgError("did not converge")
            return eigh(A)

        monkeypatch.setattr(eigen, "_eigh", fails_in_float32)
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

        monkeypatch.setattr(eigen, "_eigh", fails)
        D = MATRICES["full_rank"][0].to(dtype)
        with pytest.raises(FactorizationError, match=message):
            factorize(Dense(D), normal(8, dtype=dtype), solver="eigh")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_eigenvalues_on_one_core_and_elsewhere(monkeypatch, threads, dtype, tol):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    D = oracles.matrix(40, 60, 30, seed=5)
    found = eigen.ascending_eigenvalues((D @ D.mT).to(dtype))
    assert found.dtype == dtype
    expected = np.sort(np.linalg.svd(D.numpy(), compute_uv=False) ** 2)
    close(found, torch.from_numpy(expected), tol)


class TestNotFinite:
    @pytest.fixture(params=[1, 2])
    def threads(self, request, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)

    @pytest.mark.usefixtures("threads")
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("entry", [(0, 0), (2, 1), (39, 3)])
    @pytest.mark.parametrize(
        "routine", [eigen.eigh_somewhere, eigen.ascending_eigenvalues, eigen.small_eigh]
    )
    def test_raises(self, routine, entry, value):
        D = oracles.matrix(40, 60, 40)
        A = D @ D.mT
        A[entry] = A[entry[::-1]] = value
        with pytest.raises(FactorizationError, match=r"^eigh: "):
            routine(A)

    @pytest.mark.usefixtures("threads")
    def test_what_overflows_in_float32_is_infinite_in_float64_too(self):
        A = torch.full((3, 3), 3e38, dtype=torch.float32)  # λ = 9e38
        with pytest.raises(FactorizationError, match="eigh in float64: eigenvalues that are not"):
            eigen.ascending_eigenvalues(A)


class TestEigenvaluesAlone:
    """They take the same tries as eigenvectors."""

    def test_failure_is_tried_in_float64(self, monkeypatch):
        eigvalsh = eigen._eigvalsh

        def fails_in_float32(A):
            if A.dtype == torch.float32:
                raise torch.linalg.LinAlgError("did not converge")
            return eigvalsh(A)

        monkeypatch.setattr(eigen, "_eigvalsh", fails_in_float32)
        D = oracles.matrix(8, 20, 8)
        A = (D @ D.mT).float()
        found = eigen.ascending_eigenvalues(A)
        assert found.dtype == torch.float32
        close(found, torch.linalg.eigvalsh(A.double()), 1e-5)

    @pytest.mark.parametrize("error", [torch.linalg.LinAlgError, scipy.linalg.LinAlgError])
    def test_every_failure_is_named(self, monkeypatch, error):
        def fails(A):
            raise error("no luck")

        monkeypatch.setattr(eigen, "_eigvalsh", fails)
        with pytest.raises(FactorizationError, match=r"^eigh: no luck; eigh in float64: no luck$"):
            eigen.ascending_eigenvalues(torch.eye(3))
