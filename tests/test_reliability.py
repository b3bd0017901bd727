"""Every row of docs/reliability.md names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
FILES = {path.name: path for path in sorted((ROOT / "tests").rglob("test_*.py"))}
NAMES = {
    node.name
    for path in FILES.values()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef | ast.ClassDef)
}
# Tables of figures, whose test stands above them.
FIGURES = ("matrix", "setting")


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables():
    """Header and rows of every table."""
    found = []
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            found.append([])
        elif set(line) - set("|-"):
            found[-1].append(cells(line))
    return [(rows[0], rows[1:]) for rows in found if rows]


def is_there(name):
    if name.endswith(".py"):
        return Path(name).name in FILES
    if name.endswith("…"):
        return any(one.startswith(name[:-1]) for one in NAMES)
    return name in NAMES


@pytest.mark.parametrize(("header", "rows"), tables(), ids=lambda part: str(part[0])[:40])
def test_every_row_names_a_test_that_is_there(header, rows):
    if header[0] in FIGURES:
        return
    assert header[-1] == "test"
    before = []
    for row in rows:
        assert len(row) == len(header)
        named = re.findall(r"`([Tt]est[\w.…]*)`", row[-1]) or ("the same" in row[-1] and before)
        assert named, row
        assert all(map(is_there, named)), named
        before = named


def test_every_test_that_the_text_names_is_there():
    named = re.findall(r"`(?:tests/[\w/]*/)?([Tt]est_?[\w.…]+)`", PAGE)
    assert len(named) > 60
    missing = [name for name in named if not is_there(name)]
    assert not missing
