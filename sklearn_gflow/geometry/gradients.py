"""Derivatives of outputs in the inputs, through any function that torch can follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["gradients_of_rows"]


def gradients_of_rows(f: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """∂f/∂x at each row of X of a function that treats rows apart, by one pass back an output.

    Parameters
    ----------
    f : callable
        (n_samples, n_features) ↦ (n_samples, n_outputs).
    X : Tensor of shape (n_samples, n_features)

    Returns
    -------
    Tensor of shape (n_samples, n_outputs, n_features)
    """
    X = X.detach().requires_grad_()
    with torch.enable_grad():
        outputs = f(X)
        sums = outputs.sum(dim=0).unbind()
    passes = [torch.autograd.grad(total, X, retain_graph=True)[0] for total in sums]
    return torch.stack(passes, dim=1)
