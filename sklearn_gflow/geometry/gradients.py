"""Derivatives of outputs in the inputs, through any function that torch can follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["gradients_of_rows"]


def gradients_of_rows(f: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """∂f/∂x at each row of X of a function that treats rows apart, by one pass back an output.

    Zero where no derivative leads back to X, as from an embedding, to which inputs are numbers of
    levels.

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
    return torch.stack([_gradient(total, X) for total in sums], dim=1)


def _gradient(total: Tensor, X: Tensor) -> Tensor:
    if not total.requires_grad:
        return torch.zeros_like(X)
    return torch.autograd.grad(total, X, retain_graph=True, materialize_grads=True)[0]
