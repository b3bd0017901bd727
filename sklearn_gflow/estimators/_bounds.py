"""What a fitted network says of rows it has not learnt, by norms and distances alone.

Notation: docs/notation.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.diagnostics import GeneralizationBound, generalization_bound, lipschitz_bound

__all__ = ["Bounded"]


class Bounded:
    """An estimator with one layered network."""

    def generalization_bound(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_test: ArrayLike,
        y_test: ArrayLike | None = None,
    ) -> GeneralizationBound:
        """Bound the error on test rows by their distance from training rows and norms of weights.

        Of f_θ − f_θ₀, whose Lipschitz constant is at most the sum of those of its two networks.
        Errors are those of outputs in the units of the network: numbers less their mean in units of
        ``target_scale_``, or codes of classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their targets.
        X_test : array-like of shape (n_test, n_features)
            Test inputs.
        y_test : array-like of shape (n_test,) or (n_test, n_outputs), optional
            Their targets; without them the bound is for targets like those of the training rows
            nearby, see `diagnostics.generalization_bound`.

        Returns
        -------
        GeneralizationBound

        Raises
        ------
        ValueError
            If the network is a module, or outputs are logits or logarithms, not like targets.
        """
        check_is_fitted(self)
        this: Any = self
        if not hasattr(self, "coefs_"):
            raise ValueError(
                "the bound needs norms of weights, and module has none that are known; set "
                "module=None, or call diagnostics.generalization_bound with a Lipschitz constant"
            )
        loss = getattr(this, "loss_name_", this.loss)
        if loss == "log_loss" or getattr(this._coding.loss, "link", "identity") != "identity":
            raise ValueError(
                f"loss={loss!r} has outputs on another scale than targets; set "
                "loss='squared_error' for a bound"
            )
        targets = np.asarray(this._coding.targets(np.asarray(y)))
        rows, test = (np.asarray(this._inputs.read(self, part)) for part in (X, X_test))
        outputs = this._network.model(rows) + this._coding.start
        activation = this._network.architecture.activation
        lipschitz = sum(
            lipschitz_bound(weights, activation) for weights in (this.coefs_, this.coefs_init_)
        )
        labels = {}
        if y_test is not None:
            labels = {"targets": targets, "targets_test": this._coding.targets(np.asarray(y_test))}
        return generalization_bound(rows, outputs - targets, test, lipschitz, **labels)
