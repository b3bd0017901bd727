"""What a family must answer, held over all of `FAMILIES` against torch.func."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.dynamics import Adaptive, FlowOptions, Outcome, flow
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError
from tests.families import FAMILIES, Ridges, example

N = 7


def normal(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FAMILIES)
class TestContract:
    @pytest.fixture(autouse=True)
    def _at_a_point(self, name):
        self.case = FAMILIES[name]
        self.family = self.case.family()
        start = self.family.initial(torch.Generator().manual_seed(0), input_scale=0.7)
        self.theta = start + 0.3 * normal(len(start), seed=5)
        self.X = normal(N, self.case.n_features, seed=2)
        self.Q, self.K = self.case.n_outputs, len(start)
        self.tangent = self.family.linearize(self.theta, self.X)
        self.D = self.jacobian(self.X)

    def jacobian(self, X):
        D = torch.func.jacrev(lambda theta: self.case.function(theta, X))(self.theta)
        return D.reshape(len(X) * self.Q, self.K)

    @pytest.mark.slow
    def test_sizes(self):
        assert (self.family.n_params, self.family.n_outputs) == (self.K, self.Q)
        assert self.tangent.n_params == self.K

    def test_start(self):
        start = self.family.initial(torch.Generator().manual_seed(4))
        again = self.family.initial(torch.Generator().manual_seed(4))
        assert start.shape == (self.family.n_params,)
        assert start.dtype == torch.float64
        assert torch.equal(start, again)
        assert start.isfinite().all()

    def test_outputs(self):
        expected = self.case.function(self.theta, self.X)
        assert_close(self.family.outputs(self.theta, self.X), expected)
        assert_close(self.tangent.outputs, expected)
        assert not self.family.outputs(self.theta, self.X).requires_grad

    def test_push(self):
        v = normal(self.K)
        assert_close(self.tangent.push(v).reshape(-1), self.D @ v)
        assert self.tangent.push(v).shape == (N, self.Q)

    def test_pull(self):
        u = normal(N, self.Q)
        assert_close(self.tangent.pull(u), self.D.mT @ u.reshape(-1))

    def test_pull_after_the_gram(self):
        # Sensitivities that the Gram leaves behind may serve a pull.
        u = normal(N, self.Q)
        self.tangent.gram()
        assert_close(self.tangent.pull(u), self.D.mT @ u.reshape(-1))

    def test_jacobian(self):
        assert_close(self.tangent.jacobian(), self.D)

    def test_gram(self):
        assert_close(self.tangent.gram(), self.D @ self.D.mT)

    def test_cross_gram(self):
        Y = normal(3, self.case.n_features, seed=3)
        other = self.family.linearize(self.theta, Y)
        assert_close(self.tangent.cross_gram(other), self.D @ self.jacobian(Y).mT)

    def test_shared_gram(self):
        blocks = self.D.view(N, self.Q, -1)
        expected = torch.einsum("iqk,jqk->ij", blocks, blocks) / self.Q
        assert_close(self.tangent.shared_gram(), expected)

    def test_gram_diagonal(self):
        assert_close(self.tangent.gram_diagonal(), self.D.square().sum(1))

    def test_take(self):
        for samples in (torch.tensor([4, 0, 2]), torch.tensor([3])):
            taken, D = self.tangent.take(samples), self.jacobian(self.X[samples])
            assert_close(taken.outputs, self.case.function(self.theta, self.X[samples]))
            assert_close(taken.gram(), D @ D.mT)
            assert_close(self.tangent.cross_gram(taken), self.D @ D.mT)
            assert_close(taken.push(normal(self.K)).reshape(-1), D @ normal(self.K))

    def test_what_is_handed_over_may_be_overwritten(self):
        self.tangent.gram().zero_()
        self.tangent.shared_gram().zero_()
        assert_close(self.tangent.gram(), self.D @ self.D.mT)

    def test_rows_pass_the_check(self):
        self.family.check_rows(self.theta, self.X)
        self.family.n_outputs = 9
        with pytest.raises(ValueError, match=r"outputs of shape \(7, 9\)"):
            self.family.check_rows(self.theta, self.X)

    def test_fitted_attributes_are_tensors_of_all_of_theta(self):
        def count(value):
            if isinstance(value, torch.Tensor):
                return value.numel()
            if isinstance(value, (list, dict)):
                return sum(map(count, value.values() if isinstance(value, dict) else value))
            return 0

        attributes = self.family.fitted_attributes(self.theta)
        if self.family.n_members == 1:  # a mean of networks shows the network that it is
            assert count(attributes) == self.K
        assert all(name.endswith("_") and not name.startswith("_") for name in attributes)

    def test_signature(self):
        assert self.family.signature == self.case.family().signature
        equal = [name for name in FAMILIES if FAMILIES[name].family().signature
                 == self.family.signature]  # fmt: skip
        assert len({type(FAMILIES[name].family()) for name in equal}) == 1

    def test_hidden_is_what_the_last_layer_makes_outputs_of(self):
        hidden = self.family.hidden(self.theta, self.X)
        if hidden is not None:
            activations, weights = hidden
            rest = self.tangent.outputs - activations @ weights
            torch.testing.assert_close(rest, rest[:1].expand_as(rest))  # the bias

    def test_state_restores_it(self):
        restored = self.case.family().restored(self.family.state())
        assert torch.equal(
            restored.outputs(self.theta, self.X), self.family.outputs(self.theta, self.X)
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    def test_flows(self, alpha):
        weights = torch.linspace(0.5, 2, N, dtype=torch.float64)
        output_map = OutputMap(self.family, self.X, weights=weights)
        targets = output_map.outputs(self.theta + 0.1 * normal(self.K, seed=8))  # in reach
        cost = SquaredError(targets, output_map.total_weight)
        path = flow(output_map, cost, self.theta, Adaptive(3.0, 1e-2), FlowOptions(alpha=alpha))
        assert path.outcome in (Outcome.REACHED_END, Outcome.CONVERGED)
        assert path.loss[-1] < 0.3 * path.loss[0]


def test_registry_has_a_family_of_each_kind():
    kinds = {type(case.family()).__name__ for case in FAMILIES.values()}
    assert kinds >= {"LayeredNetwork", "ModuleFamily", "ScaledInputs", "Ridges"}


def test_families_of_one_size_and_two_kinds_have_two_signatures():
    class Others(Ridges):
        pass

    assert Ridges(3, 2).signature == Ridges(3, 2).signature
    assert len({Ridges(3, 2).signature, Others(3, 2).signature, Ridges(2, 3).signature}) == 3


class TestExample:
    def test_signature_is_told_from_the_network_inside(self):
        build = example().ScaledInputs
        assert build((3, 5, 1)).signature != LayeredNetwork((3, 5, 1)).signature
        assert build((3, 5, 1)).signature != build((3, 6, 1)).signature

    def test_no_jacobian_of_the_network_is_formed(self, monkeypatch):
        def refused(self):
            raise AssertionError("the Jacobian was formed")

        family = example().ScaledInputs((3, 5, 4, 2))
        tangent = family.linearize(family.initial(torch.Generator()), normal(N, 3))
        monkeypatch.setattr(type(tangent.inner), "jacobian", refused)
        tangent.gram(), tangent.cross_gram(tangent), tangent.gram_diagonal()
        tangent.shared_gram(), tangent.push(normal(family.n_params)), tangent.pull(normal(N, 2))

    def test_goes_into_an_estimator(self):
        X, y, X_test, y_test = example().table(0)
        model = AdaptedFlowRegressor(module=example().ScaledInputs.build, random_state=0)
        model.fit(X, y)
        assert model.score(X_test, y_test) > 0.85
        assert model.input_scales_.shape == (10,)
        assert model.input_scales_[:3].min() > model.input_scales_[5:].max()

    def test_guide_quotes_it(self):
        root = Path(__file__).parents[2]
        section = (root / "docs" / "user_guide.md").read_text().split("## A family of your own")[1]
        quoted = section.split("```python\n")[1].split("```")[0].splitlines()
        code = {line.strip() for line in Path(example().__file__).read_text().splitlines()}
        assert len(quoted) > 20
        assert [line for line in quoted if line.strip() not in code and "..." not in line] == []


def test_user_family_in_an_estimator_survives_a_pickle():
    X, y = normal(40, 3).numpy(), np.sin(normal(40, 3).numpy()).sum(1)
    model = AdaptedFlowRegressor(module=Ridges, alpha=0.5, t_end=0.9, random_state=0).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert math.isfinite(model.loss_)
