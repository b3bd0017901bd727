"""What a pickle of an estimator leaves out, and how it comes back.

Left out is what follows from the rest: arrays that are parts of θ, and training rows as encoded
columns; and the Gram of the training rows, which grows with their square. Notation:
docs/notation.md.
"""

from __future__ import annotations

from typing import Any

from scipy.sparse import issparse

__all__ = ["packed", "unpacked"]


def packed(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an estimator without what follows from them.

    The Gram is kept where ``store_gram`` is True, as it is when the pickle is made.
    """
    state = dict(state)
    if isinstance(state.get("store_gram"), str) and "ntk_gram_" in state:
        state["ntk_gram_"] = None
    if (network := state.get("_network")) is not None and network.is_layered:
        for name in network.parts():
            state.pop(name, None)
    if "X_train_" not in state:  # of a classifier, which no standard deviations are asked of
        state.pop("_kept", None)
    if (kept := state.get("_kept")) is not None:
        found = kept.packed(state["_inputs"])
        if found is not kept:
            state["_kept"] = found
            del state["X_train_"]
    if issparse(state.get("X_train_")):  # the same numbers as those of the rows that are kept
        del state["X_train_"]
    return state


def unpacked(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an estimator, from what a pickle holds of them."""
    state = dict(state)
    if (network := state.get("_network")) is not None and network.is_layered:
        state = {**network.parts(), **state}
    if (kept := state.get("_kept")) is not None and "X_train_" not in state:
        found = kept.unpacked(state["_inputs"])
        state |= found.attributes()
    return state
