"""The deviation from the straight line, beyond the theorems of tests/theory/test_prop_2_5.py."""

import pytest

from sklearn_gflow.diagnostics import Deviation
from sklearn_gflow.dynamics import FlowOptions, equal_steps, flow
from tests.dynamics.problems import Flow

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh", "svd", "krylov"])
def test_with_a_ridge_the_prediction_knows_of_it(solver):
    """Outputs stop short of the line by what ridge regression leaves of the way."""
    problem = Flow(12, (2, 30, 1), seed=2)
    options = FlowOptions(alpha=1.0, damping=0.1, solver=solver)
    path = flow(*problem.pieces, equal_steps(100, 0.9), options, [Deviation(problem.cost.targets)])
    measured = path.extra["deviation"][-1]
    assert measured > 0.05
    assert path.extra["predicted_deviation"][-1] == pytest.approx(measured, rel=0.02)
