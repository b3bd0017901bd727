"""Eigenvalues and eigenvectors of a symmetric matrix A, in the first place where they succeed.

Every call of an eigenvalue routine for a whole Gram goes through `eigh_somewhere`,
`ascending_eigenvalues` or `small_eigh`: where the routine fails, or returns numbers that are not
finite, it is called again in float64, then on the CPU. The symbols are those of docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable

import scipy.linalg
import torch
from torch import Tensor

from sklearn_gflow.geometry.functions import (
    FactorizationError,
    GramFunction,
    diagonal_in,
    summarize,
)

__all__ = [
    "Eigh",
    "ascending_eigenvalues",
    "eigh_somewhere",
    "on_one_core",
    "roots_of_blocks",
    "small_eigh",
]

# Eigenvalues of small blocks up to so many roundings of the largest count as zero. The root of one
# that should not count is 1e-8, which no later threshold on singular values would catch.
_ROUNDING_OF_BLOCKS = 1000


class Eigh:
    """A = V diag(λ) Vᵀ on its range: any f, rank revealed. The ridge enters f alone.

    ``whole`` are all λ and V, beyond the range too.
    """

    def __init__(self, A: Tensor, threshold: float, ridge: float) -> None:
        eigenvalues, V, self.name = eigh_somewhere(A)
        self.whole = eigenvalues, V
        _, self.rank, self.condition, _ = summarize(eigenvalues.flip(0), threshold)
        start = len(eigenvalues) - self.rank
        self.eigenvalues, self.V, self.ridge = eigenvalues[start:], V[:, start:], ridge

    def apply(self, f: GramFunction, b: Tensor) -> Tensor:
        """f(A + ridge)·b on the range of A."""
        return diagonal_in(self.V, f(self.eigenvalues + self.ridge), self.V, b)

    def solve(self, b: Tensor) -> Tensor:
        """A⁺b."""
        return diagonal_in(self.V, 1 / self.eigenvalues, self.V, b)

    def project(self, b: Tensor) -> Tensor:
        """AA⁺b."""
        return self.V @ (self.V.mT @ b)

    def times(self, b: Tensor) -> Tensor:
        """A·b, without the ridge."""
        return diagonal_in(self.V, self.eigenvalues, self.V, b)


def eigh_somewhere(A: Tensor) -> tuple[Tensor, Tensor, str]:
    """Eigendecomposition of A; in float64, then on the CPU, where the first try fails.

    Divide-and-conquer drivers have failed on low-rank float32 matrices, on CUDA above all.

    Parameters
    ----------
    A : Tensor of shape (m, m)
        Symmetric.

    Returns
    -------
    eigenvalues : Tensor of shape (m,)
        Ascending.
    vectors : Tensor of shape (m, m)
        Orthonormal columns.
    name : str
        Of the try that succeeded.

    Raises
    ------
    FactorizationError
        Naming every try.
    """
    (eigenvalues, V), name = _first_success(_eigh, A)
    return eigenvalues, V, name


def ascending_eigenvalues(A: Tensor) -> Tensor:
    """Eigenvalues of A, by the same tries as `eigh_somewhere`.

    Raises
    ------
    FactorizationError
        Naming every try.
    """
    (ascending,), _ = _first_success(_eigvalsh, A)
    return ascending


def small_eigh(A: Tensor) -> tuple[Tensor, Tensor]:
    """Λ and V of a matrix so small that it does not matter how many threads a library has.

    Raises
    ------
    FactorizationError
        Naming every try.
    """
    (eigenvalues, V), _ = _first_success(_eigh_by_torch, A)
    return eigenvalues, V


def _first_success(
    routine: Callable[[Tensor], tuple[Tensor, ...]], A: Tensor
) -> tuple[tuple[Tensor, ...], str]:
    """What the routine returns, Λ first, as A has its numbers; and the try that succeeded."""
    attempts = [("eigh", A.dtype, A.device)]
    if A.dtype != torch.float64:
        attempts.append(("eigh in float64", torch.float64, A.device))
    if A.device.type != "cpu":
        attempts.append(("eigh in float64 on the CPU", torch.float64, torch.device("cpu")))
    failures = []
    for name, dtype, device in attempts:
        try:
            # Eigenvalues too large for the dtype of A become infinite in it: this try has failed.
            parts = tuple(part.to(A) for part in routine(A.to(device=device, dtype=dtype)))
        except (torch.linalg.LinAlgError, scipy.linalg.LinAlgError) as error:
            failures.append(f"{name}: {error}")
            continue
        if bool(parts[0].isfinite().all()):
            return parts, name
        failures.append(f"{name}: eigenvalues that are not finite")
    raise FactorizationError("; ".join(failures))


def _eigh(A: Tensor) -> tuple[Tensor, Tensor]:
    """Λ, V of A = VΛVᵀ; on one core SciPy's LAPACK takes about two thirds of the time."""
    if not on_one_core(A):
        return _eigh_by_torch(A)
    eigenvalues, V = scipy.linalg.eigh(A.numpy(), driver="evd", check_finite=False)
    return torch.from_numpy(eigenvalues), torch.from_numpy(V)


def _eigh_by_torch(A: Tensor) -> tuple[Tensor, Tensor]:
    eigenvalues, V = torch.linalg.eigh(A)
    return eigenvalues, V


def _eigvalsh(A: Tensor) -> tuple[Tensor]:
    if not on_one_core(A):
        return (torch.linalg.eigvalsh(A),)
    ascending = scipy.linalg.eigh(A.numpy(), eigvals_only=True, driver="evr", check_finite=False)
    return (torch.from_numpy(ascending),)


def on_one_core(A: Tensor) -> bool:
    """Whether SciPy's LAPACK may serve, which takes about two thirds of the time of torch's.

    On more cores the threads of the two libraries would wait for each other.
    """
    return A.device.type == "cpu" and torch.get_num_threads() == 1


def roots_of_blocks(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """M^½ and its pseudoinverse M^{−½} of small positive semidefinite matrices, by one try.

    Parameters
    ----------
    blocks : Tensor of shape (n, m, m)
        Symmetric. What is below rounding of the largest eigenvalue of a block counts as zero.

    Returns
    -------
    root, inverse : Tensor of shape (n, m, m)
    """
    eigenvalues, V = torch.linalg.eigh(blocks)
    threshold = _ROUNDING_OF_BLOCKS * torch.finfo(blocks.dtype).eps * eigenvalues[:, -1:]
    counts = eigenvalues > threshold.clamp_min(0)
    roots = torch.where(counts, eigenvalues, torch.zeros_like(eigenvalues)).sqrt()
    inverses = torch.where(counts, 1 / roots, torch.zeros_like(roots))
    return (V * roots[:, None, :]) @ V.mT, (V * inverses[:, None, :]) @ V.mT
