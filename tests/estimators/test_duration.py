"""A fit that will take hours says so before it begins; others measure nothing."""

import pytest

from sklearn_gflow import AdaptedFlowRegressorCV
from sklearn_gflow.estimators import _duration
from tests.estimators.data import regressor, small, table

X, Y = table(40)


@pytest.fixture
def slow(monkeypatch):
    """A machine of a few operations a second."""
    monkeypatch.setattr(_duration, "_FEW", 0.0)
    monkeypatch.setattr(_duration, "_rate", lambda device: 1.0)


@pytest.mark.parametrize("parameters", [{}, {"batch_size": 10}, {"solver": "krylov"}])
def test_long_fits_say_so(slow, parameters):
    with pytest.warns(UserWarning, match=r"This fit will take \d.* hours or more.*batch_size"):
        regressor(**parameters).fit(X, Y)


def test_long_searches_say_so(slow):
    search = small(AdaptedFlowRegressorCV, encodings=[None], alphas=[0.5], refit=False)
    with pytest.warns(UserWarning, match="This search will take"):
        search.fit(X, Y)


def test_others_measure_nothing(monkeypatch):
    def refused(device):
        raise AssertionError("the rate was measured")

    monkeypatch.setattr(_duration, "_rate", refused)
    regressor().fit(X, Y)


def test_the_rate_is_that_of_a_machine():
    assert 1e8 < _duration._rate("cpu") < 1e15


def test_a_small_fit_is_counted_to_be_short(monkeypatch):
    monkeypatch.setattr(_duration, "_FEW", 0.0)
    problem = regressor()._validate(X, Y, None, None, None)
    assert 0 < _duration.least_seconds(regressor()._build(problem)) < 1
