"""Fitted state: one writer, so that a fit that fails leaves what was there; pickles and copies."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

from sklearn_gflow.contract.versions import VERSION, warn_of_version

__all__ = ["STAMP", "FittedState"]


STAMP = "_sklearn_gflow_version"
"""The entry of a pickled state that tells which version of the package wrote it."""


class FittedState:
    """What a fit found, written in one assignment or not at all.

    A pickle holds what `_packed` makes of the attributes, and the version of the package. A copy
    holds the attributes themselves.
    """

    _written: tuple[str, ...] = ()

    @staticmethod
    def _packed(state: dict[str, Any]) -> dict[str, Any]:
        """What a pickle holds of all attributes."""
        return state

    @staticmethod
    def _unpacked(state: dict[str, Any]) -> dict[str, Any]:
        """All attributes, from what a pickle holds."""
        return state

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {**self._packed(state), STAMP: VERSION}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        # The same words for all estimators of a pickle, so that Python shows them once.
        warn_of_version("This pickle", state.pop(STAMP, VERSION), stacklevel=2)
        self.__dict__.update(self._unpacked(state))

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = copied = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(vars(self), memo))
        return copied

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
