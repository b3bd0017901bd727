"""What a prediction does once and not at every call, and that it changes nothing."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.utils import validation

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV, TableEncoder, contract
from sklearn_gflow.diagnostics import TangentPosterior
from sklearn_gflow.estimators import _network
from sklearn_gflow.inputs import SmoothRobustScaler
from tests.estimators.searches import example

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
y = np.sin(X[:, 0]) + X[:, 1]
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
MAP = {"dtype": [np.float64, np.float32], "order": "C", "reset": False}


def model(**parameters):
    return AdaptedFlowRegressor((8,), random_state=0, **parameters)


def outcome(check, *args, **options):
    """What a check returns, or says."""
    try:
        return check(*args, **options)
    except (ValueError, TypeError) as error:
        return str(error)


class TestValidation:
    """What scikit-learn would hand back as it is does not go through its checks."""

    @pytest.mark.parametrize(
        "rows",
        [
            X, X[:1], X.astype(np.float32), X.astype(">f8"), X.astype(int), np.asfortranarray(X),
            X[::-1], X[:, :2], X[0], X[:0], X[None], X.tolist(), np.full((2, 3), np.nan),
            np.full((2, 3), np.inf), np.full((2, 3), 1e308), X.astype(complex), X.astype(object),
            np.ma.masked_array(X), FRAME, FRAME[["b", "a", "c"]],
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore:X has feature names")
    @pytest.mark.filterwarnings("ignore:Complex")
    def test_is_that_of_scikit_learn(self, rows):
        fitted = StandardScaler().fit(X)
        for options in (
            MAP, {**MAP, "ensure_all_finite": "allow-nan"}, {**MAP, "accept_sparse": "csr"},
            {"reset": False},
        ):  # fmt: skip
            found = outcome(contract.validate_data, fitted, rows, **options)
            expected = outcome(validation.validate_data, fitted, rows, **options)
            if isinstance(expected, str):
                assert found == expected
                continue
            assert type(found) is type(expected)
            assert (found is rows) == (expected is rows)
            assert (found.dtype, found.strides) == (expected.dtype, expected.strides)
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("rows", [X, X.astype(int), X[:, :2], X[:0], FRAME])
    @pytest.mark.filterwarnings("ignore:X has feature names")
    def test_is_that_of_scikit_learn_where_the_shape_alone_counts(self, rows):
        fitted, shape = StandardScaler().fit(X), {"reset": False, "skip_check_array": True}
        found = outcome(contract.validate_data, fitted, rows, **shape)
        expected = outcome(validation.validate_data, fitted, rows, **shape)
        assert found == expected if isinstance(expected, str) else found is rows

    @pytest.mark.parametrize("encoding", [None, "piecewise", "periodic"])
    def test_asks_scikit_learn_of_no_array_that_is_in_order(self, encoding, monkeypatch):
        """On the way to the network rows pass scaler and encoder, which check them as well."""
        fitted = model(encoding=encoding).fit(X, y)
        expected = fitted.predict(X)
        monkeypatch.setattr(validation, "validate_data", None)
        np.testing.assert_array_equal(fitted.predict(X), expected)

    def test_names_of_columns_still_count(self):
        fitted = StandardScaler().fit(FRAME)
        whole = {"reset": False, "skip_check_array": True}
        assert contract.validate_data(fitted, FRAME, **whole) is FRAME
        with pytest.raises(ValueError, match="in the same order"):
            contract.validate_data(fitted, FRAME[["b", "a", "c"]], **whole)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            contract.validate_data(fitted, X, **MAP)


class TestFrames:
    """A frame of numbers passes whole where it comes to the same column by column."""

    def test_of_all_types_are_numbers(self):
        encoder = TableEncoder().fit(FRAME)
        for frame in (
            FRAME, FRAME.astype(np.float32), FRAME.round().astype(int), FRAME > 0,
            FRAME.astype({"a": np.float32, "b": np.float64}), FRAME.assign(b=1),
            FRAME.assign(b=True), FRAME.astype("Float64"), FRAME.astype(object),
        ):  # fmt: skip
            by_column = np.column_stack([frame[name].astype(float) for name in frame])
            found = encoder.transform(frame)
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, by_column)

    def test_of_single_precision(self):
        encoder = TableEncoder().fit(FRAME.astype(np.float32))
        assert encoder.transform(FRAME).dtype == np.float32

    def test_with_gaps_are_filled(self):
        encoder = TableEncoder().fit(FRAME)
        filled = encoder.transform(FRAME.assign(b=np.nan))
        np.testing.assert_array_equal(filled[:, 1], np.full(len(X), np.median(X[:, 1])))

    def test_with_infinity_are_refused(self):
        with pytest.raises(ValueError, match="column 'b' contains infinity"):
            TableEncoder().fit(FRAME).transform(FRAME.assign(b=np.inf))

    def test_after_gaps_in_fit_have_their_indicators(self):
        gap = FRAME.copy()
        gap.iloc[0, 0] = np.nan
        assert TableEncoder().fit(gap).transform(FRAME).shape == (len(X), 4)


class TestNetworks:
    def test_are_made_once_and_not_pickled(self, monkeypatch):
        fitted = model().fit(X, y)
        before, size = fitted.predict(X), len(pickle.dumps(model().fit(X, y)))
        assert len(pickle.dumps(fitted)) == size
        monkeypatch.setattr(_network, "LayeredNetwork", None)
        np.testing.assert_array_equal(fitted.predict(X), before)
        monkeypatch.undo()
        for again in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
            np.testing.assert_array_equal(again.predict(X), before)

    def test_of_a_new_fit_are_new(self):
        fitted = model().fit(X, y)
        fitted.predict(X)
        np.testing.assert_array_equal(fitted.fit(X, -y).predict(X), model().fit(X, -y).predict(X))

    def test_share_no_memory_with_what_a_user_may_change(self):
        fitted = model().fit(X, y)
        before = fitted.predict(X)
        rows = X.copy()
        first = fitted.predict(rows)
        rows[:] = 0
        fitted.coefs_[0][:] = 0
        np.testing.assert_array_equal(first, before)
        np.testing.assert_array_equal(fitted.predict(X), before)

    def test_take_rows_a_chunk_at_a_time(self, monkeypatch):
        fitted = model().fit(X, y)
        whole = fitted.predict(X)
        monkeypatch.setattr(_network, "_CHUNK_BYTES", 7 * 8)
        np.testing.assert_allclose(fitted.predict(X), whole, rtol=1e-12)

    @pytest.mark.slow
    def test_serve_threads_at_once(self):
        fitted = model().fit(X, y)
        parts = [X[k : k + 5] for k in range(0, 40, 5)]
        expected = [model().fit(X, y).predict(part, return_std=True) for part in parts]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda part: fitted.predict(part, return_std=True), parts))
        np.testing.assert_array_equal(found, expected)


class TestDeviations:
    @pytest.fixture
    def decompositions(self, monkeypatch):
        """The calls that decompose."""
        calls, decompose = [], TangentPosterior.by_leave_one_out

        def counted(*args):
            calls.append(args)
            return decompose(*args)

        monkeypatch.setattr(TangentPosterior, "by_leave_one_out", counted)
        return calls

    @pytest.mark.parametrize("batch_size", [None, 10])
    def test_are_decomposed_once(self, decompositions, batch_size):
        fitted = model(batch_size=batch_size).fit(X, y)
        size = len(pickle.dumps(fitted))
        first = fitted.predict(X, return_std=True)
        np.testing.assert_array_equal(fitted.predict(X, return_std=True), first)
        assert len(decompositions) == 1
        assert len(pickle.dumps(fitted)) == size
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict(X, return_std=True), first)
        assert len(decompositions) == 2

    def test_of_a_new_fit_are_new(self, decompositions):
        fitted = model().fit(X, y)
        fitted.predict(X, return_std=True)
        found = fitted.fit(X, 2 * y).predict(X, return_std=True)
        np.testing.assert_array_equal(found, model().fit(X, 2 * y).predict(X, return_std=True))
        fitted.partial_fit(X, y).predict(X, return_std=True)
        assert len(decompositions) == 4


@pytest.fixture(scope="module")
def search():
    grid = {"encodings": [None, "piecewise", "periodic"], "alphas": [0.5], "t_ends": [0.5, 0.9]}
    rows, targets = example(AdaptedFlowRegressorCV)
    table = pd.DataFrame(rows, columns=list("abcdefghij"))
    found = AdaptedFlowRegressorCV((8,), random_state=0, cv=3, **grid).fit(table, targets)
    assert len(found.estimators_) > 1
    return found, table


class TestMembers:
    """Members of a search read X together."""

    @pytest.mark.slow
    def test_scale_once(self, search, monkeypatch):
        found, table = search
        rows, scale = [], SmoothRobustScaler.transform

        def counted(self, X):
            rows.append(len(X))
            return scale(self, X)

        monkeypatch.setattr(SmoothRobustScaler, "transform", counted)
        found.predict(table[:1])
        assert rows == [1]

    def test_predict_as_each_of_them_alone(self, search):
        found, table = search
        pairs = list(zip(found.ensemble_weights_, found.estimators_, strict=True))
        mean, std = found.predict(table, return_std=True)
        np.testing.assert_array_equal(mean, sum(w * one.predict(table) for w, one in pairs))
        squares = sum(w * one.predict(table, return_std=True)[1] ** 2 for w, one in pairs)
        np.testing.assert_allclose(std, np.sqrt(squares), rtol=1e-12)
        np.testing.assert_array_equal(found.predict(table), mean)

    def test_that_read_otherwise_read_for_themselves(self, search):
        found, table = search
        own = copy.copy(found)
        own.estimators_ = [copy.deepcopy(one) for one in found.estimators_]
        np.testing.assert_array_equal(own.predict(table), found.predict(table))
