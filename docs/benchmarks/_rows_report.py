"""The page of large tables, from what the cases found."""

from __future__ import annotations

from typing import Any

import numpy as np

Found = dict[str, Any]

PREAMBLE = """\
# A million rows and more

Generated tables of 20 columns in float32. "Smooth" is a sum of tanh ridges, a product and a sine,
with a tenth of noise. "Grown" is what trees like: the sum of twenty random trees of depth four,
with three tenths of noise; its columns are encoded (`encoding="piecewise"`). Scores are R² or
accuracy on 50,000 other rows. Every case is a process of its own, times are wall-clock seconds of
one run.

"""


def page(results: list[Found]) -> str:
    """All of it; of equal cases the last one counts."""
    latest = {str(one["case"]): one for one in results}
    found = list(latest.values())
    parts = [PREAMBLE + found[-1]["header"]]
    for kind, tell in TELLERS.items():
        if chosen := [one for one in found if one["case"]["kind"] == kind]:
            parts.append(tell(chosen))
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _fits(found: list[Found]) -> str:
    head = ["table", "rows", "model", "seconds", "score", "epochs", "peak beyond the data"]
    rows = []
    for one in found:
        case, about = one["case"], one["found"]
        name = case["table"] + (", two classes" if case["classes"] else "")
        beyond = f"{(about['peak'] - about['data']) / 1e6:,.0f} MB"
        rows.append(
            [
                name, f"{case['rows']:,}", case["entrant"], f"{about['seconds']:.1f}",
                f"{about['score']:.4f}", str(about["epochs"] or ""), beyond,
            ]
        )  # fmt: skip
    text = "## Fits\n\nPeak is VmHWM of the process, Python and torch included.\n\n"
    return (
        text
        + _table(head, rows)
        + "\n\n"
        + "\n".join(map(_growth, ("smooth", "grown"), [found] * 2))
    )


def _growth(table: str, found: list[Found]) -> str:
    """Exponent of time against rows, and the time to the score of LightGBM."""
    own = [
        one for one in found
        if one["case"]["table"] == table and not one["case"]["classes"]
    ]  # fmt: skip
    short = [one for one in own if one["case"]["entrant"] == "flow, two epochs"]
    if len(short) < 2:
        return f"- {table}: not measured at several sizes."
    sizes = np.log([one["case"]["rows"] for one in short])
    exponent = np.polyfit(sizes, np.log([one["found"]["seconds"] for one in short]), 1)[0]
    text = f"- {table}: time goes as the rows to the power **{exponent:.2f}** (goal ≤ 1.05)"
    peers = [one for one in own if one["case"]["entrant"] == "LightGBM"]
    if not peers:
        return text + "."
    bar = peers[-1]["found"]["score"]
    there = [
        one["found"]["seconds"] for one in own
        if one["case"]["rows"] == peers[-1]["case"]["rows"]
        and one["case"]["entrant"] != "LightGBM" and one["found"]["score"] >= bar
    ]  # fmt: skip
    reached = f"reached in **{min(there):.0f} s**" if there else "**not reached**"
    return f"{text}; the score of LightGBM's defaults, {bar:.4f}, is {reached} (goal ≤ 60 s)."


def _predictions(found: list[Found]) -> str:
    head = ["method", "`dtype` of the model", "X", "rows", "seconds", "result", "memory beyond it"]
    rows = [
        [
            f"`{one['case']['method']}`", one["case"]["precision"],
            f"{one['case']['dtype']}, {one['case']['place']}", f"{one['case']['rows']:,}",
            f"{one['found']['seconds']:.1f}", f"{one['found']['result'] / 1e6:,.0f} MB",
            f"{one['found']['beyond'] / 1e6:,.0f} MB",
        ]
        for one in found
    ]  # fmt: skip
    text = "## Predictions\n\nOf a network 2×100, columns scaled (goal ≤ 15 s on two cores).\n\n"
    return text + _table(head, rows)


def _steps(found: list[Found]) -> str:
    head = [
        "rows",
        "`init_scale`",
        "seconds",
        "processor seconds",
        "solver",
        "\\|r − DΔθ\\|/\\|r\\|",
        "memory",
    ]
    rows = [
        [
            f"{one['case']['rows']:,}", f"{one['case']['init_scale']:g}",
            f"{one['found']['seconds']:.1f}", f"{one['found']['processor']:.1f}",
            f"`{one['found']['solver']}`", f"{one['found']['left']:.1e}",
            f"{one['found']['peak'] / 1e6:,.0f} MB",
        ]
        for one in found
    ]  # fmt: skip
    text = (
        "## A step of the full batch without a matrix\n\n"
        'D⁺r at the start of a network 2×100 of 12,301 parameters, `solver="krylov"` without\n'
        "damping, with memory for a factor of the smaller of DDᵀ and DᵀD (goal ≤ 2 minutes at\n"
        "20,000 rows). Of more rows than parameters a part of r lies outside of the range of D;\n"
        "the residual that `solver` tells is that within it.\n\n"
    )
    return text + _table(head, rows)


TELLERS = {"fit": _fits, "predict": _predictions, "step": _steps}
