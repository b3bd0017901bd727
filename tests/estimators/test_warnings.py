"""Warnings point at the line of the user that asked for the training."""

import warnings

import pytest

from sklearn_gflow import AdaptedFlowRegressorCV
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.estimators.data import regressor, small, table


def calls():
    X, y = table(40)
    few = {"max_iter": 1}
    search = {"alphas": [0.5], "t_ends": [0.9], "encodings": [None]}
    return {
        "fit": lambda: regressor(**few).fit(X, y),
        "rescaled": lambda: regressor(rescalings=1, **few).fit(X, y),
        "search": lambda: small(AdaptedFlowRegressorCV, **few, **search).fit(X, y),
    }


@pytest.mark.parametrize("call", calls())
def test_a_flow_that_is_cut_short_is_told_where_it_was_asked_for(call):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        calls()[call]()
    cut = [warning for warning in told if warning.category is ConvergenceWarning]
    assert cut
    assert {warning.filename for warning in cut} == {__file__}
