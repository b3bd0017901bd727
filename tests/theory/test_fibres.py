"""Invariant fibres of the log-loss (arXiv:2408.01517, third version), and what rank loss leaves."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.datasets import load_iris, load_wine

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.diagnostics import Fibre, FibreDrift
from sklearn_gflow.dynamics import Adaptive, FlowOptions, flow, reference_flow
from sklearn_gflow.geometry import CrossEntropy
from tests import oracles
from tests.theory.problems import Problem, factor_at, normal, probabilities, relative


def followed(problem, y, *, t_end=0.9999, alpha=1.0):
    return reference_flow(
        problem.map, CrossEntropy(y), problem.theta, FlowOptions(alpha=alpha, tol=0.0),
        t_end=t_end, times=[0.5, t_end], rtol=1e-9, atol=1e-10, callbacks=[FibreDrift(y)],
    )  # fmt: skip


def least_on(basis, x0, y):
    """The least log-loss on x0 + span of a basis, by scipy with a tight tolerance."""

    def cost(z):
        x = (x0 + basis @ z).reshape(y.shape)
        shifted = x - x.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return -(y * log_p).sum(), basis.T @ (np.exp(log_p) - y).reshape(-1)

    z = scipy.optimize.minimize(
        cost, np.zeros(basis.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10}
    ).x
    return x0 + basis @ z


def test_full_rank_keeps_the_fibre_and_ends_at_its_minimum(measured):
    problem, y = Problem.draw(6, (3, 16, 3), seed=1), probabilities(6, 3, seed=2)
    path = followed(problem, y)
    measured("share of the way off the fibre, full rank", max(path.extra["fibre_drift"]),
             at_most=1e-8)  # fmt: skip
    fibre = Fibre.through(path.outputs[0], y)
    x0 = path.outputs[0].numpy()
    # One minimum on the fibre: Euclidean moves with rows of sum zero, by scipy.
    basis = np.kron(np.eye(6), np.linalg.qr(np.eye(3) - 1 / 3)[0][:, :2])
    expected = least_on(basis, x0, y.numpy())
    measured("minimum on the fibre against scipy", relative(fibre.minimum.reshape(-1), expected),
             at_most=1e-6)  # fmt: skip
    # The slowest mode falls as e^{−p_min τ}: at t = 0.9999 not all of it is gone.
    gap = relative(path.outputs[-1], fibre.minimum.reshape(-1))
    measured("distance of x(0.9999) from it", gap, at_most=0.6)
    assert fibre.kept_by(factor_at(problem.map.linearize(problem.theta))) <= 1e-8


def test_other_starts_lie_on_other_fibres(measured):
    y = probabilities(6, 3, seed=2)
    problems = [Problem.draw(6, (3, 16, 3), seed=seed) for seed in (1, 5)]
    problems[1].X = problems[0].X
    fibres = [Fibre.through(torch.from_numpy(p.outputs()), y) for p in problems]
    gap = fibres[0].minimum - fibres[1].minimum
    measured("minima of two fibres differ by constants alone", float(gap.std(1).max()),
             at_most=1e-12)  # fmt: skip
    moved = fibres[1].project(fibres[0].minimum)
    measured("minimum moved to another fibre", relative(moved, fibres[1].minimum), at_most=1e-12)
    distance = math.sqrt(3) * float((fibres[0].means - fibres[1].means).norm())
    measured("distance of fibres", abs(fibres[1].distance(fibres[0].minimum) / distance - 1),
             at_most=1e-12)  # fmt: skip


def test_alpha_below_one_leaves_the_fibre(measured):
    problem, y = Problem.draw(6, (3, 16, 3), seed=1), probabilities(6, 3, seed=2)
    drift = followed(problem, y, t_end=0.9, alpha=0.5).extra["fibre_drift"]
    measured("share of the way off the fibre, α = ½", drift[-1], at_least=0.01)


def test_equal_inputs_keep_the_fibre_and_share_their_minimum(measured):
    """P averages equal rows, and commutes with taking means: the minimum is that of mean labels."""
    problem = Problem.draw(7, (3, 20, 3), seed=3)
    problem.X[4:] = problem.X[:3]
    y = probabilities(7, 3, seed=4)
    path = followed(problem, y)
    measured("share of the way off the fibre, equal inputs", max(path.extra["fibre_drift"]),
             at_most=1e-8)  # fmt: skip
    factor = factor_at(problem.map.linearize(problem.theta))
    assert factor.rank == 12
    fibre = Fibre.through(path.outputs[0], y)
    measured("part of P that leaves the fibre, equal inputs", fibre.kept_by(factor), at_most=1e-7)
    shared = y.clone()
    shared[:3] = shared[4:] = (y[:3] + y[4:]) / 2
    predicted = Fibre(fibre.means, shared).minimum.reshape(-1)
    x0, U = path.outputs[0].numpy(), oracles.thin_svd(problem.D(), 1e-8)[0]
    measured("minimum on x₀ + ran D against that of mean labels",
             relative(least_on(U, x0, y.numpy()), predicted), at_most=1e-6)  # fmt: skip
    loss = CrossEntropy(y).value(predicted)
    left = (path.loss[-1] - loss) / (path.loss[0] - loss)
    measured("excess loss left at t = 0.9999", left, at_most=0.05)


def test_more_outputs_than_parameters_leave_the_fibre(measured):
    """K = 20 < QN = 60: ran D does not split by samples, and nothing keeps the mean logits."""
    problem = Problem.draw(20, (2, 3, 3), seed=2)
    y = torch.softmax(0.3 * normal(20, 3, seed=5) + torch.from_numpy(problem.outputs()).view(20, 3),
                      dim=1)  # fmt: skip
    path = followed(problem, y, t_end=0.6)
    fibre = Fibre.through(path.outputs[0], y)
    part = fibre.kept_by(factor_at(problem.map.linearize(problem.theta)))
    measured("part of P that leaves the fibre, K < QN", part, at_least=0.05)
    measured("share of the way off the fibre, K < QN", path.extra["fibre_drift"][-1], at_least=0.02)


def test_the_logit_of_two_classes_has_no_fibre():
    with pytest.raises(ValueError, match="a column for each class"):
        Fibre.through(torch.zeros(4), torch.full((4, 1), 0.5))


@pytest.mark.parametrize("table", [load_iris, load_wine])
def test_steps_of_fits_leave_the_fibre_by_their_errors(table, measured):
    """An estimator's own flow with steps of the default error, every fifth row, full rank."""
    X, y = table(return_X_y=True)
    model = AdaptedFlowClassifier(
        (40,), loss="log_loss", label_smoothing=0.1, alpha=1.0, random_state=0
    )
    start = model.start_of(X[::5], y[::5])
    columns = [FibreDrift(start.cost.targets)]
    path = flow(*start[:3], Adaptive(3.0), start.options, columns)
    measured("share of the way off the fibre, steps of fits to t = 0.95",
             path.extra["fibre_drift"][-1], at_most=0.1)  # fmt: skip
