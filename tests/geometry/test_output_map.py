import pytest
import torch

from sklearn_gflow.geometry import LayeredNetwork, OutputMap
from tests import oracles

SIZES = (3, 4, 2)


@pytest.fixture
def weighted():
    theta, X = oracles.problem(5, SIZES)
    generator = torch.Generator().manual_seed(7)
    offset = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1], dtype=torch.float64)
    D = oracles.jacobian(theta, X, SIZES, "tanh")
    root = torch.repeat_interleave(weights, 2) ** 0.5
    return OutputMap(LayeredNetwork(SIZES), X, offset, weights), theta, root[:, None] * D


def test_outputs_are_sample_major_minus_offset_times_root_weights(weighted):
    output_map, theta, _ = weighted
    f = oracles.forward(theta, output_map.X, SIZES, "tanh")
    expected = (output_map.weights[:, None] ** 0.5 * (f - output_map.offset)).reshape(-1)
    torch.testing.assert_close(output_map.outputs(theta), expected)
    torch.testing.assert_close(output_map.linearize(theta).outputs, expected)
    assert output_map.outputs(theta)[1] == pytest.approx(
        float(output_map.weights[0] ** 0.5 * (f - output_map.offset)[0, 1])
    )


def test_derivatives_are_those_of_the_weighted_jacobian(weighted):
    output_map, theta, D = weighted
    tangent = output_map.linearize(theta)
    generator = torch.Generator().manual_seed(2)
    v = torch.randn(len(theta), generator=generator, dtype=torch.float64)
    u = torch.randn(10, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(tangent.jacobian(), D, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tangent.gram(), D @ D.mT, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tangent.push(v), D @ v, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tangent.pull(u), D.mT @ u, rtol=1e-12, atol=1e-13)
    assert tangent.trace() == pytest.approx(float((D**2).sum()), rel=1e-12)
    assert tangent.n_params == len(theta)


def test_gram_is_root_weights_times_gram_times_root_weights(weighted):
    output_map, theta, _ = weighted
    plain = OutputMap(output_map.family, output_map.X).linearize(theta)
    root = torch.repeat_interleave(output_map.weights, 2) ** 0.5
    expected = root[:, None] * plain.gram() * root
    torch.testing.assert_close(output_map.linearize(theta).gram(), expected)
    assert plain.trace() == pytest.approx(float(plain.gram().trace()))


def test_unscale_inverts_scale(weighted):
    output_map, _, _ = weighted
    values = torch.arange(10, dtype=torch.float64).reshape(5, 2)
    torch.testing.assert_close(output_map.unweigh(output_map.weigh(values)), values)
    assert output_map.weigh(values)[3] == pytest.approx(3 * 2**0.5)


def test_no_weights_are_weights_of_one(weighted):
    output_map, theta, _ = weighted
    none = OutputMap(output_map.family, output_map.X, output_map.offset)
    ones = OutputMap(output_map.family, output_map.X, output_map.offset, torch.ones(5).double())
    assert torch.equal(none.outputs(theta), ones.outputs(theta))
    assert torch.equal(none.linearize(theta).gram(), ones.linearize(theta).gram())
    assert torch.equal(none.unweigh(none.outputs(theta)), ones.unweigh(ones.outputs(theta)))
    assert none.total_weight == ones.total_weight == 5


def test_a_weight_of_two_has_the_metric_of_two_copies():
    theta, X = oracles.problem(4, SIZES)
    weights = torch.tensor([1.0, 2, 1, 1], dtype=torch.float64)
    heavy = OutputMap(LayeredNetwork(SIZES), X, None, weights)
    copied = OutputMap(LayeredNetwork(SIZES), torch.cat([X, X[1:2]]))
    D, C = heavy.linearize(theta).jacobian(), copied.linearize(theta).jacobian()
    torch.testing.assert_close(D.mT @ D, C.mT @ C)
    assert heavy.total_weight == copied.total_weight == 5
    assert heavy.size == 8
    assert copied.size == 10


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_weight_that_is_not_positive(bad):
    _, X = oracles.problem(3, SIZES)
    weights = torch.tensor([1.0, bad, 1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="weights must be positive; drop the rows"):
        OutputMap(LayeredNetwork(SIZES), X, weights=weights)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2, 0.5, 3, 1, 2]).double()])
def test_a_gram_formed_ahead_serves_products_and_is_handed_over_once(weights):
    theta, X = oracles.problem(6, SIZES)
    tangent = OutputMap(LayeredNetwork(SIZES), X, weights=weights).linearize(theta)
    u = torch.randn(len(tangent.outputs), 3, generator=torch.Generator().manual_seed(0)).double()
    by_passes = tangent.gram_times(u)
    tangent.hold_gram()
    by_gram = tangent.gram_times(u)
    torch.testing.assert_close(by_gram, by_passes, rtol=1e-12, atol=1e-12)
    held = tangent.gram()
    torch.testing.assert_close(held @ u, by_gram)
    held.zero_()  # as a factorisation does
    torch.testing.assert_close(tangent.gram() @ u, by_passes, rtol=1e-12, atol=1e-12)
