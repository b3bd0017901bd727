import datetime
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.estimators._losses import project_to_simplex
from tests import oracles
from tests.estimators.data import ALPHAS, classes, classifier

LABELS = {
    "int": [1, 2, 7],
    "negative": [-3, -1, 4],
    "float": [0.0, 1.0, 2.0],
    "str": ["ant", "bee", "cow"],
    "object": np.array(["ant", "bee", "cow"], dtype=object),
    "int8": np.array([1, 2, 3], dtype=np.int8),
    "bool": [False, True],
    "signs": [-1, 1],
    "two strings": ["no", "yes"],
}


class TestLabels:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", LABELS)
    def test_any_type_that_can_be_sorted(self, kind):
        names = np.asarray(LABELS[kind])
        X, index = classes(n_classes=len(names))
        model = classifier(alpha=1.0).fit(X, names[index])
        np.testing.assert_array_equal(model.classes_, names)
        assert model.predict(X).dtype == names.dtype
        np.testing.assert_array_equal(model.predict(X), names[index])
        # The labels are names: only their order counts.
        plain = classifier(alpha=1.0).fit(X, index)
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
        assert model.score(X, names[index]) == 1

    def test_columns_follow_the_sorted_classes(self):
        X, index = classes()
        names = np.array(["zebra", "ant", "lion"])
        model = classifier(alpha=1.0).fit(X, names[index])
        assert model.classes_.tolist() == ["ant", "lion", "zebra"]
        columns = {0: 2, 1: 0, 2: 1}
        expected = [columns[i] for i in index]
        np.testing.assert_array_equal(model.predict_proba(X).argmax(1), expected)

    def test_classes_without_weight_are_absent(self):
        X, y = classes()
        model = classifier().fit(X, y, sample_weight=(y != 1).astype(float))
        assert model.classes_.tolist() == [0, 2]
        assert model.n_outputs_ == 1


class TestDecision:
    X, y = classes()

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_three_classes_have_three_outputs(self, alpha):
        model = classifier(alpha=alpha).fit(self.X, self.y)
        scores = model.decision_function(self.X)
        assert scores.shape == (24, 3)
        np.testing.assert_array_equal(model.predict(self.X), scores.argmax(1))
        np.testing.assert_array_equal(model.predict(self.X), model.predict_proba(self.X).argmax(1))

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_two_classes_have_one_output(self, alpha):
        X, y = classes(n_classes=2)
        model = classifier(alpha=alpha).fit(X, y)
        scores = model.decision_function(X)
        assert (scores.shape, model.n_outputs_) == ((24,), 1)
        np.testing.assert_array_equal(model.predict(X), (scores > 0).astype(int))
        # The output is the indicator of the second class.
        output = scores + 0.5
        assert model.loss_ == pytest.approx(((output - y) ** 2).mean() / 2)

    def test_loss_is_that_of_the_outputs_on_one_hot_labels(self):
        model = classifier(alpha=0.3).fit(self.X, self.y)
        residual = model.decision_function(self.X) - np.eye(3)[self.y]
        assert model.loss_ == pytest.approx((residual**2).sum() / 48)

    def test_starts_at_the_class_frequencies(self):
        X, y = classes(n=20)  # 7, 7 and 6 rows
        frequencies = np.bincount(y) / 20
        model = classifier(schedule=[1e-15]).fit(X, y)
        np.testing.assert_allclose(
            model.decision_function(X), np.tile(frequencies, (20, 1)), atol=1e-12
        )

    def test_interpolates_the_labels_at_the_end(self):
        model = classifier(alpha=1.0, t_end=1.0, hidden_layer_sizes=(40,)).fit(self.X, self.y)
        np.testing.assert_allclose(model.decision_function(self.X), np.eye(3)[self.y], atol=1e-8)


class TestProbabilities:
    @pytest.mark.parametrize("n_classes", [2, 3, 5])
    def test_are_positive_and_sum_to_one(self, n_classes):
        X, y = classes(n=30, n_classes=n_classes)
        model = classifier(alpha=1.0, t_end=1.0, hidden_layer_sizes=(30,)).fit(X, y)
        probabilities = model.predict_proba(10 * X)  # far out, where outputs leave [0, 1]
        assert probabilities.shape == (30, n_classes)
        assert (probabilities > 0).all()
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(
            model.predict_log_proba(10 * X), np.log(probabilities), rtol=1e-12
        )

    def test_are_the_projection_mixed_with_one_even_sample(self):
        X, y = classes(n=30)
        model = classifier(alpha=0.3).fit(X, y)
        projected = oracles.simplex_projection(model.decision_function(X))
        np.testing.assert_allclose(
            model.predict_proba(X), (30 * projected + 1 / 3) / 31, atol=1e-12
        )

    def test_of_two_classes_are_the_clipped_output(self):
        X, y = classes(n=30, n_classes=2)
        model = classifier(alpha=0.3).fit(X, y)
        output = model.decision_function(X) + 0.5
        expected = (30 * np.clip(output, 0, 1) + 0.5) / 31
        np.testing.assert_allclose(model.predict_proba(X)[:, 1], expected, atol=1e-12)
        assert ((output < 0) | (output > 1)).any()

    def test_claims_grow_with_the_weight_of_samples_not_of_classes(self):
        X, y = classes(n=30)
        wide = functools.partial(classifier, alpha=1.0, t_end=1.0, hidden_layer_sizes=(40,))
        largest = [
            model.predict_proba(X).max()
            for model in (
                wide().fit(X, y),
                wide().fit(X, y, sample_weight=np.full(30, 10.0)),
                wide(class_weight={0: 9, 1: 9, 2: 9}).fit(X, y),
            )
        ]
        sure = [(n + 1 / 3) / (n + 1) for n in (30, 300, 30)]
        np.testing.assert_allclose(largest, sure, rtol=1e-7)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-50, 50)))
def test_simplex_projection(points):
    projected = project_to_simplex(points)
    np.testing.assert_allclose(projected, oracles.simplex_projection(points), atol=1e-11)


def test_simplex_projection_of_ties_corners_and_members():
    points = np.array([[1.0, 1, 1], [5, -1, 0], [0.2, 0.3, 0.5], [0, 0, 0], [0.5, 0.5, -9]])
    expected = [[1 / 3] * 3, [1, 0, 0], [0.2, 0.3, 0.5], [1 / 3] * 3, [0.5, 0.5, 0]]
    np.testing.assert_allclose(project_to_simplex(points), expected, atol=1e-15)


class TestClassWeight:
    X, y = classes(n=30)

    def test_multiplies_the_sample_weights(self):
        w = np.linspace(0.5, 2, 30)
        by_class = {0: 1.0, 1: 3.0, 2: 0.25}
        model = classifier(class_weight=by_class).fit(self.X, self.y, sample_weight=w)
        factors = np.array([by_class[label] for label in self.y])
        emphasised = w * factors * (w.sum() / (w @ factors))  # an emphasis makes no samples
        plain = classifier().fit(self.X, self.y, sample_weight=emphasised)
        np.testing.assert_allclose(
            model.decision_function(self.X), plain.decision_function(self.X), rtol=1e-10
        )

    def test_balanced(self):
        X, y = self.X[:23], np.repeat([0, 1, 2], [15, 6, 2])
        model = classifier(class_weight="balanced").fit(X, y)
        plain = classifier().fit(X, y, sample_weight=compute_sample_weight("balanced", y))
        np.testing.assert_allclose(
            model.decision_function(X), plain.decision_function(X), rtol=1e-10
        )
        assert not np.allclose(
            model.decision_function(X), classifier().fit(X, y).decision_function(X)
        )

    def test_with_names(self):
        names = np.array(["ant", "bee", "cow"])[self.y]
        model = classifier(class_weight={"bee": 3.0}).fit(self.X, names)
        plain = classifier(class_weight={1: 3.0}).fit(self.X, self.y)
        np.testing.assert_array_equal(model.predict_proba(self.X), plain.predict_proba(self.X))

    def test_heavy_class_wins(self):
        X = np.array([[0.0], [0.1], [0.0], [0.1]])
        y = np.array([0, 0, 1, 1])
        for heavy in (0, 1):
            model = classifier(class_weight={heavy: 1000.0, 1 - heavy: 1e-3}).fit(X, y)
            assert (model.predict(X) == heavy).all()


class TestSampleWeight:
    COUNTS = np.array([1, 2, 0, 3, 1, 0, 1, 2, 1, 1, 0, 4])
    NEW = classes(n=9, seed=5)[0]

    @pytest.mark.slow
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("schedule", ["adaptive", 4])
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_weight_k_is_k_copies_and_zero_is_absence(self, alpha, schedule, n_classes):
        X, y = classes(n=12, n_classes=n_classes)
        weighted, copied = (
            classifier(alpha=alpha, schedule=schedule, hidden_layer_sizes=(20,)) for _ in range(2)
        )
        weighted.fit(X, y, sample_weight=self.COUNTS)
        copied.fit(np.repeat(X, self.COUNTS, 0), np.repeat(y, self.COUNTS))
        np.testing.assert_allclose(
            weighted.predict_proba(self.NEW), copied.predict_proba(self.NEW), rtol=1e-7, atol=1e-7
        )
        assert weighted.loss_ == pytest.approx(copied.loss_, rel=1e-6)
        assert weighted.collapse_.within == pytest.approx(copied.collapse_.within, rel=1e-6)


class TestCollapse:
    @pytest.mark.parametrize("n_classes", [2, 4])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("alpha", [0.3, 1.0])
    def test_loss_is_within_plus_between(self, alpha, weighted, n_classes):
        X, y = classes(n_classes=n_classes)
        w = np.linspace(0, 3, 24) if weighted else None
        by_class = {0: 2.0} if weighted else None
        model = classifier(alpha=alpha, class_weight=by_class).fit(X, y, sample_weight=w)
        found = model.collapse_
        assert found.within + found.between == pytest.approx(model.loss_, rel=1e-10)
        assert found.ratio == pytest.approx(found.within / found.between)
        n_outputs = 1 if n_classes == 2 else n_classes
        assert found.class_means.shape == found.targets.shape == (n_classes, n_outputs)

    def test_is_that_of_the_outputs(self):
        X, y = classes()
        model = classifier().fit(X, y)
        means, within, between = oracles.within_between(
            model.decision_function(X), y, np.eye(3), np.ones(24)
        )
        np.testing.assert_allclose(model.collapse_.class_means, means, atol=1e-10)
        assert model.collapse_.within == pytest.approx(within, rel=1e-9)
        assert model.collapse_.between == pytest.approx(between, rel=1e-9)
        np.testing.assert_array_equal(model.collapse_.targets, np.eye(3))

    def test_of_two_classes_is_that_of_the_indicator(self):
        X, y = classes(n_classes=2)
        model = classifier().fit(X, y)
        outputs = model.decision_function(X)[:, None] + 0.5
        means, within, between = oracles.within_between(
            outputs, y, np.array([[0.0], [1.0]]), np.ones(24)
        )
        np.testing.assert_allclose(model.collapse_.class_means, means, atol=1e-10)
        assert model.collapse_.within == pytest.approx(within, rel=1e-9)
        assert model.collapse_.between == pytest.approx(between, rel=1e-9)

    def test_interpolation_collapses(self):
        X, y = classes()
        model = classifier(alpha=1.0, t_end=1.0, hidden_layer_sizes=(40,)).fit(X, y)
        assert model.collapse_.within < 1e-18
        assert model.collapse_.between < 1e-18


class TestFitted:
    def test_kernel_has_a_block_a_sample(self):
        X, y = classes(n=10)
        model = classifier().fit(X, y)
        assert model.ntk_gram_.shape == (30, 30)
        np.testing.assert_allclose(model.ntk(X[3:4], X[7:8]), model.ntk_gram_[9:12, 21:24])
        np.testing.assert_allclose(
            model.ntk_eigenvalues_, np.linalg.eigvalsh(model.ntk_gram_)[::-1], atol=1e-10
        )

    def test_float32(self):
        X, y = classes()
        model = classifier(dtype="float32", hidden_layer_sizes=(40,)).fit(X, y)
        assert model.decision_function(X).dtype == np.float32
        np.testing.assert_allclose(model.predict_proba(X).sum(1), 1, rtol=1e-5)
        double = classifier(hidden_layer_sizes=(40,)).fit(X, y).decision_function(X)
        np.testing.assert_allclose(model.decision_function(X), double, atol=0.1)

    def test_warm_start_keeps_the_start(self):
        X, y = classes()
        model = classifier(alpha=0.3, t_end=0.3, warm_start=True).fit(X, y)
        before = model.loss_curve_
        model.fit(X, y)
        assert model.loss_curve_[: len(before)] == before
        assert model.loss_ < before[-1]

    @pytest.mark.slow
    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize(
        ("n", "n_features", "n_classes", "widths"),
        [(2, 1, 2, (3,)), (3, 2, 3, (1,)), (20, 40, 5, (8,)), (20, 1, 2, ()), (20, 3, 5, (1,))],
    )
    @pytest.mark.filterwarnings("ignore:Rounding decides this fit")
    def test_small_and_odd_problems_fit(self, n, n_features, n_classes, widths, alpha):
        X, y = classes(n, n_features, n_classes)
        model = classifier(hidden_layer_sizes=widths, alpha=alpha, t_end=0.5).fit(X, y)
        assert model.loss_ < model.loss_curve_[0]
        np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def test_breast_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), classifier(hidden_layer_sizes=(30,)))
    assert model.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.95


def test_dates_are_labels():
    X, index = classes(n_classes=2)
    days = np.array([datetime.date(2024, 8, 2), datetime.date(2024, 8, 5)])[index]
    with pytest.raises(ValueError, match="Unknown label type"):  # as all of scikit-learn has it
        classifier().fit(X, days)


class TestSharedKernel:
    """Blocks of three classes and more share one kernel."""

    def test_digits(self):
        X, y = load_digits(return_X_y=True)
        X_train, X_test, y_train, y_test = train_test_split(
            X / 16, y, train_size=600, random_state=0, stratify=y
        )
        model = AdaptedFlowClassifier((64, 64), alpha=1.0, damping=0.1, random_state=0)
        model.fit(X_train, y_train)
        assert model.solver_ == "cholesky of the shared kernel"
        assert model.score(X_test, y_test) > 0.95

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
    @pytest.mark.parametrize("alpha", [0.01, 1.0])
    @pytest.mark.parametrize("batch_size", [None, 40])
    def test_any_flow(self, batch_size, alpha, loss):
        X, y = load_iris(return_X_y=True)
        X = (X - X.mean(0)) / X.std(0)
        fits = [
            AdaptedFlowClassifier(
                (30,), alpha=alpha, loss=loss, solver="shared", batch_size=batch_size,
                damping=0.1, random_state=0,
            ).fit(X, y)
            for _ in range(2)
        ]  # fmt: skip
        assert fits[0].solver_.endswith("of the shared kernel")
        assert fits[0].score(X, y) > 0.94
        np.testing.assert_array_equal(fits[0].coefs_[0], fits[1].coefs_[0])

    def test_two_outputs_do_not_share_by_themselves(self):
        X, y = load_iris(return_X_y=True)
        model = AdaptedFlowClassifier((8,), batch_size=40, loss="log_loss", random_state=0)
        assert "shared" not in model.fit(X[:100], y[:100]).solver_

    def test_refuses_to_be_a_reference(self):
        X, y = load_iris(return_X_y=True)
        model = AdaptedFlowClassifier((8,), solver="shared", method="RK45")
        with pytest.raises(ValueError, match="solver='shared' is an approximation"):
            model.fit(X, y)

    def test_needs_a_ridge(self):
        X, y = load_iris(return_X_y=True)
        with pytest.raises(ValueError, match="shared' needs a ridge; set damping > 0, or damping"):
            AdaptedFlowClassifier((8,), solver="shared", damping=0.0).fit(X, y)
        model = AdaptedFlowClassifier((8,), solver="shared", batch_size=None, alpha=1.0)
        with pytest.raises(ValueError, match="needs a ridge in the full batch; set damping > 0"):
            model.fit(X, y)
