"""`gradient`: partial derivatives of predictions in the columns of X."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer
from torch import nn

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    PeriodicEncoder,
)
from sklearn_gflow.estimators._importance import mean_squared_gradient
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._tensors import host_tensor
from tests import oracles
from tests.estimators.data import classes, table

UNITS = np.array([1e3, 0.02, 5.0])  # of the columns: the chain rule has something to do


def fitted(kind=AdaptedFlowRegressor, **parameters):
    X, y = classes(60) if "Classifier" in kind.__name__ else table(60)
    if parameters.get("scale_inputs", True):
        X = X * UNITS + 10 * UNITS
    model = kind(**{"hidden_layer_sizes": (12,), "random_state": 0, **parameters})
    return model.fit(X, y), X, y


def predicted(model, X):
    """What `gradient` differentiates."""
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


def differences(model, X, h, units=UNITS):
    """∂/∂xⱼ by central differences of h units of the column, the columns last."""
    parts = []
    for j, unit in enumerate(units):
        shift = h * unit * np.eye(len(units))[j]
        ends = predicted(model, X + shift) - predicted(model, X - shift)
        parts.append(ends / (2 * h * unit))
    return np.stack(parts, axis=-1)


def order(model, X, units=UNITS):
    """By which power of h central differences approach the gradient, and how close they come."""
    gradient, steps = model.gradient(X), (4e-3, 2e-3)
    errors = [np.linalg.norm((differences(model, X, h, units) - gradient) * units) for h in steps]
    return np.log2(errors[0] / errors[1]), errors[1] / np.linalg.norm(gradient * units)


# -- against differences -----------------------------------------------------------------------

OWN = {
    "default": {},
    "two layers": {"hidden_layer_sizes": (8, 6), "activation": "silu"},
    "cosines": {"encoding": "periodic"},
    "stretched": {"rescalings": 1},
    "stretched cosines": {"encoding": PeriodicEncoder(n_frequencies=2), "rescalings": 1},
    "counts": {"loss": "poisson"},
    "positive": {"loss": "gamma", "encoding": "periodic"},
    "quantile": {"loss": "quantile", "quantile": 0.8},
    "a module": {
        "module": lambda n, q: nn.Sequential(nn.Linear(n, 8), nn.Tanh(), nn.Linear(8, q)),
        "scale_inputs": True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("parameters", OWN.values(), ids=OWN)
def test_central_differences_of_predictions_approach_it_by_the_square_of_the_step(parameters):
    model, X, _ = fitted(**parameters)
    rate, error = order(model, X)
    assert rate == pytest.approx(2, abs=0.1)
    assert error < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_a_classifier_it_is_that_of_the_decision_function(loss, n_classes):
    X, y = classes(40, n_classes=n_classes)
    model = AdaptedFlowClassifier((12,), loss=loss, random_state=0).fit(X, y)
    assert model.gradient(X).shape == ((40, 3) if n_classes == 2 else (40, 3, 3))
    rate, error = order(model, X, np.ones(3))
    assert rate == pytest.approx(2, abs=0.1)
    assert error < 1e-3


def test_several_outputs_and_several_labels_have_one_each():
    X, y = table(40)
    both = np.column_stack([y, 100 * X[:, 1] ** 2])
    model = AdaptedFlowRegressor((12,), random_state=0).fit(X, both)
    np.testing.assert_allclose(
        model.gradient(X), differences(model, X, 1e-5, np.ones(3)), atol=1e-6
    )
    assert model.fit(X, y[:, None]).gradient(X).shape == (40, 1, 3)
    labels = AdaptedFlowClassifier((12,), random_state=0).fit(X, (X > 0).astype(int))
    np.testing.assert_allclose(
        labels.gradient(X), differences(labels, X, 1e-5, np.ones(3)), atol=1e-8
    )


def test_a_linear_network_has_the_same_everywhere():
    model, X, _ = fitted(hidden_layer_sizes=())
    gradient = model.gradient(X)
    np.testing.assert_allclose(gradient, np.tile(gradient[0], (60, 1)), rtol=1e-10)
    np.testing.assert_allclose(
        model.predict(X) - model.predict(X[:1]), (X - X[0]) @ gradient[0], atol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("search", [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV])
def test_of_a_search_it_is_that_of_the_mean_of_its_members(search):
    model, X, _ = fitted(search, encodings=[None, "periodic"], alphas=[0.5])
    parts = [member.gradient(X) for member in model.estimators_]
    np.testing.assert_allclose(
        model.gradient(X), np.average(parts, axis=0, weights=model.ensemble_weights_), rtol=1e-10
    )
    rate, error = order(model, X)
    assert rate == pytest.approx(2, abs=0.1)
    assert error < 1e-2


# -- against a network by hand -----------------------------------------------------------------


def test_it_is_the_chain_rule_by_hand():
    model, X, _ = fitted(hidden_layer_sizes=(7, 5))
    z, slopes = oracles.scaled_slopes(X, clip=3.0)
    end, start = (model.coefs_, model.intercepts_), (model.coefs_init_, model.intercepts_init_)
    expected = [
        model.target_scale_[0]
        * (oracles.input_derivatives(*end, row) - oracles.input_derivatives(*start, row))[0]
        * slope
        for row, slope in zip(z, slopes, strict=True)
    ]
    np.testing.assert_allclose(model.gradient(X), expected, rtol=1e-9)


@pytest.mark.parametrize("scale_inputs", [False, True])
def test_importances_are_means_of_its_squares_in_scaled_columns(scale_inputs):
    model, X, _ = fitted(scale_inputs=scale_inputs)
    z, slopes = oracles.scaled_slopes(X, 3.0) if scale_inputs else (X, np.ones_like(X))
    shares = ((model.gradient(X) / slopes) ** 2).mean(axis=0) * z.var(axis=0)
    np.testing.assert_allclose(model.feature_importances_, shares / shares.sum(), rtol=1e-8)


def test_importances_and_it_have_one_home():
    """What the importances average is what `gradient` carries back."""
    model, X, y = fitted(scale_inputs=False)
    (_, gradients), *more = model._network.input_gradients(X)
    assert not more
    np.testing.assert_allclose(gradients[:, 0] * model.target_scale_, model.gradient(X), rtol=1e-12)
    squares, _ = mean_squared_gradient(
        *_parts_of(model._network), TrainingData(X, y[:, None], None, np.zeros(1)), "float64",
        n_rows=60, seed=0, reference=host_tensor(model._network.reference),
    )  # fmt: skip
    np.testing.assert_allclose(squares, (gradients**2).sum(axis=1).mean(axis=0), rtol=1e-12)


def _parts_of(network):
    return network.family(), host_tensor(network.theta)


# -- columns -----------------------------------------------------------------------------------


def test_at_an_edge_of_a_bin_it_is_the_derivative_to_the_right():
    rng = np.random.default_rng(0)
    X = np.sort(rng.uniform(-1, 1, size=(50, 1)), axis=0)
    model = AdaptedFlowRegressor((12,), encoding="piecewise", random_state=0).fit(
        X, np.abs(X[:, 0])
    )
    # Quantiles of the training rows are such edges: they lie at rows, or between two.
    h = 1e-7
    right = (model.predict(X + h) - model.predict(X)) / h
    left = (model.predict(X) - model.predict(X - h)) / h
    assert (np.abs(left - right) > 0.01).any()
    np.testing.assert_allclose(model.gradient(X)[:, 0], right, atol=1e-4)


def frame(n=80):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({
        "size": rng.normal(5, 2, n), "colour": rng.choice(list("abc"), n),
        "new": rng.random(n) < 0.5, "age": rng.integers(0, 90, n), "weight": rng.normal(size=n),
        "mixed": np.array([1.5, True, None, 2] * (n // 4), dtype=object),
    })  # fmt: skip
    X.loc[::7, "weight"] = np.nan
    y = X["size"] + (X["colour"] == "a") + X["new"] * X["age"] / 50 + X["weight"].fillna(3)
    return X, y


@pytest.mark.parametrize("encoding", [None, "periodic"])
def test_there_is_none_of_what_is_no_number(encoding):
    X, y = frame()
    model = AdaptedFlowRegressor((12,), encoding=encoding, random_state=0).fit(X, y)
    found = pd.DataFrame(model.gradient(X), columns=X.columns)
    assert found[["colour", "new"]].isna().all(axis=None)
    np.testing.assert_array_equal(found["weight"].isna(), X["weight"].isna())
    assert found["mixed"].isna().tolist() == [False, True, True, False] * 20
    for name, h in (("size", 1e-4), ("age", 1e-3), ("weight", 1e-4)):
        ends = [model.predict(X.assign(**{name: X[name] + shift})) for shift in (h, -h)]
        expected = (ends[0] - ends[1]) / (2 * h)
        present = X[name].notna()
        np.testing.assert_allclose(found[name][present], expected[present], rtol=1e-5, atol=1e-6)


def test_truth_values_have_none_in_arrays_either():
    X = np.random.default_rng(0).random((30, 3)) < 0.5
    model = AdaptedFlowRegressor((8,), random_state=0).fit(X, X @ [1.0, 2.0, 3.0])
    assert np.isnan(model.gradient(X)).all()
    assert np.isnan(model.gradient(scipy.sparse.csr_array(X))).all()
    assert np.isfinite(model.gradient(X.astype(float))).all()


@pytest.mark.parametrize("fit_sparse", [False, True])
def test_sparse_rows_have_that_of_dense_ones(fit_sparse):
    X = scipy.sparse.random(60, 8, 0.3, "csr", random_state=0)
    y = np.asarray(X.sum(axis=1)).ravel() ** 2
    model = AdaptedFlowRegressor((12,), random_state=0).fit(X if fit_sparse else X.toarray(), y)
    found = model.gradient(X)
    assert found.shape == (60, 8)
    np.testing.assert_allclose(found, model.gradient(X.toarray()), rtol=1e-10)
    expected = differences(model, X.toarray(), 1e-5, np.ones(8))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_in_single_precision_it_is_single():
    model, X, y = fitted()
    single = AdaptedFlowRegressor((12,), dtype="float32", random_state=0).fit(X, y)
    found = single.gradient(X.astype(np.float32))
    assert found.dtype == single.predict(X).dtype == np.float32
    scale = np.abs(model.gradient(X)).max(axis=0)
    np.testing.assert_allclose(found / scale, model.gradient(X) / scale, atol=2e-2)


def test_many_rows_are_gone_through_in_parts(monkeypatch):
    model, X, _ = fitted(encoding="periodic")
    whole = model.gradient(X)
    monkeypatch.setattr("sklearn_gflow.estimators._importance._ENTRIES", 100)
    assert len(list(model._network.input_gradients(np.ones((60, model.coefs_[0].shape[0]))))) > 10
    np.testing.assert_allclose(model.gradient(X), whole, rtol=1e-12)


# -- transformers of the user's own ------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding",
    [PolynomialFeatures(2), make_pipeline(SplineTransformer(degree=4, extrapolation="continue"))],
)
def test_a_transformer_without_a_derivative_is_differentiated_by_differences(encoding):
    model, X, _ = fitted(encoding=encoding)
    rate, error = order(model, X)
    assert rate == pytest.approx(2, abs=0.1)
    assert error < 1e-2
    unscaled, X, _ = fitted(encoding=encoding, scale_inputs=False)
    with pytest.raises(ValueError, match=r"no method derivative.*set scale_inputs=True"):
        unscaled.gradient(X)


class Squares(TransformerMixin, BaseEstimator):
    """Columns and their squares."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.hstack([X, X**2])

    def derivative(self, X):
        return np.hstack([np.ones_like(X), 2 * X])

    def get_feature_names_out(self, names):
        return np.array([*names, *(f"{name}^2" for name in names)], dtype=object)


def test_a_transformer_with_a_derivative_is_asked_for_it():
    model, X, _ = fitted(encoding=Squares())
    rate, error = order(model, X)
    assert rate == pytest.approx(2, abs=0.1)
    assert error < 1e-3


# -- what is refused ---------------------------------------------------------------------------


def test_a_prediction_beyond_all_numbers_has_none():
    model, X, _ = fitted(loss="poisson", hidden_layer_sizes=(), scale_inputs=False)
    far = X + 1e9 * np.sign(model.gradient(X[:1]))
    with pytest.raises(ValueError, match="beyond the range"):
        model.gradient(far)


def test_other_columns_than_those_of_fit_are_refused():
    model, X, _ = fitted()
    with pytest.raises(ValueError, match="features"):
        model.gradient(X[:, :2])
