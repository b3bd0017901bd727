"""Generated calls end in a fit or in words; `python -m tests.generated` runs more of them."""

import pytest

from tests.generated.calls import ESTIMATORS, SEARCHES, ending
from tests.generated.parameters import undescribed

pytestmark = pytest.mark.slow
N_CALLS, A_TEST = 300, 50


@pytest.mark.parametrize("first", range(0, N_CALLS, A_TEST))
def test_calls_end_in_a_fit_or_in_words(first):
    endings = [ending(number) for number in range(first, first + A_TEST)]
    faults = [f"call {one.number}: {one.fault}\n{one.call}" for one in endings if one.fault]
    assert not faults, "\n".join(faults)
    kinds = [one.kind for one in endings]
    assert kinds.count("fitted") > A_TEST / 10
    assert sum(kind.startswith("refused") for kind in kinds) > A_TEST / 10


@pytest.mark.parametrize("estimator", ESTIMATORS + SEARCHES)
def test_every_parameter_is_generated(estimator):
    assert not undescribed(estimator)
