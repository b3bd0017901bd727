"""What a network makes of its columns: importances, and columns that are stretched anew."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectFromModel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures
from torch import nn

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    SmoothRobustScaler,
)
from sklearn_gflow.estimators._importance import stretch
from tests.estimators.data import classes, table

FIVE = [0, 1, 2, 3, 4]


def regressor(**parameters):
    """As users get it: inputs are scaled."""
    return AdaptedFlowRegressor(**{"hidden_layer_sizes": (12,), "random_state": 0, **parameters})


def friedman(n=400, seed=0):
    return make_friedman1(n, n_features=10, noise=1.0, random_state=seed)


def slopes(model, X, h=1e-5):
    """∂f/∂x of predictions by central differences, shape (n_samples, n_features)."""
    shifts = h * np.eye(X.shape[1])
    return np.stack([(model.predict(X + d) - model.predict(X - d)) / (2 * h) for d in shifts], 1)


# -- importances -------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (12,), (8, 8)])
def test_importances_are_mean_squared_slopes(hidden):
    X, y = table(40)
    X = X * [1, 5, 0.2]
    model = regressor(hidden_layer_sizes=hidden, scale_inputs=False).fit(X, y)
    expected = (slopes(model, X) ** 2).mean(axis=0) * X.var(axis=0)
    np.testing.assert_allclose(model.feature_importances_, expected / expected.sum(), rtol=1e-5)


def test_weights_count_in_importances():
    X, y = table(30)
    weights = np.arange(30) % 3 + 1
    weighted = regressor().fit(X, y, sample_weight=weights).feature_importances_
    copied = regressor().fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted, copied.feature_importances_, rtol=1e-6)


@pytest.mark.parametrize("encoding", [None, "piecewise", "periodic"])
def test_the_five_of_ten_columns_that_count_are_found(encoding):
    X, y = friedman(120)
    found = regressor(encoding=encoding, hidden_layer_sizes=(16,)).fit(X, y).feature_importances_
    assert found.shape == (10,)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)
    assert sorted(np.argsort(found)[-5:]) == FIVE
    assert found[FIVE].sum() > 0.8


def test_encoded_columns_and_levels_count_for_their_column():
    rng = np.random.default_rng(0)
    n = 120
    kind = rng.choice(list("abcd"), n)
    X = pd.DataFrame({"noise": rng.normal(size=n), "kind": kind, "gaps": rng.normal(size=n)})
    X.loc[::4, "gaps"] = np.nan
    for y, first in (
        (np.select([kind == "a", kind == "b"], [2.0, -1.0]), "kind"),
        (X["noise"] ** 2, "noise"),
        (X["gaps"].isna() * 2.0, "gaps"),  # by its indicator alone
    ):
        model = regressor(encoding="piecewise").fit(X, y)
        assert model.feature_importances_.shape == (3,)
        assert model.feature_importances_.sum() == pytest.approx(1)
        assert X.columns[model.feature_importances_.argmax()] == first
        assert model.feature_importances_.max() > 0.8


def test_a_classifier_counts_all_its_outputs():
    X, y = classes(60, n_features=2)
    X = np.hstack([X, np.random.default_rng(1).normal(size=(60, 3))])
    model = AdaptedFlowClassifier((30,), random_state=0)
    found = model.fit(X, y).feature_importances_
    assert found[:2].sum() > 0.85


def test_select_from_model():
    X, y = friedman(120)
    selector = SelectFromModel(regressor(hidden_layer_sizes=(16,)), max_features=5)
    selector.set_params(threshold=-np.inf).fit(X, y)
    assert selector.get_support(indices=True).tolist() == FIVE
    piped = make_pipeline(selector, regressor()).fit(X, y)
    assert piped[-1].n_features_in_ == 5


@pytest.mark.parametrize(
    "encoding", [PCA(2), FunctionTransformer(np.abs), make_pipeline(FunctionTransformer(np.sin))]
)
def test_columns_without_a_known_origin_have_no_importance(encoding):
    X, y = table(30)
    model = regressor(encoding=encoding).fit(X, y)
    assert np.isnan(model.feature_importances_).tolist() == [True] * 3
    assert np.isfinite(model.predict(X)).all()


def test_a_constant_column_of_an_encoder_counts_for_nothing():
    X, y = table(30)
    found = regressor(encoding=PolynomialFeatures(2)).fit(X, y).feature_importances_
    assert found.sum() == pytest.approx(1)


class Levels(nn.Module):
    """Reads its inputs as numbers of levels: no derivative leads back to them."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.values = nn.Embedding(5, n_outputs)

    def forward(self, X):
        return self.values(X[:, 0].long())


def test_a_network_without_slopes_is_fitted():
    X = np.arange(30.0)[:, None] % 5
    model = AdaptedFlowRegressor(module=Levels, random_state=0).fit(X, X[:, 0] ** 2)
    assert model.score(X, X[:, 0] ** 2) > 0.99
    assert model.feature_importances_.tolist() == [0.0]
    stretched = clone(model).set_params(rescalings=1).fit(X, X[:, 0] ** 2)
    np.testing.assert_array_equal(stretched.predict(X), model.predict(X))


# -- rescalings --------------------------------------------------------------------------------


class Network:
    """f_θ of a fit with one hidden layer, without its start."""

    def __init__(self, model):
        (self.W, self.V), (self.b, self.c) = model.coefs_, model.intercepts_

    def predict(self, X):
        return (np.tanh(X @ self.W + self.b) @ self.V + self.c)[:, 0]


def by_hand(model, X):
    """Fourth roots of mean squared slopes of f_θ, with the sum of variances of X."""
    factors = (slopes(Network(model), X) ** 2).mean(axis=0) ** 0.25
    return factors * np.sqrt(X.var(axis=0).sum() / (factors**2 * X.var(axis=0)).sum())


def test_factors_are_those_of_slopes_by_differences():
    X, y = table(60)
    X = SmoothRobustScaler().fit_transform(X)
    settings = {"scale_inputs": False, "t_end": 0.95}
    first = regressor(**settings).fit(X, y)
    model = regressor(**settings, rescalings=1).fit(X, y)
    np.testing.assert_allclose(model._inputs.factors, by_hand(first, X), rtol=1e-5)
    second = regressor(**settings).fit(X * model._inputs.factors, y)
    np.testing.assert_allclose(
        model.predict(X), second.predict(X * model._inputs.factors), rtol=1e-10
    )
    third = regressor(**settings, rescalings=2).fit(X, y)
    again = by_hand(second, X * model._inputs.factors)
    np.testing.assert_allclose(third._inputs.factors, model._inputs.factors * again, rtol=1e-4)


def test_the_flow_that_finds_factors_goes_to_its_own_end():
    X, y = table(40)
    early, late = (regressor(rescalings=1, t_end=t).fit(X, y)._inputs.factors for t in (0.3, 0.99))
    np.testing.assert_array_equal(early, late)


def test_stretched_columns_have_together_the_variance_they_had():
    rng = np.random.default_rng(0)
    squares, variances = rng.exponential(size=6), rng.exponential(size=6)
    squares[2] = 0
    factors = stretch(squares, variances)
    assert factors[2] == 0
    assert (factors**2 * variances).sum() == pytest.approx(variances.sum())
    np.testing.assert_allclose((factors[1] / factors[0]) ** 4, squares[1] / squares[0])
    assert stretch(np.zeros(3), np.ones(3)).tolist() == [1, 1, 1]
    assert stretch(np.ones(3), np.zeros(3)).tolist() == [1, 1, 1]


@pytest.mark.slow
def test_columns_that_do_nothing_shrink_and_the_rest_is_learnt_better():
    gains = []
    for seed in range(3):
        X, y = friedman(700, seed)
        plain = regressor(hidden_layer_sizes=(32,)).fit(X[:150], y[:150])
        model = clone(plain).set_params(rescalings=1).fit(X[:150], y[:150])
        factors = model._inputs.factors
        assert factors[5:].max() < factors[:3].min()
        gains.append(model.score(X[150:], y[150:]) - plain.score(X[150:], y[150:]))
    assert np.mean(gains) > 0.01, gains


def test_kernel_and_predictions_see_stretched_columns():
    X, y = table(30)
    model = regressor(rescalings=1, encoding="piecewise").fit(X, y)
    np.testing.assert_allclose(model.ntk(X), model.ntk_gram_, rtol=1e-8)
    assert model.X_train_.shape[1] == model.coefs_[0].shape[0]


@pytest.mark.parametrize("rescalings", [-1, 0.5, "none"])
def test_what_is_no_number_of_rescalings_is_refused(rescalings):
    with pytest.raises(ValueError, match="'rescalings' parameter"):
        regressor(rescalings=rescalings).fit(*table(20))


@pytest.mark.slow
def test_a_search_has_the_importances_of_its_members():
    X, y = friedman(80)
    search = AdaptedFlowRegressorCV((12,), encodings=[None], alphas=[0.5], random_state=0)
    search.fit(X, y)
    members = [member.feature_importances_ for member in search.estimators_]
    expected = np.average(members, axis=0, weights=search.ensemble_weights_)
    np.testing.assert_allclose(search.feature_importances_, expected)
    assert search.feature_importances_.sum() == pytest.approx(1)


def test_single_precision_and_blocks():
    X, y = table(80)
    settings = {"dtype": "float32", "batch_size": 20, "rescalings": 1}
    model = regressor(**settings).fit(X.astype(np.float32), y)
    assert model.feature_importances_.sum() == pytest.approx(1, rel=1e-5)
    assert model.coefs_[0].dtype == np.float32
    assert torch.get_default_dtype() == torch.float32
