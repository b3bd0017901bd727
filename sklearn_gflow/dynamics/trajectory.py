"""The record of a flow: its points, columns of numbers at each, and why it stopped.

All flows fill in the same record. Times are kept as τ and read as s or t. Notation:
docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.state import Resumable, State
from sklearn_gflow.dynamics.time import s_from_tau, t_from_tau
from sklearn_gflow.geometry import FactorizationError, TangentMap, tangent_spectrum

__all__ = ["Carried", "Trajectory"]


class Carried(NamedTuple):
    """What a flow over blocks leaves to one that goes on with it, besides θ.

    Attributes
    ----------
    generator : Tensor
        State of the generator of the cuts.
    last_step : Tensor of shape (K,) or None
        Of which the next block keeps a share, where there is momentum.
    """

    generator: Tensor
    last_step: Tensor | None = None


@dataclass
class Trajectory(Resumable):
    """The record of a flow. Index 0 is the start; a point follows for every step and mark.

    Attributes
    ----------
    total_weight : float
        N of the clock.
    scale : float
        c, the metric scale that was used.
    tau, loss, step_error : list of float
        Time τ = s/N, cost (2.48), and error of the step that led there (NaN at the start).
    rank, condition : list of float
        Of D at the point; NaN where it was not computed (at marks, and at the last point
        unless the flow ended in an equilibrium).
    outputs : list of Tensor of shape (Q·N,)
        x(θ) along the path.
    thetas : list of Tensor of shape (K,)
        θ along the path; only the last one unless the path was asked for.
    solvers : list of str
        Back end of each step.
    ends : list of int
        Indices at which steps of the full batch ended; the points between them are marks.
    extra : dict of list
        Columns of the callbacks.
    outcome : Outcome
        Why the flow stopped.
    detail : str
        What the outcome does not say: steps that raised the loss, the error of a factorisation.
    end : TangentMap or None
        The output map at the last point of a full batch, with the Gram if callbacks used it.
    selected : (int, Tensor) or None
        Index and θ of the solution, where a callback chose it; otherwise it is the last point.
    closed_from : (int, Tensor) or None
        Index and θ of the point from which an epoch over all rows closed a flow over blocks.
    carried : Carried or None
        Of a flow over blocks: what one that goes on begins with.
    """

    total_weight: float
    scale: float
    outcome: Outcome = Outcome.REACHED_END
    detail: str = ""
    tau: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    step_error: list[float] = field(default_factory=list)
    rank: list[float] = field(default_factory=list)
    condition: list[float] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    thetas: list[Tensor] = field(default_factory=list)
    solvers: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    extra: dict[str, list[float]] = field(default_factory=dict)
    end: TangentMap | None = None
    selected: tuple[int, Tensor] | None = None
    closed_from: tuple[int, Tensor] | None = None
    carried: Carried | None = None

    def state(self) -> State:
        """All that points are appended to; of back ends that served many blocks each once."""
        kept = {name: part for name, part in vars(self).items() if isinstance(part, list | dict)}
        return {**kept, "solvers": list(dict.fromkeys(self.solvers))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the record."""
        columns = {name: list(column) for name, column in state["extra"].items()}
        lists = {name: list(part) for name, part in state.items() if name != "extra"}
        vars(self).update(**lists, extra=columns)

    def record(self, point: Point, step_error: float, *, keep_path: bool) -> None:
        """Append a point; rank and condition stay NaN until they are known."""
        self.tau.append(point.tau)
        self.loss.append(point.loss)
        self.step_error.append(step_error)
        self.rank.append(math.nan)
        self.condition.append(math.nan)
        self.outputs.append(point.outputs)
        if not keep_path:
            self.thetas.clear()
        self.thetas.append(point.theta)

    def look_at_kernel(self, tangent: TangentMap, rcond: float | None) -> None:
        """Rank and condition of the last point; NaN where eigenvalues are not to be had."""
        with suppress(FactorizationError):
            spectrum = tangent_spectrum(tangent, rcond=rcond)
            self.rank[-1], self.condition[-1] = spectrum.rank, spectrum.condition

    def add_columns(self, columns: Mapping[str, float]) -> None:
        """Append values to the columns of callbacks."""
        for name, value in columns.items():
            self.extra.setdefault(name, []).append(value)

    @property
    def n_steps(self) -> int:
        """Number of recorded points after the start."""
        return len(self.tau) - 1

    @property
    def solution(self) -> int:
        """Index of the solution: the last point, or the one that a callback chose."""
        return self.n_steps if self.selected is None else self.selected[0]

    @property
    def step_taus(self) -> list[float]:
        """Times τ at which the steps to the solution ended; the last one may have been cut."""
        last = self.solution
        return [self.tau[k] for k in (*(k for k in self.ends if k < last), last) if k]

    @property
    def theta(self) -> Tensor:
        """θ at the solution."""
        return self.thetas[-1] if self.selected is None else self.selected[1]

    @property
    def t(self) -> np.ndarray:
        """Reparametrised time t (2.52) of every point."""
        return t_from_tau(self.tau)

    @property
    def s(self) -> np.ndarray:
        """Flow time s of every point."""
        return s_from_tau(self.tau, self.total_weight)

    @property
    def solver(self) -> str:
        """Back ends in the order of their first use."""
        return " → ".join(dict.fromkeys(self.solvers))

    def history(self) -> dict[str, np.ndarray]:
        """Columns of equal length: those of every flow, and those of callbacks."""
        columns: dict[str, Sequence[float] | np.ndarray] = {
            "t": self.t,
            "s": self.s,
            "loss": self.loss,
            "rank": self.rank,
            "condition": self.condition,
            "step_error": self.step_error,
            **self.extra,
        }
        return {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
