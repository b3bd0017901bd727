"""Small fits that the tests of the displays share, each made once."""

from functools import cache

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV
from sklearn_gflow.plots import (
    CollapseDisplay,
    ExplanationDisplay,
    FlowDisplay,
    KernelDisplay,
    SearchDisplay,
    SpectrumDisplay,
    StagesDisplay,
)
from tests.estimators.data import classes, classifier, regressor, small, table

NUMBERS = table(30, 2)
NAMES = np.array(["one", "three thousand", "two"])
LABELS = classes(30, 2)[0], NAMES[classes(30, 2)[1]]
# Over folds, so that all pairs have a score.
SEARCHED = {"encodings": [None], "alphas": [0.1, 0.5], "cv": 2}
FLOW_GRID = {"alpha": [0.1, 0.5], "t_end": [0.3, 0.6, 0.9]}


def piped(estimator):
    return make_pipeline(StandardScaler(), estimator)


def grid_search(estimator, **parameters):
    """Over the flow, by itself or behind a scaler."""
    flow = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    prefix = "" if flow is estimator else f"{type(flow).__name__.lower()}__"
    grid = {f"{prefix}{name}": values for name, values in FLOW_GRID.items()}
    return GridSearchCV(estimator, grid, cv=2, **parameters)


def made(kind, flow, search):
    """A flow with its path, by itself or in something else."""
    return {
        "plain": lambda: flow,
        "pipeline": lambda: piped(flow),
        "CV": lambda: search,
        "CV in a pipeline": lambda: piped(search),
        "grid": lambda: grid_search(flow),
        "grid over a pipeline": lambda: grid_search(piped(flow)),
    }[kind]()


@cache
def fit_to_numbers(kind="plain", **parameters):
    """A regressor."""
    flow = regressor(**{"store_path": True, **parameters})
    search = small(AdaptedFlowRegressorCV, **SEARCHED, store_path=True)
    return made(kind, flow, search).fit(*NUMBERS)


@cache
def fit_to_labels(kind="plain", **parameters):
    """A classifier."""
    flow = classifier(**{"store_path": True, **parameters})
    search = small(AdaptedFlowClassifierCV, **SEARCHED, store_path=True)
    return made(kind, flow, search).fit(*LABELS)


KINDS = ["plain", "pipeline", "CV", "CV in a pipeline", "grid", "grid over a pipeline"]
SEARCHES = KINDS[2:]


def of_labels(display, model):
    """A display of a classifier, with all that it can be given."""
    X, y = LABELS
    given = {
        FlowDisplay: {},
        SpectrumDisplay: {"X": X},
        CollapseDisplay: {"X": X, "y": y},
        ExplanationDisplay: {"X": X[3:4], "y": y},
        KernelDisplay: {"y": y},
        SearchDisplay: {},
        StagesDisplay: {"X": X, "y": y, "target": "two", "grid_resolution": 8},
    }
    return display.from_estimator(model, **given[display])


def of_numbers(display, model):
    """The same of a regressor."""
    X, y = NUMBERS
    given = {
        ExplanationDisplay: {"X": X[3:4], "y": y},
        FlowDisplay: {},
        SpectrumDisplay: {"X": X},
        KernelDisplay: {"y": y},
        SearchDisplay: {},
        StagesDisplay: {"X": X, "y": y, "grid_resolution": 8},
    }
    return display.from_estimator(model, **given[display])


def inside(model):
    """The flow in a pipeline or search."""
    while not hasattr(model, "history_"):
        model = model[-1] if hasattr(model, "named_steps") else model.best_estimator_
    return model
