"""What the estimators share: validate → build → flow → expose, and the one writer of fitted state.

Until the last of these four nothing of an estimator changes: a fit that fails or is interrupted
leaves it exactly as it was. Notation: docs/notation.md.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import Estimator
from sklearn_gflow.estimators._averages import averaging, members_for
from sklearn_gflow.estimators._bounds import Bounded
from sklearn_gflow.estimators._checkpoint import checkpointed, once
from sklearn_gflow.estimators._continuing import Continuing
from sklearn_gflow.estimators._default_columns import DefaultColumns
from sklearn_gflow.estimators._duration import least_seconds, long
from sklearn_gflow.estimators._exposure import fitted_attributes, joined, predicting
from sklearn_gflow.estimators._forgetting import Forgetting
from sklearn_gflow.estimators._gradient import Differentiable
from sklearn_gflow.estimators._group import in_company, tells
from sklearn_gflow.estimators._influence import influence_attributes
from sklearn_gflow.estimators._inputs import FittedInputs, checked_rows, is_table
from sklearn_gflow.estimators._kernel import OfKernel
from sklearn_gflow.estimators._network import FittedNetwork, few_rows
from sklearn_gflow.estimators._packing import packed, unpacked
from sklearn_gflow.estimators._parameters import (
    FlowParameters,
    NetworkParameters,
    PathParameters,
    RowsParameters,
)
from sklearn_gflow.estimators._problem import Ended, Problem
from sklearn_gflow.estimators._progress import FLOW, UNTOLD, Task
from sklearn_gflow.estimators._reports import incomplete, undetermined, unscaled, warn, worse
from sklearn_gflow.estimators._rescaling import stretching
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._shares import OwnRows, validated
from sklearn_gflow.estimators._start import OfStart
from sklearn_gflow.estimators._stopping import (
    LeftOut,
    judged_by,
    stopped_by_leave_one_out,
    stopped_by_rows_apart,
)
from sklearn_gflow.estimators._streaming import streamed
from sklearn_gflow.estimators._surroundings import each_undisturbed, undisturbed
from sklearn_gflow.estimators._tensors import seed_of, to_numpy, to_tensor
from sklearn_gflow.estimators._training import MARKS, TrainedFlow, Training
from sklearn_gflow.estimators._validation import (
    _fit_context,
    check_alpha,
    check_weights,
    hold_out,
)
from sklearn_gflow.inputs import PiecewiseLinearEncoder, SmoothRobustScaler

__all__ = ["BaseAdaptedFlow"]


class BaseAdaptedFlow(
    Forgetting,
    OfStart,
    OfKernel,
    Bounded,
    Differentiable,
    Continuing,
    DefaultColumns,
    FlowParameters,
    PathParameters,
    RowsParameters,
    NetworkParameters,
    Estimator,
):
    """Parameters, training and tangent kernel of the adapted-flow estimators."""

    n_iter_: int
    n_outputs_: int
    _coding: Any
    _inputs: FittedInputs
    _target_type: ClassVar[str]  # of the target means of categories

    _packed = staticmethod(packed)
    _unpacked = staticmethod(unpacked)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Follow the flow from a random start to ``t_end``.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Training inputs: numbers, or a table with gaps and categories; see `TableEncoder`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, of which several columns are several outputs; or labels of any type that can be
            sorted, or a matrix of indicators of several labels a row, which may be sparse.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row, zero as its absence. Weights whose mean,
            zeros left out, is below 1 cannot be copies: they are relative, and are divided by it.
        X_val, y_val : array-like, optional
            Rows to stop by, with ``early_stopping=True``; otherwise some are held out of X.

        Returns
        -------
        self : estimator
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or training leaves the finite numbers.
        GramMemoryError
            If the Gram would not fit into memory.
        """
        with undisturbed(), in_company(self), checkpointed(self) as (one, checkpoint):
            task = Task.begun(self, X, y, sample_weight, FLOW) if tells(self) else UNTOLD
            one, problem = validated(one, X, y, sample_weight, X_val, y_val)
            attributes = one._under(checkpoint, problem.told_by(task), one._fitted)
            task.end(attributes)
        return self._write(attributes)

    # -- the four verbs --------------------------------------------------------------------------

    def _fitted(self, problem: Problem) -> dict[str, Any]:
        attributes = self._expose(self._ended(problem))
        return joined(vars(self), attributes) if self._continues() else attributes

    def _ended(self, problem: Problem) -> Ended:
        problem = self._prepared(problem)
        training = self._told(self._build(problem), problem, problem.rescalings)
        warn(long(least_seconds(training), "fit"), UserWarning)
        return Ended(problem, *self._flow(training, problem))

    def _fitted_chunk(self, given: tuple[Any, Any, Any], *about: Any) -> dict[str, Any]:
        """Go over a chunk that was given; it is about what `_problem` takes."""
        with checkpointed(self) as (one, checkpoint):
            task = Task.begun(self, *given, FLOW, name="partial_fit")
            problem = one._problem(*about, chunk=True).told_by(task)
            attributes = one._under(checkpoint, problem, one._chunk_fitted)
            task.end(attributes)
            return attributes

    def _chunk_fitted(self, problem: Problem) -> dict[str, Any]:
        problem = self._prepared(problem)
        training = self._told(self._build(problem), problem)
        trained = training.over_chunk()
        warn(incomplete(trained))
        attributes = self._expose(Ended(problem, training, trained))
        return joined(vars(self), attributes) if self._is_fitted() else attributes

    @abstractmethod
    def _validate(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, X_val: Any, y_val: Any
    ) -> Problem:
        """Check the arguments of ``fit``."""

    @abstractmethod
    def _checked(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, chunk: bool = False
    ) -> tuple[Rows, dict[str, Any]]:
        """X, y and weights without the rows whose weight is zero, and what describes X."""

    @abstractmethod
    def _problem(
        self,
        rows: Rows,
        held_out: Rows | None,
        described: dict[str, Any],
        classes: np.ndarray | None = None,
        *,
        chunk: bool = False,
    ) -> Problem:
        """What a fit on some rows is about; nothing is encoded yet."""

    def _told(self, training: Training, problem: Problem, flow: int = 0) -> Training:
        """With one who tells of its flow, that of the number ``flow`` among those of a fit."""
        task = problem.task
        teller = task.teller(
            partial(predicting, problem, training) if task.level == 1 else None,
            flow=flow,
            n_flows=1 if problem.chunk else 1 + problem.rescalings,
            since=self.t_ if self._continues(chunk=problem.chunk) else None,
        )
        return replace(training, teller=teller)

    def _factors(self, problem: Problem, flow: int) -> np.ndarray:
        """By what columns are stretched after a first flow."""
        training = self._told(self._build(problem, several=False), problem, flow)
        factors, trained = stretching(training)
        warn(incomplete(trained))
        return factors

    def _open_ended(self, problem: Problem) -> bool:
        """Whether the flow goes over blocks, to where rows held out gain nothing."""
        if problem.open_ended is not None:
            return problem.open_ended
        return problem.settled(self._parameters(), self._inputs_seed())[2].open_ended

    def _parameters(self) -> dict[str, Any]:
        """All by name: a subclass may show fewer to its users, and get_params would lack some."""
        return {declared.name: getattr(self, declared.name) for declared in fields(self)}

    def _build(self, problem: Problem, *, several: bool = True) -> Training:
        """The training on some rows, from a new start or the last solution; maybe of a mean."""
        data, seed, own = problem.data, seed_of(self.random_state), OwnRows.of(problem)
        architecture, family, settings = problem.settled(self._parameters(), seed)
        device = settings.device
        goes_on = self._continues(chunk=problem.chunk)
        before = self._network if goes_on else problem.start
        doing = self._continuing(problem.chunk) if goes_on else "forget"
        ramps = isinstance(problem.inputs.encoder, PiecewiseLinearEncoder)
        n_members = (
            members_for(settings, before, doing, alone=own is None, ramps=ramps) if several else 1
        )
        if n_members > 1:
            architecture = replace(architecture, n_members=n_members)
            family = architecture.family(data.X.shape[1], family.n_outputs, device, seed)
            settings = averaging(settings, n_members)
        if before is None:
            initial = family.initial(settings.generator(), input_scale=settings.init_scale)
            theta = reference = to_numpy(initial)
        else:
            # The same functions as before, with the state of the fit, in the precision of this one.
            architecture = replace(before.architecture, dtype=architecture.dtype)
            former = replace(before, architecture=architecture).family(device)
            if former.signature != family.signature:
                raise ValueError(
                    f"{doing} continues from the last fit, but its "
                    f"network is another: it has {former.n_params} parameters and this one "
                    f"{family.n_params}; keep hidden_layer_sizes and the data's shape, and the "
                    "activation too, or start anew by fit with warm_start=False"
                )
            family, theta, reference = former, before.theta, before.reference
            seed = before.seed
        start, rows = to_tensor(theta, settings.dtype, device), few_rows(data.X)
        family.check_rows(start, to_tensor(rows, settings.dtype, device))
        network = FittedNetwork.of(architecture, family, start, reference, rows, seed)
        return Training(
            settings, family, start, network, problem.loss, data, problem.index,
            before=self._before(settings) if goes_on else None, own=own,
            keeper=None if problem.checkpoint is None else problem.checkpoint.keeper(start),
        )  # fmt: skip

    def _flow(
        self, training: Training, problem: Problem
    ) -> tuple[Training, TrainedFlow, LeftOut | None]:
        """Follow the flow to where it is to stop, and warn where it did not get there."""
        left_out, judge, open_ended = None, problem.coding.judge, training.settings.open_ended
        if training.settings.by_leave_one_out:
            trained, left_out = stopped_by_leave_one_out(training, judge, problem.task.say)
        elif problem.held_out is not None:
            best = judged_by(training, problem.held_out, judge, problem.score)
            if open_ended:
                trained = training.while_gaining(best, None)
            else:
                trained = training.until(training.settings.t_end, [best], MARKS)
        elif open_ended:
            training, trained = stopped_by_rows_apart(training, judge, problem.apart)
        else:
            trained = training.until(training.settings.t_end)
        warn(incomplete(trained))
        warn(worse(trained))
        warn(undetermined(trained))
        return training, trained, left_out

    def _expose(self, ended: Ended) -> dict[str, Any]:
        """Fitted attributes."""
        return {**fitted_attributes(ended), **influence_attributes(ended)}

    # -- what validation shares --------------------------------------------------------------------

    def _checked_rows(
        self, X: Any, y: Any, sample_weight: Any, *, chunk: bool = False, **check_y: Any
    ) -> tuple[Rows, dict[str, Any]]:
        """X, y and weights without the rows whose weight is zero, and what describes X."""
        check_alpha(self.alpha)
        further_chunk, goes_on = chunk and self._is_fitted(), self._continues(chunk=chunk)
        # scikit-learn writes the number and the names of the columns onto the estimator that it
        # checks for. A copy stands in, since this fit may still fail.
        stand_in = copy.copy(self)
        X, y = checked_rows(
            stand_in, X, y, reset=not goes_on, least=1 if further_chunk else 2,
            as_numbers=goes_on and self._inputs.table is None, **check_y,
        )  # fmt: skip
        learnt = ("n_features_in_", "feature_names_in_")
        described = {name: getattr(stand_in, name) for name in learnt if hasattr(stand_in, name)}
        weights = check_weights(sample_weight, X)
        rows = Rows(X, y, weights)
        present = (rows if weights is None or weights.all() else rows.take(weights > 0)).counted()
        return present, described | {"_unit_of_weights": present.unit}

    def _split(
        self,
        rows: Rows,
        described: Mapping[str, Any],
        X_val: Any,
        y_val: Any,
        labels: np.ndarray | None,
        **check_y: Any,
    ) -> tuple[Rows, Rows | None]:
        """Rows to train on, and those that say when to stop: held out, or the user's own."""
        by_split = self.early_stopping and not isinstance(self.early_stopping, str)
        if self.early_stopping and not by_split and self.scoring is not None:
            raise ValueError(
                f"scoring={self.scoring!r} is of rows held out, and early_stopping="
                f"{self.early_stopping!r} holds out none; set early_stopping=True, or scoring=None"
            )
        if X_val is None and y_val is None:
            if not by_split:
                return rows, None
            training, held_out = hold_out(
                len(rows.y), self.validation_fraction, self.random_state, labels
            )
            return rows.take(training), rows.take(held_out)
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val belong together; hand over both or neither")
        if not by_split:
            raise ValueError(
                "X_val and y_val are only used by early_stopping=True, and it is "
                f"{self.early_stopping!r}; set early_stopping=True or leave them out"
            )
        like_training = copy.copy(self)
        like_training.__dict__.update(described)
        X_val, y_val = checked_rows(
            like_training, X_val, y_val, reset=False, least=1, as_numbers=not is_table(rows.X),
            **check_y,
        )  # fmt: skip
        return rows, Rows(X_val, y_val, None)

    def _as_columns(
        self, rows: Rows, held_out: Rows | None, *, chunk: bool = False
    ) -> tuple[FittedInputs, Rows, Rows | None]:
        """Rows as columns of the network, and what makes them; a fit that goes on keeps that."""
        if self._continues(chunk=chunk):
            inputs = self._inputs
            X = inputs.of_rows(rows.X)
        else:
            inputs, X = FittedInputs.learnt(
                rows,
                held_out,
                self._scaler(),
                target_type=self._target_type,
                seed=self._inputs_seed(),
            )
        rows = replace(rows, X=X)
        if held_out is not None:
            held_out = replace(held_out, X=inputs.of_rows(held_out.X))
        return inputs, rows, held_out

    def _scaler(self) -> SmoothRobustScaler | None:
        """What scales the columns, where they are scaled."""
        asked = self.module is None if isinstance(self.scale_inputs, str) else self.scale_inputs
        if not asked:
            return None
        # A linear network is to be linear in X: its columns are scaled and not bent.
        return SmoothRobustScaler() if self._is_bent() else SmoothRobustScaler(clip=None)

    def _is_bent(self) -> bool:
        return self.module is not None or np.size(self.hidden_layer_sizes) > 0

    def _inputs_seed(self) -> int:
        """For folds of target means and for frequencies; no draw of a generator is used up."""
        return seed_of(copy.deepcopy(self.random_state))

    def _prepared(self, problem: Problem) -> Problem:
        """With encoded and stretched columns, which a fit that goes on has already."""
        if self._continues(chunk=problem.chunk):
            return replace(problem, rescalings=vars(self).get("rescalings_", 0))
        if self.module is None and problem.inputs.scaler is None:
            warn(unscaled(problem), UserWarning)
        return self._stretched(self._encoded(problem))

    def _stretched(self, problem: Problem) -> Problem:
        """With columns that first flows have stretched."""
        problem = replace(problem, rescalings=self._n_rescalings(problem))
        for k in range(problem.rescalings):
            name = f"rescaling {k}"
            factors = partial(self._factors, problem.within(name), k)
            problem = problem.stretched(once(problem.checkpoint, name, factors))
        return problem

    def _check_chunk(self) -> None:
        """Refuse what needs all rows."""
        if self._is_fitted():  # scikit-learn looks at the parameters of the first call only
            self._validate_params()
        if self.method != "exponential":
            raise ValueError(
                f"method={self.method!r} integrates the full batch; set method='exponential' "
                "for partial_fit"
            )
        if self.early_stopping:
            raise ValueError(
                f"partial_fit cannot stop early, and early_stopping={self.early_stopping!r}; set "
                "early_stopping=False, and score between the chunks"
            )

    # -- use ---------------------------------------------------------------------------------------

    def _model(self, X: ArrayLike) -> np.ndarray:
        """f_θ(X) − f_θ₀(X) at the solution, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        with undisturbed():
            return self._network.model(streamed(self._inputs, self, X))

    def _staged_models(self, X: ArrayLike) -> Iterator[np.ndarray]:
        """f_θ(X) − f_θ₀(X) at every recorded point."""
        check_is_fitted(self)
        if self._network.path is None:
            raise ValueError(
                "staged predictions need the parameters along the path; set store_path=True "
                "before fit"
            )
        with undisturbed():
            checked = self._inputs.read(self, X)
        return each_undisturbed(self._network.models(checked, self._network.path))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
