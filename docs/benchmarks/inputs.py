"""Encoded inputs for the searches, and whether rows held out choose well among them.

Each table is drawn three times: at most 600 rows to train on, at most 2,000 others to score. On
frames as they are, `AdaptedFlowRegressorCV` or `AdaptedFlowClassifierCV` is fitted with one
encoding at a time and without an ensemble: the columns as they are (raw), beside ramps over 6 or 24
quantile bins, or beside 8 cosines at frequencies of scale 0.4 or 1. *Chosen* is what the search
chooses among all five by itself, *ensemble* the same with those that join it (the default). Scores
are R² and accuracy of the test rows; *best* is the best single encoding in hindsight, draw by draw,
and a *regret* is what it is above the others. Other draws of these tables were looked at when the
candidates were chosen. Run ``python docs/benchmarks/inputs.py --help``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _machine import header
from _tables import cut, markdown, parse, read, table_parser
from sklearn import datasets
from sklearn.metrics import log_loss

from sklearn_gflow import (
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressorCV,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
)

OUT = Path(__file__).with_suffix(".md")
TEST_ROWS = 2000
NUMBERS, CLASSES = ("bikeshare", "concrete", "california", "boston"), ("vehicle", "credit_g")
CANDIDATES: dict[str, dict[str, Any]] = {
    "raw": {"encodings": [None]},
    "6 bins": {"encodings": ["piecewise"]},
    "24 bins": {"encodings": [PiecewiseLinearEncoder(n_bins=24)]},
    "cos 0.4": {"encodings": [PeriodicEncoder(scale=0.4)]},
    "cos 1": {"encodings": ["periodic"]},
    "chosen": {},
}


def tables(directory: Path | None) -> Iterator[tuple[str, bool, pd.DataFrame, np.ndarray]]:
    """(name, whether to classify, X, y)."""
    for name in NUMBERS if directory else ():
        yield name, False, *read(directory, name)
    X, y = datasets.load_diabetes(return_X_y=True)
    yield "diabetes", False, pd.DataFrame(X), y
    X, y = datasets.make_friedman1(2600, noise=1.0, random_state=0)
    yield "friedman1", False, pd.DataFrame(X), y
    if not directory:
        X, y = datasets.load_breast_cancer(return_X_y=True)
        yield "breast_cancer", True, pd.DataFrame(X), y
    for name in CLASSES if directory else ():
        yield name, True, *read(directory, name)


def measure(part: tuple[Any, ...], *, classify: bool, seed: int) -> Iterator[dict[str, Any]]:
    """Scores of all candidates on one draw."""
    X, X_test, y, y_test = part
    search = AdaptedFlowClassifierCV if classify else AdaptedFlowRegressorCV
    for name, encodings in {**CANDIDATES, "ensemble": {}}.items():
        start = time.process_time()
        ensemble = name == "ensemble"
        model = search(**encodings, ensemble=ensemble, random_state=seed).fit(X, y)
        seconds = time.process_time() - start
        found = {
            "candidate": name,
            "test": model.score(X_test, y_test),
            "held out": model.best_score_,
            "seconds": seconds,
        }
        if classify:
            found["log-loss"] = log_loss(y_test, model.predict_proba(X_test))
        yield found


# -- The report ----------------------------------------------------------------------------------


def regrets(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over the draws of what the choice and the ensemble lack of the best encoding."""
    singles = [name for name in CANDIDATES if name != "chosen"]
    test = runs.pivot_table("test", ["table", "draw"], "candidate", sort=False)
    best = test[singles].max(axis=1)
    found = pd.DataFrame(
        {
            "best": best,
            "regret of raw": best - test["raw"],
            "of chosen": best - test["chosen"],
            "of ensemble": best - test["ensemble"],
        }
    )
    means = found.groupby("table", sort=False).mean()
    means.loc["*mean*"] = means.mean()
    return means


def wide(runs: pd.DataFrame, value: str) -> list[str]:
    """Tables × candidates, the mean over the draws."""
    table = runs.pivot_table(value, "table", "candidate", sort=False)
    table = table[[*CANDIDATES, "ensemble"]]
    table.loc["*mean*"] = table.mean()
    return markdown(table)


def report(runs: pd.DataFrame) -> list[str]:
    """All tables of the page."""
    labels = runs.dropna(subset="log-loss")
    lines = []
    for heading, body in {
        "Test rows": wide(runs, "test"),
        "The choice": markdown(regrets(runs)),
        "Log-loss of the test rows, where there are classes": wide(labels, "log-loss"),
        "Seconds of a fit": wide(runs, "seconds"),
    }.items():
        lines += [f"## {heading}", "", *body, ""]
    return lines


def main() -> None:
    """Measure and write the page."""
    parser = table_parser(__doc__, OUT)
    parser.add_argument("--rows", type=int, default=600, help="training rows")
    parser.add_argument("--draws", type=int, default=3)
    arguments = parse(parser)
    runs = []
    for name, classify, X, y in tables(arguments.data):
        for seed in range(arguments.draws):
            part = cut(X, y, arguments.rows, TEST_ROWS, seed, y if classify else None)
            for found in measure(part, classify=classify, seed=seed):
                runs.append({"table": name, "draw": seed, "log-loss": np.nan, **found})
                print(name, seed, found["candidate"], round(found["test"], 3), flush=True)
    title = ["# Encoded inputs", "", *__doc__.splitlines()[2:12]]
    arguments.out.write_text("\n".join([*title, "", header(), "", *report(pd.DataFrame(runs))]))


if __name__ == "__main__":
    main()
