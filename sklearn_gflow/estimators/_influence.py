"""What estimators say of their training rows: what each contributed, and predictions without it.

Both are read off the flow of the fit, followed once more (`_replay`). Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.estimators._coding import CodedNumbers
from sklearn_gflow.estimators._conformal import Apart
from sklearn_gflow.estimators._indicators import CodedIndicators
from sklearn_gflow.estimators._network import FittedNetwork
from sklearn_gflow.estimators._problem import Ended
from sklearn_gflow.estimators._replay import Replay, other_way
from sklearn_gflow.estimators._rows import TrainingData
from sklearn_gflow.estimators._standard_errors import KeptRows
from sklearn_gflow.estimators._surroundings import undisturbed

__all__ = ["OfMembers", "OfRows", "influence_attributes", "truth_of"]

# Of fits that were saved before it was told.
_SOME_OTHER_WAY = (
    "was over blocks, by an integrator of scipy, or went on from an earlier one; set "
    "batch_size=None, method='exponential' and warm_start=False"
)
_NO_ROWS = (
    "{what} needs rows that the fit did not learn from; set early_stopping=True, which holds "
    "rows out"
)
_NOT_SQUARED = (
    'of="deletions" is in closed form for the squared error, and the loss was {loss!r}; fit with '
    'loss="squared_error", or compare with copy.deepcopy(model).forget([i])'
)
_READINGS: Mapping[str, Callable[[Replay, FittedNetwork, TrainingData, Any], np.ndarray]] = {
    "contributions": Replay.contributions,
    "deletions": Replay.deletions,
}
"""What `explain` may be asked for."""


def influence_attributes(ended: Ended) -> dict[str, Any]:
    """Fitted attributes: how to follow the flow again, its rows, and readings of rows held out."""
    replay, apart, held_out = Replay.of(ended), None, ended.problem.held_out
    if held_out is not None:
        coding, network = ended.problem.coding, ended.training.network
        at_end = network.ended(ended.training.family, ended.trained.trajectory.theta)
        readings = coding.readings(at_end.model(held_out.X))
        apart = Apart(readings, truth_of(coding, held_out.targets), held_out.weights)
    kept = {} if replay is None else {"_kept": KeptRows.of(ended)}
    return {"_replay": replay, "_other_way": other_way(ended), "_apart": apart, **kept}


def truth_of(coding: Any, targets: np.ndarray) -> np.ndarray:
    """Targets as `Apart` has them."""
    if isinstance(coding, CodedNumbers):
        return coding.target_mean + coding.target_scale * targets
    if isinstance(coding, CodedIndicators):
        return coding.loss.told(targets)
    distances = ((targets[:, None] - coding.codes) ** 2).sum(axis=2)
    return distances.argmin(axis=1)


class OfRows:
    """What an estimator with one path says of its rows."""

    _replay: Replay | None
    _apart: Apart | None
    _kept: KeptRows
    _network: FittedNetwork
    _coding: Any
    _inputs: Any

    def explain(self, X: ArrayLike, of: str = "contributions") -> np.ndarray:
        """What each training row did to predictions, or what would be missing without it.

        *Contributions.* Over a step of the flow the outputs change by K̄(x, X) u: a number uⱼ for
        each training row times the tangent kernel, in the mean over the step, between this row and
        x. Summed over the steps these are the contributions of the rows, and summed over the rows
        they are the prediction less its start, the mean of the targets, to rounding and the error
        of a quadrature of five points a step; a `ConvergenceWarning` tells where they are not,
        because modes of the kernel are hardly resolved. They say what a row did, not what would be
        missing without it: other rows would have done much of it in its place.

        *Deletions.* The prediction less what it would be without the row, f(x) − f₋ᵢ(x), in closed
        form along the path of the fit (`diagnostics.LeftOutAlong`). They order the rows as refits
        without each of them do that keep the scales of the columns and the times of the steps
        (``docs/benchmarks/forget.md``), and do not add up. At the training
        rows themselves y − f + the diagonal is the residual of each row under the fit without it.

        The flow is followed once more for this, in about the time of a fit for contributions and of
        two to three for deletions of some hundred rows; nothing is fitted again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        of : {"contributions", "deletions"}, default="contributions"
            Which of the two.

        Returns
        -------
        ndarray of shape (n_samples, n_train) or (n_samples, n_train, n_outputs)
            In units of y, with a loss that has a link in those of its linear scores; of a
            classifier in those of the outputs of the network. Training rows are those of positive
            weight that were not held out, in their order; a row of weight k goes with all that it
            counts for.

        Raises
        ------
        ValueError
            If the fit was no flow of the full batch from a new start, ``of`` is neither, or
            deletions are asked of another loss than the squared error.

        See Also
        --------
        forget : The fit without some rows.
        """
        check_is_fitted(self)
        if not isinstance(of, str) or of not in _READINGS:
            raise ValueError(f'of must be "contributions" or "deletions"; got {of!r}')
        with undisturbed():
            replay = self._followed_again("explain")
            if of == "deletions" and not replay.loss.squared:
                raise ValueError(_NOT_SQUARED.format(loss=replay.loss))
            if of == "deletions" and len(self._kept.data.X) < 2:
                raise ValueError(
                    'of="deletions" is what would be without a row, and a single row of positive '
                    "weight was trained on; fit to more rows"
                )
            columns = self._inputs.read(self, X)
            found = _READINGS[of](replay, self._network, self._kept.data, columns)
        if isinstance(self._coding, CodedNumbers):
            found = found * self._coding.unit_of_scores[:, None]
        return found[:, 0] if found.shape[1] == 1 else np.moveaxis(found, 1, 2)

    def _followed_again(self, what: str) -> Replay:
        replay = getattr(self, "_replay", None)
        if replay is not None and not hasattr(self, "_kept"):
            raise ValueError(
                f"{what} needs the training rows, and a pickle of a classifier has none of them; "
                "ask before it is pickled, or fit again"
            )
        if replay is not None and not self._kept.complete:
            raise ValueError(
                f"{what} needs all training rows, and a sample of them is kept of so large a table"
            )
        if replay is None:
            way = getattr(self, "_other_way", _SOME_OTHER_WAY)
            raise ValueError(f"{what} follows the flow of a fit once more, and this one {way}")
        return replay

    def _apart_of(self, what: str = "predict_interval") -> Apart:
        """Readings of rows that they did not learn from: held out, or each row without itself."""
        if (apart := getattr(self, "_apart", None)) is not None:
            return apart
        try:
            replay = self._followed_again("To leave rows out in turn")
        except ValueError as error:
            raise ValueError(f"{_NO_ROWS.format(what=what)}. {error}") from None
        if not replay.loss.squared:
            raise ValueError(
                f"{_NO_ROWS.format(what=what)}, or use the class with CV in its name. To leave "
                f"rows out in turn needs the squared error, and the loss was {replay.loss!r}"
            )

        def left_out(network: FittedNetwork) -> Apart:
            distinct = self._kept.data.distinct()
            residuals = replay.left_out(network, distinct)
            readings = self._coding.readings(distinct.targets - residuals - distinct.start)
            return Apart(readings, truth_of(self._coding, distinct.targets), distinct.weights)

        found: Apart = self._kept.once("left out", self._network, left_out)
        return found

    def _readings(self, X: ArrayLike) -> np.ndarray:
        """Predictions of all outputs, or outputs of a classifier, shape (n_samples, n_outputs)."""
        this: Any = self
        readings: np.ndarray = self._coding.in_range(self._coding.readings(this._model(X)))
        return readings


class OfMembers:
    """The same of a search: of its members on average, and of rows held out of its folds."""

    _apart: Apart
    estimators_: list[Any]
    ensemble_weights_: np.ndarray

    def explain(self, X: ArrayLike, of: str = "contributions") -> np.ndarray:
        """What each training row did to predictions, in the mean over the members.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        of : {"contributions", "deletions"}, default="contributions"
            Which; see `AdaptedFlowRegressor.explain`. Without a row the search might have chosen
            another network: its choices stay as they are.

        Returns
        -------
        ndarray of shape (n_samples, n_train) or (n_samples, n_train, n_outputs)
            See `AdaptedFlowRegressor.explain`.

        Raises
        ------
        ValueError
            If a member was not fitted in the full batch, or as for `AdaptedFlowRegressor.explain`.
        """
        check_is_fitted(self)
        parts = [member.explain(X, of) for member in self.estimators_]
        found: np.ndarray = np.average(parts, axis=0, weights=self.ensemble_weights_)
        return found

    def _apart_of(self, what: str = "predict_interval") -> Apart:
        """Rows held out of the folds, and each row without itself where the members know it.

        Folds learn from fewer rows than the members, and err more; the members chose with all rows
        what they see of them, and their leave-one-out errs less than it should.
        """
        if not all(_leaves_out(member) for member in self.estimators_):
            return self._apart
        parts = [member._apart_of(what) for member in self.estimators_]
        readings = np.average(
            [part.readings for part in parts], axis=0, weights=self.ensemble_weights_
        )
        return self._apart.joined(Apart(readings, parts[0].truth, parts[0].weights))


def _leaves_out(member: Any) -> bool:
    replay, kept = member._replay, getattr(member, "_kept", None)
    return replay is not None and replay.loss.squared and kept is not None and kept.complete
