"""What surrounds a call changes nothing: modes of torch and scikit-learn, kinds of array."""

import contextlib
import locale

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from torch import nn

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from tests.estimators.data import classes, table
from tests.modules import between

X, Y = table(16)
LABELS = classes(16)[1]
TANH = between(nn.Tanh)


def regressor(**parameters):
    return AdaptedFlowRegressor((6,), **{"t_end": 0.5, "random_state": 0, **parameters})


def classifier(**parameters):
    return AdaptedFlowClassifier((6,), **{"t_end": 0.5, "random_state": 0, **parameters})


def all_of(model):
    """Predictions with their errors, and the kernel."""
    mean, std = model.predict(X, return_std=True)
    return np.concatenate([mean, std, model.ntk(X)[0], [model.loss_, model.ntk_condition_]])


CALLS = {
    "full batch": lambda X, y, c: all_of(regressor().fit(X, y)),
    "adapted": lambda X, y, c: all_of(regressor(alpha=1.0, damping=0.1).fit(X, y)),
    "float32": lambda X, y, c: all_of(regressor(dtype="float32").fit(X, y)),
    "blocks": lambda X, y, c: all_of(regressor(batch_size=8).fit(X, y)),
    "krylov": lambda X, y, c: all_of(regressor(solver="krylov").fit(X, y)),
    "svd": lambda X, y, c: all_of(regressor(solver="svd").fit(X, y)),
    "integrator": lambda X, y, c: all_of(regressor(method="RK45", alpha=0.0).fit(X, y)),
    "module": lambda X, y, c: all_of(regressor(module=TANH).fit(X, y)),
    "huber": lambda X, y, c: regressor(loss="huber").fit(X, y).predict(X),
    "staged": lambda X, y, c: np.concatenate(
        list(regressor(store_path=True).fit(X, y).staged_predict(X))
    ),
    "classes": lambda X, y, c: classifier().fit(X, c).predict_proba(X),
    "log-loss": lambda X, y, c: classifier(loss="log_loss", damping=0.1).fit(X, c).predict_proba(X),
    "shared": lambda X, y, c: classifier(solver="shared", damping=0.1).fit(X, c).predict_proba(X),
    "chunks": lambda X, y, c: (
        classifier().partial_fit(X, c, classes=[0, 1, 2]).partial_fit(X, c).predict_proba(X)
    ),
    "search": lambda X, y, c: (
        AdaptedFlowRegressorCV((6,), alphas=(0.5,), random_state=0).fit(X, y).predict(X)
    ),
    "folds": lambda X, y, c: (
        AdaptedFlowClassifierCV((6,), alphas=(0.5,), cv=2, random_state=0)
        .fit(X, c)
        .predict_proba(X)
    ),
}


@contextlib.contextmanager
def set_to(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


@contextlib.contextmanager
def other_locale():
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "tr_TR.UTF-8", "C"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)
            break
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def default_dtype(dtype):
    return set_to(torch.set_default_dtype, dtype, torch.get_default_dtype())


SETTINGS = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default device": lambda: set_to(torch.set_default_device, "meta", None),
    "device context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "deterministic algorithms": lambda: set_to(torch.use_deterministic_algorithms, True, False),
    "numpy raises": lambda: np.errstate(all="raise"),
    "transform_output": lambda: sklearn.config_context(transform_output="pandas"),
    "locale": other_locale,
}


@pytest.fixture(scope="module")
def ordinary():
    return {name: call(X, Y, LABELS) for name, call in CALLS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_fit_is_the_same(setting, ordinary):
    for name, call in CALLS.items():
        with SETTINGS[setting]():
            found = call(X, Y, LABELS)
        np.testing.assert_array_equal(found, ordinary[name], err_msg=name)


@pytest.mark.slow
def test_half_precision_as_default_rounds_a_module_and_nothing_else(ordinary):
    for name, call in CALLS.items():
        with default_dtype(torch.bfloat16):
            found = call(X, Y, LABELS)
        exact = name != "module"
        np.testing.assert_allclose(found, ordinary[name], 0 if exact else 0.1, 0 if exact else 0.02)


def test_the_modes_are_those_of_the_caller_again():
    with torch.inference_mode(), torch.autocast("cpu"), torch.device("meta"):
        model = regressor(store_path=True).fit(X, Y)
        for _ in model.staged_predict(X):
            assert torch.is_inference_mode_enabled()
            assert torch.is_autocast_enabled("cpu")
            assert torch.empty(0).device.type == "meta"
    threads = torch.get_num_threads()
    model.predict(X)
    assert torch.get_num_threads() == threads


def read_only(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


KINDS = {
    "read-only": read_only,
    "tensors": torch.as_tensor,
    "lists": np.ndarray.tolist,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "frames": pd.DataFrame,
    "nullable frames": lambda a: pd.DataFrame(a).convert_dtypes(),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_array_are_the_same_and_unchanged(kind, ordinary):
    for name in ("full batch", "blocks", "classes", "chunks", "search", "folds"):
        make = KINDS[kind]
        given = make(X), make(Y), make(LABELS)
        if "frames" in kind:
            given = given[0], *(column.iloc[:, 0] for column in given[1:])
        kept = [copy_of(a) for a in given]
        found = CALLS[name](*given)
        np.testing.assert_array_equal(found, ordinary[name], err_msg=name)
        for one, other in zip(given, kept, strict=True):
            assert_same(one, other)


def copy_of(a):
    return a.clone() if isinstance(a, torch.Tensor) else a.copy()


def assert_same(one, other):
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    else:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


class TestTensorsThatAreNoArrays:
    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.tensor(X, requires_grad=True), r"requires a gradient.* hand over X\.detach\(\)"),
            (torch.tensor(X).bfloat16(), r"no array \(Got unsupported .*X\.cpu\(\)\.double\(\)"),
            (torch.tensor(X).to("meta"), r"no array \(can't convert meta"),
            (torch.tensor(X).to_sparse(), r"no array \(can't convert Sparse"),
            (list(torch.tensor(X, requires_grad=True)), "requires a gradient"),
        ],
    )
    def test_inputs(self, tensor, message):
        with pytest.raises(ValueError, match=f"X is a tensor that .*{message}|{message}"):
            regressor().fit(tensor, Y)
        with pytest.raises(ValueError, match=message):
            regressor().fit(X, Y).predict(tensor)

    def test_targets_and_weights(self):
        y = torch.tensor(Y, requires_grad=True)
        with pytest.raises(ValueError, match=r"y is a tensor that requires a gradient"):
            regressor().fit(X, y)
        with pytest.raises(ValueError, match=r"y is a tensor that requires a gradient"):
            regressor().fit(X, Y).score(X, y)
        with pytest.raises(ValueError, match=r"sample_weight is a tensor that requires"):
            regressor().fit(X, Y, sample_weight=torch.ones(16, requires_grad=True))


class TestLabels:
    @pytest.mark.parametrize("wrap", [list, lambda y: np.array(y, dtype=object), pd.Series])
    @pytest.mark.parametrize(
        ("labels", "kinds"),
        [
            ([None, "a"], "NoneType and strings"),
            ([1, "a"], "numbers and strings"),
            ([np.nan, "a"], "numbers and strings"),
            ([None, 1], "NoneType and numbers"),
        ],
    )
    def test_of_two_kinds(self, labels, kinds, wrap):
        y = wrap(labels * 8)
        if not isinstance(y, pd.Series) or y.dtype == object:  # pandas makes NaN of None
            message = f"y has labels that are {kinds}, which have no common order"
            with pytest.raises(ValueError, match=message):
                classifier().fit(X, y)
            with pytest.raises(ValueError, match=message):
                AdaptedFlowClassifierCV((6,)).fit(X, y)

    def test_missing_in_a_nullable_column(self):
        y = pd.Series([pd.NA, "a"] * 8, dtype="string")
        with pytest.raises(ValueError, match="y has labels that are NAType and strings"):
            classifier().fit(X, y)

    def test_of_chunks_and_of_rows_to_stop_by(self):
        names = np.array(["a", "b"] * 8)
        mixed = np.array([1, "b"] * 8, dtype=object)
        with pytest.raises(ValueError, match="classes has labels that are NoneType and strings"):
            classifier().partial_fit(X, names, classes=[None, "a", "b"])
        with pytest.raises(ValueError, match="y_val has labels that are numbers and strings"):
            classifier(early_stopping=True).fit(X, names, X_val=X, y_val=mixed)


def test_missing_targets_among_objects():
    with pytest.raises(ValueError, match=r"y contains NaN"):
        regressor().fit(X, [None, *Y[1:].tolist()])


def test_columns_of_one_name():
    frame = pd.DataFrame(X, columns=["a", "b", "a"])
    for estimator in (regressor(), AdaptedFlowRegressorCV((6,))):
        with pytest.raises(ValueError, match="X has more than one column of the name 'a'; rename"):
            estimator.fit(frame, Y)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70, 1.5, "1", np.random.default_rng(0)])
def test_seeds_that_numpy_has_not(seed):
    for model in (
        regressor(random_state=seed),
        AdaptedFlowRegressorCV((6,), random_state=seed),
    ):
        with pytest.raises(ValueError, match=r"The 'random_state' parameter of .* must be an int"):
            model.fit(X, Y)
    with pytest.raises(ValueError, match="The 'random_state' parameter of"):
        regressor().partial_fit(X, Y).set_params(random_state=seed).partial_fit(X, Y)


class TestFittedStateAlonePredicts:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "changed",
        [
            {"loss": "huber"}, {"module": nn.Linear}, {"dtype": "float32"}, {"activation": "relu"},
            {"hidden_layer_sizes": (3,)}, {"device": "meta"}, {"init_scale": 2.0}, {"alpha": 0.1},
            {"quantile": 0.9}, {"random_state": 3}, {"batch_size": 2}, {"max_memory": 1},
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("module", [None, TANH])
    def test_regressor(self, changed, module):
        model = regressor(module=module).fit(X, Y)
        before = all_of(model)
        np.testing.assert_array_equal(all_of(model.set_params(**changed)), before)

    @pytest.mark.parametrize(
        "changed",
        [
            {"loss": "log_loss"}, {"label_smoothing": 0.3}, {"class_weight": "balanced"},
            {"module": nn.Linear}, {"dtype": "float32"}, {"device": "meta"},
        ],
    )  # fmt: skip
    def test_classifier(self, changed):
        model = classifier().fit(X, LABELS)
        before = model.predict_proba(X)
        np.testing.assert_array_equal(model.set_params(**changed).predict_proba(X), before)

    def test_a_device_that_is_not_here(self):
        model = regressor().fit(X, Y)
        before = all_of(model)
        object.__setattr__(model._network, "trained_on", "cuda:7")
        np.testing.assert_array_equal(all_of(model), before)

    def test_going_on_with_another_activation_is_refused(self):
        model = regressor(warm_start=True).fit(X, Y)
        with pytest.raises(ValueError, match=r"warm_start=True continues .* the activation too"):
            model.set_params(activation="relu").fit(X, Y)

    def test_going_on_in_another_precision(self):
        model = regressor(warm_start=True, module=TANH).fit(X, Y)
        loss = model.loss_
        assert model.set_params(dtype="float32").fit(X, Y).loss_ < loss
        assert 1 - model.score(X, Y) == pytest.approx(2 * model.loss_, rel=1e-4)
