"""Fits that fail, numbers at the end of the range of floats, and how they are told."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from sklearn_gflow import (
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)
from sklearn_gflow.contract import FittedState
from tests.inputs.data import ENCODERS, NUMERIC, TRANSFORMERS, make, numbers


def state(estimator):
    """The attributes by identity, which no fit may change before it succeeds."""
    return {name: id(value) for name, value in vars(estimator).items()}


def huge(n=20):
    """An ordinary column and one from one end of the range of floats to the other."""
    return pd.DataFrame({"a": np.arange(n) / 3, "b": np.linspace(-1, 1, n) * 1.7e308})


def infinite():
    X = numbers()
    X[3, 1] = np.inf
    return X


def other_width_and_text():
    return np.array([[1.0, "a"], [2.0, {}]] * 5, dtype=object)


class TestFailedFits:
    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    @pytest.mark.parametrize("bad", [infinite, other_width_and_text, lambda: np.empty((0, 3))])
    @pytest.mark.parametrize("fit", ["fit", "fit_transform"])
    @pytest.mark.parametrize("fitted", [False, True])
    def test_change_nothing(self, transformer, bad, fit, fitted):
        one = make(transformer)
        if fitted:
            one.fit(pd.DataFrame(numbers(), columns=list("abcde")))
        before = state(one)
        with pytest.raises((ValueError, TypeError)):
            getattr(one, fit)(bad())
        assert state(one) == before

    @pytest.mark.parametrize("transformer", NUMERIC)
    def test_by_weights_change_nothing(self, transformer):
        one = make(transformer).fit(numbers())
        before = state(one)
        with pytest.raises(ValueError, match="sample_weight has negative values"):
            one.fit(numbers()[:, :2], sample_weight=-np.ones(60))
        assert state(one) == before

    @pytest.mark.parametrize(
        "one", [PiecewiseLinearEncoder(n_bins=1), PeriodicEncoder(scale=1.7e308, min_distinct=50)]
    )
    def test_that_find_no_finite_components_change_nothing(self, one):
        one.fit(numbers(40))
        before = state(one)
        X = 1.7e308 * np.linspace(-1, 1, 60)[:, None]
        with pytest.raises(ValueError, match="column 'x0' are beyond"):
            one.fit(X)
        assert state(one) == before

    @pytest.mark.parametrize("fit", ["fit", "fit_transform"])
    def test_interrupts_change_nothing(self, monkeypatch, fit):
        def interrupt(*_):
            raise KeyboardInterrupt

        one = TableEncoder(max_categories=2, random_state=0).fit(numbers())
        before = state(one)
        X = pd.DataFrame({"size": np.arange(30.0), "town": list("abcdef") * 5})
        monkeypatch.setattr("sklearn_gflow.inputs._table._levels", interrupt)
        with pytest.raises(KeyboardInterrupt):
            getattr(one, fit)(X, np.arange(30) / 7)
        assert state(one) == before

    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    def test_fits_that_succeed_leave_nothing_of_the_one_before(self, transformer):
        named = pd.DataFrame(numbers(), columns=list("abcde"))
        one = make(transformer).fit(named).fit(numbers()[:, :2])
        new = make(transformer).fit(numbers()[:, :2])
        assert set(vars(one)) == set(vars(new))
        np.testing.assert_array_equal(
            one.transform(numbers()[:, :2]), new.transform(numbers()[:, :2])
        )

    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    def test_state_without_a_record_is_replaced(self, transformer):
        one = make(transformer).fit(pd.DataFrame(numbers(), columns=list("abcde")))
        del one._written
        one.fit(numbers(seed=1)[:, :2])
        new = make(transformer).fit(numbers(seed=1)[:, :2])
        assert not hasattr(one, "feature_names_in_")
        np.testing.assert_array_equal(
            one.transform(numbers()[:, :2]), new.transform(numbers()[:, :2])
        )

    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    def test_all_transformers_write_at_once(self, transformer):
        assert issubclass(transformer, FittedState)


class TestHugeNumbers:
    @pytest.mark.parametrize("named", [True, False])
    def test_ramps_are_told_by_the_column(self, named):
        X = huge() if named else huge().to_numpy()
        name = "b" if named else "x1"
        with pytest.raises(
            ValueError, match=rf"column '{name}' are beyond .*; scale the column first"
        ):
            PiecewiseLinearEncoder(n_bins=1).fit(X)

    @pytest.mark.parametrize("transformer", ENCODERS)
    def test_what_comes_out_is_finite_or_told(self, transformer):
        for X in (
            huge(),
            pd.DataFrame({"b": np.tile([-1e308, 1e308], 10)}),
            pd.DataFrame({"b": np.r_[-1.7e308, np.linspace(1.6e308, 1.7e308, 30)]}),
        ):
            try:
                Z = make(transformer, min_distinct=2).fit_transform(X)
            except ValueError as error:
                Z, told = np.zeros(1), str(error)
            else:
                told = "column 'b'"
            assert np.isfinite(Z).all()
            assert "column 'b'" in told

    @pytest.mark.parametrize("transformer", ENCODERS)
    def test_new_rows_out_of_range_are_told_by_the_column(self, transformer):
        one = make(transformer).fit(pd.DataFrame({"a": np.linspace(-1.7e308, -1.6e308, 20)}))
        with pytest.raises(ValueError, match="column 'a' are beyond"):
            one.transform(pd.DataFrame({"a": [1.7e308]}))

    def test_new_rows_out_of_range_of_float32(self):
        one = make(PeriodicEncoder).fit(1e300 * np.arange(20.0)[:, None])
        with pytest.raises(ValueError, match="column 'x0' are beyond"):
            one.transform(np.ones((1, 1), np.float32))

    def test_scales_out_of_range_are_told(self):
        with pytest.raises(ValueError, match=r"column 'x0' .* choose a scale between"):
            make(PeriodicEncoder, scale=1.7e308).fit(numbers())

    @pytest.mark.parametrize("transformer", NUMERIC)
    @pytest.mark.parametrize("unit", [1e308, 1e-307])
    def test_only_ratios_of_weights_matter(self, transformer, unit):
        X, weights = numbers(), np.linspace(0.1, 1.7, 60)
        expected = make(transformer).fit(X, sample_weight=weights).transform(X)
        Z = make(transformer).fit(X, sample_weight=unit * weights).transform(X)
        np.testing.assert_allclose(Z, expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("transformer", ENCODERS)
    def test_moments_are_finite_where_the_range_is_not(self, transformer):
        x = np.tile([-1e308, 1e308], 10)[:, None]
        one = make(transformer).fit(x)
        np.testing.assert_allclose(one.scale_, 1e308)
        assert abs(one.mean_[0]) < 1e293
        np.testing.assert_array_equal(one.transform(x), x)

    def test_the_scaler_takes_the_whole_range(self):
        Z = SmoothRobustScaler().fit_transform(huge())
        np.testing.assert_allclose(Z[:, 1], Z[:, 0], atol=0.2)
        for transformer in ENCODERS:
            assert np.isfinite(make(transformer).fit_transform(Z)).all()

    def test_the_scaler_bends_what_is_beyond_the_range(self):
        one = SmoothRobustScaler().fit(1e-200 * np.arange(20.0)[:, None])
        np.testing.assert_allclose(
            one.transform([[-1e300], [np.nan], [1e300]]).ravel(), [-3, np.nan, 3]
        )

    def test_the_scaler_without_a_bound_tells_the_column(self):
        one = SmoothRobustScaler(clip=None).fit(pd.DataFrame({"a": 1e-200 * np.arange(20.0)}))
        with pytest.raises(
            ValueError, match=r"column 'a' divided by its scale is beyond .*; set clip"
        ):
            one.transform(pd.DataFrame({"a": [np.nan, 1e300]}))


class TestNumbersThatAreNoFloats:
    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    @pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400)])
    def test_are_told_by_the_column(self, transformer, value):
        X = pd.DataFrame({"a": np.arange(3.0), "b": np.array([1, 2, value], dtype=object)})
        with pytest.raises(
            ValueError, match="column 'b' holds a number that is too large for a float"
        ):
            make(transformer).fit(X)
        with pytest.raises(ValueError, match="column 'x1' holds a number that is too large"):
            make(transformer).fit(X.to_numpy())
        with pytest.raises(ValueError, match="column 'x1' holds a number that is too large"):
            make(transformer).fit(X.to_numpy().tolist())

    @pytest.mark.parametrize("transformer", TRANSFORMERS)
    def test_in_transform_too(self, transformer):
        one = make(transformer).fit(pd.DataFrame({"a": np.arange(9.0)}))
        with pytest.raises(ValueError, match="column 'a' holds a number that is too large"):
            one.transform(pd.DataFrame({"a": pd.Series([10**400], dtype=object)}))

    @pytest.mark.skipif(
        np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="no longer floats"
    )
    def test_longer_floats_are_infinity(self):
        with pytest.raises(ValueError, match="column 'x0' contains infinity"):
            TableEncoder().fit(np.array([["1e400"], ["1"]]).astype(np.longdouble))
