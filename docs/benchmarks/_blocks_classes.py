"""Default fits of many rows with classes, against `MLPClassifier` at its default of 200 epochs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from _blocks_tables import letters
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowClassifier

_TEST_ROWS = 10_000


def clusters(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """26 classes of three clusters each in six dimensions, bent into 16 columns."""
    rng = np.random.default_rng(0)
    centres, W, b = 1.3 * rng.normal(size=(78, 6)), rng.normal(size=(6, 16)), rng.normal(size=16)
    tilt = rng.normal(size=(6, 16))
    cluster = rng.integers(0, 78, n_rows)
    Z = centres[cluster] + 0.45 * rng.normal(size=(n_rows, 6))
    X = np.tanh(Z @ W / np.sqrt(6) + b / 2) + 0.2 * Z @ tilt + 0.05 * rng.normal(size=(n_rows, 16))
    return X, cluster % 26


def smooth_borders(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """26 classes: the largest output of a random network with 16 inputs and 40 neurons."""
    rng = np.random.default_rng(0)
    W, b, V = rng.normal(size=(16, 40)) / 4, rng.normal(size=40) / 2, rng.normal(size=(40, 26))
    X = rng.normal(size=(n_rows, 16))
    outputs = np.tanh(X @ W + b) @ V
    return X, ((outputs - outputs.mean(0)) / outputs.std(0)).argmax(1)


def cover(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Seven unbalanced classes; ten numbers, indicators of four areas and forty soils.

    Borders are smooth in part, in part steps: products of thresholds of two or three numbers.
    """
    of, rng = np.random.default_rng(0), np.random.default_rng(1)
    places, by_soil = of.normal(size=(40, 3)), 0.8 * of.normal(size=(40, 7))
    by_area = 0.5 * of.normal(size=(4, 7))
    W, b = 1.2 * of.normal(size=(10, 30)) / np.sqrt(10), of.normal(size=30)
    V = 2.5 * of.normal(size=(30, 7)) / np.sqrt(30)
    Z = rng.normal(size=(n_rows, 10))
    Z[:, 1] = 0.6 * Z[:, 0] + 0.8 * Z[:, 1]
    area = np.digitize(Z[:, 0] + 0.7 * rng.normal(size=n_rows), [-1, 0.3, 1.2])
    distances = ((Z[:, None, :3] - places) ** 2).sum(2) + rng.gumbel(size=(n_rows, 40))
    soil = distances.argmin(1)
    logits = 1.2 * np.tanh(Z @ W + b) @ V + by_soil[soil] + by_area[area]
    for _ in range(40):
        numbers = of.choice(10, of.integers(2, 4), replace=False)
        cuts, signs = of.uniform(-0.8, 0.8, len(numbers)), of.choice([-1, 1], len(numbers))
        inside = ((Z[:, numbers] - cuts) * signs > 0).all(1)
        logits += 0.7 * inside[:, None] * of.normal(size=7)
    logits += 1.3 * np.log([0.365, 0.485, 0.06, 0.01, 0.02, 0.03, 0.035])
    y = (logits + 0.3 * rng.gumbel(size=(n_rows, 7))).argmax(1)
    Z[:, 4], Z[:, 5] = np.exp(0.7 * Z[:, 4]), np.sign(Z[:, 5]) * np.abs(Z[:, 5]) ** 1.5
    return np.hstack([Z, np.eye(4)[area], np.eye(40)[soil]]), y


_GROUND = np.array([
    [63, 95, 108, 88], [48, 39, 113, 118], [88, 105, 109, 87],
    [77, 90, 94, 75], [60, 62, 83, 70], [69, 77, 81, 64],
], dtype=float)  # fmt: skip
_SHARES = (0.24, 0.11, 0.21, 0.10, 0.11, 0.23)


def satellite(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Six kinds of ground, three of them grey soil, in four bands of 3×3 pixels.

    A kind has two sorts of fields, whose colour varies, and borders to other fields cross the
    pixels. Neighbours are correlated by 0.9, bands by -0.2 to 0.7.
    """
    of, rng = np.random.default_rng(0), np.random.default_rng(1)
    ways, sorts = of.normal(size=(6, 2, 4, 3)), 3 * of.normal(size=(6, 2, 4))
    pixels = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(9, 2)

    def colours(kind: np.ndarray) -> np.ndarray:
        sort = rng.integers(2, size=n_rows)
        light = 1 + 0.06 * rng.normal(size=(n_rows, 1))
        field = np.einsum("nbk,nk->nb", ways[kind, sort], rng.normal(size=(n_rows, 3)))
        return _GROUND[kind] * light + 0.85 * (sorts[kind, sort] + 2.5 * field)

    y, beyond = rng.choice(6, n_rows, p=_SHARES), rng.choice(6, n_rows, p=_SHARES)
    angle = rng.uniform(0, 2 * np.pi, n_rows)
    side = pixels @ np.stack([np.cos(angle), np.sin(angle)])
    border = rng.uniform(0.2, 1.4 / 0.3, n_rows)
    share = (1 / (1 + np.exp(-(side.T - border[:, None]) / 0.25)))[..., None]
    X = (1 - share) * colours(y)[:, None] + share * colours(beyond)[:, None]
    X += 3 * rng.normal(size=X.shape)
    return np.clip(np.round(X), 0, 255).reshape(n_rows, 36), y


def many_letters(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The letter-like table, with more rows."""
    return letters(None, n_rows)


def written(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The digits in another order; there are 1,797."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:n_rows]
    return X[order], y[order]


CLASSES: dict[str, tuple[Callable[[int], tuple[np.ndarray, np.ndarray]], int]] = {
    "letter-like, 15,000 × 26": (many_letters, 15_000),
    "clusters, 15,000 × 26": (clusters, 15_000),
    "smooth borders, 15,000 × 26": (smooth_borders, 15_000),
    "covertype-like, 50,000 × 7": (cover, 50_000),
    "satimage-like, 4,435 × 6": (satellite, 4_435),
    "digits, 1,437 × 10": (written, 1_437),
}


class Fit(NamedTuple):
    """What a fit scored on rows that it had not seen, and the processor time that it took."""

    accuracy: float
    log_loss: float
    seconds: float
    epochs: int


def against_default(name: str, seeds: int) -> dict[str, list[Fit]]:
    """Default fits of both, in turns; standardised columns for both."""
    load, n_rows = CLASSES[name]
    X, y = load(n_rows + _TEST_ROWS)
    X = StandardScaler().fit(X[:n_rows]).transform(X)
    fits: dict[str, list[Fit]] = {"flow": [], "MLP": []}
    for seed in range(seeds):
        for kind, model in (
            ("flow", AdaptedFlowClassifier(random_state=seed)),
            ("MLP", MLPClassifier((100, 100), random_state=seed)),
        ):
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(X[:n_rows], y[:n_rows])
            seconds = time.process_time() - start
            rest, labels = X[n_rows:], y[n_rows:]
            loss = log_loss(labels, model.predict_proba(rest), labels=model.classes_)
            fit = Fit(model.score(rest, labels), loss, seconds, model.n_iter_)
            fits[kind].append(fit)
            print(f"{name}, {kind}, seed {seed}: {fit}", flush=True)
    return fits


def classes(results: dict[str, dict[str, list[Fit]]]) -> list[str]:
    """A row a table."""
    lines = [
        "",
        "## Many rows with classes, both at their defaults",
        "",
        f"Generated tables and the digits, standardised, {_TEST_ROWS:,} rows to test (of",
        "the digits 360); networks 100×100,",
        "`MLPClassifier` with its 200 epochs of Adam. Seconds are those of one thread.",
        "",
        "| table | flow | log-loss | its time | epochs | MLP | log-loss | its time | flow ÷ MLP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, fits in results.items():
        flow, mlp = (Fit(*np.mean(fits[kind], axis=0)) for kind in ("flow", "MLP"))
        cells = [
            name, f"{flow.accuracy:.4f}", f"{flow.log_loss:.3f}", f"{flow.seconds:.1f} s",
            f"{flow.epochs:.0f}", f"{mlp.accuracy:.4f}", f"{mlp.log_loss:.3f}",
            f"{mlp.seconds:.1f} s", f"{flow.seconds / mlp.seconds:.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines
