"""Tables mapped from disk: the fit of the same table in memory, without a copy of it."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_friedman1

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.estimators import _inputs, _reading

pytestmark = pytest.mark.slow

FLOW = {"hidden_layer_sizes": (4,), "batch_size": 256, "max_iter": 3, "random_state": 0}
STATUS = Path("/proc/self/status")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_gflow.exceptions.ConvergenceWarning")


@pytest.fixture
def mapped(tmp_path):
    def mapped(X, order="C"):
        found = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape, order=order)
        found[:] = X
        return found

    return mapped


def table(n=1500):
    return make_friedman1(n, 6, random_state=0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_fits_are_those_of_the_table_in_memory(mapped, dtype, order):
    X, y = table()
    X = (20 * X).astype(dtype)
    one = AdaptedFlowRegressor(**FLOW).fit(X, y)
    other = AdaptedFlowRegressor(**FLOW).fit(mapped(X, order), y)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    np.testing.assert_array_equal(one.predict(X), one.predict(mapped(X, order)))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_are_converted_and_split_a_block_at_a_time(mapped, dtype, monkeypatch):
    X, y = table()
    X = (20 * X).astype(dtype)
    weights = np.tile([0.0, 1.0, 2.0], len(X) // 3)
    monkeypatch.setattr(_inputs, "_LEARNT_FROM", 100)
    monkeypatch.setattr(_reading, "_CHUNK", 256)
    flow = AdaptedFlowRegressor(**FLOW, early_stopping=True)
    expected = flow.fit(X, y, sample_weight=weights).predict(X)
    asked, read = [], _reading.SelectedRows.__getitem__

    def watched(self, rows):
        found = read(self, rows)
        asked.append(len(found))
        return found

    monkeypatch.setattr(_reading.SelectedRows, "__getitem__", watched)
    flow.fit(mapped(X), y, sample_weight=weights)
    np.testing.assert_allclose(flow.predict(X), expected, rtol=1e-6)
    assert max(asked) <= 2000 < sum(asked)


def test_have_gaps(mapped):
    X, y = table()
    X[::7, 2] = np.nan
    one, other = (AdaptedFlowRegressor(**FLOW).fit(rows, y) for rows in (X, mapped(X)))
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    np.testing.assert_array_equal(one.predict(X), one.predict(mapped(X)))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_have_no_infinity(mapped, value):
    X, y = table()
    X[-1, 0] = value
    with pytest.raises(ValueError, match="X contains infinity"):
        AdaptedFlowRegressor(**FLOW).fit(mapped(X), y)


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
class TestPages:
    """Of large maps they are given back once they were read."""

    SHAPE = 30_000, 2400  # of bytes; more than are left alone

    def grown(self, X, rows):
        def size():
            lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
            return int(lines["RssFile"].split()[0]) * 1024

        before = size()
        _reading.read(X, rows)
        return size() - before

    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_reading, "_LARGE_BYTES", 2**20)
        np.memmap(tmp_path / "X", np.uint8, "w+", shape=self.SHAPE)[:] = 1
        return tmp_path / "X"

    @pytest.mark.parametrize("mode", ["r", "r+"])
    @pytest.mark.parametrize("rows", [slice(None), np.arange(0, 30_000, 11)])
    def test_do_not_stay(self, path, mode, rows):
        X = np.memmap(path, np.uint8, mode, shape=self.SHAPE)
        assert self.grown(X, rows) < X.nbytes / 10

    def test_of_maps_that_keep_changes_to_themselves_stay(self, path):
        X = np.memmap(path, np.uint8, "c", shape=self.SHAPE)
        X[0] = 2
        _reading.read(X, slice(None))
        assert (X[0] == 2).all()

    def test_with_changes_are_not_lost(self, path):
        X = np.memmap(path, np.uint8, "r+", shape=self.SHAPE)
        X[0] = 2
        _reading.read(X, slice(None))
        assert (X[0] == 2).all()
