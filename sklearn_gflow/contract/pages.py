"""Where a class is documented, for the picture that a notebook shows of an estimator."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

__all__ = ["DocumentedHere", "documentation"]

_NOWHERE = "nowhere"


@cache
def documentation() -> str:
    """Address of the pages of this package, without a slash at the end; empty if it names none.

    It is the entry "Documentation" of ``[project.urls]``, as the installed package tells it.
    """
    try:
        addresses = metadata("sklearn-gflow").get_all("Project-URL") or []
    except PackageNotFoundError:  # a source tree that was never installed
        return ""
    named = dict(address.split(", ", 1) for address in addresses)
    return named.get("Documentation", "").rstrip("/")


class DocumentedHere:
    """Of classes whose links lead to our own pages, or nowhere.

    scikit-learn's diagrams link an estimator, its parameters and its fitted attributes to a page,
    and show the text of a parameter under its name where there is such a link. An address is
    only known where the package has one; the texts are shown all the same.
    """

    _doc_link_module = "sklearn_gflow"

    @property
    def _doc_link_template(self) -> str:
        pages = documentation()
        return f"{pages}/generated/{{estimator}}.html" if pages else ""

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        # Pages have the public names, whatever file a class lives in.
        return {"estimator": f"sklearn_gflow.{type(self).__name__}"}

    def _get_params_html(self, *args: Any, **named: Any) -> Any:
        return _with_texts(super()._get_params_html(*args, **named))  # type: ignore[misc]

    def _get_fitted_attr_html(self, *args: Any, **named: Any) -> Any:
        return _with_texts(super()._get_fitted_attr_html(*args, **named))  # type: ignore[misc]


def _with_texts(table: Any) -> Any:
    """A table of scikit-learn ≥ 1.8 that shows its texts also where it has no address to link to.

    It shows none without a link, so it is given one, which is taken out of what it renders.
    """
    if getattr(table, "doc_link", None) != "":
        return table
    table.doc_link, render = _NOWHERE, table._html_repr
    table._html_repr = lambda: re.sub(rf' href="{_NOWHERE}#[^"]*"', "", render())
    return table
