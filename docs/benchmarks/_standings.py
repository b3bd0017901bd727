"""The page of `defaults.py` and `large.py`, written from the results of runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pandas as pd
from _machine import command
from _peers import entrants
from _runs import SMALLEST, read_results
from _tables import markdown

CV, DEFAULT, RIVAL = "flow CV", "flow", "CatBoost"
TIE = 0.002  # scores as close as that count as equal


def write_page(arguments: argparse.Namespace, doc: str, appendix: str = "") -> None:
    """Title, what was run on what, the tables looked at, those held back, and an appendix."""
    runs = read_results(arguments.results)
    title, *rest = doc.strip().split("\n\n")
    lines = [f"# {title.rstrip('.')}", "", *"\n\n".join(rest[:-1]).splitlines(), ""]
    lines += [*_origin(runs), ""]
    looked_at, held_back = runs[~runs["held_back"]], runs[runs["held_back"]]
    if len(looked_at):
        lines += _part(looked_at, "Tables known while defaults and candidates were chosen")
    if len(held_back):
        lines += _part(held_back, "Tables first scored at the end")
    arguments.out.write_text("\n".join([*lines, appendix]).rstrip() + "\n")


def _origin(runs: pd.DataFrame) -> list[str]:
    """Processor, versions and sizes, as the runs have them."""
    versions: dict[str, set[str]] = {}
    for found in runs["versions"]:
        for name, version in found.items():
            versions.setdefault(name, set()).add(version)
    own = runs[runs["entrant"].isin([CV, DEFAULT])]
    inputs = sorted(set(own["inputs"].dropna())) if "inputs" in own else []
    shown = ", ".join(f"{name} {' and '.join(sorted(v))}" for name, v in sorted(versions.items()))
    again = ", once with `--held-back`" if runs["held_back"].any() else ""
    lines = {
        "Processor": f"{', '.join(sorted(set(runs['processor'])))}, one thread, no GPU used",
        "Versions": shown,
        "Rows": f"at most {runs['rows'].max()} to train, {runs['test_rows'].max()} to test",
        "Draws": f"{runs['draw'].nunique()}",
        "This package was given": f"{' and '.join(inputs) or 'no'} columns",
        "Command": f"`{command()}`, after the same without `--report`{again}",
    }
    return [f"- {name}: {text}" for name, text in lines.items()]


def _part(runs: pd.DataFrame, title: str) -> list[str]:
    """All that is said of one group of tables."""
    order = [name for name in entrants(raw=False) if name in set(runs["entrant"])]
    names = list(dict.fromkeys(runs["table"]))
    classes = [name for name in names if runs.loc[runs["table"] == name, "classify"].iloc[0]]
    scores = _means(runs, "score", names, order)
    losses = _means(runs[runs["classify"]], "log_loss", classes, order)
    seconds = _means(runs, "fit_cpu", names, order)
    everywhere = [name for name in order if scores[name].notna().all()]
    lines = [f"## {title}", "", *_ranks(scores, losses, everywhere), ""]
    if {CV, DEFAULT} & set(order):
        lines += [*_pairs(runs, order), ""]
    lines += [*_loss_pairs(runs, order), ""]
    lines += [*_against_default(scores), ""]
    lines += ["### Test scores (R² or accuracy)", "", *markdown(scores, ".3f"), ""]
    if classes:
        lines += ["### Log-loss", "", f"Probabilities are clipped at {SMALLEST:.0e}.", ""]
        lines += [*markdown(losses, ".3f"), ""]
    lines += ["### Seconds of a fit", "", *markdown(seconds, ".2f")]
    total = " | ".join(f"{seconds[name].sum():.1f}" for name in order)
    return [*lines, f"| *total* | {total} |", ""]


def _means(runs: pd.DataFrame, column: str, names: list[str], order: list[str]) -> pd.DataFrame:
    """Means over the draws, tables by entrants; NaN where one did not run."""
    means = runs.groupby(["table", "entrant"])[column].mean().unstack()
    found = means.reindex(index=names, columns=order).astype(float)
    found.index.name = "table"
    return found


def _ranks(scores: pd.DataFrame, losses: pd.DataFrame, everywhere: list[str]) -> list[str]:
    """Mean ranks among those that ran on every table, and on the tables where all ran."""
    complete = scores.dropna()
    found = {
        "mean rank by score": scores[everywhere].rank(axis=1, ascending=False).mean(),
        "mean score": scores[everywhere].mean(),
        "mean rank by log-loss": losses[everywhere].rank(axis=1).mean(),
    }
    if len(everywhere) < scores.shape[1] and len(complete):
        found[f"mean rank by score, {len(complete)} tables with all"] = complete.rank(
            axis=1, ascending=False
        ).mean()
    table = pd.DataFrame(found).T.reindex(columns=scores.columns)
    table.index.name = f"over {len(scores)} tables"
    return ["### Ranks", "", *markdown(table, ".3f")]


def _pairs(runs: pd.DataFrame, order: list[str]) -> list[str]:
    """This package against each peer, by the means over the draws that both ran on."""
    lines = [
        "### Pairs",
        "",
        f"Scores within {TIE} of each other are ties.",
        "",
        "| | better on | ties | worse on | mean gain | seconds | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    each = runs.pivot(index=["table", "draw"], columns="entrant", values=["score", "fit_cpu"])
    for ours, theirs in _couples(order):
        both = each.swaplevel(axis=1)[[ours, theirs]].dropna().groupby("table").mean()
        if not len(both):
            continue
        gain = both[ours]["score"] - both[theirs]["score"]
        better, worse = (gain > TIE).sum(), (gain < -TIE).sum()
        a, b = both[ours]["fit_cpu"].sum(), both[theirs]["fit_cpu"].sum()
        lines.append(
            f"| {ours} against {theirs} | {better} | {len(gain) - better - worse} | {worse} | "
            f"{gain.mean():+.4f} | {a:.1f} against {b:.1f} | {a / b:.2f} |"
        )
    return lines


def _couples(order: list[str]) -> Iterator[tuple[str, str]]:
    """The search against all, the default against the rival."""
    for ours in (CV, DEFAULT):
        for theirs in order:
            if ours in order and ours != theirs and (ours == CV or theirs == RIVAL):
                yield ours, theirs


def _loss_pairs(runs: pd.DataFrame, order: list[str]) -> list[str]:
    """On how many single runs the search has the lower log-loss."""
    each = runs[runs["classify"]].pivot_table(
        index=["table", "draw"], columns="entrant", values="log_loss"
    )
    if CV not in each:
        return []
    lines = ["| log-loss of single runs | lower on | of | share |", "|---|---|---|---|"]
    for theirs in order:
        if theirs == CV or theirs not in each:
            continue
        both = each[[CV, theirs]].dropna()
        if len(both):
            lower = int((both[CV] < both[theirs]).sum())
            share = lower / len(both)
            lines.append(f"| {CV} against {theirs} | {lower} | {len(both)} | {share:.0%} |")
    return lines


def _against_default(scores: pd.DataFrame) -> list[str]:
    """What the search gains over the default, table by table, the worst first."""
    if not {CV, DEFAULT} <= set(scores):
        return []
    gain = (scores[CV] - scores[DEFAULT]).dropna().sort_values().to_frame("gain")
    return ["### The search against the default", "", *markdown(gain, "+.3f")]
