"""Leave-one-out along the α-flow in closed form: no split, no refit, one eigendecomposition.

The class docstring has the derivation. The resolvents that all times and all α share are in
`geometry.resolvents`. Notation: docs/notation.md; ρᵢ is the residual at row i without row i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.geometry import gram_eigenvectors
from sklearn_gflow.geometry.resolvents import FIT_NODES, contour, ridge_fit, window, windows_of

__all__ = ["LeaveOneOut"]

# Nodes of a contour: the error of the inverse transform is then 3e-12.
_NODES = 34
# The time, in units of that of the slowest mode, at which every mode is at rest. Much later,
# rounding in the kernel of G would be taken for a mode.
_AT_REST = 1e3


@dataclass(frozen=True)
class LeaveOneOut:
    """What the linearised α-flow predicts for each row when that row is not trained on.

    The flow with D held fixed at its start is a kernel method: r' = −(αP + (1−α)G/c) r for the
    residual r = y − x. Let ρᵢ(τ) be the residual at row i of the flow on the other rows alone,
    with G without row i, its own projector, and the same c. All ρᵢ follow exactly from the
    eigenvectors of the one G of all rows:

    - *α = 0.* Row i is absent when it drives nothing, so that the residual at all rows, i
      included, obeys r' = −A(r − eᵢρᵢ), A = G/c, where ρᵢ = eᵢᵀr. Its Laplace transform in τ is

          ρ̂ᵢ(s) = [(s + A)⁻¹]ᵢᵢ⁻¹ [(s + A)⁻¹ r(0)]ᵢ / s,

      with Q×Q blocks in place of numbers for Q outputs. The poles lie on the negative real axis,
      and a few dozen points of a contour around them invert the transform to rounding, the
      same ones for all times between t and 8t.
    - *τ → ∞*, the minimum-norm interpolant ρᵢ^∞. At full rank this is [G⁻¹]ᵢᵢ⁻¹ [G⁻¹ r(0)]ᵢ.
    - *Any α.* On the other rows the residual is e^{−ατ} times that of α = 0 at the time
      (1−α)τ, and predictions at row i are linear in it, so that
      ρᵢ = (1 − e^{−ατ}) ρᵢ^∞ + e^{−ατ} ρᵢ⁰((1−α)τ).
    - *With a ridge μ* in D⁺ the residual obeys r' = −K(G) r, K(λ) = λ(α/(λ + μ) + (1−α)/c). The
      prediction at row i is kᵢᵀh(G₋ᵢ)r(0) with λh = 1 − e^{−τK}, and λh is fitted by
      Re Σ wⱼλ/(λ + pⱼ), in which each term is a ridge regression, without the row as for α = 0:

          ρᵢ = (1 − Re Σ wⱼ) rᵢ(0) + Re Σ wⱼ Lᵢ(pⱼ),    Lᵢ(p) = [(p + G)⁻¹]ᵢᵢ⁻¹ [(p + G)⁻¹ r(0)]ᵢ.

      The same poles pⱼ, those of the contours, serve all α and all times.

    The familiar shortcut rᵢ/[e^{−τA}]ᵢᵢ is another quantity: row i trained towards a constant
    that the flow happens to return at time τ. At α = 1 it is rᵢ(0) whatever the kernel.

    Where the start x₀ is the mean of the targets, that mean is estimated too. Without row i it
    is lower by wᵢ(yᵢ − ȳ)/(N − wᵢ); the flow is linear in y, so that two kinds of columns, the
    residual and the constants, give the correction exactly. A row of weight w counts as w copies
    that are left out together: in the coordinates W^½x the formulas stand as they are.

    The kernel is that of the start on purpose. Later ones have been shaped by the targets of all
    rows, the left-out one included, and estimates by them are too optimistic.

    With many outputs the kernel K̄ shared across them, G ≈ K̄ ⊗ 1, serves all at once, at the cost
    of one output. The formulas are the same, with blocks of one and Q residuals to remove.

    Parameters
    ----------
    eigenvalues : Tensor of shape (B·N,)
        Λ of G = VΛVᵀ, weights included, where B = Q; of K̄, where B = 1.
    vectors : Tensor of shape (B·N, B·N)
        V.
    residual : Tensor of shape (n_samples, Q)
        y − x₀ without weights.
    weights : Tensor of shape (n_samples,)
        w.
    estimated_mean : bool
        Whether x₀ is the weighted mean of y, to be estimated without the row as well.
    """

    eigenvalues: Tensor
    vectors: Tensor
    residual: Tensor
    weights: Tensor
    estimated_mean: bool = True
    _windows: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def at(
        cls,
        start: Point,
        *,
        shared: bool = False,
        rcond: float | None = None,
        estimated_mean: bool = True,
    ) -> LeaveOneOut:
        """Of the flow of the squared error from a start.

        Parameters
        ----------
        start : Point
            θ₀.
        shared : bool
            Take K̄ for G: exact with one output, otherwise an approximation, Q³ times cheaper.
        rcond : float or None
            See `relative_threshold`.
        estimated_mean : bool
            As for the class.

        Returns
        -------
        LeaveOneOut

        Raises
        ------
        FactorizationError
            If G could not be decomposed.
        """
        tangent = start.tangent
        residual = tangent.unweigh(start.residual).double()
        gram = tangent.shared_gram if shared else tangent.gram()
        eigenvalues, V = gram_eigenvectors(gram, rcond=rcond)
        weights = tangent.sample_weights.double()
        return cls(eigenvalues.double(), V.double(), residual, weights, estimated_mean)

    def residuals(self, alpha: float, tau: float, scale: float, ridge: float = 0.0) -> Tensor:
        """Residual of every row at time τ when it is left out, without weights.

        Parameters
        ----------
        alpha : float
            α.
        tau : float
            τ = s/N; may be ∞.
        scale : float
            c.
        ridge : float
            μ, absolute: (DᵀD + μ)⁻¹ for (DᵀD)⁺.

        Returns
        -------
        Tensor of shape (n_samples, Q)
            NaN where an argument, or an eigenvalue, is.
        """
        columns = self._family(alpha, tau, scale, ridge)
        residual = self._residual_blocks
        left_out = columns[..., : residual.shape[2]]
        if self.estimated_mean:
            w = self.weights.view(-1, 1, 1)
            shift = -w * residual / (self.weights.sum() - w)
            left_out = left_out - columns[..., residual.shape[2] :] @ shift
        return left_out.flatten(1) / self.weights.sqrt()[:, None]

    def training_loss(self, alpha: float, tau: float, scale: float, ridge: float = 0.0) -> float:
        """C (2.48) of the linearised flow at all rows, none left out, at time τ.

        Parameters
        ----------
        alpha, tau, scale, ridge : float
            As for `residuals`.

        Returns
        -------
        float
        """
        learnt = ~(self.eigenvalues <= 0)  # true of NaN, so that the loss is NaN as well
        rates = _rates(self.eigenvalues.where(learnt, 1.0), alpha, scale, ridge)
        decay = torch.where(learnt, torch.exp(-tau * rates), 1.0)
        modes = self._coordinates[:, : self._residual_blocks.shape[2]]
        return float((decay[:, None] * modes).square().sum() / (2 * self.weights.sum()))

    @cached_property
    def _residual_blocks(self) -> Tensor:
        """The residual, one block a row: shape (n_samples, B, Q/B)."""
        n_samples = len(self.residual)
        return self.residual.view(n_samples, len(self.eigenvalues) // n_samples, -1)

    def _family(self, alpha: float, tau: float, scale: float, ridge: float) -> Tensor:
        """ρ of every right-hand side at (α, τ), shape (n_samples, B, Q/B + B)."""
        if math.isnan(alpha + tau + scale + ridge + float(self.eigenvalues.sum())):
            return torch.full_like(self._blocks(self._right_hand_sides), math.nan)
        # A ridge below the rounding of λ_max does not count.
        if alpha and ridge > torch.finfo(torch.float64).eps * float(self.eigenvalues[-1]):
            return self._damped_flow(alpha, tau, scale, ridge)
        done = 1 - math.exp(-alpha * tau) if alpha else 0.0
        columns = (1 - done) * self._gradient_flow((1 - alpha) * tau / scale if alpha < 1 else 0.0)
        return columns + done * self._interpolant if done else columns

    def _gradient_flow(self, time: float) -> Tensor:
        """ρ⁰ of r' = −G r at a time."""
        if time == 0:
            return self._blocks(self._right_hand_sides)
        if math.isinf(time):
            return self._interpolant
        k = window(time)
        s, slopes = contour(k, _NODES, self.residual)
        weights = torch.exp(s * time) * slopes / s
        return torch.tensordot(weights, self._without_row(k, _NODES), dims=1).real

    def _damped_flow(self, alpha: float, tau: float, scale: float, ridge: float) -> Tensor:
        """ρ of r' = −K(G) r at a time."""
        start = self._blocks(self._right_hand_sides)
        if tau == 0 or math.isinf(ridge):  # the flow will report features that are far too large
            return start
        if math.isinf(tau):
            return self._interpolant
        slope = alpha / ridge + (1 - alpha) / scale
        turns = [tau * slope] if alpha == 1 else [tau * slope, (1 - alpha) * tau / scale]
        first, last = windows_of(turns, ridge, self.eigenvalues)
        weights = ridge_fit(
            lambda lam: 1 - torch.exp(-tau * _rates(lam, alpha, scale, ridge)), first, last
        ).to(start.device)
        regressions = [self._without_row(k, FIT_NODES) for k in range(first, last + 1)]
        parts = zip(weights.split(FIT_NODES), regressions, strict=True)
        learnt = sum(torch.tensordot(w, left_out, dims=1).real for w, left_out in parts)
        return (1 - weights.real.sum()) * start + learnt

    @cached_property
    def _interpolant(self) -> Tensor:
        """ρ^∞."""
        positive = self.eigenvalues[self.eigenvalues > 0]
        if len(positive) == 0:  # G = 0: the outputs never move
            return self._blocks(self._right_hand_sides)
        return self._gradient_flow(_AT_REST / float(positive[0]))

    def _without_row(self, k: int, nodes: int) -> Tensor:
        """L(p) at the nodes of window k, shape (n_p, n_samples, B, Q/B + B)."""
        if (k, nodes) not in self._windows:
            p, _ = contour(k, nodes, self.residual)
            self._windows[k, nodes] = self._ridge_regressions(p)
        return self._windows[k, nodes]

    def _ridge_regressions(self, p: Tensor) -> Tensor:
        n_samples, size, _ = self._residual_blocks.shape
        resolvents = 1 / (p[:, None] + self.eigenvalues)  # (n_p, B·N)
        weighted = (resolvents.mT[..., None] * self._coordinates[:, None]).flatten(1)
        solved = _matmul(self.vectors, weighted).unflatten(1, (len(p), -1)).movedim(1, 0)
        V = self.vectors.view(n_samples, size, -1)
        # One row of each diagonal block at a time: all of them at once would need B times the
        # memory of the Gram.
        rows = [_matmul(V[:, q, None] * V, resolvents.mT) for q in range(size)]
        diagonal = torch.stack(rows, dim=1).permute(3, 0, 1, 2)
        # Without a check: what is singular gives no number, and that is no score.
        return torch.linalg.solve_ex(diagonal, self._blocks(solved))[0]

    @cached_property
    def _right_hand_sides(self) -> Tensor:
        """W^½ times the residual and the constants, shape (B·N, Q/B + B)."""
        residual = self._residual_blocks
        n_samples, size, _ = residual.shape
        identity = torch.eye(size, dtype=torch.float64, device=residual.device)
        columns = torch.cat([residual, identity.expand(n_samples, size, size)], dim=2)
        return (self.weights.sqrt().view(-1, 1, 1) * columns).flatten(0, 1)

    @cached_property
    def _coordinates(self) -> Tensor:
        return self.vectors.mT @ self._right_hand_sides

    def _blocks(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-2, tuple(self._residual_blocks.shape[:2]))


def _rates(lam: Tensor, alpha: float, scale: float, ridge: float) -> Tensor:
    """K(λ) = λ(α/(λ + μ) + (1−α)/c)."""
    return lam * (alpha / (lam + ridge) + (1 - alpha) / scale)


def _matmul(real: Tensor, z: Tensor) -> Tensor:
    """A real matrix times a complex one, without a complex copy of the first."""
    product = real @ torch.cat([z.real, z.imag], dim=-1)
    return torch.complex(*product.chunk(2, dim=-1))
