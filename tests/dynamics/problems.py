"""Small flows that several tests share."""

import torch

from sklearn_gflow.dynamics import Point, Stepper, mean_diagonal
from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError, factorize
from tests import oracles


class Flow:
    """x(θ) = f_θ(X) − f_θ₀(X) with targets y; the pieces that `flow` wants."""

    def __init__(self, n=6, sizes=(2, 12, 1), activation="tanh", *, seed=0, bias=0.5, X=None,
                 y=None, weights=None, spread=1.0, family=None):  # fmt: skip
        self.sizes, self.activation = sizes, activation
        self.theta, drawn = oracles.problem(n, sizes, seed=seed, bias=bias)
        self.X = spread * drawn if X is None else X
        generator = torch.Generator().manual_seed(seed + 100)
        shape = (len(self.X), sizes[-1])
        self.y = torch.randn(shape, generator=generator, dtype=torch.float64) if y is None else y
        self.weights = weights
        self.network = LayeredNetwork(sizes, activation) if family is None else family
        offset = LayeredNetwork(sizes, activation).outputs(self.theta, self.X)
        self.map = OutputMap(self.network, self.X, offset, weights)
        self.cost = SquaredError(self.map.weigh(self.y), self.map.total_weight)

    @property
    def pieces(self):
        return self.map, self.cost, self.theta

    @property
    def D(self):
        return oracles.jacobian(self.theta, self.X, self.sizes, self.activation)

    def moved(self, theta):
        """x(θ), by the oracle, flat and without weights."""
        start, end = (
            oracles.forward(p, self.X, self.sizes, self.activation) for p in (self.theta, theta)
        )
        return (end - start).reshape(-1)

    def stepper(self, alpha, *, scale=None, solver="auto", ridge=0.0):
        point = Point.at(self.map, self.cost, 0.0, self.theta)
        scale = mean_diagonal(point.tangent) if scale is None else scale
        factor = factorize(point.tangent, point.residual, solver=solver, ridge=ridge)
        distance = float(point.residual.norm())
        return Stepper(
            point, factor, self.map, self.cost, alpha, scale, self.cost.targets, distance
        )
