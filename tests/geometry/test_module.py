import pytest
import torch
from torch import nn

from sklearn_gflow.geometry import LayeredNetwork, ModuleFamily
from tests import oracles

SIZES = (3, 5, 2)


class Layered(nn.Module):
    """A network whose parameters come in the order of the flat θ: W (n_in, n_out), then b."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList()
        for n_in, n_out in zip(SIZES[:-1], SIZES[1:], strict=True):  # noqa: RUF007
            self.weights.append(nn.Parameter(torch.zeros(n_in, n_out, dtype=torch.float64)))
            self.weights.append(nn.Parameter(torch.zeros(n_out, dtype=torch.float64)))

    def forward(self, X):
        W, b, V, c = self.weights
        return torch.tanh(X @ W + b) @ V + c


@pytest.mark.slow
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 2**20])
def test_derivatives_are_those_of_the_layered_network(chunk_bytes):
    theta, X = oracles.problem(7, SIZES)
    family = ModuleFamily(Layered(), 2, chunk_bytes)
    assert family.n_params == len(theta)
    ours, theirs = (net.linearize(theta, X) for net in (family, LayeredNetwork(SIZES)))
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(len(theta), generator=generator, dtype=torch.float64)
    u = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    for name, arguments in [
        ("jacobian", ()), ("gram", ()), ("gram_diagonal", ()),
        ("shared_gram", ()), ("push", (v,)), ("pull", (u,)),
    ]:  # fmt: skip
        torch.testing.assert_close(
            getattr(ours, name)(*arguments),
            getattr(theirs, name)(*arguments),
            rtol=1e-11,
            atol=1e-12,
        )
    torch.testing.assert_close(ours.outputs, theirs.outputs)
    Y = X[:3] + 1
    blocks = (net.cross_gram(f.linearize(theta, Y))
              for net, f in ((ours, family), (theirs, LayeredNetwork(SIZES))))  # fmt: skip
    torch.testing.assert_close(*blocks, rtol=1e-11, atol=1e-12)


class TestModulesThatAreNoFamilies:
    X = oracles.problem(4, (3, 1))[1]

    def test_batch_statistics(self):
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        with pytest.raises(ValueError, match=r"batch-statistics layer '1' \(BatchNorm1d\).*Layer"):
            ModuleFamily(module, 1)

    def test_nothing_to_train(self):
        with pytest.raises(ValueError, match="no parameter that requires a gradient"):
            ModuleFamily(nn.Linear(3, 1).requires_grad_(False), 1)

    def test_other_shape(self):
        family = ModuleFamily(nn.Linear(3, 2).double(), 1)
        message = (
            r"module must map inputs of shape \(4, 3\) to outputs of shape \(4, 1\), got \(4, 2"
        )
        with pytest.raises(ValueError, match=message):
            family.check_rows(family.initial(), self.X)

    def test_rows_that_depend_on_each_other(self):
        class Centred(nn.Linear):
            def forward(self, X):
                return super().forward(X - X.mean(0))

        family = ModuleFamily(Centred(3, 1).double(), 1)
        with pytest.raises(ValueError, match="another output in company than alone"):
            family.check_rows(family.initial(), self.X)

    def test_honest_rows_pass(self):
        family = ModuleFamily(nn.Linear(3, 1).double(), 1)
        family.check_rows(family.initial(), self.X)
