"""What the displays share when they draw: Axes, colours that survive grey, options by name.

matplotlib is imported here, and not before something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

__all__ = [
    "ACCENT",
    "DARK",
    "MIDDLE",
    "PALE",
    "axes",
    "drawn_with",
    "in_first_column",
    "legend",
    "logarithmic",
    "option",
    "panels",
    "ramp",
    "whole_numbers",
]

# One colour, and greys: told apart by lightness alone.
ACCENT: Final = "#b2182b"
DARK: Final = "0.1"
MIDDLE: Final = "0.5"
PALE: Final = "0.8"

# In inches: lettering of the usual 10 points is still read where a page shows them 400 px wide.
_SIZE: Final = (4.8, 3.6)
_PANEL: Final = (2.4, 2.6)
_MOST_IN_A_ROW: Final = 3
_FEW_POWERS: Final = 2


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "plot draws with matplotlib, which is not installed; "
            "run pip install 'sklearn-gflow[plots]'"
        ) from error
    return plt


def axes(ax: Any, *, layout: str = "constrained") -> Any:
    """The Axes to draw on: those handed over, or those of a new figure."""
    plt = _pyplot()
    return plt.subplots(figsize=_SIZE, layout=layout)[1] if ax is None else ax


def panels(ax: Any, n: int) -> list[Any]:
    """Axes for n panels that share both scales.

    Raises
    ------
    ValueError
        If other than n Axes were handed over.
    """
    if n == 1 and ax is not None and not np.iterable(ax):
        return [ax]
    if ax is None:
        return _new_panels(n)
    given = np.asarray(ax, dtype=object).ravel().tolist()
    if len(given) != n:
        raise ValueError(
            f"ax must hold {n} Axes, one a panel, and holds {len(given)}; make them with "
            f"plt.subplots(1, {n}), or leave ax out"
        )
    return given


def _new_panels(n: int) -> list[Any]:
    """n Axes of a new figure, at most three in a row."""
    plt = _pyplot()
    if n == 1:
        return [axes(None)]
    n_columns = 2 if n == 4 else min(n, _MOST_IN_A_ROW)
    n_rows = -(-n // n_columns)
    size = (_PANEL[0] * n_columns, _PANEL[1] * n_rows)
    figure, grid = plt.subplots(
        n_rows, n_columns, sharex=True, sharey=True, squeeze=False, figsize=size,
        layout="constrained",
    )  # fmt: skip
    for unused in grid.flat[n:]:
        figure.delaxes(unused)
    # Above a gap the labels of the column are missing: the panel there has its own.
    for above in grid.flat[n - n_columns : n]:
        above.xaxis.set_tick_params(labelbottom=True)
    return list(grid.flat[:n])


def in_first_column(ax: Any) -> bool:
    """Whether no panel stands to the left of this one."""
    spec = ax.get_subplotspec()
    return spec is None or bool(spec.is_first_col())


def ramp(n: int) -> list[Any]:
    """n colours from light to dark, for an ordered family of lines."""
    _pyplot()
    import matplotlib

    # The light end of the map is left out: it does not show on white.
    return list(matplotlib.colormaps["viridis"](np.linspace(0.82, 0.0, n)))


def legend(ax: Any) -> None:
    """A legend that stays readable where a line runs beneath it."""
    ax.legend(framealpha=0.9, edgecolor="none", fontsize="small")


def logarithmic(ax: Any) -> None:
    """A logarithmic axis, with plain numbers where it spans few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    powers = np.log10(high / low)
    if powers < _FEW_POWERS:
        plain = (
            MaxNLocator(5, steps=[1, 2, 5, 10]) if powers < 1 else LogLocator(subs=(1.0, 2.0, 5.0))
        )
        ax.yaxis.set_major_locator(plain)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def whole_numbers(ax: Any) -> None:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def option(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse what is not among the values of an option.

    Raises
    ------
    ValueError
        Naming the option and its values.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def drawn_with(own: Mapping[str, Any], users: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keywords of a line; the user's come first, by whichever of matplotlib's names."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**own, **normalize_kwargs(dict(users or {}), Line2D)}
