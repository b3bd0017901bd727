import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_checks

from tests.estimators.data import ESTIMATORS, classes, classifier, example, regressor, small, table

pytestmark = pytest.mark.slow

# Skips itself unless an environment variable is set before scipy is imported; see below.
_ARRAY_API = "check_array_api_input"


def _checks():
    for estimator in ESTIMATORS:
        for instance, check in estimator_checks.estimator_checks_generator(estimator()):
            name = check.func.__name__
            if name != _ARRAY_API:
                options = ",".join(f"{k}={v}" for k, v in check.keywords.items())
                yield pytest.param(instance, check, id=f"{estimator.__name__}-{name}({options})")


# Some checks allow few iterations only, and a flow cut short says so.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("instance", "check"), list(_checks()))
def test_check_estimator(instance, check):
    check(instance)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "check", ["check_dataframe_column_names_consistency", "check_param_validation"]
)
def test_checks_beyond_check_estimator(estimator, check):
    getattr(estimator_checks, check)(estimator.__name__, estimator())


def test_array_api_dispatch_changes_nothing_for_numpy():
    code = (
        "from sklearn.utils.estimator_checks import estimator_checks_generator\n"
        "import sklearn_gflow as g\n"
        "for E in (g.AdaptedFlowRegressor, g.AdaptedFlowClassifier):\n"
        "    for instance, check in estimator_checks_generator(E((5,))):\n"
        f"        if check.func.__name__ == {_ARRAY_API!r}:\n"
        "            check(instance)\n"
        "            print('passed')\n"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    known = {check.func.__name__ for _, check in
             estimator_checks.estimator_checks_generator(ESTIMATORS[0]())}  # fmt: skip
    assert done.stdout.count("passed") == 2 * (_ARRAY_API in known)


def test_kinds():
    assert is_regressor(regressor())
    assert is_classifier(classifier())


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestBoth:
    def test_clone_forgets_the_fit_and_keeps_the_parameters(self, estimator):
        fitted = small(estimator, alpha=0.3, t_end=0.5).fit(*example(estimator))
        copy = clone(fitted)
        assert copy.get_params() == fitted.get_params()
        assert not any(name.endswith("_") for name in vars(copy))

    def test_fit_changes_no_parameter(self, estimator):
        model = small(estimator)
        before = dict(model.get_params())
        model.fit(*example(estimator))
        after = model.get_params()
        assert all(after[name] is value for name, value in before.items())

    def test_cross_validated_predictions(self, estimator):
        X, y = example(estimator)
        predicted = cross_val_predict(small(estimator), X, y, cv=4)
        truth = np.mean((predicted - y) ** 2) if estimator is ESTIMATORS[0] else None
        assert predicted.shape == y.shape
        if truth is None:
            assert (predicted == y).mean() > 0.6
        else:
            assert truth < 0.5 * np.var(y)

    def test_pipeline(self, estimator):
        X, y = example(estimator)
        plain = small(estimator).fit(StandardScaler().fit_transform(1000 * X), y)
        piped = make_pipeline(StandardScaler(), small(estimator)).fit(1000 * X, y)
        np.testing.assert_array_equal(
            piped.predict(1000 * X), plain.predict(StandardScaler().fit_transform(1000 * X))
        )

    def test_column_transformer_before_it(self, estimator):
        X, y = example(estimator)
        frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(kind=["x", "y"] * (len(y) // 2))
        transform = ColumnTransformer(
            [
                ("scale", StandardScaler(), ["a", "b", "c"]),
                ("dummy", OneHotEncoder(sparse_output=False), ["kind"]),
            ]
        )
        for container in ("default", "pandas"):
            model = make_pipeline(transform.set_output(transform=container), small(estimator))
            assert model.fit(frame, y).score(frame, y) > 0.5
            assert model[-1].n_features_in_ == 5

    def test_pandas_in(self, estimator):
        X, y = example(estimator)
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        model = small(estimator).fit(frame, pd.Series(y))
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(model.predict(frame), small(estimator).fit(X, y).predict(X))
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame[["b", "a", "c"]])

    def test_pickle(self, estimator):
        X, y = example(estimator)
        model = small(estimator, hidden_layer_sizes=(6, 5)).fit(X, y)
        stream = io.BytesIO()
        pickle.dump(model, stream)
        stream.seek(0)
        again = pickle.load(stream)
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        np.testing.assert_array_equal(again.ntk(X), model.ntk(X))
        assert again.get_params() == model.get_params()

    def test_fitted_state_holds_no_torch_object(self, estimator):
        model = small(estimator).fit(*example(estimator))
        assert b"torch" not in pickle.dumps(model)

    def test_grid_search_in_two_processes(self, estimator):
        X, y = example(estimator)
        grid = {"alpha": [0.1, 1.0], "t_end": [0.5, 0.9]}
        search = GridSearchCV(small(estimator), grid, n_jobs=2, cv=2).fit(X, y)
        alone = GridSearchCV(small(estimator), grid, cv=2).fit(X, y)
        np.testing.assert_allclose(
            search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
        )
        assert search.best_params_ == alone.best_params_

    def test_score_is_a_python_float(self, estimator):
        X, y = example(estimator)
        assert type(small(estimator).fit(X, y).score(X, y)) is float

    def test_inputs_are_not_changed(self, estimator):
        X, y = example(estimator)
        w = np.linspace(0.0, 2, len(y))
        before = X.copy(), y.copy(), w.copy()
        model = small(estimator).fit(X, y, sample_weight=w)
        model.predict(X)
        model.ntk(X)
        for array, old in zip((X, y, w), before, strict=True):
            np.testing.assert_array_equal(array, old)

    def test_read_only_reversed_and_foreign_inputs(self, estimator):
        X, y = example(estimator)
        expected = small(estimator).fit(X, y).predict(X)
        read_only = X.copy()
        read_only.setflags(write=False)
        backwards = np.ascontiguousarray(X[:, ::-1])[:, ::-1]
        for variant in (read_only, backwards, np.asfortranarray(X), X.astype(">f8"), X.tolist()):
            model = small(estimator).fit(variant, y)
            np.testing.assert_allclose(model.predict(variant), expected, rtol=1e-10)

    def test_global_state_of_torch_and_numpy_is_untouched(self, estimator):
        X, y = example(estimator)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        threads = torch.get_num_threads()
        for dtype in ("float64", "float32"):
            small(estimator, dtype=dtype).fit(X, y).predict(X)
        assert torch.equal(torch.get_rng_state(), torch_state)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
        assert torch.get_default_dtype() == torch.float32
        assert torch.get_num_threads() == threads

    def test_random_state(self, estimator):
        X, y = example(estimator)

        def start(seed):
            return small(estimator, random_state=seed, schedule=4).fit(X, y).coefs_[0]

        np.testing.assert_array_equal(start(3), start(3))
        assert not np.allclose(start(3), start(4))
        generator = np.random.RandomState(0)
        assert not np.allclose(start(generator), start(generator))

    def test_predict_keeps_no_state(self, estimator):
        X, y = example(estimator)
        model = small(estimator).fit(X, y)
        before = pickle.dumps(model)
        model.predict(X)
        model.ntk(X, X)
        assert pickle.dumps(model) == before

    def test_predictions_do_not_depend_on_their_company(self, estimator):
        X, y = example(estimator)
        model = small(estimator).fit(X, y)
        np.testing.assert_allclose(
            np.concatenate([model.predict(row[None]) for row in X]), model.predict(X), rtol=1e-9
        )


def test_strings_and_series_agree():
    X, y = classes()
    names = np.array(["low", "middle", "high"])[y]
    from_frame = classifier().fit(pd.DataFrame(X), pd.Series(names)).predict(pd.DataFrame(X))
    np.testing.assert_array_equal(from_frame, classifier().fit(X, names).predict(X))


def test_frame_of_targets():
    X, y = table()
    targets = pd.DataFrame({"a": y, "b": -2 * y})
    assert regressor().fit(X, targets).predict(X).shape == (20, 2)
