"""A call by its number, and what becomes of it: a fit, a refusal in words, or a fault."""

import contextlib
import re
import signal
import time
import traceback
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import joblib
import numpy as np
import sklearn
from sklearn.exceptions import DataConversionWarning

import sklearn_gflow
from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.exceptions import ConvergenceWarning, GramMemoryError
from tests.generated.data import SIZES, inputs, labels, numbers, weights
from tests.generated.parameters import generator_state, parameters_of

ESTIMATORS = [AdaptedFlowRegressor, AdaptedFlowClassifier]
SEARCHES = [AdaptedFlowRegressorCV, AdaptedFlowClassifierCV]
SECONDS = 60
DOCUMENTED = (ValueError, TypeError, GramMemoryError, OSError)
WARNED = (ConvergenceWarning, DataConversionWarning, UserWarning, DeprecationWarning)
# Who may raise: the package, the checks of scikit-learn and joblib, and what a user handed over.
PACKAGES = [Path(module.__file__).parent for module in (sklearn_gflow, sklearn, joblib)]
SPEAKERS = tuple(map(str, [*PACKAGES, Path(__file__).parents[1] / "modules.py"]))
PARAMETERS = {f.name for estimator in ESTIMATORS + SEARCHES for f in fields(estimator)}
CAUSES = PARAMETERS | {
    "X", "y", "X_val", "y_val", "sample_weight", "weight", "weights", "classes", "class", "groups",
    "label", "labels", "target", "targets", "feature", "features", "column", "columns", "row",
    "rows", "sample", "samples", "input", "array", "data", "fold", "folds", "module", "n_splits",
}  # fmt: skip


class TooLong(BaseException):
    """No call may take so long; not an `Exception`, so that nobody takes it for one of theirs."""


@dataclass(frozen=True)
class Ending:
    """What became of a call.

    Attributes
    ----------
    number : int
        Of the call.
    kind : str
        "fitted", "warned", or "refused: " and the kind of exception.
    fault : str
        What is wrong with that; empty where nothing is.
    told : str
        The message, of an exception or a warning.
    seconds : float
        That it took.
    call : str
        The call in words.
    """

    number: int
    kind: str
    fault: str
    told: str
    seconds: float
    call: str


class FaultyError(AssertionError):
    """What should not be."""


@contextlib.contextmanager
def _within(seconds):
    def stop(*_):
        raise TooLong(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ending(number, *, strict=False):
    """Make and run the call of a number; strictly: show where what is raised arises."""
    rng = np.random.default_rng(number)
    call = Call(rng)
    state, began = generator_state(**call.still()), time.perf_counter()
    error, caught = _raised(call, strict=strict)
    seconds = time.perf_counter() - began
    kind, told, fault = _judged(error, caught)
    moved = generator_state(**call.still()) != state
    faults = [fault, call.changed(), "global state moved" if moved else ""]
    if isinstance(error, DOCUMENTED):
        faults.append(call.left())
    return Ending(number, kind, next(filter(None, faults), ""), told, seconds, call.told())


def _raised(call, *, strict):
    """The exception that ended a call, or None, and all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if strict:
            warnings.simplefilter("error", RuntimeWarning)
        try:
            with _within(SECONDS):
                call.run()
        except (Exception, TooLong) as error:  # noqa: BLE001 - whatever is raised is looked at
            if strict:
                traceback.print_exception(error)
            return error, caught
    return None, caught


def _judged(error, caught):
    """Kind, message and fault of what a call ended with."""
    kind, told, fault = "fitted", "", ""
    if error is not None:
        kind, told, fault = type(error).__name__, str(error), _fault_of(error)
        kind = f"refused: {kind}" if isinstance(error, DOCUMENTED) else kind
    for warning in caught:
        if not issubclass(warning.category, WARNED):
            fault = fault or f"{warning.category.__name__} at {warning.filename}: {warning.message}"
        if kind == "fitted" and issubclass(warning.category, ConvergenceWarning):
            kind, told = "warned", str(warning.message)
    return kind, told, fault


def _place(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _fault_of(error):
    """What is wrong with an exception; nothing, if it is documented, ours, and names a cause."""
    if not isinstance(error, DOCUMENTED):
        return f"{type(error).__name__} at {_place(error)}: {error}"
    if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(SPEAKERS):
        return f"{type(error).__name__} leaked from {_place(error)}: {error}"
    if not CAUSES & set(re.findall(r"\w+", str(error))):
        return f"no cause in: {error}"
    return ""


class Call:
    """An estimator, what it is fitted to, and what is asked of it."""

    def __init__(self, rng):
        kinds = SEARCHES if rng.random() < 0.12 else ESTIMATORS
        self.estimator = kinds[rng.integers(2)]
        self.classifier = self.estimator in (AdaptedFlowClassifier, AdaptedFlowClassifierCV)
        self.parameters = parameters_of(self.estimator, rng)
        self.model = self.estimator(**self.parameters)
        n = SIZES[rng.integers(len(SIZES))]
        with np.errstate(all="ignore"):
            self.tables = [self._table(n, rng)]
        self.way = "fit"
        if kinds is ESTIMATORS and rng.random() < 0.15:
            self.way = ["partial_fit", "warm_start", "held out"][rng.integers(3)]
            again = rng.random() < 0.7
            with np.errstate(all="ignore"):
                self.tables.append(self.tables[0] if again else self._table(n, rng))
        self.before = [_shown(self.tables), _shown(self.parameters)]
        self.attributes = sorted(vars(self.model))

    def _table(self, n, rng):
        targets = labels if self.classifier else numbers
        return inputs(n, rng), targets(n, rng), weights(n, rng)

    def still(self):
        """Which global generators nobody was asked to draw from."""
        given = self.parameters
        return {"numpy": given["random_state"] is not None, "torch_too": "module" not in given}

    def told(self):
        """The call in words."""
        return f"{self.estimator.__name__}({self.parameters}).{self.way} on {self.before[0]}"

    def run(self):
        """Fit, and ask for all that there is."""
        self.fitted = False
        getattr(self, f"_{self.way.replace(' ', '_')}")()
        self.fitted = True
        X = self.tables[0][0]
        self._ask(X)

    def _fit(self):
        X, y, w = self.tables[0]
        self.model.fit(X, y, sample_weight=w)

    def _partial_fit(self):
        for X, y, w in self.tables:
            classes = {"classes": self._classes()} if self.classifier else {}
            self.model.partial_fit(X, y, sample_weight=w, **classes)

    def _classes(self):
        """Those of the first table, in an order if they have one."""
        y = self.tables[0][1]
        try:
            return np.unique(y)
        except (TypeError, ValueError):
            return y

    def _warm_start(self):
        self.model.set_params(warm_start=True)
        self.parameters["warm_start"] = True
        self.before[1] = _shown(self.parameters)
        for X, y, w in self.tables:
            self.model.fit(X, y, sample_weight=w)

    def _held_out(self):
        self.model.set_params(early_stopping=True)
        self.parameters["early_stopping"] = True
        self.before[1] = _shown(self.parameters)
        (X, y, w), (X_val, y_val, _) = self.tables
        self.model.fit(X, y, sample_weight=w, X_val=X_val, y_val=y_val)

    def _ask(self, X):
        """All that there is to ask; every answer is a finite number."""
        if self.parameters.get("refit") is False:  # then there is nothing that could predict
            return
        answers = self._of_labels(X) if self.classifier else self._of_numbers(X)
        if self.estimator in ESTIMATORS:
            answers |= {"ntk": self.model.ntk(X), "loss_": np.array(self.model.loss_)}
            if self.model.store_path is True:
                answers["staged"] = np.array(list(self.model.staged_predict(X)))
        if np.isnan(self.model.score(X, self.tables[0][1])):
            raise FaultyError("score is NaN")
        for name, answer in answers.items():
            if answer.dtype.kind == "f" and not np.isfinite(answer).all():
                raise FaultyError(f"{name} is not finite")

    def _of_labels(self, X):
        names = ("predict", "predict_proba", "predict_log_proba", "decision_function")
        answers = {name: getattr(self.model, name)(X) for name in names}
        one_label = np.ndim(answers["predict"]) == 1  # of several none excludes another
        if one_label and not np.allclose(answers["predict_proba"].sum(1), 1):
            raise FaultyError("probabilities that do not add up to 1")
        return answers

    def _of_numbers(self, X):
        answers = {"predict": self.model.predict(X)}
        if self.model.get_params(deep=False)["loss"] == "squared_error":
            answers["mean"], answers["std"] = self.model.predict(X, return_std=True)
        return answers

    def left(self):
        """What a call that was refused left behind: nothing, where no fit came before."""
        if self.fitted or len(self.tables) > 1 or sorted(vars(self.model)) == self.attributes:
            return ""
        return f"a failed fit left {sorted(set(vars(self.model)) - set(self.attributes))}"

    def changed(self):
        """What a call changed that is its user's."""
        if _shown(self.tables) != self.before[0]:
            return "the data were changed"
        own = self.model.get_params(deep=False)
        if any(own[name] is not value for name, value in self.parameters.items()):
            return "a parameter was exchanged"
        return "" if _shown(self.parameters) == self.before[1] else "a parameter was changed"


def _shown(value):
    """All that a value holds, as text; of objects with a state of their own the kind alone."""
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[_shown(one) for one in value]}"
    if isinstance(value, np.ndarray):
        return f"array({value.dtype}, {value.shape}, {value.tolist()!r})"
    if hasattr(value, "dtypes") and hasattr(value, "to_dict"):
        kinds = value.dtypes.to_list() if hasattr(value.dtypes, "to_list") else value.dtypes
        names, values = list(getattr(value, "columns", [])), value.to_numpy().tolist()
        return f"frame({names}, {kinds}, {values!r})"
    if hasattr(value, "toarray"):
        return f"sparse({value.toarray().tolist()!r})"
    return repr(value)
