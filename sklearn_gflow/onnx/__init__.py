"""Converters for skl2onnx, which this import registers: models for onnxruntime.

``import sklearn_gflow.onnx`` once, and `skl2onnx.to_onnx` takes pipelines with the estimators, the
searches and the transformers of this package. It needs the extra "onnx".

What is computed is what ``predict`` is written down as: columns, layers at θ less layers at θ₀,
units of y or probabilities; in float64 inside. What cannot be converted is refused by the name of
the parameter.
"""

try:
    from skl2onnx import update_registered_converter
except ImportError as error:
    raise ImportError(
        "sklearn_gflow.onnx needs skl2onnx; install it by: pip install 'sklearn-gflow[onnx]'"
    ) from error

from sklearn_gflow.estimators import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.inputs import (
    FrequentValueEncoder,
    PeriodicEncoder,
    PiecewiseLinearEncoder,
    SmoothRobustScaler,
    TableEncoder,
)
from sklearn_gflow.onnx import _models

__all__: list[str] = []

for _kind in (AdaptedFlowRegressor, AdaptedFlowRegressorCV):
    update_registered_converter(
        _kind, f"SklearnGflow{_kind.__name__}", _models.shape_numbers, _models.convert_numbers
    )
for _kind in (AdaptedFlowClassifier, AdaptedFlowClassifierCV):
    update_registered_converter(
        _kind,
        f"SklearnGflow{_kind.__name__}",
        _models.shape_labels,
        _models.convert_labels,
        options={
            "zipmap": [True, False, "columns"],
            "output_class_labels": [False, True],
            "nocl": [False, True],
            "raw_scores": [False, True],
        },
    )
for _kind in (
    FrequentValueEncoder, PeriodicEncoder, PiecewiseLinearEncoder, SmoothRobustScaler, TableEncoder,
):  # fmt: skip
    update_registered_converter(
        _kind, f"SklearnGflow{_kind.__name__}", _models.shape_columns, _models.convert_columns
    )
