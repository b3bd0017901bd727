"""Holds habits of the repository: files of a readable length, and tasks that exist."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 450
SHORT_FILES_ONLY = ("sklearn_gflow", "tests", "docs/benchmarks", "examples")


@pytest.mark.parametrize("folder", SHORT_FILES_ONLY)
def test_no_file_is_too_long_to_read(folder):
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_tasks_of_the_contributing_guide_are_those_of_the_project():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = re.findall(r"(?:^|`)poe ([\w-]+)", text, flags=re.MULTILINE)
    assert set(named) == set(project["tool"]["poe"]["tasks"])
