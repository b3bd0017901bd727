"""Tables and transformers that the tests of this room share."""

import numpy as np

from sklearn_gflow import (
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)

ENCODERS = [PiecewiseLinearEncoder, PeriodicEncoder]
NUMERIC = [*ENCODERS, SmoothRobustScaler]
TRANSFORMERS = [*NUMERIC, TableEncoder]


def make(transformer, **parameters):
    """An instance, with a seed where it takes one."""
    if "random_state" in transformer().get_params():
        parameters = {"random_state": 0, **parameters}
    return transformer(**parameters)


def numbers(n=60, seed=0):
    """A normal, a skewed, a whole-numbered, an indicator and a constant column."""
    random = np.random.default_rng(seed)
    return np.column_stack(
        [
            3 + 2 * random.normal(size=n),
            np.exp(random.normal(size=n)),
            random.integers(0, 12, n),
            random.integers(0, 2, n),
            np.full(n, 7.0),
        ]
    )
