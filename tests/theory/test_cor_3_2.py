"""Corollary 3.2: at full rank, deviations within classes and of class means vanish as 1 − t."""

import functools

import numpy as np
import pytest
import torch

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.diagnostics import collapse, neural_collapse
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError
from tests import oracles
from tests.theory.problems import adapted_flow, normal

LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])  # N_j = 5, 3, 2
TARGETS = np.eye(3)
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999)
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 0.25, 1.0, 2.0, 1.0])


@functools.cache
def training(weighted=False):
    """x̃(t) in plain coordinates, and the trajectory."""
    sizes = (4, 16, 3)
    theta, X = oracles.problem(len(LABELS), sizes, seed=31)
    weights = torch.from_numpy(WEIGHTS) if weighted else None
    output_map = OutputMap(LayeredNetwork(sizes, "tanh"), X, None, weights)
    y = torch.from_numpy(TARGETS[LABELS])
    cost = SquaredError(output_map.weigh(y), output_map.total_weight)
    path = adapted_flow(output_map, cost, theta, TIMES)
    assert set(path.rank) == {30.0}
    return path, [output_map.unweigh(x).numpy() for x in path.outputs]


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_within_and_between_fall_as_the_square(weighted, measured):
    path, outputs = training(weighted)
    splits = [collapse(x, LABELS, TARGETS, WEIGHTS if weighted else None) for x in outputs]
    law = (1 - path.t) ** 2
    for part in ("within", "between"):
        values = np.array([getattr(split, part) for split in splits])
        assert values[0] > 0.01
        gap = np.abs(values / values[0] - law).max()
        measured(f"{part}(t)/{part}(0) − (1−t)²", gap, at_most=1e-7)
    total = np.array([split.within + split.between for split in splits])
    gap = np.abs(total / np.array(path.loss) - 1).max()
    measured("within + between against the cost (2.48)", gap, at_most=1e-12)


@pytest.mark.slow
def test_means_and_deviations_move_on_lines(measured):
    """(3.12) and (3.13), with the rate: mean_j − y_j and Δx_{j,i} are (1−t) times their start."""
    path, outputs = training()
    start = collapse(outputs[0], LABELS, TARGETS)
    for t, x in zip(path.t, outputs, strict=True):
        found = collapse(x, LABELS, TARGETS)
        means = found.class_means - TARGETS
        gap = np.abs(means - (1 - t) * (start.class_means - TARGETS)).max()
        measured("class means off their lines", gap, at_most=1e-7)
        deviations = x - found.class_means[LABELS]
        expected = (1 - t) * (outputs[0] - start.class_means[LABELS])
        measured("deviations off their lines", np.abs(deviations - expected).max(), at_most=1e-7)
    measured("distance of means from labels at t = 0.999", np.abs(means).max(), at_most=2e-3)
    measured("deviations at t = 0.999", np.abs(deviations).max(), at_most=2e-3)


def test_measures_of_neural_collapse_follow(measured):
    """NC1 of the outputs: Σ_W falls as (1−t)² while Σ_B tends to that of the labels."""
    path, outputs = training()
    found = [neural_collapse(x, LABELS, predicted=x.argmax(1)) for x in outputs]
    at = dict(zip(path.t.round(6).tolist(), found, strict=True))
    ratio = at[0.999].within_between / at[0.99].within_between
    measured("NC1 from t = 0.99 to 0.999, against (1/10)²", abs(ratio / 0.01 - 1), at_most=0.05)
    last = found[-1]
    # One-hot labels: centred means of equal norm, at the widest angles, nearest to their own.
    measured("NC2, norms at t = 0.999", last.equinorm, at_most=5e-3)
    measured("NC2, angles at t = 0.999", last.maximal_angle, at_most=5e-3)
    assert last.nearest_mean_disagreement == 0


def test_variability_within_against_between(measured):
    """NC1 = tr(Σ_W Σ_B⁺)/C, from loops and numpy's pseudoinverse."""
    _, outputs = training()
    for x in outputs[:4]:
        means = np.array([x[j == LABELS].mean(0) for j in range(3)])
        within = sum(np.outer(v, v) for v in x - means[LABELS]) / len(x)
        between = sum(np.outer(v, v) for v in means - means.mean(0)) / 3
        expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 3
        found = neural_collapse(x, LABELS).within_between
        measured("NC1 against loops", abs(found / expected - 1), at_most=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_through_the_classifier(weighted, measured):
    """The model starts at the class frequencies: nothing is within the classes, and stays so."""
    X = normal(len(LABELS), 4, seed=32).numpy()
    weights = WEIGHTS if weighted else None
    model = AdaptedFlowClassifier(
        (32,), "tanh", alpha=1.0, t_end=0.9, schedule=60, random_state=0
    ).fit(X, LABELS, sample_weight=weights)
    history = model.history_
    assert model.ntk_rank_ == 30
    law = history["between_class"][0] * (1 - history["t"]) ** 2
    # Order two in the step, here 1/60 of t.
    gap = np.abs(history["between_class"] - law).max() / law[0]
    measured("between(t)/between(0) − (1−t)², 60 exponential steps", gap, at_most=1e-3)
    measured("within(t)/between(0)", history["within_class"].max() / law[0], at_most=1e-3)
    total = history["within_class"] + history["between_class"]
    measured("within + between against loss_curve_", np.abs(total / history["loss"] - 1).max(),
             at_most=1e-10)  # fmt: skip
    assert model.collapse_.between == pytest.approx(history["between_class"][-1])
