"""One fit that ranks of a process group share: as by one process, and the same on all of them."""

import pickle

import numpy as np
import pytest
import torch.distributed as dist
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.estimators import _blocks_of_ranks, _shares
from tests.ranks import Group

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two():
    with Group(2) as group:
        yield group


@pytest.fixture(scope="module")
def four():
    with Group(4) as group:
        yield group


def table(n, labels=False):
    draws = np.random.RandomState(0)
    X = draws.randn(n, 4)
    y = np.sin(X[:, 0]) + 0.3 * X[:, 1] * X[:, 2]
    if labels:
        # Sorted, so that ranks lack classes.
        y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.6, 0.6])]
        order = np.argsort(y, kind="stable")
        X, y = X[order], y[order]
    return X, y, draws.exponential(0.5, n)


def own_rows(n):
    """Those of this rank: unequal on purpose."""
    size, rank = dist.get_world_size(), dist.get_rank()
    edges = [round(n * (k / size) ** 1.3) for k in range(size + 1)]
    return slice(edges[rank], edges[rank + 1])


def pair(kind, given, n, weighted=False, labels=False):
    """A fit by all ranks and, on the first of them, one of a single process."""
    X, y, weights = table(n, labels)
    weights = weights if weighted else None
    rows = own_rows(n)
    own = None if weights is None else weights[rows]
    model = kind((16,), random_state=0, distributed="auto", **given)
    model.fit(X[rows], y[rows], sample_weight=own)
    fits = [model]
    if dist.get_rank() == 0:
        fits.append(kind((16,), random_state=0, **given).fit(X, y, sample_weight=weights))
    use = "predict_proba" if labels else "predict"
    return [(getattr(fit, use)(X), vars_of(fit), fit.score(X, y)) for fit in fits]


def compared(results):
    """Of each rank predictions, attributes and score, each with that of one process."""
    expected, theirs, alone = results[0][1]
    return [(found, expected, ours, theirs, score, alone) for (found, ours, score), *_ in results]


def vars_of(model):
    names = ("loss_curve_", "initial_output_", "ntk_rank_", "ntk_eigenvalues_", "n_iter_", "t_")
    found = {name: np.asarray(getattr(model, name), dtype=float) for name in names}
    found["theta"] = model._network.theta
    # Rounding alone decides how far beyond its inverse a condition is.
    columns = {k: column for k, column in model.history_.items() if k != "condition"}
    found |= {f"history {k}": column for k, column in columns.items()}
    return found


EXACT = [
    ("the default", {}, False, False),
    ("to the end", {"alpha": 1.0, "t_end": 0.9, "damping": 1e-3}, False, False),
    ("weights", {"solver": "cholesky"}, True, False),
    ("no matrix", {"solver": "krylov"}, True, False),
    ("labels", {}, False, True),
    ("labels and no matrix", {"solver": "krylov", "damping": 0.1}, False, True),
    ("shared", {"solver": "shared", "damping": 0.1, "class_weight": "balanced"}, False, True),
    ("early stopping", {"early_stopping": True}, True, False),
    ("rescaled and encoded", {"rescalings": 1, "encoding": "piecewise"}, False, False),
]


@pytest.mark.parametrize(
    ("given", "weighted", "labels"), [c[1:] for c in EXACT], ids=[c[0] for c in EXACT]
)
def test_the_full_batch_is_that_of_one_process(two, given, weighted, labels):
    kind = AdaptedFlowClassifier if labels else AdaptedFlowRegressor
    results = compared(two.run(pair, kind, given, 120, weighted, labels))
    for found, expected, ours, theirs, *_ in results:
        assert_allclose(found, expected, rtol=0, atol=1e-10)
        for name, value in theirs.items():
            assert_allclose(ours[name], value, rtol=1e-7, atol=1e-9, err_msg=name)
        assert_array_equal(ours["theta"], results[0][2]["theta"])


def test_four_ranks_are_as_one(four):
    results = compared(four.run(pair, AdaptedFlowRegressor, {}, 60))
    for found, expected, ours, *_ in results:
        assert_allclose(found, expected, rtol=0, atol=1e-10)
        assert_array_equal(ours["theta"], results[0][2]["theta"])


BLOCKS = [
    ("plain", {"batch_size": 32}, False, False),
    ("weights", {"batch_size": 32}, True, False),
    ("while rows gain", {"batch_size": 64}, False, False),
    ("labels", {"batch_size": 32}, False, True),
    ("log-loss", {"batch_size": 32, "loss": "log_loss"}, True, True),
    ("early stopping", {"batch_size": 32, "early_stopping": True}, False, False),
    ("mean of networks", {"batch_size": 32, "n_members": 2}, True, False),
]


@pytest.mark.parametrize(
    ("given", "weighted", "labels"), [c[1:] for c in BLOCKS], ids=[c[0] for c in BLOCKS]
)
def test_blocks_learn_as_much_on_two_ranks(two, given, weighted, labels):
    kind = AdaptedFlowClassifier if labels else AdaptedFlowRegressor
    n = 1200 if given["batch_size"] == 64 else 500
    results = compared(two.run(pair, kind, given, n, weighted, labels))
    for *_, ours, theirs, score, alone in results:
        assert score >= alone - 0.02
        assert_array_equal(ours["theta"], results[0][2]["theta"])
        assert_allclose(ours["initial_output_"], theirs["initial_output_"], atol=1e-12)
        assert_allclose(ours["loss_curve_"][0], theirs["loss_curve_"][0], rtol=1e-5)


def many(walking, given):
    """A fit in blocks by ranks of whom so many at most would walk, and one of a single process."""
    most, _blocks_of_ranks._WALKING = _blocks_of_ranks._WALKING, walking
    try:
        return pair(AdaptedFlowRegressor, given, 500)
    finally:
        _blocks_of_ranks._WALKING = most


@pytest.mark.parametrize("walking", [0, 4])
@pytest.mark.parametrize("size", [2, 4])
def test_blocks_learn_as_much_however_ranks_go_over_them(two, four, size, walking):
    group = two if size == 2 else four
    results = compared(group.run(many, walking, {"batch_size": 16}))
    for *_, ours, _, score, alone in results:
        assert score >= alone - 0.02
        assert_array_equal(ours["theta"], results[0][2]["theta"])


def models(n, known=None, **given):
    """The whole model of each rank, as bytes, fitted where few rows are known to all."""
    X, y, _ = table(n)
    known, _shares._KNOWN_ROWS = _shares._KNOWN_ROWS, known or _shares._KNOWN_ROWS
    try:
        rows = own_rows(n)
        model = AdaptedFlowRegressor((8,), distributed="auto", **given).fit(X[rows], y[rows])
    finally:
        _shares._KNOWN_ROWS = known
    return pickle.dumps(model), model.score(X, y)


@pytest.mark.parametrize("given", [{"batch_size": 32}, {"solver": "krylov", "batch_size": None}])
def test_most_rows_stay_where_they_are(two, given):
    """Without a seed of its own, and with a tenth of the rows known to all."""
    (first, score), (second, _) = two.run(partly_known, given)
    assert first == second
    assert score > 0.8


def partly_known(given):
    np.random.seed(dist.get_rank())  # noqa: NPY002 - unequal, and the same at each run
    return models(600, known=60, early_stopping=True, **given)


# -- what no group can do --------------------------------------------------------------------------


def error_of(given, change=None):
    """What is told on this rank of a fit that cannot be; the first rank is handed a change."""
    X, y, _ = table(40)
    rows = own_rows(40)
    X, y = X[rows].copy(), y[rows].copy()
    if change == "no rows here" and dist.get_rank() == 0:
        X, y = X[:1], y[:1]
    if change == "no number" and dist.get_rank() == 0:
        y[0] = np.nan
    if change == "another parameter":
        given = {**given, "alpha": 0.25 + 0.5 * dist.get_rank()}
    model = AdaptedFlowRegressor((8,), distributed="auto", random_state=0, **given)
    try:
        model.fit(X, y)
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"{type(error).__name__}: {error}"
    return "none"


@pytest.mark.parametrize(
    ("given", "change", "told"),
    [
        ({"method": "RK45"}, None, "set it to 'exponential', or distributed=None"),
        ({"early_stopping": "loo"}, None, "set it to True or False, or distributed=None"),
        ({}, "another parameter", "alpha is 0.75 on rank 1 and 0.25 on rank 0"),
        (
            {},
            "no rows here",
            "rank 0 of the process group cannot fit: ValueError: Found array with 1",
        ),
        (
            {},
            "no number",
            "rank 0 of the process group cannot fit: ValueError: Input y contains NaN",
        ),
    ],
)
def test_what_no_group_can_do_is_refused_on_all_ranks(two, given, change, told):
    errors = two.run(error_of, given, change)
    assert any(told in error for error in errors), errors
    assert all(error.startswith("ValueError") for error in errors), errors


def warm():
    X, y, _ = table(40)
    model = AdaptedFlowRegressor((8,), distributed="auto", warm_start=True, random_state=0)
    model.fit(X, y)
    try:
        model.fit(X, y)
    except ValueError as error:
        return str(error)
    return "none"


def test_a_fit_that_goes_on_is_refused(two):
    for told in two.run(warm):
        assert "warm_start=True after a fit is for one process" in told


def test_without_a_group_nothing_changes():
    X, y, _ = table(40)
    fits = [
        AdaptedFlowRegressor((8,), random_state=0, distributed=distributed).fit(X, y)
        for distributed in (None, "auto")
    ]
    assert_array_equal(*(model.predict(X) for model in fits))


def alone():
    """A fit within a group that does not look at it: on one rank only."""
    if dist.get_rank():
        return None
    X, y, _ = table(40)
    return AdaptedFlowRegressor((8,), random_state=0).fit(X, y).predict(X)


def test_none_never_looks_at_the_group(two):
    X, y, _ = table(40)
    expected = AdaptedFlowRegressor((8,), random_state=0).fit(X, y).predict(X)
    assert_array_equal(two.run(alone)[0], expected)
