"""What holds for every display: from any estimator, drawn late and again, errors in words."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from sklearn_gflow import AdaptedFlowRegressor, plots
from sklearn_gflow.plots import (
    CollapseDisplay,
    ExplanationDisplay,
    FlowDisplay,
    KernelDisplay,
    SearchDisplay,
    SpectrumDisplay,
    StagesDisplay,
)
from tests.plots.fits import (
    KINDS,
    NUMBERS,
    SEARCHES,
    fit_to_labels,
    fit_to_numbers,
    grid_search,
    inside,
    of_labels,
    of_numbers,
)

pytestmark = pytest.mark.slow

DISPLAYS = [getattr(plots, name) for name in plots.__all__]
OF_A_FIT = [display for display in DISPLAYS if display is not SearchDisplay]
MADE = [(display, of_labels, fit_to_labels) for display in DISPLAYS] + [
    (display, of_numbers, fit_to_numbers) for display in DISPLAYS if display is not CollapseDisplay
]


def applicable(display):
    return SEARCHES if display is SearchDisplay else KINDS


@pytest.mark.parametrize(
    ("display", "kind"), [(display, kind) for display in DISPLAYS for kind in applicable(display)]
)
def test_every_estimator_has_its_displays(display, kind):
    for shown, of, fitted in MADE:
        if shown is display:
            made = of(display, fitted(kind))
            drawn = made.plot()
            assert drawn is made
            assert made.ax_.figure is made.figure_
            assert made.ax_.has_data()


@pytest.mark.parametrize(("display", "of", "fitted"), MADE)
def test_nothing_is_drawn_before_plot(display, of, fitted):
    made = of(display, fitted("CV"))
    assert plt.get_fignums() == []
    assert not hasattr(made, "ax_")


@pytest.mark.parametrize(("display", "of", "fitted"), MADE)
def test_a_display_can_be_drawn_again(display, of, fitted):
    made = of(display, fitted("CV"))
    first = made.plot().ax_
    panels = getattr(made, "axes_", [first])
    _, others = plt.subplots(1, len(panels), squeeze=False)
    given = others[0, 0] if len(panels) == 1 else others
    again = made.plot(given)
    assert again.ax_ is others[0, 0]
    assert again.ax_ is not first


@pytest.mark.parametrize(("display", "of", "fitted"), MADE)
@pytest.mark.parametrize("width", [None, 4.0])
def test_everything_lies_within_the_figure(display, of, fitted, width):
    """At the default size, and on a page of 400 px."""
    made = of(display, fitted("CV"))
    if width is not None and not isinstance(made, StagesDisplay):
        made.plot(plt.subplots(figsize=(width, 3), layout="constrained")[1])
    else:
        made.plot()
    made.figure_.canvas.draw()
    outer, inner = made.figure_.bbox_inches, made.figure_.get_tightbbox()
    assert inner.x0 >= outer.x0 - 0.02
    assert inner.y0 >= outer.y0 - 0.02
    assert inner.x1 <= outer.x1 + 0.02
    assert inner.y1 <= outer.y1 + 0.02


@pytest.mark.parametrize(("display", "of", "fitted"), MADE)
def test_settings_of_matplotlib_are_left_alone(display, of, fitted):
    before = dict(plt.rcParams)
    of(display, fitted("CV")).plot()
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("display", OF_A_FIT)
def test_an_estimator_without_a_flow_is_refused(display):
    ridge = Ridge().fit(*NUMBERS)
    more = [NUMBERS[0]] if display in (StagesDisplay, ExplanationDisplay) else []
    with pytest.raises(ValueError, match=r"Expected 'estimator' to be .* Got Ridge instead"):
        display.from_estimator(ridge, *more)
    with pytest.raises(NotFittedError):
        display.from_estimator(AdaptedFlowRegressor(), *more)
    search = grid_search(AdaptedFlowRegressor((4,)), refit=False).fit(*NUMBERS)
    with pytest.raises(ValueError, match="kept no best_estimator_; set refit=True"):
        display.from_estimator(search, *more)


@pytest.mark.parametrize(
    "display", [FlowDisplay, SpectrumDisplay, CollapseDisplay, ExplanationDisplay]
)
def test_an_unknown_kind_is_refused(display):
    with pytest.raises(ValueError, match=r"kind must be one of '(loss|eigenvalues|parts|rows)'"):
        of_labels(display, fit_to_labels()).plot(kind="nothing")


def test_the_flow_inside_is_what_is_shown():
    for kind in KINDS:
        model = fit_to_numbers(kind)
        np.testing.assert_array_equal(
            FlowDisplay.from_estimator(model).loss, inside(model).loss_curve_
        )
        np.testing.assert_array_equal(
            SpectrumDisplay.from_estimator(model).eigenvalues, inside(model).ntk_eigenvalues_
        )
        np.testing.assert_allclose(
            KernelDisplay.from_estimator(model).kernel, inside(model).ntk_gram_
        )


def test_displays_are_imported_and_made_without_matplotlib():
    code = (
        "import sys, numpy as np, sklearn_gflow; sklearn_gflow.plots\n"
        "assert 'matplotlib' not in sys.modules; sys.modules['matplotlib'] = None\n"
        "from sklearn_gflow import AdaptedFlowClassifier as C, AdaptedFlowClassifierCV as S\n"
        "from sklearn_gflow.plots import *\n"
        "X = np.random.default_rng(0).normal(size=(12, 2)); y = np.arange(12) % 3\n"
        "flow = C((4,), store_path=True, random_state=0).fit(X, y)\n"
        "search = S((4,), random_state=0).fit(X, y)\n"
        "made = [FlowDisplay.from_estimator(flow), SpectrumDisplay.from_estimator(flow, X),\n"
        "        CollapseDisplay.from_estimator(flow, X, y), KernelDisplay.from_estimator(flow),\n"
        "        StagesDisplay.from_estimator(flow, X, target=0),\n"
        "        ExplanationDisplay.from_estimator(flow, X[:1], y),\n"
        "        SearchDisplay.from_estimator(search)]\n"
        "for display in made:\n"
        "    try: display.plot()\n"
        "    except ImportError as e: assert \"install 'sklearn-gflow[plots]'\" in str(e), e\n"
        "    else: raise AssertionError(display)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
