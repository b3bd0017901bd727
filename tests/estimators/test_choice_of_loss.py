"""``loss="auto"`` of the classifier: the log-loss over blocks without a given end."""

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowClassifier

pytestmark = pytest.mark.slow


def rows(n=1000, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    place = X[:, 0] + X[:, 1] * X[:, 2]
    return X, np.searchsorted(np.quantile(place, np.arange(1, n_classes) / n_classes), place)


def fitted(X, y, **parameters):
    given = {"batch_size": 100, "random_state": 0, "max_iter": 4, **parameters}
    return AdaptedFlowClassifier((8,), **given).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_over_blocks_without_an_end_it_is_the_log_loss(n_classes):
    X, y = rows(n_classes=n_classes)
    model = fitted(X, y)
    assert model.loss_name_ == "log_loss"
    assert model.loss == "auto"
    asked = fitted(X, y, loss="log_loss")
    for one, other in zip(model.coefs_, asked.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.predict_proba(X), asked.predict_proba(X))


@pytest.mark.parametrize("given", [{"t_end": 0.5}, {"schedule": 3}, {"batch_size": None}])
def test_otherwise_it_is_the_squared_error(given):
    X, y = rows()
    assert fitted(X, y, max_iter=500, **given).loss_name_ == "squared_error"


def test_of_few_rows_it_is_the_squared_error():
    assert fitted(*rows(999), max_iter=500).loss_name_ == "squared_error"


def test_of_several_labels_a_row_it_is_the_squared_error():
    X, y = rows()
    assert fitted(X, np.eye(3, dtype=int)[y]).loss_name_ == "squared_error"


def test_rows_held_out_are_judged_by_the_same_loss():
    X, y = rows(1200)
    model = fitted(X, y, early_stopping=True)
    asked = fitted(X, y, early_stopping=True, loss="log_loss")
    assert model.loss_name_ == "log_loss"
    history = "validation_loss"
    np.testing.assert_array_equal(model.history_[history], asked.history_[history])


def test_smoothed_labels_and_weights_are_those_of_the_log_loss():
    X, y = rows()
    given = {"label_smoothing": 0.2, "class_weight": {0: 3.0, 1: 1.0, 2: 1.0}}
    model, asked = (fitted(X, y, loss=loss, **given) for loss in ("auto", "log_loss"))
    np.testing.assert_allclose(model.initial_output_, asked.initial_output_, rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X), asked.predict_proba(X), rtol=1e-6)


def test_a_fit_that_goes_on_keeps_its_loss():
    X, y = rows()
    model = fitted(X, y, warm_start=True)
    model.fit(X, y)
    model.partial_fit(X[:50], y[:50])
    assert model.loss_name_ == "log_loss"
    started = AdaptedFlowClassifier((8,), random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    assert started.loss_name_ == "squared_error"


def test_no_draw_of_a_generator_is_used_up():
    X, y = rows()
    found = []
    for loss in ("auto", "log_loss"):
        generator = np.random.RandomState(0)
        fitted(X, y, loss=loss, random_state=generator)
        found.append(generator.randint(1000))
    assert found[0] == found[1]


@pytest.mark.parametrize("n_classes", [16, 17])
def test_labels_of_many_classes_are_smoothed(n_classes):
    X, y = rows(2000, n_classes=n_classes)
    model = fitted(X, y, max_iter=1)
    smoothing = 0.05 if n_classes == 17 else 0.0
    assert model._coding.codes[0, 0] == pytest.approx(1 - smoothing + smoothing / n_classes)
    assert fitted(X, y, max_iter=1, label_smoothing=0.0)._coding.codes[0, 0] == 1
    assert fitted(X, y, max_iter=1, loss="log_loss")._coding.codes[0, 0] == 1
