"""Output maps, small enough for dense oracles, on which the statements are measured."""

from dataclasses import dataclass

import numpy as np
import torch

from sklearn_gflow.diagnostics import Deviation
from sklearn_gflow.dynamics import FlowOptions, reference_flow, t_from_tau
from sklearn_gflow.geometry import CrossEntropy, LayeredNetwork, OutputMap, SquaredError, factorize
from tests import oracles

ALPHAS = (0.0, 0.1, 0.5, 0.9, 1.0)
ADAPTED = FlowOptions(alpha=1.0, tol=0.0, store_path=True)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def probabilities(n, n_classes, *, seed=0):
    """Positive labels, rows summing to one."""
    return torch.softmax(normal(n, n_classes, seed=seed), dim=1)


def relative(found, expected):
    """|found − expected|/|expected|, of anything that numpy understands."""
    found, expected = np.asarray(found), np.asarray(expected)
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@dataclass
class Problem:
    """x(θ) of a layered network on X, a start θ and a label y for every output."""

    sizes: tuple
    activation: str
    theta: torch.Tensor
    X: torch.Tensor
    y: torch.Tensor

    @classmethod
    def draw(cls, n, sizes, activation="tanh", *, seed=0, y=None):
        theta, X = oracles.problem(n, sizes, seed=seed)
        y = normal(n, sizes[-1], seed=seed + 100) if y is None else y
        return cls(tuple(sizes), activation, theta, X, y)

    @property
    def map(self):
        return OutputMap(LayeredNetwork(self.sizes, self.activation), self.X)

    @property
    def cost(self):
        return SquaredError(self.y.reshape(-1), float(len(self.X)))

    @property
    def cross_entropy(self):
        return CrossEntropy(torch.softmax(self.y, dim=1))

    @property
    def target(self):
        return self.y.reshape(-1).numpy()

    def outputs(self, theta=None):
        """x(θ) by the oracle, numpy."""
        theta = self.theta if theta is None else theta
        return oracles.forward(theta, self.X, self.sizes, self.activation).reshape(-1).numpy()

    def D(self, theta=None):
        """The Jacobian (2.12) by the oracle, numpy."""
        theta = self.theta if theta is None else theta
        return oracles.jacobian(theta, self.X, self.sizes, self.activation).numpy()


# Every relation between K, QN and the rank of D: (problem, rank).


def full_rank():
    return Problem.draw(6, (3, 16, 2), seed=1), 12


def full_column_rank():
    """K = 17 < QN = 80."""
    return Problem.draw(40, (2, 3, 2), seed=2), 17


def duplicated_inputs():
    """Three pairs of equal inputs whose labels differ: six outputs are not free."""
    problem = Problem.draw(7, (3, 20, 2), "silu", seed=3)
    problem.X[4:] = problem.X[:3]
    return problem, 8


def twin_units():
    """Two hidden units are alike in every weight, and K = 22 < QN = 60: rank 22 − 5."""
    problem = Problem.draw(30, (2, 4, 2), seed=4)
    W1, b1, W2 = problem.theta[:8].view(2, 4), problem.theta[8:12], problem.theta[12:20].view(4, 2)
    W1[:, 1], b1[1], W2[1] = W1[:, 0], b1[0], W2[0]
    problem.theta = torch.cat([W1.reshape(-1), b1, W2.reshape(-1), problem.theta[20:]])
    return problem, 17


RANKS = {
    "full_rank": full_rank,
    "more_outputs_than_parameters": full_column_rank,
    "duplicated_inputs": duplicated_inputs,
    "twin_units": twin_units,
}


def factor_at(tangent, probe=None, solver="auto"):
    probe = torch.ones_like(tangent.outputs) if probe is None else probe
    return factorize(tangent, probe, solver=solver)


class RecordedDeviation(Deviation):
    """Prop. 2.5's prediction, with the vectors kept: their norms could agree by accident."""

    def __init__(self, targets):
        super().__init__(targets)
        self.measured, self.forecast = [], []

    def _columns(self, point):
        line = torch.lerp(self.origin, self.targets, float(t_from_tau(point.tau)))
        self.measured.append((point.outputs - line).numpy())
        self.forecast.append(self.predicted.numpy())
        return super()._columns(point)


def adapted_flow(output_map, cost, theta, times, *, clock="tau", tol=1e-10, callbacks=(), **more):
    """The α = 1 flow by DOP853 at tolerance ``tol``, at given t."""
    return reference_flow(
        output_map, cost, theta, FlowOptions(alpha=1.0, tol=0.0, store_path=True, **more),
        method="DOP853", t_end=times[-1], times=times, clock=clock, rtol=tol, atol=tol,
        callbacks=callbacks,
    )  # fmt: skip


def off_the_line(trajectory, y, line=None):
    """Largest |x̃(t) − line(t)|/|y − x₀| of a trajectory; (2.51) unless another line is given."""
    x0 = trajectory.outputs[0].numpy()
    line = line or (lambda t: (1 - t) * x0 + t * y)
    gaps = [
        np.linalg.norm(x.numpy() - line(t))
        for t, x in zip(trajectory.t, trajectory.outputs, strict=True)
    ]
    return max(gaps) / np.linalg.norm(y - x0)
