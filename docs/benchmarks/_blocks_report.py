"""What came out of the comparison in blocks, and the page that tells it."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _blocks_classes import Fit, classes
from _blocks_tables import CHOICE_ROWS, TABLES, Table
from _machine import header


@dataclass
class Entry:
    """One competitor on one table.

    Attributes
    ----------
    tried : dict of list
        Validation scores of each setting, split by split.
    chosen : list of str
        Its setting, split by split.
    seconds, scores : list of float
        Of the fits to all training rows.
    """

    name: str
    tried: dict[str, list[float]]
    chosen: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def time(self) -> float:
        """Median seconds of a fit."""
        return statistics.median(self.seconds)

    @property
    def score(self) -> float:
        """Mean score over splits and seeds."""
        return statistics.mean(self.scores)


def goal(table: Table, flow: Entry, mlp: Entry) -> tuple[str, str]:
    """(the goal in words, whether it was met)."""
    sign = 1 if table.classes else -1
    least = mlp.score if table.best is None else table.best
    beats = sign * flow.score > sign * least or flow.score == table.best
    relation = "≥" if table.classes else "≤"
    words = "better than the MLP" if table.best is None else f"{relation} {least:g}"
    fast = flow.time <= table.pace * mlp.time
    met = f"{'yes' if beats else '**no**'}, {'yes' if fast else '**no**'}"
    return f"{words}; time ≤ {table.pace:g} × MLP", met


def comparison(results: dict[str, dict[str, Entry]]) -> list[str]:
    """One row a table, then the settings that were tried."""
    lines = [
        "| table | network | flow | its time | MLP | its time | flow ÷ MLP | goal |"
        " met (score, time) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entries in results.items():
        table, flow, mlp = TABLES[name], entries["flow"], entries["MLP"]
        words, met = goal(table, flow, mlp)
        unit = "accuracy" if table.classes else "RMSE"
        cells = [
            f"{name}, {unit}", "×".join(map(str, table.hidden)),
            f"{flow.score:.4g}", f"{flow.time:.2f} s", f"{mlp.score:.4g}", f"{mlp.time:.2f} s",
            f"{flow.time / mlp.time:.2f}", words, met,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Scores of all settings on the validation part, the chosen one in bold, with the number of",
        "splits that chose it where there are several:",
        "",
    ]
    for name, entries in results.items():
        for entry in entries.values():
            tried = "; ".join(attempt(entry, setting) for setting in entry.tried)
            seeds = ", ".join(f"{score:.4g}" for score in entry.scores)
            lines.append(f"- {name}, {entry.name}: {tried}. Test, seed by seed: {seeds}.")
    return lines


def attempt(entry: Entry, setting: str) -> str:
    """A setting and its mean score on the validation parts."""
    text, times = (
        f"{setting} {statistics.mean(entry.tried[setting]):.4g}",
        entry.chosen.count(setting),
    )
    if not times:
        return text
    return f"**{text}**" + (f" ({times} of {len(entry.chosen)})" if len(entry.chosen) > 1 else "")


def growth(found: list[dict[str, float]]) -> list[str]:
    """Time per epoch and memory against the number of rows."""
    lines = [
        "",
        "## Scaling",
        "",
        "20 features, network 64×64, blocks of 256 rows, α = 1; the loss of all rows after each",
        "epoch is part of its time. Peak memory is VmHWM of a process of its own, with Python and",
        "torch; the last column is what it had before the fit, the data included.",
        "",
        "| rows | seconds per epoch | µs per row | data | peak memory | before the fit |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        memory = [f"{row[key] / 1e6:,.0f} MB" for key in ("data", "peak", "before")]
        cells = [
            f"{row['rows']:,}", f"{row['seconds']:.2f}",
            f"{1e6 * row['seconds'] / row['rows']:.1f}", *memory,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    if len(found) > 1:
        sizes, seconds = ([row[key] for row in found] for key in ("rows", "seconds"))
        exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
        most = max(row["peak"] - row["data"] for row in found) / 1e9
        lines += [
            "",
            f"Time per epoch goes as N to the power **{exponent:.3f}** (goal ≤ 1.05).",
            f"Peak memory is at most data + **{most:.2f} GB** (goal ≤ 1 GB).",
        ]
    return lines


PREAMBLE = f"""\
# Larger tables: blocks of rows

`AdaptedFlowRegressor` and `AdaptedFlowClassifier` on blocks of 256 rows, against `MLPRegressor` and
`MLPClassifier` with `early_stopping=True`: the same hidden layers, the same scaled inputs (numbers
to a normal distribution by their quantiles, categories to indicators; generated tables
standardised, pixels from 0 to 1) and standardised targets, the same splits 80/20 (five of the
digits, whose test part is small, else one), in turns in one process. Ours are tanh networks.
Settings, four of each, were chosen on a validation part of the training rows of the split: a
quarter of at most {CHOICE_ROWS:,} of them, the others fitted. Scores are means over splits and
seeds of the models, times are medians of whole fits. α, t and ε are our `alpha`, `t_end` and
`damping`.
"""


TRIALS = "How the defaults were chosen, and what was tried besides: [trials](blocks_trials.md).\n"


def write(
    out: Path,
    results: dict[str, dict[str, Entry]],
    of_classes: dict[str, dict[str, list[Fit]]],
    found: list[dict[str, float]],
) -> None:
    """Write the page as far as it is known."""
    load = f"- Load: {os.getloadavg()[2]:.1f} processes on average over the last quarter of an hour"
    parts = [PREAMBLE, header(), load, ""]
    if results:
        parts += comparison(results)
    if of_classes:
        parts += classes(of_classes)
    if found:
        parts += growth(found)
    out.write_text("\n".join([*parts, "", TRIALS]))
