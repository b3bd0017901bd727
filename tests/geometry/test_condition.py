"""Rank and D⁺ of ill-conditioned D against an oracle of 60 digits (docs/reliability.md)."""

import functools

import mpmath
import numpy as np
import pytest
import torch

from sklearn_gflow.geometry import PSEUDOINVERSE, factorize
from sklearn_gflow.geometry.spectrum import relative_threshold
from tests import oracles
from tests.geometry.problems import EPS, Dense

pytestmark = pytest.mark.slow

SIZE = 12


def hilbert():
    """1/(i + j + 1): the condition number of G is 1e32."""
    i = torch.arange(SIZE, dtype=torch.float64)
    return 1 / (i[:, None] + i + 1)


def graded(decades):
    """Singular values from 1 down to 10^−decades, evenly on a logarithmic scale."""
    values = torch.logspace(0, -decades, SIZE, dtype=torch.float64)
    U = torch.linalg.qr(oracles.matrix(SIZE, SIZE, SIZE, seed=1)).Q
    V = torch.linalg.qr(oracles.matrix(SIZE, 20, SIZE, seed=2).mT).Q
    return U @ torch.diag(values) @ V.mT


MATRICES = {
    "hilbert": hilbert,
    "graded, condition of G 1e8": lambda: graded(4),
    "graded, condition of G 1e12": lambda: graded(6),
    "graded, condition of G 1e20": lambda: graded(10),
    "graded, condition of G 1e30": lambda: graded(15),
}


@functools.cache
def oracle(name):
    """U, σ, V of D as it stands in float64, in 60 digits."""
    mpmath.mp.dps = 60
    D = MATRICES[name]()
    U, sigma, Vt = mpmath.svd_r(mpmath.matrix(D.tolist()))
    return U, sigma, Vt


def truncated(name, r, rank):
    """D⁺r on the leading modes."""
    U, sigma, Vt = oracle(name)
    found = [mpmath.mpf(0)] * Vt.cols
    for k in range(rank):
        weight = mpmath.fsum(U[i, k] * r[i] for i in range(U.rows)) / sigma[k]
        found = [value + weight * Vt[k, j] for j, value in enumerate(found)]
    return np.array([float(value) for value in found])


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", "svd"])
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("rcond", [None, 3e-3])
def test_rank_and_solution(name, solver, rcond):
    D = MATRICES[name]()
    r = torch.cos(torch.arange(SIZE, dtype=torch.float64))
    factor = factorize(Dense(D), r, solver=solver, rcond=rcond)
    sigma = np.array([float(value) for value in oracle(name)[1]])
    squared = solver != "svd"
    size = SIZE if squared else max(D.shape)
    threshold = relative_threshold(rcond, D.dtype, size, squared=squared)
    # A singular value near the threshold may fall on either side of it.
    margin = 3.0 if rcond is None else 1 + 1e-6
    least, most = ((sigma > share * threshold * sigma[0]).sum() for share in (margin, 1 / margin))
    assert least <= factor.rank <= most
    found = factor.lift(PSEUDOINVERSE, r).numpy()
    expected = truncated(name, r.tolist(), int(factor.rank))
    condition = (sigma[0] / sigma[int(factor.rank) - 1]) ** (2 if squared else 1)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < EPS * condition


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", "svd"])
def test_rank_beside_a_stated_cut(solver):
    """One singular value is a hundredth above or below ``rcond``, the others are far away."""
    r, rcond = torch.ones(SIZE, dtype=torch.float64), 1e-3
    for seed in range(30):
        for share, rank in ((1.01, SIZE), (0.99, SIZE - 1)):
            values = torch.logspace(0, -2, SIZE, dtype=torch.float64)
            values[-1] = share * rcond
            D = torch.diag(values) @ torch.linalg.qr(oracles.matrix(20, SIZE, SIZE, seed=seed)).Q.mT
            U = torch.linalg.qr(oracles.matrix(SIZE, SIZE, SIZE, seed=seed + 100)).Q
            assert factorize(Dense(U @ D), r, solver=solver, rcond=rcond).rank == rank
