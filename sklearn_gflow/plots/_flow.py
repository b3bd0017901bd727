"""Loss, step errors and scores along a flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sklearn_gflow.dynamics import t_from_tau, tau_from_t
from sklearn_gflow.plots._axes import (
    ACCENT,
    DARK,
    MIDDLE,
    PALE,
    axes,
    drawn_with,
    legend,
    logarithmic,
    option,
)
from sklearn_gflow.plots._fitted import fitted_flow

__all__ = ["FlowDisplay"]


@dataclass(eq=False, repr=False, kw_only=True)
class FlowDisplay:
    """Training loss along a flow, beside the law of the line; step errors; where it stopped.

    Make it with `from_estimator`, and draw it with `plot`.

    Parameters
    ----------
    t, s : ndarray of shape (n_points,)
        Times of the points, t in [0, 1] and s = −N ln(1 − t).
    loss : ndarray of shape (n_points,)
        C (2.48) there.
    step_error : ndarray of shape (n_points,) or None
        Distance from the frozen-D flow after each step, relative to |y − x₀|; NaN at the start.
    law : bool
        Whether (1 − t)² is the law of this loss: that of α = 1, for the squared error.
    t_solution : float or None
        Time of the solution, where it was chosen on the way.
    judged_t, judged_score, judged_loss : ndarray of shape (n_times,) or None
        Times at which early stopping looked, what it scored, and C there.
    judged_by : str
        What the scores are of: "held-out rows" or "leave-one-out".
    name : str or None
        For the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        What ``kind`` asked for.
    law_line_, judged_line_, solution_line_ : matplotlib Line2D or None
        The law, what early stopping saw, and the time of the solution.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_gflow import AdaptedFlowRegressor
    >>> from sklearn_gflow.plots import FlowDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> flow = AdaptedFlowRegressor((64,), alpha=1.0, t_end=0.9, random_state=0).fit(X, y)
    >>> display = FlowDisplay.from_estimator(flow)  # display.plot() draws it
    >>> display.name
    'α = 1'
    """

    t: np.ndarray
    s: np.ndarray
    loss: np.ndarray
    step_error: np.ndarray | None = None
    law: bool = True
    t_solution: float | None = None
    judged_t: np.ndarray | None = None
    judged_score: np.ndarray | None = None
    judged_loss: np.ndarray | None = None
    judged_by: str = ""
    name: str | None = None

    @classmethod
    def from_estimator(cls, estimator: Any, *, name: str | None = None) -> Self:
        """Read the path of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted flow, or a pipeline or search around one.
        name : str, optional
            For the legend; the value of α by default.

        Returns
        -------
        FlowDisplay

        Raises
        ------
        NotFittedError
            If it is not fitted.
        ValueError
            If there is no flow in it.
        """
        flow = fitted_flow(estimator, cls.__name__).estimator
        history = flow.history_
        judged: dict[str, Any] = {}
        if hasattr(flow, "loo_times_"):
            judged = {
                "judged_t": flow.loo_times_,
                "judged_score": flow.loo_scores_,
                "judged_loss": flow.loo_losses_,
                "judged_by": "leave-one-out",
            }
        elif "validation_score" in history:
            judged = {
                "judged_t": history["t"],
                "judged_score": history["validation_score"],
                "judged_loss": history["validation_loss"],
                "judged_by": "held-out rows",
            }
        return cls(
            **_columns(history),
            **judged,
            law=flow.alpha == 1 and _is_squared(getattr(flow, "loss_name_", flow.loss)),
            t_solution=flow.t_ if judged else None,
            name=f"α = {flow.alpha:g}" if name is None else name,
        )

    @classmethod
    def from_data(
        cls,
        history: Mapping[str, np.ndarray],
        *,
        law: bool = True,
        t_solution: float | None = None,
        name: str | None = None,
    ) -> Self:
        """Take the columns of a history, such as ``dynamics.Trajectory.history()``.

        Parameters
        ----------
        history : mapping of str to ndarray
            With "t", "s", "loss", and perhaps "step_error".
        law, t_solution, name
            As for the class.

        Returns
        -------
        FlowDisplay
        """
        return cls(**_columns(history), law=law, t_solution=t_solution, name=name)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "loss",
        x: str = "t",
        law: bool | None = None,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Those of a new figure by default. Several flows may be drawn on the same.
        kind : {"loss", "step_error", "score"}, default="loss"
            The loss over its value at the start; the error of each step; or the scores that early
            stopping chose by.
        x : {"t", "s"}, default="t"
            The time to draw against. Against s the law is a straight line.
        law : bool, optional
            Whether to draw (1 − t)² beneath the loss; by default where it is its law.
        name : str, optional
            For the legend, in place of that of the display.
        line_kw : dict, optional
            Keywords for the line.

        Returns
        -------
        FlowDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If an option is out of range, or the fit has not kept what it asks for.
        """
        option("kind", kind, ("loss", "step_error", "score"))
        option("x", x, ("t", "s"))
        draw = {"loss": self._loss, "step_error": self._step_error, "score": self._score}[kind]
        times, values, label = draw(x)
        ax = axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.law_line_ = self.judged_line_ = self.solution_line_ = None
        if kind == "loss" and (self.law if law is None else law):
            (self.law_line_,) = self._draw_law(ax, x)
        own = {"color": DARK, "marker": "o", "markersize": 4, "linewidth": 1.2}
        own["label"] = name or self.name or "flow"
        (self.line_,) = ax.plot(times, values, **drawn_with(own, line_kw))
        if kind == "loss" and self.judged_loss is not None and self.judged_t is not None:
            (self.judged_line_,) = ax.plot(
                self._at(self.judged_t, x), self.judged_loss / self.loss[0],
                color=ACCENT, linestyle="--", linewidth=1.4, label=self.judged_by,
            )  # fmt: skip
        self._draw_solution(ax, x)
        ax.set(xlabel=_TIMES[x], ylabel=label)
        if kind != "score":
            logarithmic(ax)
        ax.grid(visible=True, alpha=0.25)
        legend(ax)
        return self

    # -- what each kind draws: times, values, and the label of the axis ---------------------------

    def _loss(self, x: str) -> tuple[np.ndarray, np.ndarray, str]:
        return self._times(x), _positive(self.loss / self.loss[0]), "loss / loss at the start"

    def _step_error(self, x: str) -> tuple[np.ndarray, np.ndarray, str]:
        if self.step_error is None or np.isnan(self.step_error).all():
            raise ValueError(
                "the path has no step errors, which blocks and scipy's integrators do not make; "
                'fit with batch_size=None and method="exponential"'
            )
        return self._times(x)[1:], _positive(self.step_error[1:]), "error of a step"

    def _score(self, x: str) -> tuple[np.ndarray, np.ndarray, str]:
        if self.judged_score is None or self.judged_t is None:
            raise ValueError(
                "there are no scores along the path; set early_stopping=True or "
                'early_stopping="loo" before fit'
            )
        return self._at(self.judged_t, x), self.judged_score, f"score, {self.judged_by}"

    def _draw_law(self, ax: Any, x: str) -> Any:
        tau, _ = self._clock()
        t = t_from_tau(np.linspace(0, tau[-1], 200))
        return ax.plot(
            self._at(t, x), (1 - t) ** 2,
            color=PALE, linewidth=6, zorder=1, label="law of the line, $(1-t)^2$",
        )  # fmt: skip

    def _draw_solution(self, ax: Any, x: str) -> None:
        if self.t_solution is not None:
            self.solution_line_ = ax.axvline(
                float(self._at(np.array([self.t_solution]), x)[0]), color=MIDDLE, linestyle=":",
                label=f"stopped at t = {self.t_solution:.3g}",
            )  # fmt: skip

    def _times(self, x: str) -> np.ndarray:
        return self.t if x == "t" else self.s

    def _clock(self) -> tuple[np.ndarray, np.ndarray]:
        """τ and s of the points, without those where t is 1 in float64."""
        known = self.t < 1
        return tau_from_t(self.t[known]), self.s[known]

    def _at(self, t: np.ndarray, x: str) -> np.ndarray:
        """Other times t, as t or as s, which is linear in τ between the points and beyond."""
        if x == "t":
            return t
        tau, s = self._clock()
        rate = s[-1] / tau[-1] if tau[-1] > 0 else 1.0
        return np.interp(tau_from_t(t), tau, s) + rate * np.maximum(tau_from_t(t) - tau[-1], 0)


_TIMES = {"t": "time $t$ of the flow", "s": "time $s$ of the flow"}


def _columns(history: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        "t": history["t"],
        "s": history["s"],
        "loss": np.asarray(history["loss"], dtype=float),
        "step_error": history.get("step_error"),
    }


def _is_squared(loss: Any) -> bool:
    """Whether a loss, by name or as an object, is the squared error."""
    return bool(getattr(loss, "squared", loss == "squared_error"))


def _positive(values: np.ndarray) -> np.ndarray:
    """Values for a logarithmic axis: a loss of zero is no point on it."""
    return np.where(values > 0, values, np.nan)
