"""Frames after arrays and arrays after frames, as rows to stop by and as later chunks."""

import numpy as np
import pandas as pd
import pytest

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from tests.estimators.data import small, table

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
PLAIN = [AdaptedFlowRegressor, AdaptedFlowClassifier]


def rows(estimator):
    X, y = table(60)
    return X, y if estimator is AdaptedFlowRegressor else (y > y.mean()).astype(int)


def framed(X):
    return pd.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])


@pytest.mark.parametrize("estimator", PLAIN)
@pytest.mark.parametrize("first", [np.asarray, framed])
@pytest.mark.parametrize("later", [np.asarray, framed])
def test_rows_to_stop_by_are_the_same_numbers(estimator, first, later):
    X, y = rows(estimator)
    found = []
    for training, held_out in ((np.asarray, np.asarray), (first, later)):
        model = small(estimator, early_stopping=True)
        model.fit(training(X[:40]), y[:40], X_val=held_out(X[40:]), y_val=y[40:])
        found.append(model.validation_scores_)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("estimator", PLAIN)
@pytest.mark.parametrize("first", [np.asarray, framed])
@pytest.mark.parametrize("later", [np.asarray, framed])
def test_later_chunks_are_the_same_numbers(estimator, first, later):
    X, y = rows(estimator)
    classes = {} if estimator is AdaptedFlowRegressor else {"classes": [0, 1]}
    found = []
    for training, chunk in ((np.asarray, np.asarray), (first, later)):
        model = small(estimator).partial_fit(training(X), y, **classes).partial_fit(chunk(X), y)
        found.append(model.loss_curve_)
    np.testing.assert_array_equal(*found)


def test_strings_among_rows_to_stop_by_are_told():
    X, y = rows(AdaptedFlowRegressor)
    held_out = framed(X[40:]).astype({"column 0": object})
    held_out.iloc[0, 0] = "many"
    model = small(AdaptedFlowRegressor, early_stopping=True)
    with pytest.raises(ValueError, match="now holds 'many'"):
        model.fit(X[:40], y[:40], X_val=held_out, y_val=y[40:])
