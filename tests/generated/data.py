"""Small tables of many kinds: what users hand over, and some of what they should not."""

import numpy as np
import pandas as pd
from scipy import sparse

SIZES = [1, 2, 3, 5, 9, 9, 12, 16, 25, 40]
MAGNITUDES = [1e-310, 1e-162, 1e-9, 1e5, 1e12, 1e150, 1e200, 1e307]


def _one(options, rng):
    return options[rng.integers(len(options))]


# -- X ---------------------------------------------------------------------------------------------


def inputs(n, rng):
    """X of n rows, or of a shape that is none."""
    X = rng.normal(size=(n, int(rng.integers(1, 5))))
    for _ in range(int(rng.geometric(0.5)) - 1):
        X = _one(CHANGES, rng)(X, rng)
    return _one(CONTAINERS, rng)(X, rng) if rng.random() < 0.35 else X


def _column(X, rng, value):
    X = X.copy()
    X[:, rng.integers(X.shape[1])] = value
    return X


def _entry(X, rng, value):
    X = X.copy()
    X[rng.integers(len(X)), rng.integers(X.shape[1])] = value
    return X


CHANGES = [
    lambda X, rng: _column(X, rng, 3.0),
    lambda X, rng: _column(X, rng, 0.0),
    lambda X, rng: _column(X, rng, np.nan),
    lambda X, rng: _entry(X, rng, np.nan),
    lambda X, rng: _entry(X, rng, np.inf),
    lambda X, rng: _entry(X, rng, _one(MAGNITUDES, rng)),
    lambda X, rng: X * _one(MAGNITUDES, rng),
    lambda X, rng: X + 1e9,
    lambda X, rng: X[rng.integers(len(X), size=len(X))],  # duplicates
    lambda X, rng: X[rng.integers(len(X), size=len(X))] + 1e-9 * X,  # nearly duplicates
    lambda X, rng: np.hstack([X, X]),
    lambda X, rng: np.hstack([X, X @ np.ones((X.shape[1], 1))]),
    lambda X, rng: np.zeros_like(X),
    lambda X, rng: np.round(X),
    lambda X, rng: np.sort(X, axis=0),
]


def _frame(X, rng):
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    words = np.array(["red", "green", "blue", "rare"], dtype=object)
    kinds = {
        "words": lambda: words[rng.integers(3, size=len(X))],
        "gaps": lambda: np.where(rng.random(len(X)) < 0.3, None, words[0]),
        "category": lambda: pd.Categorical(words[rng.integers(4, size=len(X))]),
        "flag": lambda: rng.random(len(X)) < 0.5,
        "nullable": lambda: pd.array([None, *range(len(X) - 1)], dtype="Int64"),
        "mixed": lambda: np.array([1, "a", None, 2.5] * len(X), dtype=object)[: len(X)],
        "day": lambda: pd.date_range("2020-01-01", periods=len(X)),
        "empty": lambda: np.full(len(X), None),
        "each": lambda: [f"row {k}" for k in range(len(X))],
    }
    for name in rng.permutation(list(kinds))[: rng.integers(3)]:
        frame[name] = kinds[name]()
    return frame


CONTAINERS = [
    _frame,
    _frame,
    _frame,
    lambda X, rng: X.tolist(),
    lambda X, rng: X.astype(np.float32),
    lambda X, rng: np.nan_to_num(X, posinf=0).clip(-9, 9).astype(_one([int, np.int8, bool], rng)),
    lambda X, rng: np.asfortranarray(X),
    lambda X, rng: X[::-1],
    lambda X, rng: X.astype(">f8"),
    lambda X, rng: X.astype(object),
    lambda X, rng: X.astype(str),
    lambda X, rng: X + 1j,
    lambda X, rng: X[:, 0],
    lambda X, rng: X[None],
    lambda X, rng: X[:0],
    lambda X, rng: X[:, :0],
    lambda X, rng: sparse.csr_array(np.nan_to_num(X)),
    lambda X, rng: pd.concat([_frame(X, rng), _frame(X, rng)], axis=1),
    lambda X, rng: None,
]


# -- y ---------------------------------------------------------------------------------------------


def numbers(n, rng):
    """Targets of a regressor, or what is none."""
    y = _one(NUMBERS, rng)(n, rng) if rng.random() < 0.5 else rng.normal(size=n)
    return _one(SHAPES, rng)(y, rng) if rng.random() < 0.1 else y


NUMBERS = [
    lambda n, rng: np.full(n, _one([0.0, 0.3, 1e12], rng)),
    lambda n, rng: rng.normal(size=n) * _one(MAGNITUDES, rng),
    lambda n, rng: rng.normal(size=n) + _one(MAGNITUDES, rng),
    lambda n, rng: rng.poisson(2.0, size=n),
    lambda n, rng: rng.gamma(1.0, size=n) + 1e-9,
    lambda n, rng: np.where(np.arange(n) == 0, _one(MAGNITUDES, rng), rng.normal(size=n)),
    lambda n, rng: np.where(np.arange(n) == 0, np.nan, rng.normal(size=n)),
    lambda n, rng: np.where(np.arange(n) == 0, np.inf, rng.normal(size=n)),
    lambda n, rng: rng.normal(size=(n, 1)),
    lambda n, rng: rng.normal(size=(n, 3)),
    lambda n, rng: rng.normal(size=(n, 6)),
    lambda n, rng: np.column_stack([np.full(n, 2.0), 1e200 * rng.normal(size=n)]),
    lambda n, rng: np.arange(n, dtype=np.uint8),
]
SHAPES = [
    lambda y, rng: y.tolist(),
    lambda y, rng: y.astype(object),
    lambda y, rng: y.astype(np.float32) if np.asarray(y).dtype.kind in "iufb" else y,
    lambda y, rng: np.array([str(value) for value in np.ravel(y)]),
    lambda y, rng: pd.Series(np.asarray(y).ravel()[: len(y)]),
    lambda y, rng: y[:-1],
    lambda y, rng: np.asarray(y)[..., None, None],
    lambda y, rng: None,
]


def labels(n, rng):
    """Labels of a classifier, or what is none."""
    y = np.arange(n) % 2 if rng.random() < 0.5 else _one(LABELS, rng)(n, rng)
    return _one(SHAPES, rng)(y, rng) if rng.random() < 0.1 else y


LABELS = [
    lambda n, rng: np.arange(n) % 3,
    lambda n, rng: np.arange(n),
    lambda n, rng: np.zeros(n, dtype=int),
    lambda n, rng: (np.arange(n) == 0).astype(int),
    lambda n, rng: np.array(["no", "yes"])[np.arange(n) % 2],
    lambda n, rng: np.array(["no", "yes"], dtype=object)[np.arange(n) % 2],
    lambda n, rng: np.arange(n) % 2 == 0,
    lambda n, rng: np.array([-1.0, 1.0])[np.arange(n) % 2],
    lambda n, rng: np.array([0.5, 1.5])[np.arange(n) % 2],
    lambda n, rng: np.array([2**62, -(2**62)])[np.arange(n) % 2],
    lambda n, rng: np.array([1, "a"], dtype=object)[np.arange(n) % 2],
    lambda n, rng: np.array([None, "a"], dtype=object)[np.arange(n) % 2],
    lambda n, rng: np.array([(1, 2), (3,)], dtype=object)[np.arange(n) % 2],
    lambda n, rng: np.where(np.arange(n) == 0, np.nan, np.arange(n) % 2),
    lambda n, rng: np.eye(3)[np.arange(n) % 3],
    lambda n, rng: pd.Categorical(np.array(["a", "b"])[np.arange(n) % 2]),
    lambda n, rng: np.arange(n).astype("M8[D]"),
]


# -- weights ---------------------------------------------------------------------------------------


def weights(n, rng):
    """Sample weights, or what is none; most of the time there are none."""
    return _one(WEIGHTS, rng)(n, rng) if rng.random() < 0.3 else None


WEIGHTS = [
    lambda n, rng: np.ones(n),
    lambda n, rng: rng.integers(0, 3, size=n),
    lambda n, rng: rng.random(n),
    lambda n, rng: np.full(n, 1 / n),
    lambda n, rng: np.full(n, _one([1e-300, 1e-9, 1e100, 1e300, 1e308], rng)),
    lambda n, rng: 10.0 ** rng.uniform(-300, 100, size=n),
    lambda n, rng: np.where(np.arange(n) == 0, 1e100, 1.0),
    lambda n, rng: (np.arange(n) == 0).astype(float),
    lambda n, rng: np.zeros(n),
    lambda n, rng: -np.ones(n),
    lambda n, rng: np.where(np.arange(n) == 0, np.nan, 1.0),
    lambda n, rng: np.ones(n + 1),
    lambda n, rng: 2.0,
    lambda n, rng: ["a"] * n,
]
