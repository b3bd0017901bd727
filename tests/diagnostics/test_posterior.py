import dataclasses
import math

import numpy as np
import pytest
import torch

from sklearn_gflow.diagnostics import OutputPosterior, TangentPosterior
from sklearn_gflow.geometry import FactorizationError, LayeredNetwork
from tests import oracles

RNG = np.random.default_rng(0)
SIZES = (2, 30, 2)


def kernel_of(n, m, *, rank=40, condition=30.0):
    """A kernel on n training and m other points: Θ, cross, diagonal."""
    D = oracles.matrix(n + m, 60, min(rank, n + m), condition=condition).numpy()
    gram = D @ D.T
    return gram[:n, :n], gram[:n, n:], np.diag(gram)[n:].copy()


def posterior(kernel, y, weights=None):
    w = None if weights is None else torch.from_numpy(weights)
    return OutputPosterior.by_leave_one_out(torch.from_numpy(kernel), torch.from_numpy(y), w)


@pytest.mark.parametrize("rank", [40, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_dense_process(weighted, rank):
    kernel, cross, diagonal = kernel_of(15, 4, rank=rank)
    y = RNG.normal(size=15)
    weights = RNG.uniform(0.2, 3, 15) if weighted else np.ones(15)
    found = posterior(kernel, y, weights)
    mean, variance = oracles.gaussian_process(
        kernel, y, weights / weights.mean(), cross, diagonal,
        amplitude=found.amplitude, noise=found.noise,
    )  # fmt: skip
    k = torch.from_numpy(cross)
    np.testing.assert_allclose(found.mean(k), mean, rtol=1e-8)
    np.testing.assert_allclose(found.variance(k, torch.from_numpy(diagonal)), variance, rtol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_makes_rows_left_out_the_most_probable(weighted):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 2))
    kernel = np.exp(-((X[:, None] - X) ** 2).sum(axis=2) / 2)
    y = 3 * np.sin(X[:, 0]) + 0.5 * rng.normal(size=30)
    weights = rng.uniform(0.2, 3, 30) if weighted else np.ones(30)
    weights /= weights.mean()
    found = posterior(kernel, y, weights)
    ratio = found.noise / found.amplitude
    best, amplitude = oracles.left_out_density(kernel, y, weights, ratio)
    assert found.amplitude == pytest.approx(amplitude, rel=1e-8)
    for factor in (0.01, 0.5, 2, 100):
        assert oracles.left_out_density(kernel, y, weights, factor * ratio)[0] < best


def test_finds_the_noise_that_was_put_in():
    X = np.linspace(-3, 3, 300)[:, None]
    kernel = np.exp(-((X - X.T) ** 2) / 2)
    for noise in (0.01, 0.3):
        y = 2 * np.sin(2 * X[:, 0]) + np.sqrt(noise) * RNG.normal(size=300)
        assert posterior(kernel, y).noise == pytest.approx(noise, rel=0.3)


def test_only_ratios_of_weights_count():
    kernel, cross, diagonal = (torch.from_numpy(a) for a in kernel_of(12, 3))
    y, w = torch.from_numpy(RNG.normal(size=12)), torch.linspace(1, 3, 12).double()
    one, other = (OutputPosterior.by_leave_one_out(kernel, y, c * w) for c in (1.0, 1e-4))
    np.testing.assert_allclose(
        one.variance(cross, diagonal), other.variance(cross, diagonal), rtol=1e-8
    )


def test_nothing_to_explain():
    kernel, cross, diagonal = (torch.from_numpy(a) for a in kernel_of(8, 3))
    for found in (
        OutputPosterior.by_leave_one_out(kernel, torch.zeros(8).double()),
        OutputPosterior.by_leave_one_out(kernel, torch.zeros(8).double()).standing_for(
            20, torch.zeros(8)
        ),
    ):
        assert not found.mean(cross).any()
        assert not found.variance(cross, diagonal).any()


def test_nothing_to_explain_it_with():
    y = torch.from_numpy(RNG.normal(size=9))
    found = OutputPosterior.by_leave_one_out(torch.zeros(9, 9).double(), y)
    variance = found.variance(torch.zeros(9, 2).double(), torch.zeros(2).double())
    np.testing.assert_allclose(variance, float(y.square().mean()))


class TestSample:
    """Ten rows that stand for 40."""

    kernel, cross, diagonal = kernel_of(10, 4)
    y = RNG.normal(size=10)
    weights = RNG.uniform(0.5, 2, 10)
    residual = 0.1 * RNG.normal(size=10)

    def sample(self):
        part = posterior(self.kernel, self.y, self.weights)
        return part, part.standing_for(40, torch.from_numpy(self.residual))

    def test_variance_is_that_of_four_copies_of_each(self):
        part, whole = self.sample()
        _, variance = oracles.gaussian_process(
            self.kernel, self.y, 4 * self.weights / self.weights.mean(), self.cross, self.diagonal,
            amplitude=part.amplitude, noise=whole.noise,
        )  # fmt: skip
        found = whole.variance(torch.from_numpy(self.cross), torch.from_numpy(self.diagonal))
        np.testing.assert_allclose(found, variance, rtol=1e-8)

    def test_noise_is_that_of_the_residuals_by_degrees_of_freedom(self):
        part, whole = self.sample()
        w = 4 * np.diag(self.weights / self.weights.mean())
        smoother = np.linalg.solve(
            part.amplitude * self.kernel @ w + whole.noise * np.eye(10),
            part.amplitude * self.kernel @ w,
        )
        mean_square = np.average(self.residual**2, weights=self.weights)
        assert whole.noise * (1 - np.trace(smoother) / 40) == pytest.approx(mean_square)

    def test_residuals_of_zero_leave_no_noise(self):
        part, _ = self.sample()
        assert part.standing_for(40, torch.zeros(10)).noise == 0


class TestNetwork:
    theta, X = oracles.problem(24, SIZES)
    y = torch.from_numpy(RNG.normal(size=(18, 2))) * torch.tensor([1.0, 10.0])
    weights = torch.linspace(0.5, 1.5, 18).double()

    def linearized(self, rows):
        return LayeredNetwork(SIZES).linearize(self.theta, self.X[rows])

    def posterior(self):
        rows = self.linearized(slice(18))
        return TangentPosterior.by_leave_one_out(rows, self.y, self.weights)

    def test_each_output_has_its_own_kernel(self):
        found = self.posterior()
        mean, variance = found.predict(self.linearized(slice(18, None)))
        D = oracles.jacobian(self.theta, self.X, SIZES, "tanh").reshape(24, 2, -1).numpy()
        for q, output in enumerate(found.outputs):
            gram = D[:, q] @ D[:, q].T
            expected = oracles.gaussian_process(
                gram[:18, :18], self.y[:, q].numpy(), self.weights.numpy(), gram[:18, 18:],
                np.diag(gram)[18:], amplitude=output.amplitude, noise=output.noise,
            )  # fmt: skip
            np.testing.assert_allclose(mean[:, q], expected[0], rtol=1e-7)
            np.testing.assert_allclose(variance[:, q], expected[1], rtol=1e-7)

    def test_square_error_adds_the_distance_from_the_mean(self):
        found, other = self.posterior(), self.linearized(slice(18, None))
        mean, variance = found.predict(other)
        at_the_mean = found.square_error(other, mean)
        np.testing.assert_allclose(at_the_mean, variance)
        np.testing.assert_allclose(found.square_error(other, mean + 2), variance + 4)

    def test_sample_of_more(self):
        residual = torch.from_numpy(RNG.normal(size=(18, 2)))
        found = self.posterior()
        for q, output in enumerate(found.standing_for(100, residual).outputs):
            alone = found.outputs[q].standing_for(100, residual[:, q])
            assert dataclasses.asdict(output)["noise"] == alone.noise


class TestNotFinite:
    def broken(self, **fields):
        kernel, cross, diagonal = kernel_of(15, 4)
        found = dataclasses.replace(posterior(kernel, RNG.normal(size=15)), **fields)
        return found, torch.from_numpy(cross), torch.from_numpy(diagonal)

    @pytest.mark.parametrize("fields", [{"amplitude": math.nan}, {"noise": math.nan}])
    def test_amplitude_or_noise(self, fields):
        found, cross, diagonal = self.broken(**fields)
        assert found.mean(cross).isnan().all()
        assert found.variance(cross, diagonal).isnan().all()
        assert math.isnan(self.standing(amplitude=math.nan, residual=torch.ones(15)))

    def test_residual_of_a_sample(self):
        for value in (math.nan, math.inf):
            residual = torch.ones(15)
            residual[3] = value
            assert math.isnan(self.standing(residual=residual))
        assert math.isfinite(self.standing(residual=torch.ones(15)))

    def standing(self, *, residual, **fields):
        return self.broken(**fields)[0].standing_for(100, residual).noise

    def test_targets(self):
        kernel, cross, diagonal = kernel_of(15, 4)
        y = RNG.normal(size=15)
        y[2] = math.nan
        found = posterior(kernel, y)
        assert found.mean(torch.from_numpy(cross)).isnan().all()
        assert found.variance(torch.from_numpy(cross), torch.from_numpy(diagonal)).isnan().all()

    def test_kernel(self):
        kernel, _, _ = kernel_of(15, 4)
        kernel[3, 1] = kernel[1, 3] = math.nan
        with pytest.raises(FactorizationError, match=r"^eigh: "):
            posterior(kernel, RNG.normal(size=15))
