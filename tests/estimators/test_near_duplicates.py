"""Rows and columns that are nearly alike, without a ridge, against the SVD of the design."""

import numpy as np
import pytest

from sklearn_gflow import AdaptedFlowRegressor

pytestmark = pytest.mark.slow

pytestmark = [
    pytest.mark.filterwarnings("ignore:Rounding decides this fit"),
    pytest.mark.filterwarnings("ignore:The flow stopped"),
]
EPS = np.finfo(float).eps


def columns(apart, rng):
    """25 rows, two of whose six columns are others again."""
    X = rng.normal(size=(25, 4))
    return np.hstack([X, X[:, :2] + apart * rng.normal(size=(25, 2))])


def rows(apart, rng):
    """12 rows of 30 columns, six of which are others again."""
    X = rng.normal(size=(6, 30))
    return np.vstack([X, X + apart * rng.normal(size=X.shape)])


def constant(apart, rng):
    """A column that is constant but for a little, beside the bias."""
    X = rng.normal(size=(25, 3))
    X[:, 0] = 1 + apart * rng.normal(size=25)
    return X


def oracle(X, y, T, threshold):
    """Predictions of least squares with the least change of weights; κ of G on what counts."""
    D, E = (np.hstack([table, np.ones((len(table), 1))]) for table in (X, T))
    U, s, Vt = np.linalg.svd(D, full_matrices=False)
    rank = int((s > threshold * s[0]).sum())
    near = np.abs(np.log(s / (threshold * s[0]))).min() < np.log(3)
    weights = Vt[:rank].T @ ((U[:, :rank].T @ (y - y.mean())) / s[:rank])
    return y.mean() + E @ weights, rank, (s[0] / s[rank - 1]) ** 2, near


@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-9, 0.0])
@pytest.mark.parametrize("made", [columns, rows, constant])
@pytest.mark.parametrize("solver", ["auto", "eigh", "svd"])
def test_predictions_are_those_of_the_svd_to_what_the_condition_allows(solver, made, apart):
    rng = np.random.default_rng(0)
    X = made(apart, rng)
    y, T = rng.normal(size=len(X)), rng.normal(size=(50, X.shape[1]))
    # Below √(size·eps) the Gram knows nothing of a singular value, and D itself below size·eps.
    size = max(X.shape[0], X.shape[1] + 1) if solver == "svd" else min(len(X), X.shape[1] + 1)
    threshold = size * EPS if solver == "svd" else np.sqrt(size * EPS)
    predicted, rank, condition, near = oracle(X, y, T, threshold)
    model = AdaptedFlowRegressor(
        (), alpha=1.0, t_end=1.0, damping=0.0, solver=solver, scale_inputs=False, random_state=0
    ).fit(X, y)
    if near:  # then rounding decides which modes count
        return
    if rank == len(X) or solver != "svd":
        assert np.nanmax(model.history_["rank"]) == rank
    promised = 10 * EPS * np.sqrt(condition) if solver == "svd" else EPS * condition
    error = np.abs(model.predict(T) - predicted).max() / np.abs(predicted).max()
    assert error < max(promised, 1e-13)
