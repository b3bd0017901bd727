"""Eigenvalues of the tangent kernel, its rank and its condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing

from sklearn_gflow.geometry import gram_spectrum
from sklearn_gflow.plots._axes import ACCENT, DARK, axes, legend, logarithmic, option, whole_numbers
from sklearn_gflow.plots._fitted import FittedFlow, fitted_flow

__all__ = ["SpectrumDisplay"]

# Eigenvalues of the same kernel, from two passes over the rows, perhaps in float32.
_SAME_KERNEL = 1e-3


@dataclass(eq=False, repr=False, kw_only=True)
class SpectrumDisplay:
    """Eigenvalues of G = DDᵀ at the start and at the end; condition and rank along the path.

    Make it with `from_estimator` or `from_data`, and draw it with `plot`.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n·Q,)
        At the solution, descending.
    rank : int
        How many of them count.
    start_eigenvalues : ndarray of shape (n·Q,) or None
        At the start, descending.
    start_rank : int or None
        How many of these count.
    t : ndarray of shape (n_points,) or None
        Times of the path.
    condition, ranks : ndarray of shape (n_points,) or None
        Along the path; NaN where a fit does not compute it.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        What ``kind`` asked for; of the eigenvalues those at the end.
    start_line_ : matplotlib Line2D or None
        The eigenvalues at the start.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_gflow import AdaptedFlowRegressor
    >>> from sklearn_gflow.plots import SpectrumDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> flow = AdaptedFlowRegressor((2,), random_state=0).fit(X, y)
    >>> display = SpectrumDisplay.from_estimator(flow, X)  # display.plot() draws it
    >>> display.rank, len(display.start_eigenvalues)
    (25, 442)
    """

    eigenvalues: np.ndarray
    rank: int
    start_eigenvalues: np.ndarray | None = None
    start_rank: int | None = None
    t: np.ndarray | None = None
    condition: np.ndarray | None = None
    ranks: np.ndarray | None = None

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any = None) -> Self:
        """Read the kernel of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted flow, or a pipeline or search around one.
        X : array-like of shape (n_samples, n_features), optional
            The rows that were trained on. With them the kernel of the start is computed too.

        Returns
        -------
        SpectrumDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no flow in it, or X are not the rows it was trained on.
        FactorizationError
            If the eigenvalues could not be had.
        """
        found = fitted_flow(estimator, cls.__name__)
        flow = found.estimator
        return cls(
            eigenvalues=flow.ntk_eigenvalues_,
            rank=flow.ntk_rank_,
            **_start(None if X is None else _gram_at_start(found, X), flow.rcond),
            t=flow.history_["t"],
            condition=flow.history_["condition"],
            ranks=flow.history_["rank"],
        )

    @classmethod
    def from_data(
        cls, gram: ArrayLike, start_gram: ArrayLike | None = None, *, rcond: float | None = None
    ) -> Self:
        """Decompose a Gram matrix, and perhaps that of the start.

        Parameters
        ----------
        gram : array-like of shape (m, m)
            Symmetric, positive semidefinite.
        start_gram : array-like of shape (m, m), optional
            The same at the start.
        rcond : float, optional
            As `geometry.relative_threshold` takes it.

        Returns
        -------
        SpectrumDisplay

        Raises
        ------
        FactorizationError
            If the eigenvalues could not be had.
        """
        spectrum = gram_spectrum(torch.as_tensor(gram), rcond=rcond)
        start = _start(start_gram, rcond)
        return cls(eigenvalues=spectrum.eigenvalues.numpy(), rank=spectrum.rank, **start)

    def plot(self, ax: Any = None, *, kind: str = "eigenvalues") -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Those of a new figure by default.
        kind : {"eigenvalues", "condition", "rank"}, default="eigenvalues"
            Eigenvalues in descending order, or the condition or the rank of the Gram against t.

        Returns
        -------
        SpectrumDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If ``kind`` is out of range, or the fit has not kept what it asks for.
        """
        option("kind", kind, ("eigenvalues", "condition", "rank"))
        column = None if kind == "eigenvalues" else self._column(kind)
        ax = axes(ax)
        self.ax_, self.figure_ = ax, ax.figure
        self.start_line_ = None
        if column is None:
            self._draw_eigenvalues(ax)
        else:
            (self.line_,) = ax.plot(self.t, column, color=DARK, marker="o", markersize=3.5)
            ax.set(xlabel="time $t$ of the flow", ylabel=f"{kind} of the kernel")
            logarithmic(ax) if kind == "condition" else whole_numbers(ax)
        ax.grid(visible=True, alpha=0.25)
        return self

    def _column(self, kind: str) -> np.ndarray:
        column = self.condition if kind == "condition" else self.ranks
        if column is None or not np.isfinite(column).any():
            raise ValueError(
                f"no {kind} along the path is known; fit with batch_size=None, and for the rank "
                "with damping=0.0"
            )
        return column

    def _draw_eigenvalues(self, ax: Any) -> None:
        if self.start_eigenvalues is not None and self.start_rank is not None:
            (self.start_line_,) = ax.plot(
                *_that_count(self.start_eigenvalues, self.start_rank),
                color=ACCENT, linestyle="--", label=f"at the start, rank {self.start_rank}",
            )  # fmt: skip
        (self.line_,) = ax.plot(
            *_that_count(self.eigenvalues, self.rank),
            color=DARK, label=f"at the end, rank {self.rank}",
        )  # fmt: skip
        size = len(self.eigenvalues)
        ax.set(xlabel=f"eigenvalue, in order, of {size}", ylabel="eigenvalue of the kernel")
        ax.set_xlim(1 - 0.03 * size, 1.03 * size)
        logarithmic(ax)
        legend(ax)


def _that_count(eigenvalues: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Index and eigenvalue; the others are rounding noise, dozens of powers of ten below."""
    return np.arange(1, rank + 1), eigenvalues[:rank]


def _start(gram: Any, rcond: float | None) -> dict[str, Any]:
    if gram is None:
        return {}
    spectrum = gram_spectrum(torch.as_tensor(gram), rcond=rcond)
    return {"start_eigenvalues": spectrum.eigenvalues.numpy(), "start_rank": spectrum.rank}


def _gram_at_start(found: FittedFlow, X: Any) -> np.ndarray:
    """G at θ₀, on the rows that the kernel at the solution is of.

    Raises
    ------
    ValueError
        If these are not among the rows of X.
    """
    flow, inputs = found.estimator, found.inputs(X)
    rows = flow.kernel_rows_
    complaint = (
        "X must be the rows that the estimator was trained on, in their order (without those of "
        "weight zero, and those that early_stopping=True held out)"
    )
    if rows.max() >= inputs.shape[0]:
        raise ValueError(f"{complaint}; it has {inputs.shape[0]} rows, too few")
    inputs = _safe_indexing(inputs, rows)
    trace = float(flow.ntk_eigenvalues_.sum())
    if abs(np.trace(flow.ntk(inputs)) - trace) > _SAME_KERNEL * trace:
        raise ValueError(f"{complaint}; on these the kernel is another")
    gram: np.ndarray = flow.ntk(inputs, at="start")
    return gram
