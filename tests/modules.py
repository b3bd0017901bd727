"""Kinds of module as users write them: those that a flow can train, and what is said of others.

A kind is a callable for ``module=``. Whoever meets another one adds a line to `TRAINED` or to
`REFUSED`, and the tests of tests/estimators/test_modules.py hold for it.
"""

import functools

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations

WIDTH = 6


def between(*layers):
    """A module with layers between two linear ones."""
    return lambda n, q: nn.Sequential(nn.Linear(n, WIDTH), *[one() for one in layers], head(q))


def head(q):
    return nn.Linear(WIDTH, q)


class Net(nn.Module):
    """Two linear layers a and b; ``forward`` is a function of the net and X."""

    def __init__(self, n, q, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(n, WIDTH), head(q), function

    def hidden(self, X):
        return torch.tanh(self.a(X))

    def forward(self, X):
        return self.function(self, X)


def net(function):
    return lambda n, q: Net(n, q, function)


def out(function):
    """A net whose outputs go through a function."""
    return net(lambda self, X: function(self.b(self.hidden(X))))


class Features(nn.Module):
    """A linear layer on random features, which are kept in one way or another."""

    def __init__(self, n, q, keep, draw=torch.randn):
        super().__init__()
        self.layer = head(q)
        self.keep = keep
        drawn = draw(n, WIDTH)
        if keep == "buffer":
            self.register_buffer("drawn", drawn)
        elif keep == "non-persistent buffer":
            self.register_buffer("drawn", drawn, persistent=False)
        elif keep == "fixed parameter":
            self.drawn = nn.Parameter(drawn, requires_grad=False)
        else:
            self.drawn = [drawn] if keep == "list" else drawn

    def forward(self, X):
        drawn = self.drawn[0] if self.keep == "list" else self.drawn
        return self.layer(torch.sin(X @ torch.as_tensor(drawn).to(X)))


def features(keep, **options):
    return functools.partial(Features, keep=keep, **options)


class Recurrent(nn.Module):
    def __init__(self, n, q, kind):
        super().__init__()
        self.layer, self.head = kind(1, WIDTH, batch_first=True), head(q)

    def forward(self, X):
        return self.head(self.layer(X[:, :, None])[0][:, -1])


class Embedded(nn.Module):
    def __init__(self, n, q):
        super().__init__()
        self.table, self.head = nn.Embedding(10, WIDTH), head(q)

    def forward(self, X):
        return self.head(self.table((2 * X[:, 0].abs()).long().clamp(0, 9)))


class Tied(nn.Module):
    def __init__(self, n, q):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(n, WIDTH), nn.Linear(WIDTH, WIDTH), head(q)

    def forward(self, X):
        return self.c(torch.tanh(self.b(torch.tanh(self.b(torch.tanh(self.a(X)))))))


class Counting(nn.Module):
    def __init__(self, n, q):
        super().__init__()
        self.layer, self.calls = nn.Linear(n, q), 0

    def forward(self, X):
        self.calls += 1
        return self.layer(X) * self.calls


class CountingBuffer(nn.Module):
    def __init__(self, n, q):
        super().__init__()
        self.layer = nn.Linear(n, q)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, X):
        self.calls += 1
        return self.layer(X)


class History(nn.Module):
    """An attribute that is no leaf of a graph."""

    def __init__(self, n, q):
        super().__init__()
        self.layer, self.scale = nn.Linear(n, q), torch.ones(1, requires_grad=True) * 2

    def forward(self, X):
        return self.layer(X) * self.scale


def in_inference_mode(n, q):
    with torch.inference_mode():
        return between(nn.Tanh)(n, q)


def partly_frozen(n, q):
    made = Net(n, q, lambda self, X: self.b(self.hidden(X).detach()))
    made.a.requires_grad_(False)
    return made


class Factory:
    """A callable that makes another module each time."""

    def __init__(self, make):
        self.make, self.calls = make, 0

    def __call__(self, n, q):
        self.calls += 1
        return self.make(n, q, self.calls)


def times_calls(n, q, calls):
    return Net(n, q, lambda self, X: calls * self.b(self.hidden(X)))


def widening(n, q, calls):
    return nn.Sequential(nn.Linear(n, calls), nn.Tanh(), nn.Linear(calls, q))


SHARED = between(nn.Tanh)(3, 1)

TRAINED = {
    "linear": nn.Linear,
    "tanh": between(nn.Tanh),
    "relu": between(nn.ReLU),
    "leaky relu": between(nn.LeakyReLU),
    "elu": between(nn.ELU),
    "mish": between(nn.Mish),
    "hardtanh": between(nn.Hardtanh),
    "softmax over features": between(lambda: nn.Softmax(1)),
    "two layers": between(nn.Tanh, lambda: nn.Linear(WIDTH, WIDTH), nn.Tanh),
    "dropout in evaluation": between(nn.Tanh, lambda: nn.Dropout(0.5)),
    "layer norm": between(lambda: nn.LayerNorm(WIDTH), nn.Tanh),
    "group norm": between(lambda: nn.GroupNorm(2, WIDTH), nn.Tanh),
    "rms norm": between(lambda: nn.RMSNorm(WIDTH), nn.Tanh),
    "convolution": lambda n, q: nn.Sequential(
        nn.Unflatten(1, (1, n)), nn.Conv1d(1, 2, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(2 * n - 2, q),
    ),
    "attention": lambda n, q: nn.Sequential(
        nn.Unflatten(1, (n, 1)), nn.Linear(1, 4),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(4 * n, q),
    ),
    "weight norm": lambda n, q: nn.Sequential(
        parametrizations.weight_norm(nn.Linear(n, WIDTH)), nn.Tanh(), head(q)
    ),
    "spectral norm": lambda n, q: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(n, WIDTH)), nn.Tanh(), head(q)
    ),
    "embedding": Embedded,
    "tied": Tied,
    "residual": net(lambda self, X: self.b(self.hidden(X) + self.a(X))),
    "double": lambda n, q: between(nn.Tanh)(n, q).double(),
    "half": lambda n, q: between(nn.Tanh)(n, q).half(),
    "made in inference mode": in_inference_mode,
    "fixed layer below detach": partly_frozen,
    "same module each time": lambda n, q: SHARED,
    "plain tensor": features("plain"),
    "buffer": features("buffer"),
    "non-persistent buffer": features("non-persistent buffer"),
    "fixed parameter": features("fixed parameter"),
    "list of tensors": features("list"),
    "features of numpy, kept": features(
        "buffer", draw=lambda *shape: torch.from_numpy(np.random.default_rng().normal(size=shape))
    ),
}  # fmt: skip

DERIVATIVES = "derivatives that are not those of its outputs"
COMPANY = "another output in company than alone"
AGAIN = "other outputs when it is asked again"
UNDIFFERENTIABLE = "can be evaluated, and torch.func cannot differentiate it"
PRECISION = "in the precision of its inputs"
ANOTHER = "makes another network than the one that was trained"

REFUSED = {
    "instance": (nn.Linear(3, 1), "must be a callable .* and is a Linear itself"),
    "lazy": (lambda n, q: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, q)), "is lazy: '0.weight'"),
    "scripted": (lambda n, q: torch.jit.script(nn.Linear(n, q)), "compiled by torch.jit"),
    "batch norm": (between(lambda: nn.BatchNorm1d(WIDTH)), "batch-statistics layer '1'"),
    "gru": (functools.partial(Recurrent, kind=nn.GRU), UNDIFFERENTIABLE),
    "bare gru": (nn.GRU, "must return a tensor, and returned tuple"),
    "prelu": (between(nn.PReLU), UNDIFFERENTIABLE),
    # Masks of a few rows may be drawn alike twice, and then differ for the rows alone.
    "dropout that stays on": (out(lambda x: nn.functional.dropout(x, 0.5)), f"{AGAIN}|{COMPANY}"),
    "noise": (out(lambda x: x + torch.randn_like(x)), AGAIN),
    "noise of numpy": (out(lambda x: x + np.random.default_rng().normal()), AGAIN),
    "counter": (Counting, AGAIN),
    "counter in a buffer": (CountingBuffer, UNDIFFERENTIABLE),
    "inputs that it changes": (net(lambda self, X: self.b(self.hidden(X.add_(1.0)))), AGAIN),
    "item": (net(lambda self, X: self.b(self.hidden(X)) * self.b.bias[0].item()), DERIVATIVES),
    "no_grad": (net(torch.no_grad()(lambda self, X: self.b(self.hidden(X)))), DERIVATIVES),
    "detached in part": (net(lambda self, X: self.b(self.hidden(X).detach())), DERIVATIVES),
    "numpy": (out(lambda x: torch.from_numpy(x.detach().numpy())), UNDIFFERENTIABLE),
    "integers": (out(lambda x: x.long()), PRECISION),
    "truth values": (out(lambda x: x > 0), PRECISION),
    "complex": (out(lambda x: torch.complex(x, x)), PRECISION),
    "half out": (out(lambda x: x.half()), PRECISION),
    "complex parameter": (
        lambda n, q: nn.Linear(n, q, dtype=torch.complex64),
        "complex parameter 'weight'",
    ),
    "one axis": (out(lambda x: x[:, 0]), r"outputs of shape \(4, 1\), got \(4,\)"),
    "one number": (out(torch.sum), r"got \(\)"),
    "one output too many": (lambda n, q: nn.Linear(n, q + 1), r"got \(4, 2\)"),
    "another number of features": (
        lambda n, q: nn.Linear(n + 1, q),
        r"cannot be evaluated on inputs of shape \(4, 3\): mat1 and mat2",
    ),
    "tuple": (out(lambda x: (x,)), "returned tuple"),
    "nothing": (out(lambda x: None), "returned NoneType"),
    "error": (out(lambda x: 1 / 0), "cannot be evaluated .*: division by zero"),
    "batch mean": (net(lambda self, X: self.b(self.hidden(X - X.mean(0)))), COMPANY),
    "batch size": (out(lambda x: x / len(x)), COMPANY),
    "place in the batch": (out(lambda x: x + torch.arange(len(x))[:, None]), COMPANY),
    "softmax over rows": (out(lambda x: torch.softmax(x, 0)), COMPANY),
    "neighbours": (out(lambda x: x + x.roll(1, 0)), COMPANY),
    "sorted rows": (out(lambda x: x.sort(0)[0]), COMPANY),
    "not a number": (out(lambda x: x * torch.nan), "not finite before it is trained"),
    "infinite": (out(lambda x: x / 0), "not finite before it is trained"),
    "no parameter": (lambda n, q: nn.Identity(), "no parameter that requires a gradient"),
    "on no device": (lambda n, q: nn.Linear(n, q, device="meta"), "cannot be copied"),
    "attribute with a history": (History, "cannot be copied"),
    "another factor each time": (Factory(times_calls), ANOTHER),
    "another width each time": (Factory(widening), ANOTHER),
    "features of numpy": (
        features("plain", draw=lambda *shape: np.random.default_rng().normal(size=shape)),
        ANOTHER,
    ),
}
