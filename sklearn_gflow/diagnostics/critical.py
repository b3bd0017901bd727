"""Where D loses rank: by depth and width at a start, and how large the set of equilibria is.

Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.geometry import (
    Cost,
    DifferentiableMap,
    LayeredNetwork,
    OutputMap,
    gram_spectrum,
    tangent_spectrum,
)
from sklearn_gflow.geometry.vectors import norm

__all__ = ["CriticalSet", "RankAt", "critical_set", "rank_by_shape"]

# Derivatives are differences over so much of |θ|; what they leave of a zero eigenvalue, relative.
_DIFFERENCE, _RESOLVED = 1e-5, 1e-6


class RankAt(NamedTuple):
    """Rank of D of a network of one shape.

    Attributes
    ----------
    depth, width : int
        Number of hidden layers, and of units in each.
    n_params, size : int
        K and Q·N: the rank is at most the smaller.
    rank : int
        Of D.
    condition : float
        Of G on its range.
    """

    depth: int
    width: int
    n_params: int
    size: int
    rank: int
    condition: float


def rank_by_shape(
    X: Tensor,
    depths: Sequence[int],
    widths: Sequence[int],
    *,
    n_outputs: int = 1,
    activation: str = "tanh",
    seed: int = 0,
) -> list[RankAt]:
    """Rank and condition of D at random starts, against depth and width.

    Parameters
    ----------
    X : Tensor of shape (n_samples, n_features)
        Inputs; ``model.start_of(X, y).output_map.X`` are those of an estimator.
    depths, widths : sequence of int
        Hidden layers, and units in each.
    n_outputs : int
        Q.
    activation : str
        A name in `geometry.ACTIVATIONS`.
    seed : int
        Of the starts.

    Returns
    -------
    list of RankAt
        For every depth all widths.

    Raises
    ------
    FactorizationError
        If eigenvalues could not be had.
    """
    found = []
    for depth in depths:
        for width in widths:
            network = LayeredNetwork((X.shape[1], *[width] * depth, n_outputs), activation)
            theta = network.initial(torch.Generator().manual_seed(seed)).to(X)
            tangent = OutputMap(network, X).linearize(theta)
            spectrum = tangent_spectrum(tangent)
            size = len(tangent.outputs)
            shape = depth, width, network.n_params, size
            found.append(RankAt(*shape, spectrum.rank, spectrum.condition))
    return found


class CriticalSet(NamedTuple):
    """How large the set of equilibria is near one of them.

    Attributes
    ----------
    predicted : int
        K − rank D: V is a section of ran Dᵀ, whose zeros are given by rank D equations;
        of Chen (arXiv:2311.15487) is that they are generically not isolated.
    measured : int
        Dimension of the kernel of the Hessian of C∘x, in which the tangent space of the set lies.
    gradient : float
        |∇θC|, which should be zero.
    """

    predicted: int
    measured: int
    gradient: float


def critical_set(output_map: DifferentiableMap, cost: Cost, theta: Tensor) -> CriticalSet:
    """Dimension of the set of equilibria at one of them, predicted and measured.

    The prediction takes the rank of D to be constant nearby. Where it is lost at the point alone
    the set is smaller. The Hessian is formed of 2K differences of ∇θC: for small networks, in
    float64.

    Parameters
    ----------
    output_map : DifferentiableMap
        θ ↦ x(θ).
    cost : Cost
        C.
    theta : Tensor of shape (K,)
        An equilibrium.

    Returns
    -------
    CriticalSet

    Raises
    ------
    FactorizationError
        If eigenvalues could not be had.
    """

    def gradient(at: Tensor) -> Tensor:
        tangent = output_map.linearize(at)
        return tangent.pull(cost.gradient(tangent.outputs))

    step = _DIFFERENCE * max(norm(theta) / len(theta) ** 0.5, 1e-3)
    units = step * torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
    columns = [(gradient(theta + e) - gradient(theta - e)) / (2 * step) for e in units]
    hessian = torch.stack(columns)
    hessian = (hessian + hessian.mT) / 2
    rank = tangent_spectrum(output_map.linearize(theta)).rank
    # Singular values of the Hessian are those whose squares are the eigenvalues of its square.
    bent = gram_spectrum(hessian @ hessian, rcond=_RESOLVED).rank
    return CriticalSet(len(theta) - rank, len(theta) - bent, norm(gradient(theta)))
