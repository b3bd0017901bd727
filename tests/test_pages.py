"""Holds the pages: every public class has one, and every example stands in the gallery."""

import ast
import re
from pathlib import Path

import sklearn_gflow
from sklearn_gflow import plots

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def order_of_the_gallery():
    """EXAMPLES of docs/conf.py, which is not imported, for it needs Sphinx."""
    tree = ast.parse((ROOT / "docs/conf.py").read_text(encoding="utf-8"))
    (named,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXAMPLES"
    )
    return ast.literal_eval(named)


def test_every_public_name_has_a_page():
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   (\w+)$", text, re.MULTILINE))
    rooms = {"geometry", "dynamics", "diagnostics"}
    assert {*sklearn_gflow.__all__, *plots.__all__} - {"__version__"} == listed - rooms


def test_every_example_has_its_place_in_the_gallery():
    assert sorted(order_of_the_gallery()) == [path.stem for path in EXAMPLES]


def test_every_example_is_in_the_form_of_the_gallery():
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        title, line, *_ = ast.get_docstring(ast.parse(text)).splitlines()
        assert line == "=" * len(title), path.name
        assert text.count("\n# %%\n") >= 2, path.name
        assert "plt.show()" in text or "savefig" in text, path.name
