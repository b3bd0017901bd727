"""Files that version 0.1.0 wrote, in format 1: every later version reads them."""

from pathlib import Path

import numpy as np
import pytest

from sklearn_gflow import archive, load

FOLDER = Path(__file__).with_name("format_1")
# Another machine, or another version of a library, may round otherwise.
_CLOSE = {"rtol": 1e-9, "atol": 1e-9}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_gflow.exceptions.VersionWarning")


@pytest.fixture(scope="module")
def expected():
    """Rows, and what the models of that version said of them."""
    arrays, facts = archive.read(FOLDER / "expected.safetensors")
    return {**arrays, **facts}


def test_regressor(expected):
    """With ramps, stretched columns, and the rows that standard deviations stand on."""
    mean, std = load(FOLDER / "regressor.safetensors").predict(expected["X"], return_std=True)
    np.testing.assert_allclose(mean, expected["mean"], **_CLOSE)
    np.testing.assert_allclose(std, expected["std"], **_CLOSE)


def test_search(expected):
    """Of labels that are strings, with cosines among its candidates."""
    model = load(FOLDER / "search.safetensors")
    assert model.predict(expected["X"]).tolist() == expected["labels"]
    np.testing.assert_allclose(model.predict_proba(expected["X"]), expected["proba"], **_CLOSE)
    assert model.cv_results_["rank_test_score"].min() == 1


@pytest.mark.parametrize("name", ["regressor", "search"])
def test_training_goes_on(name, expected):
    model = load(FOLDER / f"{name}.safetensors")
    y = expected["mean"] if name == "regressor" else expected["labels"]
    assert len(model.fit(expected["X"], y).predict(expected["X"])) == len(y)
