"""Folds of a search: copies stay together, and neither order nor weights of rows change them."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressorCV
from sklearn_gflow.estimators import _selection
from sklearn_gflow.estimators._folds import default_folds
from tests.estimators.data import classes, table

SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]


def search(kind, **parameters):
    quick = {"alphas": [0.5], "t_ends": [0.5, 0.9, 0.99]}
    return kind((12,), **{"random_state": 0, **quick, **parameters})


def example(kind, n):
    return table(n) if kind is AdaptedFlowRegressorCV else classes(n, n_classes=2)


def folds(X, y, groups=None, *, classify=False, once=False, seed=0):
    return default_folds(X, y, groups, classify=classify, once=once, seed=seed)


def assert_partition(found, n):
    for training, held in found:
        assert sorted([*training, *held]) == list(range(n))
    assert sorted(np.concatenate([held for _, held in found])) == list(range(n))


class TestFolds:
    @pytest.mark.parametrize("n", [2, 3, 7, 8, 30])
    def test_every_row_is_held_out_once(self, n):
        found = folds(*table(n))
        assert_partition(found, n)
        assert len(found) == (n if n < 8 else 3)

    def test_copies_stay_together(self):
        X, y = table(20)
        copies = np.repeat(np.arange(20), np.arange(20) % 4 + 1)
        for training, held in folds(X[copies], y[copies]):
            assert not set(copies[training]) & set(copies[held])

    @pytest.mark.parametrize("classify", [False, True])
    def test_the_order_of_rows_does_not_matter(self, classify):
        X, y = classes(30) if classify else table(30)
        order = np.random.default_rng(1).permutation(30)
        parts = [set(held) for _, held in folds(X, y, classify=classify)]
        shuffled = [set(order[h]) for _, h in folds(X[order], y[order], classify=classify)]
        assert parts == shuffled

    def test_copies_have_the_folds_of_their_row(self):
        X, y = table(20)
        copies = np.repeat(np.arange(20), np.arange(20) % 4 + 1)
        parts = [set(held) for _, held in folds(X, y)]
        assert parts == [set(copies[held]) for _, held in folds(X[copies], y[copies])]

    def test_every_part_has_every_class(self):
        X, y = classes(30)
        assert all(set(y[held]) == {0, 1, 2} for _, held in folds(X, y, classify=True))

    def test_a_class_of_one_row_is_held_out_like_others(self):
        X, y = classes(30)
        y[7] = 9
        assert_partition(folds(X, y, classify=True), 30)
        ((training, held),) = folds(X, y, classify=True, once=True)
        assert (len(training), len(held)) == (24, 6)

    def test_rows_of_a_group_stay_together(self):
        X, y = table(30)
        groups = np.arange(30) // 3
        found = folds(X, y, groups)
        assert_partition(found, 30)
        assert all(not set(groups[a]) & set(groups[b]) for a, b in found)
        assert len(folds(X, y, np.arange(30) % 2)) == 2

    def test_a_single_part_of_many_rows(self):
        X, y = classes(300)
        ((training, held),) = folds(X, y, classify=True, once=True)
        assert (len(training), len(held)) == (240, 60)
        assert np.bincount(y[held]).tolist() == [20, 20, 20]

    def test_seeds_draw_other_folds(self):
        X, y = table(30)
        held = [folds(X, y, seed=seed)[0][1].tolist() for seed in (0, 0, 1)]
        assert held[0] == held[1] != held[2]


@pytest.mark.parametrize("kind", SEARCHES)
class TestFoldsOfASearch:
    @pytest.mark.slow
    def test_weights_are_copies(self, kind):
        X, y = example(kind, 30)
        weights = np.arange(30) % 3 + 1
        weighted = search(kind).fit(X, y, sample_weight=weights)
        copied = search(kind).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
        assert (weighted.t_end_, weighted.rescalings_) == (copied.t_end_, copied.rescalings_)
        assert str(weighted.encoding_) == str(copied.encoding_)
        assert weighted.best_score_ == pytest.approx(copied.best_score_, abs=2e-3)

    @pytest.mark.slow
    def test_rows_of_weight_zero_are_in_no_fold(self, kind):
        X, y = example(kind, 36)
        weights = (np.arange(36) < 27).astype(float)
        groups = np.arange(36) // 3
        for settings in ({}, {"cv": GroupKFold(3)}):
            weighted = search(kind, **settings, encodings=None)
            weighted.fit(np.where(weights[:, None] > 0, X, 1e6), y, weights, groups=groups)
            without = search(kind, **settings, encodings=None)
            if not settings:
                without.fit(X[:27], y[:27], groups=groups[:27])
                assert weighted.best_score_ == pytest.approx(without.best_score_, abs=1e-5)
            assert np.isfinite(weighted.predict(X)).all()

    @pytest.mark.slow
    def test_groups_are_held_out_together(self, kind, monkeypatch):
        X, y = example(kind, 30)
        groups = np.sort(np.random.default_rng(0).integers(0, 10, 30))
        X[:, 0] = groups  # which scaling keeps apart
        seen = []
        followed = _selection.Search.followed

        def watched(self, *arguments, **parameters):
            seen.extend(self.folds)
            return followed(self, *arguments, **parameters)

        monkeypatch.setattr(_selection.Search, "followed", watched)
        search(kind, encodings=None).fit(X, y, groups=groups)
        assert len(seen) >= 3
        assert all(not set(fold.held_out.X[:, 0]) & set(fold.data.X[:, 0]) for fold in seen)
        with pytest.raises(ValueError, match="'groups' parameter"):
            search(kind, cv=GroupKFold(3)).fit(X, y)
