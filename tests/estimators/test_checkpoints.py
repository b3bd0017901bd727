"""Checkpoints: a fit that was stopped goes on, and ends where it would have ended, to the bit."""

import os
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone

from sklearn_gflow import archive
from sklearn_gflow.estimators import _checkpoint
from sklearn_gflow.exceptions import ArchiveError
from tests.estimators.data import classes, classifier, regressor, table
from tests.estimators.held import WAYS, each_kind, example, partial_fit, plain, search

pytestmark = pytest.mark.slow


class StoppedError(Exception):
    """What stands in for a process that is killed."""


@pytest.fixture
def writes(monkeypatch):
    """Writes after every step; ``writes.last`` is the write after which the fit is stopped."""

    class Writes:
        count, last = 0, 0

        def stop(self, last):
            self.count, self.last = 0, last

    noted, write = Writes(), _checkpoint.Checkpoint._write

    def counted(checkpoint):
        write(checkpoint)
        noted.count += 1
        if noted.count == noted.last:
            raise StoppedError

    monkeypatch.setattr(_checkpoint, "_SHARE", 0)
    monkeypatch.setattr(_checkpoint.Checkpoint, "_write", counted)
    return noted


def same(one, other, X):
    """The same fitted attributes to the bit, checkpoints aside."""
    a, b = ({**vars(m), "checkpoint": None, "_checkpointed": None, "_written": None}
            for m in (one, other))  # fmt: skip
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name not in ("estimators_", "best_estimator_"):
            assert pickle.dumps(value) == pickle.dumps(b[name]), name
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


def stopped_and_resumed(make, call, writes, path, stops=4):
    """Stop a fit after some of its writes; each time what goes on ends as the whole does."""
    whole = make(None)
    X, y = example(whole)
    call(whole, X, y)
    writes.stop(0)
    same(call(make(path), X, y), whole, X)
    total = writes.count
    assert total > 2
    for last in np.unique(np.linspace(1, total, stops).astype(int)).tolist():
        path.unlink()
        writes.stop(last)
        with pytest.raises(StoppedError):
            call(make(path), X, y)
        writes.stop(0)
        same(call(make(path), X, y), whole, X)
        left = total - last
        assert writes.count <= left + 2  # nothing that was kept is computed again
        writes.stop(0)
        same(call(make(path), X, y), whole, X)
        assert writes.count <= 1  # a finished one is not trained again


KEPT = {
    **{name: way for name, way in WAYS.items() if "RK45" not in name},
    "fit with a schedule": (plain, {"schedule": 7, "alpha": 1.0}, WAYS["fit"][2]),
    "fit with rescalings": (plain, {"rescalings": 2}, WAYS["fit"][2]),
    "fit with its path": (plain, {"store_path": True, "batch_size": 8}, WAYS["fit"][2]),
    "fit in blocks, held out": (
        plain,
        {"batch_size": 6, **WAYS["fit with rows held out"][1]},
        WAYS["fit"][2],
    ),
}


@pytest.mark.parametrize("way", KEPT)
@each_kind
def test_goes_on_to_the_bit(kind, way, writes, tmp_path):
    make, parameters, call = KEPT[way]
    stopped_and_resumed(
        lambda path: make(kind, checkpoint=path, **parameters), call, writes, tmp_path / "fit"
    )


CALLS = {
    "chunks": (partial_fit, {"batch_size": 4}),
    "warm fits": (WAYS["fit"][2], {"warm_start": True}),
    "warm fits in blocks": (WAYS["fit"][2], {"warm_start": True, "batch_size": 6}),
    "warm fits with rescalings": (WAYS["fit"][2], {"warm_start": True, "rescalings": 1}),
    "paths": (partial_fit, {"batch_size": 4, "store_path": True}),
}


@pytest.mark.parametrize("way", CALLS)
@each_kind
def test_calls_that_go_on(kind, way, writes, tmp_path):
    """All calls again: those before the last are passed over, and the end is the same."""
    call, parameters = CALLS[way]

    def all_calls(model, X, y):
        for rows in (slice(None), slice(0, 12), slice(None, None, -1), slice(3, None)):
            call(model, X[rows], y[rows])
        return model

    stopped_and_resumed(
        lambda path: plain(kind, checkpoint=path, **parameters), all_calls, writes, tmp_path / "f"
    )


def test_a_flow_without_an_end(writes, tmp_path):
    """Steps over blocks until rows kept apart gain nothing, and once over all rows."""
    X, y = table(1100)
    model = regressor(batch_size=500, checkpoint=tmp_path / "fit")
    whole = clone(model).set_params(checkpoint=None).fit(X, y)
    same(model.fit(X, y), whole, X)
    total = writes.count
    for last in (total // 2, total - 2):
        (tmp_path / "fit").unlink()
        writes.stop(last)
        with pytest.raises(StoppedError):
            model.fit(X, y)
        writes.stop(0)
        same(model.fit(X, y), whole, X)
        assert writes.count <= total - last


def test_a_fit_without_a_seed_takes_that_of_the_file(writes, tmp_path):
    X, y = table()
    model = regressor(random_state=None, checkpoint=tmp_path / "fit")
    once = model.fit(X, y).predict(X)
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), once)
    assert model.random_state is None


def test_what_a_killed_write_has_left_is_removed(tmp_path):
    X, y = table()
    for name in (".fit.0123456789abcdef.tmp", ".fit2.0123456789abcdef.tmp", ".other.tmp"):
        (tmp_path / name).write_bytes(b"half of it")
    regressor(checkpoint=tmp_path / "fit").fit(X, y)
    left = sorted(one.name for one in tmp_path.iterdir())
    assert left == [".fit2.0123456789abcdef.tmp", ".other.tmp", "fit"]


@pytest.mark.filterwarnings("ignore")  # joblib tells of tasks that are given up
def test_a_search_by_threads(tmp_path, writes):
    """Workers compute, and this process writes: results are kept, and steps are not."""
    X, y = table(30)
    model = search("regressor", cv=3, n_jobs=2, checkpoint=tmp_path / "fit")
    with joblib.parallel_config(backend="threading"):
        whole = clone(model).set_params(checkpoint=None).fit(X, y)
        writes.stop(5)
        with pytest.raises(StoppedError):
            model.fit(X, y)
        writes.stop(0)
        same(model.fit(X, y), whole, X)
    same(model.set_params(n_jobs=None).fit(X, y), whole.set_params(n_jobs=None), X)


def test_writes_are_few(tmp_path, monkeypatch):
    """With writes that take long, there is one at the start and one at the end."""
    clock = iter(np.arange(0.0, 1e6, 1.0).tolist())
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(_checkpoint, "_LONGEST", np.inf)
    written, write = [], archive.write
    monkeypatch.setattr(archive, "write", lambda *args: written.append(write(*args)))
    regressor(schedule=9, checkpoint=tmp_path / "fit").fit(*table())
    assert len(written) == 2


class TestRefusals:
    X, y = table(20)

    def refuses(self, message, tmp_path, first=None, **then):
        path = tmp_path / "fit"
        regressor(checkpoint=path, **(first or {})).fit(self.X, self.y)
        before = path.read_bytes()
        arguments = {"X": self.X, "y": self.y, "sample_weight": None}
        parameters = {k: v for k, v in then.items() if k not in arguments}
        arguments |= {k: v for k, v in then.items() if k in arguments}
        with pytest.raises(ValueError, match=message):
            regressor(checkpoint=path, **{**(first or {}), **parameters}).fit(**arguments)
        assert path.read_bytes() == before

    def test_another_table(self, tmp_path):
        cure = "hand over the same, remove the file, or name another in checkpoint"
        self.refuses(f"is of another fit: X differs; {cure}", tmp_path, X=self.X + 1e-9)

    def test_other_targets(self, tmp_path):
        self.refuses("another fit: y differs; hand", tmp_path, y=3 * self.y)

    def test_other_weights(self, tmp_path):
        weights = np.arange(1.0, 21)
        self.refuses("y differs; sample_weight differs", tmp_path, sample_weight=weights)

    def test_other_parameters(self, tmp_path):
        message = r"alpha is 0.5 there and 0.3 here; t_end is 'auto' there and 0.9 here; hand"
        self.refuses(message, tmp_path, alpha=0.3, t_end=0.9)

    def test_another_seed(self, tmp_path):
        self.refuses("random_state is 0 there and 1 here", tmp_path, random_state=1)

    def test_another_class(self, tmp_path):
        X, y = classes()
        regressor(checkpoint=tmp_path / "fit").fit(X, y)
        with pytest.raises(ValueError, match="class is AdaptedFlowRegressor there"):
            classifier(checkpoint=tmp_path / "fit").fit(X, y)

    def test_more_to_read_may_be_asked_for(self, tmp_path):
        path = tmp_path / "fit"
        once = regressor(checkpoint=path).fit(self.X, self.y)
        again = regressor(checkpoint=path, verbose=True).fit(self.X, self.y)
        np.testing.assert_array_equal(once.predict(self.X), again.predict(self.X))

    def test_another_chunk(self, tmp_path):
        path = tmp_path / "fit"
        model = regressor(checkpoint=path).partial_fit(self.X, self.y)
        model.partial_fit(self.X[:9], self.y[:9]).partial_fit(self.X[9:], self.y[9:])
        again = regressor(checkpoint=path).partial_fit(self.X, self.y)
        with pytest.raises(ValueError, match="X differs"):
            again.partial_fit(self.X[:8], self.y[:8])
        with pytest.raises(ValueError, match="it began otherwise, or with other calls"):
            regressor().fit(self.X, self.y).set_params(checkpoint=path).partial_fit(self.X, self.y)

    def test_a_search(self, tmp_path):
        path = tmp_path / "fit"
        search("regressor", checkpoint=path).fit(self.X, self.y)
        with pytest.raises(ValueError, match=r"t_ends is .* there and"):
            search("regressor", checkpoint=path, t_ends=(0.4,)).fit(self.X, self.y)
        assert (
            search("regressor", checkpoint=path).fit(self.X, self.y).best_estimator_.checkpoint
            is None
        )

    def test_methods_of_scipy(self, tmp_path):
        with pytest.raises(ValueError, match="checkpoint keeps the steps of method='exponential'"):
            regressor(method="RK45", checkpoint=tmp_path / "fit").fit(self.X, self.y)

    @pytest.mark.parametrize("damage", [b"", b"no archive", None])
    def test_a_file_that_is_none(self, damage, tmp_path):
        path = tmp_path / "fit"
        model = regressor(checkpoint=path).fit(self.X, self.y)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
        with pytest.raises(ArchiveError, match="damaged"):
            clone(model).fit(self.X, self.y)

    def test_an_archive_of_something_else(self, tmp_path):
        archive.write(tmp_path / "fit", {}, {"something": 1})
        with pytest.raises(ArchiveError, match="is no checkpoint; remove it"):
            regressor(checkpoint=tmp_path / "fit").fit(self.X, self.y)
        archive.write(tmp_path / "fit", {}, {"checkpoint": 99})
        with pytest.raises(ArchiveError, match="a checkpoint of another version"):
            regressor(checkpoint=tmp_path / "fit").fit(self.X, self.y)

    def test_no_folder(self, tmp_path):
        with pytest.raises(OSError, match="could not be written"):
            regressor(checkpoint=tmp_path / "nowhere" / "fit").fit(self.X, self.y)

    def test_another_module(self, tmp_path):
        import torch

        def module(n_features, n_outputs):
            return torch.nn.Sequential(
                torch.nn.Linear(n_features, width), torch.nn.Tanh(), torch.nn.Linear(width, 1)
            )

        width = 4
        regressor(module=module, checkpoint=tmp_path / "fit").fit(self.X, self.y)
        width = 5
        with pytest.raises(ValueError, match="its network began elsewhere"):
            regressor(module=module, checkpoint=tmp_path / "fit").fit(self.X, self.y)


def test_a_write_that_fails_leaves_the_last_one(tmp_path, writes, monkeypatch):
    X, y = table()
    path, model = tmp_path / "fit", regressor(schedule=9, checkpoint=tmp_path / "fit")
    fsync, count = os.fsync, [0]

    def full(handle):
        count[0] += 1
        if count[0] == 9:
            raise OSError(28, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"could not be written \(No space left on device\)"):
            model.fit(X, y)
    assert [one.name for one in tmp_path.iterdir()] == ["fit"]
    assert not hasattr(model, "n_iter_")
    archive.read(path)
    same(model.fit(X, y), regressor(schedule=9).fit(X, y), X)
