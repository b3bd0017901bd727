"""Predictions of large tables: a chunk at a time, in several threads, the same numbers."""

import threading
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.estimators._reading import read
from sklearn_gflow.estimators._threads import in_threads

pytestmark = pytest.mark.slow

N, CHUNK = 24_000, 8192
FEW = {"hidden_layer_sizes": (4,), "schedule": 1, "t_end": 0.5, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.integers(-20, 20, size=(N, 40))


@pytest.fixture(scope="module")
def regressor(table):
    return AdaptedFlowRegressor(**FEW, encoding="piecewise").fit(table[:80], table[:80, 0])


@pytest.fixture(scope="module")
def plain(table):
    return AdaptedFlowRegressor(**FEW).fit(table[:80], table[:80, 0])


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_pieces(method, X):
    pieces = [X[start : start + CHUNK] for start in range(0, len(X), CHUNK)]
    return np.concatenate([method(piece) for piece in pieces])


def on_disk(X, folder):
    mapped = np.memmap(folder / "table", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    return np.memmap(folder / "table", X.dtype, "r", shape=X.shape)


FORMS = {
    "float64": lambda X, folder: X.astype(float),
    "float32": lambda X, folder: X.astype(np.float32),
    "whole numbers": lambda X, folder: X,
    "in columns": lambda X, folder: np.asfortranarray(X, dtype=float),
    "every second row": lambda X, folder: np.repeat(X, 2, axis=0)[::2].astype(float),
    "other bytes first": lambda X, folder: X.astype(">f8"),
    "on disk": lambda X, folder: on_disk(X.astype(np.float32), folder),
    "on disk, whole numbers": on_disk,
    "frame": lambda X, folder: pd.DataFrame(X.astype(float)),
}


@pytest.mark.parametrize("form", FORMS)
class TestForms:
    def test_predictions_are_those_of_its_pieces(self, regressor, table, tmp_path, form):
        given = FORMS[form](table, tmp_path)
        expected = in_pieces(regressor.predict, table)
        np.testing.assert_allclose(regressor.predict(given), expected, rtol=1e-5, atol=1e-6)

    def test_what_is_held_does_not_grow_with_the_table(self, plain, table, tmp_path, form):
        given = FORMS[form](table, tmp_path)
        half, whole = (peak_of(lambda X=X: plain.predict(X)) for X in (given[: N // 2], given))
        # Predictions, and what they are made of, are a few numbers a row of 40.
        assert whole - half <= 0.15 * table.astype(float).nbytes / 2


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_few_rows_of_a_long_map_cost_a_few_rows(tmp_path):
    mapped = np.memmap(tmp_path / "table", np.float32, "w+", shape=(10**6, 1))
    assert peak_of(lambda: read(mapped, slice(5, 10))) <= 10_000


def test_raw_frames(table):
    frame = pd.DataFrame({"a": table[:, 0] * 1.0, "b": np.where(table[:, 1] > 0, "x", "y")})
    frame.loc[5, "a"] = np.nan
    model = AdaptedFlowRegressor(**FEW).fit(frame[:80], table[:80, 0])
    expected = in_pieces(model.predict, frame)
    np.testing.assert_array_equal(model.predict(frame), expected)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities(table, loss, n_classes):
    y = table[:80, 0] % n_classes
    model = AdaptedFlowClassifier(**FEW, loss=loss).fit(table[:80], y)
    for method in (model.predict, model.predict_proba):
        np.testing.assert_array_equal(method(table), in_pieces(method, table))


class TestWhatIsWrong:
    @pytest.mark.usefixtures("_threads")
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("row", [0, N - 1])
    def test_numbers(self, regressor, table, value, row):
        X = table.astype(float)
        X[row, 3] = value
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            regressor.predict(X)

    def test_columns(self, regressor, table):
        with pytest.raises(ValueError, match="expecting 40 features as input"):
            regressor.predict(table[:, :3])

    def test_names_are_told_once(self, table):
        model = AdaptedFlowRegressor(**FEW).fit(
            pd.DataFrame(table[:80], columns=[f"c{j}" for j in range(40)]), table[:80, 0]
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.predict(table)
            small = len(told)
            model.predict(table[:100])
        assert len(told) - small == small


@pytest.mark.usefixtures("_threads")
class TestThreads:
    def test_same_numbers(self, regressor, table):
        found = regressor.predict(table)
        torch.set_num_threads(1)
        np.testing.assert_array_equal(regressor.predict(table), found)

    def test_each_piece_once_and_in_one_thread(self):
        done, seen, both = [], set(), threading.Barrier(2, timeout=30)

        def work(piece):
            if piece < 2:
                both.wait()
            done.append(piece)
            seen.add((threading.get_ident(), torch.get_num_threads()))

        in_threads(work, list(range(50)))
        assert sorted(done) == list(range(50))
        assert len(seen) == 2
        assert {n_threads for _, n_threads in seen} == {1}
        assert torch.get_num_threads() == 2

    def test_first_failure_ends_it(self):
        done = []

        def work(piece):
            if piece == 1:
                raise ValueError("piece 1")
            done.append(piece)
            threading.Event().wait(0.001)

        with pytest.raises(ValueError, match="piece 1"):
            in_threads(work, list(range(1000)))
        assert len(done) < 500

    def test_modes_are_set_aside_in_each(self, regressor, table):
        expected = regressor.predict(table)
        with torch.inference_mode(), np.errstate(all="raise"):
            np.testing.assert_array_equal(regressor.predict(table), expected)
