"""A fit of one or two features, unfolding in t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from sklearn_gflow.plots._axes import DARK, axes, in_first_column, legend, panels, ramp
from sklearn_gflow.plots._fitted import FittedFlow, fitted_flow

__all__ = ["StagesDisplay"]

_MARGIN: Final = 0.05  # of the range of X, on both sides


@dataclass(eq=False, repr=False, kw_only=True)
class StagesDisplay:
    """Predictions on a grid at several times of a flow.

    Make it with `from_estimator`, and draw it with `plot`.

    Parameters
    ----------
    grid : list of ndarray of shape (n_grid,)
        Values of each of the one or two features.
    stages : ndarray of shape (n_times, n_grid) or (n_times, n_grid, n_grid)
        Predictions; with two features the first varies along the last axis.
    t : ndarray of shape (n_times,)
        Their times.
    X : ndarray of shape (n_samples, n_features) or None
        Rows to draw beside them.
    y : ndarray of shape (n_samples,) or None
        Their targets; of a classifier 1 for the class that is shown, 0 for others.
    feature_names : list of str or None
        For the axes.
    response : str
        What is predicted, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel.
    axes_ : list of matplotlib Axes
        One for one feature; a panel for each time for two.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One feature: a line for each time.
    surfaces_ : list of matplotlib QuadMesh
        Two features: a map for each time.
    points_ : list of matplotlib PathCollection
        The rows, where they are known.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_gflow import AdaptedFlowRegressor
    >>> from sklearn_gflow.plots import StagesDisplay
    >>> X = np.linspace(-2, 2, 20)[:, None]
    >>> flow = AdaptedFlowRegressor((16,), schedule=4, store_path=True, random_state=0)
    >>> flow = flow.fit(X, np.sin(2 * X[:, 0]))
    >>> display = StagesDisplay.from_estimator(flow, X)  # display.plot() draws it
    >>> display.stages.shape
    (5, 200)
    """

    grid: list[np.ndarray]
    stages: np.ndarray
    t: np.ndarray
    X: np.ndarray | None = None
    y: np.ndarray | None = None
    feature_names: list[str] | None = None
    response: str = "prediction"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        n_stages: int = 5,
        grid_resolution: int | None = None,
        target: Any = None,
    ) -> Self:
        """Predict on a grid over the range of X at several times.

        Parameters
        ----------
        estimator : estimator
            A flow fitted with ``store_path=True``, or a pipeline or search around one.
        X : array-like of shape (n_samples, n_features)
            Rows of one or two features, in the form in which the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
            Their targets.
        n_stages : int, default=5
            How many points of the path, spread evenly over the time up to the solution, the start
            and the solution among them.
        grid_resolution : int, optional
            Points along a feature: 200 by default, and 50 where there are two.
        target : int or label, optional
            Of several outputs the index of the one to show. Of a classifier the class whose
            probability is shown; the second of two by default.

        Returns
        -------
        StagesDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no flow in it, its path was not stored, there are more than two features, or
            ``target`` is missing or unknown.
        """
        found = fitted_flow(estimator, cls.__name__)
        rows = np.asarray(X, dtype=float)
        if rows.ndim != 2 or rows.shape[1] not in (1, 2):
            raise ValueError(
                f"X must have one or two features to be drawn over; its shape is {rows.shape}"
            )
        if n_stages < 2:
            raise ValueError(f"n_stages must be at least 2, the start and the end; got {n_stages}")
        n_grid = grid_resolution or (200 if rows.shape[1] == 1 else 50)
        grid = [_range(column, n_grid) for column in rows.T]
        mesh = np.stack([axis.ravel() for axis in np.meshgrid(*grid)], axis=1)
        shown = _Shown.of(found, target)
        at = _points(found.estimator, n_stages)
        every = list(shown.stages(found.inputs(_like(X, mesh))))
        return cls(
            grid=grid,
            stages=np.stack([every[k].reshape([n_grid] * len(grid)) for k in at]),
            t=found.estimator.history_["t"][at],
            X=rows,
            y=None if y is None else shown.targets(np.asarray(y)),
            feature_names=[str(name) for name in getattr(X, "columns", [])] or None,
            response=shown.response,
        )

    def plot(self, ax: Any = None, *, cmap: str = "cividis") -> Self:
        """Draw it: over one feature a line for each time, over two a map for each.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, optional
            One for a single feature, one for each time for two; those of a new figure by default.
        cmap : str, default="cividis"
            A colour map of matplotlib, for the maps.

        Returns
        -------
        StagesDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If there are more or fewer Axes than panels.
        """
        self.lines_: list[Any] = []
        self.surfaces_: list[Any] = []
        self.points_: list[Any] = []
        if len(self.grid) == 1:
            self.axes_ = [axes(ax)]
            self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
            self._draw_lines(self.ax_)
        else:
            self.axes_ = panels(ax, len(self.t))
            self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
            self._draw_maps(cmap)
        return self

    def _draw_lines(self, ax: Any) -> None:
        if self.X is not None and self.y is not None:
            self.points_ = [
                ax.scatter(self.X[:, 0], self.y, s=18, color="white", edgecolor=DARK, zorder=3)
            ]
        widths = np.linspace(1.0, 2.2, len(self.t))
        for t, stage, color, width in zip(
            self.t, self.stages, ramp(len(self.t)), widths, strict=True
        ):
            self.lines_ += ax.plot(
                self.grid[0], stage, color=color, linewidth=width, label=f"t = {t:.2g}"
            )
        ax.set(xlabel=self._feature(0), ylabel=self.response)
        legend(ax)

    def _draw_maps(self, cmap: str) -> None:
        low, high = self.stages.min(), self.stages.max()
        for panel, stage, t in zip(self.axes_, self.stages, self.t, strict=True):
            self.surfaces_.append(
                panel.pcolormesh(
                    *self.grid, stage, cmap=cmap, vmin=low, vmax=high, shading="gouraud"
                )
            )
            panel.set_title(f"t = {t:.2g}")
            self._draw_points(panel, cmap, low, high)
        for panel in self.axes_:
            panel.set_xlabel(self._feature(0))
            if in_first_column(panel):
                panel.set_ylabel(self._feature(1))
        self.figure_.colorbar(self.surfaces_[0], ax=self.axes_, label=self.response)

    def _draw_points(self, panel: Any, cmap: str, low: float, high: float) -> None:
        if self.X is not None and self.y is not None:
            style = {"cmap": cmap, "vmin": low, "vmax": high, "edgecolor": "white", "s": 16}
            self.points_.append(panel.scatter(*self.X.T, c=self.y, linewidth=0.6, **style))

    def _feature(self, k: int) -> str:
        return f"feature {k}" if self.feature_names is None else self.feature_names[k]


@dataclass(frozen=True)
class _Shown:
    """Which of the outputs is shown, and what it is called."""

    flow: Any
    column: int
    response: str

    @classmethod
    def of(cls, found: FittedFlow, target: Any) -> _Shown:
        flow = found.estimator
        if hasattr(flow, "classes_"):
            label = _label(flow.classes_.tolist(), target)
            column = flow.classes_.tolist().index(label)
            return cls(flow, column, f"probability of {label}")
        n_outputs = flow.n_outputs_
        if target not in range(n_outputs) and not (target is None and n_outputs == 1):
            raise ValueError(
                f"target must say which output to show, one of {list(range(n_outputs))}; "
                f"got {target!r}"
            )
        return cls(flow, target or 0, "prediction" if target is None else f"prediction {target}")

    def stages(self, X: Any) -> Any:
        """The output on some rows at every point of the path."""
        if hasattr(self.flow, "classes_"):
            return (p[:, self.column] for p in self.flow.staged_predict_proba(X))
        return (p.reshape(len(p), -1)[:, self.column] for p in self.flow.staged_predict(X))

    def targets(self, y: np.ndarray) -> np.ndarray:
        """What the output is to become."""
        if hasattr(self.flow, "classes_"):
            return (y == self.flow.classes_[self.column]).astype(float)
        return y.reshape(len(y), -1)[:, self.column].astype(float)


def _label(classes: list[Any], target: Any) -> Any:
    if target is None and len(classes) == 2:
        return classes[1]
    if target not in classes:
        raise ValueError(f"target must be the class to show, one of {classes}; got {target!r}")
    return target


def _points(flow: Any, n_stages: int) -> np.ndarray:
    """Points of the path next to times that are spread evenly, up to the solution."""
    t = flow.history_["t"]
    nearest = np.abs(t[:, None] - np.linspace(t[0], flow.t_, n_stages)).argmin(axis=0)
    if len(np.unique(nearest)) == n_stages:
        return nearest
    return np.unique(np.linspace(0, nearest[-1], n_stages).round().astype(int))  # a short path


def _range(column: np.ndarray, n: int) -> np.ndarray:
    margin = _MARGIN * (column.max() - column.min())
    return np.linspace(column.min() - margin, column.max() + margin, n)


def _like(X: Any, values: np.ndarray) -> Any:
    """Values in the form of X, whose names of columns the estimator may know."""
    return type(X)(values, columns=X.columns) if hasattr(X, "iloc") else values
