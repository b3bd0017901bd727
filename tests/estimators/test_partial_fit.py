import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.exceptions import ConvergenceWarning
from tests.estimators.data import (
    ALPHAS,
    ESTIMATORS,
    classes,
    classifier,
    example,
    noted_cuts,
    regressor,
    small,
    table,
)

STEP = 0.5  # the longest of a chunk


def first_chunk(model, X, y):
    """The first call, with the classes that a classifier needs there."""
    return model.partial_fit(X, y, *classes_for(model, y))


def classes_for(model, y):
    return (np.unique(y),) if is_classifier(model) else ()


def learn(model, X, y, size, epochs=1):
    """Pass over the rows in chunks."""
    for _ in range(epochs):
        for start in range(0, len(y), size):
            rows = slice(start, start + size)
            model.partial_fit(X[rows], y[rows], *classes_for(model, y))
    return model


class NoisyModule(torch.nn.Module):
    """A network with a random buffer: another draw of it is another family."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.register_buffer("features", torch.randn(n_features, 20))
        self.linear = torch.nn.Linear(20, n_outputs)

    def forward(self, X):
        return self.linear(torch.tanh(X @ self.features))


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestBoth:
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_the_first_chunk_is_an_epoch_of_constant_steps(self, estimator, alpha):
        X, y = example(estimator)
        once = small(estimator, batch_size=6, alpha=alpha)
        first_chunk(once, X, y)
        t = -np.expm1(-STEP)
        fitted = small(estimator, batch_size=6, alpha=alpha, schedule=[t]).fit(X, y)
        assert once.t_ == pytest.approx(t)
        if estimator is AdaptedFlowClassifier:  # starts at frequencies with an even sample
            assert once.loss_ == pytest.approx(fitted.loss_, rel=0.05)
        else:
            np.testing.assert_allclose(once.predict(X), fitted.predict(X), rtol=1e-6)

    @pytest.mark.slow
    def test_learns_from_chunks(self, estimator):
        X, y = example(estimator, n=120)
        once, model = (
            learn(small(estimator, scale_inputs=False), X, y, 20, epochs=n) for n in (1, 8)
        )
        assert model.score(X, y) > 0.8
        assert model.score(X, y) > once.score(X, y)

    @pytest.mark.slow
    def test_same_seed_same_result(self, estimator):
        X, y = example(estimator, n=40)
        one, other = (
            learn(small(estimator, batch_size=4), X, y, 20, epochs=2).coefs_[0] for _ in range(2)
        )
        np.testing.assert_array_equal(one, other)

    def test_chunks_are_cut_anew_each_time(self, estimator, monkeypatch):
        cuts = noted_cuts(monkeypatch)
        X, y = example(estimator, n=40)
        learn(small(estimator, batch_size=8), X, y, len(y), epochs=3)
        assert len(set(cuts)) == len(cuts) >= 3

    def test_the_path_grows(self, estimator):
        X, y = example(estimator, n=60)
        model = small(estimator)
        first_chunk(model, X[:20], y[:20])
        start, curve = model.history_["loss"][0], model.loss_curve_
        before = model.history_
        model.partial_fit(X[20:40], y[20:40]).partial_fit(X[40:], y[40:])
        assert model.loss_curve_[: len(curve)] == curve
        assert model.loss_curve_[0] == start
        assert model.n_iter_ == len(model.loss_curve_) - 1 >= 3
        assert model.best_loss_ == min(model.loss_curve_)
        assert model.loss_ == model.loss_curve_[-1]
        assert {len(column) for column in model.history_.values()} == {model.n_iter_ + 1}
        assert model.history_.keys() == before.keys()
        for time in ("t", "s"):
            assert (np.diff(model.history_[time]) > 0).all()
        assert model.t_ == pytest.approx(-np.expm1(-3 * STEP))
        # s adds up to that of one pass over all rows, τ·N.
        assert model.history_["s"][-1] == pytest.approx(STEP * 60)

    def test_goes_on_after_fit_and_fit_starts_anew(self, estimator):
        X, y = example(estimator)
        fitted = small(estimator, t_end=0.5).fit(X, y)
        before, n_iter = fitted.loss_, fitted.n_iter_
        fitted.partial_fit(X, y)
        assert fitted.loss_ < before
        assert fitted.n_iter_ > n_iter
        assert {len(column) for column in fitted.history_.values()} == {fitted.n_iter_ + 1}
        anew = fitted.fit(X, y)
        np.testing.assert_array_equal(
            anew.coefs_[0], small(estimator, t_end=0.5).fit(X, y).coefs_[0]
        )

    def test_start_of_the_model_and_unit_of_alpha_are_kept(self, estimator):
        X, y = example(estimator, n=60)
        model = small(estimator)
        first_chunk(model, X[:20], y[:20])
        kept = ["initial_output_", "_metric_scale"]
        kept += [] if is_classifier(model) else ["target_mean_", "target_scale_"]
        before = [np.copy(getattr(model, name)) for name in kept]
        start = model._network.reference.copy()
        model.partial_fit(3 * X[20:], y[20:])
        np.testing.assert_array_equal(model._network.reference, start)
        for name, old in zip(kept, before, strict=True):
            np.testing.assert_array_equal(getattr(model, name), old)

    def test_later_chunks_may_have_one_row(self, estimator):
        X, y = example(estimator)
        model = small(estimator)
        with pytest.raises(ValueError, match="minimum of 2 is required"):
            first_chunk(model, X[:1], y[:1])
        first_chunk(model, X, y)
        model.partial_fit(X[:1], y[:1])
        assert model.kernel_rows_.tolist() == [0]

    def test_weights(self, estimator):
        X, y = example(estimator)
        weights = np.ones(len(y))
        weights[::4] = 0
        weighted, absent = small(estimator), small(estimator)
        options = classes_for(weighted, y)
        weighted.partial_fit(X, y, *options, sample_weight=weights)
        absent.partial_fit(X[weights > 0], y[weights > 0], *options)
        np.testing.assert_allclose(weighted.coefs_[0], absent.coefs_[0], rtol=1e-5)

    def test_other_features(self, estimator):
        X, y = example(estimator)
        model = small(estimator)
        first_chunk(model, X, y)
        with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3 features"):
            model.partial_fit(X[:, :2], y)

    def test_columns_stay_scaled_as_in_the_first_chunk(self, estimator):
        X, y = example(estimator)
        model = small(estimator)
        first_chunk(model, X, y)
        kernel = model.ntk(X, at="start")
        model.partial_fit(1e3 * X, y)
        np.testing.assert_array_equal(model.ntk(X, at="start"), kernel)

    def test_gaps_that_come_later(self, estimator):
        X, y = example(estimator)
        gappy = X.copy()
        gappy[3, 1] = np.nan
        model = small(estimator)
        first_chunk(model, gappy, y)
        model.partial_fit(X, y).partial_fit(gappy, y)
        assert np.isfinite(model.predict(gappy[3:4])).all()
        model = small(estimator)
        first_chunk(model, X, y)
        before = model.predict(X)
        with pytest.raises(ValueError, match=r"X has gaps or categories, .* begin with rows that"):
            model.partial_fit(gappy, y)
        np.testing.assert_array_equal(model.predict(X), before)

    def test_other_network(self, estimator):
        X, y = example(estimator)
        model = small(estimator)
        first_chunk(model, X, y)
        with pytest.raises(ValueError, match=r"partial_fit continues .*; keep hidden_layer_sizes"):
            model.set_params(hidden_layer_sizes=(5,)).partial_fit(X, y)

    def test_integrators(self, estimator):
        model = small(estimator, method="RK45")
        with pytest.raises(ValueError, match=r"set method='exponential' for partial_fit"):
            first_chunk(model, *example(estimator))

    def test_a_failure_leaves_the_model_as_it_was(self, estimator):
        X, y = example(estimator)
        model = small(estimator, activation="relu", hidden_layer_sizes=(5,) * 4, scale_inputs=False)
        first_chunk(model, X, y)
        before = model.predict(X)
        with pytest.raises(ValueError, match=r"Training failed at t=0: .* Scale the features"):
            model.partial_fit(1e200 * X, y)
        np.testing.assert_array_equal(model.predict(X), before)

    def test_pickle_and_clone(self, estimator):
        X, y = example(estimator, n=40)
        model = small(estimator)
        first_chunk(model, X[:20], y[:20])
        again = pickle.loads(pickle.dumps(model)).partial_fit(X[20:], y[20:])
        model.partial_fit(X[20:], y[20:])
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert not hasattr(clone(model), "n_iter_")

    def test_buffers_of_a_module_are_kept(self, estimator):
        X, y = example(estimator, n=40)
        model = small(estimator, module=NoisyModule, random_state=None)
        first_chunk(model, X, y)
        before = model._network.state["features"]
        model.partial_fit(X, y)
        np.testing.assert_array_equal(model._network.state["features"], before)


class TestRegressor:
    def test_a_chunk_that_diverges_is_reported(self):
        X, y = table(40)
        model = regressor(batch_size=8, activation="identity", alpha=1.0, hidden_layer_sizes=(100,))
        with pytest.warns(
            ConvergenceWarning, match=r"stopped at t=.* of t_end=0.39.*Scale the features"
        ):
            model.partial_fit(1e9 * X, y)
        assert "epochs raised the loss and were undone" in model.outcome_
        assert model.loss_ <= model.loss_curve_[0]

    def test_several_outputs(self):
        X, y = table(40)
        model = regressor().partial_fit(X, np.stack([y, -y], axis=1))
        assert model.predict(X).shape == (40, 2)
        message = "partial_fit continues from the last fit, which had 2 outputs, and y has 1; keep"
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, y)


class TestClassifier:
    X, y = classes(n=60)

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_a_class_may_come_later(self, loss):
        model = classifier(loss=loss, alpha=1.0)
        early, late = self.y < 2, self.y > 0
        model.partial_fit(self.X[early], self.y[early], classes=[0, 1, 2])
        assert np.isfinite(model.initial_output_).all()
        assert (model.predict_proba(self.X) > 0).all()
        assert model.neural_collapse_ == {}
        assert np.isnan(model.collapse_.class_means[2]).all()
        parts = model.collapse_.within + model.collapse_.between
        assert np.isfinite(parts)
        for _ in range(15):
            model.partial_fit(self.X[late], self.y[late]).partial_fit(self.X, self.y)
        assert model.score(self.X, self.y) > 0.8
        assert set(model.neural_collapse_) == {"outputs", "hidden"}
        assert {len(column) for column in model.history_.values()} == {model.n_iter_ + 1}

    def test_a_chunk_of_one_class(self):
        model = classifier().partial_fit(self.X, self.y, classes=np.unique(self.y))
        one = self.y == 1
        model.partial_fit(self.X[one], self.y[one])
        assert model.collapse_.within + model.collapse_.between == pytest.approx(model.loss_)

    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_two_classes_with_names(self, loss):
        X, y = classes(n=40, n_classes=2)
        names = np.array(["no", "yes"])[y]
        model = classifier(loss=loss).partial_fit(X, names, classes=["yes", "no"])
        assert model.classes_.tolist() == ["no", "yes"]
        assert model.score(X, names) > 0.8

    def test_claims_grow_with_the_rows_seen(self):
        model = classifier(alpha=1.0, label_smoothing=0.0)
        model.partial_fit(self.X, self.y, classes=[0, 1, 2])
        floor = model.predict_proba(100 * self.X).min()
        model.partial_fit(self.X, self.y)
        assert floor >= 1 / (3 * 61) * (1 - 1e-9)
        assert model._coding.n_seen == 120

    def test_class_weight(self):
        X, y = classes(n=40, n_classes=2)
        y = np.where(np.arange(40) < 36, 0, 1)
        model = classifier(class_weight={1: 10})  # of class 0: one
        counted = model.partial_fit(X, y, classes=[0, 1]).predict(X).sum()
        assert counted > classifier().partial_fit(X, y, classes=[0, 1]).predict(X).sum()
        with pytest.raises(ValueError, match="class_weight='balanced' needs the frequencies"):
            classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])
        with pytest.raises(ValueError, match="class_weight must be positive for every class in y"):
            classifier(class_weight={1: 0}).partial_fit(X, y, classes=[0, 1])

    def test_classes_are_needed_first_and_stay(self):
        with pytest.raises(ValueError, match="classes must be given in the first call"):
            classifier().partial_fit(self.X, self.y)
        with pytest.raises(ValueError, match=r"at least 2 labels, got \[1\]; name those of later"):
            classifier().partial_fit(self.X, self.y, classes=[1])
        with pytest.raises(ValueError, match=r"not among the classes: \[2\]; hand all of them"):
            classifier().partial_fit(self.X, self.y, classes=[0, 1])
        model = classifier().partial_fit(self.X, self.y, classes=[2, 1, 0])
        model.partial_fit(self.X, self.y, classes=[0, 1, 2])
        with pytest.raises(
            ValueError, match=r"continues with the classes \[0, 1, 2\], and classes"
        ):
            model.partial_fit(self.X, self.y, classes=[0, 1, 2, 3])
        with pytest.raises(ValueError, match=r"not among the classes: \[7\]"):
            model.partial_fit(self.X, np.full(60, 7))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_stages_run_over_all_chunks(estimator):
    X, y = example(estimator)
    model = learn(small(estimator, store_path=True), X, y, 40)
    stages = list(model.staged_predict(X))
    assert len(stages) == len(model.history_["t"]) == model.n_iter_ + 1
    np.testing.assert_array_equal(stages[-1], model.predict(X))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_early_stopping_is_for_fit(estimator):
    X, y = example(estimator)
    with pytest.raises(ValueError, match="partial_fit cannot stop early"):
        first_chunk(small(estimator, early_stopping=True), X, y)
