"""
Quickstart: two tables, five α
==============================

A search over ``alpha`` and ``t_end`` on two tables of scikit-learn, beside its MLP, and the law of
the line. α is the flow, 0 the standard and 1 the adapted one, and no strength of an L2 penalty;
``t_end`` is when it stops. Well under a minute on two idle cores.
"""

import argparse
import time
import warnings
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.plots import FlowDisplay

ALPHAS = (0.0, 0.01, 0.1, 0.5, 1.0)
T_ENDS = (0.3, 0.6, 0.9)

# A few hundred rows gain nothing from a second thread, and wait long for one where another
# program holds the core. The workers of the search have one thread each already.
threadpool_limits(limits=1)

# %%
# How a table is printed: for each α the time that cross-validation on the training rows chooses,
# its score on rows held out, and the rank of the tangent kernel at the solution.


def in_pipeline(estimator: BaseEstimator) -> Pipeline:
    """The estimator behind a StandardScaler."""
    return Pipeline([("scale", StandardScaler()), ("model", estimator)])


def timed_fit(model: Pipeline, X: np.ndarray, y: np.ndarray) -> tuple[float, bool]:
    """Fit; seconds that it took, and whether the optimiser said that it had converged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        start = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - start
    return seconds, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def best_t_ends(search: GridSearchCV) -> Iterator[tuple[float, float, float]]:
    """(alpha, t_end, score) for each alpha, the best t_end by cross-validation alone."""
    results = search.cv_results_
    alphas = np.array(results["param_model__alpha"], dtype=float)
    for alpha in ALPHAS:
        rows = np.flatnonzero(alphas == alpha)
        best = rows[np.argmax(results["mean_test_score"][rows])]
        yield alpha, results["param_model__t_end"][best], results["mean_test_score"][best]


def compare(
    name: str, metric: str, flow: BaseEstimator, rival: BaseEstimator, data: list[np.ndarray]
) -> None:
    """Print the table of one data set. ``data`` is the result of `train_test_split`."""
    X_train, X_test, y_train, y_test = data
    grid = {"model__alpha": ALPHAS, "model__t_end": T_ENDS}
    start = time.perf_counter()
    search = GridSearchCV(in_pipeline(flow), grid, n_jobs=2, error_score="raise")
    search.fit(X_train, y_train)
    seconds = time.perf_counter() - start

    print(f"\n{name}: {len(X_train)} training rows, {len(X_test)} held out, score = {metric}")
    print(f"{'model':<16}{'t_end':>7}{'CV score':>10}{'test score':>12}{'rank':>9}{'fit':>9}")
    for alpha, t_end, cv_score in best_t_ends(search):
        model = in_pipeline(flow).set_params(model__alpha=alpha, model__t_end=t_end)
        fit_seconds, _ = timed_fit(model, X_train, y_train)
        chosen = search.best_params_ == {"model__alpha": alpha, "model__t_end": t_end}
        fitted = model["model"]
        rank = f"{fitted.ntk_rank_}/{len(fitted.ntk_eigenvalues_)}"
        print(
            f"{f'alpha = {alpha:g}':<16}{t_end:>7g}{cv_score:>10.3f}"
            f"{model.score(X_test, y_test):>12.3f}{rank:>9}{fit_seconds:>7.2f} s"
            f"{'  <- the search takes this' if chosen else ''}"
        )
    model = in_pipeline(rival)
    fit_seconds, converged = timed_fit(model, X_train, y_train)
    print(
        f"{type(rival).__name__:<16}{'-':>7}{'-':>10}{model.score(X_test, y_test):>12.3f}"
        f"{'-':>9}{fit_seconds:>7.2f} s{'' if converged else '  (stopped at its max_iter)'}"
    )
    n_fits = len(search.cv_results_["params"]) * search.n_splits_
    print(f"The search: {n_fits} fits in {seconds:.1f} s on 2 cores")


# %%
# Two classes.

X, y = load_breast_cancer(return_X_y=True)
cancer = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
classifier = AdaptedFlowClassifier(random_state=0)
compare("breast_cancer", "accuracy", classifier, MLPClassifier(random_state=0), cancer)

# %%
# Numbers. One split: small differences between test scores are noise.

X, y = load_diabetes(return_X_y=True)
diabetes = train_test_split(X, y, test_size=0.25, random_state=0)
regressor = AdaptedFlowRegressor(random_state=0)
compare("diabetes", "R²", regressor, MLPRegressor(random_state=0), diabetes)

# %%
# The training loss along the flow. At α = 1 it follows the law; smaller α take the large modes
# first. Times lie dense early, where the curves of small α bend.

times = (0.01, 0.04, 0.07, *np.linspace(0.1, 0.9, 13), 0.95)
colors = {0.0: "#3b0f70", 0.1: "#c03a76", 0.5: "#fe9f6d", 1.0: "#000000"}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained", sharey=True)
for ax, flow, (X, _, y, _) in zip(axes, (classifier, regressor), (cancer, diabetes), strict=True):
    for alpha, color in colors.items():
        model = in_pipeline(flow).set_params(
            model__alpha=alpha, model__t_end=times[-1], model__schedule=times
        )
        style = {"linestyle": "none"} if alpha == 1 else {"marker": ""}
        FlowDisplay.from_estimator(model.fit(X, y)).plot(ax, line_kw={"color": color, **style})
    ax.set(xlim=(0, 1), ylim=(1.5e-3, 1.3))
axes[0].set(title="breast_cancer, classifier")
axes[1].set(title="diabetes, regressor", ylabel="")
axes[0].get_legend().remove()

# %%
# Run as a script, the picture is saved.

parser = argparse.ArgumentParser()
parser.add_argument("--output", default="quickstart.png", help="where the picture goes")
figure.savefig(parser.parse_args().output, dpi=130)
