"""The contract of output maps and tangents, over all of `tests.maps.MAPS`."""

import pytest
import torch

from sklearn_gflow.dynamics import Adaptive, FlowOptions, flow
from sklearn_gflow.geometry import SOLVERS, SquaredError
from tests import oracles
from tests.maps import MAPS, SIZES


@pytest.fixture(params=MAPS)
def case(request):
    """A map, θ, the tangent there, and W^½D by the oracle."""
    output_map, theta, whole = MAPS[request.param]()
    D = oracles.jacobian(theta, whole.X, SIZES, "tanh")
    if whole.weights is not None:
        D = torch.repeat_interleave(whole.weights.sqrt(), 2)[:, None] * D
    return output_map, theta, output_map.linearize(theta), D


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_facts(case):
    output_map, theta, tangent, D = case
    for one in (output_map, tangent):
        assert (one.n_samples, one.n_outputs, one.n_params) == (8, 2, D.shape[1])
        assert one.total_weight == pytest.approx(float(tangent.sample_weights.sum()))
    assert output_map.dtype == theta.dtype
    torch.testing.assert_close(tangent.outputs, output_map.outputs(theta))
    x = normal(16)
    plain = x.view(8, 2) / tangent.sample_weights.sqrt()[:, None]
    torch.testing.assert_close(output_map.unweigh(x), plain)
    torch.testing.assert_close(tangent.unweigh(x), plain)


def test_products(case):
    _, _, tangent, D = case
    v, u, columns = normal(D.shape[1]), normal(16, seed=1), normal(16, 3, seed=2)
    torch.testing.assert_close(tangent.push(v), D @ v)
    torch.testing.assert_close(tangent.pull(u), D.mT @ u)
    torch.testing.assert_close(tangent.gram_times(columns), D @ (D.mT @ columns))
    tangent.hold_gram()
    torch.testing.assert_close(tangent.gram_times(columns), D @ (D.mT @ columns))


def test_matrices(case):
    _, _, tangent, D = case
    G = D @ D.mT
    torch.testing.assert_close(tangent.jacobian(), D)
    torch.testing.assert_close(tangent.gram(), G)
    torch.testing.assert_close(tangent.gram_diagonal(), G.diagonal())
    assert tangent.trace() == pytest.approx(float(G.trace()))
    shared = (G.view(8, 2, 8, 2)[:, 0, :, 0] + G.view(8, 2, 8, 2)[:, 1, :, 1]) / 2
    torch.testing.assert_close(tangent.shared_gram, shared)
    samples = torch.tensor([5, 1])
    torch.testing.assert_close(tangent.columns(samples), G[:, [10, 11, 2, 3]])


@pytest.mark.slow
@pytest.mark.parametrize("solver", [name for name, s in SOLVERS.items() if s.exact])
@pytest.mark.parametrize("name", MAPS)
def test_flows_ask_for_nothing_else(name, solver):
    """The flow over any map is that over the rows as one table."""
    output_map, theta, whole = MAPS[name]()
    cost = SquaredError(normal(16, seed=5), whole.total_weight)
    options = FlowOptions(alpha=0.5, damping=0.1, solver=solver)
    found, expected = (
        flow(one, cost, theta, Adaptive(1.0), options).theta for one in (output_map, whole)
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
