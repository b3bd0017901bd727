"""Sparse rows give what the same rows give when they are dense, and stay sparse on the way."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import SelectFromModel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
    GramMemoryError,
    SmoothRobustScaler,
)
from sklearn_gflow.estimators import _sparse
from sklearn_gflow.geometry import LayeredNetwork, OutputMap
from sklearn_gflow.geometry import rows as of_rows

FORMATS = [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array]


def table(n=50, n_features=20, *, density=0.15):
    """Numbers and indicators that are mostly zero, and a linear target with noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_features)) * (rng.random((n, n_features)) < density)
    X[:, :4] = X[:, :4] != 0
    return X, X @ rng.normal(size=n_features) + 0.1 * rng.normal(size=n)


def regressor(**parameters):
    return AdaptedFlowRegressor(**{"hidden_layer_sizes": (10,), "random_state": 0, **parameters})


def classifier(**parameters):
    return AdaptedFlowClassifier(**{"hidden_layer_sizes": (10,), "random_state": 0, **parameters})


def labels(y):
    return np.digitize(y, [-0.5, 0.5])


class TestGeometry:
    @pytest.mark.parametrize("sizes", [(20, 5, 4, 2), (20, 2), (20, 6, 1)])
    def test_all_products_are_those_of_dense_rows(self, sizes):
        network = LayeredNetwork(sizes)
        theta = network.initial(torch.Generator().manual_seed(0))
        X = torch.from_numpy(table(150)[0])
        dense, sparse = (
            OutputMap(network, rows).linearize(theta) for rows in (X, X.to_sparse().coalesce())
        )
        v = torch.linspace(-1, 1, network.n_params).double()
        u = torch.linspace(-1, 1, dense.outputs.numel()).double()
        some = torch.tensor([3, 1, 7])
        for of_tangent in (
            lambda t: t.outputs,
            lambda t: t.push(v),
            lambda t: t.pull(u),
            lambda t: t.gram(),
            lambda t: t.gram_diagonal(),
            lambda t: t.shared_gram,
            lambda t: t.jacobian(),
            lambda t: t.columns(some),
            lambda t: t.inner.take(some).gram(),
            lambda t: network.input_gradients(theta, t.output_map.X),
        ):
            expected = of_tangent(dense)
            torch.testing.assert_close(of_tangent(sparse), expected, rtol=1e-12, atol=1e-12)

    def test_rows_become_dense_a_few_at_a_time(self, monkeypatch):
        seen, dense = [], of_rows.dense
        monkeypatch.setattr(of_rows, "dense", lambda X: seen.append(len(X)) or dense(X))
        X = torch.from_numpy(table(300)[0]).to_sparse().coalesce()
        of_rows.inner_products(X, X)
        assert max(seen) <= 128


class TestEqualsDense:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"alpha": 1.0, "t_end": 1.0},
            {"scale_inputs": False},
            {"hidden_layer_sizes": ()},
            {"hidden_layer_sizes": (2,)},
            {"solver": "krylov"},
            {"rescalings": 1},
            {"early_stopping": "loo"},
            {"early_stopping": True},
            {"batch_size": 16, "damping": 1e-5},  # float64, since the ridge is so small
        ],
    )
    def test_numbers(self, parameters):
        X, y = table()
        X[:3] = X[3:6]  # copies, which leave-one-out leaves out together
        dense = regressor(**parameters).fit(X, y)
        for form in FORMATS[: 3 if not parameters else 1]:
            sparse = regressor(**parameters).fit(form(X), y)
            error = np.abs(sparse.predict(form(X)) - dense.predict(X)).max()
            assert error < 1e-10 * np.ptp(y)
            np.testing.assert_allclose(
                sparse.feature_importances_, dense.feature_importances_, atol=1e-8
            )

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    def test_labels(self, loss):
        X, y = table()
        dense = classifier(loss=loss).fit(X, labels(y))
        sparse = classifier(loss=loss).fit(scipy.sparse.csr_array(X), labels(y))
        p = sparse.predict_proba(scipy.sparse.csr_array(X))
        # The flow of the log-loss is integrated with a tolerance, near which roundings decide.
        atol = 1e-9 if loss == "squared_error" else 1e-5
        np.testing.assert_allclose(p, dense.predict_proba(X), rtol=0, atol=atol)
        assert sparse.collapse_.within == pytest.approx(dense.collapse_.within, rel=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize("weighted", [False, True])
    def test_chunks_and_blocks_but_for_the_rounding_of_float32(self, weighted):
        X, y = table(64, density=0.05)
        X = np.abs(X)  # a chunk may have a column of zeros and one number, which is centred below
        S, w = scipy.sparse.csr_array(X), np.arange(64) % 3 if weighted else np.ones(64)
        dense, sparse = regressor(), regressor()
        for rows in (slice(0, 32), slice(32, 64)):
            dense.partial_fit(X[rows], y[rows], w[rows])
            sparse.partial_fit(S[rows], y[rows], w[rows])
        np.testing.assert_allclose(sparse.predict(S), dense.predict(X), atol=1e-5 * np.ptp(y))
        dense, sparse = (regressor(batch_size=16).fit(rows, y, w) for rows in (X, S))
        np.testing.assert_allclose(sparse.predict(S), dense.predict(X), atol=1e-4 * np.ptp(y))

    def test_what_else_reads_rows(self):
        X, y = table()
        S = scipy.sparse.csr_array(X)
        dense = regressor(store_path=True).fit(X, y)
        sparse = regressor(store_path=True).fit(S, y)
        np.testing.assert_allclose(sparse.ntk(S, S[:3]), dense.ntk(X, X[:3]), rtol=1e-10)
        np.testing.assert_allclose(
            sparse.predict(S, return_std=True)[1], dense.predict(X, return_std=True)[1], rtol=1e-7
        )
        np.testing.assert_allclose(
            list(sparse.staged_predict(S)), list(dense.staged_predict(X)), rtol=1e-9
        )
        np.testing.assert_allclose(sparse.explain(S), dense.explain(X), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(sparse.predict_interval(S), dense.predict_interval(X), rtol=1e-9)
        assert scipy.sparse.issparse(sparse.X_train_)
        again = pickle.loads(pickle.dumps(sparse))
        np.testing.assert_array_equal(again.predict(S), sparse.predict(S))

    def test_either_form_predicts_by_a_fit_of_the_other(self):
        X, y = table()
        X[:, -1] = np.linspace(5, 6, len(X))  # which has another centre than zero
        S = scipy.sparse.csr_array(X)
        for fitted in (regressor().fit(X, y), regressor().fit(S, y)):
            np.testing.assert_allclose(fitted.predict(S), fitted.predict(X), rtol=1e-12)
        held = regressor(early_stopping=True).fit(X[:40], y[:40], X_val=S[40:], y_val=y[40:])
        same = regressor(early_stopping=True).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
        np.testing.assert_array_equal(held.validation_scores_, same.validation_scores_)

    @pytest.mark.slow
    def test_searches(self):
        X, y = table()
        S = scipy.sparse.csr_array(X)
        grid = {"alphas": [0.3, 0.6], "t_ends": [0.5, 0.9]}
        search = AdaptedFlowRegressorCV((10,), random_state=0, **grid).fit(S, y)
        assert {row["encoding"] for row in search.cv_results_["params"]} == {None}
        dense = AdaptedFlowRegressorCV((10,), cv=3, encodings=[None], random_state=0, **grid)
        sparse = AdaptedFlowRegressorCV((10,), cv=3, random_state=0, **grid)
        scores = [m.fit(Z, y).best_score_ for m, Z in ((dense, X), (sparse, S))]
        assert scores[0] == pytest.approx(scores[1], rel=1e-9)
        search = AdaptedFlowClassifierCV((10,), random_state=0, **grid).fit(S, labels(y))
        assert search.predict_proba(S).shape == (50, 3)

    def test_copies_of_a_row_stay_in_one_fold(self):
        X, y = table()
        S = scipy.sparse.csr_array(X)
        stored = S.copy()
        stored.data[0] = 0.0  # a zero that is stored is a zero
        first, kind = _sparse.row_kinds(_sparse.SparseRows.of(scipy.sparse.vstack([stored, S])),
                                        np.concatenate([y, y])[:, None])  # fmt: skip
        assert len(first) == 51
        assert (kind[1:50] == kind[51:]).all()
        assert kind[0] != kind[50]


class TestModules:
    def test_get_dense_rows(self):
        def module(n_features, n_outputs):
            return torch.nn.Sequential(
                torch.nn.Linear(n_features, 6), torch.nn.Tanh(), torch.nn.Linear(6, n_outputs)
            )

        X, y = table()
        S = scipy.sparse.csr_array(X)
        dense, sparse = (regressor(module=module).fit(rows, y) for rows in (X, S))
        np.testing.assert_allclose(sparse.predict(S), dense.predict(X), rtol=1e-10)

    def test_whose_dense_rows_do_not_fit(self):
        S = scipy.sparse.coo_array(
            (np.linspace(0, 1, 2000), (np.arange(2000), np.zeros(2000, int))), (2000, 3000)
        )
        model = regressor(
            module=torch.nn.Linear, batch_size=None, max_memory=90 * 2**20, solver="krylov",
            damping=0.1, schedule=1,
        )  # fmt: skip
        with pytest.raises(GramMemoryError, match="the layers of a network on 2000 rows"):
            model.fit(S, np.linspace(0, 1, 2000))


@pytest.mark.slow
def test_wide_rows_are_never_dense(monkeypatch):
    rng = np.random.default_rng(0)
    S = scipy.sparse.random_array((200, 30_000), density=1e-3, format="csr", rng=rng)
    y = S[:, :100].sum(axis=1) + rng.normal(size=200)
    many, toarray = [], _sparse.SparseRows.toarray
    monkeypatch.setattr(
        _sparse.SparseRows, "toarray", lambda rows: many.append(len(rows)) or toarray(rows)
    )
    model = regressor(hidden_layer_sizes=(4,), schedule=2).fit(S, y)
    assert model.predict(S).shape == (200,)
    model.partial_fit(S, y)
    assert max(many) <= 4


def test_a_one_hot_encoder_as_it_is_by_default():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"town": rng.integers(0, 30, 80).astype(str), "size": rng.normal(size=80)})
    y = frame["size"] + (frame["town"].astype(int) % 2)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["town"]), ("passthrough", ["size"]),
        sparse_threshold=1.0,
    )  # fmt: skip
    model = make_pipeline(columns, regressor(hidden_layer_sizes=(40,)))
    assert model.fit(frame, y).score(frame, y) > 0.8
    assert model[-1].n_features_in_ == frame["town"].nunique() + 1
    selected = SelectFromModel(model[-1], prefit=True, max_features=1, threshold=-np.inf)
    assert selected.get_support().tolist()[-1]


def test_encodings_are_refused():
    X, y = table()
    with pytest.raises(ValueError, match=r"encoding='piecewise' puts columns .* not sparse"):
        regressor(encoding="piecewise").fit(scipy.sparse.csr_array(X), y)


class TestScaler:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("form", FORMATS)
    def test_scales_are_those_of_dense_columns(self, form, weighted):
        X = table()[0]
        X[:, 5] = 0  # nothing
        X[:, 6] = -2.0 * (X[:, 6] != 0)  # nothing, or one negative number
        X[:, 7] = np.arange(50)  # hardly a zero
        X[:, 8] = 3.0  # a constant
        weights = np.arange(50) % 3 if weighted else None
        dense = SmoothRobustScaler().fit(X, sample_weight=weights)
        sparse = SmoothRobustScaler().fit(form(X), sample_weight=weights)
        np.testing.assert_allclose(sparse.scale_, dense.scale_, rtol=1e-13)
        assert not sparse.center_.any()
        Z, mostly_zero = sparse.transform(form(X)), (X != 0).mean(axis=0) < 0.2
        mostly_zero[6] = False
        assert scipy.sparse.issparse(Z)
        np.testing.assert_allclose(
            Z.toarray()[:, mostly_zero], dense.transform(X)[:, mostly_zero], atol=1e-14
        )
        np.testing.assert_allclose(sparse.transform(X), Z.toarray(), atol=1e-15)

    def test_of_dense_columns_with_a_centre_refuses_sparse_ones(self):
        X = np.arange(12.0).reshape(6, 2)
        with pytest.raises(ValueError, match="X is sparse, and columns of the table that the scal"):
            SmoothRobustScaler().fit(X).transform(scipy.sparse.csr_array(X))

    def test_ranges(self):
        X = scipy.sparse.csr_array(np.array([[0, 1e-300], [0, 0], [0, 0], [1.0, 0], [0, 0]]))
        scaler = SmoothRobustScaler(clip=None).fit(X)
        with pytest.raises(ValueError, match="column 'x1' divided by its scale is beyond"):
            scaler.transform(scipy.sparse.csr_array(np.array([[0, 1e300]])))
