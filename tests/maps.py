"""Output maps that a contract holds: a line here is a map that is tested."""

import torch

from sklearn_gflow.geometry import LayeredNetwork, OutputMap, TangentMap
from tests import oracles

SIZES = (3, 7, 2)


class Halves:
    """Two output maps of one family, one behind the other: rows that lie in two places."""

    def __init__(self, first, second):
        self.parts = first, second
        self.n_outputs, self.n_params = first.n_outputs, first.n_params
        self.dtype = first.dtype
        self.n_samples = first.n_samples + second.n_samples
        self.total_weight = first.total_weight + second.total_weight

    def outputs(self, theta):
        return torch.cat([part.outputs(theta) for part in self.parts])

    def linearize(self, theta):
        return TangentOfHalves(self, [part.linearize(theta) for part in self.parts])

    def unweigh(self, x):
        sizes = [part.n_samples * part.n_outputs for part in self.parts]
        values = zip(self.parts, torch.split(x, sizes), strict=True)
        return torch.cat([part.unweigh(value) for part, value in values])


class TangentOfHalves(TangentMap):
    """What is abstract, and nothing else but the weights."""

    def __init__(self, whole, parts):
        self.whole, self.parts = whole, parts
        self.n_samples, self.n_outputs, self.n_params = (
            whole.n_samples, whole.n_outputs, whole.n_params,
        )  # fmt: skip
        self.outputs = torch.cat([part.outputs for part in parts])

    @property
    def sample_weights(self):
        return torch.cat([part.sample_weights for part in self.parts])

    def push(self, v):
        return torch.cat([part.push(v) for part in self.parts])

    def pull(self, u):
        sizes = [len(part.outputs) for part in self.parts]
        pieces = zip(self.parts, torch.split(u, sizes), strict=True)
        return sum(part.pull(piece) for part, piece in pieces)


def drawn(n=8, *, weighted=False, offset=False, seed=3):
    theta, X = oracles.problem(n, SIZES, seed=seed)
    weights = torch.linspace(0.5, 3.0, n).double() if weighted else None
    shift = torch.linspace(-1, 1, 2 * n).double().view(n, 2) if offset else None
    return OutputMap(LayeredNetwork(SIZES), X, shift, weights), theta


def halves(**options):
    whole, theta = drawn(**options)
    parts = []
    for rows in (slice(0, 3), slice(3, None)):
        offset = None if whole.offset is None else whole.offset[rows]
        weights = None if whole.weights is None else whole.weights[rows]
        parts.append(OutputMap(whole.family, whole.X[rows], offset, weights))
    return Halves(*parts), theta


MAPS = {  # name: function that gives the map, θ, and the same as an `OutputMap`
    "plain": lambda: (*drawn(), drawn()[0]),
    "weighted": lambda: (*drawn(weighted=True, offset=True), drawn(weighted=True, offset=True)[0]),
    "halves": lambda: (*halves(), drawn()[0]),
    "weighted_halves": lambda: (
        *halves(weighted=True, offset=True), drawn(weighted=True, offset=True)[0]
    ),
}  # fmt: skip
