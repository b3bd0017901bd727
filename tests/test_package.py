import importlib.metadata
import inspect
import re
import subprocess
import sys

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate
from sklearn.base import is_classifier

import sklearn_gflow
from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.estimators._base import BaseAdaptedFlow

PLAIN = [AdaptedFlowRegressor, AdaptedFlowClassifier]
ESTIMATORS = [*PLAIN, AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.\w+)?", sklearn_gflow.__version__)
    try:
        installed = importlib.metadata.version("sklearn-gflow")
    except importlib.metadata.PackageNotFoundError:
        return  # run from a checkout
    assert installed == sklearn_gflow.__version__


def test_public_names():
    for name in sklearn_gflow.__all__:
        assert getattr(sklearn_gflow, name) is not None
    assert set(sklearn_gflow.__all__) >= {
        *(estimator.__name__ for estimator in ESTIMATORS),
        "__version__",
    }


@pytest.mark.parametrize(
    "room", ["geometry", "dynamics", "diagnostics", "inputs", "estimators", "plots"]
)
def test_public_names_of_a_room(room):
    module = importlib.import_module(f"sklearn_gflow.{room}")
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))  # fmt: skip # noqa: E501
    for name in module.__all__:
        member = getattr(module, name)
        assert not callable(member) or member.__doc__


def public_methods(estimator):
    for name, member in inspect.getmembers(estimator, inspect.isfunction):
        if not name.startswith("_") and member.__module__.startswith("sklearn_gflow"):
            yield name


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestDocstrings:
    def test_parameters_are_those_of_the_signature(self, estimator):
        documented = [parameter.name for parameter in ClassDoc(estimator)["Parameters"]]
        assert documented == list(inspect.signature(estimator).parameters)

    def test_defaults_are_those_of_the_signature(self, estimator):
        signature = inspect.signature(estimator).parameters
        for parameter in ClassDoc(estimator)["Parameters"]:
            told = re.search(r"default=(.*)$", parameter.type)
            assert told, parameter.name
            assert eval(told.group(1)) == signature[parameter.name].default

    @pytest.mark.slow
    def test_numpydoc(self, estimator):
        name = f"sklearn_gflow.{estimator.__name__}"
        faults = {"PR01", "PR02", "PR03", "PR04", "GL01", "GL02", "GL08", "SS01", "RT01", "EX01"}
        found = [error for error in validate(name)["errors"] if error[0] in faults]
        assert found == []
        for method in public_methods(estimator):
            errors = validate(f"{name}.{method}")["errors"]
            assert [e for e in errors if e[0] in faults - {"EX01"}] == [], method

    def test_public_methods(self, estimator):
        expected = {"fit", "predict"}
        if estimator in PLAIN:
            expected |= {"partial_fit", "staged_predict", "ntk"}
        if is_classifier(estimator()):
            expected |= {"predict_proba", "predict_log_proba", "decision_function"}
        assert set(public_methods(estimator)) >= expected

    def test_init_stores_its_parameters_as_they_are(self, estimator):
        values = {name: object() for name in inspect.signature(estimator).parameters}
        stored = vars(estimator(**values))
        assert set(stored) == set(values)
        assert all(stored[name] is value for name, value in values.items())

    def test_every_parameter_is_constrained(self, estimator):
        parameters = set(inspect.signature(estimator).parameters)
        assert set(estimator._parameter_constraints) == parameters

    def test_only_the_layers_and_the_activation_are_positional(self, estimator):
        kinds = inspect.signature(estimator).parameters.values()
        positional = [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == ["hidden_layer_sizes", "activation"]

    def test_defaults_are_plain(self, estimator):
        for parameter in inspect.signature(estimator).parameters.values():
            assert isinstance(parameter.default, str | int | float | bool | tuple | None)


@pytest.mark.parametrize("estimator", PLAIN)
def test_alpha_is_told_from_the_penalty_first(estimator):
    text = ClassDoc(estimator)["Extended Summary"]
    assert "not the L2 strength" in " ".join(text)


def test_estimators_share_their_parameters_and_defaults():
    one, other = (
        {name: p.default for name, p in inspect.signature(estimator).parameters.items()}
        for estimator in PLAIN
    )
    common = one.keys() & other.keys()
    differing = {name for name in common if one[name] != other[name]}
    assert differing == {"loss"}  # only that of labels waits for how the flow goes
    assert one.keys() - other.keys() == {"quantile"}
    assert issubclass(AdaptedFlowRegressor, BaseAdaptedFlow)


def test_kernel_is_documented():
    assert [p.name for p in FunctionDoc(BaseAdaptedFlow.ntk)["Parameters"]] == ["X", "Y", "at"]


@pytest.mark.slow
def test_import_loads_nothing_until_a_name_is_used():
    code = (
        "import sys, sklearn_gflow; early = {'torch', 'sklearn', 'scipy'} & set(sys.modules);"
        "assert not early, early; sklearn_gflow.geometry.OutputMap;"
        "assert 'torch' in sys.modules and 'sklearn' not in sys.modules;"
        "from sklearn_gflow import *; assert AdaptedFlowRegressor.__name__ in dir(sklearn_gflow)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sklearn_gflow.nothing  # noqa: B018
