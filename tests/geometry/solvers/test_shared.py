"""One kernel for all outputs, where it is exact and how long its steps are."""

import math

import pytest
import torch

from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    GramFunction,
    LayeredNetwork,
    OutputMap,
    factorize,
)
from tests import oracles
from tests.geometry.problems import close, normal


class TestSharedKernel:
    """f(K̄) ⊗ 1_Q in place of f(G), with K̄ from a tangent of a network."""

    def _tangent(self, sizes, *, n=7, weights=None):
        theta, X = oracles.problem(n, sizes)
        family = LayeredNetwork(sizes)
        return OutputMap(family, X, family.outputs(theta, X), weights).linearize(theta)

    @pytest.mark.parametrize("ridge", [0.0, 0.3])
    def test_one_output_has_nothing_to_share(self, ridge):
        tangent, r = self._tangent((3, 9, 1)), normal(7)
        shared = factorize(tangent, r, solver="shared", ridge=ridge)
        plain = factorize(tangent, r, ridge=ridge)
        assert shared.solver == plain.solver
        for f in (PSEUDOINVERSE, GramFunction(0.3, torch.exp)):
            close(shared.lift(f, r), plain.lift(f, r), 1e-13)

    @pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2, 1, 3, 1, 2, 4]).double()])
    @pytest.mark.parametrize("ridge", [0.0, 0.3])
    @pytest.mark.parametrize("eigenvectors", [True, False])
    def test_is_exact_where_outputs_share_no_parameter(self, eigenvectors, ridge, weights):
        # A linear model has G = K̄ ⊗ 1, K̄ = ⟨x, x'⟩ + 1, of rank 7 < 9.
        tangent, r = self._tangent((8, 3), weights=weights), normal(21)
        shared = factorize(tangent, r, solver="shared", eigenvectors=eigenvectors, ridge=ridge)
        dense = factorize(tangent, r, solver="eigh", ridge=ridge)
        f = GramFunction(0.3, lambda lam: torch.exp(-lam))
        for g in (PSEUDOINVERSE, f):
            close(shared.lift(g, r), dense.lift(g, r))
            close(shared.apply(g, r), dense.apply(g, r))
        pair = torch.stack([r, normal(21, seed=1)], dim=1)
        close(shared.apply(f, pair), dense.apply(f, pair))
        close(shared.move(f, r)[1], dense.move(f, r)[1])
        if not ridge:
            close(shared.project(pair), dense.project(pair))
        assert math.isnan(shared.rank)
        assert shared.damped
        assert shared.solver.endswith("of the shared kernel")

    def test_rank_deficient_kernel(self):
        tangent, r = self._tangent((2, 3)), normal(21)  # K̄ has rank 3
        shared = factorize(tangent, r, solver="shared")
        assert shared.solver == "eigh of the shared kernel"
        close(shared.lift(PSEUDOINVERSE, r), oracles.pinv_solve(tangent.jacobian(), r), 1e-8)

    def test_length_is_that_of_a_conjugate_gradient_step(self):
        tangent, r = self._tangent((3, 30, 4)), normal(28)
        G, K = tangent.gram(), torch.kron(tangent.shared_gram, torch.eye(4).double())
        shared = factorize(tangent, r, solver="shared", ridge=0.2)
        identity = 0.2 * torch.eye(28).double()
        z = torch.linalg.solve(K + identity, r)
        expected = tangent.pull(z) * (r @ z) / (z @ (G + identity) @ z)
        close(shared.lift(PSEUDOINVERSE, r), expected)

    def test_nothing_to_lift(self):
        tangent, r = self._tangent((3, 30, 4)), torch.zeros(28).double()
        assert not factorize(tangent, r, solver="shared").lift(PSEUDOINVERSE, r).any()

    def test_trace_is_that_of_the_gram(self):
        tangent = self._tangent((3, 6, 5, 4))
        assert float(tangent.shared_gram.trace()) == pytest.approx(tangent.trace() / 4)

    def test_nan_is_not_taken_for_a_zero(self):
        tangent, r = self._tangent((3, 30, 4)), normal(28)
        factor = factorize(tangent, r, solver="shared", ridge=0.2)
        for value in (math.nan, math.inf):
            broken = r.clone()
            broken[3] = value
            assert factor.lift(PSEUDOINVERSE, broken).isnan().all()
        assert (
            factorize(tangent, r, solver="shared", ridge=math.nan)
            .lift(PSEUDOINVERSE, r)
            .isnan()
            .all()
        )
