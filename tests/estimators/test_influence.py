"""`explain`, `predict_interval` and `predict_set` of all four estimators."""

import pickle

import numpy as np
import pytest

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressorCV,
    load,
    save,
)
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.estimators import data
from tests.estimators.data import classes, small, table

X, Y = table(60, 3)
X_NEW, Y_NEW = table(40, 3, seed=1)
SEARCH = {"encodings": [None], "alphas": [0.3, 0.5], "random_state": 0}


# Wide enough for more parameters than rows: of fewer, contributions are those on the range of D.
WIDE = {"hidden_layer_sizes": (60,)}


def regressor(**parameters):
    return data.regressor(**{**WIDE, **parameters})


def classifier(**parameters):
    return data.classifier(**{**WIDE, **parameters})


def search(of=AdaptedFlowRegressorCV, **parameters):
    return small(of, **{**SEARCH, **parameters})


class TestExplain:
    @pytest.mark.parametrize("parameters", [{}, {"alpha": 1.0}, {"alpha": 0.0}, {"damping": 0.01}])
    def test_contributions_add_up_to_the_prediction_less_its_start(self, parameters):
        model = regressor(**parameters).fit(X, Y)
        found = model.explain(X_NEW)
        assert found.shape == (40, 60)
        moved = model.predict(X_NEW) - model.target_mean_
        assert np.abs(found.sum(axis=1) - moved).max() < 1e-6 * np.abs(moved).max()

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_of_a_fit_to_the_end(self, alpha):
        model = regressor(alpha=alpha, t_end=1.0).fit(X, Y)
        assert model.t_ == 1
        moved = model.predict(X_NEW) - model.target_mean_
        np.testing.assert_allclose(model.explain(X_NEW).sum(axis=1), moved, atol=1e-5)
        assert np.isfinite(model.explain(X_NEW, of="deletions")).all()
        assert np.isfinite(model.predict_interval(X_NEW)).all()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "parameters",
        [{"alpha": 1.0}, {"loss": "huber"}, {"solver": "shared", "damping": 0.1}],
        ids=["adapted", "huber", "shared"],
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    def test_of_the_flow_in_its_own_precision(self, dtype, parameters):
        y = np.column_stack([Y, Y**2, -Y]) if "solver" in parameters else Y
        model = regressor(dtype=dtype, **parameters).fit(X, y)
        start = model.target_mean_ + model.target_scale_ * model.initial_output_
        moved = model.predict(X_NEW) - start
        found = model.explain(X_NEW).sum(axis=1)
        assert np.abs(found - moved).max() < 1e-3 * np.abs(moved).max()

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    def test_where_it_ends_elsewhere_it_says_so(self):
        model = regressor(hidden_layer_sizes=(5,), damping=0.0)
        model.fit(X[:16], np.column_stack([Y, Y**2])[:16])
        for of in ("contributions", "deletions"):
            with pytest.warns(ConvergenceWarning, match="ended elsewhere"):
                model.explain(X_NEW, of=of)

    def test_of_several_outputs(self):
        y = np.column_stack([Y, Y**2, -Y])
        model = regressor().fit(X, y)
        found = model.explain(X_NEW)
        assert found.shape == (40, 60, 3)
        moved = model.predict(X_NEW) - model.target_mean_
        np.testing.assert_allclose(found.sum(axis=1), moved, atol=1e-6)

    @pytest.mark.slow
    def test_of_a_search(self):
        model = search().fit(X, Y)
        moved = model.predict(X_NEW) - model.best_estimator_.target_mean_
        np.testing.assert_allclose(model.explain(X_NEW).sum(axis=1), moved, atol=1e-6)

    def test_of_a_classifier_is_in_units_of_its_outputs(self):
        X, y = classes(60, 3)
        model = classifier().fit(X, y)
        moved = model.decision_function(X) - model.initial_output_
        np.testing.assert_allclose(model.explain(X).sum(axis=1), moved, atol=1e-6)

    @pytest.mark.slow
    def test_of_the_log_loss(self):
        X, y = classes(60, 2)
        model = classifier(loss="log_loss", damping=0.01).fit(X, y)
        model_at = model._model(X)
        found = model.explain(X).reshape(60, 60, -1).sum(axis=1)
        np.testing.assert_allclose(found, model_at, atol=1e-6)

    def test_a_wrong_label_speaks_for_itself(self):
        y = Y.copy()
        y[7] += 10 * Y.std()
        found = regressor().fit(X, y).explain(X[7:8])[0]
        assert found.argmax() == 7

    def test_weights_are_copies(self):
        weights = 1.0 + np.arange(60) % 3
        of_weights = regressor().fit(X, Y, sample_weight=weights).explain(X_NEW)
        copies = np.repeat(np.arange(60), weights.astype(int))
        of_copies = regressor().fit(X[copies], Y[copies]).explain(X_NEW)
        joined = np.stack([of_copies[:, copies == i].sum(axis=1) for i in range(60)], axis=1)
        np.testing.assert_allclose(of_weights, joined, atol=1e-5 * np.abs(joined).max())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("parameters", "cure"),
        [
            ({"batch_size": 20}, "went over blocks of rows; set batch_size=None"),
            ({"method": "RK45", "t_end": 0.3}, "method='RK45'; set method='exponential'"),
            ({"alpha": 1.0, "t_end": 1.0, "schedule": "fast"}, "factor; set schedule='adaptive'"),
        ],
        ids=["blocks", "RK45", "fast"],
    )
    def test_other_flows_say_what_to_set(self, parameters, cure):
        model = regressor(**parameters).fit(X, Y)
        with pytest.raises(ValueError, match=f"^explain follows the flow .* and this one .*{cure}"):
            model.explain(X_NEW)
        with pytest.raises(ValueError, match=f"^predict_interval needs rows .* {cure}"):
            model.predict_interval(X_NEW)

    def test_chunks_say_what_to_call(self):
        model = regressor().partial_fit(X, Y)
        with pytest.raises(ValueError, match="went over chunks by partial_fit; call fit"):
            model.explain(X_NEW)

    def test_a_fit_that_went_on_says_so(self):
        model = regressor(warm_start=True).fit(X, Y).fit(X, Y)
        with pytest.raises(ValueError, match=r"explain follows .* warm_start=False"):
            model.explain(X_NEW)

    def test_a_pickle_of_a_classifier_has_no_rows(self):
        X, y = classes(40, 2)
        model = pickle.loads(pickle.dumps(classifier().fit(X, y)))
        with pytest.raises(ValueError, match="explain needs the training rows"):
            model.explain(X)


class TestIntervals:
    @pytest.mark.slow
    @pytest.mark.parametrize("make", [regressor, search])
    def test_coverage(self, make):
        shares = []
        for seed in range(4):
            draw = np.random.RandomState(seed)
            X = draw.normal(size=(400, 3))
            y = np.sin(X[:, 0]) + X[:, 1] + draw.standard_t(4, size=400)
            low, high = make().fit(X[:100], y[:100]).predict_interval(X[100:], 0.8).T
            shares.append(np.mean((y[100:] >= low) & (y[100:] <= high)))
        assert abs(np.mean(shares) - 0.8) < 0.05

    def test_shapes_and_nesting(self):
        model = regressor().fit(X, np.column_stack([Y, 2 * Y]))
        narrow, wide = (model.predict_interval(X_NEW, c) for c in (0.5, 0.9))
        assert narrow.shape == (40, 2, 2)
        assert (wide[..., 0] <= narrow[..., 0]).all()
        assert (wide[..., 1] >= narrow[..., 1]).all()
        np.testing.assert_allclose(narrow.mean(axis=2), model.predict(X_NEW))

    def test_units_are_those_of_y(self):
        first, second = (regressor().fit(X, y).predict_interval(X_NEW) for y in (Y, 5 + 100 * Y))
        np.testing.assert_allclose(second, 5 + 100 * first, rtol=1e-6)

    def test_few_rows_are_not_enough_for_a_high_coverage(self):
        model = regressor().fit(X[:8], Y[:8])
        assert np.isinf(model.predict_interval(X_NEW, 0.9)).all()
        assert np.isfinite(model.predict_interval(X_NEW, 0.8)).all()

    def test_weights_are_copies(self):
        weights = 1.0 + np.arange(60) % 3
        copies = np.repeat(np.arange(60), weights.astype(int))
        of_weights = regressor().fit(X, Y, sample_weight=weights)
        of_copies = regressor().fit(X[copies], Y[copies])
        intervals = [model.predict_interval(X_NEW) for model in (of_weights, of_copies)]
        np.testing.assert_allclose(*intervals, atol=1e-5 * Y.std())

    @pytest.mark.parametrize("parameters", [{}, {"batch_size": 16}, {"loss": "huber"}])
    def test_rows_held_out_serve_every_fit(self, parameters):
        model = regressor(early_stopping=True, validation_fraction=0.4, **parameters).fit(X, Y)
        assert np.isfinite(model.predict_interval(X_NEW)).all()

    def test_without_rows_left_out_it_says_what_to_set(self):
        with pytest.raises(ValueError, match="early_stopping=True, which holds rows out"):
            regressor(batch_size=20).fit(X, Y).predict_interval(X_NEW)
        with pytest.raises(ValueError, match="rows out in turn needs the squared error"):
            regressor(loss="huber").fit(X, Y).predict_interval(X_NEW)

    @pytest.mark.parametrize("coverage", [0, 1, 1.5, -0.1, "a", np.nan])
    def test_coverage_out_of_range(self, coverage):
        with pytest.raises(ValueError, match="coverage must lie between 0 and 1"):
            regressor().fit(X, Y).predict_interval(X_NEW, coverage)

    @pytest.mark.slow
    @pytest.mark.parametrize("make", [regressor, search])
    def test_they_are_saved(self, make, tmp_path):
        model = make().fit(X, Y)
        save(model, tmp_path / "model")
        for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
            found = again.predict_interval(X_NEW)
            np.testing.assert_array_equal(found, model.predict_interval(X_NEW))


class TestSets:
    @pytest.mark.slow
    @pytest.mark.parametrize("of", [AdaptedFlowClassifier, AdaptedFlowClassifierCV])
    def test_coverage(self, of):
        shares, sizes = [], []
        for seed in range(4):
            draw = np.random.RandomState(seed)
            X = draw.normal(size=(450, 2))
            y = np.digitize(X[:, 0] + 0.8 * draw.normal(size=450), [-0.5, 0.5])
            parameters = {} if of is AdaptedFlowClassifier else SEARCH
            model = small(of, **{**parameters, "random_state": 0}).fit(X[:150], y[:150])
            sets = model.predict_set(X[150:], 0.8)
            shares.append(sets[np.arange(300), y[150:]].mean())
            sizes.append(sets.sum(axis=1).mean())
        assert abs(np.mean(shares) - 0.8) < 0.05
        assert 1 < np.mean(sizes) < 2

    def test_a_set_has_the_label_that_is_predicted(self):
        X, y = classes(60, 3)
        model = classifier().fit(X, y)
        sets = model.predict_set(X, 0.1)
        places = np.searchsorted(model.classes_, model.predict(X))
        assert sets[np.arange(60), places].all()
