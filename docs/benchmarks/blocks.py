"""The flow over row blocks against Adam with early stopping, on larger tables.

Both have the same hidden layers, the same scaled inputs and targets and the same splits, in one
process in turns. The settings of both, four each, are chosen on a validation part of the training
rows. Then both are fitted to all training rows, once a seed, and scored on the test rows. Default
fits of many rows with classes are compared besides, and scaling is measured in a process for each
size. With ``--results`` parts may be run one after the other. Run
``python docs/benchmarks/blocks.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _blocks_classes import CLASSES, Fit, against_default
from _blocks_report import Entry, write
from _blocks_scaling import SIZES, scale_child, scaling
from _blocks_tables import TABLES, Split, Table, cut
from _tables import offer_tables
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.neural_network import MLPClassifier, MLPRegressor

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor

OUT = Path(__file__).with_suffix(".md")

# As many for both, the defaults among them; of equal scores the first is taken.
FLOW_SETTINGS: dict[str, dict[str, Any]] = {
    "while rows held out gain (default)": {},
    "t = 0.95": {"t_end": 0.95},
    "t = 0.95, ε = 0.1": {"t_end": 0.95, "damping": 0.1},
    "α = 1, t = 0.998": {"alpha": 1.0, "t_end": 0.998},
}
MLP_SETTINGS: dict[str, dict[str, Any]] = {
    "relu (default)": {},
    "tanh": {"activation": "tanh"},
    "relu, rate 0.003": {"learning_rate_init": 0.003},
    "tanh, rate 0.003": {"activation": "tanh", "learning_rate_init": 0.003},
}


def flow_model(table: Table, setting: str, seed: int) -> Any:
    """The estimator of this package, on blocks whatever the size; columns are scaled already."""
    kind = AdaptedFlowClassifier if table.classes else AdaptedFlowRegressor
    return kind(
        hidden_layer_sizes=table.hidden,
        random_state=seed,
        batch_size=256,
        scale_inputs=False,
        **FLOW_SETTINGS[setting],
    )


def mlp_model(table: Table, setting: str, seed: int) -> Any:
    """Adam with early stopping."""
    kind = MLPClassifier if table.classes else MLPRegressor
    return kind(
        hidden_layer_sizes=table.hidden,
        random_state=seed,
        early_stopping=True,
        **MLP_SETTINGS[setting],
    )


COMPETITORS = {"flow": (flow_model, FLOW_SETTINGS), "MLP": (mlp_model, MLP_SETTINGS)}


def run(table: Table, model: Any, rows: Split) -> tuple[float, float]:
    """(seconds of the fit, score): RMSE in the units of y, or accuracy."""
    mean, unit = (0.0, 1.0) if table.classes else (rows.y.mean(), rows.y.std())
    target = rows.y if table.classes else (rows.y - mean) / unit
    gc.collect()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as far as it came is scored
        model.fit(rows.X, target)
    seconds = time.perf_counter() - start
    predicted = model.predict(rows.X_test)
    if table.classes:
        return seconds, accuracy_score(rows.y_test, predicted)
    return seconds, root_mean_squared_error(rows.y_test, mean + unit * predicted)


def choose(table: Table, entry: Entry, rows: Split) -> str:
    """Try the settings on the validation part, and take the best."""
    make, _ = COMPETITORS[entry.name]
    for setting, scores in entry.tried.items():
        seconds, score = run(table, make(table, setting, 0), rows)
        scores.append(score)
        print(f"  {entry.name}, {setting}: {score:.4g} in {seconds:.2f} s", flush=True)
    latest = {setting: scores[-1] for setting, scores in entry.tried.items()}
    return (max if table.classes else min)(latest, key=latest.__getitem__)


def compare(name: str, data: Path | None, seeds: int) -> dict[str, Entry]:
    """Choose the settings, then fit in turns; anew for every split."""
    table = TABLES[name]
    entries = {
        kind: Entry(kind, {setting: [] for setting in settings})
        for kind, (_, settings) in COMPETITORS.items()
    }
    for number in range(table.n_splits):
        print(f"{name}, split {number}", flush=True)
        choice, rows = cut(table, data, number)
        for entry in entries.values():
            entry.chosen.append(choose(table, entry, choice))
        for seed in range(seeds):
            for kind, entry in entries.items():
                make, _ = COMPETITORS[kind]
                seconds, score = run(table, make(table, entry.chosen[-1], seed), rows)
                entry.seconds.append(seconds)
                entry.scores.append(score)
                print(f"  {kind}, seed {seed}: {score:.4g} in {seconds:.2f} s", flush=True)
    return entries


@dataclass
class Found:
    """What is known of all three parts."""

    tables: dict[str, dict[str, Entry]] = field(default_factory=dict)
    classes: dict[str, dict[str, list[Fit]]] = field(default_factory=dict)
    scaling: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None) -> Found:
        """What was kept."""
        if path is None or not path.exists():
            return cls()
        kept = json.loads(path.read_text())
        tables = {
            name: {kind: Entry(**entry) for kind, entry in entries.items()}
            for name, entries in kept["tables"].items()
        }
        classes = {
            name: {kind: [Fit(*fit) for fit in fits] for kind, fits in entries.items()}
            for name, entries in kept["classes"].items()
        }
        return cls(tables, classes, kept["scaling"])

    def keep(self, path: Path | None, page: Path) -> None:
        """Write it down, and the page as far as it is known."""
        if path is not None:
            path.write_text(json.dumps(asdict(self)))
        write(page, self.tables, self.classes, self.scaling)


def main() -> None:
    """Run all tables, then the scaling, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="directory of NAME.csv.gz; default: public loaders"
    )
    offer_tables(parser, TABLES)
    parser.add_argument("--classes", nargs="*", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--largest", type=int, default=SIZES[-1], help="rows of the scaling; 0: none"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="where the page goes")
    parser.add_argument("--results", type=Path, help="JSON that keeps parts; default: none")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        scale_child(arguments.child)
        return
    found = Found.read(arguments.results)
    for name in arguments.tables:
        found.tables[name] = compare(name, arguments.data, arguments.seeds)
        found.keep(arguments.results, arguments.out)
    for name in arguments.classes:
        found.classes[name] = against_default(name, arguments.seeds)
        found.keep(arguments.results, arguments.out)
    if arguments.largest:
        found.scaling = scaling(Path(__file__), arguments.largest)
        found.keep(arguments.results, arguments.out)


if __name__ == "__main__":
    main()
