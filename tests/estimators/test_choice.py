"""What searches choose by: folds, paths, scores, ensembles, probabilities."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.metrics import (
    accuracy_score,
    get_scorer,
    log_loss,
    mean_absolute_error,
    r2_score,
)
from sklearn.model_selection import KFold

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV
from sklearn_gflow.estimators import _selection
from sklearn_gflow.estimators._calibration import calibrated, inverse_temperature, log_loss_of
from sklearn_gflow.estimators._ensemble import greedy_weights
from tests.estimators.data import classes, table

pytestmark = pytest.mark.slow

SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
QUICK = {"alphas": [0.5], "t_ends": [0.5, 0.9, 0.99]}


def search(kind=AdaptedFlowRegressorCV, **parameters):
    return kind((12,), **{"random_state": 0, **QUICK, **parameters})


def example(kind, n=45):
    return table(n) if kind is AdaptedFlowRegressorCV else classes(n, n_classes=2)


def noisy_classes(n, seed=0):
    """Two classes, of which a third has a label at random."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
    return X, np.where(rng.random(n) < 1 / 3, rng.integers(0, 2, n), y)


# -- few rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 6, 8])
def test_a_handful_of_rows_is_enough(n):
    X = np.arange(float(n))[:, None]
    model = AdaptedFlowRegressorCV(random_state=0).fit(X, 2 * X[:, 0])
    assert model.score(X, 2 * X[:, 0]) > (0.99 if n > 4 else 0.9)
    labels = np.where(X[:, 0] < n / 2, "low", "high")
    probabilities = AdaptedFlowClassifierCV(random_state=0).fit(X, labels).predict_proba(X)
    assert np.isfinite(probabilities).all()


def test_a_class_of_one_row_is_kept():
    X, y = classes(24)
    X[3], y[3] = 20.0, 7
    model = search(AdaptedFlowClassifierCV).fit(X, y)
    assert model.classes_.tolist() == [0, 1, 2, 7]
    p = model.predict_proba(X)
    assert p.shape == (24, 4)
    assert p.min() > 0


# -- paths -------------------------------------------------------------------------------------


def test_scores_are_those_of_fits_on_the_folds():
    X, y = table(40)
    cv = KFold(3)
    model = search(cv=cv, encodings=[None, "piecewise"], t_ends=[0.5, 0.9]).fit(X, y)
    results = model.cv_results_
    for k, parameters in enumerate(results["params"]):
        for j, (training, held) in enumerate(cv.split(X)):
            plain = clone(model.best_estimator_).set_params(**parameters)
            score = plain.fit(X[training], y[training]).score(X[held], y[held])
            assert results[f"split{j}_test_score"][k] == pytest.approx(score, abs=0.02)


def test_factors_of_a_fold_come_from_its_training_rows(monkeypatch):
    X, y = table(36)
    calls = []
    followed = _selection.Search.followed

    def watched(self, candidates, **parameters):
        judged = followed(self, candidates, **parameters)
        calls.append((self, candidates[0].candidate, judged[0]))
        return judged

    stretched, follow = [], _selection.follow

    def watched_path(training, problem, *arguments, **parameters):
        stretched.append(problem.inputs.factors)
        return follow(training, problem, *arguments, **parameters)

    monkeypatch.setattr(_selection.Search, "followed", watched)
    monkeypatch.setattr(_selection, "follow", watched_path)
    search(encodings=None).fit(X, y)
    (over, candidate, first), (_, rescaled, second) = calls
    assert (candidate.rescalings, rescaled.rescalings) == (0, 1)
    np.testing.assert_array_equal(stretched[3:], [path.factors for path in first.paths])
    for fold, one, other in zip(over.folds, first.paths, second.paths, strict=True):
        held = fold.held_out.X
        seen = (fold.data.X[:, None] == held).all(axis=2).any()
        assert not seen
        alone = over.build(candidate, fold)
        flow = alone.at(candidate.alpha, 0.95).until(0.95)
        np.testing.assert_allclose(one.factors, alone.factors(flow.trajectory.theta), rtol=0.02)
        assert not np.array_equal(one.readings, other.readings)
    factors = np.array([path.factors for path in first.paths])
    assert np.ptp(factors, axis=0).min() > 0


def test_the_plain_columns_are_always_followed(monkeypatch):
    X, y = table(40)
    model = search(encodings=["piecewise", "periodic", None]).fit(X, y)
    scores = model.cv_results_["mean_test_score"]
    followed = {
        str(p["encoding"])
        for p, score in zip(model.cv_results_["params"], scores, strict=True)
        if np.isfinite(score)
    }
    assert "None" in followed
    assert np.isfinite(model.cv_results_["loo_loss"]).sum() == 9  # three networks, three times


@pytest.mark.parametrize("rescaled", [False, True])
def test_scores_do_not_flatter(rescaled, monkeypatch):
    if not rescaled:
        monkeypatch.setattr(_selection.Search, "_rescaled", lambda *_: [])
    scores = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = AdaptedFlowRegressorCV((12,), random_state=seed)
        scores.append(model.fit(rng.normal(size=(90, 5)), rng.normal(size=90)).best_score_)
    assert min(scores) > -0.2
    assert max(scores) < 0.1
    assert np.mean(scores) < 0.05


# -- scores ------------------------------------------------------------------------------------


class TestScoring:
    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (AdaptedFlowRegressorCV, "r2"),
            (AdaptedFlowRegressorCV, "neg_mean_absolute_error"),
            (AdaptedFlowClassifierCV, "accuracy"),
            (AdaptedFlowClassifierCV, "neg_log_loss"),
            (AdaptedFlowClassifierCV, "roc_auc_ovr"),
        ],
    )
    def test_by_name(self, kind, name):
        X, y = example(kind)
        cv = KFold(3, shuffle=True, random_state=0)
        settings = {"cv": cv, "encodings": None, "ensemble": False, "scoring": name}
        model = search(kind, **settings).fit(X, y)
        scores = []
        for training, held in cv.split(X):
            plain = clone(model.best_estimator_).fit(X[training], y[training])
            if name == "neg_log_loss":  # probabilities are calibrated, those of a plain fit not
                continue
            scores.append(get_scorer(name)(plain, X[held], y[held]))
        if scores:
            assert model.best_score_ == pytest.approx(np.mean(scores), abs=0.02)
        same = search(kind, **{**settings, "scoring": get_scorer(name)}).fit(X, y)
        assert same.best_score_ == model.best_score_

    def test_all_rows_held_out_are_scored_together_by_default(self):
        X, y = noisy_classes(60)
        model = search(AdaptedFlowClassifierCV, scoring="roc_auc").fit(X, y)
        assert 0.6 < model.best_score_ < 1
        assert not [name for name in model.cv_results_ if name.startswith("split")]

    def test_a_callable_decides(self):
        X, y = table(40)
        times = []
        for sign in (1, -1):

            def scorer(estimator, X, y, sign=sign):
                return -sign * mean_absolute_error(y, estimator.predict(X))

            model = search(scoring=scorer, encodings=None, t_ends=[0.1, 0.95]).fit(X, y)
            times.append(model.t_end_)
        assert times == [0.95, 0.1]

    @pytest.mark.parametrize("kind", SEARCHES)
    def test_a_bad_name_is_told_by_scikit_learn(self, kind):
        with pytest.raises(ValueError, match=r"'scoring' parameter|not a valid scoring value"):
            search(kind, scoring="goodness").fit(*example(kind))

    def test_weights_reach_the_scorer(self):
        X, y = table(40)
        weights = np.arange(40) % 3 + 1.0
        seen = []

        def scorer(estimator, X, y, sample_weight=None):
            seen.append(sample_weight)
            return r2_score(y, estimator.predict(X), sample_weight=sample_weight)

        search(scoring=scorer, encodings=None).fit(X, y, sample_weight=weights)
        assert seen
        assert all(sorted(one) == sorted(weights) for one in seen)

    def test_no_score_at_all_is_told(self):
        with pytest.raises(ValueError, match="no candidate has a score that is a number"):
            search(scoring=lambda *_: np.nan, encodings=None).fit(*table(30))


# -- ensembles ---------------------------------------------------------------------------------


def square(y):
    return lambda readings: float(((readings - y) ** 2).mean())


class TestGreedy:
    @pytest.mark.parametrize("rounds", [1, 2, 3, 4])
    def test_against_every_choice(self, rounds):
        rng = np.random.default_rng(0)
        y = rng.normal(size=(30, 1))
        readings = y + rng.normal(size=(4, 30, 1)) * np.array([1.0, 1.1, 1.2, 3.0])[:, None, None]
        weights = greedy_weights(readings, square(y), rounds)
        loss = square(y)(np.tensordot(weights, readings, axes=1))
        every = [
            square(y)(readings[list(chosen)].mean(axis=0))
            for chosen in itertools.combinations_with_replacement(range(4), rounds)
        ]
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(weights * rounds, np.round(weights * rounds))
        assert loss <= np.quantile(every, 0.1) * 1.02
        assert loss <= square(y)(readings[0])

    def test_opposite_errors_cancel(self):
        y = np.zeros((10, 1))
        readings = np.stack([y + 1, y - 1, y + 5])
        assert greedy_weights(readings, square(y), 4).tolist() == [0.5, 0.5, 0]

    def test_a_best_one_that_is_exact_stays_alone(self):
        y = np.linspace(0, 1, 10)[:, None]
        readings = np.stack([y, y + 0.1, y - 0.3])
        assert greedy_weights(readings, square(y), 12).tolist() == [1, 0, 0]


@pytest.mark.parametrize("kind", SEARCHES)
class TestEnsemble:
    def test_its_loss_is_never_above_that_of_the_best(self, kind, monkeypatch):
        seen = []
        choice = _selection.Search.choice

        def watched(self, judged, **parameters):
            seen.append(
                (self, choice(self, judged, **parameters), choice(self, judged, ensemble=False))
            )
            return seen[-1][1]

        monkeypatch.setattr(_selection.Search, "choice", watched)
        for seed in range(2 if kind is AdaptedFlowRegressorCV else 1):
            search(kind, random_state=seed).fit(*example(kind))
        for over, chosen, alone in seen:
            assert over.judgement.loss(chosen.readings) <= over.judgement.loss(alone.readings)
            assert chosen.members[0] == alone.members[0]
            assert chosen.score == alone.score

    def test_predictions_are_weighted_means(self, kind):
        X, y = example(kind)
        model = search(kind, encodings=[None, "piecewise"]).fit(X, y)
        assert len(model.estimators_) == len(model.ensemble_weights_)
        assert model.estimators_[0] is model.best_estimator_
        assert model.ensemble_weights_.sum() == pytest.approx(1)
        if kind is AdaptedFlowRegressorCV:
            members = [member.predict(X) for member in model.estimators_]
            found = model.predict(X)
        else:
            members = [member.decision_function(X) for member in model.estimators_]
            found = model.decision_function(X)
        expected = np.average(members, axis=0, weights=model.ensemble_weights_)
        np.testing.assert_allclose(found, expected, rtol=1e-10)

    def test_without_it_the_best_predicts_alone(self, kind):
        X, y = example(kind)
        model = search(kind, ensemble=False).fit(X, y)
        assert model.estimators_ == [model.best_estimator_]
        assert model.ensemble_weights_.tolist() == [1]
        np.testing.assert_array_equal(model.predict(X), model.best_estimator_.predict(X))
        chosen = {name: getattr(model, f"{name}_") for name in ("alpha", "t_end", "rescalings")}
        assert {name: getattr(model.best_estimator_, name) for name in chosen} == chosen

    def test_members_are_fits_on_all_rows(self, kind):
        X, y = example(kind)
        model = search(kind).fit(X, y)
        for member in model.estimators_:
            np.testing.assert_array_equal(clone(member).fit(X, y).predict(X), member.predict(X))


def test_standard_errors_of_an_ensemble():
    X, y = table(40)
    model = search().fit(X, y)
    mean, std = model.predict(X, return_std=True)
    squares = [member.predict(X, return_std=True)[1] ** 2 for member in model.estimators_]
    np.testing.assert_allclose(std**2, np.average(squares, axis=0, weights=model.ensemble_weights_))
    np.testing.assert_array_equal(mean, model.predict(X))


# -- probabilities -----------------------------------------------------------------------------


class TestCalibration:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_temperature_against_brute_force(self, weighted):
        rng = np.random.default_rng(0)
        index = rng.integers(0, 3, 200)
        outputs = np.eye(3)[index] + rng.normal(size=(200, 3))
        right = outputs.argmax(axis=1) == index
        weights = np.where(right, 1.0, 3.0) if weighted else None
        n = 200 if weights is None else weights.sum()

        def loss(beta):
            logs = log_softmax(beta * outputs, axis=1)
            own = logs[np.arange(200), index] * n / (n + 1) + logs.mean(axis=1) / (n + 1)
            return -np.average(own, weights=weights)

        betas = np.geomspace(0.2, 50, 2000)
        best = betas[np.argmin([loss(beta) for beta in betas])]
        assert inverse_temperature(outputs, index, weights) == pytest.approx(best, rel=0.03)
        assert minimize_scalar(loss, bounds=(0.2, 50)).fun == pytest.approx(loss(best), rel=1e-5)

    def test_finite_where_all_rows_are_right_and_where_none_is(self):
        outputs = np.repeat(np.eye(2), 10, axis=0)
        right = np.repeat([0, 1], 10)
        sure, wrong = (inverse_temperature(outputs, index, None) for index in (right, 1 - right))
        assert np.isfinite([sure, wrong]).all()
        assert sure > 3 > 1 > wrong > 0

    def test_probabilities_are_positive_with_the_sum_one(self):
        outputs = np.array([[1e4, -1e4, 0], [0.0, 0, 0]])
        p = calibrated(outputs, 5.0, 20)
        assert p.min() > 0
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(p[1], 1 / 3)
        assert log_loss_of(p, np.array([1, 0]), np.array([1.0, 0.0])) == pytest.approx(np.log(63))

    def test_new_rows_are_judged_better_than_without(self):
        gains = []
        for seed in range(2):
            X, y = noisy_classes(400, seed)
            settings = {"ensemble": False, "encodings": None, "cv": 3}
            settings["t_ends"] = [0.99]
            model = search(AdaptedFlowClassifierCV, **settings).fit(X[:100], y[:100])
            p, plain = (m.predict_proba(X[100:]) for m in (model, model.best_estimator_))
            gains.append(log_loss(y[100:], plain) - log_loss(y[100:], p))
        assert min(gains) > 0.02

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_most_probable_class_is_predicted(self, n_classes):
        X, y = classes(60, n_classes=n_classes)
        names = np.array(["c", "a", "b"])[y]
        model = search(AdaptedFlowClassifierCV, encodings=None).fit(X[:40], names[:40])
        p = model.predict_proba(X)
        assert p.shape == (60, n_classes)
        assert p.min() > 0
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(p))
        assert model.score(X, names) == accuracy_score(names, model.predict(X))
        assert model.temperature_ > 0


# -- what it is for ----------------------------------------------------------------------------


def test_a_search_finds_what_a_single_network_misses():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (300, 2))
    y = np.abs((3 * X[:, 0]) % 2 - 1) + 0.1 * X[:, 1] + 0.05 * rng.normal(size=300)
    plain = search(encodings=None).fit(X[:150], y[:150])
    model = search(encodings=[None, "piecewise", "periodic"]).fit(X[:150], y[:150])
    assert model.encoding_ in ("piecewise", "periodic")
    assert model.score(X[150:], y[150:]) > plain.score(X[150:], y[150:]) + 0.1


@pytest.mark.parametrize("name", ["diabetes", "friedman1"])
def test_best_score_is_what_new_rows_get(name):
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
    else:
        X, y = make_friedman1(450, noise=1.0, random_state=0)
    model = search().fit(X[:200], y[:200])
    assert model.best_score_ == pytest.approx(model.score(X[200:], y[200:]), abs=0.1)
