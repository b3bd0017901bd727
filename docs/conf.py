"""Sphinx configuration. Build with ``python -m sphinx -W docs docs/_build/html``."""

import re
from typing import Any

from sphinx.application import Sphinx

import sklearn_gflow

project = "sklearn-gflow"
author = "The sklearn-gflow developers"
copyright = author
release = version = sklearn_gflow.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
exclude_patterns = ["_build", "generated"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say types and shapes
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-gflow"
html_sidebars = {"**": []}
html_theme_options = {"navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}


def escape_mathematics(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep |x − y| and n_iter_ in the docstrings from being read as markup.

    They are written to be read in a terminal. Code, in double backticks or at a prompt, and the
    names that head a description, which numpydoc escapes itself, stay as they are.
    """
    for i, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        head, colon, tail = re.match(r"(\s*\w[\w, *]*)?( : )?(.*)", line).groups(default="")
        if not colon:
            head, tail = "", line
        pieces = re.split(r"(``.*?``|`[^`]+`)", tail)
        pieces[::2] = [re.sub(r"(?<=\w)_(?!\w)|\|", r"\\\g<0>", text) for text in pieces[::2]]
        lines[i] = head + colon + "".join(pieces)


def setup(app: Sphinx) -> None:
    """Before numpydoc, which turns its sections into other markup."""
    app.connect("autodoc-process-docstring", escape_mathematics, priority=400)
