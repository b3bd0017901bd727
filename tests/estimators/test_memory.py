"""Memory: limits of the machine are read and kept, and what would not fit is refused in words."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    GramMemoryError,
)
from sklearn_gflow.diagnostics import neural_collapse
from sklearn_gflow.estimators import _limits
from tests.estimators.data import classes, classifier, regressor, table

CPU = torch.device("cpu")
GIB = 2**30


class TestLimits:
    """The files of Linux, as others than this machine have them."""

    def available(self, monkeypatch, files, *, limits=()):
        monkeypatch.setattr(_limits, "_lines", lambda path: files.get(path, "").splitlines())
        monkeypatch.setattr(_limits, "_physical", lambda: 64 * GIB)
        if limits:
            monkeypatch.setattr(_limits.resource, "getrlimit", lambda kind: (dict(limits)[kind],))
        return _limits.available_bytes(CPU)

    MACHINE = {"/proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {32 * 2**20} kB\n"}  # noqa: RUF012

    def test_of_the_machine(self, monkeypatch):
        assert self.available(monkeypatch, self.MACHINE) == 32 * GIB
        assert self.available(monkeypatch, {}) == 64 * GIB

    @pytest.mark.parametrize("above", [False, True])
    def test_of_control_groups_of_version_2(self, monkeypatch, above):
        folder = "/sys/fs/cgroup/jobs" if above else "/sys/fs/cgroup/jobs/one"
        files = self.MACHINE | {
            "/proc/self/cgroup": "0::/jobs/one\n",
            "/sys/fs/cgroup/memory.max": "max\n",
            f"{folder}/memory.max": f"{4 * GIB}\n",
            f"{folder}/memory.current": f"{3 * GIB}\n",
            f"{folder}/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
        }
        assert self.available(monkeypatch, files) == 3 * GIB // 2

    def test_of_control_groups_of_version_1(self, monkeypatch):
        folder = "/sys/fs/cgroup/memory"  # in a container, the path being that of the host
        files = self.MACHINE | {
            "/proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n",
            f"{folder}/memory.limit_in_bytes": f"{4 * GIB}\n",
            f"{folder}/memory.usage_in_bytes": f"{GIB}\n",
            f"{folder}/memory.stat": f"total_inactive_file {GIB}\n",
        }
        assert self.available(monkeypatch, files) == 4 * GIB
        files[f"{folder}/memory.limit_in_bytes"] = "9223372036854771712\n"  # none
        assert self.available(monkeypatch, files) == 32 * GIB

    @pytest.mark.parametrize(("place", "kind"), [(0, "RLIMIT_AS"), (5, "RLIMIT_DATA")])
    def test_of_the_process(self, monkeypatch, place, kind):
        resource = pytest.importorskip("resource")
        pages = ["0"] * 7
        pages[place] = str(GIB // resource.getpagesize())
        limits = dict.fromkeys((resource.RLIMIT_AS, resource.RLIMIT_DATA), resource.RLIM_INFINITY)
        limits[getattr(resource, kind)] = 3 * GIB
        files = self.MACHINE | {"/proc/self/statm": " ".join(pages)}
        assert self.available(monkeypatch, files, limits=limits.items()) == 2 * GIB

    def test_never_negative(self, monkeypatch):
        files = {
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/memory.max": "100\n",
            "/sys/fs/cgroup/memory.current": "200\n",
        }
        assert self.available(monkeypatch, files) == 0


X, Y = table(20)

HUGE = {
    "parameters": (
        lambda: regressor(hidden_layer_sizes=(10**9,)).fit(X, Y),
        r"a network of 5000000001 parameters needs \d{12} bytes, .* lower hidden_layer_sizes",
    ),
    "parameters of chunks": (
        lambda: classifier(hidden_layer_sizes=(10**9,)).partial_fit(*classes(), classes=[0, 1, 2]),
        r"a network of \d+ parameters needs \d{12} bytes",
    ),
    "parameters of a search": (
        lambda: AdaptedFlowRegressorCV((10**9,)).fit(X, Y),
        r"a network of 5000000001 parameters needs \d{12} bytes",
    ),
    "parameters of another back end": (
        lambda: regressor(hidden_layer_sizes=(10**9,), solver="svd").fit(X, Y),
        r"full-batch training on 20 rows × 1 outputs needs \d{13} bytes",
    ),
    "layers": (
        lambda: regressor(hidden_layer_sizes=(100,), batch_size=5, max_memory=60_000).fit(X, Y),
        r"the layers of a network on 5 rows needs \d+ bytes, .* batch",
    ),
    "steps": (
        lambda: regressor(schedule=10**9).fit(X, Y),
        r"the record of schedule=1000000000 steps needs 672000000000 bytes, .*='adaptive'",
    ),
    "steps of a stored path": (
        lambda: regressor(schedule=10**4, store_path=True, max_memory=10**7).fit(X, Y),
        r"schedule=10000 steps needs 11600000 bytes, and 10000000 .* under max_memory=10000000",
    ),
    "classes": (
        lambda: classifier().fit(*many_classes(10**5)),
        r"y with its 100000 classes on 200000 rows needs \d{12,} bytes, .* merge them",
    ),
    "classes of a search": (
        lambda: AdaptedFlowClassifierCV((4,)).fit(*many_classes(10**5)),
        r"y with its 100000 classes",
    ),
    "the Gram": (
        lambda: regressor(max_memory=9599).fit(X, Y),
        r"needs 9600 bytes for the Gram and its factorisation, and 9599 bytes .* max_memory=9599",
    ),
    "a search": (
        lambda: AdaptedFlowRegressorCV((4,), max_memory=10**4).fit(*table(100)),
        r"full-batch training on 100 rows × 1 outputs needs 27384 bytes",
    ),
    "leave-one-out of a search": (
        lambda: AdaptedFlowRegressorCV((4,), max_memory=10**5).fit(*table(100)),
        # The Gram of the outputs, in single precision, however few parameters there are.
        r"leave-one-out on 100 rows × 1 outputs needs 120000 bytes",
    ),
}


def many_classes(k):
    return np.linspace(0, 1, 2 * k)[:, None], np.arange(2 * k) % k


@pytest.mark.slow
@pytest.mark.parametrize("what", HUGE)
def test_what_would_not_fit_is_refused_in_words(what):
    call, message = HUGE[what]
    with pytest.raises(GramMemoryError, match=message):
        call()


def test_max_memory_is_a_bound_and_no_more():
    plain = regressor().fit(X, Y)
    np.testing.assert_array_equal(
        regressor(max_memory=10**6).fit(X, Y).predict(X), plain.predict(X)
    )
    for bad in (0, -5, 1.5, "1 GB"):
        with pytest.raises(ValueError, match=r"The 'max_memory' parameter of .* must be an int"):
            regressor(max_memory=bad).fit(X, Y)


def test_what_allocators_raise_is_told():
    def full(n, q):
        torch.empty(2**50)

    for module in (full, lambda n, q: np.empty(2**50)):
        with pytest.raises(GramMemoryError, match=r"memory ran out on the way: .*; set batch_size"):
            AdaptedFlowRegressor(module=module).fit(X, Y)


def test_classes_take_no_cube():
    """Distances of all rows from all class means in all outputs would be 128 MB."""
    n, k = 640, 160
    features = np.random.default_rng(0).normal(size=(n, k))
    index = np.arange(n) % k
    means = np.array([features[index == j].mean(0) for j in range(k)])
    distances = [((h - means) ** 2).sum(1) for h in features]
    expected = (np.argmin(distances, axis=1) != index).mean()
    tracemalloc.start()
    try:
        found = neural_collapse(features, index, predicted=index)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nearest_mean_disagreement == pytest.approx(expected)
    assert peak < 8 * n * k**2 / 2


def fitted(**parameters):
    inputs, y = classes(12)
    model = AdaptedFlowClassifier(
        (4,), schedule=1, random_state=0, scale_inputs=False, **parameters
    )
    return model.fit(inputs, y).predict(inputs)


def in_chunks():
    inputs, y = classes(12)
    AdaptedFlowClassifier((4,)).partial_fit(inputs, y, classes=[0, 1, 2])


def refused():
    with pytest.raises(ValueError, match="must return a tensor"):
        fitted(module=torch.nn.GRU)


MODES = {
    "full batch": fitted,
    "blocks": lambda: fitted(batch_size=6),
    "chunks": in_chunks,
    "module": lambda: fitted(module=torch.nn.Linear),
    "refused": refused,
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_fits_leave_nothing_behind(mode):
    def traced():
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    once, n = MODES[mode], 10
    once()
    tracemalloc.start()
    try:
        for _ in range(5):
            once()
        before = traced()
        for _ in range(n):
            once()
        after = traced()
    finally:
        tracemalloc.stop()
    # Interned strings and lists of free objects still grow by less and less.
    assert after[0] - before[0] < 4000 * n
    assert after[1] - before[1] < n
