"""Do intervals of ``predict(X, return_std=True)`` hold what they say?

Every table is cut into training rows and test rows, standardised, once a seed. Shares of test rows
within the intervals of 50, 90 and 95 %, and the mean log density of the test rows, in units of
the standard deviation of the training targets. The peers: scikit-learn's Gaussian process (RBF and
white noise, its parameters by marginal likelihood) with its own mean; a constant width by the
training residuals; and the process of the kernel at the solution instead of the start. Seconds
are CPU time of the prediction, for scikit-learn's process of the fit too. Run
``python docs/benchmarks/calibration.py --help``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _machine import header
from _tables import arm, markdown, parse, read, split, table_parser
from scipy.stats import norm
from sklearn import datasets
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.diagnostics import TangentPosterior
from sklearn_gflow.geometry import LayeredNetwork

OUT = Path(__file__).with_suffix(".md")
LOCAL = ("boston", "concrete", "abalone", "bikeshare", "california")
LARGE = ("abalone", "bikeshare", "california", "friedman1", "arm")
TEST_ROWS = 1500
LEVELS = (0.5, 0.9, 0.95)


def tables(directory: Path | None) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Regression tables of scikit-learn, generated ones, and those of a directory."""
    X, y = datasets.load_diabetes(return_X_y=True)
    yield "diabetes", pd.DataFrame(X), y
    X, y = datasets.make_friedman1(8000, noise=1.0, random_state=0)
    yield "friedman1", pd.DataFrame(X), y
    X, y = datasets.make_friedman1(3000, noise=0.1, random_state=1)
    yield "friedman1, little noise", pd.DataFrame(X), y
    X, y = arm(8000)
    yield "arm", pd.DataFrame(X), y
    for name in LOCAL if directory else ():
        yield name, *read(directory, name)


# -- Predictions with a standard deviation -------------------------------------------------------


def at_the_solution(
    model: AdaptedFlowRegressor, X: np.ndarray, y: np.ndarray, X_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As ``return_std`` does, with the kernel that has seen the targets."""
    layers = zip(model.coefs_, model.intercepts_, strict=True)
    theta = torch.from_numpy(np.concatenate([p.ravel() for layer in layers for p in layer]))
    network = LayeredNetwork((X.shape[1], *model.hidden_layer_sizes, 1), model.activation)
    rows, new = (network.linearize(theta, torch.from_numpy(x)) for x in (X, X_test))
    posterior = TangentPosterior.by_leave_one_out(rows, torch.from_numpy(y)[:, None])
    mean = model.predict(X_test)
    squares = posterior.square_error(new, torch.from_numpy(mean)[:, None])
    return mean, squares[:, 0].sqrt().numpy()


def of_residuals(
    model: AdaptedFlowRegressor, X: np.ndarray, y: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """One width for all: the root mean square of the training residuals."""
    return np.full(len(mean), np.sqrt(np.mean((y - model.predict(X)) ** 2)))


def small(seed: int, X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> Iterator[tuple]:
    """(title, mean, std, seconds of predict) of all that is compared on some hundred rows."""
    fits = {
        "default": AdaptedFlowRegressor(random_state=seed),
        "loo": AdaptedFlowRegressor(early_stopping="loo", t_end=1.0, random_state=seed),
        "CV": AdaptedFlowRegressorCV(random_state=seed),
        "t_end=0.3": AdaptedFlowRegressor(t_end=0.3, random_state=seed),
        "alpha=1, t_end=0.9": AdaptedFlowRegressor(alpha=1.0, t_end=0.9, random_state=seed),
    }
    for title, model in fits.items():
        model.fit(X, y)
        start = time.process_time()
        mean, std = model.predict(X_test, return_std=True)
        yield title, mean, std, time.process_time() - start
        if title in ("default", "loo", "CV"):
            fitted = getattr(model, "best_estimator_", model)
            start = time.process_time()
            mean, std = at_the_solution(fitted, X, y, X_test)
            yield f"{title}, kernel at the solution", mean, std, time.process_time() - start
        if title == "default":
            yield "default, training residuals", mean, of_residuals(model, X, y, mean), 0.0
    kernel = ConstantKernel() * RBF(np.sqrt(X.shape[1]), (0.1, 1e3)) + WhiteKernel(0.1)
    start = time.process_time()
    process = GaussianProcessRegressor(kernel).fit(X, y)
    mean, std = process.predict(X_test, return_std=True)
    yield "GaussianProcessRegressor", mean, std, time.process_time() - start


def large(seed: int, X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> Iterator[tuple]:
    """(title, mean, std, seconds of predict) in blocks of some thousand rows."""
    for title, parameters in {"default": {}, "alpha=1": {"alpha": 1.0}}.items():
        model = AdaptedFlowRegressor(random_state=seed, batch_size=256, **parameters).fit(X, y)
        start = time.process_time()
        mean, std = model.predict(X_test, return_std=True)
        yield f"blocks, {title}", mean, std, time.process_time() - start
        yield f"blocks, {title}, training residuals", mean, of_residuals(model, X, y, mean), 0.0


# -- The report ----------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> pd.DataFrame:
    """One line for each table, seed and predictor."""
    lines = []
    for name, X, y in tables(arguments.data):
        runs = [(arguments.rows, small)]
        if name in LARGE:
            runs.append((arguments.large_rows, large))
        for rows, compared in runs:
            for seed in range(arguments.seeds if compared is small else 1):
                train, test, y_train, y_test = split(X, y, rows, TEST_ROWS, seed)
                center, scale = y_train.mean(), y_train.std()
                y_train, y_test = (y_train - center) / scale, (y_test - center) / scale
                for title, mean, std, seconds in compared(seed, train, y_train, test):
                    z = (y_test - mean) / std
                    shares = [np.mean(np.abs(z) < norm.ppf(0.5 + p / 2)) for p in LEVELS]
                    density = np.mean(norm.logpdf(z) - np.log(std))
                    error, width = np.sqrt(np.mean((y_test - mean) ** 2)), np.sqrt(np.mean(std**2))
                    lines.append((name, title, *shares, density, error, width / error, seconds))
        print(f"{name}: {time.process_time():.0f} s", flush=True)
    levels = [f"{p:.0%}" for p in LEVELS]
    columns = ["table", "predictor", *levels, "density", "rmse", "width/error", "seconds"]
    return pd.DataFrame(lines, columns=columns)


def report(found: pd.DataFrame) -> str:
    """Means over tables, and the shares and densities of each table."""
    found = found.copy()
    found["miss of 90%"] = (found["90%"] - 0.9).abs()
    order = list(dict.fromkeys(found["predictor"]))
    groups = found.groupby("predictor")
    summary = groups[["50%", "90%", "95%"]].mean()
    summary["least 90%"] = groups["90%"].min()
    summary["miss of 90%"] = groups["miss of 90%"].mean()
    for column in ("density", "width/error", "seconds"):
        summary[column] = groups[column].mean()
    parts = ["## Means over tables", "", *markdown(summary.loc[order]), ""]
    shown = [title for title in order if "residuals" not in title and "solution" not in title]
    for column in ("90%", "density", "rmse"):
        values = found.groupby(["table", "predictor"])[column].mean().unstack()
        values = values.loc[list(dict.fromkeys(found["table"])), shown]
        title = {"90%": "Share within 90 %", "density": "Mean log density", "rmse": "RMSE"}
        parts += [f"## {title[column]}", "", *markdown(values), ""]
    return "\n".join(parts)


def main() -> None:
    """Measure and write the page."""
    parser = table_parser(__doc__, OUT)
    parser.add_argument("--rows", type=int, default=300, help="training rows in the full batch")
    parser.add_argument("--large-rows", type=int, default=5000, help="training rows in blocks")
    parser.add_argument("--seeds", type=int, default=2, help="splits a table")
    arguments = parse(parser)
    found = measure(arguments)
    title = ["# Calibration of `return_std`", "", *__doc__.splitlines()[2:9]]
    arguments.out.write_text("\n".join([*title, "", header(), "", report(found)]))


if __name__ == "__main__":
    main()
