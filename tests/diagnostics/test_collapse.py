import dataclasses
import math

import numpy as np
import pytest

from sklearn_gflow.diagnostics import collapse, neural_collapse
from tests import oracles

RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 0, 2, 2, 0])
OUTPUTS = RNG.normal(size=(9, 3))
WEIGHTS = RNG.uniform(0.1, 3, 9)
TARGETS = np.eye(3)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_against_loops(weights):
    found = collapse(OUTPUTS, LABELS, TARGETS, weights)
    expected = oracles.within_between(
        OUTPUTS, LABELS, TARGETS, np.ones(9) if weights is None else weights
    )
    np.testing.assert_allclose(found.class_means, expected[0])
    assert found.within == pytest.approx(expected[1])
    assert found.between == pytest.approx(expected[2])
    assert found.ratio == pytest.approx(expected[1] / expected[2])
    np.testing.assert_array_equal(found.targets, TARGETS)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cost_is_within_plus_between(weights):
    found = collapse(OUTPUTS, LABELS, TARGETS, weights)
    w = np.ones(9) if weights is None else weights
    cost = (w * ((OUTPUTS - TARGETS[LABELS]) ** 2).sum(1)).sum() / (2 * w.sum())
    assert found.within + found.between == pytest.approx(cost, rel=1e-14)


def test_collapsed_onto_the_labels():
    found = collapse(TARGETS[LABELS], LABELS, TARGETS)
    assert (found.within, found.between) == (0, 0)
    assert math.isnan(found.ratio)


def test_collapsed_elsewhere():
    found = collapse(TARGETS[LABELS] + 1, LABELS, TARGETS)
    assert found.within == pytest.approx(0, abs=1e-15)
    assert found.between == pytest.approx(3 / 2)


def test_right_on_average_but_spread():
    found = collapse([[-1.0], [1.0], [0.0], [2.0]], [0, 0, 1, 1], [[0.0], [1.0]])
    assert (found.within, found.between, found.ratio) == (0.5, 0, math.inf)


def test_a_weight_is_that_many_copies():
    counts = np.array([1, 2, 1, 3, 1, 1, 2, 1, 1])
    heavy = collapse(OUTPUTS, LABELS, TARGETS, counts)
    copied = collapse(np.repeat(OUTPUTS, counts, 0), np.repeat(LABELS, counts), TARGETS)
    np.testing.assert_allclose(heavy.class_means, copied.class_means)
    assert heavy.within == pytest.approx(copied.within)
    assert heavy.between == pytest.approx(copied.between)


class TestNotFinite:
    def test_targets_leave_the_ratio_unknown(self):
        targets = TARGETS.copy()
        targets[1, 2] = math.nan
        found = collapse(OUTPUTS, LABELS, targets)
        assert found.within > 0
        assert math.isnan(found.between)
        assert math.isnan(found.ratio)  # not infinite, as where all is within

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_features_or_weights_leave_every_measure_unknown(self, value):
        features, weights = OUTPUTS.copy(), WEIGHTS.copy()
        features[4, 1] = weights[2] = value
        options = {"weights": RNG.normal(size=(3, 3)), "predicted": LABELS}
        for found in (
            neural_collapse(features, LABELS, **options),
            neural_collapse(OUTPUTS, LABELS, sample_weight=weights, **options),
        ):
            assert all(map(math.isnan, dataclasses.astuple(found)))
