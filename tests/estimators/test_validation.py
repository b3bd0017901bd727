"""Every error that a user can meet, by its message."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError

from sklearn_gflow import AdaptedFlowRegressorCV, GramMemoryError
from sklearn_gflow.estimators import _memory
from sklearn_gflow.geometry import LayeredNetwork, eigen
from tests.estimators.data import ESTIMATORS, classes, classifier, example, regressor, small, table


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestParameters:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("alpha", -0.1),
            ("alpha", 1.1),
            ("alpha", "1"),
            ("alpha", None),
            ("t_end", 0.0),
            ("t_end", 1.01),
            ("schedule", 0),
            ("schedule", "slow"),
            ("schedule", 2.5),
            ("solver", "lu"),
            ("activation", "sine"),
            ("rcond", -1e-3),
            ("rcond", 1.0),
            ("damping", -1.0),
            ("metric_scale", 0.0),
            ("metric_scale", "mean"),
            ("max_iter", 0),
            ("tol", -1e-3),
            ("n_iter_no_change", 0),
            ("store_gram", "never"),
            ("warm_start", "yes"),
            ("random_state", "seed"),
            ("dtype", "float16"),
            ("device", 0),
            ("hidden_layer_sizes", 0),
            ("hidden_layer_sizes", 2.5),
            ("hidden_layer_sizes", None),
        ],
    )
    def test_out_of_range(self, estimator, name, value):
        message = f"The {name!r} parameter of {estimator.__name__} must be"
        with pytest.raises(ValueError, match=re.escape(message)):
            small(estimator, **{name: value}).fit(*example(estimator))

    @pytest.mark.parametrize("alpha", [True, False])
    @pytest.mark.parametrize("solver", ["auto", "cholesky"])
    def test_boolean_alpha(self, estimator, alpha, solver):
        with pytest.raises(ValueError, match=rf"alpha.* must be a .* \[0\S*, 1.* {alpha}"):
            small(estimator, alpha=alpha, solver=solver).fit(*example(estimator))

    @pytest.mark.parametrize(
        "sizes", [(5, 0), (5, -1), (5, 2.5), (5, True), ("5",), ((5, 5), (5, 5)), [None]]
    )
    def test_layers_that_are_not_positive_integers(self, estimator, sizes):
        with pytest.raises(
            ValueError, match=r"hidden_layer_sizes must hold positive integers.*got"
        ):
            small(estimator, hidden_layer_sizes=sizes).fit(*example(estimator))

    @pytest.mark.slow
    @pytest.mark.parametrize("sizes", [[5, 4], np.array([5, 4]), (np.int64(5), 4), range(5, 3, -1)])
    def test_layers_in_any_sequence(self, estimator, sizes):
        X, y = example(estimator)
        expected = small(estimator, hidden_layer_sizes=(5, 4)).fit(X, y).predict(X)
        found = small(estimator, hidden_layer_sizes=sizes).fit(X, y).predict(X)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("schedule", [True, False])
    def test_boolean_schedule(self, estimator, schedule):
        with pytest.raises(
            ValueError, match=r"schedule.* must be .*adaptive.*(number of steps|an int)"
        ):
            small(estimator, schedule=schedule).fit(*example(estimator))

    @pytest.mark.parametrize(
        "times",
        [[], [0.3, 0.2], [0.2, 0.2], [0.0, 0.5], [-0.1, 0.5], [0.5, 0.8], [np.nan, 0.5],
         [0.1, np.nan], [[0.1, 0.2]], [np.inf]],
    )  # fmt: skip
    def test_times_that_do_not_increase_within_the_end(self, estimator, times):
        message = r"schedule must be an increasing sequence of times in \(0, t_end\], here \(0, 0.7"
        with pytest.raises(ValueError, match=message):
            small(estimator, schedule=times, t_end=0.7).fit(*example(estimator))

    def test_module_that_is_none(self, estimator):
        message = r"module must be a callable \(n_features, n_outputs\) -> .*it returned str"
        with pytest.raises(TypeError, match=message):
            small(estimator, module=lambda n_features, n_outputs: "net").fit(*example(estimator))

    def test_unknown_device(self, estimator):
        with pytest.raises(ValueError, match=r"device='abacus' is not available.*use device='cpu'"):
            small(estimator, device="abacus").fit(*example(estimator))

    def test_device_without_values(self, estimator):
        with pytest.raises(ValueError, match=r"device='meta' is not available.*use device='cpu'"):
            small(estimator, device="meta").fit(*example(estimator))

    def test_schedule_of_words(self, estimator):
        with pytest.raises(ValueError, match="schedule must be an increasing sequence of times"):
            small(estimator, schedule=["a"]).fit(*example(estimator))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    def test_absent_device(self, estimator):
        model = small(estimator, device="cuda")  # no error before fit
        with pytest.raises(ValueError, match=r"device='cuda' is not available.*use device='cpu'"):
            model.fit(*example(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestData:
    @pytest.mark.parametrize("scaled", [True, False])
    def test_infinity(self, estimator, scaled):
        X, y = example(estimator)
        X[3, 1] = np.inf
        message = "Input X contains infinity"
        with pytest.raises(ValueError, match=message):
            small(estimator, scale_inputs=scaled).fit(X, y)
        model = small(estimator, scale_inputs=scaled).fit(*example(estimator))
        for method in (model.predict, model.ntk, lambda Z: model.ntk(X[:3], Z)):
            with pytest.raises(ValueError, match=message):
                method(X)
        with pytest.raises(ValueError, match=message):  # among gaps too
            small(estimator, scale_inputs=scaled).fit(np.where(X[0, 0] == X, np.nan, X), y)

    @pytest.mark.parametrize("scaled", [True, False])
    def test_gaps_that_the_fit_had_not(self, estimator, scaled):
        X, y = example(estimator)
        model = small(estimator, scale_inputs=scaled).fit(X, y)
        X[3, 1] = np.nan
        for method in (model.predict, model.ntk, lambda Z: model.ntk(X[:3], Z)):
            with pytest.raises(ValueError, match=r"Input X contains NaN: X has gaps .* that have"):
                method(X)
        model.set_params(warm_start=True)
        with pytest.raises(ValueError, match="X has gaps or categories, and the rows that the fit"):
            model.fit(X, y)

    def test_sparse_gaps(self, estimator):
        X, y = example(estimator)
        X[3, 1] = np.nan
        with pytest.raises(ValueError, match="Input X contains NaN"):
            small(estimator).fit(scipy.sparse.csr_array(X), y)

    def test_complex(self, estimator):
        X, y = example(estimator)
        with pytest.raises(ValueError, match="Complex data not supported"):
            small(estimator).fit(X + 1j, y)

    def test_text_where_there_were_numbers(self, estimator):
        X, y = example(estimator)
        model = small(estimator).fit(X, y)
        with pytest.raises(ValueError, match="could not convert string to float"):
            model.predict(np.where(X > 0, "a", "b"))
        X[3, 1] = np.nan
        model = small(estimator).fit(X, y)
        with pytest.raises(ValueError, match=r"column 'x0' was one of numbers in fit and now"):
            model.predict(np.where(X > 0, "a", "b"))

    def test_table_of_what_is_neither_number_nor_category(self, estimator):
        X, y = example(estimator)
        rows = [[*row, {}] for row in X.tolist()]
        with pytest.raises(TypeError, match=r"argument must be a string or a real number|levels"):
            small(estimator).fit(rows, y)

    def test_one_axis(self, estimator):
        X, y = example(estimator)
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
            small(estimator).fit(X[:, 0], y)

    def test_one_sample(self, estimator):
        X, y = example(estimator)
        with pytest.raises(ValueError, match=r"1 sample.*minimum of 2 is required"):
            small(estimator).fit(X[:1], y[:1])

    def test_no_feature(self, estimator):
        X, y = example(estimator)
        with pytest.raises(ValueError, match=r"0 feature\(s\)"):
            small(estimator).fit(X[:, :0], y)

    def test_lengths_differ(self, estimator):
        X, y = example(estimator)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            small(estimator).fit(X, y[:-1])

    def test_other_number_of_features(self, estimator):
        X, y = example(estimator)
        model = small(estimator).fit(X, y)
        message = "X has 2 features, but .* is expecting 3 features"
        for method in (model.predict, model.ntk, lambda Z: model.ntk(X, Z)):
            with pytest.raises(ValueError, match=message):
                method(X[:, :2])

    def test_not_fitted(self, estimator):
        X, _ = example(estimator)
        for method in ("predict", "ntk"):
            with pytest.raises(NotFittedError, match="is not fitted yet"):
                getattr(small(estimator), method)(X)

    def test_no_targets(self, estimator):
        with pytest.raises(ValueError, match="requires y to be passed"):
            small(estimator).fit(example(estimator)[0], None)


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestWeights:
    def _fit(self, estimator, weights):
        X, y = example(estimator)
        return small(estimator).fit(X, y, sample_weight=weights(len(y)))

    def test_negative(self, estimator):
        with pytest.raises(ValueError, match="sample_weight has negative values"):
            self._fit(estimator, lambda n: np.linspace(-1e-9, 1, n))

    def test_all_zero(self, estimator):
        message = "[Ss]ample.weight.*zero"  # scikit-learn's own message, since 1.9
        with pytest.raises(ValueError, match=message):
            self._fit(estimator, np.zeros)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, estimator, value):
        with pytest.raises(ValueError, match="Input sample_weight contains"):
            self._fit(estimator, lambda n: np.r_[np.ones(n - 1), value])

    def test_wrong_length(self, estimator):
        with pytest.raises(ValueError, match=r"sample_weight.shape == \(3,\), expected"):
            self._fit(estimator, lambda n: np.ones(3))


class TestTargets:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, value):
        X, y = table()
        y[2] = value
        with pytest.raises(ValueError, match="Input y contains"):
            regressor().fit(X, y)

    def test_complex(self):
        X, y = table()
        with pytest.raises(ValueError, match="Complex data not supported"):
            regressor().fit(X, y + 1j)

    def test_continuous_labels(self):
        X, y = table()
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            classifier().fit(X, y)

    def test_several_classes_a_row(self):
        X, y = classes()
        with pytest.raises(ValueError, match=r"y should be a 1d array|bad input shape"):
            classifier().fit(X, np.column_stack([y, y]))

    @pytest.mark.parametrize("label", [1, "only"])
    def test_one_class(self, label):
        X, _ = classes()
        with pytest.raises(ValueError, match=r"at least 2 classes with positive weight; y has 1"):
            classifier().fit(X, np.full(24, label))

    def test_one_class_with_positive_weight(self):
        X, y = classes(n_classes=2)
        with pytest.raises(ValueError, match=r"at least 2 classes with positive weight; y has 1"):
            classifier().fit(X, y, sample_weight=y)

    @pytest.mark.parametrize("weight", [0.0, -1.0, np.nan])
    def test_class_weight_that_is_not_positive(self, weight):
        X, y = classes()
        with pytest.raises(ValueError, match="class_weight must be positive for every class in y"):
            classifier(class_weight={0: weight}).fit(X, y)

    def test_class_weight_of_another_kind(self):
        with pytest.raises(ValueError, match="The 'class_weight' parameter of"):
            classifier(class_weight="even").fit(*classes())


class TestWarmStart:
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_other_network(self, estimator):
        X, y = example(estimator)
        model = small(estimator, warm_start=True).fit(X, y)
        size = len(model._network.theta)
        message = f"warm_start=True continues .* has {size} parameters and this one"
        with pytest.raises(ValueError, match=message):
            model.set_params(hidden_layer_sizes=(5,)).fit(X, y)

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_other_features(self, estimator):
        X, y = example(estimator)
        message = rf"X has 2 features, but {estimator.__name__} is expecting 3 features as input"
        for scaled in (True, False):
            model = small(estimator, warm_start=True, scale_inputs=scaled).fit(X, y)
            with pytest.raises(ValueError, match=message):
                model.fit(X[:, :2], y)

    def test_other_classes(self):
        X, y = classes()
        model = classifier(warm_start=True).fit(X, y)
        message = r"warm_start=True needs the classes of the last fit: \[0, 1, 2\]; y has \[1, 2"
        with pytest.raises(ValueError, match=message):
            model.fit(X, y + 1)


class TestFailure:
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, while X is validated
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    def test_training_that_leaves_the_finite_numbers(self, estimator, alpha):
        X, y = example(estimator)
        X *= 0.99 * np.finfo(float).max / np.abs(X).max()
        model = small(estimator, activation="relu", alpha=alpha, scale_inputs=False)
        message = (
            r"Training failed at t=0: outputs or loss became non-finite\. Scale the features, for "
            "instance with StandardScaler, or raise damping"
        )
        with pytest.raises(ValueError, match=message):
            model.fit(X, y)

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_factorisation_that_fails(self, estimator, monkeypatch):
        def fails(A):
            raise torch.linalg.LinAlgError("no luck")

        monkeypatch.setattr(eigen, "_eigh", fails)
        message = r"Training failed at t=0: the Gram could not be factorised.*eigh: no luck"
        with pytest.raises(ValueError, match=message):
            small(estimator, alpha=0.3, solver="eigh").fit(*example(estimator))


class TestMemory:
    @pytest.fixture
    def megabyte(self, monkeypatch):
        monkeypatch.setattr(_memory, "available_bytes", lambda device: 10**6)

    def test_refused_before_it_is_allocated(self):
        X, y = table(100_000, 1)  # a Gram of 80 GB, and more parameters than rows
        message = r"100000 rows × 1 outputs needs 240000000000 bytes .* bytes are available on cpu"
        with pytest.raises(GramMemoryError, match=message) as caught:
            regressor(hidden_layer_sizes=(300, 400), batch_size=None).fit(X, y)
        assert "set dtype='float32'" in str(caught.value)
        assert "set batch_size, to 'auto' for instance" in str(caught.value)

    @pytest.mark.usefixtures("megabyte")
    def test_stored_gram_of_few_parameters_is_counted(self):
        X, y = table(1000, 1)
        small_net = regressor(hidden_layer_sizes=(3,), batch_size=None, t_end=0.1)
        assert small_net.fit(X, y).ntk_rank_ <= 10
        with pytest.raises(GramMemoryError, match="set store_gram=False"):
            small_net.set_params(store_gram=True).fit(X, y)

    @pytest.mark.parametrize("solver", ["auto", "eigh", "svd"])
    @pytest.mark.usefixtures("megabyte")
    def test_refused_before_the_network_is_evaluated(self, monkeypatch, solver):
        def evaluated(*args):
            raise AssertionError("the network was evaluated")

        for name in ("outputs", "linearize"):
            monkeypatch.setattr(LayeredNetwork, name, evaluated)
        with pytest.raises(GramMemoryError):
            regressor(hidden_layer_sizes=(300,), solver=solver).fit(*table(1000))

    @pytest.mark.usefixtures("megabyte")
    def test_bytes_follow_what_is_formed(self):
        X, y = table(1000)
        for parameters, needed, cure in [
            ({"dtype": "float32", "hidden_layer_sizes": (300,)}, 12_000_000, "set batch_size"),
            ({"solver": "svd", "hidden_layer_sizes": (300,)}, 24 * 1000 * 1501, "solver='auto'"),
            ({"hidden_layer_sizes": (100,)}, 8 * (1000 * 501 + 3 * 501**2), "dtype='float32'"),
        ]:
            with pytest.raises(GramMemoryError, match=f"needs {needed} bytes") as caught:
                regressor(**parameters).fit(X, y)
            assert cure in str(caught.value)
        assert "solver='auto'" not in str(caught.value)

    @pytest.mark.usefixtures("megabyte")
    def test_outputs_count(self):
        X, y = classes(300)
        with pytest.raises(GramMemoryError, match=r"300 rows × 3 outputs needs 19440000 bytes"):
            classifier(hidden_layer_sizes=(200,)).fit(X, y)

    @pytest.mark.usefixtures("megabyte")
    def test_blocks_are_the_cure_and_have_their_own_bound(self):
        X, y = table(1000)
        parameters = {"hidden_layer_sizes": (300,), "t_end": 0.1}
        regressor(batch_size=50, **parameters).fit(X, y)
        message = r"training in blocks on 500 rows .* needs 6000000 bytes .*; .* lower batch_size"
        with pytest.raises(GramMemoryError, match=message):
            regressor(batch_size=500, **parameters).fit(X, y)

    @pytest.mark.usefixtures("megabyte")
    def test_leave_one_out_has_its_own_bound(self):
        X, y = table(400)
        message = r"leave-one-out on %d rows .*set early_stopping=True \(a search: cv=5\)"
        for model, judged in (
            (regressor(early_stopping="loo", batch_size=20, hidden_layer_sizes=(300,)), 400),
            (AdaptedFlowRegressorCV((12,), alphas=[0.1]), 300),
        ):
            with pytest.raises(GramMemoryError, match=message % judged):
                model.fit(X, y)

    @pytest.mark.usefixtures("megabyte")
    def test_a_shared_kernel_has_the_size_of_one_output(self):
        X, y = classes(300)
        message = r"300 rows × 3 outputs needs 2160000 bytes"
        with pytest.raises(GramMemoryError, match=message):
            classifier(hidden_layer_sizes=(10,), solver="shared", damping=0.1).fit(X, y)
        with pytest.raises(GramMemoryError, match=r"needs 2145624 bytes .* lower batch_size"):
            classifier(hidden_layer_sizes=(10,), batch_size=299).fit(*classes(598))
        with pytest.raises(GramMemoryError, match=r"× 1 outputs needs 3321944 bytes"):
            regressor(hidden_layer_sizes=(48,), solver="shared").fit(*table(1000))

    def test_enough_is_enough(self, monkeypatch):
        X, y = table(20)
        layers, vectors = 20 * (5 + 1) * 12, 12 * 61  # of one output, of all parameters
        needed = 24 * 20**2 + 8 * (layers + vectors)
        monkeypatch.setattr(_memory, "available_bytes", lambda device: needed)
        regressor().fit(X, y)
        monkeypatch.setattr(_memory, "available_bytes", lambda device: needed - 1)
        with pytest.raises(GramMemoryError):
            regressor().fit(X, y)

    def test_is_a_memory_error(self):
        assert issubclass(GramMemoryError, MemoryError)

    def test_what_is_available(self):
        available = _memory.available_bytes(torch.device("cpu"))
        assert 2**20 < available < 2**50

    def test_what_is_available_without_proc(self, monkeypatch):
        def absent(*args, **options):
            raise FileNotFoundError

        monkeypatch.setattr("builtins.open", absent)
        assert 2**20 < _memory.available_bytes(torch.device("cpu")) < 2**50


def test_nothing_is_warned_of_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor().fit(*table()).predict(table()[0])
        classifier().fit(*classes()).predict_proba(classes()[0])
