"""What `verbose` prints: a line a step, and of a search what it does; never a long silence."""

import re

import numpy as np
import pytest

from sklearn_gflow.estimators import _progress
from tests.estimators.held import WAYS, each_kind, each_way, example, partial_fit, plain, search

LINE = re.compile(r"t = (\S+), loss = (\S+?)(?:, validation score = (\S+))?")


def lines_of(model, capsys, call=lambda m, X, y: m.fit(X, y)):
    call(model, *example(model))
    return capsys.readouterr().out.splitlines()


def steps(lines):
    """t, loss and score of the lines, each of which is such a line."""
    return np.array(
        [
            [np.nan if x is None else float(x) for x in LINE.fullmatch(line).groups()]
            for line in lines
        ]
    ).T


@pytest.fixture
def hours(monkeypatch):
    """Each look at the clock is an hour later than the last."""
    times = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(_progress, "monotonic", lambda: next(times))


# -- one flow --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fit", "fit in blocks", "fit by RK45", "fit with rows held out"])
@each_kind
def test_a_line_a_step(kind, way, capsys):
    make, parameters, _ = WAYS[way]
    model = make(kind, verbose=1, **parameters)
    t, loss, score = steps(lines_of(model, capsys))
    assert len(t) == model.n_iter_ + 1
    np.testing.assert_allclose(t, model.history_["t"], rtol=1e-5)
    np.testing.assert_allclose(loss, model.history_["loss"], rtol=1e-5)
    if model.early_stopping:
        np.testing.assert_allclose(score, model.history_["validation_score"], rtol=1e-5)
    else:
        assert np.isnan(score).all()


@each_kind
def test_a_line_a_chunk(kind, capsys):
    """Their times go on, as those of the history."""
    model = plain(kind, verbose=True)
    first = lines_of(model, capsys, partial_fit)
    later = [line for _ in range(2) for line in lines_of(model, capsys, partial_fit)]
    t, _, _ = steps([*first, *later])
    assert len(first) == 2
    np.testing.assert_allclose(t, model.history_["t"], rtol=1e-5)


@each_kind
def test_a_chunk_behind_a_fit(kind, capsys):
    model = plain(kind, verbose=1).fit(*example(plain(kind)))
    capsys.readouterr()
    t, _, _ = steps(lines_of(model, capsys, partial_fit))
    assert t == pytest.approx([model.t_], rel=1e-5)


@each_kind
def test_leave_one_out_says_what_it_found(kind, capsys):
    model = plain(kind, early_stopping="loo", verbose=1)
    first, *others = lines_of(model, capsys)
    best = np.argmax(model.loo_scores_)
    assert first.startswith(f"leave-one-out: best score = {model.loo_scores_[best]:.6g}, at t = ")
    assert len(others) == model.n_iter_ + 1


def test_rescalings_are_flows_of_their_own(capsys):
    t, _, _ = steps(lines_of(plain("regressor", rescalings=2, verbose=1), capsys))
    assert (t == 0).sum() == 3


def test_level_2_tells_of_the_kernel(capsys):
    _, *lines = lines_of(plain("regressor", verbose=2, solver="svd"), capsys)
    assert lines
    for line in lines:
        assert re.search(r", rank = 18, condition = \S+ \(svd\)$", line)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["auto", "cholesky", "krylov", "svd"])
@pytest.mark.parametrize("method", ["exponential", "RK45"])
def test_what_is_not_known_is_not_printed(solver, method, capsys):
    lines = lines_of(plain("regressor", t_end=0.2, solver=solver, method=method, verbose=2), capsys)
    assert lines
    assert "nan" not in "".join(lines)


def test_silent_by_default(capsys, hours):
    assert lines_of(plain("regressor"), capsys) == []
    assert lines_of(search("regressor"), capsys) == []


# -- searches --------------------------------------------------------------------------------------


@pytest.mark.slow
@each_kind
def test_a_search_says_what_it_does(kind, capsys):
    model = search(kind, t_ends=(0.3, 0.96), verbose=1)
    text = "\n".join(lines_of(model, capsys))
    assert "leave-one-out, network 1 of 1: alpha=" in text
    for place in ("paths", "stretched columns"):
        for k in (1, 2, 3):
            fold = f"{place}, candidate 1 of 1, fold {k} of 3: "
            assert f"{fold}alpha=" in text
            assert f"{fold}followed up to t = " in text
    assert "rescalings=1: score = " in text
    assert f"score = {model.best_score_:.6g}" in text
    assert f"chosen: alpha={model.alpha_!r}, encoding=None" in text
    n_members = len(model.estimators_)
    assert f"fit, member {n_members} of {n_members}: alpha=" in text
    assert "nan" not in text


@each_kind
def test_a_search_by_folds_follows_all(kind, capsys):
    text = "\n".join(lines_of(search(kind, cv=3, verbose=1), capsys))
    assert "leave-one-out" not in text
    for alpha, k in ((0.0, 1), (0.5, 2)):
        place = f"paths, candidate {k} of 2, fold . of 3"
        assert len(re.findall(rf"{place}: alpha={alpha!r}", text)) == 3
        assert len(re.findall(rf"{place}: followed up to t = ", text)) == 3
        assert re.search(rf"^paths: alpha={alpha!r}.*: score = ", text, re.MULTILINE)


def test_level_2_prints_the_steps_of_a_search(capsys):
    short, long = ("\n".join(lines_of(search("regressor", verbose=v), capsys)) for v in (1, 2))
    step = re.compile(r"^paths, candidate 1 of 1, fold 2 of 3: t = \S+, loss = ", re.MULTILINE)
    assert not step.search(short)
    assert len(step.findall(long)) > 2
    assert re.search(r"^fit, member 1 of .: t = \S+, loss = ", long, re.MULTILINE)


def test_no_long_silence(capsys, hours):
    """Where every step takes its time a search prints all of them at level 1 as at level 2."""
    patient, curious = (lines_of(search("regressor", verbose=v), capsys) for v in (1, 2))
    assert len(patient) == len(curious)


# -- what it does not do ---------------------------------------------------------------------------


@pytest.mark.slow
@each_way
@each_kind
def test_verbose_changes_nothing(kind, way, capsys):
    make, parameters, call = WAYS[way]
    quiet, loud = make(kind, **parameters), make(kind, verbose=2, **parameters)
    X, y = example(quiet)
    np.testing.assert_array_equal(call(quiet, X, y).predict(X), call(loud, X, y).predict(X))
    assert capsys.readouterr().out


def test_lines_are_plain_ascii_at_level_1(capsys):
    """Since not every console and every log file takes more."""
    lines = lines_of(plain("regressor", verbose=1), capsys)
    assert "\n".join([*lines, *lines_of(search("classifier", verbose=1), capsys)]).isascii()


def test_levels_are_checked():
    with pytest.raises(ValueError, match="'verbose' parameter"):
        plain("regressor", verbose=-1).fit(*example(plain("regressor")))
