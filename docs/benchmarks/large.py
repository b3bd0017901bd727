"""Test scores and seconds at 5,000 training rows, by default and after a search.

Draws, entrants and figures are those of ``defaults.py``, with 5,000 training rows or as many as
there are, and 2,000 rows to test.

Runs are kept in files of results; ``--report`` writes the page from them. Run
``python docs/benchmarks/large.py --help``.
"""

from __future__ import annotations

from pathlib import Path

from _collection import LARGE
from _runs import Plan, arguments_of, measure
from _standings import write_page

OUT = Path(__file__).with_suffix(".md")
PLAN = Plan(
    tables=LARGE,
    held_back=(),
    rows=5000,
    test_rows=2000,
    draws=3,
    entrants=("flow", "flow CV", "CatBoost", "LightGBM", "HistGB"),
)


def main() -> None:
    """Measure, or write the page."""
    arguments = arguments_of(PLAN, __doc__, OUT)
    if arguments.report:
        write_page(arguments, __doc__)
    else:
        measure(PLAN, arguments)


if __name__ == "__main__":
    main()
