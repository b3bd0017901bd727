"""What came out of the race, and the page that tells it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from _race_peers import FAST, LOOSE, OURS, OWN, Runner
from _race_problems import TARGET, Problem, Stopwatch

Trials = dict[str, list[Stopwatch] | str]


@dataclass
class Entry:
    """A competitor in the timed repetitions, with the setting that it runs with."""

    name: str
    setting: str
    runner: Runner
    runs: list[Stopwatch] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        """Whether every run met the target."""
        return all(run.reached for run in self.runs)

    @property
    def median(self) -> float:
        """Median seconds to the target; ∞ if a run missed it."""
        return median(self.runs) if self.reached else np.inf


@dataclass
class Result:
    """What came out on one problem."""

    race: Problem
    entries: list[Entry]
    tried: dict[str, Trials]


def median(runs: Sequence[Stopwatch]) -> float:
    """Median seconds to the target, a miss counting as ∞."""
    return statistics.median(run.seconds for run in runs)


def in_words(runs: Sequence[Stopwatch]) -> str:
    """Time to the target, or how far the runs came."""
    if median(runs) < np.inf:
        return seconds(median(runs))
    last = runs[-1]
    return f"not in {seconds(last.elapsed)} ({last.best:.1e})"


def seconds(value: float) -> str:
    """Three digits, with the unit."""
    return f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def row(entry: Entry, unit: float) -> str:
    """A line of the table."""
    last, spread = entry.runs[-1], ""
    if entry.reached:
        times = [run.seconds for run in entry.runs]
        clock, ratio = seconds(entry.median), f"{entry.median / unit:.1f}"
        spread = f"{min(times):.3g} – {max(times):.3g}"
    else:
        ended = next(run for run in entry.runs if not run.reached)
        clock, ratio = f"> {seconds(ended.elapsed)}", f"> {ended.elapsed / unit:.0f}"
        last = ended
    cells = [
        entry.name,
        clock,
        spread,
        ratio,
        f"{last.best:.1e}",
        f"{last.linearizations}",
        f"{last.evaluations}",
        entry.setting,
    ]
    return "| " + " | ".join(cells) + " |"


def section(result: Result) -> str:
    """The tables of one problem."""
    unit = result.entries[0].median
    lines = [
        f"## {result.race.name}",
        "",
        f"{len(result.race.theta):,} parameters; {len(result.entries[0].runs)} repetitions.",
        "",
        "| competitor | time to target | least – most, s | ÷ `flow` | MSE/var(y) | J, G or ∇C |"
        " losses | setting |",
        "|---|---|---|---|---|---|---|---|",
        *(row(entry, unit) for entry in result.entries),
        "",
        "Settings that were tried (where the best came close, the median of three runs), each run",
        "being ended at twice the best time so far:",
        "",
    ]
    for peer, found in result.tried.items():
        runs = [
            f"{name}: {run if isinstance(run, str) else in_words(run)}"
            for name, run in found.items()
        ]
        lines.append(f"- {peer}. " + "; ".join(runs) + ".")
    return "\n".join([*lines, ""])


def summary(results: Sequence[Result]) -> str:
    """Best peer over this package, problem by problem."""
    flows = {OURS: "`flow`", LOOSE: "tolerance 0.4", FAST: "`Fast`"}
    lines = [
        "| problem | best peer | its time | " + " | ".join(
            f"{name} | Grams | ratio" for name in flows.values()
        ) + " |",
        "|---" * (3 + 3 * len(flows)) + "|",
    ]  # fmt: skip
    for result in results:
        named = {entry.name: entry for entry in result.entries}
        peers = [one for one in result.entries if one.name not in OWN and one.reached]
        best = min(peers, key=lambda one: one.median, default=None)
        cells = [result.race.name, "none met the target in the budget", ""]
        if best is not None:
            cells[1:] = [best.name, seconds(best.median)]
        for name in flows:
            own = named[name]
            ratio = "" if best is None else f"**{best.median / own.median:.1f}**"
            cells += [seconds(own.median), f"{own.runs[-1].linearizations}", ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


PREAMBLE = f"""\
# Race to zero training loss

Time until the training MSE is {TARGET:g}·var(y), from the same start θ₀, with the same tanh
network in float64, on the same standardised data, full batch. This package trains f_θ − f_θ₀; the
peers get the targets y + f_θ₀(X), which is the same problem. Each loss is stamped at the moment it
is computed, in the same way for all, and a run ends at the target. Only the whole `fit` goes on to
its own tolerance, and computes rank, Gram and spectrum at the end; its row is the time of the call.

The flow runs with the steps of the estimators, whose error stays below 5 % of the way |y − x₀|, and
with steps to a tolerance of 0.4: a path that need not be the line of the theory goes in fewer. With
`Fast` (`schedule="fast"`) one factor serves many moves, since only the end is asked for; Gram,
factor and directions are in float32 where that resolves the Gram, and outputs while the targets
are far. θ, and the outputs near the target, are in float64. Grams are counted up to the target.

Each peer runs with the best of the settings listed below its table; the repetitions alternate
between the competitors in one process, and medians are given. A peer that missed the target ran
once. "J, G or ∇C" counts Jacobians, Grams or gradients, "losses" the evaluations of the loss (for
the whole `fit`: points of the path).

`least_squares` gets the exact Jacobian, in closed form in NumPy: as a dense matrix or as products.
`MLPRegressor` stops at a relative decrease of the loss of 2e-9 (an option of L-BFGS that it does
not hand on); it is continued by `warm_start` whenever it stops, or given `ftol=0` past its
interface.

Two peers run in JAX, compiled before they are timed, on as many threads as the others.
`optimistix.LevenbergMarquardt` solves its damped system by LSMR, from products with J; its default,
QR of J with a row of damping for each parameter, is among the settings. SSBroyden is that of the
package `ssbroyden-optimistix`, with its line search. It keeps a dense inverse Hessian, and a step
takes about seven times the memory of one: where that is more than 4 GB it is not run. Steps of both
are taken one by one, and the loss of the next point is stamped before it is linearised.
"""
