"""Sphinx configuration. Build with ``python -m sphinx -W docs docs/_build/html``.

Two switches: ``-t online`` links to the pages of other projects, whose inventories are fetched over
the network, and ``-D plot_gallery=0`` leaves the examples unrun.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
from sphinx.application import Sphinx
from sphinx_gallery.sorting import FunctionSortKey

import sklearn_gflow

matplotlib.use("agg")

project = "sklearn-gflow"
author = "The sklearn-gflow developers"
copyright = author
release = version = sklearn_gflow.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.md5"]
suppress_warnings = ["config.cache"]  # the gallery is told its order by a function
templates_path = ["_templates"]
default_role = "py:obj"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]

add_module_names = False
toc_object_entries_show_parents = "hide"
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say types and shapes
numpydoc_show_class_members = False

# Without a network an inventory that cannot be fetched is a warning, which -W makes an error.
if tags.has("online"):  # type: ignore[name-defined]  # noqa: F821
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "sklearn": ("https://scikit-learn.org/stable/", None),
        "torch": ("https://pytorch.org/docs/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
    }

# The order of the gallery: what a newcomer wants first, then what explains, then what extends.
EXAMPLES = [
    "quickstart", "raw_table", "encoded_columns", "search", "ensemble", "intervals", "explain",
    "forget", "blocks", "production", "law_of_the_line", "rank_loss", "collapse", "kernel",
    "stopping_time", "kernel_and_features", "fisher_end", "steer_path", "own_module",
    "scaled_inputs", "own_loss",
]  # fmt: skip

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "example_extensions": {".py"},
    "within_subsection_order": FunctionSortKey(lambda name: EXAMPLES.index(Path(name).stem)),
    "doc_module": ("sklearn_gflow",),
    "capture_repr": ("_repr_html_",),
    "backreferences_dir": "generated/backreferences",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 600,
    "remove_config_comments": True,
    "matplotlib_animations": False,
    # Run as scripts some examples save their picture; the pages take it from the figure.
    "reset_argv": lambda conf, run: ["--output", str(Path(tempfile.gettempdir(), "picture.png"))],
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-gflow"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_sidebars = {"index": [], "changelog": []}
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Pages that stand at the root of the repository, and what links there are called here.
ROOT_PAGES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
LINKS = {"docs/": "", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
         "README.md": "index.md"}  # fmt: skip
BENEATH = {"contributing": "\n```{toctree}\n:hidden:\n\narchitecture\nchangelog\n```\n"}


def take_from_root(app: Sphinx, docname: str, content: list[str]) -> None:
    """Fill a page by the file of the root that it stands for."""
    if docname not in ROOT_PAGES:
        return
    path = Path(app.srcdir).parent / ROOT_PAGES[docname]
    app.env.note_dependency(str(path))
    text = path.read_text(encoding="utf-8")
    for there, here in LINKS.items():
        text = text.replace(f"]({there}", f"]({here}")
    content[0] = text + BENEATH.get(docname, "")


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
        tail = re.sub(r":ref:`([^`<]+?) <[^`]*>`", r"\1", tail)  # into the pages of scikit-learn
        pieces = re.split(r"(``.*?``|`[^`]+`)", tail)
        pieces[::2] = [re.sub(r"(?<=\w)_(?!\w)|\|", r"\\\g<0>", text) for text in pieces[::2]]
        lines[i] = head + colon + "".join(pieces)


def leave_out(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave metadata routing and output containers of scikit-learn to its own pages."""
    theirs = r"set_\w+_request|get_metadata_routing|set_output"
    return True if re.fullmatch(theirs, name) else None


def setup(app: Sphinx) -> None:
    """Before numpydoc, which turns its sections into other markup."""
    app.connect("autodoc-process-docstring", escape_mathematics, priority=400)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("source-read", take_from_root)
