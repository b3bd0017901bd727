"""Interrupts fits at random lines and at random operations of torch, over all ways into a fit.

    OMP_NUM_THREADS=1 PYTHONPATH=. python docs/benchmarks/interrupts.py --count 200

After each of them the estimator must be what it was, or wholly what the fit made of it where the
interrupt came behind the one assignment that writes; and the next fit must be that of an estimator
which was never interrupted, to the bit. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch.utils._python_dispatch import TorchDispatchMode

import sklearn_gflow
from tests.estimators.held import WAYS, Unchanged, example

ROOT = str(Path(sklearn_gflow.__file__).parent)


class Module(torch.nn.Module):
    """A network of a user's."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(n_features, 5), torch.nn.Tanh(), torch.nn.Linear(5, n_outputs)
        )

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layers(X)


class Lines:
    """Interrupts a call when a line of the package is reached for the n-th time."""

    def __init__(self, last: int = 0) -> None:
        self.count, self.last = 0, last

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.last:
                raise KeyboardInterrupt
        return self.trace

    def run(self, call: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            call()
        finally:
            sys.settrace(before)


class Operations(TorchDispatchMode):
    """Interrupts a call at the n-th operation of torch, as one that allocates may be."""

    def __init__(self, last: int = 0) -> None:
        super().__init__()
        self.count, self.last = 0, last

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count == self.last:
            raise KeyboardInterrupt
        return func(*args, **(kwargs or {}))

    def run(self, call: Callable[[], Any]) -> None:
        with self:
            call()


def interrupt(model: Any, call: Callable[..., Any], how: type[Any], where: float) -> bool:
    """Interrupt a fit at a share of its way; whether it was, and nothing was left behind."""
    X, y = example(model)
    whole, counted = copy.deepcopy(model), how()
    counted.run(lambda: call(whole, X, y))
    subject = copy.deepcopy(model)
    unchanged = Unchanged(subject, X)
    try:
        how(1 + int(where * counted.count)).run(lambda: call(subject, X, y))
    except KeyboardInterrupt:
        if vars(subject).get("_written") is unchanged.before.get("_written"):
            unchanged.check()
            call(subject, X, y)
        np.testing.assert_array_equal(subject.predict(X), whole.predict(X))
        return True
    return False


def main() -> None:
    """Interrupt all ways in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=np.inf)
    given = parser.parse_args()
    random, began, held = np.random.default_rng(0), time.monotonic(), {"lines": 0, "operations": 0}
    ways = [(name, kind) for name in WAYS for kind in ("regressor", "classifier")]
    k = 0
    while sum(held.values()) < given.count and time.monotonic() - began < given.seconds:
        name, kind = ways[k % len(ways)]
        make, parameters, call = WAYS[name]
        own = {"module": Module} if (k // len(ways)) % 3 == 2 else {}
        model = make(kind, **{**parameters, **own})
        if (k // len(ways)) % 2:
            call(model, *example(model))
            if "loo" not in str(parameters):
                model.set_params(**({"warm_start": True} if hasattr(model, "warm_start") else {}))
        which = "operations" if k % 4 == 3 else "lines"
        how = Operations if which == "operations" else Lines
        held[which] += interrupt(model, call, how, random.uniform())
        assert clone(model).get_params().keys() == model.get_params().keys()
        k += 1
    print(f"{held}: every estimator as it was or as the fit made it, and every next fit the same")


if __name__ == "__main__":
    main()
