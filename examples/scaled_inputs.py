r"""
A family of functions of your own
=================================

A network that learns how long to make each column of its inputs: :math:`f_\theta(x) = f(e^\ell x)`,
a layered network behind one factor :math:`e^{\ell_j}` a column, which is trained with the weights.
Any module could say this. As a family it keeps the Gram of layered networks, which no Jacobian is
formed for, and adds the one product that the factors cost.

Of the ten columns of ``friedman1`` three bend the target, two add to it in straight lines, and five
do nothing. A network that is smooth at its start needs a larger factor where the target bends, and
the factors tell which columns those are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_friedman1
from torch import Tensor

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.geometry import Family, LayeredNetwork, Linearization
from sklearn_gflow.geometry.layered import LayeredLinearization

GROUPS = {"bent": slice(0, 3), "straight": slice(3, 5), "irrelevant": slice(5, 10)}
COLORS = {"bent": "#d55e00", "straight": "#0072b2", "irrelevant": "0.6"}
N_TRAIN, N_TEST = 300, 1000
SEEDS = range(5)

# %%
# The family: the functions, their start, and what a fit shows of them.


class ScaledInputs(Family):
    """A layered network of inputs times e^ℓ. θ is ℓ, one number a column, then the network's.

    Parameters
    ----------
    sizes, activation
        Of the network, see `LayeredNetwork`.
    """

    any_precision = True  # of θ and X, as plain networks

    def __init__(self, sizes: Sequence[int], activation: str = "tanh") -> None:
        self.network = LayeredNetwork(sizes, activation)
        self.n_features, self.n_outputs = self.network.n_features, self.network.n_outputs
        self.n_params = self.n_features + self.network.n_params

    @classmethod
    def build(cls, n_features: int, n_outputs: int) -> ScaledInputs:
        """What an estimator's ``module`` asks for."""
        return cls((n_features, 64, n_outputs))

    def initial(self, generator: torch.Generator, *, input_scale: float = 1.0) -> Tensor:
        """All factors one, and a network as ever."""
        start = self.network.initial(generator, input_scale=input_scale)
        return torch.cat([start.new_zeros(self.n_features), start])

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(e^ℓ, θ of the network)."""
        return theta[: self.n_features].exp(), theta[self.n_features :]

    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X)."""
        scales, inner = self.split(theta)
        return self.network.outputs(inner, X * scales)

    def linearize(self, theta: Tensor, X: Tensor) -> ScaledLinearization:
        """f_θ(X) with its first derivative in θ."""
        scales, inner = self.split(theta)
        return ScaledLinearization(self, self.network.linearize(inner, X * scales))

    def fitted_attributes(self, theta: Tensor) -> dict[str, object]:
        """What a fit shows: the factors beside the weights."""
        scales, inner = self.split(theta)
        return {"input_scales_": scales, **self.network.fitted_attributes(inner)}


# %%
# Its first derivative, as products. Five methods are asked for; the others have defaults, made of
# these, where the network knows faster ways.


@dataclass(frozen=True)
class ScaledLinearization(Linearization):
    """The network at one θ and one X, to first order."""

    family: ScaledInputs
    inner: LayeredLinearization

    @property
    def outputs(self) -> Tensor:  # type: ignore[override]
        """f_θ(X)."""
        return self.inner.outputs

    @property
    def n_params(self) -> int:
        """K."""
        return self.family.n_params

    @cached_property
    def by_scale(self) -> Tensor:
        """∂x_q/∂ℓⱼ = e^ℓⱼxⱼ·(W₁δ₁^q)ⱼ, shape (n_samples, n_outputs, n_features)."""
        W = self.inner.layers[0][0]
        deltas = self.inner.sensitivities()  # δ^q of the hidden layers, where there are some
        by_input = deltas[0] @ W.mT if deltas else W.mT
        return by_input * self.inner.inputs[0][:, None, :]

    def push(self, v: Tensor) -> Tensor:
        """D·v."""
        n = self.family.n_features
        return self.by_scale @ v[:n] + self.inner.push(v[n:])

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u."""
        return torch.cat([torch.einsum("iqj,iq->j", self.by_scale, u), self.inner.pull(u)])

    def cross_gram(self, other: ScaledLinearization) -> Tensor:
        """Θ(xᵢ, yⱼ): that of the network, and one product more."""
        left, right = self.by_scale.flatten(0, 1), other.by_scale.flatten(0, 1)
        return self.inner.cross_gram(other.inner).addmm_(left, right.mT)

    def gram(self) -> Tensor:
        """DDᵀ, of which the network computes one triangle."""
        rows = self.by_scale.flatten(0, 1)
        return self.inner.gram().addmm_(rows, rows.mT)

    def take(self, samples: Tensor) -> ScaledLinearization:
        """The same θ at some of the samples."""
        return ScaledLinearization(self.family, self.inner.take(samples))

    # -- all of these have defaults, made of the above; the network knows faster ways --------------

    def shared_gram(self) -> Tensor:
        """The mean over outputs of the diagonal blocks of DDᵀ."""
        rows = self.by_scale.flatten(1)
        return self.inner.shared_gram().addmm_(rows, rows.mT, alpha=1 / self.family.n_outputs)

    def gram_diagonal(self) -> Tensor:
        """The diagonal of DDᵀ."""
        return self.inner.gram_diagonal() + self.by_scale.square().sum(2).reshape(-1)

    def jacobian(self) -> Tensor:
        """D."""
        return torch.cat([self.by_scale.flatten(0, 1), self.inner.jacobian()], dim=1)


# %%
# Five tables, a plain network and a scaled one on each.


def table(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows to fit and rows to score: ten uniform columns of variance one, of which five enter."""
    X, y = make_friedman1(N_TRAIN + N_TEST, n_features=10, noise=1.0, random_state=seed)
    X = (X - 0.5) * 12**0.5
    return X[:N_TRAIN], y[:N_TRAIN], X[N_TRAIN:], y[N_TRAIN:]


if __name__ == "__main__":
    scores, scales = np.empty((len(SEEDS), 2)), np.empty((len(SEEDS), 10))
    print("table  R² plain  R² scaled   mean factor of " + ", ".join(GROUPS) + " columns")
    for seed in SEEDS:
        X, y, X_test, y_test = table(seed)
        plain = AdaptedFlowRegressor((64,), random_state=seed).fit(X, y)
        scaled = AdaptedFlowRegressor(module=ScaledInputs.build, random_state=seed).fit(X, y)
        scores[seed] = plain.score(X_test, y_test), scaled.score(X_test, y_test)
        scales[seed] = scaled.input_scales_
        means = "  ".join(f"{scales[seed, columns].mean():.2f}" for columns in GROUPS.values())
        print(f"{seed:5d}  {scores[seed, 0]:8.3f}  {scores[seed, 1]:9.3f}   {means}")

# %%
# Scores on each table, and the factors of each column.

if __name__ == "__main__":
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.5, 3.8), layout="constrained", width_ratios=(1, 2)
    )
    left.plot(scores.T, color="0.4", marker="o")
    left.set(xticks=(0, 1), xticklabels=("plain", "scaled"), xlim=(-0.3, 1.3))
    left.set(title="$R^2$ on rows left out, five tables")
    for group, columns in GROUPS.items():
        at = np.arange(10)[columns]
        right.plot(at, scales[:, columns].T, "o", color=COLORS[group], alpha=0.5)
        right.plot([], [], "o", color=COLORS[group], label=group)
    right.axhline(1.0, color="0.5", linestyle=":", linewidth=1)
    right.set(title=r"factors $e^{\ell}$ that were learnt", xlabel="column", xticks=range(10))
    right.legend()
    for ax in (left, right):
        ax.grid(visible=True, alpha=0.25)
    plt.show()
