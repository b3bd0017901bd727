"""A bound on test errors from distances and norms (arXiv:2504.05695), and how tight it is."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.diagnostics import generalization_bound, lipschitz_bound
from tests import oracles
from tests.theory.problems import normal, relative

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("activation", list(oracles.ACTIVATIONS))
def test_lipschitz_bound_holds_and_is_met_by_one_layer(activation, measured):
    sizes = (3, 5, 4, 2)
    theta, X = oracles.problem(300, sizes, seed=1)
    weights = [W.numpy() for W, _ in oracles.split(3 * theta, sizes)]
    slopes = torch.func.vmap(
        torch.func.jacrev(lambda x: oracles.forward(3 * theta, x[None], sizes, activation)[0])
    )(X)
    steepest = float(torch.linalg.matrix_norm(slopes, 2).max())
    measured("steepest slope, of L", steepest / lipschitz_bound(weights, activation), at_most=1.0)
    _, sigma, _ = oracles.thin_svd(weights[0])
    assert lipschitz_bound(weights[:1], activation) == pytest.approx(sigma[0])
    # σ' nowhere exceeds what stands for it, and comes close to it.
    z = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    highest = float(torch.func.vmap(torch.func.grad(oracles.ACTIVATIONS[activation]))(z).max())
    one = np.ones((1, 1))
    measured("σ' of its bound", highest / lipschitz_bound([one, one], activation), at_most=1.0)
    assert highest >= 0.99 * lipschitz_bound([one, one], activation)


def by_loops(X, residuals, X_test, L, y, y_test):
    """The bound of every test row, over all training rows one by one."""
    return [
        min(
            L * np.linalg.norm(a - b) + np.linalg.norm(r) + np.linalg.norm(q - p)
            for b, r, q in zip(X, residuals, y, strict=True)
        )
        for a, p in zip(X_test, y_test, strict=True)
    ]


def test_bound_by_loops(measured):
    X, T = normal(20, 3, seed=1).numpy(), normal(15, 3, seed=2).numpy()
    r, y, p = (normal(n, 2, seed=s).numpy() for n, s in ((20, 3), (20, 4), (15, 5)))
    found = generalization_bound(X, r, T, 1.7, targets=y, targets_test=p)
    measured("bound by loops", relative(found.rows, by_loops(X, r, T, 1.7, y, p)), at_most=1e-12)
    assert found.error == pytest.approx(np.sqrt((found.rows**2).mean()))
    unlabelled = generalization_bound(X, r, T, 1.7)
    nothing = by_loops(X, r, T, 1.7, 0 * y, 0 * p)
    measured("bound by loops", relative(unlabelled.rows, nothing), at_most=1e-12)
    at_rows = generalization_bound(X, r, X, 1.7)
    assert at_rows.chamfer == 0
    assert (at_rows.rows <= np.linalg.norm(r, axis=1)).all()


def pair_slope(X, outputs):
    """Largest |f(x) − f(x')|/|x − x'| of the rows."""
    distances = np.linalg.norm(X[:, None] - X, axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((np.linalg.norm(outputs[:, None] - outputs, axis=2) / distances).max())


NETWORKS = {
    "alpha = 1": {"alpha": 1.0},
    "defaults": {},
    "alpha = 0": {"alpha": 0.0},
    "linear": {"hidden_layer_sizes": ()},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_how_tight_it_is_on_digits(name, measured):
    """400 rows to train on, 400 to test; one-hot codes, pixels in [0, 1]."""
    X, labels = load_digits(return_X_y=True)
    A, B, a, b = train_test_split(
        X / 16, labels, train_size=400, test_size=400, random_state=0, stratify=labels
    )
    model = AdaptedFlowClassifier(
        **{"hidden_layer_sizes": (64,), "activation": "relu", "random_state": 0, **NETWORKS[name]},
        loss="squared_error", scale_inputs=False,
    ).fit(A, a)  # fmt: skip
    found = model.generalization_bound(A, a, B, b)
    codes = np.eye(10)
    scores = model.decision_function(np.r_[A, B])
    errors = np.linalg.norm(scores[400:] - codes[b], axis=1)
    true = float(np.sqrt((errors**2).mean()))
    measured("largest error of a row, of its bound", (errors / found.rows).max(), at_most=1.0)
    measured("bound over test error", found.error / true, at_least=1.0)
    measured("bound over test error, at most", found.error / true, at_most=15.0)
    measured("bound over the distance of two codes", found.error / 2**0.5, at_least=1.0)
    steepest = pair_slope(np.r_[A, B], scores)
    tight = generalization_bound(
        A, scores[:400] - codes[a], B, steepest, targets=codes[a], targets_test=codes[b]
    )
    measured("bound with the steepest slope of pairs over test error", tight.error / true,
             at_most=3.5)  # fmt: skip
    measured("the same, at least", tight.error / true, at_least=1.22)


def test_numbers_and_what_is_refused():
    X, y = load_diabetes(return_X_y=True)
    model = AdaptedFlowRegressor((16,), random_state=0).fit(X[:200], y[:200])
    found = model.generalization_bound(X[:200], y[:200], X[200:], y[200:])
    errors = np.abs(model.predict(X[200:]) - y[200:]) / model.target_scale_
    assert (errors <= found.rows).all()
    with pytest.raises(ValueError, match="targets of both sets"):
        generalization_bound(X, y, X, 1.0, targets=y)
    with pytest.raises(ValueError, match="is none of 'tanh'"):
        lipschitz_bound([np.eye(2)], "exp")
    counts = AdaptedFlowRegressor((4,), loss="poisson", random_state=0).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="another scale than targets"):
        counts.generalization_bound(X[:50], y[:50], X[50:])
    module = AdaptedFlowRegressor(module=lambda m, q: torch.nn.Linear(m, q), random_state=0)
    with pytest.raises(ValueError, match="needs norms of weights"):
        module.fit(X[:50], y[:50]).generalization_bound(X[:50], y[:50], X[50:])
