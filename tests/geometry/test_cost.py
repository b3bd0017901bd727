"""What a cost must answer, held over all of `COSTS`; below, what single losses answer besides."""

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import torch

from sklearn_gflow.geometry import (
    CrossEntropy,
    Gamma,
    Huber,
    LogLoss,
    Poisson,
    Quantile,
    RowCost,
    SquaredError,
)
from tests.costs import COSTS, LogCosh, weights_of

N, Q = 4, 3
ENTROPIES = ("cross-entropy", "binary log-loss")  # whose least value is that of the targets


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def differences(function, x, h):
    """Central differences of a function of vectors, a row for each coordinate."""
    rows = []
    for k in range(len(x)):
        step = torch.zeros_like(x)
        step[k] = h
        rows.append((function(x + step) - function(x - step)) / (2 * h))
    return rows


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", COSTS)
class TestContract:
    @pytest.fixture(autouse=True)
    def _drawn(self, name, weighted):
        self.targets, self.weights = COSTS[name].draw(N, Q), weights_of(N, weighted)
        self.cost = COSTS[name].cost(self.targets, self.weights)
        self.points = [normal(N * Q, seed=seed) for seed in (1, 2, 3)]

    def test_total_weight(self):
        expected = N if self.weights is None else float(self.weights.sum())
        assert self.cost.total_weight == pytest.approx(expected, rel=1e-15)

    @pytest.mark.slow
    def test_gradient_is_the_derivative_of_the_value(self):
        for x in self.points:
            assert isinstance(self.cost.value(x), float)
            expected = torch.tensor(differences(self.cost.value, x, 1e-5), dtype=torch.float64)
            torch.testing.assert_close(self.cost.gradient(x), expected, rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(
                self.cost.residual(x), -self.cost.total_weight * self.cost.gradient(x)
            )

    def test_curvature_bounds_the_hessian(self):
        for x in self.points:
            hessian = torch.stack(differences(self.cost.gradient, x, 1e-5))
            largest = self.cost.total_weight * float(torch.linalg.eigvalsh(hessian)[-1])
            assert 0 < largest <= self.cost.curvature(x) * (1 + 1e-6)
            assert self.cost.curvature(x) <= 30 * largest

    def test_linear_is_true_of_the_slope_one_alone(self):
        here, there = self.points[:2]
        moved = self.cost.gradient(there) - self.cost.gradient(here)
        slope_one = torch.allclose(self.cost.total_weight * moved, there - here, rtol=1e-9)
        assert self.cost.linear is slope_one

    @pytest.mark.slow
    def test_minimizer_is_where_euclidean_flow_ends(self):
        def rate(_, x):
            return self.cost.residual(torch.from_numpy(x.copy())).numpy()

        x = self.points[0]
        path = scipy.integrate.solve_ivp(
            rate, (0, 2000), x.numpy(), method="LSODA", rtol=1e-10, atol=1e-12
        )
        best = self.cost.minimizer(x)
        torch.testing.assert_close(best, torch.from_numpy(path.y[:, -1]), rtol=1e-6, atol=1e-7)
        assert float(self.cost.gradient(best).abs().max()) < 1e-14
        assert self.cost.attained

    def test_least_is_the_value_there(self):
        for x in self.points:
            least, best = self.cost.least(x), self.cost.minimizer(x)
            assert least == pytest.approx(self.cost.value(best), rel=1e-14, abs=1e-28)
            assert least < self.cost.value(x)
            for direction in self.points:
                assert least <= self.cost.value(best + 1e-3 * direction)

    def test_distance_is_the_length_of_the_way(self):
        for x in self.points:
            way = self.cost.minimizer(x) - x
            longest = float(way.norm()) * (1 + 1e-12)
            assert self.cost.distance(x) <= longest
            near = self.cost.minimizer(x) - 0.1 * way
            assert self.cost.distance(near) == pytest.approx(0.1 * float(way.norm()), rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [name for name in COSTS if name not in ENTROPIES])
def test_least_value_is_zero_and_never_less(name, weighted):
    cost = COSTS[name].cost(COSTS[name].draw(N, Q), weights_of(N, weighted))
    best, direction = cost.minimizer(normal(N * Q, seed=1)), normal(N * Q, seed=2)
    assert 0 <= cost.value(best) < 1e-28
    for size in (1e-12, 1e-8, 1e-4, 1e-1):
        # A quadratic near the least: what cancels would show as zero, noise, or less than zero.
        value, half = (cost.value(best + s * direction) for s in (size, size / 2))
        assert value > 0
        assert value / half == pytest.approx(4, rel=max(3 * size, 1e-3))


@pytest.mark.parametrize("name", COSTS)
def test_weight_k_is_k_copies(name):
    index = [0, 1, 1, 2, 2, 2, 3]
    targets, root = COSTS[name].draw(N, Q), torch.tensor([1.0, 2, 3, 1]).double().sqrt()[:, None]
    heavy = COSTS[name].cost(targets, root[:, 0] ** 2)
    copied = COSTS[name].cost(targets[index], None)
    plain = normal(N, Q, seed=1)
    x, copies = (root * plain).reshape(-1), plain[index].reshape(-1)
    assert heavy.value(x) == pytest.approx(copied.value(copies), rel=1e-13)
    assert heavy.least(x) == pytest.approx(copied.least(copies), rel=1e-13, abs=1e-28)
    assert heavy.distance(x) == pytest.approx(copied.distance(copies), rel=1e-13)
    assert heavy.curvature(x) == pytest.approx(copied.curvature(copies), rel=1e-13)
    gradient = heavy.gradient(x).view(N, Q) / root  # of one copy
    torch.testing.assert_close(gradient[index].reshape(-1), copied.gradient(copies))
    best = heavy.minimizer(x).view(N, Q) / root
    torch.testing.assert_close(best[index].reshape(-1), copied.minimizer(copies))


def exact_quantile(q, s, x, y):
    q, s, r = mpmath.mpf(q), mpmath.mpf(s), mpmath.mpf(y) - mpmath.mpf(x)
    entropy = -q * mpmath.log(q) - (1 - q) * mpmath.log(1 - q)
    return q * r + s * mpmath.log1p(mpmath.exp(-r / s)) - s * entropy


def exact_poisson(x, y):
    x, y = mpmath.mpf(x), mpmath.mpf(y)
    return mpmath.exp(x) if y == 0 else mpmath.exp(x) - y - y * (x - mpmath.log(y))


def exact_gamma(x, y):
    x, y = mpmath.mpf(x), mpmath.mpf(y)
    return y * mpmath.exp(-x) - 1 - mpmath.log(y) + x


def exact_huber(delta, x, y):
    r = abs(mpmath.mpf(x) - mpmath.mpf(y))
    return r * r / 2 if r <= delta else delta * (r - mpmath.mpf(delta) / 2)


LOSSES = {  # and the exact value of one output
    "huber": (Huber(0.5), lambda x, y: exact_huber(0.5, x, y)),
    "quantile 0.3": (Quantile(0.3), lambda x, y: exact_quantile(0.3, 0.02, x, y)),
    "quantile 0.9": (Quantile(0.9, 0.5), lambda x, y: exact_quantile(0.9, 0.5, x, y)),
    "poisson": (Poisson(), exact_poisson),
    "gamma": (Gamma(), exact_gamma),
}


@pytest.mark.parametrize("name", LOSSES)
class TestAccuracy:
    # Powers of two: their logarithms and quotients are off by one rounding at most.
    @pytest.mark.parametrize("y", [1.0, 2.0, 64.0])
    def test_near_and_far_from_the_least(self, name, y):
        loss, exact = LOSSES[name]
        target = torch.tensor([[y]], dtype=torch.float64)
        best = loss.minimizer(target, target, 1e-300)
        with mpmath.workdps(60):
            for size in (1e-9, 1e-6, 1e-3, 0.1, 0.29, 0.31, 1.0, 5.0, 30.0):
                for x in (best + size, best - size):
                    expected = exact(float(x), y)
                    error = abs(loss.value(x, target).item() - expected) / expected
                    # The distance from the least is known up to a rounding of x.
                    assert error < 1e-14 + 40 * 2.3e-16 * float(best.abs()) / size

    @pytest.mark.parametrize("x", [-1e3, -700.0, 700.0, 1e3])
    def test_extreme_outputs(self, name, x):
        loss, exact = LOSSES[name]
        for y in (1e-3, 1.0, 1e5):
            at, target = (torch.tensor([[v]], dtype=torch.float64) for v in (x, y))
            with mpmath.workdps(60):
                value = float(exact(x, y))
            assert loss.value(at, target).item() == pytest.approx(value, rel=1e-12)
            for part in (loss.gradient(at, target), loss.curvature(at, target)):
                assert not part.isnan().any()


class TestPoisson:
    def test_zero_counts(self):
        y = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
        cost, x = RowCost(Poisson(), y), torch.tensor([-2.0, 1.0], dtype=torch.float64)
        expected = math.exp(-2) + (math.exp(1) - 3 - 3 * (1 - math.log(3)))
        assert cost.value(x) == pytest.approx(expected)
        assert cost.gradient(x).tolist() == pytest.approx([math.exp(-2), math.exp(1) - 3])
        assert not cost.attained
        assert cost.minimizer(x)[1] == pytest.approx(math.log(3))
        assert 0 <= cost.least(x) < 1e-15
        for extreme in (-1e3, 700.0):
            x = torch.tensor([extreme, 0.0], dtype=torch.float64)
            assert math.isfinite(cost.value(x))
            assert cost.gradient(x).isfinite().all()
        assert cost.value(torch.tensor([1e3, 0.0], dtype=torch.float64)) == math.inf

    def test_gradient_is_zero_at_the_least(self):
        y = torch.tensor([[1.0, 3.0, 7.0, 1e5]], dtype=torch.float64)
        cost = RowCost(Poisson(), y)
        assert not cost.gradient(y.log().reshape(-1)).any()


@pytest.mark.parametrize(("loss", "reach"), [(Huber(), 4.05), (Quantile(), 2.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_outliers_are_no_unit(loss, reach, weighted):
    """Of losses whose pull is bounded: one that is far counts as one at the bound."""
    y = torch.tensor([[1.0], [1e9]], dtype=torch.float64)
    weights = torch.tensor([1.0, 4.0], dtype=torch.float64) if weighted else None
    x = torch.zeros(2, dtype=torch.float64)
    expected = math.hypot(1, reach * (2 if weighted else 1))
    assert loss.reach == pytest.approx(reach)
    assert RowCost(loss, y, weights).distance(x) == pytest.approx(expected)
    assert LogCosh().reach == math.inf


class TestLeastAtInfinity:
    @pytest.mark.parametrize("log_mean", [2.0, 0.0, -4.0, math.log(0.01), -5.0, -9.0, -40.0])
    def test_poisson_stand_ins_lie_ahead(self, log_mean):
        cost = RowCost(Poisson(), torch.zeros(1, 1, dtype=torch.float64))
        x = torch.tensor([log_mean], dtype=torch.float64)
        assert float(cost.minimizer(x) - x) <= -1
        assert cost.distance(x) == pytest.approx(max(log_mean - math.log(0.01), 1))
        assert cost.least(x) < cost.value(x)

    @pytest.mark.parametrize("logit", [-1.0, 0.0, 4.0, math.log(99), 6.0, 30.0, 1e3])
    def test_certain_labels_stand_ahead(self, logit):
        cost = CrossEntropy(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        x = torch.tensor([logit / 2, -logit / 2], dtype=torch.float64)
        ahead = cost.minimizer(x) - x
        assert float(ahead[0]) > 0.49
        assert float(ahead.sum()) == pytest.approx(0, abs=1e-12)  # the mean logit stays
        assert cost.distance(x) > 0.7
        assert cost.least(x) <= cost.value(x)
        assert not cost.attained

    def test_small_targets_count_as_a_hundredth_in_the_unit_alone(self):
        y = torch.tensor([[1 - 1e-6, 1e-6]], dtype=torch.float64)
        cost, x = CrossEntropy(y), torch.zeros(2, dtype=torch.float64)
        assert cost.attained
        assert float(cost.minimizer(x).diff().exp()) == pytest.approx(1e-6, rel=1e-5)
        assert cost.distance(x) == pytest.approx(math.log((1 - 1e-6) / 0.01) / 2**0.5)


class TestLogLoss:
    @pytest.mark.parametrize("x", [-1e3, -700.0, 700.0, 1e3])
    @pytest.mark.parametrize("y", [[1.0, 0.0], [0.3, 0.7]])
    def test_extreme_logits(self, x, y):
        logits = torch.tensor([[x, 0.0]], dtype=torch.float64)
        targets = torch.tensor([y], dtype=torch.float64)
        # log(1 + e^x) − y₁x is max(x, 0) − y₁x to all digits.
        value = LogLoss().value(logits, targets).item()
        assert value == pytest.approx(max(x, 0.0) - y[0] * x, rel=1e-13, abs=1e-300)
        gradient = LogLoss().gradient(logits, targets)[0]
        assert gradient.tolist() == pytest.approx([(x > 0) - y[0], (x < 0) - y[1]])

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


class TestQuantile:
    def test_share_of_targets_below_the_minimum_is_the_level(self):
        y = torch.from_numpy(np.random.default_rng(0).normal(size=(2001, 1)))
        cost, x = RowCost(Quantile(0.8), y), torch.zeros(1).double()
        for _ in range(2000):  # the best constant
            x = x - 0.1 * cost.gradient(x.expand(2001)).sum()
        assert float((y < x).double().mean()) == pytest.approx(0.8, abs=2e-3)

    def test_narrow_is_the_pinball_loss(self):
        cost = RowCost(Quantile(0.3, 1e-6), torch.zeros(1, 1).double())
        for x in (-2.0, 0.5):
            value = cost.value(torch.tensor([x]).double())
            assert value == pytest.approx(max(0.3 * -x, -0.7 * -x), abs=1e-5)


class TestSquaredError:
    Y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    X = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)

    def test_value_is_half_the_mean_square(self):
        assert SquaredError(self.Y, 4.0).value(self.X) == pytest.approx((1 + 9 + 0) / 8)

    def test_gradient_is_the_derivative_of_the_value(self):
        expected = torch.func.grad(lambda x: ((self.Y - x) ** 2).sum() / 8)(self.X)
        torch.testing.assert_close(SquaredError(self.Y, 4.0).gradient(self.X), expected)

    def test_zero_at_the_targets(self):
        cost = SquaredError(self.Y, 3.0)
        assert cost.value(self.Y) == 0
        assert not cost.gradient(self.Y).any()

    def test_minimizer_is_the_target(self):
        cost = SquaredError(self.Y, 3.0)
        assert torch.equal(cost.minimizer(self.X), self.Y)
        assert cost.distance(self.X) == pytest.approx(float((self.Y - self.X).norm()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(0.0), "delta of Huber must be positive"),
        (lambda: Huber(float("nan")), "delta of Huber must be positive"),
        (lambda: Quantile(1.0), r"level of Quantile must be in \(0, 1\)"),
        (lambda: Quantile(0.5, -1.0), "width of Quantile must be positive"),
    ],
)
def test_losses_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
