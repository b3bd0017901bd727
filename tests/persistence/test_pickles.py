"""Pickles: what is read says the same, they are small, and they know their version."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.model_selection import GridSearchCV

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    SmoothRobustScaler,
    exceptions,
)
from sklearn_gflow.contract import state
from tests.estimators.data import small, table
from tests.persistence.models import MODELS, fitted, go_on, hold_same, said


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_says_the_same(name):
    model, X = fitted(name)
    before = said(model, X)
    again = pickled(model)
    hold_same(said(again, X), before)
    hold_same(said(pickled(again), X), before)
    hold_same(said(model, X), before)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("name", ["regressor", "search", "periodic", "table", "not fitted"])
def test_copies_hold_all(name, copied):
    model, X = fitted(name)
    again = copied(model)
    assert list(vars(again)) == list(vars(model))
    hold_same(said(again, X), said(model, X))
    if name == "regressor":
        np.testing.assert_array_equal(again.ntk_gram_, model.ntk_gram_)
        assert (again.ntk_gram_ is model.ntk_gram_) == (copied is copy.copy)


@pytest.mark.parametrize("kept", ["auto", True, False])
def test_gram_is_kept_where_it_was_asked_for(kept):
    model = small(AdaptedFlowRegressor, store_gram=kept).fit(*table())
    gram = pickled(model).ntk_gram_
    assert (gram is not None) == (kept is True)
    if kept is True:
        np.testing.assert_array_equal(gram, model.ntk_gram_)


def test_gram_may_be_asked_for_after_the_fit():
    model = small(AdaptedFlowRegressor).fit(*table())
    gram = pickled(model.set_params(store_gram=True)).ntk_gram_
    np.testing.assert_array_equal(gram, model.ntk_gram_)


@pytest.mark.parametrize("name", ["regressor", "classifier"])
@pytest.mark.parametrize("further", ["fit", "partial_fit"])
def test_training_goes_on(name, further):
    model, X, y = go_on(name)
    again = pickled(model)
    for one in (model, again):
        getattr(one, further)(X, y)
    hold_same(said(again, X), said(model, X))


def test_in_a_grid():
    X, y = table(30)
    search = GridSearchCV(pickled(small(AdaptedFlowRegressor).fit(X, y)), {"alpha": [0.5, 1]}, cv=2)
    assert clone(pickled(search.fit(X, y)).best_estimator_).fit(X, y).alpha in (0.5, 1)


def test_read_only_arrays(tmp_path):
    """As joblib maps them from disk."""
    model, X = fitted("periodic")
    joblib.dump(model, tmp_path / "model.joblib")
    hold_same(joblib.load(tmp_path / "model.joblib", mmap_mode="r").predict(X), model.predict(X))


def test_own_module_is_written_by_its_name():
    model = small(AdaptedFlowRegressor, module=torch.nn.Linear).fit(*table())
    again = pickled(model)
    hold_same(again.parameters_, model.parameters_)
    hold_same(again.parameters_init_, model.parameters_init_)


class TestSize:
    """Bytes; a network of sklearn's MLPRegressor of these widths has 11,301 parameters."""

    X, y = make_regression(1900, 10, noise=5, random_state=0)
    parameters = 11_301 * 8
    rows = X.nbytes + y.nbytes

    @pytest.mark.slow
    def test_regressor(self):
        model = AdaptedFlowRegressor(random_state=0, schedule=1, t_end=0.1).fit(self.X, self.y)
        assert model.ntk_gram_.nbytes == 1900**2 * 8
        # θ and θ₀, the rows that return_std stands on, eigenvalues and the numbers of the rows.
        assert len(pickle.dumps(model)) < 2 * self.parameters + self.rows + 50_000

    @pytest.mark.slow
    def test_classifier(self):
        model = AdaptedFlowClassifier(random_state=0, schedule=1, t_end=0.1)
        model.fit(self.X, self.y > 0)
        assert len(pickle.dumps(model)) < 2 * self.parameters + 50_000

    @pytest.mark.slow
    def test_members_of_a_search_share_their_rows(self):
        X, y = self.X[:400], self.y[:400]
        model = AdaptedFlowRegressorCV((20,), alphas=[0.5], random_state=0).fit(X, y)
        parameters = sum(member._network.theta.nbytes for member in model.estimators_)
        rows = (X.nbytes + y.nbytes) + len(model.estimators_) * 3 * y.nbytes
        assert len(model.estimators_) > 1
        assert len(pickle.dumps(model)) < 2 * parameters + rows + 60_000


class TestVersion:
    @pytest.mark.parametrize("name", ["regressor", "search", "scaler", "not fitted"])
    def test_another_one_is_told(self, name, monkeypatch):
        model, X = fitted(name)
        with monkeypatch.context() as patched:
            patched.setattr(state, "VERSION", "0.0.7")
            written = pickle.dumps(model)
        message = "This pickle was written by version 0.0.7 of sklearn_gflow, and this"
        with pytest.warns(exceptions.VersionWarning, match=message) as caught:
            again = pickle.loads(written)
        assert {warning.filename for warning in caught} == {__file__}
        hold_same(said(again, X), said(model, X))

    def test_the_same_is_not(self):
        assert pickled(SmoothRobustScaler()).clip == 3.0  # warnings are errors here

    def test_state_of_no_version_is_read(self):
        model = SmoothRobustScaler().fit(table()[0])
        again = SmoothRobustScaler.__new__(SmoothRobustScaler)
        again.__setstate__(vars(model))
        hold_same(said(again, table()[0]), said(model, table()[0]))

    def test_nothing_of_it_is_left_on_the_estimator(self):
        model, _ = fitted("regressor")
        assert vars(pickled(model)).keys() == vars(model).keys()


def test_parameter_that_came_later_has_its_default():
    """A pickle of an older version has not all parameters of a newer one."""
    model, X = fitted("scaler")
    older = {name: value for name, value in model.__getstate__().items() if name != "clip"}
    again = SmoothRobustScaler.__new__(SmoothRobustScaler)
    again.__setstate__(older)
    hold_same(again.transform(X), model.transform(X))


def test_protocols():
    model, X = fitted("periodic")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        file = io.BytesIO()
        pickle.dump(model, file, protocol)
        hold_same(pickle.loads(file.getvalue()).predict(X), model.predict(X))
