"""Collapse of the classes along a flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sklearn_gflow.diagnostics import collapse
from sklearn_gflow.plots._axes import (
    ACCENT,
    DARK,
    MIDDLE,
    PALE,
    axes,
    legend,
    logarithmic,
    option,
    ramp,
)
from sklearn_gflow.plots._fitted import FittedFlow, fitted_flow

__all__ = ["CollapseDisplay"]

# All rows start at one output: what lies within classes there is rounding, and has no place on a
# logarithmic axis.
_ROUNDING = 1e-12


@dataclass(eq=False, repr=False, kw_only=True)
class CollapseDisplay:
    """The loss within and between classes (3.11), and class means on their way to the corners.

    Make it with `from_estimator` or `from_data`, and draw it with `plot`.

    Parameters
    ----------
    t : ndarray of shape (n_points,)
        Times of the path.
    within, between : ndarray of shape (n_points,)
        The two parts of the loss.
    class_means : ndarray of shape (n_points, n_classes, n_classes) or None
        Mean probabilities of the rows of each class.
    classes : ndarray of shape (n_classes,) or None
        Labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    within_line_, between_line_ : matplotlib Line2D
        With ``kind="parts"``.
    lines_ : list of matplotlib Line2D
        With ``kind="means"``: the way of each class.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_gflow import AdaptedFlowClassifier
    >>> from sklearn_gflow.plots import CollapseDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> flow = AdaptedFlowClassifier((16,), store_path=True, random_state=0).fit(X, y)
    >>> display = CollapseDisplay.from_estimator(flow, X, y)  # display.plot(kind="means") draws it
    >>> display.class_means.shape == (flow.n_iter_ + 1, 3, 3)
    True
    """

    t: np.ndarray
    within: np.ndarray
    between: np.ndarray
    class_means: np.ndarray | None = None
    classes: np.ndarray | None = None

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any = None, y: ArrayLike | None = None) -> Self:
        """Read the path of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            A fitted flow, or a pipeline or search around one.
        X : array-like of shape (n_samples, n_features), optional
            Rows whose class means are followed; the flow must have kept its path
            (``store_path=True``).
        y : array-like of shape (n_samples,), optional
            Their labels.

        Returns
        -------
        CollapseDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no classifying flow in it, its path was not kept, or only one of X and y is
            given.
        """
        found = fitted_flow(estimator, cls.__name__)
        flow = found.estimator
        if not hasattr(flow, "classes_"):
            raise ValueError(
                f"Expected 'estimator' to be a classifier. Got {type(flow).__name__} instead."
            )
        found.kept("collapse_", "rows that have several labels have no classes to collapse")
        if (X is None) != (y is None):
            raise ValueError("X and y belong together; hand over both or neither")
        return cls(
            t=flow.history_["t"],
            within=flow.history_["within_class"],
            between=flow.history_["between_class"],
            class_means=None if X is None else _class_means(found, X, np.asarray(y)),
            classes=flow.classes_,
        )

    @classmethod
    def from_data(
        cls,
        outputs: Sequence[ArrayLike],
        labels: ArrayLike,
        t: ArrayLike,
        *,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Split outputs along any path, against one-hot labels.

        Parameters
        ----------
        outputs : sequence of array-like of shape (n_samples, n_classes)
            Estimates of probabilities, one array a point of the path.
        labels : int array-like of shape (n_samples,)
            Class index of each sample.
        t : array-like of shape (n_points,)
            Times of the points.
        classes : array-like of shape (n_classes,), optional
            Labels for the legend.

        Returns
        -------
        CollapseDisplay
        """
        path = [np.asarray(x, dtype=float) for x in outputs]
        corners = np.eye(path[0].shape[1])
        splits = [collapse(x, labels, corners) for x in path]
        return cls(
            t=np.asarray(t, dtype=float),
            within=np.array([split.within for split in splits]),
            between=np.array([split.between for split in splits]),
            class_means=np.array([split.class_means for split in splits]),
            classes=np.arange(len(corners)) if classes is None else np.asarray(classes),
        )

    def plot(self, ax: Any = None, *, kind: str = "parts") -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Those of a new figure by default.
        kind : {"parts", "means"}, default="parts"
            The two parts of the loss against t; or the class means: for two classes against t,
            for more on the simplex of probabilities, laid flat as a regular polygon with a class
            at each corner.

        Returns
        -------
        CollapseDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If ``kind`` is out of range, or the means are not known.
        """
        option("kind", kind, ("parts", "means"))
        if kind == "means" and self.class_means is None:
            raise ValueError(
                "the class means along the path are not known; set store_path=True before fit, "
                "and hand X and y to from_estimator"
            )
        ax = axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        if kind == "parts":
            self._draw_parts(ax)
        else:
            self._draw_means(ax)
        return self

    def _draw_parts(self, ax: Any) -> None:
        rounding = _ROUNDING * (self.within + self.between)
        within, between = (
            np.where(part > rounding, part, np.nan) for part in (self.within, self.between)
        )
        (self.within_line_,) = ax.plot(
            self.t, within, color=ACCENT, linestyle="--", marker="o", markersize=3.5,
            label="within classes",
        )  # fmt: skip
        (self.between_line_,) = ax.plot(
            self.t, between, color=DARK, marker="o", markersize=3.5, label="between classes"
        )
        ax.set(xlabel="time $t$ of the flow", ylabel="part of the loss")
        logarithmic(ax)
        ax.grid(visible=True, alpha=0.25)
        legend(ax)

    def _draw_means(self, ax: Any) -> None:
        means = self.class_means
        assert means is not None
        n_classes = means.shape[1]
        names = range(n_classes) if self.classes is None else self.classes
        colors = ramp(n_classes)
        if n_classes == 2:
            ways = [(self.t, means[:, k, 1]) for k in range(2)]
            self._frame_interval(ax, names)
        else:
            corners = _polygon(n_classes)
            ways = [tuple((means[:, k] @ corners).T) for k in range(n_classes)]
            _frame_polygon(ax, corners, names)
        self.lines_ = [
            ax.plot(*way, color=color, marker=marker, markersize=4, zorder=3)[0]
            for way, color, marker in zip(ways, colors, _markers(n_classes), strict=True)
        ]

    def _frame_interval(self, ax: Any, names: Any) -> None:
        for corner, name in enumerate(names):
            ax.axhline(corner, color=PALE, zorder=1)
            ax.annotate(
                f"{name}", (0.02, corner), (0, 3 - 16 * corner), color=MIDDLE,
                xycoords=("axes fraction", "data"), textcoords="offset points",
            )  # fmt: skip
        ax.set(xlabel="time $t$ of the flow", ylabel=f"mean probability of {names[1]}")
        ax.set_ylim(-0.04, 1.04)
        ax.grid(visible=True, alpha=0.25)


def _class_means(found: FittedFlow, X: Any, y: np.ndarray) -> np.ndarray:
    """Mean probabilities of each class along the path, shape (n_points, n_classes, n_classes).

    Raises
    ------
    ValueError
        If the path was not kept.
    """
    flow = found.estimator
    members = [y == label for label in flow.classes_]
    if not all(member.any() for member in members):
        raise ValueError("y must have rows of every class, whose means are to be drawn")
    stages = flow.staged_predict_proba(found.inputs(X))
    return np.array([[p[member].mean(axis=0) for member in members] for p in stages])


def _polygon(n: int) -> np.ndarray:
    """Corners on the unit circle, the first at the left below: a triangle stands on its side."""
    angles = np.pi * (-0.5 - 1 / n + 2 * np.arange(n) / n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _frame_polygon(ax: Any, corners: np.ndarray, names: Any) -> None:
    ax.fill(*corners.T, facecolor="none", edgecolor=MIDDLE, linewidth=1)
    for corner, name in zip(corners, names, strict=True):
        side = -np.sign(round(corner[0], 6))
        ax.annotate(
            f"{name}", corner, 6 * corner, textcoords="offset points",
            ha={1: "right", 0: "center", -1: "left"}[side],
            va="bottom" if corner[1] > 0 else "top",
        )  # fmt: skip
    ax.set_aspect("equal")
    low, high = corners[:, 1].min(), corners[:, 1].max()
    ax.set(xlim=(-1.3, 1.3), ylim=(low - 0.2, high + 0.2))
    ax.set_axis_off()


def _markers(n: int) -> list[str]:
    return [("o", "s", "^", "D", "v")[k % 5] for k in range(n)]
