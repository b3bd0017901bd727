"""``schedule="fast"``: the end of the adapted flow, and not its path."""

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from tests.estimators.data import classes, table

END = {"alpha": 1.0, "t_end": 1.0, "random_state": 0, "hidden_layer_sizes": (40,)}


def test_it_interpolates_in_fewer_steps():
    X, y = table(60, 6)
    slow, fast = (
        AdaptedFlowRegressor(**END, schedule=schedule).fit(X, y)
        for schedule in ("adaptive", "fast")
    )
    assert fast.loss_ < 1e-20
    assert fast.n_iter_ < slow.n_iter_
    np.testing.assert_allclose(fast.predict(X), y, atol=1e-8)


def test_a_classifier_and_weights():
    X, y = classes(60)
    weights = np.arange(60) % 3 + 1.0
    fast = AdaptedFlowClassifier(**END, schedule="fast").fit(X, y, sample_weight=weights)
    assert fast.loss_ < 1e-20
    assert fast.score(X, y) == 1


def test_columns_are_stretched_by_a_flow_that_keeps_to_its_path():
    X, y = table(40)
    slow, fast = (
        AdaptedFlowRegressor(**END, rescalings=1, schedule=schedule).fit(X, y)
        for schedule in ("adaptive", "fast")
    )
    np.testing.assert_array_equal(fast._inputs.factors, slow._inputs.factors)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"alpha": 0.5}, r"set alpha=1\.0, or"),
        ({"t_end": 0.9}, r"set t_end=1\.0, or"),
        ({"t_end": "auto"}, r"set t_end=1\.0, or"),
        ({"loss": "huber"}, "set loss='squared_error', or"),
        ({"batch_size": 20}, "set batch_size=None, or"),
        ({"method": "RK45"}, "set method='exponential', or"),
        ({"alpha": 0.3, "t_end": 0.5}, r"set alpha=1\.0, t_end=1\.0, or"),
    ],
)
def test_what_it_does_not_go_to_is_refused(changed, cure):
    X, y = table(40)
    with pytest.raises(ValueError, match=f"schedule='fast' goes to the end .*{cure} schedule="):
        AdaptedFlowRegressor(**{**END, **changed}, schedule="fast").fit(X, y)


def test_what_follows_the_path_again_says_what_to_set():
    X, y = table(40)
    model = AdaptedFlowRegressor(**END, schedule="fast").fit(X, y)
    with pytest.raises(ValueError, match=r"explain follows .* schedule='adaptive'"):
        model.explain(X)
