"""The tables of `defaults.py` and `large.py`, and how each is cut into training and test rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from _tables import read
from sklearn import datasets
from sklearn.model_selection import train_test_split

# What a table takes: the directory of the tables that are read from files.
Loader = Callable[[Path], tuple[pd.DataFrame, np.ndarray]]


@dataclass(frozen=True)
class Table:
    """A name, what is predicted, and where the rows come from."""

    name: str
    classify: bool
    load: Loader
    in_directory: bool = False


@dataclass(frozen=True)
class Cut:
    """Training and test rows; labels are 0, 1, ..."""

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: np.ndarray
    y_test: np.ndarray


def cut(table: Table, directory: Path | None, rows: int, test_rows: int, draw: int) -> Cut:
    """At most so many rows of each kind.

    The test rows are the same for every draw, so that what was chosen on any training rows has
    seen none of them. Of the others four fifths at most are drawn, so that draws of small tables
    differ too.
    """
    X, y = table.load(directory or Path())
    if table.classify:
        y = np.unique(y, return_inverse=True)[1]
    X_rest, X_test, y_rest, y_test = train_test_split(
        X, y, test_size=min(test_rows, len(X) // 4), random_state=0,
        stratify=y if table.classify else None,
    )  # fmt: skip
    X_train, _, y_train, _ = train_test_split(
        X_rest, y_rest, train_size=min(rows, int(0.8 * len(X_rest))), random_state=draw,
        stratify=y_rest if table.classify else None,
    )  # fmt: skip
    return Cut(X_train, X_test, y_train, y_test)


# -- Where rows come from ----------------------------------------------------------------------


def _frame(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])


def _built_in(load: Callable) -> Loader:
    def loaded(_: Path) -> tuple[pd.DataFrame, np.ndarray]:
        X, y = load(return_X_y=True)
        return _frame(X), y

    return loaded


def _made(make: Callable, *arguments: object, **options: object) -> Loader:
    """Rows that are generated, as arrays or as a frame."""

    def loaded(_: Path) -> tuple[pd.DataFrame, np.ndarray]:
        X, y = make(*arguments, **options)
        return X if isinstance(X, pd.DataFrame) else _frame(X), y

    return loaded


def _file(name: str) -> Loader:
    return lambda directory: read(directory, name)


def _other_target(name: str, column: str, drop: tuple[str, ...] = ()) -> Loader:
    """A column of a file as the target, the former target as a feature unless it is dropped."""

    def loaded(directory: Path) -> tuple[pd.DataFrame, np.ndarray]:
        X, y = read(directory, name)
        X = X.assign(target=y)
        return X.drop(columns=[column, *drop]), X[column].to_numpy()

    return loaded


# -- Generated tables --------------------------------------------------------------------------


def one_hot(n: int, levels: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Five categorical columns with many levels, most of them rare, and the sum of effects."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, levels + 1)
    columns = rng.choice(levels, (n, 5), p=weights / weights.sum())
    effects = rng.normal(size=(5, levels))
    y = effects[np.arange(5), columns].sum(1) + 0.5 * rng.normal(size=n)
    return pd.DataFrame(columns.astype(str), columns=list("abcde")), y


def one_hot_classes(n: int, levels: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The same, of which the upper half is to be found."""
    X, y = one_hot(n, levels, seed)
    return X, (y > np.median(y)).astype(int)


def moons(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two moons that overlap, beside six columns of noise."""
    X, y = datasets.make_moons(n, noise=0.3, random_state=seed)
    return np.hstack([X, np.random.default_rng(seed).normal(size=(n, 6))]), y


def s_curve(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Place along a curved sheet in three dimensions, bent once more, with noise."""
    X, place = datasets.make_s_curve(n, noise=0.1, random_state=seed)
    noise = np.random.default_rng(seed).normal(size=n)
    return X, place + np.sin(2 * place) + 0.2 * noise


def steps_products(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Steps, some of which interact, a product and a kink, of eight columns."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 8))
    steps = 2.0 * (X[:, 0] > 0.2) - 1.5 * ((X[:, 1] > -0.3) & (X[:, 2] > 0))
    return X, steps + 2 * X[:, 3] * X[:, 4] + np.abs(X[:, 5]) + 0.2 * rng.normal(size=n)


def mixed_missing(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Skewed numbers with gaps, of which one tells something, and two categories."""
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(size=(n, 4))
    kind, place = rng.choice(list("pqrs"), n), rng.choice([f"town {i}" for i in range(12)], n)
    effect = pd.Series(rng.normal(size=12), index=[f"town {i}" for i in range(12)])
    slope = pd.Series([1.0, -1.0, 0.5, 0.0], index=list("pqrs"))
    absent = rng.random((n, 4)) < [0.2, 0.1, 0.0, 0.15]
    y = slope[kind].to_numpy() * np.log(numbers[:, 0]) + np.sqrt(numbers[:, 1])
    y += effect[place].to_numpy() + 0.8 * absent[:, 3] + 0.4 * rng.normal(size=n)
    X = _frame(np.where(absent, np.nan, numbers)).assign(kind=kind, place=place)
    return X.mask(rng.random(X.shape) < [0, 0, 0, 0, 0.05, 0.05]), y


def spirals(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three arms of a spiral, seen through a turned pair of further columns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    radius = rng.uniform(0.2, 2.0, n)
    angle = 2.5 * radius + 2 * np.pi * y / 3 + 0.25 * rng.normal(size=n)
    X = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(size=(n, 2))])
    return X @ np.linalg.qr(rng.normal(size=(4, 4)))[0], y


def counts(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Counts by hour and day of the week, with gaps in the weather."""
    rng = np.random.default_rng(seed)
    hour, day = rng.integers(24, size=n), rng.choice(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat"], n)
    warmth, wind = rng.normal(15, 8, n), rng.gamma(2.0, 2.0, n)
    busy = np.exp(-(((hour - 8) / 2.0) ** 2)) + np.exp(-(((hour - 18) / 3.0) ** 2))
    rate = np.exp(1.0 + 2.0 * np.where(day == "Sat", 0.4, busy) + 0.04 * warmth - 0.05 * wind)
    X = pd.DataFrame({"hour": hour, "day": day, "warmth": warmth, "wind": wind})
    return X.mask(rng.random(X.shape) < [0.0, 0.0, 0.1, 0.2]), rng.poisson(rate).astype(float)


# -- Held back: columns of known tables as new targets, and tables of statsmodels ---------------


def iris_petal() -> tuple[pd.DataFrame, np.ndarray]:
    """Width of the petal from the other lengths and the species."""
    X, species = datasets.load_iris(return_X_y=True)
    return _frame(X[:, :3]).assign(species=species.astype(str)), X[:, 3]


def digits_odd() -> tuple[np.ndarray, np.ndarray]:
    """Whether a written digit is odd."""
    X, y = datasets.load_digits(return_X_y=True)
    return X, y % 2


def _statsmodels() -> ModuleType:
    from statsmodels import datasets as found  # an extra: needed by three tables only

    return found


def affairs() -> tuple[pd.DataFrame, np.ndarray]:
    """Whether there was an affair, of a survey of 1974."""
    data = _statsmodels().fair.load_pandas()
    return data.exog, (data.endog.to_numpy() > 0).astype(int)


def votes() -> tuple[pd.DataFrame, np.ndarray]:
    """Party, in seven steps, of the election study of 1996."""
    data = _statsmodels().anes96.load_pandas()
    return data.exog, data.endog.to_numpy().astype(int)


def schools() -> tuple[pd.DataFrame, np.ndarray]:
    """Share of pupils above the median, by district."""
    table = _statsmodels().star98.load_pandas().data
    share = table["NABOVE"] / (table["NABOVE"] + table["NBELOW"])
    return table.drop(columns=["NABOVE", "NBELOW"]), share.to_numpy()


# -- The lists ---------------------------------------------------------------------------------


MAIN = (
    Table("diabetes", False, _built_in(datasets.load_diabetes)),
    Table("breast_cancer", True, _built_in(datasets.load_breast_cancer)),
    Table("wine", True, _built_in(datasets.load_wine)),
    Table("digits", True, _built_in(datasets.load_digits)),
    Table("boston", False, _file("boston"), True),
    Table("concrete", False, _file("concrete"), True),
    Table("abalone", False, _file("abalone"), True),
    Table("bikeshare", False, _file("bikeshare"), True),
    Table("vehicle", True, _file("vehicle"), True),
    Table("credit_g", True, _file("credit_g"), True),
    Table("california", False, _file("california"), True),
    Table("diamonds", False, _file("diamonds"), True),
    Table("adult", True, _file("adult"), True),
    Table("friedman1", False, _made(datasets.make_friedman1, 1000, noise=1.0, random_state=0)),
    Table("friedman2", False, _made(datasets.make_friedman2, 1000, noise=100.0, random_state=0)),
    Table("friedman3", False, _made(datasets.make_friedman3, 1000, noise=0.1, random_state=0)),
    Table(
        "wide_numbers", False,
        _made(datasets.make_regression, 180, 120, n_informative=15, noise=20.0, random_state=0),
    ),
    Table(
        "wide_classes", True,
        _made(datasets.make_classification, 250, 160, n_informative=12, random_state=0),
    ),
    Table("hot_numbers", False, _made(one_hot, 1500, 60, 0)),
    Table("hot_classes", True, _made(one_hot_classes, 1500, 80, 1)),
    Table("moons", True, _made(moons, 1200)),
    Table("s_curve", False, _made(s_curve, 1200)),
    Table(
        "quantiles", True,
        _made(
            datasets.make_gaussian_quantiles,
            n_samples=1200, n_features=6, n_classes=3, random_state=0,
        ),
    ),
    Table("steps_products", False, _made(steps_products, 1200)),
    Table("sparse", False, _made(datasets.make_sparse_uncorrelated, 1200, random_state=0)),
    Table("mixed_missing", False, _made(mixed_missing, 1200)),
)  # fmt: skip

# Nobody looks at scores on these while defaults or candidates are chosen: scored at the end only.
HELD_BACK = (
    Table("iris_petal", False, _made(iris_petal)),
    Table("digits_odd", True, _made(digits_odd)),
    Table("affairs", True, _made(affairs)),
    Table("votes", True, _made(votes)),
    Table("schools", False, _made(schools)),
    Table("abalone_sex", True, _other_target("abalone", "sex"), True),
    Table("diamonds_cut", True, _other_target("diamonds", "cut"), True),
    Table("credit_duration", False, _other_target("credit_g", "duration"), True),
    Table("concrete_water", False, _other_target("concrete", "water"), True),
    Table("adult_hours", False, _other_target("adult", "hours-per-week"), True),
    Table("spirals", True, _made(spirals, 1200)),
    Table("counts", False, _made(counts, 1500)),
)

_LARGE = ("bikeshare", "california", "diamonds", "adult", "abalone")
LARGE = tuple(table for name in _LARGE for table in MAIN if table.name == name)
