"""Runs of entrants on tables: measured one by one, kept as JSON lines, and read again."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from _collection import Cut, Table, cut
from _machine import processor
from _peers import Entrant, entrants
from _tables import chosen, offer_tables, parse, table_parser
from sklearn.metrics import accuracy_score, log_loss, r2_score

import sklearn_gflow

KEY = ["table", "draw", "entrant"]
SMALLEST = 1e-15  # probabilities are clipped there before their logarithm is taken


@dataclass(frozen=True)
class Plan:
    """What is run where nothing else is asked for."""

    tables: tuple[Table, ...]
    held_back: tuple[Table, ...]
    rows: int
    test_rows: int
    draws: int
    entrants: tuple[str, ...]


def arguments_of(plan: Plan, doc: str, out: Path) -> argparse.Namespace:
    """Read the command line."""
    parser = table_parser(doc, out)
    names = list(entrants(raw=False))
    parser.set_defaults(threads=1)
    parser.add_argument(
        "--results", type=Path, nargs="+", default=[Path("build/benchmarks") / f"{out.stem}.jsonl"],
        help="files of results; new ones are added to the last, a later one wins",
    )  # fmt: skip
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--again", action="store_true", help="also what the files have already")
    offer_tables(parser, (table.name for table in (*plan.tables, *plan.held_back)))
    parser.add_argument("--draws", type=int, nargs="*", default=list(range(plan.draws)))
    parser.add_argument("--entrants", nargs="*", choices=names, default=list(plan.entrants))
    parser.add_argument(
        "--ours", choices=("encoded", "raw"), default="encoded",
        help="what this package is given: standardised columns and indicators, or the frame",
    )  # fmt: skip
    if plan.held_back:
        parser.add_argument(
            "--held-back", action="store_true", help="the tables that are scored at the end"
        )
    return parse(parser)


def read_results(paths: list[Path]) -> pd.DataFrame:
    """One line a run; of several of the same run the last."""
    lines = [
        json.loads(line)
        for path in paths
        if path.exists()
        for line in path.read_text().splitlines()
    ]
    found = pd.DataFrame(lines, columns=None if lines else KEY)
    return found.drop_duplicates(KEY, keep="last").reset_index(drop=True)


def measure(plan: Plan, arguments: argparse.Namespace) -> None:
    """Run what is missing, entrant by entrant, and add each result to the file at once."""
    print(f"sklearn_gflow of {Path(sklearn_gflow.__file__).parents[1]}")
    store: Path = arguments.results[-1]
    store.parent.mkdir(parents=True, exist_ok=True)
    done = set() if arguments.again else _known(arguments.results)
    held_back = plan.held_back and arguments.held_back
    found = entrants(raw=arguments.ours == "raw")
    for name in arguments.entrants:
        entrant = found[name]
        if not entrant.installed:
            print(f"{name} is left out: {entrant.packages[0]} is not installed")
            continue
        origin = {"inputs": arguments.ours} if entrant.packages[0] == "sklearn-gflow" else {}
        warm_up(entrant)
        for table in chosen(plan.held_back if held_back else plan.tables, arguments):
            for draw in arguments.draws:
                if (table.name, draw, name) in done:
                    continue
                parts = cut(table, arguments.data, plan.rows, plan.test_rows, draw)
                result = {"table": table.name, "draw": draw, "entrant": name, **origin}
                result |= {
                    "held_back": bool(held_back),
                    **run(entrant, table.classify, draw, parts),
                }
                with store.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                print(
                    f"{name}, {table.name} {draw}: {result['score']:.4f}, "
                    f"{result['fit_cpu']:.2f} s",
                    flush=True,
                )


def _known(paths: list[Path]) -> set[tuple]:
    return set(read_results(paths)[KEY].itertuples(index=False, name=None))


def warm_up(entrant: Entrant) -> None:
    """Import what an entrant needs, so that no fit pays for it."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc"))
    model = entrant.make(False, 0)
    model.fit(X, X["a"].to_numpy() + 0.1 * rng.normal(size=40)).predict(X)


def run(entrant: Entrant, classify: bool, draw: int, parts: Cut) -> dict:
    """One fit and its scores; seconds of the processor and of the clock."""
    model = entrant.make(classify, draw)
    clock, cpu = time.perf_counter(), time.process_time()
    model.fit(parts.X_train, parts.y_train)
    fit_cpu, fit_wall = time.process_time() - cpu, time.perf_counter() - clock
    cpu = time.process_time()
    predicted = model.predict(parts.X_test)
    predict_cpu = time.process_time() - cpu
    score = accuracy_score if classify else r2_score
    found = {
        "classify": classify,
        "score": float(score(parts.y_test, predicted)),
        "log_loss": _log_loss(parts, model.predict_proba(parts.X_test)) if classify else None,
        "fit_cpu": fit_cpu,
        "fit_wall": fit_wall,
        "predict_cpu": predict_cpu,
        "rows": len(parts.X_train),
        "test_rows": len(parts.X_test),
        "features": parts.X_train.shape[1],
    }
    versions = {"Python": platform.python_version(), "sklearn-gflow": sklearn_gflow.__version__}
    return found | {"processor": processor(), "versions": versions | entrant.versions()}


def _log_loss(parts: Cut, probabilities: np.ndarray) -> float:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, 1.0)
    clipped /= clipped.sum(axis=1, keepdims=True)
    return float(log_loss(parts.y_test, clipped, labels=np.unique(parts.y_train)))
