"""Fitted state: a fit that fails or is interrupted leaves an estimator exactly as it was."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

__all__ = ["FittedState"]


class FittedState:
    """What a fit found, written in one assignment or not at all."""

    _written: tuple[str, ...] = ()

    def _write(self, attributes: Mapping[str, Any]) -> Self:
        """Replace all fitted attributes by others."""
        self.__dict__ = {**self._without_fit(), **attributes, "_written": tuple(attributes)}
        return self

    def _blank(self) -> Self:
        """A shallow copy without fitted attributes, on which a fit may write step by step."""
        blank = copy.copy(self)
        blank.__dict__ = self._without_fit()
        return blank

    def _take_over(self, fitted: Self) -> Self:
        """Replace all fitted attributes by those that a fit wrote on a copy."""
        kept, found = self._without_fit(), vars(fitted)
        # What was there before is told by identity: it may be of a time that kept no record of it.
        written = (name for name in found if name not in kept or found[name] is not kept[name])
        self.__dict__ = {**found, "_written": tuple(written)}
        return self

    def _without_fit(self) -> dict[str, Any]:
        """Parameters and settings: what no fit wrote."""
        fitted = {*self._written, "_written"}
        return {name: value for name, value in vars(self).items() if name not in fitted}
