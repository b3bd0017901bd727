"""Parameters and attributes are written once, and whoever asks is told of them."""

import ast
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc
from sklearn.base import BaseEstimator, clone
from torch import nn

import sklearn_gflow
from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.contract import described, parameter
from sklearn_gflow.estimators import _attributes
from sklearn_gflow.estimators._parameters import PathParameters
from sklearn_gflow.estimators._search_parameters import SearchParameters
from tests.estimators.data import classes, table

PLAIN = [AdaptedFlowRegressor, AdaptedFlowClassifier]
SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
ESTIMATORS = [*PLAIN, *SEARCHES]
OTHER_VALUES = {"hidden_layer_sizes": (5, 4), "activation": "silu", "damping": 0.1, "tol": 1e-3}


def trees():
    """Syntax trees of the estimators' files."""
    room = Path(sklearn_gflow.__file__).parent / "estimators"
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(room.glob("*.py"))]


def small(estimator, **parameters):
    return estimator((6,), random_state=0, t_end=0.5, **parameters)


def example(estimator):
    return table() if estimator in (AdaptedFlowRegressor, AdaptedFlowRegressorCV) else classes()


def fitted_names(estimator):
    return {name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")}


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestParameters:
    def test_are_the_fields(self, estimator):
        assert list(inspect.signature(estimator).parameters) == [f.name for f in fields(estimator)]

    def test_all_have_an_entry_and_a_constraint(self, estimator):
        entries = {entry.name: entry for entry in ClassDoc(estimator)["Parameters"]}
        for declared in fields(estimator):
            assert estimator._parameter_constraints[declared.name]
            assert "\n".join(entries[declared.name].desc) == declared.metadata["doc"] != ""
            assert entries[declared.name].type.startswith(declared.metadata["type"] + ", default=")

    def test_defaults_meet_their_constraints(self, estimator):
        estimator()._validate_params()

    def test_types_are_known(self, estimator):
        assert {f.name for f in fields(estimator)} <= set(get_type_hints(estimator.__init__))

    def test_clone_and_pickle_keep_them(self, estimator):
        model = estimator(**OTHER_VALUES)
        assert OTHER_VALUES.items() <= model.get_params().items()
        for copy in (clone(model), pickle.loads(pickle.dumps(model))):
            assert copy.get_params() == model.get_params()
            assert vars(copy).keys() == vars(model).keys()

    def test_equality_and_representation_stay_those_of_an_estimator(self, estimator):
        model = estimator(**OTHER_VALUES)
        assert len({model, clone(model), model}) == 2
        assert repr(estimator(tol=0.1)) == f"{estimator.__name__}(tol=0.1)"

    def test_mistakes_name_the_estimator(self, estimator):
        message = f"The 'tol' parameter of {estimator.__name__} must be"
        with pytest.raises(ValueError, match=message):
            estimator(tol=-1).fit(*example(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestDocstrings:
    def test_sections_stand_in_the_order_of_numpydoc(self, estimator):
        headings = re.findall(r"^(\w[\w ]+)\n-+$", estimator.__doc__, re.MULTILINE)
        order = ["Parameters", "Attributes", "See Also", "References", "Examples"]
        assert headings == [heading for heading in order if heading in headings]
        assert {"Parameters", "Attributes", "See Also", "Examples"} <= set(headings)

    def test_help_tells_every_parameter_once(self, estimator):
        text = pydoc.render_doc(estimator, renderer=pydoc.plaintext)
        for name in inspect.signature(estimator).parameters:
            assert len(re.findall(rf"^ \|  {name} : .+, default=", text, re.MULTILINE)) == 1

    def test_an_entry_tells_one_name(self, estimator):
        for section in ("Parameters", "Attributes"):
            names = [entry.name for entry in ClassDoc(estimator)[section]]
            assert all(name.isidentifier() for name in names)
            assert len(names) == len(set(names))

    def test_tooltips_find_their_texts(self, estimator):
        html = estimator()._repr_html_()
        if "param-doc-description" not in html:
            pytest.skip("this version of scikit-learn has no tooltips")
        assert html.count('class="param-doc-description"') == len(fields(estimator))


def test_of_a_search_are_those_of_its_estimator_and_the_grid():
    for plain, search in zip(PLAIN, SEARCHES, strict=True):
        of_plain, of_search = ({f.name: f for f in fields(kind)} for kind in (plain, search))
        assert of_search.keys() - of_plain.keys() == {f.name for f in fields(SearchParameters)}
        assert of_plain.keys() - of_search.keys() == {f.name for f in fields(PathParameters)}
        for name in of_search.keys() & of_plain.keys():
            assert of_search[name].metadata is of_plain[name].metadata


@pytest.mark.slow
def test_a_parameter_stands_in_one_place():
    """As one field; no estimator repeats the names in a constructor of its own."""
    made, constructors = [], []
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
                if ast.unparse(node.value.func) == "parameter":
                    made.append(ast.unparse(node.target))
            elif isinstance(node, ast.ClassDef) and "Flow" in node.name:
                constructors += [m for m in node.body if getattr(m, "name", "") == "__init__"]
    # The losses of numbers and those of labels are two parameters of one name.
    declared = {id(f): f.name for estimator in ESTIMATORS for f in fields(estimator)}
    assert sorted(made) == sorted(declared.values())
    assert len(made) == len(set(made)) + 1
    assert constructors == []


def test_an_attribute_stands_in_one_group():
    groups = [getattr(_attributes, name) for name in _attributes.__all__]
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names))
    documented = {
        entry.name for estimator in ESTIMATORS for entry in ClassDoc(estimator)["Attributes"]
    }
    assert documented == set(names)


def linear(n_features, n_outputs):
    return nn.Linear(n_features, n_outputs)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", PLAIN)
def test_documented_attributes_are_those_of_fits(estimator):
    X, y = example(estimator)
    variants = [
        {},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"early_stopping": "loo"},
        {"module": linear},
    ]
    found = {"feature_names_in_"}
    for parameters in variants:
        found |= fitted_names(small(estimator, **parameters).fit(X, y))
    found |= fitted_names(small(estimator).fit(X, y).forget([0]))
    assert {entry.name for entry in ClassDoc(estimator)["Attributes"]} == found


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_documented_attributes_are_those_of_a_search(search):
    model = search((6,), random_state=0, alphas=[0.5], t_ends=[0.5]).fit(*example(search))
    model.forget([0])
    documented = {entry.name for entry in ClassDoc(search)["Attributes"]}
    assert documented == fitted_names(model) | {"feature_names_in_"}


@dataclass(eq=False, repr=False, kw_only=True)
class Decorated(BaseEstimator):
    """Summary.

    Further
    words.

    Notes
    -----
    Last.
    """

    number: float = parameter(
        0.5,
        [float],
        "float",
        """
        First
        second.
        """,
    )
    word: str = parameter("a", [str], "str", "Third.")


EXPECTED = """\
Summary.

Further
words.

Parameters
----------
number : float, default=0.5
    First
    second.
word : str, default="a"
    Third.

Attributes
----------
result_ : int
    Fourth.

Notes
-----
Last.
"""


def test_docstring_is_put_together():
    class Subject(Decorated):
        __doc__ = Decorated.__doc__

    described({"result_": ("int", "\n    Fourth.\n    ")})(Subject)
    assert Subject.__doc__ == EXPECTED
    assert Subject._parameter_constraints == {"number": [float], "word": [str]}


@pytest.mark.parametrize("doc", [None, "", "Summary."])
def test_docstring_without_later_sections(doc):
    class Subject(Decorated):
        __doc__ = doc

    described()(Subject)
    beginning = f"{doc}\n\nParameters\n" if doc else "Parameters\n"
    assert Subject.__doc__.startswith(beginning)


def test_annotated_state_is_no_parameter():
    with pytest.raises(TypeError, match=r"state_ of Subject is annotated in a dataclass .*base"):

        @described()
        @dataclass(eq=False, repr=False, kw_only=True)
        class Subject(Decorated):
            state_: np.ndarray


@pytest.mark.slow
def test_works_without_docstrings():
    code = (
        "import sklearn_gflow as g\n"
        f"for name in {[estimator.__name__ for estimator in ESTIMATORS]}:\n"
        "    model = getattr(g, name)(tol=0.1)\n"
        "    print(model.get_params().keys() == model._parameter_constraints.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True"] * len(ESTIMATORS), done.stderr
