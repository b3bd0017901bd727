"""Search over alpha and t_end on two tables, beside scikit-learn's MLP; draw the law of the line.

Prints a table for each data set and saves one picture. Well under a minute on two idle cores.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
PICTURE_ALPHAS = (0.0, 0.1, 0.5, 1.0)
# Dense early, where the curves of small alpha bend.
PICTURE_TIMES = (0.01, 0.04, 0.07, *np.linspace(0.1, 0.9, 13), 0.95)


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


def draw_losses(ax: Axes, title: str, flow: BaseEstimator, X: np.ndarray, y: np.ndarray) -> None:
    """Training loss along the flow for several alpha, with the law (1 − t)² of alpha = 1."""
    colors = ("#3b0f70", "#c03a76", "#fe9f6d", "#000000")
    for alpha, color in zip(PICTURE_ALPHAS, colors, strict=True):
        model = in_pipeline(flow).set_params(
            model__alpha=alpha, model__t_end=PICTURE_TIMES[-1], model__schedule=PICTURE_TIMES
        )
        style = {"linestyle": "none"} if alpha == 1 else {"marker": ""}
        FlowDisplay.from_estimator(model.fit(X, y)).plot(ax, line_kw={"color": color, **style})
    ax.set(title=title, xlim=(0, 1), ylim=(1.5e-3, 1.3))


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="quickstart.png", help="where the picture goes")
    output = parser.parse_args().output
    # A few hundred rows gain nothing from a second thread, and wait long for one where another
    # program holds the core. The workers of the search have one thread each already.
    with threadpool_limits(limits=1):
        run(output)


def run(output: str) -> None:
    """Both data sets, then the picture into the file ``output``."""
    classifier = AdaptedFlowClassifier(random_state=0)
    regressor = AdaptedFlowRegressor(random_state=0)
    X, y = load_breast_cancer(return_X_y=True)
    cancer = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    X, y = load_diabetes(return_X_y=True)
    diabetes = train_test_split(X, y, test_size=0.25, random_state=0)

    print("alpha is the flow (0 standard, 1 adapted), not an L2 strength; t_end is when it stops.")
    print("t_end is chosen for each alpha by cross-validation on the training rows.")
    print("rank is that of the tangent kernel on the training outputs, at the solution.")
    compare("breast_cancer", "accuracy", classifier, MLPClassifier(random_state=0), cancer)
    compare("diabetes", "R²", regressor, MLPRegressor(random_state=0), diabetes)
    print("\nOne split: small differences between test scores are noise.")

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw_losses(left, "breast_cancer, classifier", classifier, cancer[0], cancer[2])
    draw_losses(right, "diabetes, regressor", regressor, diabetes[0], diabetes[2])
    left.get_legend().remove()
    right.set_ylabel("")
    figure.suptitle(
        r"Training loss along the flow: $\alpha = 1$ follows the law, "
        r"smaller $\alpha$ take the large modes first"
    )
    figure.savefig(output, dpi=130)
    print(f"Loss against time for every alpha, with the law (1 - t)^2: {output}")


if __name__ == "__main__":
    main()
