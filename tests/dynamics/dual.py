"""A small network on a table, for flows in dual form."""

import torch

from sklearn_gflow.geometry import LayeredNetwork, OutputMap, SquaredError


def table(n_samples=30, n_outputs=1):
    """Inputs and smooth targets with some noise."""
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(n_samples, 3, dtype=torch.float64, generator=generator)
    noise = torch.randn(n_samples, n_outputs, dtype=torch.float64, generator=generator)
    return X, torch.sin(1.5 * X[:, :n_outputs]) + 0.1 * noise


def network(n_outputs=1, hidden=(20, 20)):
    """A network and a start."""
    family = LayeredNetwork((3, *hidden, n_outputs), "tanh")
    return family, family.initial(torch.Generator().manual_seed(1))


def problem(n_samples=30, n_outputs=1, *, weighted=False, without=(), hidden=(20, 20)):
    """An output map that starts at the mean of the targets, its cost and the start."""
    X, y = table(n_samples, n_outputs)
    weights = 1 + torch.arange(n_samples, dtype=torch.float64) % 3 if weighted else None
    kept = ~torch.isin(torch.arange(n_samples), torch.as_tensor(without))
    X, y = X[kept], y[kept]
    weights = None if weights is None else weights[kept]
    family, theta = network(n_outputs, hidden)
    w = torch.ones(len(X), dtype=torch.float64) if weights is None else weights
    mean = (w[:, None] * y).sum(0) / w.sum()
    output_map = OutputMap(family, X, family.outputs(theta, X) - mean, weights)
    return output_map, SquaredError(output_map.weigh(y), float(w.sum())), theta
