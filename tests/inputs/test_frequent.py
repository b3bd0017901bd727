"""Indicators of values that come again and again."""

import numpy as np
import pytest

from sklearn_gflow import FrequentValueEncoder
from tests.inputs.data import amounts, numbers


def indicators(encoder, X, j=1):
    """Those of a column, as zeros and ones."""
    names = encoder.get_feature_names_out()
    own = [name.startswith(f"x{j}_value") for name in names]
    found = encoder.transform(X)[:, own] / encoder.component_scale_[j]
    return (found + encoder.component_means_[j]).round(9)


def test_of_a_column_that_is_mostly_one_value():
    X = amounts()
    encoder = FrequentValueEncoder(min_frequency=0.01).fit(X)
    assert encoder.encoded_.tolist() == [False, True, False]
    values, counts = np.unique(X[:, 1], return_counts=True)
    np.testing.assert_array_equal(encoder.frequent_values_[1], values[counts >= 3])
    expected = X[:, [1]] == encoder.frequent_values_[1]
    np.testing.assert_array_equal(indicators(encoder, X), expected)
    np.testing.assert_array_equal(encoder.transform(X)[:, [0, -1]], X[:, [0, 2]])


def test_a_block_keeps_the_variance_of_its_column():
    X = amounts()
    block = FrequentValueEncoder().fit_transform(X)[:, 1:-1]
    np.testing.assert_allclose(block[:, 0].var(), X[:, 1].var() / 2)
    np.testing.assert_allclose(block.var(axis=0).sum(), X[:, 1].var())
    np.testing.assert_allclose(block[:, 1:].mean(axis=0), 0, atol=1e-9 * X[:, 1].std())


@pytest.mark.parametrize(
    "x",
    [
        np.arange(300) % 24 * 1.0,  # no value is more frequent than others
        np.r_[np.zeros(200), np.arange(1.0, 101.0)],  # but for zero all are there once
        np.r_[np.zeros(200), np.repeat(np.arange(1.0, 11.0), 10)],  # few values
        np.full(300, 4.0),
        numbers(300)[:, 0],
    ],
)
def test_other_columns_are_passed_through(x):
    encoder = FrequentValueEncoder(min_frequency=0.01).fit(x[:, None])
    assert not encoder.encoded_.any()
    np.testing.assert_array_equal(encoder.transform(x[:, None])[:, 0], x)
    assert encoder.get_feature_names_out().tolist() == ["x0"]


def test_a_number_counts_as_the_nearest_value():
    X = amounts()
    encoder = FrequentValueEncoder().fit(X)
    near = X.copy()
    near[:, 1] *= 1 + 1e-7
    np.testing.assert_array_equal(indicators(encoder, near), indicators(encoder, X))
    single = encoder.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, encoder.transform(X), rtol=1e-6, atol=1e-4)
    far = np.array([[0.0, -1e300, 7.0], [0.0, 1e6, 7.0]])
    assert indicators(encoder, far)[:, [0, -1]].tolist() == [[1, 0], [0, 1]]


def test_one_that_is_nearest_to_a_rare_value_has_none():
    X = np.r_[np.zeros(60), [10.0], np.repeat([20.0, 21.0], 20)][:, None]
    encoder = FrequentValueEncoder(min_values=2, min_frequency=0.1).fit(X)
    assert encoder.frequent_values_[0].tolist() == [0, 20, 21]
    assert not indicators(encoder, np.array([[10.0], [14.0]]), 0).any()
    assert indicators(encoder, np.array([[16.0]]), 0).tolist() == [[0, 1, 0]]


def test_of_more_values_the_most_frequent_ones_count():
    X = np.r_[np.zeros(60), np.repeat([1.0, 2.0, 3.0, 4.0], [5, 20, 5, 10])][:, None]
    encoder = FrequentValueEncoder(min_values=2, max_values=3).fit(X)
    assert encoder.frequent_values_[0].tolist() == [0, 2, 4]


def test_a_weight_is_a_number_of_copies():
    X, weights = amounts(), np.arange(300) % 3
    encoder = FrequentValueEncoder(min_frequency=0.01, min_values=2)
    weighted = clone_of(encoder).fit(X, sample_weight=weights)
    copied = clone_of(encoder).fit(np.repeat(X, weights, axis=0))
    assert weighted.encoded_.any()
    np.testing.assert_array_equal(weighted.frequent_values_[1], copied.frequent_values_[1])
    np.testing.assert_allclose(weighted.transform(X), copied.transform(X), rtol=1e-12)


def clone_of(encoder):
    return FrequentValueEncoder(**encoder.get_params())


def test_indicators_have_no_derivative_and_the_column_keeps_its_own():
    X = amounts()
    found = FrequentValueEncoder().fit(X).derivative(X)
    np.testing.assert_allclose(found[:, [0, 1, -1]], [[1, np.sqrt(0.5), 1]] * len(X))
    assert not found[:, 2:-1].any()
