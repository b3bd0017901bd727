"""Functions of a symmetric positive definite matrix A through its Cholesky factor, A = LLᵀ.

A solve applies 1/λ; the smooth part of f goes by a Krylov space or by a rational series. A factor
of A + jitter is taken where A itself has none, and its solutions are refined and certified. The
symbols are those of docs/notation.md.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import GramFunction
from sklearn_gflow.geometry.lanczos import Lanczos
from sklearn_gflow.geometry.series import rational_series
from sklearn_gflow.geometry.triangles import Triangles

__all__ = ["Cholesky", "ShiftedCholesky"]

_REFINEMENTS = 3
_ESTIMATE_ITERATIONS = 2
# A Krylov space grows by so few dimensions where little accuracy is asked for.
_STRIDE = 4
# From so many rows on a factor takes longer than the products of a small Krylov space.
_LARGE = 400
_AND_LANCZOS = " + lanczos"
_AND_SERIES = " + rational series"


class Cholesky:
    """A = LLᵀ, of full rank by the threshold; any f, the smooth part by Lanczos or a series.

    With a ridge in A, the full rank is the ridge's: the rank of A without it stays unknown (NaN).

    Parameters
    ----------
    triangles : InPlace, OutOfPlace or Refined
        The matrix, ridge included, and its factor.
    name : str
        Of the back end.
    ridge : float
        What A holds besides the Gram.
    once : bool
        f of each vector is asked for once: a series then costs less than a Krylov space, which
        serves all f of one vector.
    tolerance : float, optional
        Relative accuracy of a smooth part that is asked for once; by default what the precision of
        A allows. To a low one a few products with a large A lead, on a CPU, and these take less
        than the factor that a series begins with.
    """

    def __init__(
        self,
        triangles: Triangles,
        name: str,
        ridge: float = 0.0,
        *,
        once: bool = False,
        tolerance: float | None = None,
    ) -> None:
        self.triangles, self.name, self.ridge, self.once = triangles, name, ridge, once
        self.tolerance = tolerance
        self.rank: float = math.nan if ridge else len(triangles.L)
        self._krylov: Lanczos | None = None

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """(λ_min from above, λ_max from below), by a few steps of inverse and power iteration."""
        return _extreme_eigenvalues(self.triangles)

    @property
    def condition(self) -> float:
        """λ_max/λ_min, estimated from below; NaN where the estimates went out of range."""
        smallest, largest = self.extremes
        return largest / smallest if smallest else math.nan

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A)·b of a vector, or of columns."""
        solved = f.inverse * self.solve(b) if f.inverse else torch.zeros_like(b)
        return solved if f.smooth is None else solved + self._smooth(f, b)

    def _smooth(self, f: GramFunction, b: Tensor) -> Tensor:
        assert f.smooth is not None
        if self.once and self.tolerance and _products_are_cheap(b):
            self._used(_AND_LANCZOS)
            space = Lanczos(self.triangles.times, b, tolerance=self.tolerance, stride=_STRIDE)
            return space.apply(f.smooth)
        if self.once and f.turn is not None:
            series = rational_series(self.triangles, f, b, self.tolerance)
            if series is not None:
                self._used(_AND_SERIES)
                return series
        if b.ndim > 1:
            return torch.stack([self._smooth(f, column) for column in b.mT], dim=1)
        if self._krylov is None or not torch.equal(self._krylov.b, b):
            self._krylov = Lanczos(self.triangles.times, b)
            self._used(_AND_LANCZOS)
        return self._krylov.apply(f.smooth)

    def _used(self, method: str) -> None:
        self.name = self.name.removesuffix(method) + method

    def solve(self, b: Tensor) -> Tensor:
        """A⁻¹b."""
        return self.triangles.solve(b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁻¹b = b; with a ridge (A − ridge)A⁻¹b, what ridge regression fits to b."""
        return b - self.ridge * self.solve(b) if self.ridge else b

    def times(self, b: Tensor) -> Tensor:
        """A·b, without the ridge."""
        product = self.triangles.times(b)
        return product.sub_(b, alpha=self.ridge) if self.ridge else product


class ShiftedCholesky(Cholesky):
    """A + jitter = LLᵀ, the jitter taken out again by refinement against A.

    A solution u of Au = b that passes the residual test gives Dᵀu = D⁺b: it lies in ran Dᵀ,
    where D is injective. The residual is the certificate; the rank stays unknown (NaN).
    """

    def __init__(self, triangles: Triangles, name: str) -> None:
        super().__init__(triangles, name)
        self.rank = math.nan

    @property
    def condition(self) -> float:
        """Unknown: the factor is that of another matrix."""
        return math.nan

    def solve(self, b: Tensor) -> Tensor:
        """A⁺b for b in the range of A."""
        u = self.triangles.solve(b)
        for _ in range(_REFINEMENTS):
            u = u + self.triangles.solve(b - self.triangles.times(u))
        return u

    def project(self, b: Tensor) -> Tensor:
        """AA⁺b: A takes out what the shifted solve puts into its kernel."""
        return self.triangles.times(self.solve(b))

    def residual(self, b: Tensor) -> float:
        """|b − A·solve(b)|/|b|."""
        size = torch.linalg.vector_norm(b)
        return float(torch.linalg.vector_norm(b - self.project(b)) / size)


def _products_are_cheap(b: Tensor) -> bool:
    """Whether products of A with b take less than another factor of A would.

    Columns take as long as a factor, and a device would wait for the numbers of the space.
    """
    return b.ndim == 1 and len(b) >= _LARGE and b.device.type == "cpu"


def _extreme_eigenvalues(triangles: Triangles) -> tuple[float, float]:
    """Estimates of λ_min (from above) and λ_max (from below) of A = LLᵀ.

    Both are NaN where A is so large or so small that a square leaves the range of its dtype: no
    bound holds then, and the rank has to be read off eigenvectors.
    """
    like = triangles.original
    tiny = torch.finfo(like.dtype).tiny
    start = torch.cos(torch.arange(len(like), dtype=like.dtype, device=like.device))
    high = low = start / torch.linalg.vector_norm(start)
    for _ in range(_ESTIMATE_ITERATIONS):
        high = _unit(triangles.times(high), tiny)
    for _ in range(_ESTIMATE_ITERATIONS):
        solved = triangles.solve(low)
        square = float(solved @ solved)
        if not 0 < square < math.inf:
            return math.nan, math.nan
        smallest = float(low @ solved) / square  # Rayleigh quotient of A⁻¹low
        low = _unit(solved, tiny)
    return smallest, float(high @ triangles.times(high))


def _unit(v: Tensor, tiny: float) -> Tensor:
    """v/|v|, also of vectors that are shorter than the default bound of torch, 1e-12."""
    return torch.nn.functional.normalize(v, dim=0, eps=tiny)
