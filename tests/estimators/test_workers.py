"""Searches shared out among workers: the same result, whoever computes it and whatever dies."""

import os
import pickle
import signal
import threading
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.estimators import _workers
from sklearn_gflow.estimators._workers import Workers
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.estimators.searches import SEARCHES, example, small

pytestmark = pytest.mark.slow

# All but the smallest arrays come as maps of a file, as large ones do. With one thread each.
LOKY = partial(parallel_config, backend="loky", inner_max_num_threads=1, max_nbytes=100)
GRID = {"encodings": [None, "piecewise"], "alphas": [0.5], "t_ends": [0.5, 0.9], "ensemble": True}


@pytest.fixture(autouse=True)
def _one_thread():
    """With other numbers of threads sums are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Lethal(TransformerMixin, BaseEstimator):
    """Passes columns through, and kills its process where a file says how often it may."""

    def __init__(self, lives, parent):
        self.lives, self.parent = lives, parent

    def fit(self, X, y=None):
        left = os.path.getsize(self.lives)
        if left and os.getpid() != self.parent:
            os.truncate(self.lives, left - 1)
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def transform(self, X):
        return X


def assert_same(one, other, X):
    assert one.best_params_ == other.best_params_
    for name, column in one.cv_results_.items():
        np.testing.assert_array_equal(np.asarray(column), np.asarray(other.cv_results_[name]), name)
    np.testing.assert_array_equal(one.ensemble_weights_, other.ensemble_weights_)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    np.testing.assert_array_equal(one.best_estimator_.ntk_gram_, other.best_estimator_.ntk_gram_)
    assert vars(one).keys() == vars(other).keys()
    assert vars(one.best_estimator_).keys() == vars(other.best_estimator_).keys()


@pytest.mark.parametrize("search", SEARCHES)
class TestBackends:
    @pytest.mark.parametrize(("backend", "cv"), [("loky", None), ("threading", None), ("loky", 3)])
    def test_find_the_same(self, search, backend, cv):
        X, y = example(search)
        alone = small(search, cv=cv, **GRID).fit(X, y)
        with LOKY() if backend == "loky" else parallel_config(backend=backend):
            together = small(search, cv=cv, n_jobs=2, **GRID).fit(X, y)
        assert_same(alone, together, X)
        assert b"memmap" not in pickle.dumps(together)

    def test_share_what_reads_X(self, search):
        X, y = example(search)
        with LOKY():
            found = small(search, n_jobs=2, **GRID).fit(X, y)
        assert len({id(member._inputs.scaler) for member in found.estimators_}) == 1
        alone = small(search, **GRID).fit(X, y)
        assert len(pickle.dumps(found)) < len(pickle.dumps(alone)) + X.nbytes

    def test_are_asked_for_by_the_context_alone(self, search, monkeypatch):
        asked = []
        monkeypatch.setattr(_workers, "Parallel", lambda **how: asked.append(how) or 1 / 0)
        with parallel_config(n_jobs=2), pytest.raises(ZeroDivisionError):
            small(search, **GRID).fit(*example(search))
        assert asked == [{"n_jobs": 2, "return_as": "generator"}]


class TestProcesses:
    """What has to come to them."""

    def test_get_modules_that_no_file_holds(self):
        X, y = example(SEARCHES[0])
        own = {
            "encodings": [None],
            "alphas": [0.2, 0.5],
            "cv": 2,
            "module": lambda n, q: torch.nn.Sequential(
                torch.nn.Linear(n, 4), torch.nn.Tanh(), torch.nn.Linear(4, q)
            ),
        }
        alone = small(SEARCHES[0], **{**GRID, **own}).fit(X, y)
        with LOKY():
            together = small(SEARCHES[0], n_jobs=2, **{**GRID, **own}).fit(X, y)
        np.testing.assert_array_equal(alone.predict(X), together.predict(X))

    def test_get_frames_with_gaps_and_categories(self):
        X, y = example(SEARCHES[1])
        frame = pd.DataFrame(X).rename(columns="x{}".format)
        frame.iloc[::7, 0] = np.nan
        frame["kind"] = pd.Categorical(np.where(X[:, 1] > 0, "high", "low"))
        alone = small(SEARCHES[1], **GRID).fit(frame, y)
        with LOKY():
            together = small(SEARCHES[1], n_jobs=2, **GRID).fit(frame, y)
        np.testing.assert_array_equal(alone.predict_proba(frame), together.predict_proba(frame))
        assert len({id(member._inputs.table) for member in together.estimators_}) == 1


def _warned(k):
    warnings.warn(f"told by {k}", ConvergenceWarning, stacklevel=1)
    return k


class TestTasks:
    def test_come_back_in_order(self):
        with LOKY():
            assert Workers(2).each(pow, [(k, 2) for k in range(9)]) == [k * k for k in range(9)]
            assert Workers(2).each(pow, []) == []

    def test_warn_where_the_user_sees_it(self):
        with pytest.warns(ConvergenceWarning, match="told by") as told, LOKY():
            assert Workers(2).each(_warned, [(0,), (1,)]) == [0, 1]
        assert [str(one.message) for one in told] == ["told by 0", "told by 1"]
        assert {one.filename for one in told} == {__file__}


def test_a_grid_search_over_the_estimators_finds_the_same():
    X, y = example(SEARCHES[0])
    grid, flow = {"alpha": [0.2, 0.5]}, AdaptedFlowRegressor((8,), random_state=0)
    alone = GridSearchCV(flow, grid, cv=3).fit(X, y)
    with LOKY():
        together = GridSearchCV(flow, grid, cv=3, n_jobs=2).fit(X, y)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(alone.cv_results_[name], together.cv_results_[name])
    np.testing.assert_array_equal(alone.predict(X), together.predict(X))


def test_backends_that_hand_out_all_at_the_end_will_do():
    told = []
    with parallel_config(backend="multiprocessing"):
        found = Workers(2).each(abs, [(-1,), (-2,), (-3,)], lambda *one: told.append(one))
    assert (found, told) == ([1, 2, 3], [(0, 1), (1, 2), (2, 3)])


# Workers are started anew from here on, which takes seconds: by one that was killed, and where they
# are asked for otherwise.


class TestKilledWorkers:
    def lethal(self, tmp_path, lives):
        (tmp_path / "lives").write_bytes(b"." * lives)
        return Lethal(str(tmp_path / "lives"), os.getpid())

    def fitted(self, encoder, n_jobs):
        X, y = example(SEARCHES[0])
        with LOKY():
            return small(SEARCHES[0], n_jobs=n_jobs, **{**GRID, "encodings": [None, encoder]}).fit(
                X, y
            )

    def test_lose_nothing(self, tmp_path):
        encoder = self.lethal(tmp_path, 1)
        alone, together = self.fitted(encoder, None), self.fitted(encoder, 2)
        assert (tmp_path / "lives").stat().st_size == 0
        X, _ = example(SEARCHES[0])
        np.testing.assert_array_equal(alone.predict(X), together.predict(X))

    def test_that_are_killed_again_and_again_end_the_search(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_workers, "_LOSSES", 0)
        with pytest.raises(RuntimeError, match=r"n_jobs=2 were killed 1 times in a row.*lower n_j"):
            self.fitted(self.lethal(tmp_path, 1000), 2)


def _threads(k):
    return torch.get_num_threads()


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_tasks_do_not_take_more_threads_than_there_are(backend):
    torch.set_num_threads(2)
    with parallel_config(backend=backend):
        found = Workers(2).each(_threads, [(k,) for k in range(8)])
    assert set(found) == {max(1, (os.cpu_count() or 1) // 2)} or set(found) == {1}
    assert torch.get_num_threads() == 2
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]
