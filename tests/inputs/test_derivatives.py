"""Derivatives of the columns that transformers make."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_gflow import PiecewiseLinearEncoder, SmoothRobustScaler
from sklearn_gflow.inputs import origins_of
from tests.inputs.data import NUMERIC, make, numbers

MADE = [make(kind) for kind in NUMERIC] + [SmoothRobustScaler(clip=None)]


def differences(transformer, X, h):
    """Of each column that comes out in its own origin: one column is shifted at a time."""
    found = np.zeros(transformer.transform(X).shape)
    for j in range(X.shape[1]):
        shift = h * np.eye(X.shape[1])[j]
        change = transformer.transform(X + shift) - transformer.transform(X - shift)
        of_column = origins_of(transformer, X.shape[1]) == j
        assert not change[:, ~of_column].any()
        found[:, of_column] = change[:, of_column] / (2 * h)
    return found


@pytest.mark.parametrize("transformer", MADE, ids=lambda one: f"{one!r}"[:24])
def test_they_are_those_of_differences(transformer):
    X = numbers()
    transformer = transformer.fit(X)
    between = X + 0.0123  # edges of bins are values of the columns
    found = transformer.derivative(between)
    assert found.shape == (len(X), len(transformer.get_feature_names_out()))
    np.testing.assert_allclose(found, differences(transformer, between, 1e-6), atol=1e-6)
    assert transformer.derivative(X.astype(np.float32)).dtype == np.float32


def test_at_an_edge_it_is_the_one_to_the_right():
    X = np.linspace(0, 1, 13)[:, None] ** 2
    encoder = PiecewiseLinearEncoder(n_bins=3).fit(X)
    edges, h = encoder.bin_edges_[0][:, None], 1e-6
    right = (encoder.transform(edges + h) - encoder.transform(edges)) / h
    np.testing.assert_allclose(encoder.derivative(edges), right, atol=1e-6)
    assert not encoder.derivative(edges[-1:])[:, 1:].any()  # beyond the last bin ramps are flat


def test_far_outside_a_bounded_column_is_flat_and_gaps_have_none():
    scaler = SmoothRobustScaler().fit(np.arange(9.0)[:, None])
    found = scaler.derivative(np.array([[4.0], [1e200], [-1e308], [np.nan]]))[:, 0]
    assert found[0] == pytest.approx(1 / scaler.scale_[0])
    assert found[1:3].tolist() == [0, 0]
    assert np.isnan(found[3])


@pytest.mark.parametrize("kind", NUMERIC)
def test_before_fit_there_are_none(kind):
    with pytest.raises(NotFittedError):
        make(kind).derivative(numbers())
