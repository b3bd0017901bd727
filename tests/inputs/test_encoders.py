"""Columns and functions of them side by side."""

import numpy as np
import pytest

from sklearn_gflow import PeriodicEncoder, PiecewiseLinearEncoder
from tests.inputs.data import ENCODERS, make, numbers


def blocks(encoder, Z):
    """The columns of Z by the column that they come from."""
    sizes = np.cumsum([1 + len(means) for means in encoder.component_means_])
    return np.split(Z, sizes[:-1], axis=1)


@pytest.mark.parametrize("transformer", ENCODERS)
class TestBlocks:
    def test_variances_of_a_block_add_up_to_that_of_the_column(self, transformer):
        X = numbers()
        encoder = make(transformer).fit(X)
        for x, block in zip(X.T, blocks(encoder, encoder.transform(X)), strict=True):
            np.testing.assert_allclose(block.var(axis=0).sum(), x.var(), rtol=1e-12, atol=1e-12)

    def test_the_kernel_of_the_first_layer_keeps_its_trace(self, transformer):
        X = numbers()
        Z = make(transformer).fit(X).transform(X)
        np.testing.assert_allclose(np.trace(Z @ Z.T), np.trace(X @ X.T), rtol=1e-12)

    def test_both_halves_of_a_block_weigh_the_same(self, transformer):
        X = numbers()
        encoder = make(transformer).fit(X)
        block = blocks(encoder, encoder.transform(X))[0]
        np.testing.assert_allclose(block[:, 0].var(), block[:, 1:].var(axis=0).sum(), rtol=1e-12)
        np.testing.assert_allclose(block[:, 1:].mean(axis=0), 0, atol=1e-12)

    def test_the_unit_of_a_column_scales_its_block(self, transformer):
        X = numbers()
        one = make(transformer).fit(X).transform(X)
        other = make(transformer).fit(1e-200 * X).transform(1e-200 * X)
        np.testing.assert_allclose(1e200 * other, one, rtol=1e-9, atol=1e-9)

    def test_columns_with_few_distinct_values_are_left_alone(self, transformer):
        X = numbers()
        encoder = make(transformer).fit(X)
        assert encoder.encoded_.tolist() == [True, True, True, False, False]
        np.testing.assert_array_equal(encoder.transform(X)[:, -2:], X[:, -2:])
        np.testing.assert_array_equal(make(transformer, min_distinct=61).fit_transform(X), X)

    def test_min_distinct_counts_values(self, transformer):
        x = np.repeat(np.arange(5.0), 4)[:, None]
        assert make(transformer, min_distinct=5).fit(x).encoded_.all()
        assert not make(transformer, min_distinct=6).fit(x).encoded_.any()

    def test_missing_values_are_refused(self, transformer):
        X = numbers()
        X[3, 0] = np.nan
        with pytest.raises(ValueError, match="contains NaN"):
            make(transformer).fit(X)


class TestRamps:
    def test_are_zero_before_their_bin_and_one_behind_it(self):
        x = np.linspace(-1, 9, 101)[:, None]
        encoder = PiecewiseLinearEncoder(n_bins=4, min_distinct=2).fit(np.arange(9.0)[:, None])
        edges = encoder.bin_edges_[0]
        np.testing.assert_array_equal(edges, [0, 2, 4, 6, 8])
        ramps = encoder.transform(x)[:, 1:] / encoder.component_scale_[0]
        ramps += encoder.component_means_[0]
        expected = np.array([np.interp(x[:, 0], edges[k : k + 2], [0, 1]) for k in range(4)]).T
        np.testing.assert_allclose(ramps, expected, atol=1e-12)

    def test_bins_hold_equally_many_rows(self):
        x = np.random.default_rng(0).exponential(size=(1000, 1))
        edges = PiecewiseLinearEncoder(n_bins=10).fit(x).bin_edges_[0]
        counts = np.histogram(x[:, 0], edges)[0]
        assert counts.min() >= 99
        assert counts.max() <= 101

    def test_fewer_distinct_quantiles_give_fewer_bins(self):
        x = np.r_[np.zeros(80), np.arange(1.0, 21.0)][:, None]
        encoder = PiecewiseLinearEncoder(n_bins=10).fit(x)
        np.testing.assert_array_equal(encoder.bin_edges_[0], [0, 10, 20])
        assert encoder.get_feature_names_out().tolist() == ["x0", "x0_bin0", "x0_bin1"]

    def test_a_linear_function_of_them_is_any_piecewise_linear_one(self):
        x = np.random.default_rng(0).normal(size=(200, 1))
        encoder = PiecewiseLinearEncoder(n_bins=6).fit(x)
        edges = encoder.bin_edges_[0]
        target = np.interp(x[:, 0], edges, np.random.default_rng(1).normal(size=len(edges)))
        Z = np.column_stack([np.ones(len(x)), encoder.transform(x)])
        residual = target - Z @ np.linalg.lstsq(Z, target, rcond=None)[0]
        assert np.abs(residual).max() < 1e-12

    def test_narrow_bins_do_not_overflow(self):
        x = np.r_[0.0, 5e-324, 1e-323, np.arange(1.0, 8.0)][:, None]
        Z = PiecewiseLinearEncoder(n_bins=9).fit(x).transform(np.r_[x, [[1e300]]])
        assert np.isfinite(Z).all()


class TestCosines:
    def test_are_those_of_the_formula(self):
        x = 5 + 3 * np.random.default_rng(0).normal(size=(80, 1))
        encoder = PeriodicEncoder(n_frequencies=4, random_state=0).fit(x)
        z = (x - x.mean()) / x.std()
        waves = np.cos(2 * np.pi * encoder.frequencies_ * z + encoder.phases_)
        waves -= waves.mean(axis=0)
        waves *= np.sqrt(x.var() / 2 / waves.var(axis=0).sum())
        np.testing.assert_allclose(encoder.transform(x)[:, 1:], waves, rtol=1e-9, atol=1e-9)

    def test_each_scale_has_its_frequencies(self):
        X = np.random.default_rng(0).normal(size=(20, 50))
        encoder = PeriodicEncoder(n_frequencies=40, scale=(0.1, 10), random_state=0).fit(X)
        assert encoder.frequencies_.shape == encoder.phases_.shape == (50, 80)
        np.testing.assert_allclose(encoder.frequencies_[:, :40].std(), 0.1, rtol=0.1)
        np.testing.assert_allclose(encoder.frequencies_[:, 40:].std(), 10, rtol=0.1)
        assert 0 <= encoder.phases_.min() < 0.1
        assert 6.2 < encoder.phases_.max() < 2 * np.pi

    def test_the_seed_decides(self):
        X = numbers()
        one, same, other = (PeriodicEncoder(random_state=s).fit_transform(X) for s in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)

    def test_columns_that_are_passed_through_change_no_frequency_of_others(self):
        X = numbers()
        encoder = PeriodicEncoder(random_state=0).fit(X)
        X[:, 1] = 0
        np.testing.assert_array_equal(
            PeriodicEncoder(random_state=0).fit(X).frequencies_, encoder.frequencies_
        )

    @pytest.mark.parametrize("scale", [[], [1, -1], [[1.0]], ["a"], [np.nan], [np.inf]])
    def test_scales_out_of_range(self, scale):
        with pytest.raises(ValueError, match="scale must be a positive number or a sequence"):
            PeriodicEncoder(scale=scale).fit(numbers())
