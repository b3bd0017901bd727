import pytest
import torch

from sklearn_gflow.geometry import ACTIVATIONS, LayeredNetwork, layered
from tests import oracles

SIZES = {
    (depth, Q): (3, *(5, 4, 6)[:depth], Q) for depth in range(4) for Q in (1, 3)
}  # depth = hidden layers


def _relative(actual, expected):
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.fixture
def narrow_panels(monkeypatch):
    """Panels of 7 // Q samples: the 11 samples of the tests cross several of them."""
    monkeypatch.setattr(layered, "_PANEL_ROWS", 7)


@pytest.mark.usefixtures("narrow_panels")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("depth", "Q"), SIZES)
class TestAgainstDenseJacobian:
    @pytest.fixture(autouse=True)
    def _problem(self, activation, depth, Q):
        self.sizes, self.activation = SIZES[depth, Q], activation
        self.theta, self.X = oracles.problem(11, self.sizes)
        self.D = oracles.jacobian(self.theta, self.X, self.sizes, activation)
        self.network = LayeredNetwork(self.sizes, activation)
        self.tangent = self.network.linearize(self.theta, self.X)
        self.generator = torch.Generator().manual_seed(1)

    def _normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def test_outputs(self):
        expected = oracles.forward(self.theta, self.X, self.sizes, self.activation)
        assert _relative(self.tangent.outputs, expected) < 1e-14
        assert _relative(self.network.outputs(self.theta, self.X), expected) < 1e-14

    def test_gram(self):
        gram = self.tangent.gram()
        assert _relative(gram, self.D @ self.D.mT) < 1e-12
        assert _relative(gram.mT, gram) < 1e-14

    def test_gram_diagonal(self):
        assert _relative(self.tangent.gram_diagonal(), (self.D**2).sum(1)) < 1e-12

    def test_shared_gram(self):
        blocks = self.D.view(11, self.sizes[-1], -1)
        expected = torch.einsum("iqk,jqk->ij", blocks, blocks) / self.sizes[-1]
        assert _relative(self.tangent.shared_gram(), expected) < 1e-12

    def test_jacobian(self):
        assert _relative(self.tangent.jacobian(), self.D) < 1e-12

    def test_cross_gram(self):
        Y = self._normal(9, 3)
        other = oracles.jacobian(self.theta, Y, self.sizes, self.activation)
        kernel = self.tangent.cross_gram(self.network.linearize(self.theta, Y))
        assert kernel.shape == (11 * self.sizes[-1], 9 * self.sizes[-1])
        assert _relative(kernel, self.D @ other.mT) < 1e-12

    def test_push_and_pull(self):
        v, u = self._normal(len(self.theta)), self._normal(11, self.sizes[-1])
        assert _relative(self.tangent.push(v).reshape(-1), self.D @ v) < 1e-12
        assert _relative(self.tangent.pull(u), self.D.mT @ u.reshape(-1)) < 1e-12

    def test_pull_is_the_adjoint_of_push(self):
        v, u = self._normal(len(self.theta)), self._normal(11, self.sizes[-1])
        left, right = (self.tangent.push(v) * u).sum(), v @ self.tangent.pull(u)
        assert abs(left - right) < 1e-13 * v.norm() * u.norm() * self.D.norm()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slope_is_the_derivative_of_the_value(activation):
    # ±30 and ±800 are where a naive formula overflows.
    z = torch.tensor([-800, -30, -3, -0.7, 0.2, 1, 4, 30, 800], dtype=torch.float64)
    value, slope, overwrite = ACTIVATIONS[activation]
    expected = torch.func.vmap(torch.func.grad(value))(z)
    torch.testing.assert_close(slope(z, value(z)), expected, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(value(z), oracles.ACTIVATIONS[activation](z), rtol=1e-15, atol=0)
    if overwrite is not None:
        expected = value(z)
        assert overwrite(z) is z
        torch.testing.assert_close(z, expected, rtol=0, atol=0)


def test_gram_in_one_panel_is_the_gram_in_many(monkeypatch):
    theta, X = oracles.problem(11, (3, 5, 3))
    tangent = LayeredNetwork((3, 5, 3)).linearize(theta, X)
    whole = tangent.gram()
    monkeypatch.setattr(layered, "_PANEL_ROWS", 1)  # fewer rows than one sample has outputs
    assert _relative(tangent.gram(), whole) < 1e-14


class TestManyOutputs:
    """More outputs than go through the layers one by one."""

    def _kernels(self, sizes):
        theta, X = oracles.problem(11, sizes)
        blocks = oracles.jacobian(theta, X, sizes, "tanh").view(11, sizes[-1], -1)
        exact = torch.einsum("iqk,jqk->ij", blocks, blocks) / sizes[-1]
        return LayeredNetwork(sizes).linearize(theta, X).shared_gram(), exact

    def test_one_hidden_layer_is_exact(self):
        shared, exact = self._kernels((3, 5, 12))
        assert _relative(shared, exact) < 1e-12

    @pytest.mark.slow
    def test_random_signs_are_unbiased(self, monkeypatch):
        draws, generator = [], torch.Generator().manual_seed(0)

        def signs(n_outputs, dtype, device):
            bits = torch.randint(0, 2, (n_outputs, 8), generator=generator)
            return (2 * bits - 1).to(device, dtype) / 8**0.5

        monkeypatch.setattr(layered, "_signs", signs)
        for _ in range(400):
            shared, exact = self._kernels((3, 5, 4, 12))
            draws.append(shared)
        assert _relative(draws[0], exact) > 1e-3
        assert _relative(torch.stack(draws).mean(0), exact) < 0.02

    def test_same_signs_at_each_call(self):
        first, second = (self._kernels((3, 5, 4, 12))[0] for _ in range(2))
        assert torch.equal(first, second)
        assert float(torch.linalg.eigvalsh(first)[0]) > -1e-12

    def test_signs_are_drawn_once(self, monkeypatch):
        self._kernels((3, 5, 4, 12))
        monkeypatch.setattr(torch, "randint", None)  # another draw would fail
        self._kernels((3, 5, 4, 12))


def test_kernel_of_a_linear_model_is_the_inner_product_plus_one():
    theta, X = oracles.problem(6, (3, 1))
    gram = LayeredNetwork((3, 1)).linearize(theta, X).gram()
    torch.testing.assert_close(gram, X @ X.mT + 1, rtol=1e-14, atol=1e-14)


def test_two_panels_of_512_rows():
    theta, X = oracles.problem(520, (2, 3, 1))
    D = oracles.jacobian(theta, X, (2, 3, 1), "tanh")
    assert _relative(LayeredNetwork((2, 3, 1)).linearize(theta, X).gram(), D @ D.mT) < 1e-12


def test_float32_stays_float32():
    theta, X = oracles.problem(5, (3, 4, 2), dtype=torch.float32)
    tangent = LayeredNetwork((3, 4, 2)).linearize(theta, X)
    for tensor in (tangent.outputs, tangent.gram(), tangent.jacobian(), tangent.gram_diagonal()):
        assert tensor.dtype == torch.float32
    D = oracles.jacobian(theta.double(), X.double(), (3, 4, 2), "tanh")
    assert _relative(tangent.gram().double(), D @ D.mT) < 1e-5


class TestInitial:
    network = LayeredNetwork((50, 80, 70, 2))

    def _layers(self, **options):
        theta = self.network.initial(torch.Generator().manual_seed(0), **options)
        assert theta.shape == (oracles.parameter_count((50, 80, 70, 2)),)
        assert theta.dtype == torch.float64
        return oracles.split(theta, self.network.sizes)

    def test_weights_have_variance_one_over_fan_in(self):
        for W, _ in self._layers()[:-1]:
            assert W.std() * len(W) ** 0.5 == pytest.approx(1, rel=0.05)

    def test_biases(self):
        (_, first), (_, second), (_, last) = self._layers(bias_scale=0.5)
        assert torch.cat([first, second]).std() == pytest.approx(0.5, rel=0.2)
        assert not last.any()

    def test_input_scale_is_a_factor_of_the_first_weights(self):
        plain, scaled = self._layers(), self._layers(input_scale=0.25)
        assert torch.equal(scaled[0][0], 0.25 * plain[0][0])
        assert torch.equal(scaled[0][1], plain[0][1])
        for before, after in zip(plain[1:], scaled[1:], strict=True):
            assert all(map(torch.equal, before, after))

    def test_generator_alone_decides(self):
        state = torch.get_rng_state()
        draws = [self.network.initial(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
        assert torch.equal(state, torch.get_rng_state())


def test_layers_are_views():
    theta, _ = oracles.problem(1, (3, 4, 2))
    layers = list(LayeredNetwork((3, 4, 2)).layers(theta))
    for (W, b), (V, c) in zip(layers, oracles.split(theta, (3, 4, 2)), strict=True):
        assert torch.equal(W, V)
        assert torch.equal(b, c)
    layers[0][0][0, 0] = 7
    assert theta[0] == 7


def test_attributes():
    network = LayeredNetwork([3, 4, 2], "relu")
    assert (network.n_features, network.n_outputs, network.n_params) == (3, 2, 26)
    assert network.linearize(*oracles.problem(1, (3, 4, 2))).n_params == 26
