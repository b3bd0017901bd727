"""How far a kernel has turned towards the targets, and how many modes it has; no Gram is formed.

Both are of the centred kernel HGH: H takes the mean over the samples out of each output, since the
constant mode, the largest of most kernels, says nothing of features. Notation: docs/notation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.dynamics.callbacks import Callback, Event
from sklearn_gflow.geometry import TangentMap

__all__ = ["KernelAlignment", "KernelShape", "kernel_shape"]


class KernelShape(NamedTuple):
    """What a centred kernel looks like beside targets.

    Attributes
    ----------
    alignment : float
        ⟨HGH, ỹỹᵀ⟩/(|HGH| |ỹ|²) with ỹ = Hy, in [0, 1]: the centred kernel alignment of Cortes,
        Mohri and Rostamizadeh (2012). It is 1 where the kernel knows nothing but the targets, and
        NaN where either of them is zero.
    effective_rank : float
        tr(HGH)²/|HGH|², between 1 and the rank: the number of modes if all were alike.
    """

    alignment: float
    effective_rank: float


def kernel_shape(tangent: TangentMap, targets: Tensor, n_probes: int = 24) -> KernelShape:
    """Alignment with targets and effective rank of the centred kernel at a point.

    The trace and the Frobenius norm are those of Hutch++ [1]_: exact on the range of a sketch of
    ``n_probes`` columns, by random signs on its complement. Where the sketch would be as large as
    the kernel itself, they are exact. ỹᵀGỹ always is.

    .. [1] Meyer, Musco, Musco, Woodruff, "Hutch++: optimal stochastic trace estimation", SOSA 2021.

    Parameters
    ----------
    tangent : TangentMap
        D at one θ.
    targets : Tensor of shape (Q·N,)
        y, in the coordinates of the output map.
    n_probes : int
        Columns of the sketch, and as many signs: three products with G each.

    Returns
    -------
    KernelShape
    """
    y = _centred(tangent, targets[:, None])
    square = float(y.square().sum())
    towards = float(tangent.pull(y[:, 0]).square().sum())  # ỹᵀGỹ = |Dᵀỹ|²
    trace, norm_squared = _trace_and_norm(tangent, n_probes)
    if not norm_squared > 0:
        return KernelShape(math.nan, math.nan)
    alignment = towards / (math.sqrt(norm_squared) * square) if square else math.nan
    return KernelShape(alignment, trace**2 / norm_squared)


class KernelAlignment(Callback):
    """Columns "kernel_alignment" and "effective_rank" of a flow: its kernel against its features.

    Where the kernel stays, the flow is that of a kernel method; where its alignment rises, the
    network has learnt features. See `kernel_shape`.

    Parameters
    ----------
    targets : Tensor of shape (Q·N,)
        y, in the coordinates of the output map: ``cost.minimizer(x)`` of the squared error.
    n_probes : int
        See `kernel_shape`.
    """

    uses_gram = True

    def __init__(self, targets: Tensor, n_probes: int = 24) -> None:
        self.targets, self.n_probes = targets, n_probes

    def start(self, event: Event) -> Mapping[str, float]:
        """That of the start."""
        return self.step(event)

    def step(self, event: Event) -> Mapping[str, float]:
        """That of a point."""
        shape = kernel_shape(event.point.tangent, self.targets, self.n_probes)
        return {"kernel_alignment": shape.alignment, "effective_rank": shape.effective_rank}


def _trace_and_norm(tangent: TangentMap, n_probes: int) -> tuple[float, float]:
    """tr(HGH) and |HGH|²."""
    like = tangent.outputs
    size = len(like)
    if size <= 2 * n_probes:
        image = _image(tangent, torch.eye(size, dtype=like.dtype, device=like.device))
        return float(image.trace()), float(image.square().sum())
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (2 * n_probes, size), generator=generator)
    drawn = (2.0 * signs - 1).to(like).mT
    Q = torch.linalg.qr(_image(tangent, drawn[:, :n_probes]))[0]
    z = drawn[:, n_probes:]
    z = z - Q @ (Q.mT @ z)
    on_sketch, beside = _image(tangent, Q), _image(tangent, z)
    trace = float((Q * on_sketch).sum() + (z * beside).sum() / n_probes)
    # |A|² = |AQ|² + |A(1 − QQᵀ)|², with E|A(1 − QQᵀ)z|² for the second.
    return trace, float(on_sketch.square().sum() + beside.square().sum() / n_probes)


def _image(tangent: TangentMap, u: Tensor) -> Tensor:
    """HGH u of columns."""
    return _centred(tangent, tangent.gram_times(_centred(tangent, u)))


def _centred(tangent: TangentMap, u: Tensor) -> Tensor:
    """H u of columns; with weights the constant function is W^½1."""
    values = u.view(tangent.n_samples, tangent.n_outputs, -1)
    w = tangent.sample_weights
    root = w.sqrt()[:, None, None]
    return (values - root * (root * values).sum(0) / w.sum()).reshape(u.shape)
