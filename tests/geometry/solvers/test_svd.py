"""The decomposition of D: what it resolves, and what stands in for it."""

import math

import pytest
import torch

from sklearn_gflow.geometry import PSEUDOINVERSE, FactorizationError, factorize
from tests import oracles
from tests.geometry.problems import MATRICES, Dense, close, normal


class TestResolution:
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


class TestFallback:
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

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_matrix_that_is_not_finite_has_no_factor(self, monkeypatch, value):
        D = normal((4, 9))
        D[2, 3] = value
        with pytest.raises(FactorizationError, match="its diagonal holds numbers that are not"):
            factorize(Dense(D), normal(4), solver="svd")
        # As on a device, where the routine reports success.
        svd = torch.linalg.svd
        monkeypatch.setattr(
            torch.linalg, "svd", lambda D, **options: [value * part for part in svd(D.nan_to_num())]
        )
        with pytest.raises(FactorizationError, match="its diagonal holds numbers that are not"):
            factorize(Dense(D), normal(4), solver="svd")
