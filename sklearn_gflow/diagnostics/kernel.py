"""The tangent kernel (3.14)–(3.17): blocks, definiteness, the α-flow's kernel, drift.

Kernel matrices are sample-major, as everywhere: rows i·Q … (i+1)·Q − 1 belong to sample i.
Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Event
from sklearn_gflow.geometry import TangentFactor, TangentMap, gram_spectrum
from sklearn_gflow.geometry.vectors import norm

__all__ = [
    "Definiteness",
    "KernelDrift",
    "adapted_kernel",
    "kernel_blocks",
    "kernel_drift",
    "positive_definite",
]


def kernel_blocks(kernel: Tensor, n_outputs: int) -> Tensor:
    """Cut a kernel matrix, shape (n·Q, m·Q), into its blocks Θ(xᵢ, yⱼ), shape (n, m, Q, Q)."""
    blocks = kernel.unflatten(1, (-1, n_outputs)).unflatten(0, (-1, n_outputs))
    return blocks.permute(0, 2, 1, 3)


class Definiteness(NamedTuple):
    """Outcome of the test (3.16).

    Attributes
    ----------
    positive : bool
        Whether the kernel is positive definite on the samples: D has full rank.
    margin : float
        Smallest over largest eigenvalue.
    threshold : float
        What the margin must exceed: smaller eigenvalues are rounding.
    """

    positive: bool
    margin: float
    threshold: float


def positive_definite(gram: Tensor, *, rcond: float | None = None) -> Definiteness:
    """Test whether Θ is positive definite on these samples (3.16).

    Parameters
    ----------
    gram : Tensor of shape (Q·N, Q·N)
        G = DDᵀ.
    rcond : float or None
        Relative threshold on singular values of D.

    Returns
    -------
    Definiteness

    Raises
    ------
    FactorizationError
        If the kernel is not finite, or its eigenvalues could not be had.
    """
    spectrum = gram_spectrum(gram, rcond=rcond)
    largest = float(spectrum.eigenvalues[0])
    margin = float(spectrum.eigenvalues[-1]) / largest if largest > 0 else 0.0
    return Definiteness(spectrum.rank == len(gram), margin, spectrum.threshold**2)


def adapted_kernel(
    factor: TangentFactor, tangent: TangentMap, alpha: float, scale: float = 1.0
) -> Tensor:
    """α P + (1−α)G/c, the kernel that drives the outputs of the α-flow (2.39), (3.17).

    At α = 1 and full rank it is δᵢⱼ1, whatever the network.

    Parameters
    ----------
    factor : TangentFactor
        Of D.
    tangent : TangentMap
        x(θ) and D.
    alpha, scale : float
        α and c.

    Returns
    -------
    Tensor of shape (Q·N, Q·N)
    """
    like = tangent.outputs
    identity = torch.eye(len(like), dtype=like.dtype, device=like.device)
    projector = factor.project(identity)
    if alpha == 1:
        return projector
    return alpha * projector + tangent.gram() * ((1 - alpha) / scale)


def kernel_drift(start: Tensor, end: Tensor) -> float:
    """|G − G₀|/|G₀| in the Frobenius norm, of two Gram matrices."""
    return float(torch.linalg.matrix_norm(end - start) / torch.linalg.matrix_norm(start))


class KernelDrift(Callback):
    """The kernel's drift |G − G₀|/|G₀| along a flow, without a second Gram.

    E|A z|² = |A|² for random signs z: a few probes estimate both norms, each by one product with
    G where the flow holds it, and by one backward and one forward pass elsewhere.

    Parameters
    ----------
    n_probes : int
        The relative standard error of the estimate is about 1/√(2·n_probes).
    """

    uses_gram = True

    def __init__(self, n_probes: int = 8) -> None:
        self.n_probes = n_probes

    def start(self, event: Event) -> Mapping[str, float]:
        """Apply G₀ to the probes; in a flow that goes on it is that of the first one."""
        like = event.point.outputs
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (self.n_probes, len(like)), generator=generator)
        self.probes = (2.0 * signs - 1).to(like).mT
        self.at_start = (event.origin or event.point).tangent.gram_times(self.probes)
        return {"ntk_drift": 0.0} if event.origin is None else self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """Compare G with G₀ on the probes."""
        images = event.point.tangent.gram_times(self.probes)
        size = norm(self.at_start) or 1.0
        return {"ntk_drift": norm(images - self.at_start) / size}
