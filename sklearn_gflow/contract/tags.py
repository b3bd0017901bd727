"""What classes tell scikit-learn of themselves."""

from __future__ import annotations

from typing import Any

__all__ = ["RawTables"]


class RawTables:
    """Of classes that take raw tables: gaps, categories and strings."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
