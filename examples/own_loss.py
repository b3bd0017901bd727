"""
A loss of your own
==================

A loss is an object that gives the value for each row, the gradient in the outputs, a bound on the
curvature, and where gradient flow on it ends. The flow, its steps, blocks, weights and stopping
follow from these four. This one is log cosh, beside two that have a name, on targets of which some
are far off.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.geometry import Loss

# %%
# The loss: a square near the target, and straight far from it.


class LogCosh(Loss):
    """log cosh(x − y)."""

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """Of each row, without the overflow of cosh."""
        d = (x - y).abs()
        return (d + torch.log1p(torch.expm1(-2 * d) / 2)).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Its slope in x."""
        return torch.tanh(x - y)

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """Its second derivative."""
        return 1 - torch.tanh(x - y) ** 2

    def minimizer(self, x: Tensor, y: Tensor, floor: float) -> Tensor:
        """Where gradient flow ends."""
        return y


# %%
# A wave, of which each eighth target is spoilt.

rng = np.random.default_rng(0)
X = np.sort(rng.uniform(-3, 3, 120))[:, None]
truth = np.sin(2 * X[:, 0])
y = truth + 0.1 * rng.normal(size=120)
y[::8] += 4

# %%
# The square follows what is spoilt; the others do not.

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(X, y, ".", color="0.6", label="targets")
for loss, color in (("squared_error", "#b2182b"), ("huber", "#31688e"), (LogCosh(), "black")):
    flow = AdaptedFlowRegressor(
        (64,), loss=loss, init_scale=2.0, damping=1e-3, t_end=0.99, random_state=0
    ).fit(X, y)
    name = loss if isinstance(loss, str) else "log cosh, our own"
    ax.plot(X, flow.predict(X), color=color, label=name)
    error = np.abs(flow.predict(X) - truth).mean()
    print(f"{name:18} mean error against the wave {error:.3f}, {flow.outcome_}")
ax.legend(fontsize="small", ncols=2)
ax.set(xlabel="input", ylim=(-1.7, 5.5))
plt.show()
