"""Tables in partitions: fits and predictions that never gather them, as if they were in memory."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_friedman1

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.estimators import _partitions

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pyarrow = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")

N, M = 2400, 5
FLOW = {"hidden_layer_sizes": (8,), "batch_size": 256, "max_iter": 4, "random_state": 0}
ESTIMATORS = [AdaptedFlowRegressor, AdaptedFlowClassifier]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_gflow.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def small_window(monkeypatch):
    """Two of the partitions below are held at once, and not all of them."""
    monkeypatch.setattr(_partitions, "_WINDOW_BYTES", 1300 * M * 8)


def table(estimator=AdaptedFlowRegressor):
    X, y = make_friedman1(N, M, noise=1.0, random_state=0)
    return X, y if estimator is AdaptedFlowRegressor else np.where(y > 14, "more", "less")


def frame(gaps=True):
    X, y = table()
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(X, columns=list("abcde"))
    if gaps:
        rows.loc[::7, "b"] = np.nan
    rows["few"] = rng.choice(["u", "v", "w"], N)
    rows["many"] = rng.choice([f"level {k}" for k in range(150)], N)
    return rows, y


def in_parts(X, size=600):
    return da.from_array(X, chunks=(size, *X.shape[1:]))


class TestArrays:
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_are_fitted_as_in_memory_where_all_partitions_are_held(self, estimator):
        X, y = table(estimator)
        one = estimator(**FLOW).fit(X, y)
        other = estimator(**FLOW).fit(da.from_array(X, chunks=(600, 2)), in_parts(y, 500))
        np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
        assert one.history_.keys() == other.history_.keys()

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_score_as_well_where_few_are(self, estimator, small_window):
        X, y = table(estimator)
        scores = [
            estimator(**{**FLOW, "random_state": seed}).fit(X, y).score(X, y) for seed in range(3)
        ]
        found = estimator(**FLOW).fit(in_parts(X), in_parts(y))
        assert found.score(X, y) >= min(scores) - 0.005
        again = estimator(**FLOW).fit(in_parts(X), in_parts(y))
        np.testing.assert_array_equal(found.predict(X), again.predict(X))

    def test_are_read_a_few_at_a_time(self, small_window, monkeypatch):
        X, y = table()
        held, reads = [], []
        partition = _partitions.PartitionedRows._partition

        def watched(self, k):
            reads.append(k not in self._held)
            found = partition(self, k)
            held.append(sum(self.sizes[list(self._held)]))
            return found

        monkeypatch.setattr(_partitions.PartitionedRows, "_partition", watched)
        AdaptedFlowRegressor(**FLOW).fit(in_parts(X), y)
        assert 600 < max(held) <= 1300
        # 4 partitions; an epoch, its losses, and fifteen looks at the table before and after, some
        # of them of the encoder.
        assert sum(reads) <= 4 * (2 * FLOW["max_iter"] + 15) + 4

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_have_weights_and_rows_held_out(self, estimator):
        X, y = table(estimator)
        weights = np.tile([0.0, 1.0, 2.0], N // 3)
        flow = {**FLOW, "early_stopping": True}
        one = estimator(**flow).fit(X, y, sample_weight=weights)
        other = estimator(**flow).fit(in_parts(X), in_parts(y), sample_weight=in_parts(weights))
        np.testing.assert_allclose(one.validation_scores_, other.validation_scores_, rtol=1e-10)
        np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-6, atol=1e-9)

    def test_have_rows_to_stop_by_in_partitions_too(self):
        X, y = table()
        flow = AdaptedFlowRegressor(**FLOW, early_stopping=True)
        one = flow.fit(X[:2000], y[:2000], X_val=X[2000:], y_val=y[2000:]).validation_scores_
        parts = in_parts(X[:2000]), in_parts(y[:2000])
        other = flow.fit(*parts, X_val=in_parts(X[2000:]), y_val=in_parts(y[2000:]))
        np.testing.assert_allclose(one, other.validation_scores_, rtol=1e-10)

    def test_stop_as_in_memory_while_rows_held_out_gain(self):
        X, y = table()
        one = AdaptedFlowRegressor((8,), batch_size=256, random_state=0).fit(X, y)
        other = AdaptedFlowRegressor((8,), random_state=0).fit(in_parts(X), y)
        np.testing.assert_array_equal(one.predict(X), other.predict(X))

    def test_go_on_in_chunks(self):
        X, y = table()
        one, other = AdaptedFlowRegressor((8,), random_state=0), None
        other = AdaptedFlowRegressor((8,), random_state=0)
        for rows in (slice(0, 1200), slice(1200, N)):
            one.partial_fit(X[rows], y[rows])
            other.partial_fit(in_parts(X[rows], 500), in_parts(y[rows], 500))
        np.testing.assert_array_equal(one.predict(X), other.predict(X))

    def test_have_gaps_scales_and_an_encoding(self):
        X, y = table()
        X[::5, 1] = np.nan
        flow = {**FLOW, "encoding": "piecewise", "rescalings": 1}
        one = AdaptedFlowRegressor(**flow).fit(X, y)
        other = AdaptedFlowRegressor(**flow).fit(in_parts(X), y)
        np.testing.assert_array_equal(one.predict(X), other.predict(X))

    def test_few_rows_are_fitted_at_once(self):
        X, y = table()
        one = AdaptedFlowRegressor((4,), random_state=0).fit(X[:200], y[:200])
        other = AdaptedFlowRegressor((4,), random_state=0).fit(in_parts(X[:200], 60), y[:200])
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
        assert other.ntk_gram_.shape == (200, 200)

    def test_are_gone_on_with_from_a_checkpoint(self, tmp_path, small_window):
        X, y = table()
        flow = AdaptedFlowRegressor(**FLOW)
        expected = flow.fit(in_parts(X), y).predict(X)
        flow.set_params(checkpoint=tmp_path / "kept")
        for _ in range(2):
            np.testing.assert_array_equal(flow.fit(in_parts(X), y).predict(X), expected)
        with pytest.raises(ValueError, match="is of another fit: X"):
            flow.fit(in_parts(X[::-1]), y)

    def test_of_single_precision_stay_so(self):
        X, y = table()
        found = AdaptedFlowRegressor(**FLOW).fit(in_parts(X.astype(np.float32)), y)
        assert found.X_train_.dtype == np.float32


class TestFrames:
    def test_of_dask_are_fitted_as_in_memory(self):
        X, y = frame()
        one = AdaptedFlowRegressor(**FLOW).fit(X, y)
        parts = dd.from_pandas(X.assign(y=y), npartitions=4)
        other = AdaptedFlowRegressor(**FLOW).fit(parts[list(X)], parts["y"])
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
        assert list(other.feature_names_in_) == list(X)

    def test_have_categories_of_which_a_partition_lacks_some(self):
        X, y = frame()
        order = np.argsort(X["few"], kind="stable")
        X, y = X.iloc[order].reset_index(drop=True), y[order]
        X["few"] = X["few"].astype("category")
        one = AdaptedFlowRegressor(**FLOW).fit(X, y)
        other = AdaptedFlowRegressor(**FLOW).fit(dd.from_pandas(X, npartitions=4), y)
        np.testing.assert_array_equal(one.predict(X), other.predict(X))

    def test_train_on_target_means_of_other_rows(self, monkeypatch):
        """A sample of the rows is learnt from; none of all is encoded by its own target."""
        rng = np.random.default_rng(0)
        X = pd.DataFrame({"noise": rng.choice([f"level {k}" for k in range(1200)], N)})
        y = rng.normal(size=N)
        monkeypatch.setattr("sklearn_gflow.estimators._inputs._LEARNT_FROM", 1000)
        found = AdaptedFlowRegressor(**FLOW).fit(dd.from_pandas(X, npartitions=4), y)
        assert found.loss_curve_[0] * 0.97 < found.loss_

    def test_of_parquet_name_their_target(self, tmp_path):
        X, y = frame()
        rows = X.assign(target=y, weight=1.0 + np.arange(N) % 2)
        for k, part in enumerate(np.array_split(np.arange(N), 3)):
            rows.iloc[part].to_parquet(tmp_path / f"{k}.parquet", row_group_size=300)
        dataset = ds.dataset(tmp_path)
        one = AdaptedFlowRegressor(**FLOW).fit(X, y, sample_weight=rows["weight"])
        other = AdaptedFlowRegressor(**FLOW).fit(dataset, "target", sample_weight="weight")
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
        np.testing.assert_array_equal(other.predict(dataset), other.predict(X))
        assert other.score(dataset, "target") == pytest.approx(one.score(X, y))

    def test_of_numbers_go_on_from_an_array(self):
        X, y = table()
        flow = AdaptedFlowRegressor((8,), random_state=0).partial_fit(X, y)
        parts = dd.from_pandas(pd.DataFrame(X), npartitions=3)
        flow.partial_fit(parts, y)
        assert flow.score(X, y) > 0.5


class TestGuide:
    PAGE = Path(__file__).parents[2] / "docs/user_guide/larger_than_memory.md"

    def test_of_arrays_runs_as_it_stands(self):
        example, *_ = re.findall("```python\n(.*?)```", self.PAGE.read_text("utf-8"), re.S)
        known = {}
        exec(example, known)
        assert isinstance(known["predicted"], da.Array)
        assert known["error"] < 0.2


class TestPredictions:
    @pytest.mark.parametrize(
        "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
    )
    def test_are_lazy_and_those_of_the_rows(self, method):
        X, y = table(AdaptedFlowClassifier)
        X = X.astype(np.float32)
        flow = AdaptedFlowClassifier(**FLOW).fit(X, y)
        found = getattr(flow, method)(in_parts(X, 700))
        expected = getattr(flow, method)(X)
        assert isinstance(found, da.Array)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found.compute(), expected)

    def test_of_frames_are_arrays_of_as_many_partitions(self):
        X, y = frame()
        flow = AdaptedFlowRegressor(**FLOW).fit(X, y)
        parts = dd.from_pandas(X, npartitions=4)
        found = flow.predict(parts)
        assert found.npartitions == 4
        np.testing.assert_array_equal(found.compute(), flow.predict(X))
        assert flow.predict(parts[parts["a"] > 2]).compute().shape == (0,)

    def test_are_those_of_the_model_as_it_was(self):
        X, y = table()
        flow = AdaptedFlowRegressor(**FLOW).fit(X, y)
        found, expected = flow.predict(in_parts(X)), flow.predict(X)
        flow.fit(X, -y)
        np.testing.assert_array_equal(found.compute(), expected)

    @pytest.mark.parametrize("n_chunks", [3, 30])
    def test_hold_the_model_once(self, n_chunks):
        X, y = table()
        flow = AdaptedFlowRegressor(**FLOW).fit(X, y)
        graph = dict(flow.predict(in_parts(X, N // n_chunks)).__dask_graph__())
        tasks = [key for key in graph if isinstance(key, str) and "AdaptedFlow" in key]
        assert len(tasks) == 1

    def test_of_a_search_are_lazy_too(self):
        X, y = table()
        search = AdaptedFlowRegressorCV(
            (4,), random_state=0, encodings=[None], alphas=[0.5], ensemble=False
        ).fit(X[:100], y[:100])
        np.testing.assert_array_equal(search.predict(in_parts(X)).compute(), search.predict(X))
        assert search.score(in_parts(X), in_parts(y)) == search.score(X, y)

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_are_scored(self, estimator):
        X, y = table(estimator)
        flow = estimator(**FLOW).fit(X, y)
        weights = 1.0 + np.arange(N) % 2
        parts = in_parts(X), in_parts(y), in_parts(weights)
        assert flow.score(*parts) == flow.score(X, y, weights)

    def test_are_scored_by_the_loss(self):
        X, y = table()
        flow = AdaptedFlowRegressor(**FLOW, loss="huber").fit(X, y)
        assert flow.score(in_parts(X), in_parts(y)) == flow.score(X, y)


class TestRefusals:
    """What needs all rows says so, and what to do."""

    @pytest.mark.parametrize(
        "parameter", [{"batch_size": None}, {"method": "RK45"}, {"early_stopping": "loo"}]
    )
    def test_of_the_full_batch(self, parameter):
        X, y = table()
        (name,) = parameter
        with pytest.raises(ValueError, match=f"{name}=.* takes all rows at once.*X.compute()"):
            AdaptedFlowRegressor((4,), **parameter).fit(in_parts(X), y)

    @pytest.mark.parametrize("search", [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV])
    def test_of_searches(self, search):
        with pytest.raises(ValueError, match=r"CV.fit takes a table in memory.*some of its rows"):
            search().fit(in_parts(np.ones((9, 2))), np.ones(9))

    def test_of_kernels_and_deviations(self):
        X, y = table()
        flow = AdaptedFlowRegressor(**FLOW).fit(X, y)
        with pytest.raises(ValueError, match="takes a table in memory"):
            flow.ntk(in_parts(X))
        with pytest.raises(ValueError, match="predict takes X alone"):
            flow.predict(in_parts(X), return_std=True)

    def test_of_infinity(self):
        X, y = table()
        X[-1, 0] = np.inf
        with pytest.raises(ValueError, match="X contains infinity"):
            AdaptedFlowRegressor(**FLOW).fit(in_parts(X), y)

    def test_of_other_columns(self):
        parts = [pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]})]
        looks = [_partitions._look(part) for part in parts]
        with pytest.raises(ValueError, match=r"partition 1 of X has the columns \['b'\]"):
            _partitions.PartitionedRows.of([None, None], looks)

    def test_of_rows_that_move(self):
        X, y = table()
        rng = np.random.default_rng(0)
        moving = in_parts(X).map_blocks(lambda rows: rng.permutation(rows), dtype=float)
        with pytest.raises(ValueError, match="has other rows than when it was read before"):
            AdaptedFlowRegressor(**FLOW).fit(moving, y)

    def test_of_another_number_of_targets(self):
        X, y = table()
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            AdaptedFlowRegressor(**FLOW).fit(in_parts(X), in_parts(y[:-1]))

    def test_of_no_rows(self):
        with pytest.raises(ValueError, match="no rows in any of its partitions"):
            AdaptedFlowRegressor(**FLOW).fit(da.zeros((0, 2)), np.empty(0))

    def test_of_one_axis(self):
        with pytest.raises(ValueError, match="X has 1 axes"):
            AdaptedFlowRegressor(**FLOW).fit(da.zeros(5, chunks=2), np.zeros(5))

    def test_of_sparse_partitions(self):
        sparse = pytest.importorskip("scipy.sparse")
        X, y = table()
        parts = in_parts(X).map_blocks(sparse.csr_array, dtype=float)
        with pytest.raises(ValueError, match="X has sparse partitions; make them dense"):
            AdaptedFlowRegressor(**FLOW).fit(parts, y)

    def test_of_names_that_are_no_columns(self, tmp_path):
        frame()[0].to_parquet(tmp_path / "0.parquet")
        with pytest.raises(ValueError, match="y='target' names no column of X"):
            AdaptedFlowRegressor(**FLOW).fit(ds.dataset(tmp_path), "target")

    def test_of_a_dataset_that_lacks_columns(self, tmp_path):
        rows, y = frame()
        rows.to_parquet(tmp_path / "0.parquet")
        model = AdaptedFlowRegressor(**FLOW).fit(ds.dataset(tmp_path), y)
        lost = next(iter(rows))
        others = ds.dataset(pyarrow.Table.from_pandas(rows.drop(columns=lost)))
        for ask in (model.predict, lambda X: model.score(X, y)):
            with pytest.raises(ValueError, match=rf"X lacks the columns \['{lost}'\] of fit"):
                ask(others)

    def test_of_a_table_of_pyarrow(self):
        rows, y = frame()
        X = pyarrow.Table.from_pandas(rows)
        model = AdaptedFlowRegressor(**FLOW).fit(rows, y)
        search = AdaptedFlowRegressorCV()
        for call in (lambda: model.fit(X, y), lambda: model.predict(X), lambda: search.fit(X, y)):
            with pytest.raises(ValueError, match=r"table of pyarrow; hand over X.to_pandas\(\)"):
                call()
