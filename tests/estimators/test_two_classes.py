"""The log-loss of two classes: one output, the logit of the second."""

import numpy as np
import pytest
from scipy.special import expit, logit

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowClassifierCV, load, save
from sklearn_gflow.estimators._losses import LABELS, loss_of_labels
from tests.estimators.data import classes

X, Y = classes(40, n_classes=2)


def fitted(**parameters):
    given = {"loss": "log_loss", "random_state": 0, **parameters}
    return AdaptedFlowClassifier((16,), **given).fit(X, Y)


def test_it_has_one_output_which_decides():
    model = fitted()
    scores = model.decision_function(X)
    assert model.n_outputs_ == model.coefs_[-1].shape[1] == 1
    np.testing.assert_array_equal(model.predict(X), model.classes_[(scores > 0).astype(int)])
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expit(scores), rtol=1e-12)


def test_it_starts_at_the_frequency_of_the_second():
    np.testing.assert_allclose(fitted().initial_output_, [logit(Y.mean())])


def test_with_smoothed_labels_it_ends_at_their_logit():
    model = fitted(alpha=1.0, t_end=1.0, label_smoothing=0.2)
    np.testing.assert_allclose(model.predict_proba(X)[np.arange(len(X)), Y], 0.9, atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_its_loss_is_that_of_two_logits(weighted):
    one, two = loss_of_labels("log_loss", 2), LABELS["log_loss"]
    weights = np.linspace(1, 2, len(Y)) if weighted else np.ones(len(Y))
    model = AdaptedFlowClassifier((6,), loss="log_loss", random_state=0)
    curve = model.fit(X, Y, sample_weight=weights).loss_curve_
    p = two.probabilities(model.decision_function(X), len(Y))[np.arange(len(Y)), Y]
    np.testing.assert_allclose(curve[-1], -np.average(np.log(p), weights=weights), rtol=1e-9)
    outputs = np.linspace(-3, 3, 7)[:, None]
    np.testing.assert_allclose(
        one.probabilities(one.scores(outputs), 1.0), two.points(one.by_class(outputs)), rtol=1e-12
    )


def test_codes_are_told_whatever_the_smoothing():
    loss = loss_of_labels("log_loss", 2)
    for smoothing in (0.0, 0.5):
        assert loss.told(loss.codes(2, smoothing)).tolist() == [0, 1]


def test_files_keep_it(tmp_path):
    model = fitted()
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))


def test_a_search_finds_its_temperature():
    search = AdaptedFlowClassifierCV(
        (6,), loss="log_loss", cv=3, random_state=0, alphas=[0.5], encodings=[None]
    ).fit(X, Y)
    p = search.predict_proba(X)
    shares = expit(search.decision_function(X) / search.temperature_)
    np.testing.assert_allclose(p[:, 1], (len(Y) * shares + 0.5) / (len(Y) + 1), rtol=1e-9)
