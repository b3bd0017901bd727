"""The Gaussian process of the tangent kernel: how large the error of a prediction should be.

Amplitude and noise are those under which rows left out are the most probable. The estimators'
``predict(X, return_std=True)`` is made of it. Notation: docs/notation.md; Θ is the kernel (3.14).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from sklearn_gflow.diagnostics.kernel import kernel_blocks
from sklearn_gflow.geometry import Linearization, gram_eigenvectors

__all__ = ["OutputPosterior", "TangentPosterior"]

# Noise ratios ρ that are tried, relative to the mean eigenvalue, eight in a decade. The density is
# flat at its maximum, so that a finer grid gains nothing.
_RATIOS = tuple(np.logspace(-6, 3, 73).tolist())


@dataclass(frozen=True)
class OutputPosterior:
    """One output as a Gaussian process with the tangent kernel, given training rows.

    The model is y = g(x) + noise with g ~ GP(0, σ_f²Θ) and noise of variance σ_n²/w at a row of
    weight w: the linear model in the gradient of f_θ with a normal prior on Δθ. In the
    coordinates W^½y it is Euclidean. With W^½ΘW^½ = VΛVᵀ, k the column Θ(xᵢ, x) and
    ρ = σ_n²/σ_f² (Rasmussen and Williams, 2006, (2.25)–(2.26)),

        mean(x) = kᵀW^½ V(Λ + ρ)⁻¹Vᵀ W^½y,
        variance(x) = σ_f² (Θ(x, x) − kᵀW^½ V(Λ + ρ)⁻¹Vᵀ W^½k) + σ_n².

    Parameters
    ----------
    eigenvalues : Tensor of shape (n_samples,)
        Λ.
    vectors : Tensor of shape (n_samples, n_samples)
        V.
    targets : Tensor of shape (n_samples,)
        y, as deviations from the prior mean.
    weights : Tensor of shape (n_samples,)
        w.
    amplitude, noise : float
        σ_f², σ_n².
    """

    eigenvalues: Tensor
    vectors: Tensor
    targets: Tensor
    weights: Tensor
    amplitude: float = 1.0
    noise: float = 1.0

    @classmethod
    def by_leave_one_out(
        cls, gram: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> OutputPosterior:
        """With the amplitude and the noise under which rows left out are the most probable.

        The kernel should not have seen the targets, as that of the start has not.

        Parameters
        ----------
        gram : Tensor of shape (n_samples, n_samples)
            Θ on the rows, without weights.
        targets : Tensor of shape (n_samples,)
            y, as deviations from the prior mean.
        weights : Tensor of shape (n_samples,), optional
            Positive; only their ratios count, since σ_n² is that of a row of mean weight.

        Returns
        -------
        OutputPosterior

        Raises
        ------
        FactorizationError
            If Θ could not be decomposed.
        """
        w = torch.ones_like(targets) if weights is None else weights / weights.mean()
        root = w.sqrt().to(gram)
        eigenvalues, V = gram_eigenvectors(gram * root[:, None] * root)
        plain = cls(eigenvalues.double(), V.double(), targets.double(), w.double())
        unit = float(eigenvalues.mean()) or 1.0  # Σ w Θ(x, x)/Σ w
        ratios = unit * plain.targets.new_tensor(_RATIOS)
        densities, amplitudes = plain._left_out_densities(ratios)
        best = int(densities.argmax())
        amplitude = float(amplitudes[best])
        return replace(plain, amplitude=amplitude, noise=amplitude * float(ratios[best]))

    def standing_for(self, n_samples: int, residual: Tensor) -> OutputPosterior:
        """The same rows as a sample of more, on which the network was trained.

        A row of m stands for N/m of the N rows, as its weight would. The noise is read off the
        residuals of the network, whose N rows leave it N − γ degrees of freedom:

            σ_n² = (Σ w r²/Σ w) / (1 − γ/N),   γ = tr Λ(Λ + ρ)⁻¹.

        Parameters
        ----------
        n_samples : int
            N, larger than m.
        residual : Tensor of shape (m,)
            r, target minus prediction of the network.

        Returns
        -------
        OutputPosterior
        """
        share = n_samples / len(self.targets)
        mean_square = float(self.weights @ residual.double().square() / self.weights.sum())
        eigenvalues = share * self.eigenvalues

        def excess(noise: float) -> float:
            freedom = (eigenvalues / (eigenvalues + noise / self.amplitude)).sum()
            return noise * (1 - float(freedom) / n_samples) - mean_square

        noise = mean_square
        if not math.isfinite(mean_square + self.amplitude):
            noise = math.nan
        elif mean_square > 0 and self.amplitude > 0:  # γ ≤ m brackets the root
            noise = scipy.optimize.brentq(excess, mean_square, 2 * mean_square / (1 - 1 / share))
        return replace(self, eigenvalues=eigenvalues, weights=share * self.weights, noise=noise)

    def mean(self, cross: Tensor) -> Tensor:
        """Posterior mean at the columns of Θ(xᵢ, x), shape (n_samples, m)."""
        return cross.double().mT @ self._coefficients

    def variance(self, cross: Tensor, diagonal: Tensor) -> Tensor:
        """Variance of a new observation at the columns of Θ(xᵢ, x), Θ(x, x) the ``diagonal``."""
        squares = self._weighted(cross).square()
        explained = squares.mT @ (1 / (self.eigenvalues + self._ratio))
        return self.amplitude * (diagonal - explained).clamp_min(0) + self.noise

    def _left_out_densities(self, ratios: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log density of rows left out, up to a constant, and its best σ_f², for every ρ.

        With A = W^½ΘW^½ + ρ, row i left out with all its weight has the residual and variance

            eᵢ = [A⁻¹W^½y]ᵢ / ([A⁻¹]ᵢᵢ √wᵢ),   σ_f² vᵢ,   vᵢ = (1/[A⁻¹]ᵢᵢ − ρ)/wᵢ + ρ,

        which without weights are (5.12) of Rasmussen and Williams.
        """
        w = self.weights[:, None]
        inverse = 1 / (self.eigenvalues[:, None] + ratios)
        diagonal = self.vectors.square() @ inverse
        e = self.vectors @ (self._coordinates[:, None] * inverse) / (diagonal * w.sqrt())
        v = (1 / diagonal - ratios) / w + ratios
        amplitudes = (w * e.square() / v).mean(0)
        return -(amplitudes.log() + (w * v.log()).mean(0)) / 2, amplitudes

    @cached_property
    def _coordinates(self) -> Tensor:
        """VᵀW^½y."""
        return self.vectors.mT @ (self.weights.sqrt() * self.targets)

    @cached_property
    def _coefficients(self) -> Tensor:
        """W^½V(Λ + ρ)⁻¹VᵀW^½y, of which all means are made."""
        inverse = self._coordinates / (self.eigenvalues + self._ratio)
        return self.weights.sqrt() * (self.vectors @ inverse)

    @property
    def _ratio(self) -> float:
        """ρ; of targets that are all zero, where both variances vanish, any will do."""
        return 1.0 if self.amplitude <= 0 else self.noise / self.amplitude

    def _weighted(self, cross: Tensor) -> Tensor:
        """VᵀW^½k."""
        return self.vectors.mT @ (self.weights.sqrt()[:, None] * cross.double())


@dataclass(frozen=True)
class TangentPosterior:
    """Each output of a network as a Gaussian process of its own, with its own tangent kernel Θ_qq.

    The covariance of outputs with each other, the blocks Θ_qr of the kernel, is left out: each
    has its own amplitude and noise, and takes one eigendecomposition of N×N.

    Parameters
    ----------
    rows : Linearization
        f_θ at the training rows, to first order in θ.
    outputs : sequence of OutputPosterior
        One for each output.
    """

    rows: Linearization
    outputs: Sequence[OutputPosterior]

    @classmethod
    def by_leave_one_out(
        cls, rows: Linearization, targets: Tensor, weights: Tensor | None = None
    ) -> TangentPosterior:
        """See `OutputPosterior.by_leave_one_out`.

        Parameters
        ----------
        rows : Linearization
            f_θ at the training rows; at the start, its kernel has not seen the targets.
        targets : Tensor of shape (n_samples, Q)
            y, as deviations from the prior mean.
        weights : Tensor of shape (n_samples,), optional
            Only their ratios count.

        Returns
        -------
        TangentPosterior

        Raises
        ------
        FactorizationError
            If a kernel could not be decomposed.
        """
        kernels = _own_blocks(rows.gram(), targets.shape[1])
        outputs = [
            OutputPosterior.by_leave_one_out(kernel, y, weights)
            for kernel, y in zip(kernels, targets.mT, strict=True)
        ]
        return cls(rows, outputs)

    def standing_for(self, n_samples: int, residual: Tensor) -> TangentPosterior:
        """See `OutputPosterior.standing_for`.

        Parameters
        ----------
        n_samples : int
            N.
        residual : Tensor of shape (m, Q)
            Target minus prediction of the network.

        Returns
        -------
        TangentPosterior
        """
        pairs = zip(self.outputs, residual.mT, strict=True)
        return replace(self, outputs=[output.standing_for(n_samples, r) for output, r in pairs])

    def square_error(self, other: Linearization, prediction: Tensor) -> Tensor:
        """E[(y − f)²] of a new observation y at the prediction f of another model.

        It is variance + (mean − f)²: where the model was stopped too early or interpolates
        noise, it does worse than the posterior mean, and by how much is known.

        Parameters
        ----------
        other : Linearization
            f_θ at the inputs, with the θ of the training rows.
        prediction : Tensor of shape (m, Q)
            f, as deviations from the prior mean.

        Returns
        -------
        Tensor of shape (m, Q)
        """
        mean, variance = self.predict(other)
        return variance + (mean - prediction).square()

    def predict(self, other: Linearization) -> tuple[Tensor, Tensor]:
        """Mean and variance of new observations.

        Parameters
        ----------
        other : Linearization
            f_θ at their inputs, with the θ of the training rows.

        Returns
        -------
        mean, variance : Tensor of shape (m, Q)
        """
        n_outputs = len(self.outputs)
        cross = _own_blocks(self.rows.cross_gram(other), n_outputs)
        diagonals = other.gram_diagonal().view(-1, n_outputs).mT
        means = [output.mean(k) for output, k in zip(self.outputs, cross, strict=True)]
        variances = [
            output.variance(k, diagonal)
            for output, k, diagonal in zip(self.outputs, cross, diagonals, strict=True)
        ]
        return torch.stack(means, dim=1), torch.stack(variances, dim=1)


def _own_blocks(kernel: Tensor, n_outputs: int) -> Tensor:
    """Θ_qq(xᵢ, xⱼ), shape (Q, n, m)."""
    return kernel_blocks(kernel, n_outputs).diagonal(dim1=2, dim2=3).movedim(2, 0)
