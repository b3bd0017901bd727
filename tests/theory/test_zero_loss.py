"""Every α > 0 leads a kernel of full rank to zero loss at t = 1, also where it is all but singular.

The kernel of a smooth network on a line has full rank, and a condition number far beyond the
resolution of float64: what D⁺ is made of then changes from step to step.
"""

import math

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.dynamics import Adaptive, FlowOptions, Outcome, flow
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.theory.problems import full_rank

pytestmark = [
    pytest.mark.slow,
    # θ is not determined where a kernel is all but singular; the loss at the end is.
    pytest.mark.filterwarnings("ignore:Rounding decides this fit"),
]

POSITIVE = (0.1, 0.5, 0.9, 1.0)


@pytest.mark.parametrize("cost", ["cost", "cross_entropy"])
@pytest.mark.parametrize("alpha", POSITIVE)
def test_full_rank(alpha, cost, measured):
    problem, _ = full_rank()
    of = getattr(problem, cost)
    path = flow(problem.map, of, problem.theta, Adaptive(math.inf), FlowOptions(alpha=alpha))
    assert path.outcome is Outcome.CONVERGED
    least = of.least(path.outputs[0])
    left = (path.loss[-1] - least) / (path.loss[0] - least)
    measured(f"excess loss at t = 1, {cost}, of that at the start", left, at_most=1e-12)


def sine(n, step):
    x = step * np.arange(n)
    return ((x - x.mean()) / x.std())[:, None], np.sin(x)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_sine(alpha, measured):
    X, y = sine(200, 0.2)
    model = AdaptedFlowRegressor((50, 50), alpha=alpha, t_end=1.0, tol=1e-5, random_state=0)
    model.fit(X, y)
    assert model.history_["rank"][0] < 30, "of 200: all others are below the rounding of G"
    measured("1 − R² on the sine", 1 - model.score(X, y), at_most=1e-9)


def test_sine_in_classes(measured):
    X, y = sine(50, 0.4)
    model = AdaptedFlowClassifier((30, 30), loss="log_loss", random_state=0).fit(X, y > 0)
    assert model.outcome_.startswith("reached t_end")
    measured("errors on the sign of the sine", 1 - model.score(X, y > 0), at_most=0.1)
    measured("log-loss at t = 0.95", model.loss_, at_most=0.5)
    plain = AdaptedFlowClassifier((30, 30), loss="log_loss", damping=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Rounding decides"):
        plain.fit(X, y > 0)
    measured("errors without a ridge", 1 - plain.score(X, y > 0), at_most=0)
    measured("log-loss at t = 0.95 without a ridge", plain.loss_, at_most=0.15)
