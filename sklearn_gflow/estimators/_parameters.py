"""Every constructor parameter, once: name, default, constraint and what the docstring says.

Each group is a dataclass that estimators inherit. In signatures and docstrings a group comes before
those that stand to the left of it among the bases. What differs between regressors, classifiers and
searches is told in one text for all. Notation: docs/notation.md.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from os import PathLike
from typing import Any, Protocol

from sklearn_gflow.contract import parameter
from sklearn_gflow.dynamics import METHODS
from sklearn_gflow.estimators._averages import MEMBERS
from sklearn_gflow.estimators._checkpoint import CHECKPOINT
from sklearn_gflow.estimators._encodings import AUTOMATIC, ENCODINGS
from sklearn_gflow.estimators._group import DISTRIBUTED
from sklearn_gflow.estimators._losses import LABELS, NUMBERS
from sklearn_gflow.estimators._validation import HasMethods, Interval, StrOptions
from sklearn_gflow.geometry import ACTIVATIONS, SOLVERS, Loss, Solver

__all__ = [
    "ClassParameters",
    "FlowParameters",
    "NetworkParameters",
    "NumberParameters",
    "PathParameters",
    "RowsParameters",
]


class _Told(Protocol):
    """An entry of a registry that says what it is."""

    @property
    def told(self) -> str:
        """A sentence for the docstrings."""


def _choice(registry: Mapping[str, Any]) -> str:
    """The names of a registry, as the type of a parameter."""
    return "{" + ", ".join(f'"{name}"' for name in registry) + "}"


def _told(before: str, registry: Mapping[str, _Told], after: str) -> str:
    """The entry of a parameter that is chosen from a registry."""
    told = [f'"{name}": {entry.told}' for name, entry in registry.items()]
    return textwrap.fill(" ".join([before, *told, after]), 92)


_POSITIVE_INTEGER = Interval(Integral, 1, None, closed="left")
_POSITIVE_NUMBER = Interval(Real, 0, None, closed="neither")
_NUMBER_FROM_ZERO = Interval(Real, 0, None, closed="left")


@dataclass(eq=False, repr=False)
class NetworkParameters:
    """The network and its start."""

    hidden_layer_sizes: Any = parameter(
        (100, 100),
        ["array-like", _POSITIVE_INTEGER],
        "tuple of int",
        "Widths of the hidden layers; ``()`` is a linear model.",
    )
    activation: str = parameter(
        "tanh",
        [StrOptions(set(ACTIVATIONS))],
        _choice(ACTIVATIONS),
        'Of all hidden layers. The theory asks for a Lipschitz D, which "relu" has not.',
    )
    _: KW_ONLY
    scale_inputs: str | bool = parameter(
        "auto",
        ["boolean", StrOptions({"auto"})],
        '"auto" or bool',
        """
        Whether columns are scaled by `SmoothRobustScaler` before they are encoded, so that X needs
        no scaling; in a linear network without its bend, so that it stays linear in X. "auto":
        True, but False with ``module``, which may be made for X as it is.
        """,
    )
    module: Any = parameter(
        None,
        [callable, None],
        "callable or None",
        """
        ``(n_features, n_outputs) -> torch.nn.Module`` in place of the layered network; each
        output must depend on its own input alone. Jacobian rows are then formed in chunks. Or the
        callable returns a `sklearn_gflow.geometry.Family`, which has a Gram of its own.
        What it returns is copied, and its random numbers come from ``random_state``.
        A callable defined at the top of a module lets the estimator be pickled.
        """,
    )


@dataclass(eq=False, repr=False, kw_only=True)
class PathParameters:
    """From which start, which flow, how far, over which rows, by whom: a search decides on it."""

    init_scale: str | float = parameter(
        "auto",
        [StrOptions({"auto"}), _POSITIVE_NUMBER],
        '"auto" or float',
        """
        Scale of the first layer's weights at the start, N(0, init_scale²/n_features). Small: the
        network starts as a smooth function and bends where the data ask for it. 1.0: a
        better conditioned G, which follows the straight line more closely and in fewer steps.
        "auto": 0.3, and 1.0 in the full batch at ``alpha=1``. Not with ``module``.
        """,
    )
    encoding: Any = parameter(
        AUTOMATIC,
        [StrOptions({AUTOMATIC, *ENCODINGS}), HasMethods(["fit", "transform"]), None],
        '{"auto", "piecewise", "periodic"}, transformer or None',
        """
        Functions of the columns of numbers, which stand beside them: `PiecewiseLinearEncoder`,
        `PeriodicEncoder`, or a transformer of your own, of which a clone is fitted. The network
        then bends sharply in single columns. "auto": from 1,000 rows on indicators of frequent
        values, in columns that are mostly one value and repeat at least 20
        (`FrequentValueEncoder`). Where there are no such columns, numbers to predict, and blocks
        without a given end, ramps, one for 200 rows: 10 to 24 a column and 500 in all, of 2,000 to
        50,000 rows. Otherwise None, as for sparse tables and columns that are not scaled.
        """,
    )
    rescalings: str | int = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Integral, 0, 100, closed="both")],
        '"auto" or int',
        """
        How often the flow starts anew, at its own start again, with its input columns stretched
        by the fourth root of the mean square of the gradient in them, which a first flow has
        found. Columns that the network learnt to use then count for more from the start. Each
        takes a flow of its own, at most 100 of them: to t = 0.95, or three epochs before one over
        blocks without a given end. "auto": 1 before such, otherwise 0; 0 with ``module``.
        """,
    )
    n_members: int | str = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Integral, 1, 100, closed="both")],
        'int or "auto"',
        MEMBERS,
    )
    alpha: float = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="both")],
        "float",
        """
        α of (2.32), in [0, 1]. 0: standard gradient flow; 1: adapted flow, which interpolates.
        Small values generalise better on noisy data.
        """,
    )
    t_end: str | float = parameter(
        "auto",
        [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
        '"auto" or float',
        """
        Stopping time t in (0, 1]; the earlier, the smoother. 1.0 runs until ``tol`` or
        ``max_iter``. "auto": 0.95, but in blocks of 1,000 rows and more, with
        ``schedule="adaptive"``, the flow goes on while rows held out gain by it (a tenth, at most
        2,000 rows; with ``early_stopping=True`` those that it holds out), for at most 40 epochs,
        or of very many rows as many as make 30,000 blocks, and 6 at least. The model is then a
        mean over blocks, and has gone once more over all rows.
        """,
    )
    schedule: Any = parameter(
        "adaptive",
        [StrOptions({"adaptive", "fast"}), _POSITIVE_INTEGER, "array-like"],
        '"adaptive", "fast", int or increasing sequence of float',
        """
        Steps as long as their error allows; or that many equal steps in t; or steps to the
        given times in (0, ``t_end``], the last of which ends the flow. "fast" is for who wants the
        end of the adapted flow and not its path, with ``alpha=1``, ``t_end=1.0`` and the squared
        error in the full batch: as few Grams as will do (`dynamics.Fast`).
        """,
    )
    method: str = parameter(
        "exponential",
        [StrOptions({"exponential", *METHODS})],
        '{"exponential", "RK45", "DOP853", "Radau", "LSODA"}',
        """
        The exponential step with D frozen over each step, or the same flow by
        `scipy.integrate.solve_ivp`, which reports its own steps or, by dense output, the times
        of ``schedule``. Radau and LSODA difference the field in all parameters: small nets only.
        """,
    )
    early_stopping: bool | str = parameter(
        False,
        ["boolean", StrOptions({"loo"})],
        'bool or "loo"',
        """
        How to choose the best point of the path up to ``t_end``. True: by the score on rows
        held out, or on ``X_val, y_val`` of ``fit``. "loo": by leave-one-out predictions of the
        linearised flow, in closed form, at the price of one eigendecomposition; the flow then
        ends at the best time, or before, where its loss has fallen to that of the linearised flow
        at that time, and all rows are trained on. From three outputs on by the kernel
        that they share, unless ``solver`` names another. With a ridge ``t_end=1`` stands for the
        last time that is scored, 1 − 7e-12. Needs the squared error, no ``warm_start``, and
        memory for the Gram, in blocks too.
        """,
    )
    validation_fraction: float = parameter(
        0.1,
        [Interval(Real, 0, 1, closed="neither")],
        "float",
        """
        Share of the rows held out by ``early_stopping=True``, of labels class by class.
        """,
    )
    warm_start: bool = parameter(
        False,
        ["boolean"],
        "bool",
        """
        Go on from the last solution, by ``t_end`` of the way that is left, instead of a new
        start: fits in a row are one flow, with one record. The units of the first start are kept,
        c and the scaling of inputs and targets; the classes must be the same.
        """,
    )
    shuffle: bool = parameter(
        True,
        ["boolean"],
        "bool",
        "Draw new blocks in every epoch; otherwise they are runs of rows in their order.",
    )
    distributed: str | None = parameter(
        None, [StrOptions({"auto"}), None], '"auto" or None', DISTRIBUTED
    )


@dataclass(eq=False, repr=False, kw_only=True)
class RowsParameters:
    """Which rows are looked at together, and by what rows held out are scored."""

    batch_size: Any = parameter(
        "auto",
        [StrOptions({"auto"}), _POSITIVE_INTEGER, None],
        '"auto", int or None',
        """
        None: full batch. An int: random blocks of at most that many rows, each of which flows
        for a short time in every epoch; a block of all rows is the full batch. Blocks of more than
        256 rows begin with 256 and double from epoch to epoch, unless ``t_end`` is given. "auto":
        full batch up to 2,000 outputs (rows × outputs; more in small networks, and with
        ``solver="krylov"`` as many as fit in memory), else blocks of 256 rows, or 512 of 10,000 to
        50,000 where one number is learnt with ``t_end="auto"``. The steps of blocks
        decay linearly to zero, their times add up to ``t_end`` (6 epochs for 0.95; see there for
        "auto"), and an int ``schedule`` is the number of epochs. An epoch that raises the loss by
        more than half is undone and the rest is gone in shorter steps; ``outcome_`` tells. Steps
        are computed in float32 unless ``damping`` is below 1e-4 or a ``module`` is given. In a
        search "auto" also takes blocks where three outputs or more would make one Gram dear.
        """,
    )
    scoring: Any = parameter(
        None,
        [str, callable, None],
        "str, callable or None",
        """
        What rows held out are scored by, as in `sklearn.model_selection.GridSearchCV`: those of
        ``early_stopping=True``, and those of a search. None: as ``score`` does, and in a search of
        classifiers by minus the log-loss of calibrated probabilities.
        """,
    )


@dataclass(eq=False, repr=False, kw_only=True)
class FlowParameters:
    """How the flow is computed, when it has converged, what is kept of it."""

    solver: Any = parameter(
        "auto",
        [StrOptions(set(SOLVERS)), Solver],
        f"{_choice(SOLVERS)} or Solver",
        _told(
            "How f(G) is applied.",
            SOLVERS,
            "Or an object of your own, derived from `sklearn_gflow.geometry.Solver`.",
        ),
    )
    rcond: float | None = parameter(
        None,
        [Interval(Real, 0, 1, closed="left"), None],
        "float or None",
        """
        Singular values of D up to ``rcond`` times the largest count as zero. None follows
        dtype and size. With ``damping`` a number asks for eigenvectors at every step.
        """,
    )
    damping: str | float = parameter(
        "auto",
        [StrOptions({"auto"}), _NUMBER_FROM_ZERO],
        '"auto" or float',
        """
        Ridge added to the Gram, relative to the mean of its diagonal: steps are those of
        Levenberg and Marquardt, and D⁺ does not amplify the modes of noise. "auto": α(1−α)/3 in
        the full batch, which is none at ``alpha`` 0 and 1, where the theorems are, none for the
        log-loss, or with ``t_end=1`` unless it stops early, and 0.03 in blocks; there 0.1 for the
        log-loss, and with ``t_end="auto"`` for more than 16 outputs. In blocks that grow it is the
        ridge of the largest, by default 0.03 · 256 / rows; smaller ones have more in proportion.
        """,
    )
    metric_scale: str | float = parameter(
        "trace",
        [StrOptions({"trace"}), _POSITIVE_NUMBER],
        '"trace" or float',
        """
        c, the unit of the Gram's eigenvalues: tr(G₀)/QN at the start, or a positive number;
        1.0 is the field of the paper.
        """,
    )
    max_iter: int = parameter(
        500,
        [_POSITIVE_INTEGER],
        "int",
        """
        Largest number of accepted steps, of epochs in blocks; there ``t_end=1`` takes that many.
        """,
    )
    tol: float = parameter(
        1e-10,
        [_NUMBER_FROM_ZERO],
        "float",
        "Residual, relative to the one at the start, at which the flow has converged.",
    )
    n_iter_no_change: int = parameter(
        10,
        [_POSITIVE_INTEGER],
        "int",
        """
        The flow ends after this many steps in a row that lower the relative residual by less
        than ``tol``. Of the exponential method. With ``early_stopping`` also: after this many
        points of the path in a row that raise the score by less than ``tol``.
        """,
    )
    store_gram: str | bool = parameter(
        "auto",
        [StrOptions({"auto"}), "boolean"],
        '"auto" or bool',
        """
        Whether to keep ``ntk_gram_``. "auto": up to 64 MiB, and not in pickles and files; set to
        True before you write them it stands there too.
        """,
    )
    store_path: bool = parameter(
        False,
        ["boolean"],
        "bool",
        "Whether to keep the parameters at every point of the path, for ``staged_predict``.",
    )
    max_memory: int | None = parameter(
        None,
        [_POSITIVE_INTEGER, None],
        "int or None",
        """
        Bytes that training may take. None: what the device has, less where a control group or
        ``ulimit`` leaves less. What would take more is refused before it is allocated.
        """,
    )
    checkpoint: Any = parameter(None, [str, PathLike, None], "str, path-like or None", CHECKPOINT)
    random_state: Any = parameter(
        None,
        ["random_state"],
        "int, RandomState instance or None",
        "Seed of the start θ₀.",
    )
    verbose: int = parameter(
        0,
        ["verbose"],
        "int or bool",
        "1 prints a line a step, or what a search does; 2 also ranks, and the steps of a search.",
    )
    device: str = parameter(
        "cpu",
        [str],
        "str",
        """
        torch device of training, "auto" for CUDA where there is one. Predictions are made on it
        too, or on the CPU of a machine that lacks it.
        """,
    )
    dtype: str = parameter(
        "float64",
        [StrOptions({"float64", "float32"})],
        '{"float64", "float32"}',
        "Of the computation and of the predictions.",
    )


@dataclass(eq=False, repr=False, kw_only=True)
class ClassParameters:
    """What labels have and numbers have not."""

    loss: str = parameter(
        "auto",
        [StrOptions({"auto", *LABELS})],
        _choice({"auto": None, **LABELS}),
        """
        C: |x − y|²/(2N) (2.48), or the cross-entropy of softmax(x), of several labels a row the
        sum of their cross-entropies. "auto" takes the cross-entropy of one label a row over blocks
        without a given end, otherwise the squared error; a fit that goes on keeps its loss.
        """,
    )
    label_smoothing: float | str = parameter(
        "auto",
        [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        'float or "auto"',
        """
        In [0, 1); "auto" is 0.05 where ``loss="auto"`` takes the cross-entropy of more than 16
        classes, otherwise 0. Labels become (1 − label_smoothing)·one-hot +
        label_smoothing/n_classes; of several labels a row each becomes
        (1 − label_smoothing)·indicator + label_smoothing/2.
        """,
    )
    class_weight: Any = parameter(
        None,
        [dict, StrOptions({"balanced"}), None],
        'dict, "balanced" or None',
        "Weights of the classes, multiplied into ``sample_weight``; not of several labels a row.",
    )


@dataclass(eq=False, repr=False, kw_only=True)
class NumberParameters:
    """What numbers have and labels have not."""

    loss: Any = parameter(
        "squared_error",
        [StrOptions(set(NUMBERS)), Loss],
        f"{_choice(NUMBERS)} or Loss",
        _told(
            "ℓ of C = Σ wᵢ ℓ(xᵢ, yᵢ)/N.",
            NUMBERS,
            "Or an object of your own, derived from `sklearn_gflow.geometry.Loss`. Predictions are "
            "in units of y. Leave-one-out and ``return_std`` need the squared error.",
        ),
    )
    quantile: float = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="neither")],
        "float",
        'Level of the quantile that ``loss="quantile"`` predicts.',
    )
