"""Leave-one-out in closed form against flows that were run again without the rows.

For each table the searches score one grid of α and stopping times twice, from the same start: by
``cv=None``, the closed form with the kernel of the start, and by refits that leave groups of rows
out, scored along their paths. *Rank correlation* is Spearman's between the losses C (2.48) of
both along the path (mean over α) and over the whole grid. *Regret* is what a choice loses against
the best of the path, or of the grid, in R² or accuracy as the refits have it: of the time chosen
by leave-one-out, of the time chosen by a single group of rows held out (mean over the groups), and
of the default ``t_end``. Run ``python docs/benchmarks/leave_one_out.py --help``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from _machine import header
from _tables import few_numbers, markdown, parse, read, split, table_parser
from scipy.stats import spearmanr
from sklearn import datasets
from sklearn.model_selection import KFold, StratifiedKFold

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV

OUT = Path(__file__).with_suffix(".md")
NUMBERS, CLASSES = ("boston", "concrete", "california"), ("vehicle", "credit_g")
ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
DEFAULT_ALPHA, DEFAULT_T_END = 0.5, 0.95


def tables(directory: Path | None) -> Iterator[tuple[str, bool, pd.DataFrame, np.ndarray]]:
    """(name, whether to classify, X, y)."""
    for name, X, y in few_numbers(400):
        yield name, False, X, y
    X, y = datasets.make_regression(400, 120, n_informative=15, noise=20.0, random_state=0)
    yield "wide_numbers", False, pd.DataFrame(X), y
    for name in NUMBERS if directory else ():
        yield name, False, *read(directory, name)
    for name, load in {
        "breast_cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
    }.items():
        X, y = load(return_X_y=True)
        yield name, True, pd.DataFrame(X), y
    X, y = datasets.make_classification(400, 160, n_informative=12, random_state=0)
    yield "wide_classes", True, pd.DataFrame(X), y
    for name in CLASSES if directory else ():
        yield name, True, *read(directory, name)


# -- Scores of the grid --------------------------------------------------------------------------


def grid(search: AdaptedFlowRegressorCV | AdaptedFlowClassifierCV) -> tuple[np.ndarray, ...]:
    """Scores, losses and those of each fold, shape (n_alphas, n_times)."""
    found = search.cv_results_
    shape = (len(search.alphas), -1)
    folds = [found[name] for name in found if name.startswith("split")]
    score, loss = found["mean_test_score"], found["mean_test_loss"]
    return score.reshape(shape), loss.reshape(shape), np.array(folds).reshape(-1, *loss.shape)


def measure_table(X: np.ndarray, y: np.ndarray, *, classify: bool, folds: int) -> dict[str, float]:
    """Correlations and regrets on the training rows of one table."""
    kind = AdaptedFlowClassifierCV if classify else AdaptedFlowRegressorCV
    splitter = (StratifiedKFold if classify else KFold)(folds, shuffle=True, random_state=0)
    start = time.process_time()
    closed = kind(alphas=ALPHAS, random_state=0).fit(X, y)
    seconds = time.process_time() - start
    refit = kind(alphas=ALPHAS, cv=splitter, random_state=0).fit(X, y)
    refit_seconds = time.process_time() - start - seconds
    loo, loo_loss, _ = grid(closed)
    score, loss, parts = grid(refit)
    times = np.array([point["t_end"] for point in refit.cv_results_["params"]])
    times = times[: loss.shape[1]]
    parts = parts.reshape(-1, *loss.shape)
    if not classify:
        # R² of all left-out rows together, on targets of variance one; a fold has too few rows.
        score = 1 - 2 * loss
    along = [spearmanr(a, b).statistic for a, b in zip(loo_loss, loss, strict=True)]
    k = ALPHAS.index(DEFAULT_ALPHA)
    by_groups = [score[k].max() - score[k][best(part[k], -loss[k])] for part in parts]
    flat = best(loo.ravel(), -loo_loss.ravel())
    default = int(np.abs(times - DEFAULT_T_END).argmin())
    every = [s.max() - s[best(a, -b)] for s, a, b in zip(score, loo, loo_loss, strict=True)]
    return {
        "correlation along t": float(np.mean(along)),
        "over the grid": float(spearmanr(loo_loss.ravel(), loss.ravel()).statistic),
        "best score": float(score.max()),
        "its estimate": float(loo.ravel()[flat]),
        "regret of t": float(every[k]),
        "mean over α": float(np.mean(every)),
        "of (α, t)": float(score.max() - score.ravel()[flat]),
        "one group": float(np.mean(by_groups)),
        "default t_end": float(score[k].max() - score[k, default]),
        "seconds": seconds,
        "refits": refit_seconds,
    }


def best(scores: np.ndarray, ties: np.ndarray) -> int:
    """Index of the best score, ties broken as the estimators do: by the loss."""
    return max(range(len(scores)), key=lambda i: (scores[i], ties[i]))


# -- The report ----------------------------------------------------------------------------------


def main() -> None:
    """Measure and write the page."""
    parser = table_parser(__doc__, OUT)
    parser.add_argument("--rows", type=int, default=150, help="training rows")
    parser.add_argument("--folds", type=int, default=15, help="groups of rows that are left out")
    arguments = parse(parser)
    lines = {}
    for name, classify, X, y in tables(arguments.data):
        part = split(X, y, arguments.rows, len(X), 0, y if classify else None)
        found = measure_table(part[0], part[2], classify=classify, folds=arguments.folds)
        lines[f"{name} ({'accuracy' if classify else 'R²'})"] = found
        print(name, {key: round(value, 3) for key, value in found.items()}, flush=True)
    table = pd.DataFrame(lines).T
    table.loc["*mean*"] = table.mean()
    title = ["# Leave-one-out against refits", "", *__doc__.splitlines()[2:9]]
    arguments.out.write_text("\n".join([*title, "", header(), "", *markdown(table), ""]))


if __name__ == "__main__":
    main()
