"""`explain(X, of="deletions")`: what predictions would be without a training row."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowRegressorCV
from tests.estimators import data
from tests.estimators.data import classes, small, table

X, Y = table(40, 3)
X_NEW, _ = table(15, 3, seed=1)
WIDE = {"hidden_layer_sizes": (60,)}


def regressor(**parameters):
    return data.regressor(**{**WIDE, **parameters})


def classifier(**parameters):
    return data.classifier(**{**WIDE, **parameters})


def refitted(model, X, y, weights=None):
    """Outputs at X_NEW less those of refits without each row, at the same times."""
    times = model.history_["t"][1:].tolist()

    def outputs(kept):
        own = None if weights is None else weights[kept]
        again = type(model)(**{**model.get_params(), "schedule": times})
        again.fit(X[kept], y[kept], sample_weight=own)
        return again._readings(X_NEW)

    rows = np.arange(len(y))
    whole = outputs(rows)
    return np.stack([whole - outputs(rows != i) for i in rows], axis=1)


def agree(found, true):
    """Whether deletions order rows as refits do."""
    pairs = zip(found.reshape(*true.shape), true, strict=True)
    ranks = [spearmanr(a[:, 0], b[:, 0]).statistic for a, b in pairs]
    return np.mean(ranks) > 0.9


@pytest.mark.slow
def test_they_order_rows_as_refits_do():
    model = regressor().fit(X, Y)
    found, true = model.explain(X_NEW, of="deletions"), refitted(model, X, Y)
    assert found.shape == (15, 40)
    assert agree(found, true)
    assert np.linalg.norm(found - true[..., 0]) < 0.3 * np.linalg.norm(true)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [{"alpha": 1.0, "damping": 0.05}, {"solver": "shared", "t_end": 0.5}],
    ids=["chords", "a shared kernel"],
)
def test_what_steps_do_besides_is_no_effect_of_a_row(parameters):
    parameters = {"scale_inputs": False, **parameters}
    y = np.column_stack([Y, -(Y**2)]) if "solver" in parameters else Y
    model = regressor(**parameters).fit(X, y)
    found, true = model.explain(X_NEW, of="deletions"), refitted(model, X, y)
    assert np.linalg.norm(found.reshape(true.shape) - true) < 0.4 * np.linalg.norm(true)


@pytest.mark.slow
def test_of_weighted_rows():
    weights = 1.0 + np.arange(40) % 3
    model = regressor().fit(X, Y, sample_weight=weights)
    assert agree(model.explain(X_NEW, of="deletions"), refitted(model, X, Y, weights))


@pytest.mark.slow
def test_of_a_classifier_and_of_several_outputs():
    X, y = classes(40, 3)
    model = classifier().fit(X, y)
    found = model.explain(X_NEW, of="deletions")
    assert found.shape == (15, 40, 3)
    assert agree(found, refitted(model, X, y))


def test_the_residual_of_a_row_without_itself():
    model = regressor().fit(X, Y)
    left_out = Y - model.predict(X) + np.diagonal(model.explain(X, of="deletions"))
    apart = model._apart_of()
    expected = np.sort((apart.truth - apart.readings)[:, 0])
    np.testing.assert_allclose(np.sort(left_out), expected, atol=2e-3 * Y.std())


def test_of_a_search_they_are_a_mean_over_the_members():
    search = small(AdaptedFlowRegressorCV, encodings=[None], alphas=[0.5]).fit(X, Y)
    parts = [member.explain(X_NEW, "deletions") for member in search.estimators_]
    expected = np.average(parts, axis=0, weights=search.ensemble_weights_)
    np.testing.assert_allclose(search.explain(X_NEW, of="deletions"), expected)


def test_units_are_those_of_y_and_columns_may_be_made_by_others():
    plain = regressor().fit(StandardScaler().fit_transform(X), Y)
    pipeline = make_pipeline(StandardScaler(), regressor()).fit(X, 5 + 100 * Y)
    found = pipeline[-1].explain(pipeline[0].transform(X_NEW), of="deletions")
    expected = 100 * plain.explain(pipeline[0].transform(X_NEW), of="deletions")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_flow_that_goes_nowhere_has_no_effects():
    model = regressor().fit(X, np.full(40, 2.0))
    assert not model.explain(X_NEW, of="deletions").any()


def test_a_single_row_has_no_deletions():
    model = regressor().fit(X, Y, sample_weight=np.arange(40) == 3)
    assert np.isfinite(model.explain(X_NEW)).all()
    with pytest.raises(ValueError, match="a single row of positive weight was trained on"):
        model.explain(X_NEW, of="deletions")


def test_another_loss_says_what_to_set():
    X, y = classes(40, 2)
    model = classifier(loss="log_loss", damping=0.01).fit(X, y)
    with pytest.raises(ValueError, match=r'of="deletions" .* loss="squared_error", or compare'):
        model.explain(X, of="deletions")


@pytest.mark.parametrize("of", ["shares", None, 1, ["deletions"]])
def test_what_is_asked_for_is_one_of_two(of):
    with pytest.raises(ValueError, match='of must be "contributions" or "deletions"'):
        regressor().fit(X, Y).explain(X_NEW, of)
