"""Values of every declared parameter, most of them valid: drawn from the constraints themselves."""

import atexit
import math
import tempfile
from dataclasses import fields
from functools import cache
from numbers import Integral
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import KFold, LeaveOneOut, ShuffleSplit
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import nn

from sklearn_gflow import PiecewiseLinearEncoder
from sklearn_gflow.estimators._validation import HasMethods, Interval, StrOptions
from sklearn_gflow.geometry import SOLVERS, Huber, LogLoss, Loss, Poisson, Solver
from tests.modules import REFUSED, TRAINED


def _module(n, q):
    return nn.Sequential(nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, q))


FRESH = object()
"""Stands for the path of a file that is not there yet."""
MEANT = {
    "checkpoint": [FRESH, FRESH, FRESH, "", "/no such/place", Path("/proc/no such file")],
    "hidden_layer_sizes": [(), (3,), (4, 2), [5], np.array([3, 3]), (0,), (-1,), (2.5,), "ab"],
    "module": [_module, *TRAINED.values(), *(module for module, _ in REFUSED.values())],
    "schedule": [[0.1, 0.3], (0.2,), np.linspace(0.1, 1, 4), [1e-300], [0.3, 0.1], [], [2.0], "x"],
    "encodings": [[None], [None, "piecewise"], ["periodic"], [], ["x"], [StandardScaler()]],
    "encoding": [StandardScaler(), PolynomialFeatures(2), PiecewiseLinearEncoder(n_bins=3)],
    "init_scales": [[0.3], [0.1, 1.0], [1e-300], [1e300], [], [-1.0], [np.nan], ["a"]],
    "alphas": [[0.5], [0, 1], np.array([0.3]), [1.0], [], [2.0], [np.nan], ["a"]],
    "t_ends": [[0.5], [0.2, 0.9], [1.0], [1e-300], [], [0.0], [2.0], [np.nan]],
    "cv": [
        2,
        3,
        KFold(2),
        LeaveOneOut(),
        ShuffleSplit(1, test_size=0.4, random_state=0),
        1,
        1000,
        [],
    ],
    "n_jobs": [None, 1, 0],  # workers would take longer to start than the calls
    "scoring": ["r2", "accuracy", "neg_mean_squared_error", "neg_log_loss", "no such", "roc_auc"],
    "solver": [SOLVERS["eigh"], SOLVERS["krylov"]],
    "loss": [Huber(1.0), Poisson(), LogLoss()],
    "class_weight": [{0: 2.0, 1: 1.0}, {0: 1e300}, {0: 0.0}, {0: -1}, {}, {"a": 3.0}],
    "device": ["cpu", "cpu:0", "meta", "cuda:99", "no device"],
    "dtype": [],
    "random_state": [0, 7, None, np.random.RandomState(1), -1, 2**40, "seed"],
    "verbose": [False, 0, -1],
    "max_memory": [10**9, 10**5],
}
"""What constraints do not say: lists, callables, objects, and numbers that are no extremes."""
PACE = {
    "max_iter": (1, 30),
    "hidden_layer_sizes": (1, 8),
    "rescalings": (0, 2),
    "n_members": (1, 3),
    "schedule": (1, 6),
    "batch_size": (1, 20),
    "n_iter_no_change": (1, 20),
    "max_memory": (10**6, 10**10),
}
"""Bounds of integers by which a call takes no longer than it must."""
HUGE = [10**9, 2**31, 2**70]
OPEN = (callable, dict, str, PathLike, Integral, Solver, Loss)
"""Constraints that leave open what the values are."""
WRONG = [None, "no such", -1, 0, 2.5, math.nan, math.inf, True, [], {}, object(), 1j, np.array(2)]
"""What may be handed over for anything; some of it is a value of something."""


def value_of(declared, rng):
    """A value of a parameter: one that its constraint allows, or one that it should not."""
    meant = MEANT.get(declared.name, [])
    kinds = [kind for kind in declared.metadata["constraint"] if not _opaque(kind)]
    if rng.random() < 0.03:
        return WRONG[rng.integers(len(WRONG))]
    if meant and (not kinds or rng.random() < 0.5):
        value = meant[rng.integers(len(meant))]
        return str(_directory() / str(rng.integers(2**62))) if value is FRESH else value
    if not kinds:
        return declared.default
    return _of_kind(kinds[rng.integers(len(kinds))], declared.name, rng)


@cache
def _directory():
    """A directory of this process, which goes with it."""
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    return Path(directory.name)


def _opaque(kind):
    """Whether a constraint leaves open what the values are, so that `MEANT` must know them."""
    if isinstance(kind, str):
        return kind in ("array-like", "cv_object", "random_state", "verbose")
    return kind in (callable, dict, str, PathLike, Integral, Solver, Loss) or isinstance(
        kind, HasMethods
    )


def undescribed(estimator):
    """Parameters with values that neither constraint nor `MEANT` tells: there should be none."""
    return [
        declared.name
        for declared in fields(estimator)
        if any(_opaque(kind) for kind in declared.metadata["constraint"])
        and declared.name not in MEANT
    ]


def _of_kind(kind, name, rng):
    if kind is None:
        return None
    if isinstance(kind, str):
        assert kind == "boolean", kind
        return bool(rng.integers(2))
    if isinstance(kind, StrOptions):
        options = sorted(kind.options)
        return options[rng.integers(len(options))]
    assert isinstance(kind, Interval), kind
    return _integer(kind, name, rng) if kind.type is Integral else _real(kind, rng)


def _integer(kind, name, rng):
    if rng.random() < 0.05:
        return HUGE[rng.integers(len(HUGE))]
    low, high = PACE[name]
    return int(rng.integers(max(low, kind.left), high + 1))


def _real(kind, rng):
    """Numbers within, at and just beyond the ends, and some of any magnitude."""
    left = 0.0 if kind.left is None else float(kind.left)
    right = None if kind.right is None else float(kind.right)
    chance = rng.random()
    if chance < 0.15:
        end = left if right is None or rng.random() < 0.5 else right
        ways = [end, math.nextafter(end, math.inf), math.nextafter(end, -math.inf)]
        return ways[rng.integers(3)]
    if chance < 0.25:
        return left + float(10.0 ** rng.uniform(-300, 300 if right is None else 0))
    within = left + float(rng.uniform(0, 1)) * (2 if right is None else right - left)
    return np.float64(within) if rng.random() < 0.2 else within


def parameters_of(estimator, rng):
    """Some parameters of an estimator, most of the time few, with small networks."""
    declared = list(fields(estimator))
    number = min(len(declared), int(rng.geometric(0.3)))
    chosen = rng.permutation(len(declared))[:number]
    given = {"hidden_layer_sizes": (int(rng.integers(2, 8)),), "random_state": 0, "max_iter": 30}
    if "alphas" in {one.name for one in declared}:
        given |= {"encodings": [None], "alphas": [0.5], "t_ends": [0.5, 0.9]}
        given |= {"cv": 2} if rng.random() < 0.5 else {}
    return given | {declared[k].name: value_of(declared[k], rng) for k in chosen}


def generator_state(*, numpy, torch_too):
    """What a call must leave as it is: the global generators and settings."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    of_numpy = (kind, keys.tobytes(), rest) if numpy else ()
    of_torch = torch.get_rng_state().numpy().tobytes() if torch_too else b""
    return of_numpy, of_torch, torch.get_default_dtype(), np.geterr()
