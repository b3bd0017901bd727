"""What counts as zero, and the spectrum of G = DDᵀ: eigenvalues, rank, condition, eigenvectors.

`relative_threshold` is the only home of ``rcond``: every rank of this package is decided by it.
The eigenvalues are those of the smaller of DDᵀ and DᵀD. The symbols are those of
docs/notation.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_gflow.geometry.eigen import ascending_eigenvalues, eigh_somewhere
from sklearn_gflow.geometry.functions import Spectrum, summarize
from sklearn_gflow.geometry.maps import Linearization, TangentMap

__all__ = ["gram_eigenvectors", "gram_spectrum", "relative_threshold", "tangent_spectrum"]


def relative_threshold(
    rcond: float | None, dtype: torch.dtype, size: int, *, squared: bool
) -> float:
    """Singular values of D up to this multiple of the largest count as zero.

    Eigenvalues of G = DDᵀ carry an absolute error of about size·eps·λ_max, so σ = √λ is not
    resolved below √(size·eps)·σ_max; singular values of D itself are, down to size·eps.

    Parameters
    ----------
    rcond : float or None
        The user's choice; None follows dtype and size. What cannot be resolved counts as zero
        whatever the choice.
    dtype : torch.dtype
        Of D.
    size : int
        The larger dimension of the matrix that is decomposed.
    squared : bool
        Whether G (or DᵀD) is decomposed; otherwise D.

    Returns
    -------
    float
        Threshold on singular values of D; its square is the one on eigenvalues of G.

    Raises
    ------
    ValueError
        If ``rcond`` is NaN: nothing would count.
    """
    if rcond is not None and math.isnan(rcond):
        raise ValueError("rcond is NaN; set a number, or None")
    noise = size * torch.finfo(dtype).eps
    resolved = math.sqrt(noise) if squared else noise
    return resolved if rcond is None else max(rcond, resolved)


def gram_spectrum(gram: Tensor, *, rcond: float | None = None) -> Spectrum:
    """Eigenvalues, rank and condition of a Gram matrix.

    Parameters
    ----------
    gram : Tensor of shape (m, m)
        Symmetric, positive semidefinite.
    rcond : float or None
        See `relative_threshold`.

    Returns
    -------
    Spectrum
        Eigenvalues descending; the condition is λ_max/λ_min over the eigenvalues that count.

    Raises
    ------
    FactorizationError
        If they could not be had in any precision on any device, or are not finite.
    """
    ascending = ascending_eigenvalues(gram)
    threshold = relative_threshold(rcond, gram.dtype, len(gram), squared=True)
    return summarize(ascending.flip(0), threshold)


def gram_eigenvectors(gram: Tensor, *, rcond: float | None = None) -> tuple[Tensor, Tensor]:
    """(Λ, V) of G = VΛVᵀ.

    Parameters
    ----------
    gram : Tensor of shape (m, m)
        Symmetric, positive semidefinite.
    rcond : float or None
        See `relative_threshold`.

    Returns
    -------
    eigenvalues : Tensor of shape (m,)
        Ascending; zero where they do not count towards the rank.
    vectors : Tensor of shape (m, m)
        Orthonormal columns.

    Raises
    ------
    FactorizationError
        If they could not be had in any precision on any device.
    """
    eigenvalues, V, _ = eigh_somewhere(gram)
    threshold = relative_threshold(rcond, gram.dtype, len(gram), squared=True)
    rank = summarize(eigenvalues.flip(0), threshold).rank
    eigenvalues[: len(eigenvalues) - rank] = 0
    return eigenvalues, V


def tangent_spectrum(
    linearization: Linearization | TangentMap,
    *,
    gram: Tensor | None = None,
    rcond: float | None = None,
) -> Spectrum:
    """All Q·N eigenvalues of G = DDᵀ, rank and condition, through the smaller of DDᵀ and DᵀD.

    Parameters
    ----------
    linearization : Linearization or TangentMap
        D at one θ.
    gram : Tensor of shape (Q·N, Q·N), optional
        G, where it is at hand.
    rcond : float or None
        See `relative_threshold`.

    Returns
    -------
    Spectrum

    Raises
    ------
    FactorizationError
        As `gram_spectrum` does.
    """
    size, n_params = linearization.outputs.numel(), linearization.n_params
    if size <= n_params:
        return gram_spectrum(linearization.gram() if gram is None else gram, rcond=rcond)
    D = linearization.jacobian()
    spectrum = gram_spectrum(D.mT @ D, rcond=rcond)
    missing = spectrum.eigenvalues.new_zeros(size - n_params)
    return spectrum._replace(eigenvalues=torch.cat([spectrum.eigenvalues, missing]))
