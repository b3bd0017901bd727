"""Of how many networks a fit is the mean: what ``n_members="auto"`` means, and what it excludes.

At equal time the mean of a few short flows in blocks is better than a long one
(docs/benchmarks/networks.md). The members of a mean go over the same blocks, each with a start and
a residual of its own, and rows held out judge their mean. Notation: docs/notation.md.
"""

from __future__ import annotations

from typing import Any

from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._settings import Settings

__all__ = ["MEMBERS", "members_for"]

# So many networks where a flow over blocks has no given end.
_MEMBERS = 3
MEMBERS = f"""
    Of so many networks the model is the mean, each from a start of its own; only in blocks, where
    the mean of a few short flows is better than a long flow in the same time. "auto":
    {_MEMBERS} where rows held out say when to stop (see ``t_end``) and up to about 300,000 rows,
    1 otherwise, with ``module``, and where ranks share the fit. Without a given end each then
    goes over the rows 8 times at most, of 2 networks 12 times. The mean is a network whose hidden
    layers are block-diagonal, and ``coefs_`` are those of it. A fit that goes on keeps its number.
    In the full batch `sklearn.ensemble.BaggingRegressor` and `BaggingClassifier` average.
"""


def members_for(
    settings: Settings, before: FittedNetwork | None, doing: str, *, alone: bool
) -> int:
    """How many networks a fit averages: those of the fit before, where it goes on.

    ``alone`` tells that no ranks share the fit.

    Raises
    ------
    ValueError
        If several are asked for where there is no mean of them, or a fit that goes on has others.
    """
    asked: Any = settings.given["n_members"]
    automatic = isinstance(asked, str)
    if before is not None:
        known = before.architecture.n_members
        if not automatic and asked != known:
            raise ValueError(
                f"{doing} goes on with the last fit, which is a mean of {known} networks, and "
                f"n_members={asked}; keep it, or start anew by fit with warm_start=False"
            )
        asked = known
    elif automatic:
        pays = settings.open_ended and settings.may_share_epochs
        asked = _MEMBERS if pays and alone and settings.given["module"] is None else 1
    if asked > 1:
        _check(settings, asked)
    return int(asked)


def _check(settings: Settings, n_members: int) -> None:
    """Refuse what has no mean of several networks."""
    if settings.given["module"] is not None:
        raise ValueError(
            f"n_members={n_members} draws as many starts, and module makes the same network each "
            "time; set n_members=1, and average estimators with other seeds"
        )
    if not (settings.in_blocks or settings.chunk):
        raise ValueError(
            f"n_members={n_members} is the mean of networks that flow in blocks, and this training "
            "takes all rows at once; set batch_size=256, or n_members=1 (and "
            "sklearn.ensemble.BaggingRegressor or BaggingClassifier for means in the full batch)"
        )
