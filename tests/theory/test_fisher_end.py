"""The Fisher end: θ' = −(α(DᵀMD)⁺ + (1−α)/c)∇θC with M = (1−β)1 + βN∇ₓ²C."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.dynamics import FlowOptions, fisher, parameter_field, reference_flow
from sklearn_gflow.geometry import CrossEntropy, LayeredNetwork, OutputMap, Poisson, RowCost
from tests import oracles
from tests.costs import COSTS, weights_of
from tests.theory.problems import RANKS, Problem, factor_at, normal, probabilities, relative

BETAS = (0.0, 0.5, 1.0)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def dense_metric(x, beta, n_outputs):
    """(1−β)1 + β(diag(p) − ppᵀ), row by row, as one matrix."""
    p = softmax(x.reshape(-1, n_outputs))
    M = np.zeros((x.size, x.size))
    for i, row in enumerate(p):
        block = slice(i * n_outputs, (i + 1) * n_outputs)
        M[block, block] = np.diag(row) - np.outer(row, row)
    return (1 - beta) * np.eye(x.size) + beta * M


def field(problem, cost, alpha, beta):
    output_map, whitened = fisher(problem.map, cost, beta)
    tangent = output_map.linearize(problem.theta)
    return parameter_field(tangent, factor_at(tangent, solver="svd"), whitened, alpha).numpy()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", RANKS)
def test_field_against_the_formula_written_out(name, alpha, beta, measured):
    problem, _ = RANKS[name]()
    y = torch.softmax(problem.y, dim=1)
    D, x, N, Q = problem.D(), problem.outputs(), len(problem.X), problem.sizes[-1]
    gradient = (softmax(x.reshape(-1, Q)) - y.numpy()).reshape(-1) / N
    curved = D.T @ dense_metric(x, beta, Q) @ D
    inverse = np.linalg.pinv(curved, rcond=1e-12, hermitian=True)
    expected = -(alpha * inverse + (1 - alpha) * np.eye(len(curved))) @ D.T @ gradient
    found = field(problem, CrossEntropy(y), alpha, beta)
    measured("θ' against the formula", relative(found, expected), at_most=1e-5)
    slope = float(D.T @ gradient @ found)
    measured("dC/ds over |∇θC||θ'|", slope / np.linalg.norm(D.T @ gradient) / np.linalg.norm(found),
             at_most=0.0)  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", COSTS)
def test_metric_of_every_cost_is_its_hessian(name, weighted, measured):
    targets, w = COSTS[name].draw(4, 3), weights_of(4, weighted)
    cost, x = COSTS[name].cost(targets, w), normal(12, seed=3)
    problem = Problem.draw(4, (2, 5, 3), seed=1)
    _, whitened = fisher(OutputMap(LayeredNetwork((2, 5, 3), "tanh"), problem.X, weights=w), cost)
    h = 1e-5
    for q in range(3):
        e = torch.zeros(4, 3, dtype=torch.float64)
        e[:, q] = h
        e = e.reshape(-1)
        expected = cost.total_weight * (cost.gradient(x + e) - cost.gradient(x - e)) / (2 * h)
        found = whitened.metric(x)[:, :, q]
        measured("Hessian of every cost by differences", relative(found.reshape(-1), expected),
                 at_most=1e-5)  # fmt: skip


def equilibrium(problem):
    """Positive labels with Dᵀ∇ₓC = 0 and ∇ₓC ≠ 0: y = p + a, a outside ran D with rows of sum 0."""
    Q = problem.sizes[-1]
    p = softmax(problem.outputs().reshape(-1, Q))
    constraints = np.vstack([problem.D().T, np.kron(np.eye(len(p)), np.ones(Q))])
    away = normal(p.size, seed=8).numpy()
    away -= oracles.project(constraints.T, away, 1e-8)
    away *= 0.5 * p.min() / np.abs(away).max()
    return torch.from_numpy(p + away.reshape(p.shape))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("name", list(RANKS)[1:])
def test_equilibria_are_those_of_the_family(name, alpha, beta, measured):
    """∇ₓC of the log-loss is in ran H, so that none is lost or gained, at β = 1 too."""
    problem, _ = RANKS[name]()
    problem.y = equilibrium(problem)
    cost = CrossEntropy(problem.y)
    Q = problem.sizes[-1]
    gradient = cost.gradient(torch.from_numpy(problem.outputs())).numpy()
    assert np.linalg.norm(gradient) > 1e-4
    # In units of the field of a gradient of this length somewhere in ran D.
    inside = problem.D() @ normal(problem.D().shape[1], seed=3).numpy()
    moved = torch.from_numpy(inside / np.abs(inside).max() * 0.1 * float(problem.y.min()))
    other = problem.y - (moved.view_as(problem.y) - moved.view_as(problem.y).mean(1, keepdim=True))
    unit = np.linalg.norm(field(problem, CrossEntropy(other), alpha, beta))
    unit *= np.linalg.norm(gradient) / np.linalg.norm((problem.y - other).numpy() / len(problem.X))
    at_rest = np.linalg.norm(field(problem, cost, alpha, beta))
    measured("|θ'| at equilibria of lost rank", at_rest / unit, at_most=1e-6)
    if name == "more_outputs_than_parameters" and beta == 1:
        # P H⁺∇ₓC does not vanish there: projecting after H⁺ loses equilibria where rank is lost.
        H = dense_metric(problem.outputs(), 1.0, Q)
        newton = np.linalg.pinv(H, rcond=1e-10, hermitian=True) @ gradient
        share = np.linalg.norm(oracles.project(problem.D(), newton, 1e-8)) / np.linalg.norm(newton)
        measured("|P H⁺∇C|/|H⁺∇C| at the same point", share, at_least=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("beta", BETAS)
def test_probabilities_go_straight_at_the_fisher_end(beta, measured):
    """Full rank, α = β = 1: softmax x̃(t) = (1−t)softmax x₀ + t y.

    Mean logits stay for β < 1. H does not see them, so that at β = 1 the least θ' moves them.
    """
    problem, y = Problem.draw(6, (3, 16, 3), seed=1), probabilities(6, 3, seed=2)
    times = [0.25, 0.5, 0.75, 0.9]
    path = reference_flow(
        *fisher(problem.map, CrossEntropy(y), beta), problem.theta, FlowOptions(tol=0.0),
        times=times, t_end=0.9, rtol=1e-9, atol=1e-10,
    )  # fmt: skip
    x = [out.view(6, 3).numpy() for out in path.outputs]
    lines = [(1 - t) * softmax(x[0]) + t * y.numpy() for t in times]
    length = np.linalg.norm(y.numpy() - softmax(x[0]))
    gaps = [np.linalg.norm(softmax(a) - b) for a, b in zip(x[1:], lines, strict=True)]
    off = max(gaps) / length
    if beta == 1:
        measured("probabilities off their line, β = 1", off, at_most=1e-6)
    else:
        measured("probabilities off that line, β < 1", off, at_least=0.1)
    means = max(np.abs(a.mean(axis=1) - x[0].mean(axis=1)).max() for a in x)
    if beta < 1:
        measured("mean logits conserved, β < 1", means, at_most=1e-7)
    else:
        measured("mean logits move, β = 1", means, at_least=0.05)


@pytest.mark.slow
def test_means_of_counts_go_straight_too(measured):
    problem = Problem.draw(6, (3, 16, 2), seed=1)
    y = normal(6, 2, seed=2).exp()
    path = reference_flow(
        *fisher(problem.map, RowCost(Poisson(), y), 1.0), problem.theta, FlowOptions(tol=0.0),
        times=[0.5, 0.9], t_end=0.9, rtol=1e-9, atol=1e-10,
    )  # fmt: skip
    means = [out.exp().view(6, 2) for out in path.outputs]
    for t, mean in zip((0.5, 0.9), means[1:], strict=True):
        gap = relative(mean, (1 - t) * means[0] + t * y)
        measured("means of counts off their line", gap, at_most=1e-6)


def test_beta_out_of_range():
    problem = Problem.draw(6, (3, 16, 2), seed=1)
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        fisher(problem.map, problem.cross_entropy, 1.5)


def log_loss_on_test_rows(beta, seed, times):
    """Of wine, 60 rows to train on with smoothed labels, a ridge of 1 %; a row for each time."""
    X, labels = load_wine(return_X_y=True)
    A, B, a, b = train_test_split(X, labels, train_size=60, random_state=seed, stratify=labels)
    model = AdaptedFlowClassifier(
        (16,), loss="log_loss", label_smoothing=0.02, alpha=1.0, damping=0.01, random_state=seed,
        scale_inputs=False,
    )  # fmt: skip
    scale = StandardScaler().fit(A)
    start = model.start_of(scale.transform(A), a)
    path = reference_flow(
        *fisher(*start[:2], beta), start.theta, replace(start.options, store_path=True),
        method="RK45", times=times, t_end=times[-1], rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    test = OutputMap(start.output_map.family, torch.from_numpy(scale.transform(B)))
    at_start = test.outputs(start.theta).view(-1, 3) - path.outputs[0][:3]
    logits = [test.outputs(theta).view(-1, 3) - at_start for theta in path.thetas[1:]]
    return [float(torch.nn.functional.cross_entropy(x, torch.from_numpy(b))) for x in logits]


@pytest.mark.slow
def test_log_loss_of_test_rows_falls_sooner_at_the_fisher_end(measured):
    losses = {
        beta: np.mean([log_loss_on_test_rows(beta, seed, [0.8, 0.99]) for seed in range(3)], axis=0)
        for beta in (0.0, 1.0)
    }
    ratio = losses[1.0] / losses[0.0]
    measured("log-loss on wine, β = 1 over β = 0, at t = 0.8", ratio[0], at_most=0.7)
    measured("the same at t = 0.99", ratio[1], at_most=0.7)
