"""Median, interquartile range, smooth clipping."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from sklearn_gflow import SmoothRobustScaler


def test_is_the_formula():
    x = np.random.default_rng(0).gamma(2, size=(101, 1))
    low, median, high = np.quantile(x, [0.25, 0.5, 0.75], method="inverted_cdf")
    z = (x - median) * 1.3489795 / (high - low)
    expected = z / np.sqrt(1 + (z / 3) ** 2)
    np.testing.assert_allclose(SmoothRobustScaler().fit_transform(x), expected, rtol=1e-6)


def test_what_is_standardised_stays_nearly_unchanged_in_the_middle():
    x = np.random.default_rng(0).normal(size=(2001, 1))
    x = (x - x.mean()) / x.std()
    middle = np.abs(x) < 1
    change = np.abs(SmoothRobustScaler().fit_transform(x) - x)[middle]
    assert change.max() < 0.1
    assert change.mean() < 0.03


def test_outliers_stay_within_the_bound():
    x = np.r_[np.arange(20.0), 1e9, -1e9][:, None]
    for clip in (1.0, 3.0):
        assert np.abs(SmoothRobustScaler(clip=clip).fit_transform(x)).max() <= clip
    assert np.abs(SmoothRobustScaler(clip=None).fit_transform(x)).max() > 1e7


def test_order_is_kept():
    x = np.sort(np.random.default_rng(0).standard_cauchy(size=(200, 1)), axis=0)
    assert (np.diff(SmoothRobustScaler().fit_transform(x), axis=0) > 0).all()


def test_falls_back_to_the_standard_deviation_and_to_one():
    rare = np.r_[np.zeros(18), 1.0, 2.0]
    constant = np.full(20, 4.0)
    scaler = SmoothRobustScaler().fit(np.column_stack([rare, constant]))
    np.testing.assert_allclose(scaler.scale_, [rare.std(), 1.0])
    np.testing.assert_array_equal(scaler.transform(np.full((1, 2), 4.0))[0, 1], 0)


def test_two_values_become_none_and_one():
    """Whatever they are, and however rare one of them is."""
    x = np.array([[3.0, -1.0]] * 19 + [[5.0, -4.0]])
    scaler = SmoothRobustScaler(clip=None).fit(x)
    np.testing.assert_allclose(scaler.center_, [3, -4])
    np.testing.assert_allclose(scaler.scale_, [2, 3])
    np.testing.assert_allclose(scaler.transform(x)[[0, 19]], [[0, 1], [1, 0]])


@pytest.mark.parametrize("weighted", [False, True])
def test_missing_values_are_disregarded_and_stay(weighted):
    x = np.r_[np.arange(11.0), np.nan, np.nan][:, None]
    weights = np.arange(1.0, 14.0) if weighted else None
    fitted = SmoothRobustScaler().fit(x, sample_weight=weights)
    without = SmoothRobustScaler().fit(x[:11], sample_weight=weights[:11] if weighted else None)
    np.testing.assert_array_equal(fitted.center_, without.center_)
    np.testing.assert_array_equal(fitted.scale_, without.scale_)
    assert np.isnan(fitted.transform(x)[11:]).all()


def test_a_column_of_nothing():
    scaler = SmoothRobustScaler().fit(np.column_stack([np.full(5, np.nan), np.arange(5)]))
    assert scaler.center_[0] == 0
    assert scaler.scale_[0] == 1


@pytest.mark.parametrize("clip", [3.0, 0.5, None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_is_undone(clip, dtype):
    X = np.random.default_rng(0).standard_cauchy(size=(200, 3)).astype(dtype) * [1e-3, 1, 1e4]
    X[5, 1] = np.nan
    X = X.astype(dtype)
    scaler = SmoothRobustScaler(clip=clip).fit(X)
    again = scaler.inverse_transform(scaler.transform(X))
    assert again.dtype == dtype
    far = np.abs((X - scaler.center_) / scaler.scale_) / (1 if clip is None else clip)
    allowed = 4 * np.finfo(dtype).eps * (1 + far) ** 3 * scaler.scale_
    within = np.isnan(X) | (np.abs(again - X) <= allowed)
    assert within.all()
    np.testing.assert_array_equal(np.isnan(again), np.isnan(X))


def test_what_is_at_the_bound_comes_back_as_far_as_numbers_tell():
    x = np.r_[np.arange(20.0), 1e30, -1e30][:, None]
    scaler = SmoothRobustScaler().fit(x)
    again = scaler.inverse_transform(scaler.transform(x))[-2:, 0]
    assert (np.sign(again) == [1, -1]).all()
    assert (np.abs(again) > 1e8).all()
    assert np.isfinite(again).all()


def test_of_sparse_columns_it_is_undone_as_well():
    X = csr_array(np.where(np.random.default_rng(0).random((50, 3)) < 0.5, 0.0, 3.0) * [1, 2, 5])
    scaler = SmoothRobustScaler().fit(X)
    again = scaler.inverse_transform(scaler.transform(X))
    np.testing.assert_allclose(again.toarray(), X.toarray(), rtol=1e-12)
