"""Lemma 2.2 and appendix A: D⁺ and P as the package applies them, over shapes, ranks, dtypes."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sklearn_gflow.dynamics import parameter_field
from sklearn_gflow.geometry import PSEUDOINVERSE, SquaredError, factorize
from tests import oracles
from tests.theory.problems import normal

pytestmark = pytest.mark.slow

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
CONDITION = {torch.float64: 30.0, torch.float32: 5.0}


class Dense:
    """A tangent with a given D."""

    def __init__(self, D):
        self.D = D
        self.outputs = D.new_zeros(D.shape[0])
        self.n_samples, self.n_outputs, self.n_params = D.shape[0], 1, D.shape[1]

    def push(self, v):
        return self.D @ v

    def pull(self, u):
        return self.D.mT @ u

    def gram(self):
        return self.D @ self.D.mT

    def jacobian(self):
        return self.D


@dataclass
class Case:
    """A matrix A of known rank, and a back end."""

    A: torch.Tensor
    rank: int
    solver: str

    @property
    def tolerance(self):
        return TOLERANCE[self.A.dtype]

    def factor(self, A):
        probe = A.new_ones(len(A))
        return factorize(Dense(A), probe, solver=self.solver)

    def pinv(self, A):
        """A⁺, column by column through ``lift``."""
        factor = self.factor(A)
        identity = torch.eye(len(A), dtype=A.dtype)
        return torch.stack([factor.lift(PSEUDOINVERSE, e) for e in identity], dim=1)

    def projector(self, A):
        """The projector on ran A, through ``project`` of columns."""
        return self.factor(A).project(torch.eye(len(A), dtype=A.dtype))

    def gap(self, found, expected):
        """Largest difference, in units of the tolerance and of the largest entry."""
        assert found.shape == expected.shape
        assert found.dtype == self.A.dtype
        size = max(float(expected.abs().max()), 1e-3)
        return float((found - expected).abs().max()) / size / self.tolerance


@st.composite
def cases(draw):
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rank = draw(st.integers(0, min(rows, columns)))
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    solver = draw(st.sampled_from(["auto", "eigh", "svd"]))
    seed = draw(st.integers(0, 10**6))
    scale = 10.0 ** draw(st.integers(-3, 3))
    if rank:
        A = scale * oracles.matrix(rows, columns, rank, seed=seed, condition=CONDITION[dtype])
    else:
        A = torch.zeros(rows, columns, dtype=torch.float64)
    return Case(A.to(dtype), rank, solver)


def hold(name, gaps, measured):
    """Check a statement on drawn cases; keep the largest gap, in units of the tolerance."""
    worst = [0.0]

    @settings(
        max_examples=60, deadline=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(cases())
    def check(case):
        found = max(gaps(case))
        worst[0] = max(worst[0], found)
        assert found <= 1, f"{name}: {found * case.tolerance:.3g} on {case}"

    check()
    measured(f"{name}, in units of the tolerance", worst[0], at_most=1)


def penrose(case):
    """(A.1)–(A.4)."""
    A, X = case.A, case.pinv(case.A)
    yield case.gap(A @ X @ A, A)
    yield case.gap(X @ A @ X, X)
    yield case.gap((A @ X).mT, A @ X)
    yield case.gap((X @ A).mT, X @ A)


def against_numpy(case):
    """The unique matrix of definition A.1, by another hand."""
    expected = torch.linalg.pinv(case.A.double(), rtol=1e-3).to(case.A.dtype)
    yield case.gap(case.pinv(case.A), expected)


def involution(case):
    """(A.5): (A⁺)⁺ = A."""
    yield case.gap(case.pinv(case.pinv(case.A)), case.A)


def transpose(case):
    """(A.6): (Aᵀ)⁺ = (A⁺)ᵀ."""
    yield case.gap(case.pinv(case.A.mT), case.pinv(case.A).mT)


def gram(case):
    """(A.7): (AᵀA)⁺ = A⁺(Aᵀ)⁺; and with Aᵀ in place of A, as the text uses it."""
    A = case.A
    yield case.gap(case.pinv(A.mT @ A), case.pinv(A) @ case.pinv(A.mT))
    yield case.gap(case.pinv(A @ A.mT), case.pinv(A.mT) @ case.pinv(A))


def projector_on_the_range(case):
    """(A.8): AA⁺ = P on ran A, with P = P² = Pᵀ."""
    A, P = case.A, case.projector(case.A)
    yield case.gap(A @ case.pinv(A), P)
    yield case.gap(P @ P, P)
    yield case.gap(P.mT, P)
    yield case.gap(P @ A, A)
    yield abs(float(P.trace()) - case.rank) / len(A) / case.tolerance


def projector_on_the_corange(case):
    """(A.9): A⁺A = P on ran Aᵀ."""
    A = case.A
    yield case.gap(case.pinv(A) @ A, case.projector(A.mT))


def range_of_the_pseudoinverse(case):
    """(A.10): ran A⁺ = ran Aᵀ, by equal projectors."""
    yield case.gap(case.projector(case.pinv(case.A)), case.projector(case.A.mT))


def kernel_of_the_pseudoinverse(case):
    """(A.11): ker A⁺ = ker Aᵀ: the projectors on their complements, ran (A⁺)ᵀ and ran A."""
    yield case.gap(case.projector(case.pinv(case.A).mT), case.projector(case.A))


def useful_identity(case):
    """(A.12): A = AAᵀ(Aᵀ)⁺ = (Aᵀ)⁺AᵀA."""
    A, B = case.A, case.pinv(case.A.mT)
    yield case.gap(A @ A.mT @ B, A)
    yield case.gap(B @ A.mT @ A, A)


def lemma_a_2(case):
    """Lemma A.2: ker AᵀA = ker A⁺A, by (A.13) and (A.15) and the projectors on complements."""
    A, X = case.A, case.pinv(case.A)
    yield case.gap(A.mT @ A @ (X @ A), A.mT @ A)
    yield case.gap(case.projector(A.mT @ A), case.projector(X @ A))


def one_identity(case):
    """(DᵀD)⁺Dᵀ = D⁺ = Dᵀ(DDᵀ)⁺: the adapted flow and prescribed paths are the same lift."""
    D = case.A
    yield case.gap(case.pinv(D.mT @ D) @ D.mT, case.pinv(D))
    yield case.gap(D.mT @ case.pinv(D @ D.mT), case.pinv(D))


def lemma_2_2(case):
    """(2.21)–(2.26): ψ̃ = DD⁺(DDᵀ)⁺(Dᵀ)⁺∇θC solves (2.22), and −Dᵀψ̃ is the adapted field."""
    D = case.A
    tangent, factor = Dense(D), case.factor(D)
    cost = SquaredError(normal(len(D), seed=5).to(D.dtype), float(len(D)))
    gradient = cost.gradient(tangent.outputs)
    psi = D @ case.pinv(D) @ case.pinv(D @ D.mT) @ case.pinv(D.mT) @ (D.mT @ gradient)
    V = parameter_field(tangent, factor, cost, 1.0)
    yield case.gap(D @ (D.mT @ psi), factor.project(gradient))  # (2.22)
    yield case.gap(-D.mT @ psi, V)  # (2.26)
    yield case.gap(D @ V, -factor.project(gradient))  # (2.28)
    if case.rank == len(D):
        yield case.gap(D @ V, -gradient)  # (2.20)


STATEMENTS = {
    "(A.1)–(A.4) Penrose": penrose,
    "definition A.1 against torch.linalg.pinv": against_numpy,
    "(A.5)": involution,
    "(A.6)": transpose,
    "(A.7)": gram,
    "(A.8)": projector_on_the_range,
    "(A.9)": projector_on_the_corange,
    "(A.10)": range_of_the_pseudoinverse,
    "(A.11)": kernel_of_the_pseudoinverse,
    "(A.12)": useful_identity,
    "Lemma A.2": lemma_a_2,
    "(DᵀD)⁺Dᵀ = D⁺ = Dᵀ(DDᵀ)⁺": one_identity,
    "Lemma 2.2": lemma_2_2,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_identity(name, measured):
    hold(name, STATEMENTS[name], measured)


def test_left_and_right_projector_differ(measured):
    """A⁺A = AA⁺ is not true in general; Aᵀ = A suffices."""
    A = oracles.matrix(5, 5, 3, seed=1)
    case = Case(A, 3, "svd")
    apart = case.pinv(A) @ A - A @ case.pinv(A)
    measured("|A⁺A − AA⁺| of a general A", apart.norm(), at_least=0.5)
    S = Case(A @ A.mT, 3, "svd")
    measured(
        "|A⁺A − AA⁺| of a symmetric A",
        (S.pinv(S.A) @ S.A - S.A @ S.pinv(S.A)).norm(),
        at_most=1e-10,
    )
