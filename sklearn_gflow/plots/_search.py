"""What a search saw, and what it chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.dynamics import t_from_tau, tau_from_t
from sklearn_gflow.plots._axes import ACCENT, in_first_column, panels, ramp

__all__ = ["SearchDisplay"]

_STYLES: Final = ("-", "--", "-.", ":")
_CHOSEN: Final = {"color": ACCENT, "marker": "*", "markersize": 14, "linestyle": "none"}
_TIME_TICKS: Final = (0.05, 0.2, 0.5, 0.9, 0.9999)
# Times up to here are drawn as they are; beyond, where a path ends in ever smaller steps of t,
# against the logarithm of τ.
_LATE: Final = 0.96
# So many times the distance of the median from the best score is shown.
_DEPTH: Final = 3.0
_MOST_LETTERS: Final = 30


@dataclass(eq=False, repr=False, kw_only=True)
class SearchDisplay:
    """Score over the stopping time, α and other candidates of a search, the chosen one marked.

    Make it with `from_estimator` or `from_data`, and draw it with `plot`.

    Parameters
    ----------
    score : ndarray of shape (n_candidates,)
        Mean score of each candidate.
    alpha, t_end : ndarray of shape (n_candidates,) or None
        Its α and its stopping time, where they were searched over.
    candidate : list of str of length n_candidates
        All else that was searched over, in words, one line a parameter.
    chosen : int
        Index of the one that was chosen.
    score_name : str
        For the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel.
    axes_ : list of matplotlib Axes
        The panels, one for each value of ``candidate``.
    figure_ : matplotlib Figure
    lines_ : list of list of matplotlib Line2D
        For each panel a line for each α.
    chosen_line_ : matplotlib Line2D
        The mark of the chosen one.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_gflow import AdaptedFlowRegressorCV
    >>> from sklearn_gflow.plots import SearchDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = AdaptedFlowRegressorCV((16,), random_state=0).fit(X, y)
    >>> display = SearchDisplay.from_estimator(search)  # display.plot() draws it
    >>> bool(display.score[display.chosen] == search.best_score_)
    True
    """

    score: np.ndarray
    alpha: np.ndarray | None = None
    t_end: np.ndarray | None = None
    candidate: list[str] = field(default_factory=list)
    chosen: int = 0
    score_name: str = "score"

    @classmethod
    def from_estimator(cls, estimator: Any, *, metric: str | None = None) -> Self:
        """Read a fitted search.

        Parameters
        ----------
        estimator : estimator
            A search of this package, or of scikit-learn over ``alpha`` or ``t_end``, also of a
            flow in a pipeline; or a pipeline that ends in one.
        metric : str, optional
            Which score of a search with several; by default that by which it chose.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        NotFittedError
            If it is not fitted.
        ValueError
            If it is no search, or none over α or the stopping time.
        """
        search = _search_in(estimator)
        chosen_by = getattr(search, "refit", None)
        metric = chosen_by if metric is None and isinstance(chosen_by, str) else metric
        display = cls.from_data(search.cv_results_, metric="score" if metric is None else metric)
        # A search may have been told to choose otherwise, by a callable.
        display.chosen = int(getattr(search, "best_index_", display.chosen))
        return display

    @classmethod
    def from_data(cls, cv_results: Mapping[str, Any], *, metric: str = "score") -> Self:
        """Take the results of a search.

        Parameters
        ----------
        cv_results : mapping of str to array-like
            In the form of `sklearn.model_selection.GridSearchCV`. The best by its rank counts as
            the chosen one.
        metric : str, default="score"
            Which of its scores.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        ValueError
            If there is no such score, none that is a number, or neither α nor the stopping time
            was searched over.
        """
        column = f"mean_test_{metric}"
        if column not in cv_results:
            known = [name[10:] for name in cv_results if name.startswith("mean_test_")]
            raise ValueError(
                f"metric={metric!r} is none of the scores of this search; take one of "
                f"{', '.join(known)}"
            )
        searched = {name[6:]: cv_results[name] for name in cv_results if name.startswith("param_")}
        alpha, t_end = (_numbers(searched, name) for name in ("alpha", "t_end"))
        if alpha is None and t_end is None:
            raise ValueError(
                "SearchDisplay shows scores over alpha and t_end, and neither of them was searched "
                f"over, but {', '.join(searched) or 'nothing'}"
            )
        score = np.asarray(cv_results[column], dtype=float)
        if not np.isfinite(score).any():
            raise ValueError(
                f"no score in {column} is a number; fit with error_score='raise' to see why"
            )
        rank = np.asarray(cv_results[f"rank_test_{metric}"])
        loss = np.asarray(cv_results.get("mean_test_loss", np.zeros(len(rank))))
        return cls(
            score=score,
            alpha=alpha,
            t_end=t_end,
            candidate=_in_words(searched),
            chosen=int(np.lexsort((loss, rank))[0]),
            score_name="score" if metric == "score" else metric,
        )

    def plot(self, ax: Any = None) -> Self:
        """Draw it: a line for each α against the time, a panel for each further candidate.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, optional
            One for each panel; those of a new figure by default.

        Returns
        -------
        SearchDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If there are more or fewer Axes than panels.
        """
        names = list(dict.fromkeys(self.candidate)) or [""]
        of_panel = np.array(
            [names.index(word) for word in self.candidate or [""] * len(self.score)]
        )
        self.axes_ = panels(ax, len(names))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_ = [
            self._draw_panel(panel, np.flatnonzero(of_panel == k), name)
            for k, (panel, name) in enumerate(zip(self.axes_, names, strict=True))
        ]
        (self.chosen_line_,) = self.axes_[of_panel[self.chosen]].plot(
            self._across()[self.chosen], self.score[self.chosen],
            **_CHOSEN, label=f"chosen: {self._describe(self.chosen)}",
        )  # fmt: skip
        self._legend()
        return self

    def _across(self) -> np.ndarray:
        """What is on the horizontal axis: the time, or α where all have one time."""
        across = self.t_end if self._over_time() else self.alpha
        assert across is not None
        return across

    def _over_time(self) -> bool:
        if self.alpha is None or self.t_end is None:
            return self.alpha is None
        return len(np.unique(self.t_end)) > 1

    def _families(self) -> np.ndarray:
        """What tells the lines of a panel apart: α, where the time is on the axis."""
        if self.alpha is None or not self._over_time():
            return np.zeros(len(self.score))
        return self.alpha

    def _draw_panel(self, ax: Any, rows: np.ndarray, name: str) -> list[Any]:
        across, families = self._across(), self._families()
        values, (lowest, highest) = np.unique(families), self._range()
        lines = []
        for k, (value, color) in enumerate(zip(values, ramp(len(values)), strict=True)):
            of_line = rows[families[rows] == value]
            of_line = of_line[np.argsort(across[of_line], kind="stable")]
            label = f"α = {value:g}" if families is self.alpha else "score"
            label += "" if (self.score[families == value] > lowest).any() else " (below)"
            style = _STYLES[(len(values) - 1 - k) % len(_STYLES)]
            lines += ax.plot(
                across[of_line], self.score[of_line], color=color, linestyle=style, label=label,
                marker=None if len(of_line) > 5 else "o", markersize=4,
            )  # fmt: skip
        ax.set(xlabel="stopping time $t$" if self._over_time() else "α")
        if in_first_column(ax):
            ax.set_ylabel(f"mean {self.score_name}")
        ax.set_title("\n".join(map(_shortened, name.split("\n"))), fontsize="small")
        ax.grid(visible=True, alpha=0.25)
        ax.set_ylim(lowest, highest)
        if self._over_time() and across.max() > _LATE:
            _stretch_the_end(ax, across.min(), across.max())
        return lines

    def _range(self) -> tuple[float, float]:
        """The better scores: the worst may lie far below, and would press all together."""
        scores = self.score[np.isfinite(self.score)]
        best, median = scores.max(), np.median(scores)
        lowest = max(scores.min(), best - _DEPTH * (best - median))
        margin = 0.08 * (best - lowest) or 0.05
        return lowest - margin, best + 2 * margin

    def _describe(self, k: int) -> str:
        """The pair of α and time of a candidate."""
        words = [] if self.alpha is None else [f"α = {self.alpha[k]:g}"]
        return ", ".join(words + ([] if self.t_end is None else [f"t = {self.t_end[k]:.3g}"]))

    def _legend(self) -> None:
        handles = [line for line in self.lines_[0] if line.get_label() != "score"]
        handles.append(self.chosen_line_)
        if len(self.axes_) == 1:
            self.ax_.legend(handles=handles, framealpha=0.9, edgecolor="none", fontsize="small")
        else:
            self.figure_.legend(
                handles=handles, frameon=False, fontsize="small", loc="outside lower center",
                ncols=2 if len(self.axes_) == 2 else 4,
            )  # fmt: skip


def _search_in(estimator: Any) -> Any:
    """A search, or the one at the end of a pipeline."""
    search = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    check_is_fitted(search)
    if not hasattr(search, "cv_results_"):
        raise ValueError(
            "Expected 'estimator' to be a search, such as AdaptedFlowRegressorCV or GridSearchCV. "
            f"Got {type(search).__name__} instead."
        )
    return search


def _numbers(searched: dict[str, Any], name: str) -> np.ndarray | None:
    """Take a parameter of numbers, by its name or as that of a step, out of those searched over.

    Raises
    ------
    ValueError
        If several steps have it.
    """
    found = [key for key in searched if key == name or key.endswith(f"__{name}")]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            f"{name} was searched over in several steps, {', '.join(found)}; show the results of "
            "one with from_data"
        )
    if any(isinstance(value, str) for value in searched[found[0]]):
        return None  # flows that find their own end have no place on an axis
    column = searched.pop(found[0])
    if np.ma.getmaskarray(column).any():
        raise ValueError(
            f"{name} was searched over for a part of the candidates only; search over it in all"
        )
    return np.asarray(column, dtype=float)


def _in_words(searched: Mapping[str, Any]) -> list[str]:
    """All other parameters of each candidate that differ between candidates."""
    words = {name: [_word(value) for value in column] for name, column in searched.items()}
    told = {name: column for name, column in words.items() if len(set(column)) > 1}
    if not told:
        return []
    short = [name.split("__")[-1] for name in told]
    names = short if len(set(short)) == len(short) else list(told)
    rows = zip(*told.values(), strict=True)
    return ["\n".join(map(" = ".join, zip(names, row, strict=True))) for row in rows]


def _word(value: Any) -> str:
    if value is np.ma.masked:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shortened(line: str) -> str:
    """The ends of a long line: values of one class often differ in their last parameters."""
    if len(line) <= _MOST_LETTERS:
        return line
    half = _MOST_LETTERS // 2
    return f"{line[:half]}…{line[1 - half :]}"


def _stretch_the_end(ax: Any, lowest: float, highest: float) -> None:
    """Draw times between two against ln τ, which spaces a path evenly to its end."""

    def forward(t: Any) -> np.ndarray:
        return np.log(np.clip(tau_from_t(np.clip(t, 0, 1)), 1e-3, 40))

    def inverse(u: Any) -> np.ndarray:
        return t_from_tau(np.exp(u))

    ax.set_xscale("function", functions=(forward, inverse))
    shown = [t for t in _TIME_TICKS if lowest <= t <= highest]
    ax.set_xticks(shown, [f"{t:g}" for t in shown])
    ax.set_xlim(t_from_tau(tau_from_t(lowest) / 1.3), t_from_tau(tau_from_t(highest) * 1.3))
