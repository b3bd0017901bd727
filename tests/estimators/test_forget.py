"""`forget`: the fit without some rows is the fit that they were never in."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    load,
    save,
)
from tests.estimators import data
from tests.estimators.data import small, table
from tests.estimators.held import Unchanged
from tests.modules import out

X, Y = table(40, 3)
X[4, 1] = 40.0  # an outlier, which scaling bends
X_NEW, _ = table(25, 3, seed=1)
ROUGH, LABELS = data.classes(40, 3)
GONE = [3, 17, 20]
STAY = np.setdiff1d(np.arange(40), GONE)
SEARCH = {"encodings": [None], "alphas": [0.3, 0.5]}


def regressor(**parameters):
    return small(AdaptedFlowRegressor, **parameters)


def classifier(**parameters):
    return small(AdaptedFlowClassifier, **parameters)


def distance(model, other):
    """Between readings of two models, in units of their spread."""
    first, second = model._readings(X_NEW), other._readings(X_NEW)
    return np.abs(first - second).max() / second.std()


NUMBERS = {
    "defaults": {},
    "adapted": {"alpha": 1.0, "damping": 0.01},
    "standard": {"alpha": 0.0},
    "piecewise": {"encoding": "piecewise"},
    "periodic": {"encoding": "periodic"},
    "stretched": {"rescalings": 1},
    "leave-one-out": {"early_stopping": "loo"},
    "columns as they are": {"scale_inputs": False},
    "linear": {"hidden_layer_sizes": ()},
    "equal steps": {"schedule": 4},
    "krylov": {"solver": "krylov"},
    "float32": {"dtype": "float32"},
    "huber": {"loss": "huber"},
    "poisson": {"loss": "poisson"},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", NUMBERS)
def test_numbers_are_those_of_a_refit(way):
    whole = regressor(**NUMBERS[way]).fit(X, Y)
    forgotten = copy.deepcopy(whole).forget(GONE)
    refitted = regressor(**NUMBERS[way]).fit(X[STAY], Y[STAY])
    tolerance = 1e-3 if way in ("float32", "huber", "poisson") else 1e-7
    assert distance(forgotten, refitted) < tolerance
    assert distance(forgotten, whole) > 0.02
    np.testing.assert_allclose(forgotten.loss_curve_, refitted.loss_curve_, rtol=1e-2, atol=1e-6)
    assert forgotten.X_train_.shape[0] == forgotten.y_train_.shape[0] == 37


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"loss": "log_loss", "damping": 0.01, "t_end": 0.5},
        {"class_weight": "balanced"},
        {"class_weight": {0: 1.0, 1: 3.0, 2: 1.0}},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
def test_labels_are_those_of_a_refit(parameters):
    forgotten = classifier(**parameters).fit(ROUGH, LABELS).forget(GONE)
    refitted = classifier(**parameters).fit(ROUGH[STAY], LABELS[STAY])
    found, expected = (model.predict_proba(X_NEW) for model in (forgotten, refitted))
    np.testing.assert_allclose(found, expected, atol=1e-3 if "loss" in parameters else 1e-8)
    assert forgotten.collapse_.within == pytest.approx(refitted.collapse_.within, rel=1e-3)


def test_several_outputs_and_several_labels():
    several = np.column_stack([Y, -(Y**2)])
    forgotten = regressor().fit(X, several).forget(GONE)
    assert distance(forgotten, regressor().fit(X[STAY], several[STAY])) < 1e-9
    indicators = np.column_stack([Y > 3, X[:, 2] > 0]).astype(int)
    forgotten = classifier().fit(X, csr_array(indicators)).forget(GONE)
    refitted = classifier().fit(X[STAY], csr_array(indicators[STAY]))
    assert distance(forgotten, refitted) < 1e-9
    np.testing.assert_array_equal(
        forgotten.predict(X_NEW).toarray(), refitted.predict(X_NEW).toarray()
    )


@pytest.mark.parametrize("scale", [1.0, 0.2], ids=["copies", "relative"])
def test_weights_stay_with_their_rows(scale):
    weights = scale * (1.0 + np.arange(40) % 3)
    forgotten = regressor().fit(X, Y, sample_weight=weights).forget(GONE)
    refitted = regressor().fit(X[STAY], Y[STAY], sample_weight=weights[STAY])
    assert distance(forgotten, refitted) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("lightest", [True, False])
def test_relative_weights_are_so_of_the_rows_that_remain(lightest):
    weights = 1.3 * np.random.default_rng(0).random(40)
    order = np.argsort(weights)
    stay = np.sort(order[6:] if lightest else order[:-6])
    gone = np.setdiff1d(np.arange(40), stay)
    for make, y in ((regressor, Y), (classifier, LABELS)):
        forgotten = make().fit(X, y, sample_weight=weights).forget(gone[:3])
        places = np.flatnonzero(np.isin(np.delete(np.arange(40), gone[:3]), gone))
        forgotten = forgotten.forget(places)
        refitted = make().fit(X[stay], y[stay], sample_weight=weights[stay])
        assert distance(forgotten, refitted) < 1e-9


def test_a_module_of_ones_own():
    parameters = {"module": out(lambda x: x), "t_end": 0.5}
    forgotten = regressor(**parameters).fit(X[:, :2], Y).forget(GONE)
    refitted = regressor(**parameters).fit(X[STAY, :2], Y[STAY])
    found, expected = (model.predict(X_NEW[:, :2]) for model in (forgotten, refitted))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_sparse_rows():
    sparse = csr_array(np.where(np.abs(X) < 0.5, 0.0, X))
    forgotten = regressor().fit(sparse, Y).forget(GONE)
    assert distance(forgotten, regressor().fit(sparse[STAY], Y[STAY])) < 1e-9


def framed(X):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    return frame.assign(kind=np.where(np.arange(len(X)) % 2, "odd", "even"))


def test_a_frame_keeps_what_was_learnt_of_its_categories():
    numbers = pd.DataFrame(X, columns=["a", "b", "c"])
    forgotten = regressor().fit(numbers, Y).forget(GONE)
    assert not forgotten.forgotten_["old_table"]
    refitted = regressor().fit(numbers.iloc[STAY], Y[STAY])
    new = pd.DataFrame(X_NEW, columns=numbers.columns)
    np.testing.assert_allclose(forgotten.predict(new), refitted.predict(new), rtol=1e-9)
    forgotten = regressor(encoding="piecewise").fit(framed(X), Y).forget(GONE)
    assert forgotten.forgotten_["old_table"]
    refitted = regressor(encoding="piecewise").fit(framed(X).iloc[STAY], Y[STAY])
    found, expected = (model.predict(framed(X_NEW)) for model in (forgotten, refitted))
    # The levels are the same without the rows.
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_an_encoding_that_would_have_other_columns_stays():
    steps = np.column_stack([np.maximum(0, np.arange(-20.0, 20.0)), np.linspace(0, 1, 40)])
    model = regressor(encoding="piecewise").fit(steps, Y)
    model.forget(np.arange(25, 40))  # less than a sixth of the others are not zero
    assert model.forgotten_["old_columns"]
    assert len(model.X_train_) == 25
    found = model.explain(steps).sum(axis=1) + model.target_mean_
    np.testing.assert_allclose(found, model.predict(steps), atol=1e-4)


def test_rows_held_out_keep_the_time_that_they_chose():
    model = regressor(early_stopping=True, validation_fraction=0.3).fit(X, Y)
    t, n_rows = model.t_, len(model.X_train_)
    model.forget(GONE)
    assert model.t_ == pytest.approx(t)
    assert len(model.X_train_) == n_rows - 3
    assert not hasattr(model, "validation_scores_")
    assert np.isfinite(model.predict_interval(X_NEW)).all()


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)], ids=["none", "draws"])
def test_the_start_is_that_of_the_fit_however_it_was_drawn(random_state):
    model = regressor(random_state=random_state, encoding="periodic").fit(X, Y)
    start, encoder = model.coefs_init_, model._inputs.encoder
    model.forget(GONE)
    np.testing.assert_array_equal(model.coefs_init_[0], start[0])
    assert not model.forgotten_["old_columns"]
    assert model._inputs.encoder.random_state == encoder.random_state


class TestRows:
    def test_one_after_the_other_is_both_at_once(self):
        at_once = regressor().fit(X, Y).forget([3, 17, 20])
        in_turn = regressor().fit(X, Y).forget([17]).forget([3, 19])  # 20 is 19 without 17
        assert distance(in_turn, at_once) < 1e-9
        assert in_turn.forgotten_["n_rows"] == at_once.forgotten_["n_rows"] == 3

    @pytest.mark.slow
    @settings(max_examples=15, deadline=None)
    @given(st.sets(st.integers(0, 39), max_size=30))
    def test_any_set_is_forgotten_in_any_form(self, gone):
        mask = np.isin(np.arange(40), list(gone))
        forms = [mask, sorted(gone), list(gone) * 2]
        whole = regressor(hidden_layer_sizes=(5,), t_end=0.3).fit(X, Y)
        found = [copy.deepcopy(whole).forget(form).predict(X_NEW) for form in forms]
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])
        if gone:
            refitted = regressor(hidden_layer_sizes=(5,), t_end=0.3).fit(X[~mask], Y[~mask])
            np.testing.assert_allclose(found[0], refitted.predict(X_NEW), rtol=1e-8)

    @pytest.mark.parametrize("rows", [[], np.zeros(40, dtype=bool)])
    def test_none_is_nothing(self, rows):
        model = regressor().fit(X, Y)
        unchanged = Unchanged(model, X)
        assert model.forget(rows) is model
        unchanged.check()


class TestAfterwards:
    def test_what_remains_is_explained(self):
        model = regressor().fit(X, Y).forget(GONE)
        found = model.explain(X_NEW)
        assert found.shape == (25, 37)
        moved = model.predict(X_NEW) - Y[STAY].mean()
        np.testing.assert_allclose(found.sum(axis=1), moved, atol=1e-4)
        assert model.explain(X_NEW, of="deletions").shape == (25, 37)

    def test_deviations_and_intervals_are_those_of_a_refit(self):
        model, refitted = regressor().fit(X, Y), regressor().fit(X[STAY], Y[STAY])
        model.predict_interval(X_NEW)  # which is kept in memory
        model.predict(X_NEW, return_std=True)
        model.forget(GONE)
        np.testing.assert_allclose(
            model.predict_interval(X_NEW), refitted.predict_interval(X_NEW), rtol=1e-6
        )
        found, expected = (m.predict(X_NEW, return_std=True)[1] for m in (model, refitted))
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_it_is_stored(self, tmp_path):
        model = regressor().fit(X, Y).forget(GONE)
        save(model, tmp_path / "model")
        for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(again.predict(X_NEW), model.predict(X_NEW))
            assert again.forgotten_ == model.forgotten_
            assert distance(again.forget([0]), copy.deepcopy(model).forget([0])) < 1e-9

    def test_fits_go_on_from_it(self):
        model = regressor(warm_start=True).fit(X, Y).forget(GONE)
        t = model.t_
        model.fit(X[STAY], Y[STAY])
        assert model.t_ > t
        assert not hasattr(model, "forgotten_")
        regressor().fit(X, Y).forget(GONE).partial_fit(X[:20], Y[:20])

    def test_parameters_stay(self):
        model = regressor(early_stopping=True, encoding="piecewise").fit(X, Y)
        before = model.get_params()
        assert model.forget([0]).get_params() == before

    def test_within_a_pipeline(self):
        pipeline = make_pipeline(StandardScaler(), regressor()).fit(X, Y)
        pipeline[-1].forget(GONE)
        assert np.isfinite(pipeline.predict(X_NEW)).all()


class TestSearches:
    @pytest.mark.slow
    @pytest.mark.parametrize("of", [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV])
    def test_members_forget_and_choices_stay(self, of):
        inputs, y = (X, Y) if of is AdaptedFlowRegressorCV else (ROUGH, LABELS)
        search = small(of, **SEARCH).fit(inputs, y)
        before, n_apart = copy.deepcopy(search), len(search._apart.truth)
        members = [copy.copy(member) for member in search.estimators_]
        assert search.forget(GONE) is search
        for member, as_it_was in zip(search.estimators_, members, strict=True):
            alone = type(member)(**as_it_was.get_params()).fit(inputs[STAY], y[STAY])
            assert distance(member, alone) < 1e-6
            assert as_it_was._kept.n_train == 40
        assert search.best_estimator_ is search.estimators_[0]
        assert search.best_params_ == before.best_params_
        assert len(search._apart.truth) == n_apart - 3
        assert search.explain(X_NEW).shape[1] == 37
        again = pickle.loads(pickle.dumps(search)).forget([0, 1])
        assert again.forgotten_["n_rows"] == 5
        whole = before.fit(inputs, y)
        assert not hasattr(whole, "forgotten_")

    @pytest.mark.slow
    def test_intervals_stand_on_what_remains(self):
        search = small(AdaptedFlowRegressorCV, **SEARCH).fit(X, Y).forget(GONE)
        truth = search._apart_of().truth[:, 0]
        assert not np.isin(Y[GONE], truth).any()
        assert np.isfinite(search.predict_interval(X_NEW)).all()

    def test_without_members_there_is_nothing_to_forget(self):
        search = small(AdaptedFlowRegressorCV, refit=False, **SEARCH).fit(X, Y)
        with pytest.raises(AttributeError, match="refit=False"):
            search.forget([1])

    def test_a_member_that_cannot_leaves_all_as_they_were(self):
        search = small(AdaptedFlowRegressorCV, **SEARCH).fit(X, Y)
        unchanged = Unchanged(search, X)
        with pytest.raises(ValueError, match="rows must be places among the 40"):
            search.forget([40])
        unchanged.check()


def blocks():
    return regressor(batch_size=10).fit(X, Y), [1], "forget follows the flow .* batch_size=None"


def went_on():
    model = regressor(warm_start=True).fit(X, Y).fit(X, Y)
    return model, [1], "forget follows the flow .* warm_start=False"


def by_scipy():
    return regressor(method="RK45", t_end=0.2).fit(X, Y), [1], "method='exponential'"


def pickled():
    model = pickle.loads(pickle.dumps(classifier().fit(ROUGH, LABELS)))
    return model, [1], "forget needs the training rows"


def all_of_a_class():
    return classifier().fit(ROUGH, LABELS), LABELS == 1, r"rows are all that there were of \[1\]"


def almost_all():
    return regressor().fit(X, Y), np.arange(39), "rows leave 1 of 40 .* name fewer"


def weighted_twice():
    model = classifier(class_weight="balanced").fit(ROUGH, LABELS, sample_weight=np.arange(1, 41))
    return model, [1], "forget cannot tell class_weight='balanced' from the sample_weight"


def another_alpha():
    model = regressor().fit(X, Y).set_params(alpha=0.9, damping=0.01)
    return model, [1], r"parameters have changed since: \['alpha', 'damping'\]"


def another_loss():
    return regressor().fit(X, Y).set_params(loss="huber"), [1], "have changed since"


def another_network():
    model = regressor().fit(X, Y).set_params(hidden_layer_sizes=(7,))
    return model, [1], "forget continues from the last fit, but its network is another"


def no_rows(rows):
    return lambda: (regressor().fit(X, Y), rows, "rows must be places among the 40 training rows")


FAULTS = {
    **{
        one.__name__: one
        for one in (
            blocks, went_on, by_scipy, pickled, all_of_a_class, almost_all, weighted_twice,
            another_alpha, another_loss, another_network,
        )
    },
    "beyond": no_rows([40]),
    "negative": no_rows([-1]),
    "fractions": no_rows([0.5]),
    "names": no_rows(["a"]),
    "a short mask": no_rows(np.ones(39, dtype=bool)),
    "two axes": no_rows([[1, 2]]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_forgotten_changes_nothing(fault):
    model, rows, message = FAULTS[fault]()
    unchanged = Unchanged(model, ROUGH if isinstance(model, AdaptedFlowClassifier) else X)
    with pytest.raises(ValueError, match=message):
        model.forget(rows)
    unchanged.check()


@pytest.mark.parametrize("verb", ["_prepared", "_build", "_flow", "_expose"])
def test_what_is_interrupted_changes_nothing(verb, monkeypatch):
    model = regressor().fit(X, Y)
    unchanged = Unchanged(model, X)

    def interrupted(*_, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr(AdaptedFlowRegressor, verb, interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.forget([1])
    monkeypatch.undo()
    unchanged.check()
