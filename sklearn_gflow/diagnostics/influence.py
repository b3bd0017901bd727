"""What each training row did: contributions to predictions, and what would be without a row.

Both are read off a flow in dual form (`dynamics.dual`). Over a step the outputs at any inputs
change by the mean of their Jacobian on the way times Δθ = Dᵀu, so that

    f(x) − f₀(x) = Σ_steps Σⱼ K̄(x, xⱼ) uⱼ,    K̄ = ∫₀¹ D_x(θ + aΔθ) da Dᵀ,

in which a training row has a summand of its own. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sklearn_gflow.dynamics import DualStep, exponential
from sklearn_gflow.geometry import Linearization, OutputMap, gram_eigenvectors
from sklearn_gflow.geometry.output_map import Tangent
from sklearn_gflow.geometry.resolvents import ridge_terms

__all__ = ["LeftOutAlong", "contributions", "mean_kernel"]

# Gauss points of the mean over a step. With five, steps as long as those of a fit add up to 1e-8;
# with one, residuals of rows left out move by less than 1e-3 of them, and what else they neglect is
# a hundredth and more.
_EXACT, _ENOUGH = 5, 1
# Nodes of a window of ridge regressions; their errors stay below 1e-6.
_NODES = 10
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
    """Rows that are left out in turn, along the flow of the squared error, with no refit.

    For each row i it follows the residual r⁽ⁱ⁾ = y − x⁽ⁱ⁾ of the flow that row i does not drive, at
    all rows, i included. A step of the flow fits g(λ) = λf(λ + μ) of each mode, which is written as
    ridge regressions, g(λ) ≈ Re Σ wⱼλ/(λ + pⱼ), of which each is without row i in closed form: the
    dual coefficients (G + p)⁻¹(r − eᵢLᵢ) vanish at i for

        Lᵢ = [(G + p)⁻¹]ᵢᵢ⁻¹ [(G + p)⁻¹ r]ᵢ,

    with Q×Q blocks in place of numbers for Q outputs, and with blocks of all their outputs for
    rows that are left out together. What row i does to outputs at any samples is the sum over
    the steps of K̄(u − u⁽ⁱ⁾), u⁽ⁱ⁾ being these dual coefficients and u those of all rows. The
    kernels are those along the path of all rows, over each step on average: a network that learns
    features does so without row i almost as with it, while the kernel of the start, on which
    `LeaveOneOut` stands, knows nothing of them. Residuals are too small by that difference, by one
    to four per cent where it was measured.

    Parameters
    ----------
    estimated_mean : bool
        Whether the start is the weighted mean of y, to be estimated without the row as well.
    groups : Tensor of int of shape (n_groups, size), optional
        Rows that are left out together, a group a row of it; by default each row by itself.
    """

    estimated_mean: bool = True
    groups: Tensor | None = None
    _residuals: Tensor | None = field(default=None, repr=False)
    _tangent: Tangent | None = field(default=None, repr=False)
    _effects: list[Tensor] = field(default_factory=list, repr=False)

    def follow(self, steps: Iterable[DualStep], samples: Sequence[OutputMap] = ()) -> LeftOutAlong:
        """Follow a flow on the training rows to its end; returns itself.

        Parameters
        ----------
        steps : iterable of DualStep
            The flow.
        samples : sequence of OutputMap
            Of the same family on samples at which `effects` are asked for, without weights.

        Raises
        ------
        FactorizationError
            If the Gram of a point could not be decomposed.
        """
        for step in steps:
            if self._residuals is None:
                self._residuals = self._at_start(step, samples)
            without = _Without(step, self._rows(step), self._residuals)
            self._residuals = without.residuals()
            for effect, output_map in zip(self._effects, samples, strict=True):
                effect += without.effect(output_map)
        return self

    def residuals(self) -> Tensor:
        """yᵢ − x⁽ⁱ⁾ of the rows that were left out, without weights.

        Returns
        -------
        Tensor of shape (n_groups · size, Q)
            Of all rows, in their order, where each was left out by itself.
        """
        assert self._residuals is not None
        assert self._tangent is not None
        tangent, groups = self._tangent, self.groups
        n_samples, Q = tangent.n_samples, tangent.n_outputs
        columns = self._residuals.view(n_samples, Q, -1)
        rows = torch.arange(n_samples, device=columns.device)[:, None] if groups is None else groups
        own = columns[rows, :, torch.arange(len(rows), device=columns.device)[:, None]]
        return own.flatten(0, 1) / tangent.sample_weights.double()[rows].sqrt().view(-1, 1)

    def effects(self) -> Tensor:
        """What the rows that were left out do at the samples: outputs with them less those without.

        The start is part of the outputs: without a row the mean of y is another.

        Returns
        -------
        Tensor of shape (n, Q, n_groups)
        """
        assert self._tangent is not None
        found = torch.cat(self._effects)
        return found.view(-1, self._tangent.n_outputs, found.shape[-1])

    def _rows(self, step: DualStep) -> Tensor:
        """The groups, shape (n_groups, size)."""
        tangent = step.point.tangent
        assert isinstance(tangent, Tangent)
        self._tangent = tangent
        if self.groups is not None:
            return self.groups
        return torch.arange(tangent.n_samples, device=step.dual.device)[:, None]

    def _at_start(self, step: DualStep, samples: Sequence[OutputMap]) -> Tensor:
        """r⁽ⁱ⁾ at the start, a column a group, shape (Q·N, n_groups); and the effects there."""
        rows, tangent = self._rows(step), step.point.tangent
        r = step.point.residual.double()
        shift = r.new_zeros(len(rows), tangent.n_outputs)
        if self.estimated_mean:
            # Without them the mean is lower by Σwᵢ(yᵢ − ȳ)/(W − Σwᵢ), and all residuals are larger.
            w = tangent.sample_weights.double()
            drive = (w[:, None] * tangent.unweigh(r))[rows].sum(1)
            shift = drive / (w.sum() - w[rows].sum(1))[:, None]
        root = tangent.sample_weights.double().sqrt()
        self._effects = [shift.mT.repeat(one.n_samples, 1) for one in samples]
        return r[:, None] + (root[:, None, None] * shift.mT).flatten(0, 1)


class _Without:
    """A step of the flow without each of some groups of rows.

    Parameters
    ----------
    step : DualStep
        The step of all rows.
    groups : Tensor of int of shape (n_groups, size)
        Rows that are left out together.
    residuals : Tensor of shape (Q·N, n_groups)
        W^½r at its start without each group.
    """

    def __init__(self, step: DualStep, groups: Tensor, residuals: Tensor) -> None:
        self.step, self.groups, self.before = step, groups, residuals

    @cached_property
    def change(self) -> Tensor:
        """The dual of the step of all rows less that without each group, shape (Q·N, n_groups).

        Both are those of the frozen flow with G itself: what a step does beside it (chords, what a
        shared kernel neglects) it does without a row as well, and is no effect of that.
        """
        tangent, frozen = self.step.point.tangent, self.step.frozen
        held = frozen.factor.eigenvectors or gram_eigenvectors(tangent.gram())
        eigenvalues, V = (part.double() for part in held)
        eigenvalues = eigenvalues.clamp_min(0)
        ridge = max(frozen.ridge, _LEAST_RIDGE * float(eigenvalues[-1]))
        f = exponential(frozen.alpha, self.step.h, frozen.scale)
        turns = [] if f.turn is None else [1 / f.turn]
        weights, poles = ridge_terms(
            lambda lam: lam * f(lam + ridge), turns, ridge, eigenvalues, _NODES
        )
        coordinates = V.mT @ self.before
        of_all = V.mT @ self.step.point.residual.double()
        change = f(eigenvalues + ridge)[:, None] * (of_all[:, None] - coordinates)
        resolvents = 1 / (poles[:, None] + eigenvalues)
        blocks = V.view(tangent.n_samples, -1, len(V))[self.groups].flatten(1, 2)
        left_out = _left_out(resolvents, blocks, coordinates)
        weighted = weights[:, None] * resolvents
        for q in range(blocks.shape[1]):
            L = left_out[..., q]
            # The real part of a product of complex matrices, which is half of its work.
            of_output = weighted.real.mT @ L.real - weighted.imag.mT @ L.imag
            change = change + blocks[:, q].mT * of_output
        found: Tensor = V @ change
        return found

    def residuals(self) -> Tensor:
        """W^½r at the end of the step without each group, shape (Q·N, n_groups)."""
        point, tangent = self.step.point, self.step.point.tangent
        assert isinstance(tangent, Tangent)
        way = self.step.end.residual.double() - point.residual.double()
        return self.before + way[:, None] + self.effect(tangent.output_map)

    def effect(self, output_map: OutputMap) -> Tensor:
        """By how much outputs at samples change less without each group, (Q·n, n_groups)."""
        return mean_kernel(self.step, output_map, _ENOUGH).double() @ self.change


def _left_out(resolvents: Tensor, blocks: Tensor, coordinates: Tensor) -> Tensor:
    """L of every pole and group, shape (n_p, n_groups, size of a block)."""
    rows = [part * coordinates.mT for part in blocks.unbind(1)]
    found = torch.stack([_times(resolvents, row.mT) for row in rows], dim=-1)
    return torch.linalg.solve_ex(_diagonal(resolvents, blocks), found[..., None])[0][..., 0]


def _diagonal(resolvents: Tensor, blocks: Tensor) -> Tensor:
    """(G + p)⁻¹ of every pole and group, (n_p, n_groups, size, size)."""
    parts = blocks.unbind(1)
    if len(parts) <= len(blocks):  # many small groups: all of them at once, entry by entry
        entries = [[_times(resolvents, (a * b).mT) for b in parts] for a in parts]
        return torch.stack([torch.stack(row, dim=-1) for row in entries], dim=-2)
    return torch.stack([_times(block * resolvents[:, None], block.mT) for block in blocks], dim=1)


def _times(z: Tensor, real: Tensor) -> Tensor:
    """A complex matrix times a real one, without a complex copy of that."""
    return torch.complex(z.real @ real, z.imag @ real)


def _cross_gram(left: Tangent, right: Tangent) -> Tensor:
    """D_left D_rightᵀ in the coordinates of both maps."""
    inner: Linearization = left.inner
    kernel = inner.cross_gram(right.inner)
    for weights, axis in ((left.output_map.weights, 0), (right.output_map.weights, 1)):
        if weights is not None:
            root = torch.repeat_interleave(weights.sqrt(), left.n_outputs)
            kernel = kernel * (root[:, None] if axis == 0 else root)
    return kernel
