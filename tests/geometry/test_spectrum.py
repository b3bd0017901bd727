"""What counts as zero, and spectra of the Gram."""

import math

import pytest
import torch

from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    FactorizationError,
    factorize,
    gram_eigenvectors,
    gram_spectrum,
    spectrum,
    tangent_spectrum,
)
from tests import oracles
from tests.geometry.problems import EPS, MATRICES, Dense, close, normal


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


class TestNotFinite:
    @pytest.mark.parametrize("squared", [True, False])
    def test_threshold(self, squared):
        with pytest.raises(ValueError, match="rcond is NaN; set a number, or None"):
            spectrum.relative_threshold(math.nan, torch.float64, 10, squared=squared)

    @pytest.mark.parametrize("read", [gram_spectrum, gram_eigenvectors])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_gram(self, read, value):
        gram = torch.eye(9, dtype=torch.float64)
        gram[5, 2] = gram[2, 5] = value
        with pytest.raises(FactorizationError, match=r"^eigh: "):
            read(gram)

    @pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
    def test_tangent(self, shape):
        D = normal(shape)
        D[2, 3] = math.nan
        with pytest.raises(FactorizationError, match=r"^eigh: "):
            tangent_spectrum(Dense(D))
