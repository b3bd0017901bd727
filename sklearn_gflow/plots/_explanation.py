"""The training rows that speak for and against a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import type_of_target

from sklearn_gflow.plots._axes import ACCENT, DARK, MIDDLE, PALE, axes, legend, option
from sklearn_gflow.plots._fitted import FittedFlow, fitted_flow

__all__ = ["ExplanationDisplay"]

_KINDS: Final = ("rows", "targets")
_QUANTITIES: Final = {"contributions": "contribution", "deletions": "lost without the row"}
_LOGARITHMIC: Final = ("poisson", "gamma")  # losses whose outputs are logarithms
_COLUMN: Final = 0.7  # width of the column of a class, of the distance to the next


@dataclass(eq=False, repr=False, kw_only=True)
class ExplanationDisplay:
    """What each training row contributed to one prediction.

    Make it with `from_estimator` or `from_data`, and draw it with `plot`.

    Parameters
    ----------
    contributions : ndarray of shape (n_train,)
        Of each training row to the output at the row that is explained.
    start : float or None
        The output before training, the same for all rows; with the sum of the contributions it
        is the output that is explained. None where they do not add up.
    y : ndarray of shape (n_train,) or None
        Targets or labels of the training rows.
    labels : bool
        Whether y are labels of classes.
    response : str
        What is explained, for the title.
    of : {"contributions", "deletions"}
        What ``contributions`` are: those, or the output less what it would be without the row.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer or None
        ``kind="rows"``: the bars from the top; where they add up, that of all other rows last.
    points_ : list of matplotlib PathCollection
        ``kind="targets"``: the rows that speak for it, and those that speak against it.
    rows_ : ndarray
        The training rows that were drawn with bars of their own, from the top.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_gflow import AdaptedFlowRegressor
    >>> from sklearn_gflow.plots import ExplanationDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> flow = AdaptedFlowRegressor((16,), random_state=0).fit(X[:400], y[:400])
    >>> display = ExplanationDisplay.from_estimator(flow, X[400:401], y[:400])
    >>> explained = display.start + display.contributions.sum()  # display.plot() draws it
    >>> bool(abs(explained - flow.predict(X[400:401])[0]) < 1e-4)
    True
    """

    contributions: np.ndarray
    start: float | None = 0.0
    y: np.ndarray | None = None
    labels: bool = False
    response: str = "prediction"
    of: str = "contributions"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        target: Any = None,
        of: str = "contributions",
    ) -> Self:
        """Explain the prediction for one row.

        Parameters
        ----------
        estimator : estimator
            A flow that was fitted in the full batch, or a pipeline or search around one; of a
            search of this package all its members on average, as they predict.
        X : array-like of shape (1, n_features)
            The row, in the form in which the estimator takes it.
        y : array-like of shape (n_train,) or (n_train, n_outputs), optional
            Targets or labels of the training rows, in the order of ``fit``, to name the rows by.
            Rows of weight zero, or held out, are none.
        target : int or label, optional
            Of several outputs the index of the one to explain. Of a classifier the class whose
            output is explained, by default the one that is predicted; of several labels a row the
            number of the label, which has to be given.
        of : {"contributions", "deletions"}, default="contributions"
            As in ``explain``: what each row did, or what would be missing without it.

        Returns
        -------
        ExplanationDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no flow in it, X is not one row, ``target`` is missing or unknown, y has
            not a value for each training row, or the fit has no path that could be followed again.
        """
        found = fitted_flow(estimator, cls.__name__)
        row = found.inputs(X)
        if row.shape[0] != 1:
            raise ValueError(
                f"X must be one row, whose prediction is explained, and has {row.shape[0]}; hand "
                "over X[[i]], or X.iloc[[i]] of a frame"
            )
        shown = _Shown.of(found, row, target)
        display = cls.from_data(
            shown.of_output(found.predicting.explain(row, of=of)),
            None if y is None else shown.targets(np.asarray(y)),
            start=shown.start if of == "contributions" else None,
        )
        display.labels, display.response, display.of = shown.labels, shown.response, of
        return display

    @classmethod
    def from_data(
        cls, contributions: ArrayLike, y: ArrayLike | None = None, *, start: float | None = 0.0
    ) -> Self:
        """Take any contributions, such as those of `diagnostics.contributions`.

        Parameters
        ----------
        contributions : array-like of shape (n_train,)
            Of each training row.
        y : array-like of shape (n_train,), optional
            Its target. `sklearn.utils.multiclass.type_of_target` tells whether they are labels.
        start : float or None, default=0.0
            What the sum of all contributions is added to; None where it says nothing.

        Returns
        -------
        ExplanationDisplay

        Raises
        ------
        ValueError
            If contributions have not one axis, or y has another length than they.
        """
        parts = np.asarray(contributions, dtype=float)
        if parts.ndim != 1:
            raise ValueError(
                "contributions must be one number for each training row, and have shape "
                f"{parts.shape}; choose a prediction, and an output"
            )
        if y is None:
            return cls(contributions=parts, start=start)
        targets = np.asarray(y)
        if len(targets) != len(parts):
            raise ValueError(
                f"y must have a value for each of the {len(parts)} training rows (not of those "
                f"held out, or of weight zero), and has {len(targets)}"
            )
        labels = type_of_target(targets) in ("binary", "multiclass")
        return cls(contributions=parts, start=start, y=targets, labels=labels)

    def plot(self, ax: Any = None, *, kind: str = "rows", n_rows: int = 5) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Those of a new figure by default.
        kind : {"rows", "targets"}, default="rows"
            The rows that speak most for the output and most against it, as bars, with the sum of
            all others; or all rows over their targets, which needs y.
        n_rows : int, default=5
            How many rows on either side have bars of their own.

        Returns
        -------
        ExplanationDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If ``kind`` is unknown, or needs y and there is none, or ``n_rows`` is none.
        """
        option("kind", kind, _KINDS)
        if not isinstance(n_rows, Integral) or n_rows < 0:
            raise ValueError(f"n_rows must be a whole number of rows, 0 or more; got {n_rows!r}")
        if kind == "targets" and self.y is None:
            raise ValueError("kind='targets' needs the targets of the training rows; hand over y")
        ax = axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.bars_: Any = None
        self.points_: list[Any] = []
        self.rows_: np.ndarray = self._strongest(int(n_rows))
        if kind == "rows":
            self._draw_bars(ax)
        else:
            self._draw_points(ax)
        ax.set_title("\n".join([self.response, *self._total()]), fontsize="small")
        return self

    def _total(self) -> list[str]:
        """What start and contributions add up to, in a line; none where they do not."""
        if self.start is None:
            return []
        moved = float(self.contributions.sum())
        sign = "−" if moved < 0 else "+"
        return [f"{self.start:.3g} at the start {sign} {abs(moved):.3g} = {self.start + moved:.3g}"]

    def _strongest(self, n_rows: int) -> np.ndarray:
        """The rows that speak most for the output, then those that speak most against it."""
        order = np.argsort(-self.contributions, kind="stable")
        ranked = self.contributions[order]
        positive, negative = order[ranked > 0], order[ranked < 0]
        return np.concatenate([positive[:n_rows], negative[max(0, len(negative) - n_rows) :]])

    def _draw_bars(self, ax: Any) -> None:
        values = self.contributions[self.rows_]
        words = [self._word(row) for row in self.rows_]
        colors = [DARK if value > 0 else ACCENT for value in values]
        if self.start is not None:
            others = np.delete(self.contributions, self.rows_)
            values = np.append(values, others.sum())
            words.append(f"{len(others)} other rows")
            colors.append(PALE)
        places = np.arange(len(values))
        self.bars_ = ax.barh(places, values, color=colors, height=0.75)
        if self.start is not None:
            self.bars_[-1].set_edgecolor(MIDDLE)
        ax.axvline(0, color=MIDDLE, linewidth=0.8)
        ax.set_yticks(places, words, fontsize="small")
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        ax.margins(x=0.08)
        ax.locator_params(axis="x", nbins=5)
        ax.set(xlabel=_QUANTITIES[self.of])

    def _word(self, row: int) -> str:
        """The name of a training row."""
        if self.y is None:
            return f"row {row}"
        value = self.y[row]
        return f"row {row}: {value}" if self.labels else f"row {row}: {value:.4g}"

    def _draw_points(self, ax: Any) -> None:
        assert self.y is not None
        across = _columns(self.y) if self.labels else self.y.astype(float)
        for speak, color, name in (
            (self.contributions > 0, DARK, "for it"),
            (self.contributions <= 0, ACCENT, "against it"),
        ):
            self.points_.append(
                ax.scatter(
                    across[speak], self.contributions[speak], s=14, color=color, alpha=0.75,
                    linewidth=0, label=f"{speak.sum()} rows {name}",
                )
            )  # fmt: skip
        ax.axhline(0, color=MIDDLE, linewidth=0.8)
        if self.labels:
            names = np.unique(self.y)
            ax.set_xticks(range(len(names)), [str(name) for name in names])
        ax.set(
            xlabel="class of the training row" if self.labels else "target of the training row",
            ylabel=_QUANTITIES[self.of],
        )
        legend(ax)


@dataclass(frozen=True)
class _Shown:
    """Which output is explained, and what it is called.

    Attributes
    ----------
    start : float
        The output before training.
    column : int or None
        Of the contributions; None where there is one output.
    sign : int
        −1 for the first of two classes, where the only output is that of the second.
    response : str
        For the title.
    labels : bool
        Whether targets are labels of classes.
    """

    start: float
    column: int | None
    sign: int
    response: str
    labels: bool

    @classmethod
    def of(cls, found: FittedFlow, row: Any, target: Any) -> _Shown:
        flow = found.estimator
        if hasattr(flow, "classes_"):
            return cls._of_labels(found, row, target)
        n_outputs = flow.n_outputs_
        if target not in range(n_outputs) and not (target is None and n_outputs == 1):
            raise ValueError(
                f"target must say which output to explain, one of {list(range(n_outputs))}; "
                f"got {target!r}"
            )
        k, name = target or 0, "prediction" if target is None else f"prediction {target}"
        start = flow.target_mean_[k] + flow.target_scale_[k] * flow.initial_output_[k]
        if flow.loss in _LOGARITHMIC or getattr(flow.loss, "link", "identity") == "log":
            start = np.log(flow.target_scale_[k]) + flow.initial_output_[k]
            name = f"logarithm of the {name}"
        return cls(start, k if n_outputs > 1 else None, 1, name, labels=False)

    @classmethod
    def _of_labels(cls, found: FittedFlow, row: Any, target: Any) -> _Shown:
        flow = found.estimator
        predicted = np.asarray(found.predicting.predict(row))
        if target is None and predicted.ndim == 1:
            target = predicted[0]
        known = flow.classes_.tolist()
        if target not in known:
            raise ValueError(f"target must be the class to explain, one of {known}; got {target!r}")
        k, n_outputs = known.index(target), flow.n_outputs_
        labels, name = predicted.ndim == 1, f"output of {target}"
        column = k if n_outputs > 1 else None
        if n_outputs == len(known):
            return cls(flow.initial_output_[k], column, 1, name, labels=labels)
        # Probabilities of two classes add up to one, their logits to zero.
        both, start = float(flow.loss_name_ == "squared_error"), flow.initial_output_[0]
        return cls(start if k else both - start, column, 1 if k else -1, name, labels=labels)

    def of_output(self, explained: np.ndarray) -> np.ndarray:
        """Contributions to it, from those that `explain` has for one row."""
        return self.sign * (explained[0] if self.column is None else explained[0][:, self.column])

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Its targets, or all labels."""
        return y if y.ndim == 1 else y[:, self.column or 0]


def _columns(labels: np.ndarray) -> np.ndarray:
    """Places side by side for rows of one class, in their order."""
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(labels))
    for k, count in enumerate(counts):
        rank[index == k] = (np.arange(count) + 0.5) / count - 0.5
    return np.asarray(index + _COLUMN * rank)
