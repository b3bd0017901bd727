"""What happens to a whole process: forks, limits of memory, a file that is cut, switches of scipy.

Each runs in a process of its own, which may hang or be killed without harm, and where it is about
how an interpreter starts, in an interpreter of its own.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sklearn_gflow
from tests import processes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks"),
]

ROOT = str(Path(sklearn_gflow.__file__).parents[1])

TABLE = """
import numpy as np
import torch
from sklearn_gflow import *
rng = np.random.default_rng(0)
X = rng.normal(size=(400, 5))
y = np.sin(X[:, 0])
"""


def script(code):
    return TABLE + textwrap.dedent(code)


def run(code, limit=120, **environment):
    """What a script prints, in an environment without a bound on the number of threads."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    clean.update(environment, PYTHONPATH=ROOT)
    done = subprocess.run(
        [sys.executable, "-c", script(code)],
        env=clean, capture_output=True, text=True, timeout=limit, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split("\n")[:-1]


def test_a_forked_child_predicts_and_fits():
    printed = run("""
        import multiprocessing
        torch.set_num_threads(4)
        model = AdaptedFlowRegressor((300, 300), schedule=1, random_state=0).fit(X, y)
        before = model.predict(X)
        def child():
            np.testing.assert_allclose(model.predict(X), before, rtol=1e-9, atol=1e-12)
            AdaptedFlowRegressor((50,), schedule=1).fit(X, y)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        print(process.exitcode, torch.get_num_threads())
        if process.exitcode is None:
            process.kill()
        from joblib import Parallel, delayed, parallel_config
        with parallel_config("multiprocessing"):
            found = Parallel(n_jobs=2, timeout=60)(delayed(model.predict)(X) for _ in range(2))
        np.testing.assert_allclose(found[1], before, rtol=1e-9, atol=1e-12)
        print("done")
    """)
    assert printed == ["0 4", "done"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the limits of Linux")
@pytest.mark.parametrize(("kind", "place"), [("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)])
def test_under_a_limit_on_memory_nothing_raises_but_memory_errors(kind, place):
    printed = processes.run(
        script("""
        import resource, sys, warnings
        torch.set_num_threads(1)
        kind, place = getattr(resource, sys.argv[1]), int(sys.argv[2])
        def table(n):
            Z = rng.normal(size=(n, 3))
            return Z, np.sin(Z[:, 0])
        def flow(sizes=(200, 40), **options):
            return AdaptedFlowRegressor(sizes, schedule=1, random_state=0, **options)
        flow().fit(*table(50))
        AdaptedFlowRegressorCV((4,)).fit(*table(50))
        fitted = flow((4,)).fit(*table(50))
        wide = lambda n, q: torch.nn.Linear(n, 10**8)
        cases = {
            "Gram": lambda: flow(batch_size=None).fit(*table(4000)),
            "SVD": lambda: flow(solver="svd").fit(*table(2000)),
            "leave-one-out": lambda: flow(early_stopping="loo").fit(*table(4000)),
            "search": lambda: AdaptedFlowRegressorCV((10**5,)).fit(*table(4000)),
            "layers": lambda: AdaptedFlowRegressor((10**5,)).fit(*table(2000)),
            "module": lambda: AdaptedFlowRegressor(module=wide).fit(*table(20)),
            "kernel": lambda: fitted.ntk(table(9000)[0]),
        }
        size = int(open("/proc/self/statm").read().split()[place]) * resource.getpagesize()
        resource.setrlimit(kind, (size + 2 * 10**8, resource.RLIM_INFINITY))
        for name, call in cases.items():
            try:
                call()
                print(name, "fitted")
            except GramMemoryError as error:
                print(name, "bytes" in str(error) or "memory ran out" in str(error))
        small = flow().fit(*table(50))
        print("then", small.n_iter_)
        """),
        kind,
        place,
    )
    names = ["Gram", "SVD", "leave-one-out", "search", "layers", "module", "kernel"]
    assert printed == [*(f"{name} True" for name in names), "then 1"]


CUT = """
    import sys, warnings
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path, at, mode = sys.argv[1:]
    n = 20_000
    np.memmap(path, dtype="float64", mode="w+", shape=(n, 16))[:] = rng.normal(size=(n, 16))
    table = np.memmap(path, dtype="float64", mode="r", shape=(n, 16))
    target = np.array(table[:, 0])
    def cut():
        with open(path, "r+b") as file:
            file.truncate(4096)
    class Net(torch.nn.Linear):
        calls = 0
        def forward(self, X):
            Net.calls += 1
            if Net.calls == int(at):
                cut()
            return super().forward(X)
    options = {"module": Net, "batch_size": 500, "schedule": 1, "random_state": 0}
    if mode == "search":
        model = AdaptedFlowRegressorCV(module=Net, cv=2, alphas=[0.0], t_ends=[0.1])
    else:
        model = AdaptedFlowRegressor(**options)
    if mode == "predict":
        model.fit(np.array(table[:1000]), target[:1000])
        Net.calls = int(at) - 4
    try:
        if at == "0":
            cut()
        model.predict(table[5:]) if mode == "predict" else model.fit(table, target)
        print("no error")
    except ValueError as error:
        print("the file was cut" in str(error), "4096 bytes" in str(error))
"""


@pytest.mark.parametrize(("at", "mode"), [(60, "fit"), (7, "predict"), (0, "search")])
def test_a_map_of_a_file_that_is_cut(at, mode, tmp_path):
    assert processes.run(script(CUT), tmp_path / "table", at, mode) == ["True True"]


def test_array_api_of_scipy_and_scikit_learn():
    printed = run(
        """
        import sklearn
        ordinary = AdaptedFlowRegressor((8,), random_state=0).fit(X, y).predict(X)
        labels = AdaptedFlowClassifier((8,), random_state=0).fit(X, y > 0).predict_proba(X)
        with sklearn.config_context(array_api_dispatch=True):
            for make in (np.asarray, torch.as_tensor):
                given = make(X), make(y)
                model = AdaptedFlowRegressor((8,), random_state=0).fit(*given)
                print(np.array_equal(model.predict(given[0]), ordinary))
                other = AdaptedFlowClassifier((8,), random_state=0).fit(given[0], given[1] > 0)
                print(np.array_equal(other.predict_proba(given[0]), labels))
        """,
        SCIPY_ARRAY_API="1",
        OMP_NUM_THREADS="1",
    )
    assert printed == ["True"] * 4


CALLBACKS = """
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
monitor = ScoringMonitor(scoring="r2")
model = AdaptedFlowRegressor((4,), random_state=0, t_end=0.3).set_callbacks(monitor)
grid = GridSearchCV(model, {"alpha": [0.2, 0.5]}, cv=2, n_jobs=2)
grid.set_callbacks(ProgressBar()).fit(X, y)
scored = [row for row in monitor.get_logs().data if "r2" in row]
print(len({row["task_id_path"][:3] for row in scored}))  # four in the search, one at its end
"""


def test_callbacks_of_scikit_learn_in_worker_processes():
    pytest.importorskip("sklearn.callback")
    pytest.importorskip("rich")
    *bars, n_fits = run(CALLBACKS, OMP_NUM_THREADS="1", COLUMNS="200")
    assert int(n_fits) >= 5
    assert sum("AdaptedFlowRegressor - fit" in line for line in bars) == 5
