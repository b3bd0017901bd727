"""The grid of a search: what its parameters name."""

import numpy as np
import pytest

from sklearn_gflow import (
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressorCV,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
)
from sklearn_gflow.dynamics import tau_from_t
from sklearn_gflow.estimators._candidates import Candidate, Grid
from sklearn_gflow.estimators._settings import SMOOTH_START
from tests.estimators.data import regressor, table


def grid(*, closed_form=True, in_blocks=False, once=False, **parameters):
    search = AdaptedFlowRegressorCV(**parameters)
    return Grid.of(search, closed_form=closed_form, in_blocks=in_blocks, once=once)


def test_large_tables_have_one_time():
    assert grid(in_blocks=True).times == [0.95, 0.99]
    assert grid(in_blocks=True, once=True).times == [0.95]
    assert len(grid(once=True).times) == 7


def test_the_grid_by_default():
    found = grid()
    assert found.encodings[:2] == [None, "piecewise"]
    kinds = {type(encoding) for encoding in found.encodings[2:]}
    assert kinds == {PiecewiseLinearEncoder, PeriodicEncoder, str}
    assert found.init_scales == [SMOOTH_START]
    assert found.alphas == [0.5, 0.7]
    assert found.times == sorted(found.times)
    assert len(found.times) == 7
    assert 0 < found.times[0] < 0.4
    assert tau_from_t(found.times[-1]) > 25


def test_a_module_is_made_for_the_columns_as_they_are():
    assert grid(module=lambda n, q: None).encodings == [None]
    assert grid(module=lambda n, q: None, encodings=["piecewise"]).encodings == ["piecewise"]


def test_one_alpha_where_every_candidate_is_followed_and_two_times_in_blocks():
    found = grid(closed_form=False, in_blocks=True)
    assert found.alphas == [0.5]
    assert found.times == [0.95, 0.99]


def test_what_is_asked_for():
    own = PeriodicEncoder(scale=2.0)
    found = grid(encodings=[own, None], init_scales=(0.1, 1), alphas=0.3, t_ends=[0.9, 0.2, 0.9])
    assert found.encodings == [own, None]
    assert (found.init_scales, found.alphas, found.times) == ([0.1, 1.0], [0.3], [0.2, 0.9])
    assert grid(encodings="periodic").encodings == ["periodic"]
    assert grid(encodings=None).encodings == [None]
    assert grid(encodings=own).encodings == [own]


def test_candidates_are_all_paths():
    found = grid(encodings=[None, "periodic"], init_scales=[0.3, 1.0], alphas=[0, 1]).candidates()
    assert len(set(found)) == len(found) == 8
    assert Candidate("periodic", 1.0, 0.0) in found


def test_parameters_of_a_candidate_are_those_of_an_estimator():
    X, y = table(20)
    model = regressor(**Candidate("piecewise", 0.5, 0.2).rescaled().parameters()).fit(X, y)
    assert (model.encoding, model.init_scale, model.alpha, model.rescalings) == (
        "piecewise", 0.5, 0.2, 1,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"encodings": []}, "encodings must hold at least one"),
        ({"encodings": ["cubic"]}, "encodings must hold None, names among .*'cubic'"),
        ({"encodings": [3]}, "encodings must hold None, names among .*got 3"),
        ({"init_scales": []}, r"init_scales must hold numbers in \(0, ∞\)"),
        ({"init_scales": [0.0]}, "init_scales must hold numbers"),
        ({"init_scales": [np.inf]}, "init_scales must hold numbers"),
        ({"init_scales": ["small"]}, "init_scales must hold numbers"),
        ({"alphas": [1.5]}, r"alphas must hold numbers in \[0, 1\]"),
        ({"alphas": [np.nan]}, "alphas must hold numbers"),
        ({"alphas": [[0.1, 0.5]]}, "alphas must hold numbers"),
        ({"t_ends": [0.0]}, r"t_ends must hold times in \(0, 1\]"),
        ({"t_ends": []}, "t_ends must hold times"),
    ],
)
@pytest.mark.parametrize("search", [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV])
def test_what_is_no_grid_is_told(search, parameters, message):
    X, y = table(20)
    y = y > y.mean() if search is AdaptedFlowClassifierCV else y
    with pytest.raises(ValueError, match=message):
        search((4,), **parameters).fit(X, y)
