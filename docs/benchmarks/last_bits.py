"""How far predictions move when the last bits of X do, and what the fits say of it.

    python docs/benchmarks/last_bits.py iris wine

prints a row a table and setting, for the table of docs/reliability.md. Predictions are those of
the rows of the table moved by 0.3 standard deviations in every feature.
"""

import sys
import warnings

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    load_wine,
    make_friedman1,
    make_moons,
)
from sklearn.preprocessing import scale

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor

TABLES = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "friedman1": lambda: make_friedman1(200, noise=1.0, random_state=0),
    "moons": lambda: make_moons(150, noise=0.2, random_state=0),
    "sine": lambda: ((x := np.arange(0, 40, 0.2))[:, None], np.sin(x)),
}
NUMBERS = ("diabetes", "friedman1", "sine")
SETTINGS = [
    {},
    {"alpha": 0.0},
    {"alpha": 1.0},
    {"damping": 0.0},
    {"damping": 1e-6},
    {"damping": 1e-3},
    {"t_end": 1.0},
    {"loss": "log_loss"},
]
FITS = 3


def measured(name, parameters):
    """The largest motion of a prediction, in parts of their range; the estimate; the warning."""
    X, y = TABLES[name]()
    X, answers, told = scale(X), [], False
    estimator = AdaptedFlowRegressor if name in NUMBERS else AdaptedFlowClassifier
    for k in range(FITS):
        bits = np.random.default_rng(k).integers(-2, 3, size=X.shape) * (k > 0)
        moved = X * (1 + 2.2e-16 * bits)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = estimator(random_state=0, **parameters).fit(moved, y)
        if k == 0:
            estimate = model.history_["sensitivity"][-1]
            told = any("Rounding decides" in str(one.message) for one in caught)
        ask = model.predict if name in NUMBERS else model.predict_proba
        answers.append(ask(moved + 0.3))
    far = max(np.abs(other - answers[0]).max() for other in answers[1:])
    return far / np.ptp(answers[0]), estimate, told


def main():
    for name in sys.argv[1:] or TABLES:
        for parameters in SETTINGS:
            if name in NUMBERS and "loss" in parameters:
                continue
            moved, estimate, told = measured(name, parameters)
            setting = ", ".join(f"`{key}={value!r}`" for key, value in parameters.items())
            row = f"| {name} | {setting or 'defaults'} | {moved:.0e} | {estimate:.0e} | "
            print(row + ("yes |" if told else "no |"), flush=True)


if __name__ == "__main__":
    main()
