import pytest
import torch

from sklearn_gflow.geometry import SquaredError

Y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
X = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)


def test_value_is_half_the_mean_square():
    assert SquaredError(Y, 4.0).value(X) == pytest.approx((1 + 9 + 0) / 8)
    assert isinstance(SquaredError(Y, 4.0).value(X), float)


def test_gradient_is_the_derivative_of_the_value():
    expected = torch.func.grad(lambda x: ((Y - x) ** 2).sum() / 8)(X)
    torch.testing.assert_close(SquaredError(Y, 4.0).gradient(X), expected)


def test_zero_at_the_targets():
    cost = SquaredError(Y, 3.0)
    assert cost.value(Y) == 0
    assert not cost.gradient(Y).any()
