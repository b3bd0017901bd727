"""The mean of several members of one family, as a family: f_θ = (1/M) Σ_m f_{θ_m}.

θ = (θ₁, …, θ_M) is one flat vector, so that whatever reads a network reads a mean of networks. Its
D is (D₁, …, D_M)/M, and its Gram the mean of the members' Grams over M. The mean of layered
networks is a layered network, whose hidden weights are block-diagonal. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sklearn_gflow.geometry.layered import LayeredNetwork
from sklearn_gflow.geometry.maps import Family, Linearization

__all__ = ["MeanFamily", "MeanLinearization"]


class MeanFamily(Family):
    """The mean of so many members of a family, each with parameters of its own.

    Parameters
    ----------
    member : Family
        Of which each member is one.
    n_members : int
        M.
    """

    def __init__(self, member: Family, n_members: int) -> None:
        self._member, self.n_members = member, n_members
        self.n_params, self.n_outputs = n_members * member.n_params, member.n_outputs
        self.any_precision, self.sparse_inputs = member.any_precision, member.sparse_inputs

    @property
    def member(self) -> Family:
        """Of which each member is one."""
        return self._member

    def initial(self, generator: torch.Generator, *, input_scale: float = 1.0) -> Tensor:
        """One start behind the other; the first is that of a single network."""
        starts = [
            self.member.initial(generator, input_scale=input_scale) for _ in range(self.n_members)
        ]
        return torch.cat(starts)

    def outputs(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_θ(X), shape (n_samples, n_outputs)."""
        return self.at(theta)(X)

    def at(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """X ↦ f_θ(X), each member prepared once."""
        members = [self.member.at(part) for part in self.parts(theta)]
        return lambda X: _mean([member(X) for member in members])

    def offsets(self, theta: Tensor, X: Tensor) -> Tensor:
        """f_{θ_m}(X) of each member, shape (n_samples, n_members, n_outputs)."""
        return torch.stack([self.member.outputs(part, X) for part in self.parts(theta)], dim=1)

    def linearize(self, theta: Tensor, X: Tensor) -> MeanLinearization:
        """f_θ(X) with its first derivative in θ."""
        return MeanLinearization([self.member.linearize(part, X) for part in self.parts(theta)])

    def input_gradients(self, theta: Tensor, X: Tensor) -> Tensor:
        """∂f_θ/∂x at each row of X, shape (n_samples, n_outputs, n_features)."""
        return _mean([self.member.input_gradients(part, X) for part in self.parts(theta)])

    @property
    def signature(self) -> Any:
        """That of a member, and how many there are."""
        return self.member.signature, self.n_members

    @property
    def row_numbers(self) -> int:
        """Those of all members."""
        return self.n_members * self.member.row_numbers

    def fitted_attributes(self, theta: Tensor) -> dict[str, Any]:
        """Of layered networks the weights and biases of the one that their mean is."""
        if not isinstance(self.member, LayeredNetwork):
            return super().fitted_attributes(theta)
        layers = list(self._layers(theta))
        return {
            "coefs_": [W for W, _ in layers],
            "intercepts_": [b for _, b in layers],
            "n_layers_": len(self.member.sizes),
        }

    def hidden(self, theta: Tensor, X: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the last layers receive, side by side, and the weights of the layer above all."""
        found = [self.member.hidden(part, X) for part in self.parts(theta)]
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        activations, weights = zip(*known, strict=True)
        return torch.cat(activations, dim=1), torch.cat(weights) / self.n_members

    def state(self) -> dict[str, Tensor]:
        """That of the family of the members."""
        return self.member.state()

    def restored(self, state: dict[str, Tensor]) -> MeanFamily:
        """The family with the state of a fit."""
        return MeanFamily(self.member.restored(state), self.n_members)

    def parts(self, theta: Tensor) -> Sequence[Tensor]:
        """θ₁, …, θ_M."""
        return theta.split(self.member.n_params)

    def _layers(self, theta: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(weights, biases) of the layered network that a mean of such is."""
        assert isinstance(self.member, LayeredNetwork)
        members = [self.member.layers(part) for part in self.parts(theta)]
        last = len(self.member.shapes) - 1
        for depth, layers in enumerate(zip(*members, strict=True)):
            weights, biases = zip(*layers, strict=True)
            if depth == last:
                # Without a hidden layer all members look at the same inputs.
                yield (
                    (torch.cat(weights) / self.n_members if depth else _mean(weights)),
                    _mean(biases),
                )
            else:
                beside = torch.block_diag(*weights) if depth else torch.cat(weights, dim=1)
                yield beside, torch.cat(biases)


class MeanLinearization(Linearization):
    """A mean of members at one θ and one X, to first order.

    Parameters
    ----------
    members : sequence of Linearization
        One a member, at the same X.
    """

    def __init__(self, members: Sequence[Linearization]) -> None:
        self.members = members
        self.outputs = _mean([member.outputs for member in members])

    @property
    def n_params(self) -> int:
        """K."""
        return sum(member.n_params for member in self.members)

    def push(self, v: Tensor) -> Tensor:
        """D·v, shape (n_samples, n_outputs)."""
        parts = v.split([member.n_params for member in self.members])
        return _mean([member.push(v) for member, v in zip(self.members, parts, strict=True)])

    def pull(self, u: Tensor) -> Tensor:
        """Dᵀ·u, shape (n_params,)."""
        share = u / len(self.members)
        return torch.cat([member.pull(share) for member in self.members])

    def cross_gram(self, other: MeanLinearization) -> Tensor:
        """Θ(xᵢ, yⱼ) with another sample set at the same θ, shape (n·Q, m·Q)."""
        pairs = zip(self.members, other.members, strict=True)
        return self._shared_out(one.cross_gram(another) for one, another in pairs)

    def take(self, samples: Tensor) -> MeanLinearization:
        """The same θ at some of the samples."""
        return MeanLinearization([member.take(samples) for member in self.members])

    def gram(self) -> Tensor:
        """DDᵀ, shape (n_samples·n_outputs, n_samples·n_outputs)."""
        return self._shared_out(member.gram() for member in self.members)

    def shared_gram(self) -> Tensor:
        """K̄, shape (n_samples, n_samples)."""
        return self._shared_out(member.shared_gram() for member in self.members)

    def gram_diagonal(self) -> Tensor:
        """The diagonal of DDᵀ, shape (n_samples·n_outputs,)."""
        return self._shared_out(member.gram_diagonal() for member in self.members)

    def jacobian(self) -> Tensor:
        """D, shape (n_samples·n_outputs, n_params)."""
        return torch.cat([member.jacobian() for member in self.members], dim=1) / len(self.members)

    def _shared_out(self, kernels: Iterator[Tensor]) -> Tensor:
        """A sum over members of what is squared in D, of which each has a part of 1/M²."""
        total = next(kernels)
        for kernel in kernels:  # one after the other, since a Gram may be large
            total += kernel
        return total.div_(len(self.members) ** 2)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0)
