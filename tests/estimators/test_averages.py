"""The mean of several networks: wherever a network is fitted, used, kept or refused."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor, load, save
from sklearn_gflow.estimators import _averages
from sklearn_gflow.estimators._settings import Settings
from sklearn_gflow.geometry import LogLoss, Shape
from sklearn_gflow.geometry.losses import SquaredLoss
from tests.estimators.data import ESTIMATORS

pytestmark = pytest.mark.slow

each = pytest.mark.parametrize("estimator", ESTIMATORS)
MEMBERS = 3


def rows(estimator, n=1000, *, turns=1.0):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = np.sin(2 * turns * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=n)
    return X, (y > 0).astype(int) + (y > 1) if estimator is AdaptedFlowClassifier else y


def few(estimator, **parameters):
    """A mean of networks in blocks to a given end, over few rows."""
    given = {"batch_size": 16, "n_members": MEMBERS, "t_end": 0.5, "random_state": 0}
    return estimator(**{"hidden_layer_sizes": (6,), **given, **parameters})


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


def by_layers(model, X, which=""):
    """f_θ of scaled columns, from the weights that the model shows."""
    weights = getattr(model, f"coefs_{which}"), getattr(model, f"intercepts_{which}")
    a = model._inputs.scaler.transform(X)
    for depth, (W, b) in enumerate(zip(*weights, strict=True)):
        a = a @ W + b if depth == len(weights[0]) - 1 else np.tanh(a @ W + b)
    return a


@each
class TestAMean:
    def test_is_the_network_that_it_shows(self, estimator):
        X, y = rows(estimator, 60)
        model = few(estimator, hidden_layer_sizes=(6, 5)).fit(X, y)
        assert model.n_members_ == MEMBERS
        assert [W.shape for W in model.coefs_[:2]] == [(3, 18), (18, 15)]
        assert not model.coefs_[1][:6, 5:].any()
        found = model._network.model(model._inputs.scaler.transform(X))
        np.testing.assert_allclose(found, by_layers(model, X) - by_layers(model, X, "init_"))

    def test_is_that_of_networks_fitted_alone(self, estimator):
        X, y = rows(estimator, 60)
        # In blocks of the same rows, with the same unit of the Gram.
        model = few(estimator, n_members=2, metric_scale=1.0).fit(X, y)
        start = model._network.reference
        alone = few(estimator, n_members=1, metric_scale=2.0, batch_size=16).fit(X, y)
        np.testing.assert_array_equal(alone._network.reference, start[: len(start) // 2])
        np.testing.assert_array_equal(alone._network.theta, model._network.theta[: len(start) // 2])

    def test_same_seed_same_result(self, estimator):
        X, y = rows(estimator, 60)
        one, two = (few(estimator).fit(X, y) for _ in range(2))
        np.testing.assert_array_equal(one._network.theta, two._network.theta)

    def test_survives_pickles_files_and_copies(self, estimator, tmp_path):
        X, y = rows(estimator, 60)
        model = few(estimator).fit(X, y)
        save(model, tmp_path / "model.safetensors")
        for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model.safetensors")):
            np.testing.assert_array_equal(outputs(again, X), outputs(model, X))
            np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])
            assert again.n_members_ == MEMBERS
        assert clone(model).n_members == MEMBERS

    def test_what_reads_a_network_reads_a_mean(self, estimator):
        X, y = rows(estimator, 60)
        model = few(estimator, store_path=True, verbose=0).fit(X, y)
        staged = list(model.staged_predict(X))
        np.testing.assert_array_equal(staged[-1], model.predict(X))
        Q = model.n_outputs_
        network, columns = model._network, model._inputs.scaler.transform(X[:4])
        tangent = network.linearize(columns)
        D = tangent.jacobian()
        torch.testing.assert_close(
            torch.from_numpy(model.ntk(X[:4])).reshape(4 * Q, 4 * Q), D @ D.mT
        )
        step = 1e-5 * np.eye(3)[1]
        function = model.decision_function if hasattr(model, "classes_") else model.predict
        slope = (function(X[:4] + step) - function(X[:4] - step)) / 2e-5
        found = np.asarray(model.gradient(X[:4]))
        assert np.abs(found.reshape(4, -1, 3)[:, :, 1]).max() > 0
        if not hasattr(model, "classes_"):
            np.testing.assert_allclose(found[..., 1], slope, rtol=1e-4, atol=1e-6)
            _, deviations = model.predict(X, return_std=True)
            assert (deviations > 0).all()
        assert model.feature_importances_.sum() == pytest.approx(1)

    def test_goes_on(self, estimator):
        X, y = rows(estimator, 60)
        model = few(estimator, warm_start=True).fit(X, y)
        before, loss = model._network.theta.copy(), model.loss_
        model.set_params(n_members="auto", t_end=0.8).fit(X, y)
        assert model.n_members_ == MEMBERS
        assert model.loss_ < loss
        assert not np.array_equal(model._network.theta, before)
        with pytest.raises(ValueError, match="a mean of 3 networks, and n_members=2"):
            model.set_params(n_members=2).fit(X, y)
        with pytest.raises(ValueError, match="takes all rows at once"):
            model.set_params(n_members="auto", batch_size=None).fit(X, y)

    def test_learns_from_chunks(self, estimator):
        X, y = rows(estimator, 60)
        known = {"classes": np.unique(y)} if estimator is AdaptedFlowClassifier else {}
        model = few(estimator, t_end="auto")
        for _ in range(3):
            model.partial_fit(X[:30], y[:30], **known).partial_fit(X[30:], y[30:])
        assert model.n_members_ == MEMBERS
        assert model.score(X, y) > 0.4
        assert few(estimator, n_members="auto").partial_fit(X, y, **known).n_members_ == 1

    def test_goes_on_from_a_checkpoint(self, estimator, tmp_path, monkeypatch):
        X, y = rows(estimator, 60)
        whole = few(estimator).fit(X, y)
        kept = few(estimator, checkpoint=tmp_path / "fit").fit(X, y)
        again = clone(kept).fit(X, y)  # from the file alone
        for model in (kept, again):
            np.testing.assert_array_equal(model._network.theta, whole._network.theta)

    @pytest.mark.parametrize(
        "given", [{"early_stopping": True}, {"early_stopping": "loo"}, {"solver": "krylov"},
                  {"damping": 0.01}, {"dtype": "float32"}, {"rescalings": 1},
                  {"encoding": "piecewise"}, {"scale_inputs": False}, {"shuffle": False}],
        ids=str,
    )  # fmt: skip
    def test_with_other_ways(self, estimator, given):
        X, y = rows(estimator, 60)
        if given.get("early_stopping") == "loo":
            given = {**given, "damping": 0.1}
        model = few(estimator, **given).fit(X, y)
        assert model.n_members_ == MEMBERS
        assert np.isfinite(outputs(model, X)).all()

    def test_sparse_and_weighted_rows(self, estimator):
        from scipy.sparse import csr_array

        X, y = rows(estimator, 60)
        weights = np.arange(60) % 3
        copies = np.repeat(np.arange(60), weights)
        dense = few(estimator, scale_inputs=False).fit(X[copies], y[copies])
        sparse = few(estimator, scale_inputs=False).fit(csr_array(X[copies]), y[copies])
        np.testing.assert_allclose(outputs(sparse, X), outputs(dense, X), rtol=1e-4, atol=1e-6)
        assert few(estimator).fit(X, y, sample_weight=weights).n_members_ == MEMBERS

    def test_what_has_no_mean_is_refused(self, estimator):
        X, y = rows(estimator, 60)
        with pytest.raises(ValueError, match=r"n_members=3 .* set batch_size=256, or n_members=1"):
            few(estimator, batch_size="auto").fit(X, y)
        with pytest.raises(ValueError, match="module makes the same network each time"):
            few(estimator, module=linear).fit(X, y)

    def test_rows_are_not_explained_and_not_forgotten(self, estimator):
        model = few(estimator).fit(*rows(estimator, 60))
        for ask in (lambda: model.explain(rows(estimator, 2)[0]), lambda: model.forget([0])):
            with pytest.raises(ValueError, match="batch_size=None"):
                ask()


def linear(n_features, n_outputs):
    return torch.nn.Linear(n_features, n_outputs, dtype=torch.float64)


class TestByItself:
    def settings(self, n_rows=5000, loss=None, n_outputs=3, **parameters):
        estimator = AdaptedFlowClassifier if loss is None else AdaptedFlowRegressor
        given = estimator(**parameters).get_params()
        loss = LogLoss() if loss is None else loss
        return Settings.of(given, Shape(n_rows, n_outputs, 10**4), 0, loss=loss)

    def members(self, *args, alone=True, ramps=False, **kwargs):
        settings = self.settings(*args, **kwargs)
        return _averages.members_for(settings, None, "", alone=alone, ramps=ramps)

    def test_where_it_was_measured_to_pay(self):
        assert self.members() == self.members(300_000) == 3
        assert self.members(4999) == self.members(10**6) == self.members(n_outputs=2) == 1
        for given in (
            {"t_end": 0.9}, {"schedule": 5}, {"batch_size": None}, {"early_stopping": True},
            {"module": linear},
        ):  # fmt: skip
            assert self.members(**given) == 1
        assert self.members(alone=False) == 1
        assert self.members(n_members=2, alone=False) == 2

    def test_numbers_need_ramps_and_more_rows(self):
        def members(n_rows=10_000, ramps=True, **parameters):
            return self.members(n_rows, SquaredLoss(), 1, ramps=ramps, **parameters)

        assert members() == members(50_000) == 3
        assert members(9999) == members(ramps=False) == members(encoding="piecewise") == 1
        assert members(t_end=0.9) == members(early_stopping=True) == members(alone=False) == 1

    def test_networks_share_the_epochs(self):
        def epochs(n_members, n_rows=5000):
            settings = _averages.averaging(self.settings(n_rows), n_members)
            return len(settings.open_epochs), _averages.share_of_epochs(settings)

        assert [epochs(n)[0] for n in (1, 2, 3, 9)] == [40, 20, 13, 8]
        assert [epochs(n)[1] for n in (2, 3, 9)] == [12, 8, 8]
        assert epochs(3, 10**6)[0] == 7

    def test_a_classifier_over_open_blocks_is_a_mean(self, short, monkeypatch):
        monkeypatch.setattr("sklearn_gflow.dynamics.stopping._UNLIKE", 1.0)
        X, y = short
        model, one = (open_ended(n_members=n).fit(X, y) for n in ("auto", 1))
        assert model.n_members_ == 3
        assert one.n_members_ == 1
        assert model.score(X, y) > one.score(X, y) - 0.02
        assert len(model.history_["held_out_loss"]) == model.n_iter_ + 1

    def test_the_best_goes_alone_where_it_is_better(self, short, any_member):
        X, y = short
        model = open_ended().fit(X, y)
        assert model.n_members_ == 1
        assert [W.shape for W in model.coefs_] == [(3, 16), (16, 3)]
        assert model.n_iter_ == 6
        mean = open_ended(n_members=3).fit(X, y)  # as it was asked for
        assert mean.n_members_ == 3
        starts = np.split(mean._network.reference, 3)
        assert any(np.array_equal(start, model._network.reference) for start in starts)

    def test_alone_it_is_kept_in_checkpoints_too(self, short, any_member, tmp_path):
        X, y = short
        whole = open_ended().fit(X, y)
        kept = open_ended(checkpoint=tmp_path / "fit").fit(X, y)
        again = clone(kept).fit(X, y)
        for model in (kept, again):
            np.testing.assert_array_equal(model._network.theta, whole._network.theta)
        # A chunk behind it; the whole once more, of which the fit is passed over.
        kept.partial_fit(X[:100], y[:100])
        again = clone(kept).fit(X, y).partial_fit(X[:100], y[:100])
        np.testing.assert_array_equal(kept._network.theta, again._network.theta)
        np.testing.assert_array_equal(kept._network.reference, again._network.reference)


def open_ended(**parameters):
    given = {"batch_size": 100, "random_state": 0, "max_iter": 6}
    return AdaptedFlowClassifier((16,), **{**given, **parameters})


@pytest.fixture
def short(monkeypatch):
    """A table of few rows, which count as many."""
    monkeypatch.setattr(_averages, "_LEAST_ROWS", 1000)
    return rows(AdaptedFlowClassifier)


@pytest.fixture
def any_member(monkeypatch):
    """Every member is better than the mean, if it may even be a little worse."""
    monkeypatch.setattr("sklearn_gflow.dynamics.stopping._UNLIKE", -1.0)
