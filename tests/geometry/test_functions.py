"""What is said of eigenvalues."""

import math

import pytest
import torch

from sklearn_gflow.geometry import FactorizationError
from sklearn_gflow.geometry.functions import summarize


@pytest.mark.parametrize("values", [[math.nan, 1.0], [2.0, math.nan], [math.inf, 1.0]])
def test_eigenvalues_that_are_not_finite_have_no_rank(values):
    with pytest.raises(FactorizationError, match=r"^its eigenvalues are not finite$"):
        summarize(torch.tensor(values), 0.1)


def test_eigenvalues_that_are_zero_have_rank_zero():
    found = summarize(torch.zeros(3), 0.1)
    assert (found.rank, found.condition) == (0, math.inf)
