"""What a back end must offer: facts about itself, and a factor of D at one θ that applies any f.

A `Solver` is asked for a `TangentFactor` by a `Request`; everything that others need to know of it,
memory and rank for instance, it answers for a `Shape` of D. The symbols are those of
docs/notation.md; K̄ is the mean over outputs of the diagonal blocks of G.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from sklearn_gflow.geometry.functions import PSEUDOINVERSE, GramFunction
from sklearn_gflow.geometry.maps import TangentMap
from sklearn_gflow.geometry.vectors import norm

__all__ = ["Request", "Shape", "Solver", "TangentFactor", "total"]


@dataclass(frozen=True)
class Shape:
    """The shape of D.

    Parameters
    ----------
    n_samples : int
        N, the rows of the table.
    n_outputs : int
        Q.
    n_params : int
        K.
    """

    n_samples: int
    n_outputs: int
    n_params: int

    @classmethod
    def of(cls, tangent: TangentMap) -> Shape:
        """Of D at one θ."""
        return cls(tangent.n_samples, tangent.n_outputs, tangent.n_params)

    @property
    def size(self) -> int:
        """Q·N, the rows of D."""
        return self.n_samples * self.n_outputs

    @property
    def smaller(self) -> int:
        """min(Q·N, K), the size of the smaller of DDᵀ and DᵀD."""
        return min(self.size, self.n_params)


@dataclass(frozen=True)
class Request:
    """What is asked of a factor.

    Parameters
    ----------
    eigenvectors : bool
        Whether f of many vectors will be asked for, for which eigenvectors are best.
    once : bool
        Whether f of each vector is asked for once.
    tolerance : float, optional
        How accurate the smooth part of f has to be then, relatively.
    rcond : float or None
        Relative threshold on singular values of D, see `relative_threshold`.
    ridge : float
        Added to the eigenvalues of G before f; absolute.
    """

    eigenvectors: bool = False
    once: bool = False
    tolerance: float | None = None
    rcond: float | None = None
    ridge: float = 0.0

    @property
    def needs_eigenvectors(self) -> bool:
        """Whether a Cholesky factor will not do: its λ_min is an estimate, a stated cut exact."""
        return self.eigenvectors or self.rcond is not None


class TangentFactor(ABC):
    """D at one θ, ready for any f: Dᵀ f(G) r and P r.

    Attributes
    ----------
    rank : float
        Rank of D by the threshold; NaN where the back end does not see it.
    damped : bool
        Whether DD⁺ ≠ P: a ridge stands in f, and D⁺ is that of a ridge regression, or outputs
        share one kernel.
    squared : bool
        Whether singular values of D were squared on the way, so that rounding is that of G.
    tried : str
        Back ends that failed before.
    """

    rank: float
    damped: bool
    squared: bool = True
    tried: str = ""

    @property
    @abstractmethod
    def condition(self) -> float:
        """λ_max/λ_min of G over its range; for Cholesky an estimate from below, made when read."""

    @property
    @abstractmethod
    def solver(self) -> str:
        """What was used up to now, fallbacks included."""

    @abstractmethod
    def lift(self, f: GramFunction, r: Tensor) -> Tensor:
        """Dᵀ f(DDᵀ) r, shape (K,), of r, shape (Q·N,). With f = 1/λ: D⁺r."""

    @abstractmethod
    def apply(self, f: GramFunction, r: Tensor) -> Tensor:
        """f(DDᵀ) r on the range of D; of a vector, shape (Q·N,), or of columns."""

    @property
    def eigenvectors(self) -> tuple[Tensor, Tensor] | None:
        """All λ, ascending, and V of G = VΛVᵀ, where the factor has them."""
        return None

    def lift_all(self, *terms: tuple[GramFunction, Tensor]) -> Tensor:
        """Σ Dᵀ f(DDᵀ) r over pairs (f, r)."""
        return total(self.lift(f, r) for f, r in terms)

    def lift_with_dual(self, *terms: tuple[GramFunction, Tensor]) -> tuple[Tensor, Tensor]:
        """(Δθ, u) of that sum, with Δθ = Dᵀu."""
        return self.lift_all(*terms), total(self.apply(f, r) for f, r in terms)

    @abstractmethod
    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (Q·N,), of v, shape (K,)."""

    def push_dual(self, u: Tensor, v: Tensor) -> Tensor:
        """D·v for v = Dᵀu, which may cost less with u at hand."""
        return self.push(v)

    def move(self, f: GramFunction, r: Tensor) -> tuple[Tensor, Tensor]:
        """(Δθ, DΔθ) of Δθ = Dᵀ f(DDᵀ) r, of a vector."""
        displacement = self.lift(f, r)
        return displacement, self.push(displacement)

    @abstractmethod
    def project(self, r: Tensor) -> Tensor:
        """P r = DD⁺r (A.8); of a vector, shape (Q·N,), or of columns."""

    def fitted(self, r: Tensor) -> Tensor:
        """DD⁺r with the D⁺ of this factor: P r, or with a ridge what ridge regression fits."""
        return self.move(PSEUDOINVERSE, r)[1] if self.damped else self.project(r)

    def at_rest(self, r: Tensor, tolerance: float) -> bool:
        """Whether |P r| ≤ tolerance, so that the flow of r stands still."""
        return norm(self.project(r)) <= tolerance


class Solver(ABC):
    """A back end, and what is to be known of it before it is used.

    A back end of your own derives from this class and goes wherever a solver's name does: four
    members are abstract, the facts with a default are those of an exact decomposition.

    Attributes
    ----------
    name : str
        By which it is asked for.
    told : str
        What it is, in a sentence for the docstrings of estimators.
    sees_rank : bool
        Whether a factor that was asked for eigenvectors knows the rank of D. Otherwise ``rank``
        is NaN, always.
    takes_rcond : bool
        Whether it can cut the spectrum at a given ``rcond``.
    exact : bool
        Whether it applies f(G) itself, to rounding or to an accuracy that it states; otherwise
        f of something that stands for G.
    matrix_free : bool
        Whether it gets by with products, so that no matrix bounds the number of samples.
    """

    name: str
    told: str = ""
    sees_rank: bool = True
    takes_rcond: bool = True
    exact: bool = True
    matrix_free: bool = False

    @abstractmethod
    def forms(self, shape: Shape) -> str:
        """Which matrix it forms: "G", "DᵀD", "D", "K̄", or "" for none."""

    @abstractmethod
    def working_bytes(self, shape: Shape, itemsize: int) -> int:
        """Peak memory of `factorize`, in bytes, where a number has ``itemsize``.

        The matrix, its eigenvectors, and scratch of that size. In a flow the Gram of the next
        point stands beside it, and activations; that is less.
        """

    def entries(self, shape: Shape) -> int:
        """Entries of the matrix that is factorised and of the one that it is made of.

        The measure by which an automatic choice takes all rows at once; 0 where memory alone
        decides.
        """
        return shape.size * shape.smaller

    def within(self, n_bytes: int) -> Solver:
        """The same where so much memory is there, of which it may take more than it must."""
        return self

    def needs_ridge(self, shape: Shape) -> bool:
        """Whether a flow needs a ridge to get on with it."""
        return False

    @abstractmethod
    def factorize(self, tangent: TangentMap, probe: Tensor, request: Request) -> TangentFactor:
        """Prepare f(G) for D at one θ.

        Parameters
        ----------
        tangent : TangentMap
            x(θ) and D.
        probe : Tensor of shape (Q·N,)
            A vector that f(G) will be applied to.
        request : Request
            What is asked.

        Returns
        -------
        TangentFactor

        Raises
        ------
        FactorizationError
            If G is not finite, or every way of factorising it failed.
        """


def total(tensors: Iterable[Tensor]) -> Tensor:
    """Sum of one or more tensors, in their order."""
    first, *others = tensors
    return sum(others, start=first)
