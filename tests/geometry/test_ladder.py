"""The ladder of factorisations of one symmetric matrix."""

import math

import pytest
import torch

from sklearn_gflow.geometry import PSEUDOINVERSE, FactorizationError
from sklearn_gflow.geometry.ladder import factor_symmetric
from sklearn_gflow.geometry.spectrum import relative_threshold
from tests import oracles
from tests.geometry.problems import normal


def gram(rank=20):
    D = oracles.matrix(20, 30, rank)
    return D @ D.mT


@pytest.mark.parametrize(
    ("A", "options", "name"),
    [
        (gram(), {}, "cholesky"),
        (gram(), {"eigenvectors": True}, "eigh"),
        (gram(12), {}, "eigh"),
        (gram(12), {"jitter_for": gram(12) @ normal(20)}, "cholesky with jitter"),
        (gram(12), {"jitter_for": normal(20)}, "eigh"),
        (gram(12), {"jitter_for": torch.zeros(20).double()}, "eigh"),
    ],
)
def test_first_rung_that_serves(A, options, name):
    factor = factor_symmetric(A.clone(), threshold=1e-6, ridge=0.0, **options)
    assert factor.name == name


@pytest.mark.parametrize("eigenvectors", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
class TestNotFinite:
    def test_on_the_diagonal(self, value, eigenvectors):
        A = gram()
        A[3, 3] = value
        with pytest.raises(FactorizationError, match="its diagonal holds numbers that are not"):
            factor_symmetric(A, threshold=1e-6, ridge=0.0, eigenvectors=eigenvectors)

    @pytest.mark.parametrize("jitter_for", [None, normal(20)])
    def test_elsewhere(self, value, eigenvectors, jitter_for):
        A = gram()
        A[7, 3] = A[3, 7] = value
        with pytest.raises(FactorizationError, match=r"^eigh: "):
            factor_symmetric(
                A, threshold=1e-6, ridge=0.0, eigenvectors=eigenvectors, jitter_for=jitter_for
            )


def test_ridge_that_is_nan_stays_nan():
    factor = factor_symmetric(gram(), threshold=1e-6, ridge=math.nan)
    assert factor.apply(lambda lam: 1 / lam, normal(20)).isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0.03, 0.01])
def test_a_ridge_above_rounding_is_enough_unless_a_threshold_is_given(ridge):
    """In float32 a bound that grows with the size asks for eigenvectors, and cuts small modes.

    A tangent kernel has one large mode, of about the size of its trace.
    """
    size = 900
    D = oracles.matrix(size, size + 100, size, seed=8, condition=30.0)
    A = 1 + D @ D.mT
    ridge *= float(A.trace()) / size
    b = D @ torch.cos(torch.arange(size + 100, dtype=torch.float64))
    expected = torch.linalg.solve(A + ridge * torch.eye(size, dtype=A.dtype), b)
    threshold = relative_threshold(None, torch.float32, size, squared=True)
    errors = []
    for factor_on_it, name in ((1.0, "cholesky"), (1.01, "eigh")):  # the second as if it were given
        factor = factor_symmetric(A.float(), threshold=factor_on_it * threshold, ridge=ridge)
        assert factor.name == name
        found = factor.apply(PSEUDOINVERSE, b.float()).double()
        errors.append(float((found - expected).norm() / expected.norm()))
    assert errors[0] < 1e-3
    assert errors[1] > 10 * errors[0]  # which is what cutting there costs
