"""Of how many networks a fit is the mean: what ``n_members="auto"`` means, and what it excludes.

At equal time the mean of a few short flows in blocks is often better than a long one
(docs/benchmarks/blocks_trials.md). The members of a mean go over the same blocks, each with a start
and a residual of its own, and rows held out judge their mean. Notation: docs/notation.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._settings import LEAST_SHARE, Settings
from sklearn_gflow.estimators._tensors import to_numpy, to_tensor
from sklearn_gflow.estimators._training import Training
from sklearn_gflow.geometry import BinaryLogLoss, LogLoss

__all__ = ["MEMBERS", "averaging", "members_for", "of_member", "share_of_epochs", "standing_at"]

_LOG_LOSSES = LogLoss, BinaryLogLoss

# So many networks where a flow over blocks has no given end, and how many epochs they share.
_MEMBERS = 3
_SHARED_EPOCHS = 24
# Of fewer rows so few epochs have too few blocks to learn from: with 1,000 rows of three classes a
# mean of short flows had 0.859 to 0.889 of accuracy where one long flow had 0.895 to 0.905.
_LEAST_ROWS = 5000
# Of two classes a mean gained nothing, in twice the time (docs/benchmarks/frequent_values.md).
_LEAST_OUTPUTS = 3
# Of one number it gained 2 % of the error, in 1.5 to 3 times the time, from so many rows on and
# with ramps beside the columns; without these short flows do not learn what turns quickly.
_LEAST_ROWS_OF_NUMBERS = 10_000
MEMBERS = f"""
    Of so many networks, at most 100, the model is the mean, each from a start of its own; only in
    blocks, where the mean of a few short flows is often better than a long flow in the same time.
    Where ``t_end`` leaves the end to rows held out, the networks share 24 epochs, more while these
    bring much, and 8 each at least. "auto": {_MEMBERS} there with the cross-entropy of three
    classes or more, from 5,000 to about 300,000 rows, or with the squared error of one number and
    the ramps of ``encoding="auto"``, from 10,000 rows on; or the best of them alone, from its start
    anew, where it is better than the mean. 1 otherwise, with ``early_stopping``, with ``module``,
    and where ranks share the fit. The mean is a network whose hidden layers are block-diagonal, and
    ``coefs_`` are those of it. A fit that goes on keeps its number. In the full batch
    `sklearn.ensemble.BaggingRegressor` and `BaggingClassifier` average.
"""


def members_for(
    settings: Settings, before: FittedNetwork | None, doing: str, *, alone: bool, ramps: bool
) -> int:
    """How many networks a fit averages: those of the fit before, where it goes on.

    ``alone`` tells that no ranks share the fit, ``ramps`` that columns have ramps beside them.

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
        asked = _MEMBERS if alone and _pays(settings, ramps=ramps) else 1
    if asked > 1:
        _check(settings, asked)
    return int(asked)


def _pays(settings: Settings, *, ramps: bool) -> bool:
    """Whether it was measured that a mean of short flows is better than one long flow."""
    given, shape = settings.given, settings.shape
    if given["early_stopping"] or given["module"] is not None or not settings.open_ended:
        return False
    if isinstance(settings.loss, _LOG_LOSSES):
        many = shape.n_samples >= _LEAST_ROWS and shape.n_outputs >= _LEAST_OUTPUTS
    else:
        of_auto = ramps and isinstance(given["encoding"], str) and given["encoding"] == "auto"
        of_a_number = settings.loss.squared and shape.n_outputs == 1
        many = of_auto and of_a_number and shape.n_samples >= _LEAST_ROWS_OF_NUMBERS
    return many and settings.affordable_epochs >= _SHARED_EPOCHS


def averaging(settings: Settings, n_members: int) -> Settings:
    """The settings of a mean of so many networks, from those of one.

    Raises
    ------
    GramMemoryError
        If they would not fit.
    """
    found = _of_networks(settings, n_members)
    found.check_memory()
    return found


def share_of_epochs(settings: Settings) -> int:
    """How many epochs are the share of each of several networks."""
    return max(_SHARED_EPOCHS // settings.n_members, LEAST_SHARE)


def _of_networks(settings: Settings, n_members: int) -> Settings:
    known, shape = settings.n_members, settings.shape
    return replace(
        settings,
        n_members=n_members,
        shape=replace(shape, n_params=shape.n_params // known * n_members),
        row_numbers=settings.row_numbers // known * n_members,
    )


def of_member(training: Training, number: int) -> Training:
    """The training of one member of a mean, from its own start."""
    family, network = training.family.member, training.network
    start = training.start.split(family.n_params)[number]
    reference = np.split(network.reference, training.settings.n_members)[number]
    architecture = replace(network.architecture, n_members=1)
    keeper = training.within("alone").keeper
    return replace(
        training, family=family, start=start, settings=_of_networks(training.settings, 1),
        network=replace(
            network, architecture=architecture, theta=to_numpy(start), reference=reference
        ),
        keeper=None if keeper is None else replace(keeper, start=start),
    )  # fmt: skip


def standing_at(training: Training, theta: np.ndarray, reference: np.ndarray) -> Training:
    """The training at a θ of an earlier fit, whose network may have been followed alone."""
    if len(theta) < training.family.n_params:
        training = of_member(training, 0)
    settings = training.settings
    return replace(
        training,
        start=to_tensor(theta, settings.dtype, training.start.device),
        network=replace(training.network, reference=reference),
        keeper=None,
    )


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
