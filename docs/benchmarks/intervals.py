"""Do `predict_interval` and `predict_set` hold what they say, and what does it cost?

Every table is cut at random into training and test rows, once a split, as it is. The share of test
rows in the intervals, or in the sets of labels, should be 90 %. "residual" is the length of the
residuals that the width stands on, of that of the test rows; "refits" is how many refits without a
row take the time of the first call, in CPU seconds of one thread. The last table asks whether
contributions of `explain` order the rows as true deletions do, and how close the residuals of rows
left out are to those of true refits. Run
``python docs/benchmarks/intervals.py --help``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _collection import HELD_BACK, MAIN, Table
from _machine import header
from _tables import chosen, markdown, offer_tables, parse, table_parser
from scipy.stats import spearmanr
from sklearn.model_selection import train_test_split

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)

OUT = Path(__file__).with_suffix(".md")
COVERAGE = 0.9
TEST_ROWS = 1000
ALONE = {False: AdaptedFlowRegressor, True: AdaptedFlowClassifier}
SEARCH = {False: AdaptedFlowRegressorCV, True: AdaptedFlowClassifierCV}


def parts(table: Table, directory: Path | None, rows: int, seed: int) -> tuple[Any, ...]:
    """Training and test rows at random."""
    X, y = table.load(directory or Path())
    n_train = min(rows, int(0.7 * len(X)))
    cut = train_test_split(
        X, y, train_size=n_train, test_size=min(TEST_ROWS, len(X) - n_train), random_state=seed,
        stratify=y if table.classify else None,
    )  # fmt: skip
    return tuple(cut)


def covered(table: Table, model: Any, X: Any, y: np.ndarray) -> tuple[float, float]:
    """The share that is held, and the mean width or the mean number of labels."""
    if table.classify:
        sets = model.predict_set(X, COVERAGE)
        own = sets[np.arange(len(y)), np.searchsorted(model.classes_, y)]
        return float(own.mean()), float(sets.sum(axis=1).mean())
    low, high = model.predict_interval(X, COVERAGE).T
    return float(np.mean((y >= low) & (y <= high))), float(np.mean(high - low) / y.std())


def measure(table: Table, directory: Path | None, rows: int, splits: int) -> Iterator[dict]:
    """One line for each split and estimator."""
    for seed in range(splits):
        X, X_test, y, y_test = parts(table, directory, rows, seed)
        for kind, classes in (("default", ALONE), ("CV", SEARCH)):
            start = time.process_time()
            model = classes[table.classify](random_state=seed).fit(X, y)
            fit = time.process_time() - start
            start = time.process_time()
            try:
                share, width = covered(table, model, X_test, y_test)
            except ValueError:  # of a fit in blocks nothing was left out
                continue
            price = time.process_time() - start
            line = {"table": table.name, "estimator": kind, "rows": len(y), "share": share}
            line |= {"width": width, "refits": price / fit, "residual": np.nan}
            if not table.classify:
                apart = model._apart_of()
                errors = y_test - model.predict(X_test)
                lengths = [np.sqrt(np.mean(e**2)) for e in (apart.truth - apart.readings, errors)]
                line["residual"] = lengths[0] / lengths[1]
            yield line


def deletions(table: Table, directory: Path | None, rows: int) -> dict[str, Any]:
    """Contributions and residuals of rows left out against refits without each row."""
    X, X_test, y, _ = parts(table, directory, rows, 0)
    model = AdaptedFlowRegressor(random_state=0).fit(X, y)
    X, X_test = (model._inputs.read(model, part) for part in (X, X_test.iloc[:50]))
    times = model.history_["t"][1:].tolist()
    scaled: dict[str, Any] = {"scale_inputs": False, "random_state": 0, "schedule": times}
    start = time.process_time()
    model = AdaptedFlowRegressor(**scaled).fit(X, y)
    fit = time.process_time() - start
    start = time.process_time()
    contributed = model.explain(X_test)
    explained = time.process_time() - start
    predicted, effects, residuals = model.predict(X_test), [], []
    for i in range(len(y)):
        kept = np.arange(len(y)) != i
        without = AdaptedFlowRegressor(**scaled).fit(X[kept], y[kept])
        effects.append(predicted - without.predict(X_test))
        residuals.append(y[i] - without.predict(X[i : i + 1])[0])
    apart = model._apart_of()
    order = np.lexsort((y, *X.T[::-1]))  # rows come sorted where copies are looked for
    found = (apart.truth - apart.readings)[:, 0]
    true = np.array(residuals)
    if len(found) == len(true) and not np.allclose(apart.truth[:, 0], y):
        true = true[order]
    ranks = [
        spearmanr(a, b).statistic for a, b in zip(contributed, np.array(effects).T, strict=True)
    ]
    return {
        "table": table.name,
        "contributions, rank correlation with deletions": np.mean(ranks),
        "left out, correlation with refits": np.corrcoef(found, true)[0, 1],
        "left out, length": np.linalg.norm(found) / np.linalg.norm(true),
        "explain, in fits": explained / fit,
    }


def main() -> None:
    """Measure and write the page."""
    parser = table_parser(__doc__, OUT)
    parser.add_argument("--rows", type=int, default=300, help="training rows")
    parser.add_argument("--splits", type=int, default=20)
    offer_tables(parser, (table.name for table in (*MAIN, *HELD_BACK)))
    arguments = parse(parser)
    tables = chosen((*MAIN, *HELD_BACK), arguments)
    lines, deleted = [], []
    for table in tables:
        lines += measure(table, arguments.data, arguments.rows, arguments.splits)
        print(table.name, f"{time.process_time():.0f} s", flush=True)
    for table in tables:
        if not table.classify and len(deleted) < 5:
            deleted.append(deletions(table, arguments.data, 150))
    found = pd.DataFrame(lines)
    means = found.groupby(["table", "estimator"], sort=False).mean(numeric_only=True)
    means.index = means.index.map(", ".join)
    page = ["# Coverage of intervals and sets", "", *__doc__.splitlines()[2:11], "", header(), ""]
    page += ["## Shares of 90 %", "", *markdown(means), ""]
    if deleted:
        page += ["## Rows deleted", "", *markdown(pd.DataFrame(deleted).set_index("table")), ""]
    arguments.out.write_text("\n".join(page))


if __name__ == "__main__":
    main()
