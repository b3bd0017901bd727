"""The tangent kernel as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import type_of_target

from sklearn_gflow.diagnostics import kernel_blocks
from sklearn_gflow.plots._axes import axes
from sklearn_gflow.plots._fitted import FittedFlow, fitted_flow

__all__ = ["KernelDisplay"]

_SHORT = 4  # letters of a class name that fit beneath the picture
_SCALES = {True: "cosine of the gradients", False: r"kernel $\Theta$"}
# The colours are for the values off the diagonal, but for so many percent at both ends.
_BEYOND = 1.0


@dataclass(eq=False, repr=False, kw_only=True)
class KernelDisplay:
    """The tangent kernel between rows, sorted by class or by target.

    Make it with `from_estimator` or `from_data`, and draw it with `plot`.

    Parameters
    ----------
    kernel : ndarray of shape (n, n)
        Mean over the outputs, Σ_q Θ_qq(xᵢ, xⱼ)/Q, in the order of the rows.
    y : ndarray of shape (n,) or None
        Labels or targets to sort by.
    labels : bool
        Whether y are labels of classes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage
    colorbar_ : matplotlib Colorbar or None
    order_ : ndarray of shape (n,)
        The rows as they were drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_gflow import AdaptedFlowClassifier
    >>> from sklearn_gflow.plots import KernelDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> flow = AdaptedFlowClassifier((16,), random_state=0).fit(X, y)
    >>> display = KernelDisplay.from_estimator(flow, y=y)  # display.plot() draws it
    >>> display.kernel.shape
    (150, 150)
    """

    kernel: np.ndarray
    y: np.ndarray | None = None
    labels: bool = False

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any = None, y: ArrayLike | None = None) -> Self:
        """Read the kernel of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted flow, or a pipeline or search around one.
        X : array-like of shape (n_samples, n_features), optional
            Rows to evaluate the kernel on; by default it is ``ntk_gram_``, that of the training
            rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
            Labels or targets of X, or of the training rows, to sort by; of several targets the
            first.

        Returns
        -------
        KernelDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no flow in it, neither X nor a stored Gram is at hand, or y does not fit.
        """
        found = fitted_flow(estimator, cls.__name__)
        flow = found.estimator
        gram = _gram(found, X)
        if y is not None and X is None:
            y = _of_kernel_rows(flow, np.asarray(y))
        display = cls.from_data(gram, y, n_outputs=flow.n_outputs_)
        display.labels = hasattr(flow, "classes_")
        return display

    @classmethod
    def from_data(
        cls, kernel: ArrayLike, y: ArrayLike | None = None, *, n_outputs: int = 1
    ) -> Self:
        """Take any kernel matrix.

        Parameters
        ----------
        kernel : array-like of shape (n·Q, n·Q)
            Sample-major, as ``ntk`` gives it.
        y : array-like of shape (n,) or (n, n_targets), optional
            To sort by. `sklearn.utils.multiclass.type_of_target` tells whether they are labels.
        n_outputs : int, default=1
            Q.

        Returns
        -------
        KernelDisplay

        Raises
        ------
        ValueError
            If y has another length than the kernel has rows.
        """
        blocks = kernel_blocks(torch.as_tensor(kernel), n_outputs)
        mean = blocks.diagonal(dim1=2, dim2=3).mean(-1).numpy()
        if y is None:
            return cls(kernel=mean)
        targets = np.asarray(y)
        first = targets if targets.ndim == 1 else targets[:, 0]
        if len(first) != len(mean):
            raise ValueError(
                f"y must have a value for each row of the kernel, {len(mean)}; it has {len(first)}"
            )
        kind = type_of_target(first)
        return cls(kernel=mean, y=first, labels=kind in ("binary", "multiclass"))

    def plot(
        self,
        ax: Any = None,
        *,
        normalize: bool = True,
        sort: bool = True,
        cmap: str = "cividis",
        colorbar: bool = True,
    ) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Those of a new figure by default.
        normalize : bool, default=True
            Whether to draw the cosines Θᵢⱼ/√(Θᵢᵢ Θⱼⱼ) between the gradients of two rows, which are
            1 on the diagonal, or Θ itself.
        sort : bool, default=True
            Whether to sort by y.
        cmap : str, default="cividis"
            A colour map of matplotlib. The default grows lighter from small to large.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        KernelDisplay
            This one.

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        ax = axes(ax, layout="compressed")  # a square picture leaves room at its sides
        self.ax_, self.figure_ = ax, ax.figure
        y = self.y if sort else None
        unsorted = np.arange(len(self.kernel))
        self.order_ = unsorted if y is None else np.argsort(y, kind="stable")
        drawn = self.kernel[np.ix_(self.order_, self.order_)]
        drawn = _cosines(drawn) if normalize else drawn
        low, high = _limits(drawn)
        self.image_ = ax.imshow(drawn, cmap=cmap, vmin=low, vmax=high)
        self.colorbar_ = None
        if colorbar:
            # The picture stays at the left of its place: a layout that counts on the room which
            # a square leaves there would cut off names of classes.
            self.colorbar_ = ax.figure.colorbar(
                self.image_, ax=ax, label=_SCALES[normalize], extend="both", fraction=0.05,
                pad=0.03, panchor=(0.0, 0.5),
            )  # fmt: skip
        if y is None:
            ax.set(xlabel="row", ylabel="row")
        elif self.labels:
            _label_by_class(ax, y)
        else:
            _label_by_target(ax, y[self.order_].astype(float))
        return self


def _label_by_class(ax: Any, y: np.ndarray) -> None:
    """A line between classes, and the name at the middle of each."""
    names, sizes = np.unique(y, return_counts=True)
    ends = np.cumsum(sizes)
    for end in ends[:-1] - 0.5:
        ax.axhline(end, color="white", linewidth=1)
        ax.axvline(end, color="white", linewidth=1)
    words = [str(name) for name in names]
    ax.set_yticks(ends - sizes / 2 - 0.5, words)
    short = max(map(len, words)) <= _SHORT
    ax.set_xticks(ends - sizes / 2 - 0.5, words if short else [""] * len(words))
    ax.tick_params(length=0)
    ax.set(xlabel="rows, by class")


def _label_by_target(ax: Any, ascending: np.ndarray) -> None:
    """Targets at five of the rows."""
    at = np.linspace(0, len(ascending) - 1, 5).round().astype(int)
    words = [f"{value:.3g}" for value in ascending[at]]
    ax.set_yticks(at, words)
    ax.set_xticks(at, words)
    ax.set(xlabel="target, of rows in its order")


def _gram(found: FittedFlow, X: Any) -> np.ndarray:
    gram: np.ndarray
    if X is not None:
        gram = found.estimator.ntk(found.inputs(X))
    else:
        gram = found.kept("ntk_gram_", "set store_gram=True before fit, or hand over the rows as X")
    return gram


def _of_kernel_rows(flow: Any, y: np.ndarray) -> np.ndarray:
    """Targets of the rows that ``ntk_gram_`` belongs to, all or a subsample.

    Raises
    ------
    ValueError
        If it is not known which they are.
    """
    rows = flow.kernel_rows_
    if len(y) == len(rows):
        return y
    # Numbers of rows are those of the rows trained on, and which were held out is not recorded.
    if flow.early_stopping is True or len(rows) == rows.max() + 1 or len(y) <= rows.max():
        raise ValueError(
            f"y must have the targets of the {len(rows)} rows that ntk_gram_ is of (not of those "
            f"held out, or of weight zero), and has {len(y)}; hand over X with it instead"
        )
    return y[rows]


def _limits(drawn: np.ndarray) -> tuple[float, float]:
    others = drawn[~np.eye(len(drawn), dtype=bool)]
    low, high = np.nanpercentile(others if others.size else drawn, [_BEYOND, 100 - _BEYOND])
    return float(low), float(high)


def _cosines(kernel: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.diag(kernel))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines: np.ndarray = kernel / lengths / lengths[:, None]
    return cosines
