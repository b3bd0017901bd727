"""Models in onnxruntime: outputs of the converted graph against those of the estimator."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)
from sklearn_gflow.geometry.layered import ACTIVATIONS
from tests.estimators.data import classes, small, table
from tests.persistence.models import N_LEVELS, fitted, frame

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from skl2onnx.common import data_types  # noqa: E402

import sklearn_gflow.onnx  # noqa: E402, F401

# Of the largest output, in float32; what was measured is below 1.1e-7.
_CLOSE = 1e-6


def converted(model, X, **options):
    """The outputs of a graph for X: an array, or a frame whose columns are inputs by name."""
    asked = {"options": {id(model): {"zipmap": False}}} if hasattr(model, "classes_") else {}
    if isinstance(X, pd.DataFrame):
        asked["initial_types"] = [(name, _type(X[name])) for name in X]
        given = {name: _tensor(X[name]) for name in X}
    else:
        given = {"X": X}
    first = None if isinstance(X, pd.DataFrame) else X[:1]
    graph = skl2onnx.to_onnx(model, first, **{**asked, **options})
    return session(graph).run(None, given)


def session(graph):
    """A runtime of one thread, which waits for no other test."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options)


def _type(column):
    kinds = {"f": data_types.FloatTensorType, "i": data_types.Int64TensorType}
    kinds |= {"b": data_types.BooleanTensorType}
    return kinds.get(_tensor(column).dtype.kind, data_types.StringTensorType)([None, 1])


def _tensor(column):
    """A column as an input; what is missing among strings is an empty one."""
    values = np.asarray(column)
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    if values.dtype.kind == "O":
        values = np.array(["" if pd.isna(value) else value for value in values], dtype=object)
    return values[:, None]


def hold_close(found, wanted, close=_CLOSE):
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=close * np.abs(wanted).max())


def hold_regressor(model, X, close=_CLOSE):
    wanted = model.predict(X)
    hold_close(converted(model, X)[0], wanted.reshape(len(wanted), -1), close)


def hold_classifier(model, X):
    labels, probabilities = converted(model, X)
    np.testing.assert_array_equal(labels, model.predict(X))
    hold_close(probabilities, model.predict_proba(X))


REGRESSORS = [
    "regressor", "linear", "float32", "several outputs", "poisson", "quantile", "periodic",
    "stretched twice", "unscaled", "chunks", "mean of networks", "search", "search by folds",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name):
    model, X = fitted(name)
    hold_regressor(model, X.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truth values", "strings", "integers", "search of labels"])
def test_classifiers(name):
    model, X = fitted(name)
    hold_classifier(model, X.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_probabilities_far_from_the_rows(loss, n_classes):
    X, y = classes(30, n_classes=n_classes)
    model = small(AdaptedFlowClassifier, loss=loss, t_end=0.1, damping=0.1).fit(X, y)
    hold_classifier(model, (10 * X).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    X, y = table()
    model = small(AdaptedFlowRegressor, activation=activation, hidden_layer_sizes=(6, 5)).fit(X, y)
    hold_regressor(model, X.astype(np.float32))


@pytest.mark.parametrize("name", ["ramps", "cosines", "scaler"])
def test_transformers(name):
    transformer, X = fitted(name)
    X = X.astype(np.float32)
    hold_close(converted(transformer, X)[0], transformer.transform(X))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frame", "search over a frame"])
def test_tables(name):
    model, X = fitted(name)
    X = X.astype({"size": np.float32})
    hold_regressor(model, X)


def test_table_of_labels():
    model, X = fitted("objects")
    hold_classifier(model, X.astype({"size": np.float32}))


def test_table_of_many_levels():
    encoder, X = fitted("table")
    X = X.astype({"size": np.float32})
    assert encoder.by_target_.size
    assert X["place"].nunique() == N_LEVELS
    hold_close(converted(encoder, X)[0], encoder.transform(X))


def test_levels_that_are_new():
    encoder, X = fitted("table")
    X = X.astype({"size": np.float32}).assign(kind="new", place="nowhere", colour="green", code=99)
    hold_close(converted(encoder, X)[0], encoder.transform(X))


def test_pooled_levels():
    X = pd.DataFrame({"kind": np.repeat(["a", "b", "c", "d"], [50, 40, 1, 1]).astype(object)})
    encoder = TableEncoder(min_frequency=5).fit(X)
    assert encoder.get_feature_names_out().tolist()[-1] == "kind_infrequent_sklearn"
    new = pd.DataFrame({"kind": np.array(["a", "c", "new"], dtype=object)})
    hold_close(converted(encoder, new)[0], encoder.transform(new))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaps_in_an_array_of_numbers(dtype):
    X, y = table(40)
    X = X.astype(dtype)
    X[::7, 1] = X[3, 2] = np.nan
    X[:, 0] = np.nan
    model = small(AdaptedFlowRegressor, encoding="piecewise").fit(X, y)
    hold_regressor(model, X.astype(np.float32))


def test_in_float64():
    """Nothing of the model is rounded but its inputs and outputs, and gelu."""
    for name in ("regressor", "search", "poisson"):
        model, X = fitted(name)
        hold_regressor(model, X.astype(float), close=1e-13)


def test_offset_that_float32_would_not_hold():
    X, y = table()
    model = small(AdaptedFlowRegressor).fit(X, y + 1.7e9)
    X = X.astype(np.float32)
    (found,) = converted(model, X)
    assert found.dtype == np.float64
    hold_close(found[:, 0] - 1.7e9, model.predict(X) - 1.7e9)


def test_in_pipelines():
    X, y = table(40)
    raw = make_column_transformer((PiecewiseLinearEncoder(), [0]), (StandardScaler(), [1, 2]))
    steps = [raw, SmoothRobustScaler(clip=None), PeriodicEncoder(random_state=0)]
    model = make_pipeline(*steps, small(AdaptedFlowRegressor, encoding="periodic")).fit(X, y)
    hold_regressor(model, X.astype(np.float32))


def test_probabilities_by_label():
    """As skl2onnx hands them out by default: a dict for each row."""
    model, X = fitted("strings")
    graph = skl2onnx.to_onnx(model, X[:1].astype(np.float32))
    labels, rows = session(graph).run(None, {"X": X.astype(np.float32)})
    assert list(rows[0]) == ["a", "bé", "ccc"]
    assert max(rows[0], key=rows[0].get) == labels[0]


def test_rows_in_any_number():
    model, X = fitted("regressor")
    X = X.astype(np.float32)
    graph = skl2onnx.to_onnx(
        model, initial_types=[("X", data_types.FloatTensorType([None, X.shape[1]]))]
    )
    runtime = session(graph)
    for n in (1, 7, 20):
        hold_close(runtime.run(None, {"X": X[:n]})[0][:, 0], model.predict(X[:n]))


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_in_calibrations(loss, n_classes):
    X, y = classes(40, n_classes=n_classes)
    model = CalibratedClassifierCV(small(AdaptedFlowClassifier, loss=loss, damping=0.1), cv=2)
    hold_classifier(model.fit(X, y), X.astype(np.float32))


def test_at_the_end_of_a_stacking():
    X, y = table()
    flow = small(AdaptedFlowRegressor)
    model = StackingRegressor([("one", flow), ("other", flow)], final_estimator=flow, cv=2)
    hold_regressor(model.fit(X, y), X.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
@pytest.mark.parametrize("of", [AdaptedFlowClassifier, AdaptedFlowClassifierCV])
def test_several_labels_a_row(of, loss):
    X, y = table()
    search = {"encodings": [None], "alphas": [0.5]} if of is AdaptedFlowClassifierCV else {}
    several = np.column_stack([y > np.median(y), X[:, 1] > 0, X[:, 2] > 0.5]).astype(int)
    model = small(of, loss=loss, damping=0.1, **search).fit(X, several)
    X = X.astype(np.float32)
    labels, probabilities = converted(model, X)
    np.testing.assert_array_equal(labels, model.predict(X))
    hold_close(probabilities, model.predict_proba(X))


class TestRefusals:
    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"module": torch.nn.Linear}, r"module=<class 'torch.nn.*> has no converter"),
            ({"encoding": StandardScaler()}, r"encoding=StandardScaler\(\) has no converter"),
        ],
    )
    def test_code_of_others(self, parameters, message):
        X, y = table()
        model = small(AdaptedFlowRegressor, **parameters).fit(X, y)
        with pytest.raises(ValueError, match=message):
            converted(model, X.astype(np.float32))

    def test_member_of_a_search(self):
        X, y = table()
        model = AdaptedFlowRegressorCV((4,), encodings=[StandardScaler()], alphas=[0.5], cv=2)
        with pytest.raises(ValueError, match=r"encoding=StandardScaler\(\) has no converter"):
            converted(model.fit(X, y), X.astype(np.float32))

    def test_labels_with_a_fraction(self):
        model, X = fitted("numbers")
        with pytest.raises(ValueError, match=r"labels of y are \[0.0, 1.0\].*make strings"):
            converted(model, X.astype(np.float32))

    def test_older_operators(self):
        model, X = fitted("regressor")
        with pytest.raises(ValueError, match=r"target_opset must be at least 13.*got 12"):
            converted(model, X.astype(np.float32), target_opset=12)

    def test_strings_in_the_place_of_numbers(self):
        model, X = fitted("regressor")
        types = [("X", data_types.StringTensorType([None, X.shape[1]]))]
        with pytest.raises(ValueError, match="input 'X' holds strings, and the model was fitted"):
            skl2onnx.to_onnx(model, initial_types=types)

    @pytest.mark.parametrize(
        ("levels", "kind", "message"),
        [
            (["a", "b"], data_types.Int64TensorType, "is to hold integers, and the levels"),
            ([1.0, 2.5], data_types.FloatTensorType, "is to hold numbers with a fraction"),
            ([1, 2], data_types.StringTensorType, "is to hold strings, and the levels"),
            (["", None], data_types.StringTensorType, "both empty strings and missing ones"),
        ],
    )
    def test_levels_of_another_type(self, levels, kind, message):
        values = pd.Categorical(levels * 3) if None not in levels else np.array(levels * 3, object)
        encoder = TableEncoder().fit(pd.DataFrame({"kind": values}))
        with pytest.raises(ValueError, match=f"input 'kind' {message}|input 'kind' has {message}"):
            skl2onnx.to_onnx(encoder, initial_types=[("kind", kind([None, 1]))])


def test_without_the_library():
    code = (
        "import sys; sys.modules['skl2onnx'] = None\n"
        "try:\n    import sklearn_gflow.onnx\n"
        "except ImportError as error:\n    assert 'sklearn-gflow[onnx]' in str(error)\n"
        "else:\n    raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_frame_of_the_example():
    X, _ = frame(10)
    assert {_tensor(X[name]).dtype.kind for name in X} == {"f", "i", "b", "O"}
