"""How parameters and fitted attributes describe themselves: to scikit-learn and to a reader.

A parameter is a dataclass field that knows its constraint and its text. The decorator `described`
makes of these what scikit-learn validates by and what numpydoc expects in a docstring.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from inspect import cleandoc
from textwrap import indent
from typing import Any, TypeVar

from sklearn.base import BaseEstimator

__all__ = ["described", "parameter"]

Estimator = TypeVar("Estimator", bound=BaseEstimator)

# Sections that numpydoc puts behind "Attributes"; what stands before the first is the summary.
_LATER_SECTIONS = re.compile(r"^(See Also|Notes|References|Examples)\n-+$", re.MULTILINE)


def parameter(default: Any, constraint: list[Any], type_text: str, doc: str) -> Any:
    """A constructor parameter as a dataclass field that knows its entry and its constraint.

    Parameters
    ----------
    default : object
        Immutable. The docstring tells it, so `type_text` need not.
    constraint : list
        What scikit-learn's validation accepts, as in ``_parameter_constraints``.
    type_text : str
        What stands behind the name in the docstring.
    doc : str
        What stands below it; indentation does not matter.

    Returns
    -------
    dataclasses.Field
    """
    metadata = {"constraint": constraint, "type": type_text, "doc": cleandoc(doc)}
    return field(default=default, metadata=metadata)


def described(
    *attributes: Mapping[str, tuple[str, str]],
    extended: str = "",
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Class decorator above ``@dataclass``: what follows from the parameters and attributes.

    ``_parameter_constraints`` comes from the fields. The docstring gets the sections
    "Parameters", from the fields, and "Attributes", from groups ``{name: (type, text)}``; a text
    that several classes share goes behind the summary line.

    Raises
    ------
    TypeError
        If a field was not made by `parameter`.
    """

    def describe(estimator: type[Estimator]) -> type[Estimator]:
        declared = fields(estimator)
        for declaration in declared:
            # An annotation in the body of a dataclass makes a parameter, wanted or not.
            if "constraint" not in declaration.metadata:
                raise TypeError(
                    f"{declaration.name} of {estimator.__name__} is annotated in a dataclass and "
                    "would be a parameter; make it one by parameter(...), or annotate fitted "
                    "state in a base class that is no dataclass"
                )
        estimator._parameter_constraints = {
            declaration.name: declaration.metadata["constraint"] for declaration in declared
        }
        parameters = [
            (f.name, f"{f.metadata['type']}, default={_as_written(f.default)}", f.metadata["doc"])
            for f in declared
        ]
        entries = [
            (name, kind, cleandoc(text))
            for group in attributes
            for name, (kind, text) in group.items()
        ]
        sections = [_section("Parameters", parameters), _section("Attributes", entries)]
        estimator.__doc__ = _with_sections(estimator.__doc__, cleandoc(extended), sections)
        return estimator

    return describe


def _as_written(default: Any) -> str:
    """The default as it stands in the source, with the quotes that the type texts have."""
    return f'"{default}"' if isinstance(default, str) else repr(default)


def _section(heading: str, entries: Iterable[tuple[str, str, str]]) -> str:
    """A section of a numpydoc docstring, from (name, type, text)."""
    body = [f"{name} : {kind}\n{indent(text, '    ')}" for name, kind, text in entries]
    return "\n".join([heading, "-" * len(heading), *body])


def _with_sections(doc: str | None, extended: str, sections: list[str]) -> str:
    """The docstring with further sections in their place.

    Under ``python -OO`` there is none, or the signature that dataclasses give in its place. The
    newline at the end is the one before closing quotes, which numpydoc asks for.
    """
    summary, _, rest = cleandoc(doc or "").partition("\n\n")
    written = "\n\n".join(part for part in (summary, extended, rest) if part)
    later = _LATER_SECTIONS.search(written)
    place = later.start() if later else len(written)
    parts = [written[:place].rstrip(), *sections, written[place:]]
    return "\n\n".join(part for part in parts if part) + "\n"
