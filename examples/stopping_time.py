r"""
When the loss will be where, before a fit
=========================================

``stopping_time`` reads off the spectrum of the kernel at the start when a flow's loss will be at
:math:`\varepsilon`. At :math:`\alpha = 1` and full rank the answer is exact,
:math:`t = 1 - \sqrt{\varepsilon/C_0}`; below, it is that of a kernel that stays as it is.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.diagnostics import stopping_time
from sklearn_gflow.dynamics import Adaptive, LossReached, flow

X, y = load_diabetes(return_X_y=True)
X, y = X[:200], y[:200]
shares = np.linspace(0.95, 0.02, 32)
alphas = (0.1, 0.5, 1.0)

# %%
# The forecast needs the start alone, which ``start_of`` hands out. τ is −ln(1 − t).


def forecast(alpha: float, width: int = 128) -> list[float]:
    """The τ at which each share of the loss will be left."""
    model = AdaptedFlowRegressor((width,), alpha=alpha, damping=0.0, random_state=0)
    start = model.start_of(X, y)
    loss = start.cost.value(start.output_map.outputs(start.theta))
    return [stopping_time(share * loss, *start).tau for share in shares]


def followed(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(τ, share of the loss) along the real flow, by short steps."""
    model = AdaptedFlowRegressor((128,), alpha=alpha, damping=0.0, random_state=0)
    start = model.start_of(X, y)
    loss = start.cost.value(start.output_map.outputs(start.theta))
    schedule = Adaptive(1e3, tolerance=0.005, marks=np.geomspace(1e-3, 1e3, 60).tolist())
    path = flow(*start[:3], schedule, start.options, [LossReached(shares[-1] * loss)])
    return np.array(path.tau), np.array(path.loss) / path.loss[0]


forecasts = {alpha: forecast(alpha) for alpha in alphas}
flows = {alpha: followed(alpha) for alpha in alphas}

# %%
# A real kernel grows and turns towards the targets, so that below α = 1 the loss falls sooner than
# a kernel that stays as it is would have it.

for alpha in alphas:
    taus, left = flows[alpha]
    for share in (0.5, 0.1):
        said = np.interp(-share, -shares, forecasts[alpha])
        taken = np.interp(-share, -left, taus)
        print(f"α = {alpha}: {share:.0%} of the loss left at τ = {taken:.3g}, forecast {said:.3g}")

figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for alpha, color in zip(alphas, ("black", "#31688e", "#b2182b"), strict=True):
    ax.plot(forecasts[alpha], shares, "--", color=color)
    ax.plot(*flows[alpha], color=color, label=rf"$\alpha = {alpha:g}$")
ax.plot([], [], "--", color="0.4", label="forecast")
ax.set(xlabel=r"$\tau$", ylabel="loss, of that at the start", xscale="log", xlim=(1e-3, 1e2))
ax.legend(fontsize="small")

# %%
# With fewer parameters than rows a part of the loss is out of reach of the start, and the forecast
# says so by NaN.

for width in (1, 2, 4, 8):
    least = shares[np.isfinite(forecast(1.0, width))].min()
    print(f"{width} hidden units: {least:.2f} of the loss is within reach of the start")
plt.show()
