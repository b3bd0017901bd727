"""Raw frames: gaps, categories, types."""

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from sklearn.utils import get_tags

from sklearn_gflow import AdaptedFlowClassifierCV, SmoothRobustScaler, TableEncoder

N = 120


def columns(seed=0):
    """Values of a table with all that comes along, as lists."""
    random = np.random.default_rng(seed)
    return {
        "size": [None if k % 10 == 3 else float(v) for k, v in enumerate(random.normal(size=N))],
        "count": random.integers(0, 9, N).tolist(),
        "flag": (random.random(N) < 0.5).tolist(),
        "colour": [["red", "green", None][k] for k in random.integers(0, 3, N)],
        "town": [f"town {k}" for k in random.integers(0, 30, N)],
    }


def frame(seed=0):
    return pd.DataFrame(columns(seed))


def target():
    return np.random.default_rng(9).normal(size=N)


NAMES = ["size", "count", "flag", "missingindicator_size", "colour_green", "colour_red", "colour_None", "town"]  # fmt: skip # noqa: E501


def by_target(**parameters):
    """An encoder to which thirty towns are many."""
    return TableEncoder(**{"max_categories": 20, "random_state": 0, **parameters})


def test_a_raw_frame_becomes_numbers():
    X = frame()
    encoder = by_target().set_output(transform="pandas")
    Z = encoder.fit(X, target()).transform(X)
    assert list(Z) == NAMES
    assert not Z.isna().any(axis=None)
    gaps = X["size"].isna()
    np.testing.assert_array_equal(Z["size"][gaps], X["size"].median())
    np.testing.assert_array_equal(Z["size"][~gaps], X["size"][~gaps])
    np.testing.assert_array_equal(Z["missingindicator_size"], gaps)
    np.testing.assert_array_equal(Z["flag"], X["flag"])
    np.testing.assert_array_equal(Z["colour_red"], X["colour"] == "red")
    np.testing.assert_array_equal(Z["colour_None"], X["colour"].isna())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool, object])
def test_arrays_of_numbers_pass_through(dtype):
    X = np.arange(24).reshape(8, 3) % 7
    Z = TableEncoder().fit_transform(X.astype(dtype))
    np.testing.assert_array_equal(Z, X.astype(dtype).astype(float))
    assert Z.dtype == (np.float32 if dtype == np.float32 else np.float64)


def test_float32_stays_beside_categories():
    X = pd.DataFrame({"a": np.arange(4, dtype=np.float32), "b": list("xyxy")})
    assert TableEncoder().fit_transform(X).dtype == np.float32
    assert TableEncoder().fit_transform(X[["b"]]).dtype == np.float64


def test_lists_of_numbers_and_strings():
    Z = TableEncoder().fit_transform([[1, "a"], [2.5, "b"]])
    np.testing.assert_array_equal(Z, [[1, 1, 0], [2.5, 0, 1]])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["a", "b"] * 4, dtype=object),
        pd.Series(["a", "b"] * 4, dtype="string"),
        pd.Series(["a", "b"] * 4, dtype="category"),
        pd.Series([1, 2] * 4, dtype="category"),
        pd.Series([True, False] * 4, dtype="category"),
        pd.Series(pd.Categorical(["a", None, "a", "a"] * 2)),
    ],
)
def test_categories_of_pandas_become_indicators(values):
    Z = TableEncoder().fit_transform(values.to_frame("c"))
    assert Z.shape == (8, 2)
    np.testing.assert_array_equal(Z.sum(axis=1), 1)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None] * 4, dtype="Int64"),
        pd.Series([1.0, None] * 4, dtype="Float32"),
        pd.Series([True, None] * 4, dtype="boolean"),
        pd.Series([1, None] * 4, dtype=object),
        pd.Series([True, np.nan] * 4, dtype=object),
    ],
)
def test_numbers_of_pandas_have_an_indicator_of_gaps(values):
    Z = TableEncoder().fit_transform(values.to_frame("c"))
    np.testing.assert_array_equal(Z, [[1, 0], [1, 1]] * 4)


def test_a_column_that_is_empty_becomes_constants():
    Z = TableEncoder().fit_transform(pd.DataFrame({"a": [1.0, 2.0], "b": [None, None]}))
    np.testing.assert_array_equal(Z, [[1, 0, 1], [2, 0, 1]])


def test_gaps_that_are_new_become_the_median():
    encoder = TableEncoder().fit(np.array([[1.0], [2.0], [6.0]]))
    np.testing.assert_array_equal(encoder.transform([[np.nan]]), [[2.0]])


def test_rare_levels_are_pooled_and_new_ones_are_among_them():
    X = pd.DataFrame({"c": ["a"] * 50 + ["b"] * 48 + ["c", "d"]})
    encoder = TableEncoder(min_frequency=5).fit(X)
    assert encoder.get_feature_names_out().tolist() == ["c_a", "c_b", "c_infrequent_sklearn"]
    new = pd.DataFrame({"c": ["a", "d", "e", None]})
    np.testing.assert_array_equal(encoder.transform(new), np.eye(3)[[0, 2, 2, 2]])
    by_share = TableEncoder(min_frequency=0.05).fit(X)
    np.testing.assert_array_equal(by_share.transform(new), encoder.transform(new))


def test_new_levels_count_for_nothing_where_none_was_rare():
    encoder = TableEncoder().fit(pd.DataFrame({"c": ["a", "b"]}))
    new = pd.DataFrame({"c": ["e", 3]})
    np.testing.assert_array_equal(encoder.transform(new), np.zeros((2, 2)))


class TestManyLevels:
    def test_training_rows_are_encoded_without_their_own_target(self):
        X, y = frame()[["town"]], target()
        cross_fitted = by_target().fit_transform(X, y)[:, 0]
        encoder = by_target().fit(X, y)
        plain = encoder.transform(X)[:, 0]
        np.testing.assert_array_equal(
            plain, TargetEncoder(target_type="continuous").fit(X, y).transform(X)[:, 0]
        )
        # The targets are noise: their own means know them, those of other rows do not.
        assert np.corrcoef(plain, y)[0, 1] > 0.3
        assert np.corrcoef(cross_fitted, y)[0, 1] < 0.1

    def test_the_seed_decides(self):
        X, y = frame()[["town"]], target()
        one, same, other = (by_target(random_state=s).fit_transform(X, y) for s in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)

    def test_new_levels_become_the_mean(self):
        y = target()
        encoder = by_target().fit(frame()[["town"]], y)
        Z = encoder.transform(pd.DataFrame({"town": ["elsewhere"]}))
        np.testing.assert_allclose(Z, [[y.mean()]])

    @pytest.mark.parametrize("y", [None, np.ones((N, 2)) * np.arange(N)[:, None] / 7])
    def test_without_one_target_the_most_frequent_become_indicators(self, y):
        encoder = TableEncoder(max_categories=10).fit(frame()[["town"]], y)
        assert encoder.by_target_.size == 0
        assert len(encoder.get_feature_names_out()) == 10

    def test_max_categories_decides(self):
        X, y = frame()[["town"]], target()
        assert TableEncoder().fit(X, y).one_hot_.tolist() == [0]  # up to a hundred
        assert TableEncoder(max_categories=30).fit(X, y).one_hot_.tolist() == [0]
        assert TableEncoder(max_categories=29).fit(X, y).by_target_.tolist() == [0]

    def test_each_class_has_a_column(self):
        labels = np.array(["u", "v", "w"])[np.arange(N) % 3]
        encoder = by_target()
        Z = encoder.fit_transform(frame()[["town"]], labels)
        assert Z.shape == (N, 3)
        assert encoder.get_feature_names_out().tolist() == ["town_u", "town_v", "town_w"]

    def test_counts_are_numbers_if_told_so(self):
        counts = np.arange(N) % 25
        Z = by_target(target_type="continuous").fit_transform(frame()[["town"]], counts)
        assert Z.shape == (N, 1)

    # Before scikit-learn 1.9 the folds were made inside, and warned.
    @pytest.mark.filterwarnings("ignore:The least populated class")
    def test_a_class_of_few_rows_needs_no_fold_of_its_own(self):
        labels = np.r_[np.zeros(2), np.ones(N - 2)].astype(int)
        assert np.isfinite(by_target().fit_transform(frame()[["town"]], labels)).all()


class TestPolars:
    pl = None

    @pytest.fixture(autouse=True)
    def _polars(self):
        self.pl = pytest.importorskip("polars")

    def test_a_frame_becomes_what_that_of_pandas_does(self):
        of_polars = by_target()
        Z = of_polars.fit_transform(self.pl.DataFrame(columns()), target())
        of_pandas = by_target()
        np.testing.assert_array_equal(Z, of_pandas.fit_transform(frame(), target()))
        assert of_polars.get_feature_names_out().tolist() == NAMES

    def test_a_frame_comes_out(self):
        X = self.pl.DataFrame(columns())
        Z = by_target().set_output(transform="polars").fit(X, target()).transform(X)
        assert isinstance(Z, self.pl.DataFrame)
        assert Z.columns == NAMES

    @pytest.mark.parametrize("kind", ["Categorical", "Enum", "String"])
    def test_categories(self, kind):
        dtype = self.pl.Enum(["a", "b"]) if kind == "Enum" else getattr(self.pl, kind)
        X = self.pl.DataFrame({"c": self.pl.Series(["a", "b", "b"], dtype=dtype)})
        np.testing.assert_array_equal(TableEncoder().fit_transform(X), [[1, 0], [0, 1], [0, 1]])

    def test_dates_are_refused_by_name(self):
        X = self.pl.DataFrame({"c": ["2020-01-01"]}).with_columns(self.pl.col("c").str.to_date())
        with pytest.raises(TypeError, match="column 'c' has type datetime64"):
            TableEncoder().fit(X)


class TestErrors:
    def test_types_that_are_no_numbers_and_no_categories(self):
        X = frame().assign(day=pd.Timestamp("2020-01-01"))
        with pytest.raises(TypeError, match="column 'day' has type datetime64"):
            TableEncoder().fit(X)

    @pytest.mark.parametrize("values", [["a", 1] * 60, [{}] * N])
    def test_levels_without_an_order(self, values):
        with pytest.raises(TypeError, match="column 'mixed' holds levels of type"):
            TableEncoder().fit(frame().assign(mixed=values))

    def test_infinity(self):
        with pytest.raises(ValueError, match="column 'size' contains infinity"):
            TableEncoder().fit(frame().assign(size=np.inf))
        with pytest.raises(ValueError, match="column 'x1' contains infinity"):
            TableEncoder().fit([[0.0, np.inf]])

    def test_numbers_that_are_no_longer(self):
        encoder = TableEncoder().fit(frame())
        with pytest.raises(ValueError, match="column 'size' was one of numbers in fit and now holds 'tall'"):  # fmt: skip # noqa: E501
            encoder.transform(frame().assign(size="tall"))

    @pytest.mark.parametrize("X", [frame().iloc[:0], frame().iloc[:, :0], frame()["size"]])
    def test_shapes_that_are_no_table(self, X):
        with pytest.raises(ValueError, match="needs at least one row and one column"):
            TableEncoder().fit(X)

    def test_other_columns_than_in_fit(self):
        encoder = TableEncoder().fit(frame())
        with pytest.raises(ValueError, match="feature names should match"):
            encoder.transform(frame().rename(columns={"size": "length"}))


def test_the_frame_is_not_changed():
    X = frame()
    TableEncoder().fit(X, target()).transform(X)
    pd.testing.assert_frame_equal(X, frame())


def test_tags():
    tags = get_tags(TableEncoder()).input_tags
    assert tags.allow_nan
    assert tags.categorical
    assert tags.string


@pytest.mark.slow
def test_a_pipeline_takes_a_raw_frame():
    X = frame()
    y = np.where(X["colour"] == "red", "yes", "no")
    search = AdaptedFlowClassifierCV((8,), random_state=0)
    model = make_pipeline(TableEncoder(random_state=0), SmoothRobustScaler(), search)
    assert model.fit(X[:80], y[:80]).score(X[80:], y[80:]) > 0.9
    assert make_pipeline(TableEncoder(), Ridge()).fit(X, y == "yes").score(X, y == "yes") > 0.9


def test_medians_of_many_columns_are_those_of_the_imputer():
    """They are taken some columns at a time, of which scikit-learn would make seven copies."""
    draws = np.random.RandomState(0)
    X = draws.randn(60, 70).astype(np.float32)
    X[draws.rand(60, 70) < 0.1] = np.nan
    X[:, 40], X[:, 41] = np.nan, 1.0
    expected = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True).fit(X)
    found = TableEncoder().fit(X).imputer_
    np.testing.assert_array_equal(found.statistics_, expected.statistics_)
    np.testing.assert_array_equal(found.indicator_.features_, expected.indicator_.features_)
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))
    assert found.transform(X).dtype == np.float32
