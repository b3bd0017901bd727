"""The statements hold for any family of functions: modules of no layered structure."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_gflow.diagnostics import adapted_kernel
from sklearn_gflow.dynamics import Adaptive, Outcome, flow, output_field, parameter_field
from sklearn_gflow.geometry import CrossEntropy, ModuleFamily, OutputMap, SquaredError
from tests.theory.problems import (
    ADAPTED,
    adapted_flow,
    factor_at,
    normal,
    off_the_line,
    probabilities,
    relative,
)

pytestmark = pytest.mark.slow

ALPHAS = (0.0, 0.3, 1.0)


class Convolution(nn.Module):
    """A small convolutional network on sequences."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3, padding=1)
        self.last = nn.Linear(4 * 6, 2)

    def forward(self, X):
        a = torch.tanh(self.conv(X[:, None, :]))
        return self.last(a.flatten(1))


class Residual(nn.Module):
    """A residual block with layer normalisation."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.inner, self.last = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, X):
        a = self.first(X)
        a = a + nn.functional.silu(self.inner(self.norm(a)))
        return self.last(torch.tanh(a))


class Tied(nn.Module):
    """One matrix, used on the way up and on the way down."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(6, 10) / 6**0.5)
        self.b, self.last = nn.Parameter(torch.randn(10) / 2), nn.Linear(6, 2)

    def forward(self, X):
        return self.last(torch.tanh(torch.tanh(X @ self.W + self.b) @ self.W.T))


class Waves(nn.Module):
    """No network at all: Σ a_k sin(ω_k·x + φ_k)."""

    def __init__(self):
        super().__init__()
        self.omega = nn.Parameter(torch.randn(6, 8) / 2)
        self.phase, self.a = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8, 2) / 3)

    def forward(self, X):
        return torch.sin(X @ self.omega + self.phase) @ self.a


class Ratio(nn.Module):
    """Rational functions."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.randn(6, 5) / 2)
        self.q, self.a = nn.Parameter(torch.randn(6, 5) / 2), nn.Parameter(torch.randn(5, 2))

    def forward(self, X):
        return ((1 + X @ self.p) / (1 + (X @ self.q) ** 2)) @ self.a


FAMILIES = (Convolution, Residual, Tied, Waves, Ratio)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.__name__)
def pieces(request):
    with torch.random.fork_rng():
        torch.manual_seed(91)
        module = request.param().double()
    family = ModuleFamily(module, 2)
    X = normal(6, 6, seed=92)
    y = normal(6, 2, seed=93)
    theta = family.initial()
    # A third of the way to random labels: a start from which the rank is kept.
    y = torch.lerp(family.outputs(theta, X), y, 1 / 3)
    return OutputMap(family, X), SquaredError(y.reshape(-1), 6.0), theta


def backward(family, theta, X):
    """D by one backward pass an output, through the module as it stands."""
    named = {name: p for name, p in family.module.named_parameters() if name in family.shapes}
    with torch.no_grad():
        for (name, p), value in zip(named.items(), family.parameters(theta).values(), strict=True):
            assert name in family.shapes
            p.copy_(value)
    outputs = family.module(X).reshape(-1)
    rows = [
        torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(x, named.values(), retain_graph=True)]
        )
        for x in outputs
    ]
    return torch.stack(rows).numpy()


def test_jacobian(pieces, measured):
    output_map, _, theta = pieces
    tangent = output_map.linearize(theta)
    D = backward(output_map.family, theta, output_map.X)
    measured("D against a backward pass an output", relative(tangent.jacobian(), D), at_most=1e-12)
    measured("DDᵀ", relative(tangent.gram(), D @ D.T), at_most=1e-12)
    v, u = normal(D.shape[1], seed=94), normal(D.shape[0], seed=95)
    measured("D·v", relative(tangent.push(v), D @ v.numpy()), at_most=1e-12)
    measured("Dᵀ·u", relative(tangent.pull(u), D.T @ u.numpy()), at_most=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_theorem_2_3(pieces, alpha, measured):
    output_map, cost, theta = pieces
    D = backward(output_map.family, theta, output_map.X)
    tangent = output_map.linearize(theta)
    factor = factor_at(tangent, solver="eigh")
    for C in (cost, CrossEntropy(probabilities(6, 2, seed=96))):
        V_theta = parameter_field(tangent, factor, C, alpha).numpy()
        V_x = output_field(tangent, factor, C, alpha).numpy()
        measured("|D·V_θ,α − V_x,α|/|V_x,α|", relative(D @ V_theta, V_x), at_most=1e-10)
        gradient = C.gradient(tangent.outputs).numpy()
        expected = -alpha * gradient - (1 - alpha) * D @ (D.T @ gradient)
        measured("V_x,α against (2.41)", relative(V_x, expected), at_most=1e-9)


def test_proposition_2_4(pieces, measured):
    output_map, cost, theta = pieces
    path = adapted_flow(output_map, cost, theta, [0.25, 0.5, 0.75, 0.95])
    assert set(path.rank) == {12.0}
    gap = off_the_line(path, cost.targets.numpy())
    measured("distance from the line, of |y − x₀|", gap, at_most=1e-7)


def test_kernel_3_17(pieces, measured):
    output_map, _, theta = pieces
    tangent = output_map.linearize(theta)
    K = adapted_kernel(factor_at(tangent, solver="eigh"), tangent, 1.0)
    measured("K against δᵢⱼ1", np.abs(K.numpy() - np.eye(12)).max(), at_most=1e-9)


def test_zero_loss_by_exponential_steps(pieces, measured):
    path = flow(*pieces, Adaptive(np.inf), ADAPTED)
    assert path.outcome in (Outcome.CONVERGED, Outcome.STALLED)
    measured("C(1)/C(0)", path.loss[-1] / path.loss[0], at_most=1e-20)


def test_chunks_change_nothing(measured):
    """The memory bound on Jacobian rows is no part of the result."""
    with torch.random.fork_rng():
        torch.manual_seed(91)
        module = Residual().double()
    whole, chunked = ModuleFamily(module, 2), ModuleFamily(module, 2, chunk_bytes=1)
    X, theta = normal(7, 6, seed=97), whole.initial()
    others = normal(4, 6, seed=98)
    for name, of in (
        ("gram", lambda family: family.linearize(theta, X).gram()),
        ("jacobian", lambda family: family.linearize(theta, X).jacobian()),
        ("cross_gram", lambda family: family.linearize(theta, X).cross_gram(
            family.linearize(theta, others))),
    ):  # fmt: skip
        measured(f"{name} in chunks", relative(of(chunked), of(whole)), at_most=1e-13)


def test_batch_statistics_are_no_family():
    """(2.1) is f_θ(x) of one input: a layer that looks at the batch is refused, with the reason."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    with pytest.raises(ValueError, match=r"batch-statistics layer '1' \(BatchNorm1d\)"):
        ModuleFamily(module, 1)
