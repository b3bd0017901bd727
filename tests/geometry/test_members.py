"""Means of networks: the block-diagonal network that they are, and their output maps."""

import pytest
import torch

from sklearn_gflow.geometry import LayeredNetwork, MeanFamily, OutputMap
from tests import oracles
from tests.families import Ridges

SIZES = {"two layers": (3, 5, 4, 2), "one layer": (3, 6, 1), "linear": (3, 2)}


def start(family, seed=0):
    return family.initial(torch.Generator().manual_seed(seed))


def rows(n=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
class TestLayers:
    def test_the_mean_is_a_network_with_these_layers(self, sizes):
        family, X = MeanFamily(LayeredNetwork(sizes), 3), rows()
        theta = start(family)
        shown = family.fitted_attributes(theta)
        a, last = X, len(shown["coefs_"]) - 1
        for depth, (W, b) in enumerate(zip(shown["coefs_"], shown["intercepts_"], strict=True)):
            a = a @ W + b
            a = a if depth == last else torch.tanh(a)
        torch.testing.assert_close(a, family.outputs(theta, X), rtol=1e-12, atol=1e-12)
        assert shown["n_layers_"] == len(sizes)

    def test_the_first_member_starts_as_a_network_alone(self, sizes):
        member = LayeredNetwork(sizes)
        theta = start(MeanFamily(member, 2))
        assert torch.equal(theta[: member.n_params], start(member))
        assert not torch.equal(theta[: member.n_params], theta[member.n_params :])


class TestMembersOfMaps:
    def members(self, *, weighted, of_each):
        family, X = MeanFamily(LayeredNetwork((3, 4, 2)), 3), rows()
        theta = start(family)
        first = start(family, 5)
        offset = family.offsets(first, X) if of_each else family.outputs(first, X)
        weights = torch.linspace(0.5, 2, len(X)).double() if weighted else None
        return OutputMap(family, X, offset, weights), theta, first

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("of_each", [False, True])
    def test_their_mean_is_the_map(self, weighted, of_each):
        output_map, theta, _ = self.members(weighted=weighted, of_each=of_each)
        tangent = output_map.linearize(theta)
        mean = torch.stack([one.outputs for _, one in tangent.members]).mean(0)
        torch.testing.assert_close(mean, tangent.outputs, rtol=1e-12, atol=1e-12)

    def test_each_starts_at_zero_with_an_offset_of_its_own(self):
        output_map, _, first = self.members(weighted=True, of_each=True)
        for _, one in output_map.linearize(first).members:
            assert not one.outputs.any()

    def test_a_member_is_that_network(self):
        output_map, theta, first = self.members(weighted=False, of_each=True)
        K = output_map.n_params // 3
        for k, (one, tangent) in enumerate(output_map.linearize(theta).members):
            own, own_first = (part[k * K : (k + 1) * K] for part in (theta, first))
            outputs = [
                oracles.forward(p, output_map.X, (3, 4, 2), "tanh") for p in (own, own_first)
            ]
            expected = (outputs[0] - outputs[1]).reshape(-1)
            torch.testing.assert_close(tangent.outputs, expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(one.outputs(own), expected, rtol=1e-12, atol=1e-12)

    def test_what_is_no_mean_has_no_members(self):
        network = LayeredNetwork((3, 4, 2))
        assert not OutputMap(network, rows()).linearize(start(network)).members


def test_any_family_has_a_mean():
    family = MeanFamily(Ridges(3, 2), 2)
    assert list(family.fitted_attributes(start(family))) == ["parameters_"]
    assert family.hidden(start(family), rows()) is None
    assert family.signature != MeanFamily(Ridges(3, 2), 3).signature
