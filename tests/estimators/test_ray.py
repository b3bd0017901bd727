"""Searches on Ray, through its backend of joblib."""

import numpy as np
import pytest
import torch
from joblib import parallel_config

from tests.estimators.searches import SEARCHES, example, small

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray has warnings of its own
]

GRID = {"encodings": [None, "piecewise"], "alphas": [0.5], "t_ends": [0.5, 0.9], "ensemble": True}


@pytest.fixture(scope="module")
def _cluster():
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.usefixtures("_cluster")
def test_finds_the_same(search):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    X, y = example(search)
    alone = small(search, **GRID).fit(X, y)
    with parallel_config(backend="ray", n_jobs=2):
        together = small(search, **GRID).fit(X, y)
    torch.set_num_threads(before)
    for name, column in alone.cv_results_.items():
        np.testing.assert_array_equal(np.asarray(column), np.asarray(together.cv_results_[name]))
    np.testing.assert_array_equal(alone.predict(X), together.predict(X))
