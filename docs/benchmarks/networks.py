"""Is the average of several networks better than one, and would one pass over all be faster?

Each table's training rows are cut into a part to fit and a part to score, once a seed; test rows
play no part. An average of n starts is made by ``BaggingRegressor`` or ``BaggingClassifier`` with
all rows and no resampling, and beside it stands one network with about n times the parameters.
*One* is the mean over the single networks of the average. Seconds are CPU time of a fit. Run
``python docs/benchmarks/networks.py --help``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _machine import header
from _tables import few_numbers, markdown, parse, read, split, table_parser
from sklearn import datasets
from sklearn.ensemble import BaggingClassifier, BaggingRegressor

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.geometry import LayeredNetwork

OUT = Path(__file__).with_suffix(".md")
NUMBERS = ("boston", "concrete", "abalone", "bikeshare", "california")
CLASSES = ("vehicle", "credit_g")
SETTINGS = {"default": {}, "loo": {"early_stopping": "loo", "t_end": 1.0}}


def tables(directory: Path | None) -> Iterator[tuple[str, bool, pd.DataFrame, np.ndarray]]:
    """(name, whether to classify, X, y)."""
    for name, X, y in few_numbers(1500):
        yield name, False, X, y
    for name in NUMBERS if directory else ():
        yield name, False, *read(directory, name)
    X, y = datasets.load_breast_cancer(return_X_y=True)
    yield "breast_cancer", True, pd.DataFrame(X), y
    X, y = datasets.make_classification(600, 160, n_informative=12, random_state=0)
    yield "wide_classes", True, pd.DataFrame(X), y
    for name in CLASSES if directory else ():
        yield name, True, *read(directory, name)


# -- One, many, wide -----------------------------------------------------------------------------


def compare(
    part: tuple, seed: int, *, classify: bool, n_networks: int, wide: int, setting: dict
) -> dict[str, float]:
    """Validation scores of single networks, their average, and one wide network."""
    X, X_val, y, y_val = part
    kind = AdaptedFlowClassifier if classify else AdaptedFlowRegressor
    bag = BaggingClassifier if classify else BaggingRegressor
    network = kind(**setting)
    many = bag(network, n_networks, max_samples=1.0, bootstrap=False, random_state=seed)
    start = time.process_time()
    many.fit(X, y)
    middle = time.process_time()
    wider = kind((wide, wide), **setting, random_state=seed).fit(X, y)
    end = time.process_time()
    # Bagging of classifiers hands class indices to its members.
    labels = np.searchsorted(many.classes_, y_val) if classify else y_val
    return {
        "one": float(np.mean([single.score(X_val, labels) for single in many.estimators_])),
        "average": many.score(X_val, y_val),
        "wide": wider.score(X_val, y_val),
        "seconds of one": (middle - start) / n_networks,
        "seconds of wide": end - middle,
    }


def measure(arguments: argparse.Namespace) -> pd.DataFrame:
    """One line for each table, setting and seed."""
    lines = []
    for name, classify, X, y in tables(arguments.data):
        X_train, _, y_train, _ = split(X, y, 2 * arguments.rows, len(X), 0, y if classify else None)
        frame = pd.DataFrame(X_train)
        for seed in range(arguments.seeds):
            part = split(
                frame, y_train, arguments.rows, len(X), seed, y_train if classify else None
            )
            for title, setting in SETTINGS.items():
                found = compare(
                    part, seed, classify=classify, n_networks=arguments.networks,
                    wide=arguments.wide, setting=setting,
                )  # fmt: skip
                lines.append({"table": name, "setting": title, **found})
        print(f"{name}: {time.process_time():.0f} s", flush=True)
    return pd.DataFrame(lines)


# -- What one pass over several starts would cost ------------------------------------------------


def batched(n_samples: int, n_networks: int, repeats: int = 5) -> dict[str, float]:
    """CPU seconds of a step's Gram and Cholesky: one by one, and as one batch."""
    generator = torch.Generator().manual_seed(0)
    network = LayeredNetwork((10, 100, 100, 1))
    X = torch.randn(n_samples, 10, generator=generator, dtype=torch.float64)
    starts = [network.initial(generator) for _ in range(n_networks)]
    grams = torch.stack([network.linearize(theta, X).gram() for theta in starts])
    grams.diagonal(dim1=1, dim2=2).add_(1e-6 * grams.diagonal(dim1=1, dim2=2).mean())
    tasks = {
        "Grams": lambda: [network.linearize(theta, X).gram() for theta in starts],
        "Cholesky, one by one": lambda: [torch.linalg.cholesky(gram) for gram in grams],
        "Cholesky, one batch": lambda: torch.linalg.cholesky(grams),
    }
    seconds = {}
    for title, task in tasks.items():
        taken = []
        for _ in range(repeats):
            start = time.process_time()
            task()
            taken.append(time.process_time() - start)
        seconds[title] = float(np.median(taken))
    return seconds


# -- The report ----------------------------------------------------------------------------------


def report(found: pd.DataFrame, costs: pd.DataFrame, n_networks: int) -> str:
    """Scores by setting, and the cost of a batch."""
    parts = []
    for title in SETTINGS:
        means = found[found["setting"] == title].drop(columns="setting").groupby("table").mean()
        means = means.loc[list(dict.fromkeys(found["table"]))]
        means.insert(2, "gain", means["average"] - means["one"])
        means.insert(4, "gain of wide", means["wide"] - means["one"])
        means.loc["*mean*"] = means.mean()
        parts += [f"## {title}: R² or accuracy, {n_networks} networks", "", *markdown(means), ""]
    parts += [f"## CPU seconds for {n_networks} networks 100×100, by rows", ""]
    return "\n".join([*parts, *markdown(costs, ".4f"), ""])


def main() -> None:
    """Measure and write the page."""
    parser = table_parser(__doc__, OUT)
    parser.add_argument("--rows", type=int, default=300, help="rows to fit, and half to score")
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--wide", type=int, default=230, help="width of the wide network's layers")
    parser.add_argument("--seeds", type=int, default=3, help="splits a table")
    arguments = parse(parser)
    found = measure(arguments)
    costs = pd.DataFrame({n: batched(n, arguments.networks) for n in (100, 300, 1000)}).T
    title = ["# Several networks", "", *__doc__.splitlines()[2:7]]
    body = report(found, costs, arguments.networks)
    arguments.out.write_text("\n".join([*title, "", header(), "", body]))


if __name__ == "__main__":
    main()
