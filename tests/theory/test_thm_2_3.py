"""Theorem 2.3: the family V_θ,α of (2.31), its image V_x,α (2.41), and their common zeros."""

import numpy as np
import pytest
import torch

from sklearn_gflow.dynamics import Adaptive, flow, output_field, parameter_field
from sklearn_gflow.geometry import SquaredError
from tests import oracles
from tests.theory.problems import ADAPTED, ALPHAS, RANKS, Problem, factor_at, normal, relative

SOLVERS = ("auto", "eigh", "svd")


def fields(problem, cost, alpha, solver="eigh"):
    tangent = problem.map.linearize(problem.theta)
    factor = factor_at(tangent, solver=solver)
    return (
        parameter_field(tangent, factor, cost, alpha).numpy(),
        output_field(tangent, factor, cost, alpha).numpy(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", ["cost", "cross_entropy"])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", RANKS)
def test_image_of_the_parameter_field_is_the_output_field(name, alpha, loss, solver, measured):
    problem, rank = RANKS[name]()
    cost = getattr(problem, loss)
    D = problem.D()
    assert len(oracles.thin_svd(D, 1e-8)[1]) == rank
    V_theta, V_x = fields(problem, cost, alpha, solver)
    measured("|D·V_θ,α − V_x,α|/|V_x,α|", relative(D @ V_theta, V_x), at_most=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", RANKS)
def test_fields_against_the_formulas_written_out(name, alpha, solver, measured):
    """(2.31)–(2.32) with a K×K matrix, (2.41) with a QN×QN one, both from the singular values."""
    problem, _ = RANKS[name]()
    D, N = problem.D(), len(problem.X)
    U, sigma, Vh = oracles.thin_svd(D, 1e-8)
    gradient = (problem.outputs() - problem.target) / N
    A = alpha * (Vh.T / sigma**2) @ Vh + (1 - alpha) * np.eye(D.shape[1])
    B = alpha * np.eye(len(D)) + (1 - alpha) * D @ D.T
    V_theta, V_x = fields(problem, problem.cost, alpha, solver)
    measured("V_θ,α against (2.31)", relative(V_theta, -A @ (D.T @ gradient)), at_most=1e-9)
    measured("V_x,α against (2.41)", relative(V_x, -B @ (U @ (U.T @ gradient))), at_most=1e-10)


@pytest.mark.parametrize("name", RANKS)
def test_ends_of_the_family(name, measured):
    """α = 0 is −∇θC (2.33), by automatic differentiation; α = 1 is Gauss–Newton's −D⁺∇ₓC (2.34)."""
    problem, _ = RANKS[name]()
    theta = problem.theta.clone().requires_grad_()
    x = oracles.forward(theta, problem.X, problem.sizes, problem.activation)
    C = ((x - problem.y) ** 2).sum() / (2 * len(problem.X))
    (gradient,) = torch.autograd.grad(C, theta)
    standard, _ = fields(problem, problem.cost, 0.0)
    measured("V_θ,0 against autograd", relative(standard, -gradient), at_most=1e-12)
    adapted, _ = fields(problem, problem.cost, 1.0)
    residual = (problem.target - problem.outputs()) / len(problem.X)
    expected = np.linalg.lstsq(problem.D(), residual, rcond=1e-8)[0]
    measured("V_θ,1 against least squares", relative(adapted, expected), at_most=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", RANKS)
def test_no_zero_is_gained_or_lost(name, alpha):
    """A_α is positive on ran Dᵀ, with eigenvalues α/σ² + 1 − α: |V_α| is of the order of |V_0|."""
    problem, _ = RANKS[name]()
    sigma = oracles.thin_svd(problem.D(), 1e-8)[1]
    V_0, V_alpha = (fields(problem, problem.cost, a)[0] for a in (0.0, alpha))
    ratio = np.linalg.norm(V_alpha) / np.linalg.norm(V_0)
    smallest, largest = (alpha / s**2 + 1 - alpha for s in (sigma[0], sigma[-1]))
    assert smallest * (1 - 1e-9) <= ratio <= largest * (1 + 1e-9)


# -- equilibria: Dᵀ∇ₓC = 0 -------------------------------------------------------------------


def trained():
    """Zero loss, after the flow."""
    problem = Problem.draw(6, (3, 16, 2), seed=5)
    path = flow(problem.map, problem.cost, problem.theta, Adaptive(np.inf), ADAPTED)
    problem.theta = path.theta
    assert path.loss[-1] <= 1e-26 * path.loss[0]
    return problem


def labelled_by_itself():
    """∇ₓC = 0 exactly."""
    problem = Problem.draw(6, (3, 16, 2), seed=6)
    problem.y = problem.map.family.outputs(problem.theta, problem.X)
    return problem


def all_weights_zero():
    """D moves the mean of each output only, and that is right already."""
    problem = Problem.draw(8, (2, 6, 2), seed=7)
    problem.theta = torch.zeros_like(problem.theta)
    problem.y -= problem.y.mean(0)
    return problem


def outside_the_range(problem):
    """Labels such that ∇ₓC is orthogonal to ran D."""
    x, away = problem.outputs(), normal(problem.map.size, seed=8).numpy()
    away -= oracles.project(problem.D(), away, 1e-8)
    problem.y = torch.from_numpy(x + away).view_as(problem.y)
    return problem


def all_units_alike():
    """A symmetric point: equal units stay equal, and D has the rank of a single one, 2 + 3."""
    problem = Problem.draw(8, (2, 6, 1), seed=9)
    W1, b1, W2 = problem.theta[:12].view(2, 6), problem.theta[12:18], problem.theta[18:24]
    W1[:], b1[:], W2[:] = W1[:, :1].clone(), b1[0].clone(), W2[0].clone()
    return outside_the_range(problem)


def last_layer_zero():
    """x = 0 and all blocks of D but the last are zero."""
    problem = Problem.draw(9, (3, 4, 2), seed=10)
    problem.theta[16:] = 0.0
    return outside_the_range(problem)


def generic_and_overdetermined():
    return outside_the_range(RANKS["more_outputs_than_parameters"]()[0])


def contradicting_labels():
    """Equal inputs between two labels."""
    problem, _ = RANKS["duplicated_inputs"]()
    x = problem.map.family.outputs(problem.theta, problem.X)
    problem.y = x.clone()
    problem.y[:3] += 1.0
    problem.y[4:] -= 1.0
    return problem


SADDLES = (
    all_weights_zero, all_units_alike, last_layer_zero, generic_and_overdetermined,
    contradicting_labels,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("point", [trained, labelled_by_itself, *SADDLES])
def test_every_field_of_the_family_vanishes_at_equilibria(point, alpha, measured):
    problem = point()
    sigma = oracles.thin_svd(problem.D(), 1e-8)[1]
    V_theta, V_x = fields(problem, problem.cost, alpha)
    # In units of the fields of a residual of size one in the worst direction of ran D.
    unit = alpha / sigma[-1] + (1 - alpha) * sigma[0]
    measured("|V_θ,α| at equilibria", np.linalg.norm(V_theta) / unit, at_most=1e-12)
    measured("|V_x,α| at equilibria", np.linalg.norm(V_x) / (unit * sigma[0]), at_most=1e-12)


@pytest.mark.parametrize("point", SADDLES)
def test_saddles_are_not_minima_of_the_cost_on_output_space(point, measured):
    problem = point()
    gradient = (problem.outputs() - problem.target) / len(problem.X)
    measured("|∇ₓC| at saddle-like points", np.linalg.norm(gradient), at_least=0.1)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_trained_point_stays_where_it_is(alpha):
    """Zero of the field, so zero of the flow: the labels are the outputs, bit by bit."""
    problem = labelled_by_itself()
    cost = SquaredError(problem.map.outputs(problem.theta), 6.0)
    tangent = problem.map.linearize(problem.theta)
    for solver in SOLVERS:
        V = parameter_field(tangent, factor_at(tangent, solver=solver), cost, alpha)
        assert not V.any()
