"""Encoded inputs for the unchanged searches, and whether leave-one-out chooses among them.

Each table is drawn three times: at most 600 rows to train on, at most 2,000 others to score. On
standardised columns, categories as indicators, `AdaptedFlowRegressorCV` or
`AdaptedFlowClassifierCV` is fitted as it comes, from one start: with the columns as they are
(raw), beside ramps over 6 or 24 quantile bins (`PiecewiseLinearEncoder`), or beside 8 cosines at
frequencies of scale 0.4, 1 or 2 (`PeriodicEncoder`). Scores are R² and accuracy of the test rows.
*Chosen* is the candidate of the best leave-one-out score (``best_score_``), *by loss* that of the
least leave-one-out loss, *best* the best one in hindsight, draw by draw; a *regret* is what best
is above them. The candidates come from trials in which other draws of these tables were looked at.
Run ``python docs/benchmarks/inputs.py --help``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _machine import header
from _tables import markdown, parse, read, split, table_parser
from sklearn import datasets
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

from sklearn_gflow import (
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressorCV,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
)

OUT = Path(__file__).with_suffix(".md")
NUMBERS, CLASSES = ("bikeshare", "concrete", "california", "boston"), ("vehicle", "credit_g")
CANDIDATES = {
    "raw": "passthrough",
    "6 bins": PiecewiseLinearEncoder(n_bins=6),
    "24 bins": PiecewiseLinearEncoder(n_bins=24),
    "cos 0.4": PeriodicEncoder(scale=0.4, random_state=0),
    "cos 1": PeriodicEncoder(scale=1.0, random_state=0),
    "cos 2": PeriodicEncoder(scale=2.0, random_state=0),
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


def measure(part: tuple[np.ndarray, ...], *, classify: bool, seed: int) -> Iterator[dict[str, Any]]:
    """Scores of all candidates on one draw."""
    X, X_test, y, y_test = part
    search = AdaptedFlowClassifierCV if classify else AdaptedFlowRegressorCV
    for name, encoder in CANDIDATES.items():
        start = time.process_time()
        model = make_pipeline(encoder, search(random_state=seed)).fit(X, y)
        seconds = time.process_time() - start
        found = {
            "candidate": name,
            "test": model.score(X_test, y_test),
            "left out": model[-1].best_score_,
            "loss": model[-1].cv_results_["mean_test_loss"].min(),
            "seconds": seconds,
        }
        if classify:
            found["log-loss"] = log_loss(y_test, model.predict_proba(X_test))
        yield found


# -- The report ----------------------------------------------------------------------------------


def chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over the draws of what each way of choosing scores on the test rows."""
    rows = []
    for (table, _), run in runs.groupby(["table", "draw"], sort=False):
        run = run.set_index("candidate")
        by_score, by_loss = run["left out"].idxmax(), run["loss"].idxmin()
        test, best = run["test"], run["test"].max()
        rows.append(
            {
                "table": table,
                "raw": test["raw"],
                "chosen": test[by_score],
                "its estimate": run["left out"][by_score],
                "by loss": test[by_loss],
                "best": best,
                "chosen − raw": test[by_score] - test["raw"],
                "regret of raw": best - test["raw"],
                "of chosen": best - test[by_score],
                "of by loss": best - test[by_loss],
            }
        )
    means = pd.DataFrame(rows).groupby("table", sort=False).mean()
    means.loc["*mean*"] = means.mean()
    return means


def wide(runs: pd.DataFrame, value: str) -> list[str]:
    """Tables × candidates, the mean over the draws."""
    table = runs.pivot_table(value, "table", "candidate", sort=False)[list(CANDIDATES)]
    table.loc["*mean*"] = table.mean()
    return markdown(table)


def report(runs: pd.DataFrame) -> list[str]:
    """All tables of the page."""
    labels = runs.dropna(subset="log-loss")
    lines = []
    for heading, body in {
        "Test rows": wide(runs, "test"),
        "Left out": wide(runs, "left out"),
        "The choice": markdown(chosen(runs)),
        "Log-loss of the test rows, where there are classes": wide(labels, "log-loss"),
        "Where an encoding loses": losses(runs),
        "Seconds of a fit": wide(runs, "seconds"),
    }.items():
        lines += [f"## {heading}", "", *body, ""]
    return lines


def losses(runs: pd.DataFrame) -> list[str]:
    """For each encoding the tables on which the raw columns score better."""
    test = runs.pivot_table("test", "table", "candidate", sort=False)
    lines = []
    for name in list(CANDIDATES)[1:]:
        gain = test[name] - test["raw"]
        lost = [f"{table} {value:.3f}" for table, value in gain.items() if value < 0]
        lines.append(f"- {name} against raw: {', '.join(lost) or 'nowhere'}")
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
            part = split(X, y, arguments.rows, 2000, seed, y if classify else None)
            for found in measure(part, classify=classify, seed=seed):
                runs.append({"table": name, "draw": seed, "log-loss": np.nan, **found})
                print(name, seed, found["candidate"], round(found["test"], 3), flush=True)
    title = ["# Encoded inputs", "", *__doc__.splitlines()[2:11]]
    arguments.out.write_text("\n".join([*title, "", header(), "", *report(pd.DataFrame(runs))]))


if __name__ == "__main__":
    main()
