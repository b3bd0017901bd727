"""The tables of the comparison in blocks: where they come from, how they are cut and scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _tables
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import (
    fetch_california_housing,
    fetch_openml,
    load_digits,
    make_classification,
)
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    QuantileTransformer,
    StandardScaler,
)

CHOICE_ROWS = 10_000  # of the training rows, at most, a quarter of them for validation


@dataclass(frozen=True)
class Table:
    """Rows, the network, and what is to be reached.

    Attributes
    ----------
    best : float
        Goal for the score: at most this RMSE, at least this accuracy; ∓∞ stands for the MLP's.
    pace : float
        Goal for the time, as a multiple of the MLP's.
    n_splits : int
        Splits into training and test rows: several where one has few test rows.
    """

    load: Callable[[Path | None], tuple[Any, np.ndarray]]
    classes: bool
    hidden: tuple[int, ...] = (128, 128)
    best: float | None = None
    pace: float = 1.0
    n_splits: int = 1


def read(name: str, openml: dict[str, Any]) -> Callable[[Path | None], tuple[Any, np.ndarray]]:
    """A loader: the file of that name in ``--data``, or OpenML."""

    def load(data: Path | None) -> tuple[Any, np.ndarray]:
        if data is not None:
            return _tables.read(data, name)
        bunch = fetch_openml(**openml, as_frame=True)
        return bunch.data, bunch.target.to_numpy()

    return load


def california(data: Path | None) -> tuple[Any, np.ndarray]:
    """Prices of houses, in 100,000 dollars."""
    if data is None:
        return fetch_california_housing(return_X_y=True, as_frame=True)
    X, y = read("california", {})(data)
    return X, y / 1e5 if y.max() > 1e3 else y


def letters(data: Path | None, n_rows: int = 20_000) -> tuple[Any, np.ndarray]:
    """26 classes of four clusters each."""
    return make_classification(
        n_rows, 16, n_informative=16, n_redundant=0, n_classes=26, n_clusters_per_class=4,
        class_sep=2.5, flip_y=0.0, random_state=0,
    )  # fmt: skip


def digits(data: Path | None) -> tuple[Any, np.ndarray]:
    """Handwritten digits, 8×8 pixels from 0 to 1."""
    X, y = load_digits(return_X_y=True)
    return X / 16, y


TABLES = {
    "california": Table(california, False, (128, 128, 128), best=0.455),
    "diamonds": Table(read("diamonds", {"name": "diamonds", "version": 1}), False, pace=0.5),
    "bikeshare": Table(
        read("bikeshare", {"name": "Bike_Sharing_Demand", "version": 2}), False, pace=0.5
    ),
    "abalone": Table(read("abalone", {"name": "abalone", "version": 1}), False, pace=0.5),
    "adult": Table(read("adult", {"name": "adult", "version": 2}), True, best=0.858),
    "digits": Table(digits, True, best=0.993, n_splits=5),
    "letter-like": Table(letters, True, pace=2.0),
}


@dataclass(frozen=True)
class Split:
    """Scaled rows for training and for a score."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def scale(X: Any, y: np.ndarray, X_test: Any, y_test: np.ndarray) -> Split:
    """Numbers to a normal distribution, categories to indicators, learnt on the training rows."""
    if isinstance(X, pd.DataFrame):
        scaler = make_column_transformer(
            (
                QuantileTransformer(output_distribution="normal", random_state=0),
                make_column_selector(dtype_include="number"),
            ),
            (
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                make_column_selector(dtype_exclude="number"),
            ),
        )
    elif X.min() == 0 and X.max() == 1:  # pixels have one scale, and some are always 0
        scaler = FunctionTransformer()
    else:
        scaler = StandardScaler()
    return Split(scaler.fit_transform(X), y, scaler.transform(X_test), y_test)


def cut(table: Table, data: Path | None, number: int) -> tuple[Split, Split]:
    """(for the choice of settings, for the result); the first holds no test row."""
    X, y = table.load(data)
    y = np.asarray(y) if table.classes else np.asarray(y, dtype=float)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.2, random_state=number, stratify=y if table.classes else None
    )
    size = min(len(y), CHOICE_ROWS)
    X_few, X_valid, y_few, y_valid = train_test_split(
        X, y, train_size=3 * size // 4, test_size=size // 4, random_state=number + 1
    )
    return scale(X_few, y_few, X_valid, y_valid), scale(X, y, X_test, y_test)
