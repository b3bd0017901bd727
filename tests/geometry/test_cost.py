import pytest
import torch

from sklearn_gflow.geometry import CrossEntropy, SquaredError

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


class TestCrossEntropy:
    P = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    LOGITS = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, 1.0]], dtype=torch.float64)

    @pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0]).double()])
    def test_value_and_gradient(self, weights):
        w = torch.ones(2).double() if weights is None else weights
        root = w.sqrt()[:, None]

        def value(x):
            logits = x.view(2, 3) / root
            return (w * -(self.P * torch.log_softmax(logits, 1)).sum(1)).sum() / w.sum()

        x = (root * self.LOGITS).reshape(-1)
        cost = CrossEntropy(self.P, weights)
        assert cost.total_weight == float(w.sum())
        assert cost.value(x) == pytest.approx(float(value(x)))
        torch.testing.assert_close(cost.gradient(x), torch.func.grad(value)(x))
        best = cost.minimizer(x)
        torch.testing.assert_close(cost.gradient(best), torch.zeros(6).double(), atol=1e-15, rtol=0)
        mean = (best.view(2, 3) / root).mean(1)
        torch.testing.assert_close(mean, self.LOGITS.mean(1))


def test_minimizer_of_the_squared_error_is_the_target():
    cost = SquaredError(Y, 3.0)
    assert torch.equal(cost.minimizer(X), Y)
    assert cost.distance(X) == pytest.approx(float((Y - X).norm()))
