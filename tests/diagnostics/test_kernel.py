"""The tangent kernel: what is not finite has no answer."""

import math

import pytest
import torch

from sklearn_gflow.diagnostics import positive_definite
from sklearn_gflow.geometry import FactorizationError


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_kernel_that_is_not_finite_is_neither_definite_nor_not(value):
    gram = torch.eye(5, dtype=torch.float64)
    gram[3, 1] = gram[1, 3] = value
    with pytest.raises(FactorizationError, match=r"^eigh: "):
        positive_definite(gram)


def test_kernel_that_is_zero_has_no_margin():
    found = positive_definite(torch.zeros((5, 5), dtype=torch.float64))
    assert (found.positive, found.margin) == (False, 0.0)
