"""The callbacks of scikit-learn 1.9 on our estimators: alone, in searches and in pipelines."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import CallbackSupportMixin
from tests.estimators.held import (
    WAYS,
    each_kind,
    each_way,
    example,
    hold,
    partial_fit,
    plain,
    search,
)

callback = pytest.importorskip("sklearn.callback")


class Recorder:
    """Keeps the tree of tasks, as one that goes to the estimators inside others too."""

    max_propagation_depth = None

    def __init__(self, blow_at=0, error=RuntimeError, stop_at=0):
        self.blow_at, self.error, self.stop_at = blow_at, error, stop_at
        self.begun, self.ended, self.calls = [], [], []

    def __reduce__(self):  # so that pickles of a model are equal, whatever was recorded
        return Recorder, ()

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(self.path(context))

    def on_fit_task_end(self, estimator, context):
        self.ended.append(self.path(context))
        if len(self.ended) == self.blow_at:
            raise self.error("the callback has blown")
        return len(self.ended) == self.stop_at

    def path(self, context):
        parents = self.path(context.parent) if context.parent else ()
        return (*parents, (context.task_name, context.task_id))

    def names(self, depth):
        """Names of the tasks that ended at a depth."""
        return [path[-1][0] for path in self.ended if len(path) == depth]


def recorded(model, call=lambda m, X, y: m.fit(X, y), **options):
    recorder = Recorder(**options)
    call(model.set_callbacks(recorder), *example(model))
    return recorder


# -- the tree of tasks -----------------------------------------------------------------------------


@pytest.mark.slow
@each_way
@each_kind
def test_what_begins_ends(kind, way):
    make, parameters, call = WAYS[way]
    recorder = recorded(make(kind, **parameters), call)
    assert sorted(recorder.begun) == sorted(recorder.ended)
    assert recorder.calls == ["setup", "teardown"]
    name = "partial_fit" if way == "partial_fit" else "fit"
    assert recorder.ended[-1] == ((name, 0),)


@pytest.mark.parametrize("way", ["fit", "fit in blocks", "fit by RK45", "partial_fit"])
def test_a_flow_is_a_hundred_percents_of_its_way(way):
    make, parameters, call = WAYS[way]
    recorder = recorded(make("regressor", **parameters), call)
    leaves = [path[1] for path in recorder.ended if len(path) == 2]
    assert [task_id for _, task_id in leaves] == list(range(100))


def test_percents_are_of_t():
    model = plain("regressor", t_end=0.5, schedule=[0.1, 0.25, 0.4, 0.5])
    recorder = recorded(model)
    last = dict(path[1] for path in recorder.ended if len(path) == 2)
    assert list(last.values()) == [19, 49, 79, 99]
    assert [float(name.split(",")[0].removeprefix("t = ")) for name in last] == pytest.approx(
        [0.1, 0.25, 0.4, 0.5]
    )


def test_percents_of_blocks_are_of_epochs():
    model = plain("regressor", batch_size=8, t_end=0.8)
    recorder = recorded(model)
    last = dict(path[1] for path in recorder.ended if len(path) == 2)
    assert np.diff([-1, *last.values()]) == pytest.approx(100 / model.n_iter_, abs=1)


def test_rescalings_share_the_bar():
    leaves = recorded(plain("regressor", rescalings=1)).names(2)
    assert len(leaves) == 100
    assert leaves[49].startswith("t = 0.95")


def test_names_have_loss_and_score():
    model = plain("regressor", early_stopping=True)
    leaves = recorded(model).names(2)
    assert leaves
    assert all(", loss = " in name and ", validation score = " in name for name in leaves)


@pytest.mark.slow
@each_kind
def test_a_search_is_told_by_candidate_and_fold(kind):
    model = search(kind, t_ends=(0.3, 0.96))
    recorder = recorded(model)
    assert recorder.names(2) == ["leave-one-out", "paths", "stretched columns", "fit"]
    third = recorder.names(3)
    folds = [name for name in third if "candidate" in name]
    assert [name[: name.index(":")] for name in folds] == [
        f"candidate 1 of 1, fold {k} of 3" for k in (1, 2, 3)
    ] * 2
    assert all("alpha=" in name for name in folds)
    assert len([name for name in third if "member" in name]) == len(model.estimators_)


# -- stopping, and what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize("way", ["fit", "fit in blocks", "fit by RK45"])
def test_a_callback_may_end_a_flow(way):
    make, parameters, _ = WAYS[way]
    model = make("regressor", **parameters)
    recorded(model, stop_at=1)
    assert model.outcome_.startswith("a callback ended the flow")
    assert 0 < model.t_ < model.t_end


@pytest.mark.slow
@each_way
@each_kind
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_one_that_raises_changes_nothing(kind, way, error):
    make, parameters, call = WAYS[way]
    recorder = Recorder()
    model = make(kind, **parameters).set_callbacks(recorder)
    call(model, *example(model))
    n_tasks = len(recorder.ended)
    for blow_at in (1, n_tasks):  # in the middle, and when all is done

        def stop(m, blow_at=blow_at):
            recorder.blow_at, recorder.error = blow_at, error
            recorder.ended, recorder.begun, recorder.calls = [], [], []
            try:
                call(m, *example(m))
            finally:
                calls = recorder.calls
                recorder.blow_at = 0
                recorder.ended, recorder.begun, recorder.calls = [], [], []
                assert calls == ["setup", "teardown"]

        recorder.ended, recorder.begun, recorder.calls = [], [], []
        hold(model, stop, error, "the callback has blown")


def test_one_that_fails_to_set_up(monkeypatch):
    def setup(self, estimator, context):
        raise RuntimeError("no set-up")

    monkeypatch.setattr(Recorder, "setup", setup)
    model = plain("regressor").set_callbacks(Recorder())
    hold(model.set_callbacks(Recorder()), lambda m: m.fit(*example(m)), RuntimeError, "no set-up")


# -- ScoringMonitor --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fit", "fit in blocks", "fit by RK45"])
@each_kind
def test_scores_on_the_way_are_those_of_the_path(kind, way):
    make, parameters, _ = WAYS[way]
    scoring = "r2" if kind == "regressor" else "neg_log_loss"
    monitor = callback.ScoringMonitor(scoring=scoring)
    model = make(kind, store_path=True, **parameters)
    X, y = example(model)
    model.set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    scores = [row[scoring] for row in rows if len(row["task_id_path"]) == 2]
    scorer = model.score if kind == "regressor" else None
    assert len(scores) > 1
    assert scores[-1] == pytest.approx(
        next(r[scoring] for r in rows if len(r["task_id_path"]) == 1)
    )
    if scorer:
        staged = list(model.staged_predict(X))
        u = [1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum() for p in staged]
        assert set(np.round(scores, 8)) <= set(np.round(u, 8))
        assert scores[-1] == pytest.approx(scorer(X, y))


def test_weights_reach_the_score():
    monitor = callback.ScoringMonitor(scoring="r2")
    model = plain("regressor")
    X, y = example(model)
    weights = np.arange(1.0, 19.0)
    model.set_callbacks(monitor).fit(X, y, sample_weight=weights)
    assert monitor.get_logs().data[0]["r2"] == pytest.approx(model.score(X, y, weights))


@each_kind
def test_a_search_has_the_score_of_what_it_found(kind):
    scoring = "r2" if kind == "regressor" else "accuracy"
    monitor = callback.ScoringMonitor(scoring=scoring)
    model = search(kind)
    X, y = example(model)
    model.set_callbacks(monitor).fit(X, y)
    (row,) = monitor.get_logs().data
    assert row[scoring] == pytest.approx(model.score(X, y))


# -- ProgressBar -----------------------------------------------------------------------------------


@pytest.fixture
def bar(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    return callback.ProgressBar(max_propagation_depth=None)


@pytest.mark.slow
@each_way
@each_kind
def test_bar(kind, way, bar, capsys):
    make, parameters, call = WAYS[way]
    model = make(kind, **parameters).set_callbacks(bar)
    call(model, *example(model))
    told = capsys.readouterr().out
    assert "100%" in told
    assert f"{type(model).__name__} - " in told


def test_bar_inside_of_a_search_of_scikit_learn(bar, capsys):
    grid = GridSearchCV(plain("regressor"), {"alpha": [0.2, 0.5]}, cv=2)
    grid.set_callbacks(bar).fit(*example(plain("regressor")))
    told = capsys.readouterr().out
    # Four in the search, and the one of the best parameters.
    assert told.count("AdaptedFlowRegressor - fit") == 5
    check_is_fitted(grid)


def test_bar_inside_of_a_pipeline(bar, capsys):
    model = make_pipeline(StandardScaler(), plain("classifier"))
    model.set_callbacks(bar).fit(*example(model))
    assert "fit-final-estimator | AdaptedFlowClassifier - fit" in capsys.readouterr().out


def test_bar_goes_when_a_fit_is_interrupted(bar, capsys):
    model = plain("regressor").set_callbacks(bar, Recorder(blow_at=2, error=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.fit(*example(model))
    assert not bar._listener_handles
    model.set_callbacks(bar).fit(*example(model))


# -- what scikit-learn does with estimators --------------------------------------------------------


@each_kind
@pytest.mark.parametrize("make", [plain, search])
def test_callbacks_are_no_parameters(kind, make):
    model = make(kind).set_callbacks(callback.ScoringMonitor(scoring="r2"))
    assert model.get_params() == make(kind).get_params()
    assert clone(model)._skl_callbacks == model._skl_callbacks
    assert repr(model) == repr(make(kind))
    model.set_callbacks()
    assert "_skl_callbacks" not in vars(model)


def test_a_fitted_model_with_callbacks_is_pickled():
    model = plain("regressor").set_callbacks(Recorder())
    X, y = example(model)
    model.fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert not {"_callback_fit_ctx", "_skl_callbacks_to_teardown"} & set(vars(model))


@pytest.mark.slow
@each_way
@each_kind
def test_callbacks_change_nothing(kind, way):
    make, parameters, call = WAYS[way]
    bare, watched = make(kind, **parameters), make(kind, **parameters).set_callbacks(Recorder())
    X, y = example(bare)
    np.testing.assert_array_equal(call(bare, X, y).predict(X), call(watched, X, y).predict(X))


def test_support_is_that_of_scikit_learn():
    assert CallbackSupportMixin is callback.CallbackSupportMixin
    assert partial_fit(plain("regressor"), *example(plain("regressor"))).t_ > 0
