"""The regressor: how targets are checked and coded, predictions with their errors, the score.

Training itself is in `_base` and `_training`, the units of the targets are in `_losses` and
`_coding`. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.contract import described
from sklearn_gflow.estimators._attributes import (
    IMPORTANCE,
    INPUTS,
    KERNEL,
    LAYERS,
    PATH,
    START,
    TARGETS,
)
from sklearn_gflow.estimators._base import BaseAdaptedFlow
from sklearn_gflow.estimators._coding import CodedNumbers, columns
from sklearn_gflow.estimators._conformal import Intervals
from sklearn_gflow.estimators._judgement import score_by
from sklearn_gflow.estimators._judges import ExplainedShare
from sklearn_gflow.estimators._losses import LossOfNumbers
from sklearn_gflow.estimators._mapped import OverPartitions
from sklearn_gflow.estimators._parameters import NumberParameters
from sklearn_gflow.estimators._partitions import surveyed
from sklearn_gflow.estimators._problem import Ended, Problem
from sklearn_gflow.estimators._rows import Rows
from sklearn_gflow.estimators._standard_errors import KeptRows
from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._tensors import readable
from sklearn_gflow.estimators._validation import _fit_context, check_weights

__all__ = ["AdaptedFlowRegressor"]

_CHECK_Y = {"multi_output": True, "y_numeric": True}


@described(PATH, KERNEL, LAYERS, IMPORTANCE, TARGETS, START, INPUTS)
@dataclass(eq=False, repr=False, kw_only=True)
class AdaptedFlowRegressor(
    OverPartitions, Intervals, RegressorMixin, NumberParameters, BaseAdaptedFlow
):
    """Neural-network regression trained by the α-family of gradient flows.

    ``alpha`` is the homotopy between the standard gradient flow (0) and the adapted flow (1) of
    [1]_, not the L2 strength that `sklearn.neural_network.MLPRegressor` gives that name.

    The parameters θ of a layered network x(θ) follow, full batch,

        θ' = −(α (DᵀD)⁺ + (1−α)/c) ∇θC,   C = |x − y|²/(2N),   D = ∂x/∂θ,

    in the time t = 1 − e^{−s/N} (2.32), (2.48), (2.52). At ``alpha=1`` and full rank of D the
    training outputs move in a straight line from their mean to the labels, and
    ``loss_curve_[k] / loss_curve_[0] == (1 - history_["t"][k])**2`` to the step tolerance.

    See Also
    --------
    AdaptedFlowClassifier : The same flow on class labels.

    References
    ----------
    .. [1] T. Chen, P. Muñoz Ewald, "Gradient flow in parameter space is equivalent to linear
       interpolation in output space", arXiv:2408.01517, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_gflow import AdaptedFlowRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> flow = AdaptedFlowRegressor((64, 64), alpha=1.0, t_end=1.0, random_state=0)
    >>> model = make_pipeline(StandardScaler(), flow).fit(X, y)
    >>> bool(flow.loss_ <= 1e-20), flow.ntk_rank_
    (True, 442)
    """

    _target_type = "continuous"

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Follow the flow over one chunk of rows, from the last solution if there is one.

        The rows are cut into blocks of ``batch_size`` rows, 256 for "auto" and all for None, and
        each block flows once. All steps are as long as the first ones of a fit in blocks:
        h = 0.5 at the default ``t_end``; to let noise die out, lower ``t_end`` for the last
        chunks. The first call draws the start θ₀, takes ``target_mean_`` and ``target_scale_``
        from its chunk, and the unit c of ``metric_scale="trace"``; later calls keep them, so
        the first chunk should be no exception. After ``fit`` it goes on from there.

        Points are appended to ``history_`` and ``loss_curve_``: the loss is that of the chunk
        after its pass. Time adds up as if every chunk were all rows. What describes the
        solution (kernel, ``outcome_``, ``solver_``) is that of the last chunk.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs of the chunk; at least two rows in the first call.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets of the chunk.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of k counts as k copies of the row in its block, zero as its absence. Weights
            whose mean in the chunk, zeros left out, is below 1 are relative, as in ``fit``.

        Returns
        -------
        self : AdaptedFlowRegressor
            Fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, do not fit what was learnt before, or
            training leaves the finite numbers.
        GramMemoryError
            If the Gram of a block would not fit into memory.
        """
        with undisturbed():
            self._check_chunk()
            rows, described = self._checked(X, y, sample_weight, chunk=True)
            attributes = self._fitted_chunk((X, y, sample_weight), rows, None, described)
        return self._write(attributes)

    def _validate(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, X_val: Any, y_val: Any
    ) -> Problem:
        rows, described = self._checked(X, y, sample_weight)
        rows, held_out = self._split(rows, described, X_val, y_val, labels=None, **_CHECK_Y)
        if held_out is not None:
            self._check_held_out(rows, held_out)
        return self._problem(rows, held_out, described)

    def _checked(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, chunk: bool = False
    ) -> tuple[Rows, dict[str, Any]]:
        return self._checked_rows(*surveyed(X, y, sample_weight), chunk=chunk, **_CHECK_Y)

    def _problem(
        self,
        rows: Rows,
        held_out: Rows | None,
        described: dict[str, Any],
        classes: np.ndarray | None = None,
        *,
        chunk: bool = False,
    ) -> Problem:
        coding = self._learnt_coding(rows, chunk=chunk)
        score = score_by(self, coding, held_out)
        inputs, rows, held_out = self._as_columns(rows, held_out, chunk=chunk)
        judging = None if held_out is None else coding.data(held_out)
        return Problem(
            coding.data(rows), coding, coding.loss, described, inputs, judging,
            chunk=chunk, score=score,
        )  # fmt: skip

    @staticmethod
    def _check_held_out(rows: Rows, held_out: Rows) -> None:
        if held_out.y.shape[1:] != rows.y.shape[1:]:
            raise ValueError(
                f"y_val must have the outputs of y, shape (n, *{rows.y.shape[1:]}); got shape "
                f"{held_out.y.shape}"
            )
        if len(held_out.y) < 2:
            raise ValueError(
                "early_stopping=True needs at least 2 rows to score; raise validation_fraction, "
                "or hand over more rows in X_val and y_val"
            )

    def _learnt_coding(self, rows: Rows, *, chunk: bool = False) -> CodedNumbers:
        """Units of the targets; those of the last fit where it is continued."""
        asked = LossOfNumbers.of(self.loss, self.quantile)
        if not self._continues(chunk=chunk):
            return CodedNumbers.learnt(rows, asked, self.dtype)
        coding: CodedNumbers = self._coding
        if asked.loss != coding.loss:
            raise ValueError(self._other_loss(coding.loss, asked.loss, chunk=chunk))
        n_outputs = rows.y.shape[1] if np.ndim(rows.y) > 1 else 1
        if n_outputs != self.n_outputs_:
            raise ValueError(
                f"{self._continuing(chunk)} continues from the last fit, which had "
                f"{self.n_outputs_} outputs, and y has {n_outputs}; keep them, or start "
                "anew by fit with warm_start=False"
            )
        return coding.shaped_like(rows.y)

    def _expose(self, ended: Ended) -> dict[str, Any]:
        """Fitted attributes, with the rows that standard deviations are computed from."""
        seen = self._kept.n_train if self._continues(chunk=True) and ended.problem.chunk else 0
        attributes = super()._expose(ended)
        return attributes | KeptRows.of(ended, seen).attributes()

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Predict targets, and how far new observations should be from them.

        ``return_std`` reads the network as the Gaussian process whose covariance is its tangent
        kernel Θ at the start, with an amplitude and a noise for each output under which rows left
        out are the most probable. The standard deviation is √E[(y − prediction)²] of a new
        observation y under this process given the training rows: its variance, noise included,
        and the square of what the prediction lacks of its mean.

        Nothing of it is computed in ``fit``. The first call takes an eigendecomposition for each
        output, which later calls find in memory, and pickles do without. Where not all rows are
        kept (``X_train_``), the kernel is that of the solution on a subsample whose rows stand for
        all, the network stands for the mean, and the noise is read off its residuals on these
        rows, with the degrees of freedom that the kernel takes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            Whether to return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            As y had it in ``fit``.
        std : ndarray of the same shape
            In units of y; only with ``return_std``.
        """
        check_is_fitted(self)
        if not return_std:
            return self._coding.predictions(self._model(X))
        with undisturbed():
            columns = self._inputs.read(self, X)
            model = self._network.model(columns)
        return self._coding.predictions(model), self._deviations(columns, model)

    def _deviations(self, columns: Any, model: np.ndarray) -> np.ndarray:
        """Standard deviations for columns of the network, of which it made f_θ − f_θ₀."""
        coding: CodedNumbers = self._coding
        if not coding.loss.squared:
            raise ValueError(
                "return_std reads the network as a Gaussian process, and "
                f"loss={coding.name!r} is no squared error; fit with loss='squared_error'"
            )
        with undisturbed():
            errors = self._kept.expected_errors(self._network, columns, model)
        deviations = coding.rounded(coding.target_scale * errors, model)
        return coding.shaped(coding.in_range(deviations))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of the loss that is explained: R², or D² of the loss that was trained on.

        D² is 1 − C(predictions)/C(best constant): for "poisson" and "gamma" that of
        `sklearn.metrics.d2_tweedie_score`, for "quantile", but for the smoothing, that of
        `sklearn.metrics.d2_pinball_score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Sample weights.

        Returns
        -------
        float
            At most 1; 0 for the best constant.
        """
        check_is_fitted(self)
        coding: CodedNumbers = self._coding
        X, y, sample_weight = self._surveyed(X, readable(y, "y"), sample_weight)
        if coding.loss.squared:
            return float(super().score(X, y, sample_weight))
        checked = check_array(y, ensure_2d=False, dtype=np.float64)
        weights = check_weights(sample_weight, checked)
        outputs = coding.start + self._model(X)
        if columns(checked).shape != outputs.shape:
            raise ValueError(
                f"y must have a value for each row of X and each output, shape {outputs.shape}; "
                f"got shape {checked.shape}"
            )
        return ExplainedShare(coding.loss, coding.targets(checked), weights)(outputs)[0]

    def staged_predict(self, X: ArrayLike) -> Iterator[np.ndarray]:
        """Predict targets at every point of the path, the start first; needs ``store_path``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs.

        Yields
        ------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions at the time ``history_["t"][k]``.

        Raises
        ------
        ValueError
            If the path was not stored.
        """
        for model in self._staged_models(X):
            yield self._coding.predictions(model)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
