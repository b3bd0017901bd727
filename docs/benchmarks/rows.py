"""Millions of rows: fits, predictions, and a step of the full batch without a matrix.

Every case runs in a process of its own, so that its largest memory is its own too. Results are kept
in a file, from which the page is written. Run ``python docs/benchmarks/rows.py --help``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from _machine import header
from _rows_cases import KINDS, PREDICTED, TABLES, Case
from _rows_report import page
from _tables import offer_tables

OUT = Path(__file__).with_suffix(".md")
RESULTS = Path("build/benchmarks/rows.jsonl")
SIZES = (100_000, 300_000, 1_000_000)
STEP_SIZES = (5_000, 10_000, 20_000)
# Steps of blocks do not know steps of trees: such columns want their piecewise-linear encoding.
SETTINGS: dict[str, Case] = {"smooth": {}, "grown": {"encoding": "piecewise"}}
TWO_EPOCHS = {"max_iter": 2}


def cases(part: str) -> list[Case]:
    """All that is measured in a part of the page."""
    return list({"fits": _fits, "predictions": _predictions, "steps": _steps}[part]())


def _fits() -> Iterator[Case]:
    for table in TABLES:
        common = {"kind": "fit", "table": table, "classes": False}
        own = {"entrant": "flow, two epochs", "parameters": {**SETTINGS[table], **TWO_EPOCHS}}
        yield from ({**common, **own, "rows": n} for n in SIZES)
        yield {**common, "entrant": "LightGBM", "rows": SIZES[-1]}
        default = {"entrant": "flow, until nothing is gained", "parameters": SETTINGS[table]}
        yield {**common, **default, "rows": SIZES[-1]}
    common = {"kind": "fit", "table": "smooth", "classes": True, "rows": SIZES[-1]}
    yield {**common, "entrant": "flow, two epochs", "parameters": TWO_EPOCHS}
    yield {**common, "entrant": "LightGBM"}


def _predictions() -> Iterator[Case]:
    common = {"kind": "predict", "rows": PREDICTED}
    for method, precision, dtype, place in [
        ("predict", "float64", "float64", "memory"),
        ("predict", "float64", "float32", "memory"),
        ("predict", "float64", "float32", "map"),
        ("predict", "float32", "float32", "memory"),
        ("predict_proba", "float64", "float32", "memory"),
    ]:
        yield {**common, "method": method, "precision": precision, "dtype": dtype, "place": place}


def _steps() -> Iterator[Case]:
    for init_scale in (1.0, 0.3):
        for n in STEP_SIZES:
            yield {"kind": "step", "rows": n, "init_scale": init_scale, "memory": 4 * 2**30}


def measured(case: Case) -> Case:
    """What a process of its own finds in a case."""
    command = [sys.executable, __file__, "--child", json.dumps(case)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=["fits", "predictions", "steps"])
    offer_tables(parser, TABLES)
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept")
    parser.add_argument("--report", action="store_true", help="write the page from results alone")
    parser.add_argument("--out", type=Path, default=OUT, help="where the page goes")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(KINDS[arguments.child["kind"]](arguments.child)))
        return
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # of the processes
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        for part in arguments.parts:
            for case in cases(part):
                if case.get("table", arguments.tables[0]) not in arguments.tables:
                    continue
                found = {"case": case, "threads": arguments.threads, "found": measured(case)}
                print(json.dumps(found), flush=True)
                with arguments.results.open("a") as kept:
                    kept.write(json.dumps({**found, "header": header()}) + "\n")
    lines = arguments.results.read_text().splitlines()
    arguments.out.write_text(page([json.loads(line) for line in lines]))


if __name__ == "__main__":
    main()
