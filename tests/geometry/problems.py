"""Matrices and tangents that several tests share."""

import math

import numpy as np
import torch

from sklearn_gflow.geometry import GramFunction
from tests import oracles

EPS = torch.finfo(torch.float64).eps


class Dense:
    """A tangent with a given D."""

    def __init__(self, D, n_outputs=1):
        self.D = D
        self.outputs = D.new_zeros(D.shape[0])
        self.n_outputs, self.n_samples = n_outputs, D.shape[0] // n_outputs
        self.n_params = D.shape[1]

    def push(self, v):
        return self.D @ v

    def pull(self, u):
        return self.D.mT @ u

    def gram(self):
        return self.D @ self.D.mT

    def jacobian(self):
        return self.D

    def gram_diagonal(self):
        return self.D.square().sum(1)

    def columns(self, samples):
        rows = samples[:, None] * self.n_outputs + torch.arange(self.n_outputs)
        return self.D @ self.D[rows.reshape(-1)].mT

    @property
    def shared_gram(self):
        blocks = self.D.unflatten(0, (self.n_samples, self.n_outputs))
        return torch.einsum("iqk,jqk->ij", blocks, blocks) / self.n_outputs


def duplicate_rows():
    D = oracles.matrix(6, 20, 6, seed=1)
    return torch.cat([D, D[1:4], D[:1]])


MATRICES = {  # D, rank
    "full_rank": (oracles.matrix(8, 20, 8, seed=2), 8),
    "square": (oracles.matrix(9, 9, 9, seed=3), 9),
    "duplicate_rows": (duplicate_rows(), 6),
    "narrow_net": (oracles.matrix(10, 15, 4, seed=4), 4),
    "fewer_parameters": (oracles.matrix(20, 8, 8, seed=5), 8),
    "fewer_parameters_and_rank": (oracles.matrix(20, 8, 5, seed=6), 5),
    "one_row": (oracles.matrix(1, 5, 1, seed=7), 1),
    "one_parameter": (oracles.matrix(5, 1, 1, seed=8), 1),
    "zero": (torch.zeros(4, 6, dtype=torch.float64), 0),
    "zero_with_fewer_parameters": (torch.zeros(6, 4, dtype=torch.float64), 0),
}
FULL_RANK = ["full_rank", "square", "fewer_parameters"]


def normal(size, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=dtype)


def close(actual, expected, tol=1e-9):
    expected = torch.as_tensor(expected)
    assert actual.shape == expected.shape
    bound = tol * max(float(expected.abs().max()), 1e-3)
    assert float((actual.double() - expected).abs().max()) <= bound


def distance(found, expected):
    return float(np.linalg.norm(np.asarray(found, dtype=float) - np.asarray(expected, dtype=float)))


def exponential(alpha, h=2.0, scale=3.0):
    """f of the flow, and the same for numpy."""
    inverse, kappa = 1 - math.exp(-h * alpha), h * (1 - alpha) / scale
    decay = math.exp(-h * alpha)
    if kappa == 0:
        return GramFunction(inverse), lambda lam: inverse / lam
    return (
        GramFunction(inverse, lambda lam: -decay * torch.expm1(-kappa * lam) / lam),
        lambda lam: (inverse - decay * np.expm1(-kappa * lam)) / lam,
    )
