"""Damaged and forged files; ten thousand of them are tried by `mutations`."""

import pytest

from sklearn_gflow import SmoothRobustScaler, save
from tests.persistence.mutations import outcome, tried, watched


@pytest.mark.slow
def test_none_runs_code_or_fails_otherwise(tmp_path):
    counts = tried(0, 500, tmp_path)
    assert counts.total() == 500
    assert counts["ArchiveError"] > 250


def test_what_would_be_code_is_seen():
    with watched() as events:
        eval("1 + 1")
    assert {"compile", "exec"} <= {*events}


def test_whole_file_is_a_model(tmp_path):
    save(SmoothRobustScaler(), tmp_path / "model")
    assert outcome(tmp_path / "model") == "a model"


def test_absent_file_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        outcome(tmp_path / "none")
