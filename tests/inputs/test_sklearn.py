"""The contract with scikit-learn, held over all transformers of the room."""

import inspect
import pickle
import re
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from sklearn_gflow import AdaptedFlowRegressor, PeriodicEncoder, PiecewiseLinearEncoder
from tests.inputs.data import NUMERIC, TRANSFORMERS, make, numbers

pytestmark = pytest.mark.slow

# Skips itself unless an environment variable is set before scipy is imported.
_ARRAY_API = "check_array_api_input"


def _checks():
    # With two distinct values every column of the checks is encoded.
    others = [
        PiecewiseLinearEncoder(n_bins=3, min_distinct=2),
        PeriodicEncoder(scale=(0.4, 2), min_distinct=2),
    ]
    for transformer in [*(one() for one in TRANSFORMERS), *others]:
        for instance, check in estimator_checks.estimator_checks_generator(transformer):
            if check.func.__name__ != _ARRAY_API:
                yield pytest.param(instance, check, id=f"{transformer}-{check.func.__name__}")


@pytest.mark.parametrize(("instance", "check"), list(_checks()))
def test_check_estimator(instance, check):
    check(instance)


# Some checks fit an array and transform a frame, or the other way round.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("transformer", TRANSFORMERS)
@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_param_validation",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
    ],
)
def test_checks_beyond_check_estimator(transformer, check):
    getattr(estimator_checks, check)(transformer.__name__, transformer())


@pytest.mark.parametrize("transformer", TRANSFORMERS)
class TestTransformers:
    def test_clone_and_pickle_transform_alike(self, transformer):
        X = numbers()
        fitted = make(transformer).fit(X)
        expected = fitted.transform(X)
        copies = [pickle.loads(pickle.dumps(fitted)), clone(fitted).fit(X)]
        for copy in copies:
            np.testing.assert_array_equal(copy.transform(X), expected)

    def test_inputs_and_global_state_are_left_alone(self, transformer):
        X = numbers()
        before, state = X.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
        Z = make(transformer).fit(X).transform(X)
        Z += 1
        np.testing.assert_array_equal(X, before)
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002

    def test_read_only_and_in_any_order(self, transformer):
        X = numbers()
        expected = make(transformer).fit_transform(X)
        X = np.asfortranarray(X)
        X.flags.writeable = False
        np.testing.assert_array_equal(make(transformer).fit_transform(X), expected)

    def test_float32_stays_and_differs_by_its_precision_only(self, transformer):
        X = numbers()
        fitted = make(transformer).fit(X.astype(np.float32))
        single = fitted.transform(X.astype(np.float32))
        assert single.dtype == np.float32
        expected = make(transformer).fit(X).transform(X)
        np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-4)

    def test_frames_come_out_with_names(self, transformer):
        X = pd.DataFrame(numbers(), columns=list("abcde"))
        fitted = make(transformer).set_output(transform="pandas").fit(X)
        Z = fitted.transform(X)
        assert list(Z) == list(fitted.get_feature_names_out())
        assert {name[0] for name in Z} == set("abcde")

    def test_global_output_frames(self, transformer):
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(make(transformer).fit_transform(numbers()), pd.DataFrame)

    def test_parameters_are_told_once(self, transformer):
        documented = ClassDoc(transformer)["Parameters"]
        names = [field.name for field in fields(transformer)]
        assert [parameter.name for parameter in documented] == names
        assert set(transformer._parameter_constraints) == set(names)
        signature = inspect.signature(transformer).parameters
        for parameter in documented:
            told = re.search(r"default=(.*)$", parameter.type).group(1)
            assert eval(told) == signature[parameter.name].default

    def test_attributes_are_those_of_a_fit(self, transformer):
        told = {attribute.name for attribute in ClassDoc(transformer)["Attributes"]}
        fitted = make(transformer).fit(pd.DataFrame(numbers(), columns=list("abcde")))
        written = {name for name in vars(fitted) if name.endswith("_") and name[0] != "_"}
        assert written == told

    def test_numpydoc(self, transformer):
        name = f"sklearn_gflow.{transformer.__name__}"
        faults = {"PR01", "PR02", "PR03", "PR04", "GL01", "GL02", "GL08", "SS01", "RT01", "EX01"}
        assert [e for e in validate(name)["errors"] if e[0] in faults] == []
        for method in ("fit", "transform", "get_feature_names_out"):
            errors = validate(f"{name}.{method}")["errors"]
            assert [e for e in errors if e[0] in faults - {"EX01"}] == [], method


@pytest.mark.parametrize("transformer", NUMERIC)
class TestWeights:
    def test_a_weight_of_k_is_k_copies(self, transformer):
        X = numbers(40)
        weights = np.random.default_rng(1).integers(0, 4, len(X))
        weighted = make(transformer).fit(X, sample_weight=weights).transform(X)
        copied = make(transformer).fit(np.repeat(X, weights, axis=0)).transform(X)
        np.testing.assert_allclose(weighted, copied, rtol=1e-9, atol=1e-12)

    def test_rows_of_weight_zero_are_absent(self, transformer):
        X = numbers(40)
        weights = np.r_[np.ones(30), np.zeros(10)]
        X[30:] = 1e6
        weighted = make(transformer).fit(X, sample_weight=weights).transform(X[:30])
        absent = make(transformer).fit(X[:30]).transform(X[:30])
        np.testing.assert_array_equal(weighted, absent)

    def test_only_ratios_count(self, transformer):
        X = numbers(40)
        weights = np.random.default_rng(1).uniform(0.5, 2, len(X))
        one, other = (make(transformer).fit(X, sample_weight=c * weights) for c in (1, 1024))
        np.testing.assert_allclose(one.transform(X), other.transform(X), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize(
        ("weights", "message"),
        # From scikit-learn 1.9 on it refuses zeros itself.
        [(-1.0, "negative values"), (0.0, "zero for every row|at least one non-zero")],
    )
    def test_weights_out_of_range(self, transformer, weights, message):
        with pytest.raises(ValueError, match=message):
            make(transformer).fit(numbers(), sample_weight=np.full(60, weights))


@pytest.mark.parametrize("transformer", NUMERIC)
def test_in_a_pipeline(transformer):
    X = numbers(90)
    y = np.sin(2 * X[:, 0]) + X[:, 3]
    model = make_pipeline(make(transformer), AdaptedFlowRegressor((8,), random_state=0))
    assert np.isfinite(cross_val_score(model, X, y, cv=2)).all()
