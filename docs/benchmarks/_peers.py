"""Who is compared: pipelines from a raw frame to predictions, each as its own pages advise.

Nothing is tuned beyond what a name says. Every estimator gets one thread and the draw as its seed,
and all that it does to a frame counts as its fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)

MLP_GRID = {"alpha": [1e-4, 1e-1, 1.0], "learning_rate_init": [1e-3, 1e-2]}
SVM_GRID = {"C": [1.0, 10.0, 100.0], "gamma": ["scale", 0.01, 0.1]}


@dataclass(frozen=True)
class Entrant:
    """How an estimator of a raw frame is made, for classes or numbers, of a seed.

    ``packages`` are those that are recorded with its results, the first its own.
    """

    make: Callable[[bool, int], BaseEstimator]
    packages: tuple[str, ...] = ("scikit-learn",)

    @property
    def installed(self) -> bool:
        """Whether its own package can be imported."""
        return self.packages[0] == "scikit-learn" or find_spec(self.module) is not None

    @property
    def module(self) -> str:
        """The name under which its package is imported."""
        return self.packages[0].replace("-", "_")

    def versions(self) -> dict[str, str]:
        """Of its packages, as they are installed."""
        return {name: version(name) for name in self.packages if name != "sklearn-gflow"}


# -- Frames as the entrants take them ----------------------------------------------------------


def encoder() -> ColumnTransformer:
    """Standardised numbers, gaps filled and told by an indicator; indicators of categories."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    indicators = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("indicators", indicators, make_column_selector(dtype_exclude="number")),
        ]
    )


def without_gaps() -> ColumnTransformer:
    """A frame with gaps in numbers filled and told, for those that take categories but no gaps."""
    fill = SimpleImputer(strategy="median", add_indicator=True)
    return ColumnTransformer(
        [("numbers", fill, make_column_selector(dtype_include="number"))],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")


class AsCategories(TransformerMixin, BaseEstimator):
    """Text columns as pandas categoricals of the levels in the training rows."""

    def fit(self, X: pd.DataFrame, y: object = None) -> Self:
        text = X.select_dtypes(exclude="number")
        self.dtypes_ = {
            name: pd.CategoricalDtype(sorted(column.dropna().unique()))
            for name, column in text.items()
        }
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        # A level that the training rows have not becomes a gap.
        return X.assign(
            **{
                name: pd.Categorical(X[name].where(X[name].isin(dtype.categories)), dtype=dtype)
                for name, dtype in self.dtypes_.items()
            }
        )


def standardised(regressor: BaseEstimator) -> TransformedTargetRegressor:
    """A regressor that sees standardised targets."""
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


# -- Peers that need more than a pipeline ------------------------------------------------------


class CatBoost(BaseEstimator):
    """CatBoost at its defaults, told which columns are categories."""

    def __init__(self, classify: bool, seed: int) -> None:
        self.classify, self.seed = classify, seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        from catboost import CatBoostClassifier, CatBoostRegressor

        self.text_ = list(X.select_dtypes(exclude="number"))
        kind = CatBoostClassifier if self.classify else CatBoostRegressor
        model = kind(
            cat_features=self.text_, random_seed=self.seed, thread_count=1, verbose=False,
            allow_writing_files=False,
        )  # fmt: skip
        self.model_ = model.fit(self._filled(X), y)
        return self

    def _filled(self, X: pd.DataFrame) -> pd.DataFrame:
        """Gaps in numbers are taken as they are; in categories they have to be a level."""
        return X.assign(**{name: X[name].astype(object).fillna("") for name in self.text_})

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.model_.predict(self._filled(X), thread_count=1).ravel()

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        return self.model_.predict_proba(self._filled(X), thread_count=1)


class RecursiveFeatureMachine(BaseEstimator):
    """xRFM at its defaults, a fifth of the rows for its validation, as its pages show it."""

    def __init__(self, classify: bool, seed: int) -> None:
        self.classify, self.seed = classify, seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        from xrfm import xRFM

        self.encoder_ = encoder().fit(X)
        encoded = self.encoder_.transform(X).astype(np.float32)
        y = y.astype(np.int64 if self.classify else np.float32)
        parts = train_test_split(
            encoded, y, test_size=0.2, random_state=self.seed,
            stratify=y if self.classify else None,
        )  # fmt: skip
        self.model_ = xRFM(
            device="cpu", n_threads=1, random_state=self.seed, verbose=False,
            categorical_info=self._indicators(),
        )  # fmt: skip
        self.model_.fit(parts[0], parts[2], parts[1], parts[3])
        return self

    def _indicators(self) -> dict | None:
        """Which columns of the encoded rows belong to one category."""
        import torch

        places = self.encoder_.output_indices_
        numbers, indicators = places["numbers"], places["indicators"]
        if indicators.stop == indicators.start:
            return None
        levels = [
            len(found) for found in self.encoder_.named_transformers_["indicators"].categories_
        ]
        ends = indicators.start + np.cumsum(levels)
        return {
            "numerical_indices": torch.arange(numbers.stop),
            "categorical_indices": [
                torch.arange(end - size, end) for end, size in zip(ends, levels, strict=True)
            ],
            "categorical_vectors": [torch.eye(size) for size in levels],
        }

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.asarray(
            self.model_.predict(self.encoder_.transform(X).astype(np.float32))
        ).ravel()

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.model_.predict_proba(self.encoder_.transform(X).astype(np.float32)))


class Rfm(RegressorMixin, RecursiveFeatureMachine):
    """The same, as a regressor whose target can be transformed."""


class CalibratedSearch(ClassifierMixin, BaseEstimator):
    """The best SVM of a grid; its probabilities by Platt's method on five folds."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        self.search_ = GridSearchCV(SVC(), SVM_GRID).fit(X, y)
        best = SVC(**self.search_.best_params_)
        self.calibrated_ = CalibratedClassifierCV(best, ensemble=False).fit(X, y)
        self.classes_ = self.search_.classes_
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.search_.predict(X)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.calibrated_.predict_proba(X)


# -- How each is made --------------------------------------------------------------------------


def _lightgbm(classify: bool, seed: int) -> BaseEstimator:
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if classify else LGBMRegressor
    return make_pipeline(AsCategories(), kind(n_jobs=1, random_state=seed, verbose=-1))


def _histogram(classify: bool, seed: int) -> BaseEstimator:
    kind = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    model = kind(categorical_features="from_dtype", random_state=seed)
    return make_pipeline(AsCategories(), model)


def _linear(classify: bool, _: int) -> BaseEstimator:
    if classify:
        model = LogisticRegressionCV(
            Cs=10, cv=5, max_iter=2000, l1_ratios=(0,), use_legacy_attributes=False,
            scoring="neg_log_loss",
        )  # fmt: skip
    else:
        model = RidgeCV(np.logspace(-3, 4, 15))
    return make_pipeline(encoder(), model)


def _svm(classify: bool, _: int) -> BaseEstimator:
    model = CalibratedSearch() if classify else standardised(GridSearchCV(SVR(), SVM_GRID))
    return make_pipeline(encoder(), model)


def _mlp(classify: bool, seed: int) -> BaseEstimator:
    kind = MLPClassifier if classify else MLPRegressor
    search = GridSearchCV(kind(random_state=seed), MLP_GRID, cv=3)
    return make_pipeline(encoder(), search if classify else standardised(search))


def _xrfm(classify: bool, seed: int) -> BaseEstimator:
    if classify:
        return RecursiveFeatureMachine(True, seed)
    return standardised(Rfm(False, seed))


def _xrfm_search(classify: bool, seed: int) -> BaseEstimator:
    from pytabkit import XRFM_HPO_Classifier, XRFM_HPO_Regressor

    kind = XRFM_HPO_Classifier if classify else XRFM_HPO_Regressor
    model = kind(device="cpu", n_threads=1, random_state=seed)
    return make_pipeline(AsCategories(), without_gaps(), model)


def _realmlp(classify: bool, seed: int) -> BaseEstimator:
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    kind = RealMLP_TD_Classifier if classify else RealMLP_TD_Regressor
    model = kind(device="cpu", n_threads=1, random_state=seed)
    return make_pipeline(AsCategories(), without_gaps(), model)


def _own(classes: type, numbers: type, raw: bool) -> Callable[[bool, int], BaseEstimator]:
    """An estimator of this package: of the frame as it is, or of encoded rows."""

    def make(classify: bool, seed: int) -> BaseEstimator:
        model = (classes if classify else numbers)(random_state=seed)
        return model if raw else make_pipeline(encoder(), model)

    return make


def entrants(raw: bool) -> dict[str, Entrant]:
    """All by name, those of this package first; ``raw`` tells what these are given."""
    own = ("sklearn-gflow", "torch", "scikit-learn")
    trees = ("scikit-learn", "pandas")
    return {
        "flow": Entrant(_own(AdaptedFlowClassifier, AdaptedFlowRegressor, raw), own),
        "flow CV": Entrant(_own(AdaptedFlowClassifierCV, AdaptedFlowRegressorCV, raw), own),
        "CatBoost": Entrant(CatBoost, ("catboost",)),
        "LightGBM": Entrant(_lightgbm, ("lightgbm",)),
        "HistGB": Entrant(_histogram, trees),
        "linear, CV": Entrant(_linear),
        "SVM, grid": Entrant(_svm),
        "xRFM": Entrant(_xrfm, ("xrfm", "torch")),
        "xRFM, search": Entrant(_xrfm_search, ("pytabkit", "xrfm", "torch")),
        "MLP, grid": Entrant(_mlp),
        "RealMLP-TD": Entrant(_realmlp, ("pytabkit", "torch")),
    }
