"""Tables of the benchmarks that generate, read and cut some, and their arguments."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import threadpoolctl
import torch
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def arm(n: int, *, noise: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Distance of the hand of an arm with four joints from a point, as in the kin tables."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-np.pi / 2, np.pi / 2, (n, 8))
    angles, lengths = np.cumsum(X[:, :4], axis=1), 0.5 + 0.1 * X[:, 4:]
    across, along = (lengths * np.cos(angles)).sum(1), (lengths * np.sin(angles)).sum(1)
    return X, np.hypot(across - 0.1, along - 0.1) + noise * rng.normal(size=n)


def few_numbers(n: int) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Regression tables of n rows at most: one of scikit-learn, two generated."""
    X, y = datasets.load_diabetes(return_X_y=True)
    yield "diabetes", pd.DataFrame(X), y
    X, y = datasets.make_friedman1(n, noise=1.0, random_state=0)
    yield "friedman1", pd.DataFrame(X), y
    X, y = arm(n)
    yield "arm", pd.DataFrame(X), y


def read(directory: Path, name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and target of a table of a directory."""
    table = pd.read_csv(directory / f"{name}.csv.gz")
    return table.drop(columns="target"), table["target"].to_numpy()


def cut(
    X: pd.DataFrame,
    y: np.ndarray,
    rows: int,
    test_rows: int,
    seed: int,
    stratify: np.ndarray | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, np.ndarray]:
    """Training and test rows as they are: at most so many of each, and a third for the test."""
    test = min(test_rows, len(X) // 3)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=min(rows, len(X) - test), test_size=test, random_state=seed,
        stratify=stratify,
    )  # fmt: skip
    return X_train, X_test, y_train, y_test


def split(
    X: pd.DataFrame,
    y: np.ndarray,
    rows: int,
    test_rows: int,
    seed: int,
    stratify: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same, standardised and one-hot encoded."""
    X_train, X_test, y_train, y_test = cut(X, y, rows, test_rows, seed, stratify)
    return (*encoded(X_train, X_test), y_train, y_test)


def encoded(X_train: pd.DataFrame, X_test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Standardised numbers and indicators of categories, learnt on the training rows."""
    encode = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
            make_column_selector(dtype_exclude="number"),
        ),
    ).fit(X_train)
    return encode.transform(X_train), encode.transform(X_test)


def markdown(table: pd.DataFrame, digits: str = ".3f") -> list[str]:
    """A table with its index as the first column; NaN is an empty cell."""
    lines = ["| " + " | ".join([table.index.name or "", *map(str, table.columns)]) + " |"]
    lines.append("|" + "---|" * (table.shape[1] + 1))
    for name, row in table.iterrows():
        cells = ["" if pd.isna(v) else v if isinstance(v, str) else f"{v:{digits}}" for v in row]
        lines.append("| " + " | ".join([str(name), *cells]) + " |")
    return lines


def table_parser(doc: str, out: Path) -> argparse.ArgumentParser:
    """The arguments that all have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory of further tables (*.csv.gz)")
    parser.add_argument("--threads", type=int, help="of torch and BLAS; default: as they are")
    parser.add_argument("--out", type=Path, default=out)
    return parser


def offer_tables(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Let the tables be chosen by name; all by default."""
    known = list(names)
    parser.add_argument(
        "--tables", nargs="*", choices=known, default=known, metavar="TABLE", help="all by default"
    )


def chosen(tables: Iterable[Any], arguments: argparse.Namespace) -> list[Any]:
    """Those that were asked for and are at hand: some lie in a directory that has to be given."""
    return [
        table
        for table in tables
        if table.name in arguments.tables and (arguments.data or not table.in_directory)
    ]


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments, and set the threads; as far as a fit came is scored, unwarned."""
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        threadpoolctl.threadpool_limits(arguments.threads)
    warnings.simplefilter("ignore")
    return arguments
