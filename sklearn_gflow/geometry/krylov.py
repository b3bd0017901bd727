"""f(G)·r from products G·v = D(Dᵀv) alone: neither D nor G is formed.

Memory is `numbers_held` numbers, a fixed multiple of the number of outputs: some columns of G, of
which the preconditioner is made, and the basis of one Krylov space. The symbols are those of
docs/notation.md; A stands for G + ridge, and B for the preconditioner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_gflow.geometry.eigen import eigh_somewhere
from sklearn_gflow.geometry.functions import FactorizationError, GramFunction
from sklearn_gflow.geometry.lanczos import Lanczos
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.vectors import norm, room_for, rowwise

__all__ = ["Krylov", "PartialCholesky", "Solution", "conjugate_residuals", "numbers_held"]

# What D⁺ may leave of a residual, relative to it. This is far below the error of a step.
_ACCURACY = 1e-6
# r counts as orthogonal to the range of D where |Dᵀr| ≤ this multiple of |D||r|, preconditioned.
_ORTHOGONAL = 1e-10
_MOST_ITERATIONS = 1000
_RESTARTS = 3
# Largest dimension of the Krylov space of the smooth part of f.
_LARGEST_SPACE = 256
# The preconditioner is made of so many columns of G.
_COLUMNS = 1024
# These columns are drawn in so many rounds.
_ROUNDS = 8
# Eigenvalues below this multiple of size·eps·λ_max may be rounding.
_NOISE = 10
# Conjugate residuals and a product with G hold so many vectors at a time.
_VECTORS = 16

Product = Callable[[Tensor], tuple[Tensor, float]]


def numbers_held(size: int) -> int:
    """Bound on the numbers that `Krylov` holds at any time, besides activations.

    The columns of G; a basis that grows by doubling, or what a round of columns needs; vectors;
    eigenvectors of the columns. From 1,024 outputs on: 1,424 numbers an output, and 4·1024².

    Parameters
    ----------
    size : int
        Q·N.
    """
    columns, space = min(_COLUMNS, size), min(_LARGEST_SPACE, size)
    scratch = max(3 * space // 2, 3 * columns // _ROUNDS)
    return size * (columns + scratch + _VECTORS) + 4 * columns**2


class PartialCholesky:
    """B ≈ (G + ridge)⁻¹ up to a factor, from columns of G: 1 on the orthogonal complement of them.

    Columns are drawn at random, with the probability of the diagonal that is left (randomly
    pivoted Cholesky; Chen, Epperly, Tropp and Webber, 2024), in a few rounds. With
    FFᵀ = UΛUᵀ ≈ G of these,

        B = 1 + U ((λ_min + ridge)/(Λ + ridge) − 1) Uᵀ           (Frangella, Tropp, Udell, 2023).

    Since ran U ⊂ ran G, B leaves the kernel of G as it is.

    Parameters
    ----------
    tangent : TangentMap
        D.
    diagonal : Tensor of shape (Q·N,)
        Of G.
    ridge : float
        Added to the eigenvalues of G.
    """

    def __init__(self, tangent: TangentMap, diagonal: Tensor, ridge: float) -> None:
        F = _pivoted_columns(tangent, diagonal)
        eigenvalues, V, _ = eigh_somewhere(F.mT @ F)
        noise = _NOISE * len(F) * torch.finfo(F.dtype).eps
        keep = eigenvalues > noise * eigenvalues.max() if len(eigenvalues) else eigenvalues > 0
        kept = eigenvalues[keep]
        self.U = rowwise(partial(_times, M=V[:, keep] / kept.sqrt()), F)
        self.shrink = (kept.min() + ridge) / (kept + ridge) - 1 if len(kept) else kept

    def __call__(self, r: Tensor) -> Tensor:
        """B r."""
        return r + self.U @ (self.shrink * (self.U.mT @ r))


def _pivoted_columns(tangent: TangentMap, diagonal: Tensor) -> Tensor:
    """F with FFᵀ ≈ G, from the columns of random samples: exact on them, never above G."""
    Q = tangent.n_outputs
    rank = min(_COLUMNS, len(diagonal), tangent.n_params)
    a_round = max(1, rank // (_ROUNDS * Q))
    exhausted = _NOISE * len(diagonal) * torch.finfo(diagonal.dtype).eps * diagonal.max()
    F, made = room_for(diagonal, rank, axis=1), 0
    generator = torch.Generator().manual_seed(0)
    while made < rank and bool(diagonal.max() > exhausted):
        offset = float(torch.rand((), generator=generator, dtype=torch.float64))
        samples = _drawn(diagonal.view(-1, Q).sum(1), a_round, offset)
        outputs = (samples[:, None] * Q + torch.arange(Q, device=samples.device)).reshape(-1)
        rest = tangent.columns(samples)
        rest -= F[:, :made] @ F[outputs, :made].mT
        eigenvalues, V, _ = eigh_somewhere(rest[outputs])
        keep = (eigenvalues > exhausted).nonzero()[:, 0][-(rank - made) :]
        new = slice(made, made + len(keep))
        F[:, new] = rest @ (V[:, keep] / eigenvalues[keep].sqrt())
        diagonal = (diagonal - F[:, new].square().sum(1)).clamp_min(0)
        diagonal[outputs] = 0
        made = new.stop
    return F[:, :made]


def _drawn(weights: Tensor, count: int, offset: float) -> Tensor:
    """Samples with probabilities in proportion to weights: systematic sampling, on their device.

    One random number places a comb of equal distances on the sums of the weights. A sample may
    come twice where it has more than its share; the second counts no more than other columns that
    depend on those at hand.
    """
    ends = weights.cumsum(0)
    comb = (torch.arange(count, dtype=ends.dtype, device=ends.device) + offset) * (ends[-1] / count)
    return torch.searchsorted(ends, comb, right=True).clamp_max(len(weights) - 1)


def _times(F: Tensor, M: Tensor) -> Tensor:
    """F·M in the place of F, panel by panel."""
    for start in range(0, len(F), max(1, F.shape[1])):
        panel = slice(start, start + max(1, F.shape[1]))
        F[panel, : M.shape[1]] = F[panel] @ M
    return F[:, : M.shape[1]]


class Solution(NamedTuple):
    """u with Au ≈ AA⁺b, so that Dᵀu ≈ D⁺b; b − Au; why the iteration ended.

    Both vectors are NaN where the iteration met a number that is not finite.
    """

    u: Tensor
    residual: Tensor
    orthogonal: bool  # whether what is left of b is orthogonal to the range of A
    exhausted: bool  # whether the limit on iterations was met


def conjugate_residuals(
    product: Product, B: Callable[[Tensor], Tensor], b: Tensor, accuracy: float
) -> Solution:
    """Least-squares solution of Au = b, preconditioned by B, for positive semidefinite A.

    Conjugate residuals (Stiefel, 1955) see b only through A: where b is not in its range, as
    with rows that contradict each other, conjugate gradients would diverge. They end where
    |b − Au| ≤ ``accuracy``, where what is left of b is orthogonal to the range, or where rounding
    leaves nothing to gain.

    Parameters
    ----------
    product : callable
        v ↦ (Av, vᵀAv), the latter without cancellation.
    B : callable
        Positive definite; maps the kernel of A on itself.
    b : Tensor of shape (m,)
        Right-hand side.
    accuracy : float
        Absolute, on the residual.

    Returns
    -------
    Solution
    """
    negligible = max(_ORTHOGONAL, _rounding(b)) ** 2
    u, r, z = torch.zeros_like(b), b, B(b)
    q, rho = product(z)  # q = Ap, ρ = zᵀAz
    p, largest, orthogonal, exhausted = z, 0.0, False, True
    energy = float(r @ z)  # falls from step to step, except for rounding
    for _ in range(_MOST_ITERATIONS):
        s = B(q)
        along, curvature = float(p @ q), float(q @ s)
        if not math.isfinite(along + curvature + rho + energy):
            return _not_a_solution(b)
        if along > 0:
            # From below this estimates the largest eigenvalue of BA.
            largest = max(largest, curvature / along)
        orthogonal = rho <= negligible * largest * energy
        if orthogonal or norm(r) <= accuracy or curvature <= 0:
            exhausted = False
            break
        step = rho / curvature
        r_next, z_next = r - step * q, z - step * s
        energy_next = float(r_next @ z_next)
        if energy_next >= energy:
            exhausted = False
            break
        u, r, z, energy = u + step * p, r_next, z_next, energy_next
        w, rho_next = product(z)
        p, q, rho = z + rho_next / rho * p, w + rho_next / rho * q, rho_next
    return Solution(u, b - product(u)[0], orthogonal, exhausted)


def _not_a_solution(b: Tensor) -> Solution:
    """What stands for a solution after a number that is not finite: NaN, never zero."""
    nan = torch.full_like(b, math.nan)
    return Solution(nan, nan, orthogonal=False, exhausted=True)


class _Shifted(NamedTuple):
    """A = DDᵀ + ridge as products."""

    tangent: TangentMap
    ridge: float

    def product(self, v: Tensor) -> tuple[Tensor, float]:
        """(Av, vᵀAv), the latter by |Dᵀv|²."""
        image, pulled = self._image(v)
        return image, float(pulled @ pulled) + self.ridge * float(v @ v)

    def image(self, v: Tensor) -> Tensor:
        """Av."""
        return self._image(v)[0]

    def _image(self, v: Tensor) -> tuple[Tensor, Tensor]:
        pulled = self.tangent.pull(v)
        image = self.tangent.push(pulled)
        return image + self.ridge * v if self.ridge else image, pulled


class Krylov:
    """A = DDᵀ + ridge without a matrix, for what does not fit as one.

    1/λ is applied by preconditioned conjugate residuals, to |D Δθ − P r| ≤ 1e-6 |r| (1e-5 in
    float32), the probe standing for r where it is longer; the smooth part of f in a Lanczos
    space of at most 256 dimensions. Limits that were met before are in the name, with what was
    reached. Rank and condition stay unknown (NaN).

    Parameters
    ----------
    tangent : TangentMap
        D.
    probe : Tensor of shape (Q·N,)
        A vector of the size of those that f(A) will be applied to.
    ridge : float
        Added to the eigenvalues of G.

    Raises
    ------
    FactorizationError
        If the diagonal of G is not finite.
    """

    rank = condition = math.nan

    def __init__(self, tangent: TangentMap, probe: Tensor, ridge: float) -> None:
        self.tangent, self.ridge, self.unit = tangent, ridge, norm(probe)
        self.A = _Shifted(tangent, ridge)
        self.accuracy = max(_ACCURACY, _rounding(probe))
        self.diagonal = tangent.gram_diagonal()
        self.trace = float(self.diagonal.sum())
        if not math.isfinite(self.trace):
            raise FactorizationError("its diagonal holds numbers that are not finite")
        self.reached = self.accuracy
        self._solved: tuple[Tensor, Solution] | None = None
        self._space: Lanczos | None = None

    @cached_property
    def preconditioner(self) -> PartialCholesky:
        """Made when a system is solved: the smooth part of f needs none."""
        return PartialCholesky(self.tangent, self.diagonal, self.ridge)

    @property
    def name(self) -> str:
        """With the residual, rounded up to a power of ten so that like steps read alike."""
        if not math.isfinite(self.reached):
            return "krylov (numbers that are not finite)"
        limit = "stopped at its limit, " if self.reached > self.accuracy else ""
        return f"krylov ({limit}residual below 1e{math.ceil(math.log10(self.reached))})"

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A)·b; the smooth part on the kernel of D too. Several f of one b share one space."""
        solved = f.inverse * self._solution(b, f.inverse).u if f.inverse else torch.zeros_like(b)
        if f.smooth is None:
            return solved
        if self._space is None or not torch.equal(self._space.b, b):
            # The space gets a method of A and not of self: in a cycle of references the factor
            # would stay in memory after its step.
            self._space = Lanczos(self.A.image, b, tolerance=self.accuracy, largest=_LARGEST_SPACE)
        smooth = self._space.apply(f.smooth)
        self.reach(self._space.change, self._space.tolerance)
        return solved + smooth

    def project(self, b: Tensor) -> Tensor:
        """DD⁺b; with a ridge, what ridge regression fits to b."""
        solution = self._solution(b, 1.0)
        return b - solution.residual - self.ridge * solution.u

    def _solution(self, b: Tensor, weight: float) -> Solution:
        """A⁺b, which is to be multiplied by the weight; it goes on from what is at hand."""
        accuracy, unit = self.accuracy_for(b, weight)
        if not math.isfinite(unit):  # no accuracy can be asked relative to it
            self.reach(math.nan)
            return _not_a_solution(b)
        solution = self._start(b)
        for _ in range(_RESTARTS):  # since the r of the recurrence drifts away from b − Au
            if solution.orthogonal or norm(solution.residual) <= accuracy:
                break
            more = conjugate_residuals(
                self.A.product, self.preconditioner, solution.residual, accuracy
            )
            solution = more._replace(u=solution.u + more.u)
            if solution.exhausted:
                break
        if self._solved is None or torch.equal(self._solved[0], b):
            self._solved = b, solution
        if not solution.orthogonal and unit:
            self.reach(abs(weight) * norm(solution.residual) / unit)
        return solution

    def accuracy_for(self, b: Tensor, weight: float) -> tuple[float, float]:
        """What A⁺b may leave of b where it is multiplied by the weight, and the unit of that."""
        size = abs(weight) * norm(b)
        unit = size if math.isnan(size) else max(self.unit, size)
        return self.accuracy * unit / abs(weight), unit

    def reach(self, error: float, allowed: float = 0.0) -> None:
        """Remember the largest error that is not allowed; NaN for good, which `max` would not."""
        if math.isnan(error):
            self.reached = math.nan
        elif error > allowed:
            self.reached = max(self.reached, error)

    def _start(self, b: Tensor) -> Solution:
        """As much of b as the first vector's solution has: residuals of a flow point one way."""
        start = Solution(torch.zeros_like(b), b, orthogonal=False, exhausted=False)
        if self._solved is None:
            return start
        first, solution = self._solved
        if torch.equal(first, b):
            return solution
        if not norm(solution.residual) <= self.accuracy * self.unit:
            # u was not solved for well enough to begin with: it may have a part in the kernel of A,
            # or be NaN, where b is and has neither.
            return start
        image = first - solution.residual  # Au
        size = float(image @ image)
        share = float(b @ image) / size if size else 0.0
        return start._replace(u=share * solution.u, residual=b - share * image)


def _rounding(like: Tensor) -> float:
    return 80 * torch.finfo(like.dtype).eps  # 1e-5 in float32
