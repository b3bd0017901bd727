"""Blocks of more than 256 rows: they begin small, and their ridge falls as they grow."""

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.dynamics import epochs
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.geometry import Shape
from sklearn_gflow.geometry.losses import LogLoss


def settings(estimator=AdaptedFlowRegressor, n_outputs=1, loss=None, **parameters):
    given = estimator(**parameters).get_params()
    of_loss = {} if loss is None else {"loss": loss}
    return Settings.of(given, Shape(5000, n_outputs, 10**5), 0, **of_loss)


@pytest.mark.parametrize(
    ("batch_size", "shares"),
    [
        ("auto", [1, 1, 1]),
        (200, [1, 1, 1]),
        (1024, [1 / 4, 1 / 2, 1]),
        (600, [256 / 600, 512 / 600, 1]),
    ],
)
def test_larger_blocks_begin_with_256_rows(batch_size, shares):
    way = settings(batch_size=batch_size).open_epochs
    assert [epoch.share for epoch in way[:3]] == pytest.approx(shares)


def test_a_given_end_has_blocks_of_one_size():
    of_one_size = settings(batch_size=1024, t_end=0.95)
    assert {epoch.share for epoch in of_one_size.epochs(0.95)} == {1}
    assert of_one_size.damping == 0.03


def test_the_ridge_of_a_row_stays():
    assert settings(batch_size=256).damping == settings(batch_size=100).damping == 0.03
    assert settings(batch_size=1024).damping == pytest.approx(0.03 / 4)
    assert settings(n_outputs=26, batch_size=1024).damping == pytest.approx(0.1 / 4)
    assert settings(batch_size=1024, damping=0.02).damping == 0.02


def test_that_of_the_log_loss_is_what_it_is():
    of = {"estimator": AdaptedFlowClassifier, "n_outputs": 3, "loss": LogLoss()}
    assert settings(**of, batch_size=1024).damping == settings(**of, batch_size=256).damping


def test_an_epoch_of_growing_blocks_learns_more(monkeypatch):
    X = np.random.default_rng(0).normal(size=(2400, 4))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]

    def loss(batch_size):
        """After four epochs."""
        model = AdaptedFlowRegressor(
            (24,), batch_size=batch_size, max_iter=5, rescalings=0, encoding=None, random_state=0
        )
        return model.fit(X, y).history_["loss"][4]

    grown = loss(1024)
    assert grown < 0.9 * loss(256)
    monkeypatch.setattr(epochs, "_FIRST_ROWS", 1024)  # large ones from the start
    assert grown < 0.6 * loss(1024)
