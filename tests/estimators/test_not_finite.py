"""Features off their scale: an error in words, and no fitted Gram that holds NaN."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.estimators._losses import NUMBERS

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.filterwarnings("ignore:The columns .* more than 100 times:UserWarning")

ALPHAS = [0.0, 0.5, 1.0]
PLAIN = [AdaptedFlowRegressor, AdaptedFlowClassifier]
SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
# Of networks of X itself: what scales columns would have tamed the value.
RAW = {"scale_inputs": False, "random_state": 0}
CURE = "Training failed at t=0: .*Scale the features, for instance with StandardScaler"


def diabetes(estimator, n=150, size=1e200):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:n].copy(), y[:n]
    X[5, 3] = size
    return X, (y > np.median(y)).astype(int) if estimator in (PLAIN[1], SEARCHES[1]) else y


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("estimator", PLAIN)
class TestEntry:
    @pytest.mark.parametrize("batch_size", ["auto", 40])
    @pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
    def test_fit(self, estimator, alpha, batch_size, activation):
        model = estimator((32,), alpha=alpha, batch_size=batch_size, activation=activation)
        with pytest.raises(ValueError, match=CURE):
            model.set_params(**RAW).fit(*diabetes(estimator))
        assert not hasattr(model, "ntk_gram_")

    @pytest.mark.parametrize(
        "parameters",
        [
            {"early_stopping": "loo"},
            {"early_stopping": True},
            {"method": "RK45"},
            {"dtype": "float32"},
            {"solver": "svd"},
            {"solver": "eigh"},
            {"solver": "krylov", "damping": 0.1},
            {"solver": "shared", "damping": 0.1},
            {"metric_scale": 1.0},
            {"store_gram": False},
            {"schedule": 3},
        ],
    )
    def test_whatever_the_way(self, estimator, alpha, parameters):
        model = estimator((32,), alpha=alpha, **RAW, **parameters)
        X, y = diabetes(estimator)
        own = {"X_val": X[:5], "y_val": y[:5]} if parameters.get("early_stopping") is True else {}
        with pytest.raises(ValueError, match=CURE):
            model.fit(X, y, **own)

    def test_chunks(self, estimator, alpha):
        model = estimator((32,), alpha=alpha, **RAW)
        X, y = diabetes(estimator)
        first = (np.unique(y),) if estimator is PLAIN[1] else ()
        with pytest.raises(ValueError, match=CURE):
            model.partial_fit(X, y, *first)
        model.partial_fit(X[10:], y[10:], *first)
        gram = model.ntk_gram_
        with pytest.raises(ValueError, match=CURE):
            model.partial_fit(X, y)
        assert model.ntk_gram_ is gram
        assert np.isfinite(gram).all()

    @pytest.mark.filterwarnings("ignore::sklearn_gflow.exceptions.ConvergenceWarning")
    def test_sizes_up_to_where_nothing_is_finite(self, estimator, alpha):
        """Either an error that says what to do, or a fit of finite numbers."""
        for size in (1e6, 1e50, 1e100, 1e150, 1e154):
            X, y = diabetes(estimator, 60, size)
            model = estimator((32,), alpha=alpha, **RAW, schedule=[0.1, 0.3])
            failed = ""
            try:
                model.fit(X, y)
            except ValueError as error:
                failed = str(error)
            if failed:
                assert "Scale the features" in failed
            else:
                assert np.isfinite(model.ntk_gram_).all()
                assert np.isfinite(model.ntk_eigenvalues_).all()
                assert np.isfinite(model.loss_curve_).all()
                assert np.isfinite(model._network.theta).all()

    def test_rows_held_out_score_what_they_score(self, estimator, alpha):
        """What is off in rows that are not trained on is no failure of the training."""
        X, y = diabetes(estimator)
        train, held_out = np.arange(10, 100), np.arange(10)
        model = estimator((8,), alpha=alpha, early_stopping=True, activation="relu", **RAW)
        model.fit(X[train], y[train], X_val=X[held_out], y_val=y[held_out])
        assert np.isfinite(model.ntk_gram_).all()
        assert not np.isnan(model.validation_scores_).any()


@pytest.mark.parametrize("loss", NUMBERS)
def test_losses(loss):
    with pytest.raises(ValueError, match=CURE):
        AdaptedFlowRegressor((32,), loss=loss, **RAW).fit(*diabetes(PLAIN[0]))


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("estimator", SEARCHES)
def test_searches(estimator, cv):
    model = estimator((32,), cv=cv, encodings=[None], alphas=ALPHAS, t_ends=[0.5], **RAW)
    with pytest.raises(ValueError, match=CURE):
        model.fit(*diabetes(estimator))
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize("size", [1e6, 1e200, -1e308])
@pytest.mark.parametrize("estimator", PLAIN)
def test_scaled_columns_tame_a_value(estimator, size):
    """It counts for no more than a large one."""
    large = np.copysign(10.0, size)
    (X, y), (other, _) = diabetes(estimator, size=size), diabetes(estimator, size=large)
    model, near = (estimator((8,), random_state=0).fit(data, y) for data in (X, other))
    assert model.score(X, y) > 0.4
    assert model.loss_ == pytest.approx(near.loss_, rel=0.01)


def test_scaled_columns_of_a_linear_network_are_not_bent():
    with pytest.raises(ValueError, match=r"column 'x3' .* is beyond|Scale the features"):
        AdaptedFlowRegressor((), random_state=0).fit(*diabetes(PLAIN[0], size=1e308))
