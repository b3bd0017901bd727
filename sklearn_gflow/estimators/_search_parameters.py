"""The parameters that searches have beside those of the estimators; see `_parameters`."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from sklearn_gflow.contract import parameter
from sklearn_gflow.estimators._encodings import ENCODINGS
from sklearn_gflow.estimators._validation import HasMethods, StrOptions

__all__ = ["SearchParameters"]


@dataclass(eq=False, repr=False, kw_only=True)
class SearchParameters:
    """The grid, and what it is scored by."""

    encodings: Any = parameter(
        "auto",
        [StrOptions({"auto", *ENCODINGS}), HasMethods(["fit", "transform"]), "array-like", None],
        '"auto" or sequence of str, transformer or None',
        """
        Encodings of the columns of numbers. "auto": None, or ``encoding="auto"`` where that finds
        frequent values; ramps over 6 and over 24 bins, cosines at frequencies of scale 0.4 and 1;
        None alone with ``module``. Over blocks without a given end: "auto" of the estimators, ramps
        over 24 bins and cosines, the last two with ``activation="silu"`` where that is "tanh" and
        with twice the ``rescalings``; "auto" alone where that finds frequent values, in sparse
        tables, with ``module``, and of more than 125 columns of numbers.
        """,
    )
    init_scales: Any = parameter(
        "auto",
        [StrOptions({"auto"}), "array-like"],
        '"auto" or sequence of float',
        'Scales of the first layer\'s weights at the start. "auto": 0.3.',
    )
    alphas: Any = parameter(
        "auto",
        [StrOptions({"auto"}), "array-like"],
        '"auto" or sequence of float',
        """
        Values of α in [0, 1]. "auto": 0.5 and 0.7 where leave-one-out judges, of which the better
        is followed for each network; else 0.5. Over blocks without a given end, where "auto" is the
        only encoding, 0.5, 0.65 and 0.8.
        """,
    )
    t_ends: Any = parameter(
        None,
        ["array-like", None],
        "sequence of float or None",
        """
        Stopping times in (0, 1]. None: seven times along the path, t = 0.33 … 1 − 8e-12; over
        blocks, where rows that are kept apart end each flow, "auto", as of the estimators; with
        ``cv``, or below 1,000 rows, 0.95 and 0.99, where a single part is held out 0.95 alone.
        """,
    )
    cv: Any = parameter(
        None,
        ["cv_object"],
        "int, splitter, iterable or None",
        """
        None: leave-one-out in closed form, then three folds for the best, in which copies of a
        row stay together; over blocks without a given end the rows that flows keep apart, a
        twentieth. Otherwise as in `sklearn.model_selection.GridSearchCV`.
        """,
    )
    ensemble: bool = parameter(
        True,
        ["boolean"],
        "bool",
        """
        Whether others join the best candidate where the mean of their predictions of rows held out
        has a lower loss. False: the best alone.
        """,
    )
    refit: bool = parameter(
        True,
        ["boolean"],
        "bool",
        "Whether the best candidate, and those that join it, are fitted on all rows.",
    )
    return_train_score: bool = parameter(
        False,
        ["boolean"],
        "bool",
        """
        Whether ``cv_results_`` has scores on the rows that were trained on, of the candidates that
        were followed.
        """,
    )
    n_jobs: int | None = parameter(
        None,
        [Integral, None],
        "int or None",
        """
        Workers among which candidates, folds and members of the ensemble are shared out. None: one,
        or what `joblib.parallel_config` says, which also says of which kind they are.
        """,
    )
