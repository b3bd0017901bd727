"""Cross-entropy: at full rank mean logits are conserved, and the limit is known in advance."""

import functools
import math

import numpy as np
import pytest
import scipy.integrate
import torch
from scipy.special import logit, softmax

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.dynamics import (
    Adaptive,
    Fixed,
    FlowOptions,
    Outcome,
    Point,
    Stepper,
    flow,
    mean_diagonal,
    reference_flow,
    tau_from_t,
)
from sklearn_gflow.geometry import CrossEntropy, LayeredNetwork, OutputMap, factorize
from tests import oracles
from tests.theory.problems import ALPHAS, normal, probabilities, relative

pytestmark = pytest.mark.slow

N, Q, SIZES = 6, 3, (3, 16, 3)
TIMES = (0.2, 0.5, 0.9, 0.99, 0.9999)


@functools.cache
def problem(weighted=False):
    theta, X = oracles.problem(N, SIZES, seed=61)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0]).double() if weighted else None
    output_map = OutputMap(LayeredNetwork(SIZES, "tanh"), X, None, weights)
    return output_map, CrossEntropy(probabilities(N, Q, seed=62), weights), theta


def logits(output_map, x):
    return output_map.unweigh(x).numpy()


def limit(x0, targets):
    """x* = log y − mean(log y) + mean(x₀), sample by sample."""
    log_y = np.log(targets)
    return log_y - log_y.mean(1, keepdims=True) + x0.mean(1, keepdims=True)


# -- the flow at α = 1 and full rank ----------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_logits_are_conserved(weighted, measured):
    output_map, cost, theta = problem(weighted)
    options = FlowOptions(alpha=1.0, tol=0.0)
    path = reference_flow(
        output_map, cost, theta, options, t_end=TIMES[-1], times=TIMES, rtol=1e-10, atol=1e-10
    )
    assert set(path.rank) == {float(N * Q)}
    means = np.array([logits(output_map, x).mean(1) for x in path.outputs])
    measured("mean logits, change under DOP853", np.abs(means - means[0]).max(), at_most=1e-8)
    moved = np.abs(logits(output_map, path.outputs[-1]) - logits(output_map, path.outputs[0]))
    measured("logits meanwhile", moved.max(), at_least=0.5)


def test_mean_logits_move_below_alpha_one(measured):
    """Conservation is the Euclidean metric's own."""
    output_map, cost, theta = problem()
    options = FlowOptions(alpha=0.5, tol=0.0)
    path = reference_flow(output_map, cost, theta, options, t_end=0.9, rtol=1e-8, atol=1e-8)
    means = [logits(output_map, path.outputs[k]).mean(1) for k in (0, -1)]
    measured("mean logits, change at α = ½", np.abs(means[1] - means[0]).max(), at_least=0.01)


@pytest.mark.parametrize("weighted", [False, True])
def test_limit_is_reached(weighted, measured):
    output_map, cost, theta = problem(weighted)
    path = flow(output_map, cost, theta, Adaptive(math.inf), FlowOptions(alpha=1.0))
    assert path.outcome is Outcome.CONVERGED
    x0, x = (logits(output_map, path.outputs[k]) for k in (0, -1))
    expected = limit(x0, cost.targets.numpy())
    gap = np.linalg.norm(x - expected) / np.linalg.norm(expected - x0)
    measured("|x − x*|/|x* − x₀|, dynamics", gap, at_most=1e-6)
    measured("cost.minimizer against x*", relative(
        logits(output_map, cost.minimizer(path.outputs[0])), expected), at_most=1e-12)  # fmt: skip
    entropy = -(cost.targets * cost.targets.log()).sum(1)
    weights = np.ones(N) if output_map.weights is None else output_map.weights.numpy()
    floor = weights @ entropy.numpy() / weights.sum()
    measured("C(∞) less the labels' entropy", abs(path.loss[-1] - floor), at_most=1e-12)


def test_limit_by_independent_integration(measured):
    """Euclidean flow in output space alone, x' = y − softmax(x), by scipy."""
    output_map, cost, theta = problem()
    x0, y = logits(output_map, output_map.outputs(theta)), cost.targets.numpy()

    def rate(_, x):
        return (y - softmax(x.reshape(N, Q), axis=1)).ravel()

    end = scipy.integrate.solve_ivp(rate, (0, 500), x0.ravel(), method="LSODA", rtol=1e-10,
                                    atol=1e-12).y[:, -1]  # fmt: skip
    expected = limit(x0, y)
    gap = np.linalg.norm(end.reshape(N, Q) - expected) / np.linalg.norm(expected - x0)
    measured("|x − x*|/|x* − x₀|, output space alone", gap, at_most=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_limit_through_the_classifier(n_classes, measured):
    X = normal(12, 4, seed=63).numpy()
    labels = np.arange(12) % n_classes
    smoothing = 0.1
    model = AdaptedFlowClassifier(
        (32,), loss="log_loss", label_smoothing=smoothing, alpha=1, t_end=1, random_state=0
    ).fit(X, labels)
    assert model.ntk_rank_ == 12 * model.n_outputs_
    measured("limit_distance_, steps of the default tolerance", model.limit_distance_, at_most=1e-6)
    y = (1 - smoothing) * np.eye(n_classes)[labels] + smoothing / n_classes
    scores = model.decision_function(X)
    if n_classes == 3:
        expected = limit(np.tile(model.initial_output_, (12, 1)), y)
        gap = np.linalg.norm(scores - expected) / np.linalg.norm(expected - model.initial_output_)
        assert gap == pytest.approx(model.limit_distance_, abs=1e-12)
        scores = scores - scores.mean(1, keepdims=True)
        expected = expected - expected.mean(1, keepdims=True)
    else:
        expected = logit(y[:, 1])
    measured("differences of logits against those of x*", relative(scores, expected), at_most=1e-6)
    measured("predict_proba against the labels", np.abs(model.predict_proba(X) - y).max(),
             at_most=1e-6)  # fmt: skip


def test_limit_distance_away_from_the_limit():
    """Stopped halfway, the certificate says so; without smoothing there is no limit."""
    X, labels = normal(12, 4, seed=63).numpy(), np.arange(12) % 3
    model = AdaptedFlowClassifier(
        (32,), loss="log_loss", label_smoothing=0.1, alpha=1, t_end=0.5, random_state=0
    ).fit(X, labels)
    assert 0.1 < model.limit_distance_ < 1
    model.set_params(label_smoothing=0.0)
    assert math.isnan(model.fit(X, labels).limit_distance_)


# -- every α ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_every_alpha_lowers_the_loss(alpha, measured):
    output_map, cost, theta = problem()
    options = FlowOptions(alpha=alpha, tol=0.0)
    exact = reference_flow(output_map, cost, theta, options, t_end=0.9, times=TIMES[:3])
    steps = flow(output_map, cost, theta, Adaptive(float(tau_from_t(0.9))), options)
    for path in (exact, steps):
        assert (np.diff(path.loss) < 0).all()
    floor = -float((cost.targets * cost.targets.log()).sum(1).mean())
    left = (steps.loss[-1] - floor) / (steps.loss[0] - floor)
    measured("excess loss at t = 0.9, of that at the start", left, at_most=0.9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_rate_of_descent(alpha, measured):
    """C' = −N·|∇ₓC|² in the metric h_α⁻¹ = αP + (1−α)G/c; by differences of the flow."""
    output_map, cost, theta = problem()
    options = FlowOptions(alpha=alpha, tol=0.0, metric_scale=2.0)
    d = 1e-5
    path = reference_flow(
        output_map, cost, theta, options, t_end=2 * d, times=[d, 2 * d], rtol=1e-12, atol=1e-14
    )
    slope = (path.loss[2] - path.loss[0]) / (path.tau[2] - path.tau[0])
    D = oracles.jacobian(theta, output_map.X, SIZES, "tanh").numpy()
    x = logits(output_map, path.outputs[1])
    gradient = ((softmax(x, axis=1) - cost.targets.numpy()) / N).ravel()
    K = alpha * np.eye(N * Q) + (1 - alpha) / 2.0 * D @ D.T
    measured("dC/dτ against −N ∇ₓCᵀ h_α⁻¹ ∇ₓC", abs(slope / (-N * gradient @ K @ gradient) - 1),
             at_most=1e-3)  # fmt: skip


# -- one step with D frozen -------------------------------------------------------------------


def frozen_by_scipy(D, x, targets, alpha, h, c):
    """z' = (α1 + (1−α)G/c) P (y − softmax(z)), D frozen, by an implicit integrator."""
    U, sigma, _ = oracles.thin_svd(D, 1e-8)
    K = (U * (alpha + (1 - alpha) * sigma**2 / c)) @ U.T

    def rate(_, z):
        return K @ (targets - softmax(z.reshape(targets.shape[0], -1), axis=1)).ravel()

    solution = scipy.integrate.solve_ivp(rate, (0, h), x, method="Radau", rtol=1e-9, atol=1e-11)
    return solution.y[:, -1] - x


def rank_deficient():
    """Two pairs of equal inputs."""
    output_map, cost, theta = problem()
    X = output_map.X.clone()
    X[4:] = X[:2]
    return OutputMap(output_map.family, X), cost, theta


@pytest.mark.parametrize("pieces", [problem, rank_deficient])
@pytest.mark.parametrize("h", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_frozen_substeps_against_an_implicit_integrator(alpha, h, pieces, measured):
    output_map, cost, theta = pieces()
    point = Point.at(output_map, cost, 0.0, theta)
    c = mean_diagonal(point.tangent)
    factor = factorize(point.tangent, point.residual, solver="eigh")
    distance = cost.distance(point.outputs)
    limit = cost.minimizer(point.outputs)
    stepper = Stepper(point, factor, output_map, cost, alpha, c, limit, distance)
    step = stepper.step(h)
    D = oracles.jacobian(theta, output_map.X, SIZES, "tanh").numpy()
    x = point.outputs.numpy()
    expected = frozen_by_scipy(D, x, cost.targets.numpy(), alpha, h, c)
    # θ moves by D⁺ of the motion; for α > 0 a chord follows, so the motion is read off before it.
    displacement, motion = stepper.frozen.move(h)
    gap = np.linalg.norm(motion.numpy() - expected) / distance
    # Substeps aim at 1e-5 each, and at 1e-3 below α = 1, where the spectrum is stiff.
    if alpha == 1:
        measured("frozen motion against Radau, α = 1, of |x* − x₀|", gap, at_most=1e-4)
    else:
        stated = {0.3: 1e-3, 3.0: 3e-3, 30.0: 3e-2}[h]
        measured(f"frozen motion against Radau, α < 1, h = {h:g}", gap, at_most=stated)
    lifted = oracles.pinv_solve(D, motion, 1e-8)
    measured("Δθ against D⁺Δx", relative(displacement, lifted), at_most=1e-8)
    if alpha == 0:
        assert relative(step.theta - theta, displacement) <= 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
def test_exponential_flow_against_reference(alpha, measured):
    """The whole flow, with steps of both kinds."""
    output_map, cost, theta = problem()
    options = FlowOptions(alpha=alpha, tol=0.0)
    exact = reference_flow(
        output_map, cost, theta, options, t_end=0.8, times=[0.8], rtol=1e-9, atol=1e-9
    )
    taus = np.linspace(0, exact.tau[-1], 101)[1:].tolist()
    path = flow(output_map, cost, theta, Fixed(taus), options)
    gap = float((path.outputs[-1] - exact.outputs[-1]).norm()) / cost.distance(exact.outputs[0])
    measured("100 exponential steps against DOP853, of |x* − x₀|", gap, at_most=2e-2)
