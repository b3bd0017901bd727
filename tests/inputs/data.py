"""Tables and transformers that the tests of this room share."""

import numpy as np

from sklearn_gflow import (
    FrequentValueEncoder,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)

ENCODERS = [PiecewiseLinearEncoder, PeriodicEncoder]
NUMERIC = [*ENCODERS, FrequentValueEncoder, SmoothRobustScaler]
TRANSFORMERS = [*NUMERIC, TableEncoder]


def make(transformer, **parameters):
    """An instance, with a seed where it takes one."""
    if "random_state" in transformer().get_params():
        parameters = {"random_state": 0, **parameters}
    return transformer(**parameters)


def amounts(n=300, seed=0):
    """A normal column, one of amounts that come again and that most rows do not have, a constant.

    The amounts are those of a list of 24, unequally far from each other.
    """
    random = np.random.default_rng(seed)
    given = np.exp(np.random.default_rng(9).normal(size=24)).round(3) * 100
    has = random.random(n) < 0.45
    return np.column_stack([random.normal(size=n), has * random.choice(given, n), np.full(n, 7.0)])


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
