"""What raises inside of a fit, or interrupts it from outside, leaves the estimator as it was."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

import sklearn_gflow
from sklearn_gflow.dynamics import Callback
from sklearn_gflow.estimators import _training
from tests.costs import LogCosh
from tests.estimators.held import (
    PLAIN,
    WAYS,
    Unchanged,
    each_kind,
    each_way,
    example,
    hold,
    plain,
)

pytestmark = pytest.mark.slow

ROOT = str(Path(sklearn_gflow.__file__).parent)


class Fuse:
    """Burns at a call that was named; counts the calls up to there."""

    calls, last, error = 0, 0, RuntimeError

    def burn(self):
        self.calls += 1
        if self.calls == self.last:
            raise self.error("the fuse has blown")

    def set(self, last=0, error=RuntimeError):
        self.calls, self.last, self.error = 0, last, error


FUSE = Fuse()


class Fused(torch.nn.Module):
    """A network that may blow."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(n_features, 5), torch.nn.Tanh(), torch.nn.Linear(5, n_outputs)
        )

    def forward(self, X):
        FUSE.burn()
        return self.layers(X)


class FusedLoss(LogCosh):
    """A loss whose gradient may blow."""

    def gradient(self, x, y):
        FUSE.burn()
        return super().gradient(x, y)


class FusedCallback(Callback):
    """One that may blow at the start, at steps and at the end."""

    def start(self, event):
        FUSE.burn()
        return {}

    def step(self, event):
        FUSE.burn()
        return {}

    def end(self, trajectory):
        FUSE.burn()


# What raises is met in the same place of a regressor and of a classifier.
each_way_by_turns = pytest.mark.parametrize(
    ("kind", "way"), [(list(PLAIN)[place % 2], way) for place, way in enumerate(WAYS)]
)


@pytest.fixture(autouse=True)
def _reset():
    FUSE.set()
    yield
    FUSE.set()


def hold_at_every_point(model, call, points=3):
    """Let the fuse blow at calls from the first of a fit to the last."""
    counts = []
    for subject in (clone(model), model, model):  # the third goes on, where the way is to go on
        FUSE.set()
        call(subject, *example(model))
        counts.append(FUSE.calls)
    assert min(counts) >= 2
    n_calls = max(2, 2 * min(counts) // 3)  # those of later chunks may be less
    at = np.unique(np.linspace(1, n_calls, points).astype(int))
    for last in at.tolist():
        error = KeyboardInterrupt if last == n_calls else RuntimeError

        def stop(m, last=last, error=error):
            FUSE.set(last, error)
            try:
                call(m, *example(m))
            finally:
                FUSE.set()

        # What a module raises where it is probed is told in an error of ours.
        hold(model, stop, (error, ValueError), "the fuse has blown")


@each_way_by_turns
def test_module_that_raises(kind, way):
    make, parameters, call = WAYS[way]
    hold_at_every_point(make(kind, module=Fused, **parameters), call)


@pytest.mark.parametrize("way", [way for way in WAYS if "leave-one-out" not in way])
def test_loss_that_raises(way):
    make, parameters, call = WAYS[way]
    hold_at_every_point(make("regressor", loss=FusedLoss(), **parameters), call)


@each_way_by_turns
def test_callback_that_raises(kind, way, monkeypatch):
    make, parameters, call = WAYS[way]
    makers = (*_training.CALLBACKS, lambda occasion: FusedCallback())
    monkeypatch.setattr(_training, "CALLBACKS", makers)
    hold_at_every_point(make(kind, **parameters), call)


# -- interrupts that come from anywhere -----------------------------------------------------------


class Interrupted:
    """Runs something, and interrupts it when the n-th function of the package is entered."""

    def __init__(self, last=0):
        self.calls, self.last = 0, last

    def watch(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            self.calls += 1
            if self.calls == self.last:
                raise KeyboardInterrupt("from outside")

    def run(self, call):
        before = sys.getprofile()
        sys.setprofile(self.watch)
        try:
            return call()
        finally:
            sys.setprofile(before)


@each_way
@each_kind
def test_interrupts_at_any_function(kind, way):
    make, parameters, call = WAYS[way]
    model = make(kind, **parameters)
    X, y = example(model)
    call(clone(model), X, y)  # what is kept for later calls is there before they are counted
    counted, going_on = Interrupted(), Interrupted()
    counted.run(lambda: call(clone(model), X, y))
    call(model, X, y)
    going_on.run(lambda: call(copy.deepcopy(model), X, y))
    # The last is that which writes. A fit that goes on may have less calls: its columns are known.
    least = min(counted.calls, going_on.calls)
    at = np.unique([*np.linspace(1, least - 30, 6).astype(int), counted.calls])
    for last in at.tolist():
        fresh = clone(model)
        for subject in (model, fresh) if last < least else (fresh,):
            unchanged = Unchanged(subject, X)
            with pytest.raises(KeyboardInterrupt, match="from outside"):
                Interrupted(last).run(lambda s=subject: call(s, X, y))
            unchanged.check()


@each_kind
def test_interrupt_in_an_operation_of_torch(kind, monkeypatch):
    model = plain(kind)
    X, y = example(model)
    model.fit(X, y)

    def interrupted(*args, **options):
        raise KeyboardInterrupt("in torch")

    for name in ("addmm", "cat", "randn"):
        with monkeypatch.context() as patch:
            unchanged = [Unchanged(subject, X) for subject in (model, clone(model))]
            patch.setattr(torch, name, interrupted)
            for held in unchanged:
                with pytest.raises(KeyboardInterrupt, match="in torch"):
                    held.model.fit(X, y)
        for held in unchanged:
            held.check()
