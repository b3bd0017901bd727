"""Every loss of a regressor, by name or of a user's own, through every way to fit."""

import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.metrics import d2_pinball_score, d2_tweedie_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils import estimator_checks

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.estimators._losses import NUMBERS
from sklearn_gflow.geometry import Huber
from tests.costs import LogCosh
from tests.estimators.data import classes, classifier, regressor, table

pytestmark = pytest.mark.slow

OWN = LogCosh()
LOSSES = {**{name: name for name in NUMBERS}, "log cosh": OWN}
LINKS = {"poisson": "log", "gamma": "log"}
each_loss = pytest.mark.parametrize("name", LOSSES)
# Each loss at both terms of the flow, and by turns at the standard and at the adapted flow.
EXTREMES = [(name, float(place % 2)) for place, name in enumerate(LOSSES)]


def small(name, **parameters):
    end = 0.7 if name == "quantile" else 0.9  # its kink takes many short steps inside of a step
    defaults = {"loss": LOSSES[name], "hidden_layer_sizes": (8,), "t_end": end}
    return regressor(**{**defaults, **parameters})


def data(n=14, *, seed=0):
    """A table whose targets are positive."""
    return table(n, seed=seed)


def identity(name):
    return LINKS.get(name, "identity") == "identity"


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@each_loss
def test_improves_on_the_constant(name, alpha):
    X, y = data()
    model = small(name, alpha=alpha).fit(X, y)
    assert model.score(X, y) > 0.6
    assert model.loss_ < 0.5 * model.loss_curve_[0]
    assert model.predict(X).min() > 0


@pytest.mark.parametrize(("name", "alpha"), [*((name, 0.5) for name in LOSSES), *EXTREMES])
class TestEveryLoss:
    def test_units_of_y(self, name, alpha):
        X, y = data()
        shift = 7.0 if identity(name) else 0.0
        plain, other = (
            small(name, alpha=alpha).fit(X, a * y + b).predict(X)
            for a, b in ((1.0, 0.0), (1e3, shift))
        )
        np.testing.assert_allclose(other, 1e3 * plain + shift, rtol=1e-6)

    def test_weights_are_copies(self, name, alpha):
        X, y = data()
        weights = 0.0 + (np.arange(len(y)) % 4)  # every fourth is absent
        copies = np.repeat(np.arange(len(y)), weights.astype(int))
        there = weights > 0
        weighted = small(name, alpha=alpha).fit(X, y, sample_weight=weights)
        copied = small(name, alpha=alpha).fit(X[copies], y[copies])
        absent = small(name, alpha=alpha).fit(X[there], y[there], sample_weight=weights[there])
        np.testing.assert_allclose(weighted.predict(X), copied.predict(X), rtol=1e-7)
        np.testing.assert_array_equal(weighted.predict(X), absent.predict(X))
        assert weighted.score(X, y, weights) == pytest.approx(
            copied.score(X[copies], y[copies]), rel=1e-7
        )

    def test_predictions_are_made_of_public_attributes(self, name, alpha):
        X, y = data()
        targets = y[:, None] ** np.array([1.0, 0.3])
        model = small(name, alpha=alpha, init_scale=1.0, store_path=True).fit(X, targets)
        start = small(name, init_scale=1.0, schedule=[1e-15], t_end=1e-15).fit(X, targets)

        def network(fitted):
            (W, V), (b, c) = fitted.coefs_, fitted.intercepts_
            return np.tanh(X @ W + b) @ V + c

        moved = network(model) - network(start)
        outputs = model.initial_output_ + moved
        inverse = outputs if identity(name) else np.exp(outputs)
        expected = model.target_mean_ + model.target_scale_ * inverse
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-7)
        np.testing.assert_array_equal(list(model.staged_predict(X))[-1], model.predict(X))

    def test_blocks_and_chunks(self, name, alpha):
        X, y = data(24)
        blocks = small(name, alpha=alpha, batch_size=12, schedule=2).fit(X, y)
        chunks = small(name, alpha=alpha)
        for _ in range(2 if alpha < 1 else 1):
            for start in (0, 12):
                chunks.partial_fit(X[start : start + 12], y[start : start + 12])
        for model in (blocks, chunks):
            assert model.score(X, y) > 0.5
            assert len(model.loss_curve_) == model.n_iter_ + 1
            assert model.predict(X).min() > 0

    def test_warm_start_goes_on(self, name, alpha):
        X, y = data()
        model = small(name, alpha=alpha, warm_start=True, t_end=0.3).fit(X, y)
        before = model.loss_curve_
        model.fit(X, y)
        assert model.loss_curve_[: len(before)] == before
        assert model.loss_ < before[-1]

    def test_rows_held_out_are_scored_as_by_score(self, name, alpha):
        X, y = data(32)
        parameters = {"early_stopping": True, "schedule": [0.2, 0.5, 0.7]}
        model = small(name, alpha=alpha, **parameters)
        model.fit(X[:20], y[:20], X_val=X[20:], y_val=y[20:])
        assert model.best_validation_score_ == max(model.validation_scores_)
        assert model.score(X[20:], y[20:]) == pytest.approx(model.best_validation_score_, rel=1e-9)
        again = small(name, alpha=alpha, **parameters).fit(X, y)
        assert again.best_validation_score_ == max(again.validation_scores_)

    def test_two_outputs_are_each_in_their_units(self, name, alpha):
        X, y = data()
        targets = np.stack([y, 1e3 * y**0.5], axis=1)
        model = small(name, alpha=alpha).fit(X, targets)
        assert model.predict(X).shape == targets.shape
        apart = [
            model.score(X, np.where([False, True], targets, model.predict(X))),
            model.score(X, np.where([True, False], targets, model.predict(X))),
        ]
        assert model.score(X, targets) == pytest.approx(sum(apart) - 1, rel=1e-9)
        assert min(apart) > 0.75

    def test_single_precision(self, name, alpha):
        X, y = data()
        model = small(name, alpha=alpha, dtype="float32").fit(X, y)
        assert model.predict(X).dtype == np.float32
        if alpha < 1:  # without a ridge rounding moves the smallest modes
            double = small(name, alpha=alpha).fit(X, y).predict(X)
            np.testing.assert_allclose(model.predict(X), double, rtol=1e-2)
        assert model.score(X, y) > 0.6

    def test_constant_targets(self, name, alpha):
        X, _ = data()
        model = small(name, alpha=alpha).fit(X, np.full(len(X), 2.5))
        np.testing.assert_allclose(model.predict(X + 1), 2.5, rtol=1e-9)


@each_loss
class TestWhateverTheFlow:
    def test_integrators_agree(self, name):
        X, y = data(10)
        parameters = {"alpha": 0.5, "damping": 0.1, "t_end": 0.4, "init_scale": 1.0}
        exponential = small(name, **{**parameters, "schedule": 60}).fit(X, y)
        classical = small(name, **{**parameters, "schedule": 2}, method="RK45").fit(X, y)
        np.testing.assert_allclose(
            exponential.predict(X), classical.predict(X), rtol=2e-3, atol=2e-3 * np.std(y)
        )

    def test_start_is_the_constant_of_least_cost(self, name):
        X, y = data(31)
        weights = np.linspace(0.5, 2, 31)
        model = small(name, schedule=[1e-15], t_end=1e-15).fit(X, y, sample_weight=weights)
        targets = (y - model.target_mean_) / model.target_scale_
        loss = model._coding.loss

        def cost(x):
            outputs = torch.full((31, 1), x, dtype=torch.float64)
            return np.average(loss.value(outputs, torch.tensor(targets)[:, None]), weights=weights)

        best = minimize_scalar(cost, bracket=(-0.5, 0.5), options={"xtol": 1e-10})
        assert model.initial_output_[0] == pytest.approx(best.x, abs=1e-6)
        assert cost(model.initial_output_[0]) <= best.fun * (1 + 1e-14)
        assert model.loss_curve_[0] == pytest.approx(best.fun, rel=1e-9)

    def test_copies_of_an_estimator(self, name):
        X, y = data()
        model = small(name).fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.score(X, y) == model.score(X, y)
        twin = clone(model)
        assert not hasattr(twin, "n_iter_")
        np.testing.assert_array_equal(twin.fit(X, y).predict(X), model.predict(X))
        assert twin.get_params().keys() == model.get_params().keys()
        assert model.get_params()["loss"] is LOSSES[name]
        assert ("loss=" in repr(model)) == (name != "squared_error")

    def test_predictions_are_those_of_the_fit_whatever_is_set_later(self, name):
        X, y = data()
        model = small(name).fit(X, y)
        predicted, score, kernel = model.predict(X), model.score(X, y), model.ntk(X)
        others = {"loss": "huber" if name != "huber" else "quantile", "quantile": 0.9}
        others |= {"activation": "relu", "hidden_layer_sizes": (3, 3), "dtype": "float32"}
        for parameter, value in {**others, "module": LogCosh}.items():
            model.set_params(**{parameter: value})
            np.testing.assert_array_equal(model.predict(X), predicted)
            np.testing.assert_array_equal(model.ntk(X), kernel)
            assert model.score(X, y) == score

    @pytest.mark.parametrize("way", ["fit", "partial_fit"])
    def test_another_loss_is_no_continuation(self, name, way):
        X, y = data()
        model = small(name, warm_start=True)
        getattr(model, way)(X, y)
        model.set_params(loss="huber" if name != "huber" else "quantile")
        with pytest.raises(ValueError, match=r"continues from the last fit, whose loss was .*keep"):
            getattr(model, way)(X, y)
        again = pickle.loads(pickle.dumps(model.set_params(loss=LOSSES[name])))
        getattr(model, way)(X, y)
        getattr(again, way)(X, y)

    @pytest.mark.parametrize("cv", [None, 3])
    def test_search(self, name, cv):
        X, y = data(30)
        grid = {"encodings": [None], "alphas": (0.0, 0.5), "t_ends": (0.4, 0.8)}
        search = AdaptedFlowRegressorCV(
            (6,), loss=LOSSES[name], cv=cv, ensemble=False, random_state=0, **grid
        ).fit(X, y)
        # Only the squared error has leave-one-out in closed form.
        assert ("loo_loss" in search.cv_results_) == (cv is None and name == "squared_error")
        assert sum("split" in column for column in search.cv_results_) == (cv or 0)
        assert search.score(X, y) == pytest.approx(search.best_estimator_.score(X, y), rel=1e-9)
        assert 0.3 < search.best_score_ < search.score(X, y) + 0.1
        if cv:
            alone = [
                clone(search.best_estimator_).fit(X[train], y[train]).score(X[test], y[test])
                for train, test in KFold(3).split(X)
            ]
            assert search.best_score_ == pytest.approx(np.mean(alone), abs=0.02)

    def test_settings_that_need_the_squared_error(self, name):
        X, y = data()
        model = small(name).fit(X, y)
        loo = small(name, early_stopping="loo")
        if name == "squared_error":
            assert model.predict(X, return_std=True)[1].shape == y.shape
            loo.fit(X, y)
            return
        own = "LogCosh" if LOSSES[name] is OWN else name
        message = f"loss='{own}' is no squared error; fit with loss='squared_error'"
        with pytest.raises(ValueError, match=message):
            model.predict(X, return_std=True)
        with pytest.raises(ValueError, match=r"needs the squared error .*early_stopping=True"):
            loo.fit(X, y)


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@pytest.mark.parametrize("losses", [("squared_error", "log_loss"), ("log_loss", "squared_error")])
def test_another_loss_of_labels_is_no_continuation(losses, way):
    """Three frequencies for three logits would be a start that means something else."""
    X, y = classes()
    model = classifier(loss=losses[0], warm_start=True)
    known = (np.arange(3),) if way == "partial_fit" else ()
    getattr(model, way)(X, y, *known).set_params(loss=losses[1])
    with pytest.raises(ValueError, match=r"continues from the last fit, whose loss was .*keep"):
        getattr(model, way)(X, y)
    again = pickle.loads(pickle.dumps(model.set_params(loss=losses[0])))
    getattr(again, way)(X, y)


def test_level_of_a_quantile_is_part_of_its_loss():
    X, y = data()
    model = small("quantile", warm_start=True).fit(X, y).set_params(quantile=0.9)
    with pytest.raises(ValueError, match=r"loss was Quantile\(level=0.5.* is Quantile\(level=0.9"):
        model.fit(X, y)


def test_grid_search_over_losses():
    X, y = data(30)
    grid = {"loss": list(LOSSES.values()), "quantile": [0.5]}
    search = GridSearchCV(small("huber"), grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == len(LOSSES)
    assert (search.cv_results_["mean_test_score"] > 0.2).all()


def test_search_of_a_classifier_falls_back_to_folds():
    X, y = classes(30)
    parameters = {"encodings": [None], "t_ends": (0.5, 0.9), "random_state": 0, "damping": 0.1}
    search = AdaptedFlowClassifierCV((6,), loss="log_loss", alphas=(0.2, 0.5), **parameters)
    results = search.fit(X, y).cv_results_
    assert "loo_loss" not in results
    assert np.isfinite(results["mean_test_score"]).all()  # all candidates were followed
    assert len(results["params"]) == 4
    assert search.score(X, y) > 0.7


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("squared_error", r2_score),
        ("poisson", lambda y, p, **w: d2_tweedie_score(y, p, power=1, **w)),
        ("gamma", lambda y, p, **w: d2_tweedie_score(y, p, power=2, **w)),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_score_is_that_of_scikit_learn(name, score, weighted):
    X, y = data(40)
    weights = {"sample_weight": np.linspace(0.5, 2, 20)} if weighted else {}
    model = small(name).fit(X[:20], y[:20])
    expected = score(y[20:], model.predict(X[20:]), **weights)
    found = model.score(X[20:], y[20:], **weights)
    assert type(found) is float
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
def test_score_of_quantiles_is_close_to_that_of_scikit_learn(level):
    X, y = data(200)
    y = y + np.random.default_rng(1).normal(size=200)
    model = small("quantile", quantile=level).fit(X[:100], y[:100])
    expected = d2_pinball_score(y[100:], model.predict(X[100:]), alpha=level)
    assert model.score(X[100:], y[100:]) == pytest.approx(expected, abs=0.04)


def _checks():
    model = AdaptedFlowRegressor((20,), loss="huber")
    for instance, check in estimator_checks.estimator_checks_generator(model):
        if check.func.__name__ != "check_array_api_input":
            yield pytest.param(instance, check, id=check.func.__name__)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("instance", "check"), list(_checks()))
def test_check_estimator(instance, check):
    check(instance)


@pytest.mark.parametrize("loss", ["absolute", Huber, LogCosh, None, 1, abs])
@pytest.mark.parametrize("estimator", [AdaptedFlowRegressor, AdaptedFlowRegressorCV])
def test_what_is_no_loss(estimator, loss):
    with pytest.raises(ValueError, match=f"The 'loss' parameter of {estimator.__name__} must be"):
        estimator(loss=loss).fit(*data())
