"""What each training row did: contributions to predictions, and residuals of rows left out.

Both are read off a flow in dual form (`dynamics.dual`). Over a step the outputs at any inputs
change by the mean of their Jacobian on the way times Δθ = Dᵀu, so that

    f(x) − f₀(x) = Σ_steps Σⱼ K̄(x, xⱼ) uⱼ,    K̄ = ∫₀¹ D_x(θ + aΔθ) da Dᵀ,

in which a training row has a summand of its own. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sklearn_gflow.dynamics import DualStep, exponential
from sklearn_gflow.geometry import Linearization, OutputMap, gram_eigenvectors
from sklearn_gflow.geometry.output_map import Tangent
from sklearn_gflow.geometry.resolvents import ridge_terms

__all__ = ["LeftOutAlong", "contributions", "mean_kernel"]

# Gauss points of the mean over a step. With five, steps as long as those of a fit add up to 1e-8;
# with two, residuals of rows left out differ by less than what else they neglect.
_EXACT, _ENOUGH = 5, 2
# What has no ridge is given one of so much of the largest eigenvalue.
_LEAST_RIDGE = 1e-12


def mean_kernel(step: DualStep, output_map: OutputMap, points: int = _EXACT) -> Tensor:
    """K̄ between the samples of an output map and the training rows, over a step.

    Parameters
    ----------
    step : DualStep
        Of a flow on the training rows.
    output_map : OutputMap
        Of the same family on any samples.
    points : int
        Gauss points of the mean.

    Returns
    -------
    Tensor of shape (Q·n, Q·N)
        In the coordinates of both maps: W^½ on the left and on the right.
    """
    start, end, tangent = step.point.theta, step.end.theta, step.point.tangent
    assert isinstance(tangent, Tangent)
    places, masses = np.polynomial.legendre.leggauss(points)
    kernel = start.new_zeros(output_map.size, len(tangent.outputs))
    for place, mass in zip((places + 1) / 2, masses / 2, strict=True):
        on_the_way = output_map.linearize(start + float(place) * (end - start))
        kernel += float(mass) * _cross_gram(on_the_way, tangent)
    return kernel


def contributions(steps: Iterable[DualStep], output_map: OutputMap) -> Tensor:
    """What each training row contributed to the outputs at some samples.

    Parameters
    ----------
    steps : iterable of DualStep
        A flow on the training rows, to its end.
    output_map : OutputMap
        Of the same family on any samples, without weights.

    Returns
    -------
    Tensor of shape (n, Q, N)
        Summed over the last axis they are f_θ − f_θ₀ at the samples, to the error of a
        quadrature over each step.

    Raises
    ------
    ValueError
        If there is no step.
    """
    n, Q = output_map.n_samples, output_map.n_outputs
    total = None
    for step in steps:
        parts = (mean_kernel(step, output_map) * step.dual).view(n, Q, -1, Q).sum(-1)
        total = parts if total is None else total.add_(parts)
    if total is None:
        raise ValueError("a flow of no step has no contributions")
    return total


@dataclass
class LeftOutAlong:
    """Residuals of rows that are left out in turn, along the flow of the squared error.

    For each row i it follows the residual r⁽ⁱ⁾ = y − x⁽ⁱ⁾ of the flow that row i does not drive, at
    all rows, i included. A step of the flow fits g(λ) = λf(λ + μ) of each mode, which is written as
    ridge regressions, g(λ) ≈ Re Σ wⱼλ/(λ + pⱼ), of which each is without row i in closed form: the
    dual coefficients (G + p)⁻¹(r − eᵢLᵢ) vanish at i for

        Lᵢ = [(G + p)⁻¹]ᵢᵢ⁻¹ [(G + p)⁻¹ r]ᵢ,

    with Q×Q blocks in place of numbers for Q outputs. The kernels are those along the path of all
    rows, over each step on average: a network that learns features does so without row i almost as
    with it, while the kernel of the start, on which `LeaveOneOut` stands, knows nothing of them.
    Residuals are too small by that difference, by one to four per cent where it was measured.

    Parameters
    ----------
    estimated_mean : bool
        Whether the start is the weighted mean of y, to be estimated without the row as well.
    """

    estimated_mean: bool = True
    _residuals: Tensor | None = field(default=None, repr=False)
    _tangent: Tangent | None = field(default=None, repr=False)

    def follow(self, steps: Iterable[DualStep]) -> LeftOutAlong:
        """Follow a flow on the training rows to its end; returns itself.

        Raises
        ------
        FactorizationError
            If the Gram of a point could not be decomposed.
        """
        for step in steps:
            if self._residuals is None:
                self._residuals = self._at_start(step)
            self._residuals = self._after(step, self._residuals)
        return self

    def residuals(self) -> Tensor:
        """yᵢ − x⁽ⁱ⁾ of each row that was left out, without weights, shape (n_samples, Q)."""
        assert self._residuals is not None
        assert self._tangent is not None
        return self._tangent.unweigh(_own(self._residuals, self._tangent.n_samples).reshape(-1))

    def _at_start(self, step: DualStep) -> Tensor:
        """r⁽ⁱ⁾ at the start, a column a row i, shape (Q·N, N)."""
        tangent = step.point.tangent
        r = step.point.residual.double()
        columns = r[:, None].expand(-1, tangent.n_samples).clone()
        if not self.estimated_mean:
            return columns
        # Without row i the mean is lower by wᵢ(yᵢ − ȳ)/(W − wᵢ), and all residuals are larger.
        w = tangent.sample_weights.double()
        shift = w[:, None] * tangent.unweigh(r) / (w.sum() - w)[:, None]
        return columns + (w.sqrt()[:, None, None] * shift.mT).flatten(0, 1)

    def _after(self, step: DualStep, residuals: Tensor) -> Tensor:
        tangent, frozen = step.point.tangent, step.frozen
        assert isinstance(tangent, Tangent)
        self._tangent = tangent
        n_samples = tangent.n_samples
        eigenvalues, V = (part.double() for part in gram_eigenvectors(tangent.gram()))
        eigenvalues = eigenvalues.clamp_min(0)
        ridge = max(frozen.ridge, _LEAST_RIDGE * float(eigenvalues[-1]))
        f = exponential(frozen.alpha, step.h, frozen.scale)
        turns = [] if f.turn is None else [1 / f.turn]
        weights, poles = ridge_terms(lambda lam: lam * f(lam + ridge), turns, ridge, eigenvalues)
        coordinates = V.mT @ residuals
        dual = f(eigenvalues + ridge)[:, None] * coordinates
        resolvents = 1 / (poles[:, None] + eigenvalues)
        blocks = V.view(n_samples, -1, len(V))
        left_out = _left_out(resolvents, blocks, coordinates)
        for q in range(blocks.shape[1]):
            of_output = (weights[:, None] * resolvents).mT @ left_out[..., q]
            dual = dual - blocks[:, q].mT * of_output.real
        kernel = mean_kernel(step, tangent.output_map, _ENOUGH).double()
        own = kernel @ step.dual.double()
        # What the frozen flow misses is missed without a row as well.
        missed = step.point.residual.double() - own - step.end.residual.double()
        return residuals - kernel @ (V @ dual) - missed[:, None]


def _left_out(resolvents: Tensor, blocks: Tensor, coordinates: Tensor) -> Tensor:
    """L of every pole and row, shape (n_p, N, Q)."""
    size = blocks.shape[1]
    kind = resolvents.dtype
    rows = [(blocks[:, q] * coordinates.mT).to(kind) for q in range(size)]
    found = torch.stack([resolvents @ row.mT for row in rows], dim=-1)
    diagonal = torch.stack(
        [
            torch.stack(
                [resolvents @ (blocks[:, q] * blocks[:, k]).to(kind).mT for k in range(size)], -1
            )
            for q in range(size)
        ],
        dim=-2,
    )
    return torch.linalg.solve_ex(diagonal, found[..., None])[0][..., 0]


def _own(columns: Tensor, n_samples: int) -> Tensor:
    """The part of each column that belongs to its own row, shape (N, Q)."""
    return columns.view(n_samples, -1, n_samples).diagonal(dim1=0, dim2=2).mT


def _cross_gram(left: Tangent, right: Tangent) -> Tensor:
    """D_left D_rightᵀ in the coordinates of both maps."""
    inner: Linearization = left.inner
    kernel = inner.cross_gram(right.inner)
    for weights, axis in ((left.output_map.weights, 0), (right.output_map.weights, 1)):
        if weights is not None:
            root = torch.repeat_interleave(weights.sqrt(), left.n_outputs)
            kernel = kernel * (root[:, None] if axis == 0 else root)
    return kernel
