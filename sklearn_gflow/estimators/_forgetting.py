"""`forget`: a fit without some of its training rows, as if they had never been there.

The flow of the fit is followed anew from its own start θ₀ over the rows that remain, and everything
that was learnt of rows is learnt again: units of y, class frequencies, scales and encodings of the
columns, the unit c. What a flow leaves behind depends on its whole path: the closed form without
the rows (`LeftOutAlong`), with chords towards its outputs, ends 5 % to 38 % of the way off, and
takes longer, for it needs the eigenvectors of each step (docs/benchmarks/forget.md).
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.dynamics import t_from_tau
from sklearn_gflow.estimators._class_weights import emphasised
from sklearn_gflow.estimators._coding import CodedClasses, CodedLabels, CodedNumbers
from sklearn_gflow.estimators._encodings import AUTOMATIC
from sklearn_gflow.estimators._influence import OfMembers, OfRows, truth_of
from sklearn_gflow.estimators._inputs import FittedInputs
from sklearn_gflow.estimators._members import Members
from sklearn_gflow.estimators._problem import Ended, Problem
from sklearn_gflow.estimators._replay import Replay
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.geometry import Loss

__all__ = ["Forgetting", "ForgettingMembers"]

# Weights that differ by less were made by the same formula.
_ALIKE = 1e-9
_LEAST_ROWS = 2
# The end of a flow that rows held out ended at its start.
_NO_TIME = 1e-12


class Forgetting(OfRows):
    """What an estimator with one path can forget."""

    _inputs: FittedInputs

    def forget(self, rows: ArrayLike) -> Self:
        """Leave some training rows out, as if they had never been there.

        The flow is followed anew from the start θ₀ of the fit over the rows that remain, in about
        the time of the fit; no table is needed, since a fit in the full batch keeps its rows. What
        was learnt of all rows is learnt again of these: the units of y or the class frequencies,
        medians and scales of the columns, encodings, stretched columns, the stopping time of
        ``early_stopping="loo"``. The model is then the one that ``fit`` without the rows would
        have made from this start, but for rounding (``forgotten_["distance"]``); with losses whose
        steps are integrated it may change a step, by less than the error of that.

        Three things stay, where there are any: what `TableEncoder` has learnt (medians that fill
        gaps, levels of categories, target means), for categories are not kept; the time at which
        rows held out ended the flow; and encodings that would have another number of columns now,
        which θ₀ does not fit. ``forgotten_`` tells of the first and the last. Where deletion must
        include them, fit again without the rows. Copies of the model, pickles and files that were
        written before know nothing of this call.

        Parameters
        ----------
        rows : array-like of int or of bool
            Which training rows: places among those of positive weight that were not held out, as
            in `explain`, or a mask of these. Those that remain are numbered anew, in their order,
            and a second call means the new numbers. Nothing happens where none is named.

        Returns
        -------
        self : estimator
            Fitted to the rows that remain: all fitted attributes are theirs, and ``forgotten_``
            counts what was left out.

        Raises
        ------
        ValueError
            If rows are none of the fit's, or too few would remain, or all of a class would go; if
            the fit did not keep its rows or went on from another (over blocks, by an integrator
            of scipy, with ``warm_start``, after ``partial_fit``, or as the pickle of a
            classifier); or if parameters have changed since. The model stays as it was.

        See Also
        --------
        explain : What predictions would be without each row, without forgetting any.
        """
        check_is_fitted(self)
        with undisturbed():
            attributes = self._without(rows)
        return self if attributes is None else self._write(attributes)  # type: ignore[attr-defined]

    def _without(self, rows: ArrayLike) -> dict[str, Any] | None:
        """Fitted attributes without some rows; None where none is named."""
        replay = self._followed_again("forget")
        gone = mask_of(rows, len(self._kept.data.X))
        if not gone.any():
            return None
        if np.count_nonzero(~gone) < _LEAST_ROWS:
            raise ValueError(
                f"rows leave {np.count_nonzero(~gone)} of {len(gone)} training rows, and a fit "
                f"needs {_LEAST_ROWS}; name fewer"
            )
        anew = self._as_before_the_fit(replay)
        problem, same_columns = self._again(anew, ~gone)
        training = anew._build(problem)
        _check_unchanged(replay, problem.loss, training)
        training, trained, left_out = anew._flow(training, problem)
        attributes = anew._expose(Ended(problem, training, trained, left_out))
        before: dict[str, Any] = vars(self).get("forgotten_", {"n_rows": 0, "old_columns": False})
        table, history = self._inputs.table, attributes["history_"]
        attributes["forgotten_"] = {
            "n_rows": before["n_rows"] + int(gone.sum()),
            "distance": float(history["sensitivity"][attributes["_solution"]]),
            "old_columns": before["old_columns"] or not same_columns,
            "old_table": table is not None and table.has_learnt,
        }
        return attributes

    def _as_before_the_fit(self, replay: Replay) -> Any:
        """A copy that fits as this one was fitted, with the draws of its encoder."""
        anew: Any = copy.copy(self)
        anew.warm_start = False
        if anew.encoding != AUTOMATIC:
            anew.encoding = self._inputs.encoder
        if anew.early_stopping and not isinstance(anew.early_stopping, str):
            # The rows that were held out are not kept; when they stopped is.
            times = t_from_tau(np.array(replay.taus)).tolist() or [_NO_TIME]
            anew.early_stopping, anew.schedule, anew.t_end = False, times, times[-1]
        return anew

    def _again(self, anew: Any, remaining: np.ndarray) -> tuple[Problem, bool]:
        """The problem of the fit with the rows that remain, and whether columns are learnt anew."""
        kept, inputs, coding = self._kept.take(remaining), self._inputs, self._coding
        y, weights = _as_given(coding, kept.data.targets), kept.data.weights
        classes = coding.classes if isinstance(coding, CodedClasses) else None
        if classes is not None:
            _check_classes(coding, y)
            weights = self._weights_without_emphasis()
            weights = None if weights is None else weights[remaining]
        if weights is not None:  # relative ones are so of the rows that remain
            weights = weights * getattr(self, "_unit_of_weights", 1.0)
        X = inputs.before_scaling(kept.data.X if kept.scaled is None else kept.scaled)
        names = ("n_features_in_", "feature_names_in_")
        described = {name: getattr(self, name) for name in names if hasattr(self, name)}
        rows = Rows(X, y, weights, getattr(coding, "sparse", False)).counted()
        described["_unit_of_weights"] = rows.unit
        problem: Problem = anew._problem(rows, None, described, classes)
        read = replace(problem.inputs, table=inputs.table, n_numbers=inputs.n_numbers)
        start = replace(self._network, theta=self._network.reference, path=None, witness=None)
        problem = replace(problem, inputs=read, start=start)
        # Columns that nothing but an encoding made are not kept as they were before it.
        raw = kept.scaled is not None or (inputs.encoder is None and inputs.factors is None)
        if raw:
            encoded = problem.encoded(anew.encoding, anew._inputs_seed())
            if encoded.data.X.shape[1] == start.n_features:
                return anew._prepared(problem), True
        old = replace(problem.data, X=kept.data.X)
        return replace(problem, data=old, inputs=inputs, scaled=kept.scaled), False

    def _weights_without_emphasis(self) -> np.ndarray | None:
        """Weights of all kept rows as the user gave them.

        Raises
        ------
        ValueError
            If weights of classes and of rows were multiplied.
        """
        this: Any = self
        weights = self._kept.data.weights
        if this.class_weight is None or weights is None:
            return weights
        y = _as_given(self._coding, self._kept.data.targets)
        alone = emphasised(this.class_weight, Rows(None, y, None), self._coding.classes)
        if alone is not None and np.allclose(weights, alone, rtol=_ALIKE):
            return None
        raise ValueError(
            f"forget cannot tell class_weight={this.class_weight!r} from the sample_weight of the "
            "fit, which were multiplied; fit again without these rows, or with one of the two"
        )


class ForgettingMembers(OfMembers):
    """The same of a search: of its members, one after the other."""

    _written: tuple[str, ...]

    def forget(self, rows: ArrayLike) -> Self:
        """Leave some training rows out of all members, as if they had never been there.

        What the search chose stays, though it was chosen with these rows: candidate, stopping times
        and weights of the ensemble, the temperature of probabilities, ``cv_results_`` and
        ``best_score_``. The members are fitted again, in a small part of the time of the search.

        Parameters
        ----------
        rows : array-like of int or of bool
            Which training rows; see `AdaptedFlowRegressor.forget`.

        Returns
        -------
        self : estimator
            Fitted to the rows that remain.

        Raises
        ------
        ValueError
            As for `AdaptedFlowRegressor.forget`, if a member cannot forget. The search stays as it
            was.
        AttributeError
            If there are no members, with ``refit=False``.
        """
        former = Members.of(self).estimators
        members = [copy.copy(member).forget(rows) for member in former]
        if members[0]._kept is former[0]._kept:
            return self
        first = members[0]
        for member in members:  # they read and scale X once for all, as before
            kept = member._kept.sharing(first._kept.data).attributes()
            fitted = {name: vars(member)[name] for name in member._written}
            member._write({**fitted, **kept, "_inputs": member._inputs.sharing(first._inputs)})
        gone = mask_of(rows, len(former[0]._kept.data.X))
        importances = [member.feature_importances_ for member in members]
        fitted = {name: vars(self)[name] for name in self._written}
        changed = {
            "_coding": first._coding,
            "_apart": self._apart.without(gone),
            "best_estimator_": first,
            "estimators_": members,
            "feature_importances_": np.average(importances, axis=0, weights=self.ensemble_weights_),
            "n_iter_": first.n_iter_,
            "forgotten_": first.forgotten_,
        }
        return self._write({**fitted, **changed})  # type: ignore[attr-defined]


def mask_of(rows: ArrayLike, n_rows: int) -> np.ndarray:
    """Which rows are meant, as a mask.

    Raises
    ------
    ValueError
        If they are no places among so many rows, and no mask of them.
    """
    asked = np.atleast_1d(np.asarray(rows))
    if asked.dtype == bool and asked.shape == (n_rows,):
        return asked
    whole = asked.dtype.kind in "iu" or asked.size == 0
    if asked.ndim != 1 or not whole or not ((asked >= 0) & (asked < n_rows)).all():
        raise ValueError(
            f"rows must be places among the {n_rows} training rows, 0 … {n_rows - 1}, or a mask of "
            f"shape ({n_rows},); got {rows!r}"
        )
    mask = np.zeros(n_rows, dtype=bool)
    mask[asked.astype(int)] = True
    return mask


def _as_given(coding: Any, targets: np.ndarray) -> np.ndarray:
    """y in the units and the shape that the user gave it, from targets of the network."""
    if isinstance(coding, CodedNumbers):
        return coding.shaped(coding.target_mean + coding.target_scale * targets)
    truth = truth_of(coding, targets)
    if isinstance(coding, CodedLabels):
        labels: np.ndarray = coding.classes[truth]
        return labels
    return np.asarray(truth).astype(int)


def _check_classes(coding: CodedClasses, y: np.ndarray) -> None:
    if not isinstance(coding, CodedLabels) or not coding.lacks(y):
        return
    lost = [label for label in coding.classes.tolist() if label not in set(y.tolist())]
    raise ValueError(
        f"rows are all that there were of {lost}, and a model knows the classes of its rows; fit "
        "again without them"
    )


def _check_unchanged(replay: Replay, loss: Loss, training: Any) -> None:
    """Hold what the flow is now to what it was.

    Raises
    ------
    ValueError
        Naming what has changed.
    """
    now = replay.options_of(training.settings, None)
    before = replace(replay.options, metric_scale=None)
    changed = [f.name for f in fields(before) if getattr(before, f.name) != getattr(now, f.name)]
    if loss != replay.loss:
        changed.append("loss")
    if changed:
        raise ValueError(
            f"forget follows the flow of the fit, and parameters have changed since: {changed}; "
            "set them as they were, or fit again without these rows"
        )
