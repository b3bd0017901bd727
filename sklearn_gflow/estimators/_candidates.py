"""What a search chooses among: networks, α and stopping times.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from sklearn_gflow.dynamics import t_from_tau
from sklearn_gflow.estimators._encodings import AUTOMATIC, ENCODINGS, bins_beside
from sklearn_gflow.estimators._settings import SMOOTH_START
from sklearn_gflow.estimators._training import MARKS
from sklearn_gflow.inputs import PeriodicEncoder, PiecewiseLinearEncoder

__all__ = ["OPEN", "Candidate", "Grid", "open_candidates", "shown_time"]

OPEN = "auto"
"""The end of a flow that goes on while rows held out gain, as the parameter names it."""

# By default, where a ridge can be taken: with it all α between the ends generalise alike, and the
# steps of these two are few.
_ALPHAS = (0.5, 0.7)
# The only one where every candidate is followed.
_ONE_ALPHA = (0.5,)
# Over blocks each time costs a flow of its own; of a large table one must do.
_BLOCK_TIMES, _ONE_BLOCK_TIME = (0.95, 0.99), (0.95,)
# Of the times that are scored every second one, from t = 0.33 on: no network was best before.
_FIRST_MARK = 6
# Over blocks without a given end, where no encoding is tried: what is gained is that of a mean of
# three starts, and silu lost (docs/benchmarks/blocks_trials.md).
_OPEN_ALPHAS = (0.5, 0.65, 0.8)
# Beside the usual activation, where none was asked for.
_USUAL_ACTIVATION, _OTHER_ACTIVATION = "tanh", "silu"


@dataclass(frozen=True)
class Candidate:
    """A network and an α: one path, which passes all stopping times.

    Attributes
    ----------
    encoding : str, transformer or None
        As the parameter.
    init_scale, alpha : float
        As the parameters.
    rescalings : int
        As the parameter.
    activation : str or None
        As the parameter; None for that of the search.
    """

    encoding: Any
    init_scale: float
    alpha: float
    rescalings: int = 0
    activation: str | None = None

    def parameters(self) -> dict[str, Any]:
        """As keyword arguments of an estimator."""
        found = {
            "alpha": self.alpha,
            "encoding": self.encoding,
            "init_scale": self.init_scale,
            "rescalings": self.rescalings,
        }
        return found if self.activation is None else found | {"activation": self.activation}

    def __str__(self) -> str:
        """As a line names it."""
        shown = self.parameters()
        if not self.rescalings:
            del shown["rescalings"]
        return ", ".join(f"{name}={' '.join(repr(v).split())}" for name, v in shown.items())

    @property
    def plain(self) -> bool:
        """Whether no encoding was tried."""
        return self.encoding is None or self.encoding is AUTOMATIC

    def rescaled(self) -> Candidate:
        """The same with columns that the network has stretched."""
        return replace(self, rescalings=self.rescalings + 1)


@dataclass(frozen=True)
class Grid:
    """All that is searched.

    Attributes
    ----------
    encodings : list
        Encodings.
    init_scales, alphas, times : list of float
        Starts, values of α, and times t in increasing order.
    """

    encodings: list[Any]
    init_scales: list[float]
    alphas: list[float]
    times: list[float]

    @classmethod
    def of(
        cls,
        parameters: Any,
        *,
        closed_form: bool,
        in_blocks: bool,
        once: bool,
        sparse: bool = False,
        first: str | None = None,
    ) -> Grid:
        """The grid that the parameters of a search name.

        Parameters
        ----------
        parameters : estimator
            With ``encodings``, ``init_scales``, ``alphas`` and ``t_ends``.
        closed_form : bool
            Whether leave-one-out judges first, so that many candidates cost little.
        in_blocks : bool
            Whether every stopping time costs a flow of its own.
        once : bool
            Whether a single part is held out, since the table is large.
        sparse : bool
            Whether the table is sparse, so that no encoding is tried by default.
        first : str or None
            The encoding that stands for the columns as they are, by default.

        Raises
        ------
        ValueError
            If a value is out of range, or there is none.
        """
        return cls(
            _encodings(parameters.encodings, first, plain=sparse or parameters.module is not None),
            _scales(parameters),
            _alphas(parameters, _ALPHAS if closed_form else _ONE_ALPHA),
            _times(parameters.t_ends, in_blocks=in_blocks, once=once),
        )

    def candidates(self) -> list[Candidate]:
        """All paths."""
        return [Candidate(*of) for of in product(self.encodings, self.init_scales, self.alphas)]


def open_candidates(parameters: Any, n_rescalings: int, n_numbers: int) -> list[Candidate]:
    """The candidates of a search whose flows have no given end, that of the defaults first.

    Each is a fit of its own, so that they are few: networks that err in different ways.

    Parameters
    ----------
    parameters : estimator
        As for `Grid.of`.
    n_rescalings : int
        How often the plain estimator stretches columns.
    n_numbers : int
        How many columns of numbers other encodings may stand beside; 0 where none is tried.

    Raises
    ------
    ValueError
        If a value is out of range, or there is none.
    """
    own, twice = parameters.activation, 2 * n_rescalings
    other = _OTHER_ACTIVATION if own == _USUAL_ACTIVATION else own
    n_bins = bins_beside(n_numbers)
    alphas = _alphas(parameters, _ONE_ALPHA)
    networks: list[tuple[Any, int, str]] = [(AUTOMATIC, n_rescalings, own)]
    if not isinstance(parameters.encodings, str) or parameters.encodings in ENCODINGS:
        named = _encodings(parameters.encodings, None, plain=False)
        networks = [(encoding, n_rescalings, own) for encoding in named]
    elif n_bins:
        ramps = PiecewiseLinearEncoder(n_bins=n_bins)
        networks += [(ramps, twice, other), ("periodic", twice, other)]
    else:
        alphas = _alphas(parameters, _OPEN_ALPHAS)
    return [
        Candidate(encoding, scale, alpha, n, activation)
        for (encoding, n, activation), scale, alpha in product(
            networks, _scales(parameters), alphas
        )
    ]


def shown_time(t: float | str) -> str:
    """A stopping time as a line names it."""
    return repr(t) if isinstance(t, str) else f"{t:.6g}"


def _encodings(encodings: Any, first: str | None, *, plain: bool) -> list[Any]:
    if isinstance(encodings, str):
        if encodings in ENCODINGS:
            return [encodings]
        if plain:  # a user's module may be made for the columns as they are
            return [None]
        return [
            first,
            "piecewise",
            PiecewiseLinearEncoder(n_bins=24),
            PeriodicEncoder(scale=0.4),
            "periodic",
        ]
    found = list(encodings) if isinstance(encodings, Iterable) else [encodings]
    for encoding in found:
        named = encoding is None or (
            isinstance(encoding, str) and encoding in (AUTOMATIC, *ENCODINGS)
        )
        if not named and not hasattr(encoding, "transform"):
            raise ValueError(
                f"encodings must hold None, names among {sorted([AUTOMATIC, *ENCODINGS])} or "
                f"transformers; got {encoding!r}"
            )
    if not found:
        raise ValueError("encodings must hold at least one encoding, such as None")
    return found


def _scales(parameters: Any) -> list[float]:
    scales = parameters.init_scales
    return [SMOOTH_START] if isinstance(scales, str) else _numbers(scales, "init_scales", np.inf)


def _alphas(parameters: Any, default: tuple[float, ...]) -> list[float]:
    alphas = parameters.alphas
    if isinstance(alphas, str):
        return list(default)
    return _numbers(alphas, "alphas", 1.0, least=0.0)


def _numbers(values: Any, name: str, most: float, least: float | None = None) -> list[float]:
    try:
        found = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError):
        found = np.empty(0)
    low = found >= least if least is not None else found > 0
    if found.ndim != 1 or not len(found) or not (low & (found <= most) & np.isfinite(found)).all():
        span = f"[{least:g}, {most:g}]" if least is not None else "(0, ∞)"
        raise ValueError(f"{name} must hold numbers in {span}, at least one; got {values!r}")
    return [float(value) for value in found]


def _times(t_ends: Any, *, in_blocks: bool, once: bool) -> list[float]:
    if t_ends is None:
        if in_blocks:
            return list(_ONE_BLOCK_TIME if once else _BLOCK_TIMES)
        return t_from_tau(MARKS[_FIRST_MARK::2]).tolist()
    times = np.unique(np.atleast_1d(np.asarray(t_ends, dtype=float)))
    if times.ndim != 1 or not len(times) or not ((times > 0) & (times <= 1)).all():
        raise ValueError(
            f"t_ends must hold times in (0, 1], at least one, or be None; got {t_ends}"
        )
    return [float(t) for t in times]
