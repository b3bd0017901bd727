"""The tangent kernel of a fitted network, on any inputs. Notation: docs/notation.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_gflow.estimators._surroundings import undisturbed
from sklearn_gflow.estimators._tensors import to_numpy

__all__ = ["OfKernel"]


class OfKernel:
    """What an estimator with one network knows of its kernel."""

    def ntk(self, X: ArrayLike, Y: ArrayLike | None = None, *, at: str = "solution") -> np.ndarray:
        """Tangent kernel Θ(xᵢ, yⱼ) (3.14)–(3.15) of the fitted network.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            First sample set.
        Y : array-like of shape (m, n_features), optional
            Second sample set; X itself by default.
        at : {"solution", "start"}, default="solution"
            Where on the path: at θ of the solution, or at θ₀.

        Returns
        -------
        ndarray of shape (n·Q, m·Q)
            Sample-major: rows ``i·Q … (i+1)·Q − 1`` belong to sample i. Q is ``n_outputs_``.
            Outputs are those of the network, in units of the scaled targets.

        Raises
        ------
        ValueError
            If X or Y do not fit what was learnt, or ``at`` is no point of the path.
        """
        check_is_fitted(self)
        if at not in ("solution", "start"):
            raise ValueError(f'at must be "solution" or "start"; got {at!r}')
        this: Any = self
        network, inputs = this._network, this._inputs
        theta = network.theta if at == "solution" else network.reference
        with undisturbed():
            first = network.linearize(inputs.read(self, X), theta)
            if Y is None:
                return to_numpy(first.gram())
            other = network.linearize(inputs.read(self, Y), theta)
            return to_numpy(first.cross_gram(other))
