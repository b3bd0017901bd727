"""Diagrams of estimators: links lead to our own pages or nowhere, and every text is shown."""

import re
from importlib.metadata import PackageNotFoundError

import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

import sklearn_gflow
from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor, TableEncoder
from sklearn_gflow.contract import pages
from tests.estimators.data import classes, table

NAMES = [
    name
    for name in sklearn_gflow.__all__
    if isinstance(made := getattr(sklearn_gflow, name), type) and issubclass(made, BaseEstimator)
]
SMALL = {
    "hidden_layer_sizes": (6,),
    "t_end": 0.5,
    "t_ends": [0.5],
    "alphas": [0.5],
    "encodings": [None],
    "random_state": 0,
}


def fitted(name):
    kind = getattr(sklearn_gflow, name)
    model = kind()
    taken = model.get_params()
    model.set_params(**{key: value for key, value in SMALL.items() if key in taken})
    return model.fit(*(classes() if "Classifier" in name else table()))


def has_texts():
    return "param-doc-description" in AdaptedFlowRegressor()._repr_html_()


def with_address(monkeypatch, *addresses):
    """As if the package had been installed with these in ``[project.urls]``."""

    class Metadata:
        def get_all(self, field):
            return list(addresses) if field == "Project-URL" else None

    monkeypatch.setattr(pages, "metadata", lambda name: Metadata())
    pages.documentation.cache_clear()


@pytest.fixture(autouse=True)
def forget():
    yield
    pages.documentation.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_the_page_of_the_class(monkeypatch, name):
    with_address(monkeypatch, "Paper, https://a.example/p", "Documentation, https://b.example/d/")
    model = getattr(sklearn_gflow, name)()
    page = f"https://b.example/d/generated/sklearn_gflow.{name}.html"
    assert model._get_doc_link() == page
    links = re.findall(r'href="([^"]*)"', model._repr_html_())
    assert {link.partition("#")[0] for link in links} == {page}


@pytest.mark.parametrize("addresses", [(), ("Paper, https://a.example/p",)])
@pytest.mark.parametrize("name", NAMES)
def test_without_pages_there_is_no_link(monkeypatch, name, addresses):
    with_address(monkeypatch, *addresses)
    model = getattr(sklearn_gflow, name)()
    assert model._get_doc_link() == ""
    assert "href" not in model._repr_html_()


def test_a_source_tree_names_no_pages(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(pages, "metadata", missing)
    pages.documentation.cache_clear()
    assert pages.documentation() == ""


@pytest.mark.slow
@pytest.mark.parametrize("address", [(), ("Documentation, https://b.example",)])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_and_attribute_shows_its_text(monkeypatch, name, address):
    if not has_texts():
        pytest.skip("this version of scikit-learn shows no texts")
    with_address(monkeypatch, *address)
    html = fitted(name)._repr_html_()
    named = re.findall(r'<td class="param">(.*?)</td>', html, re.DOTALL)
    bare = [cell.strip() for cell in named if "param-doc-description" not in cell]
    assert len(named) > len(getattr(sklearn_gflow, name)().get_params())
    assert bare == []
    texts = re.findall(r'class="param-doc-description"[^>]*>\s*(.*?)</span>', html, re.DOTALL)
    assert all(re.search(r"<br><br>.", text) for text in texts)


def test_inside_of_a_pipeline_too(monkeypatch):
    if not has_texts():
        pytest.skip("this version of scikit-learn shows no texts")
    with_address(monkeypatch)
    parts = (TableEncoder(), AdaptedFlowClassifier())
    html = make_pipeline(*parts)._repr_html_()
    expected = sum(len(part.get_params()) for part in parts)
    ours = re.findall(r"<a class=\"param-doc-link\"[^>]*>", html)
    assert sum("href" not in link for link in ours) == expected


def test_a_class_of_a_user_has_no_page_here(monkeypatch):
    class Own(AdaptedFlowRegressor):
        """Of a user."""

    with_address(monkeypatch, "Documentation, https://b.example")
    assert Own()._get_doc_link() == ""


def test_a_diagram_changes_nothing():
    model = fitted("AdaptedFlowRegressor")
    before = dict(vars(model))
    model._repr_html_()
    assert vars(model).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(model).items())
