"""
The law of the line
===================

At α = 1 all predictions move straight to their targets, at one rate. Thirteen points in one
dimension: on the left the fit at five times t of the flow, where each point has gone the share t of
its way from the mean to the target; on the right the training loss, known in advance as
:math:`(1 - t)^2`, and the losses of two other flows.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.plots import FlowDisplay, StagesDisplay

# %%
# Points of a wave with some noise, and one layer of 256 units that follows the flow closely.

X = np.linspace(-3, 3, 13)[:, None]
noise = np.random.default_rng(1).normal(scale=0.3, size=13)
y = np.sin(1.5 * X[:, 0]) + 0.3 * X[:, 0] + noise


def fit(alpha: float) -> AdaptedFlowRegressor:
    """A flow to t = 0.98 in a hundred equal steps, with all that it passed on the way."""
    flow = AdaptedFlowRegressor(
        (256,), alpha=alpha, t_end=0.98, schedule=100, store_path=True, init_scale=1.0,
        scale_inputs=False, random_state=0,
    )  # fmt: skip
    return flow.fit(X, y)


# %%
# The tangent kernel of thirteen points has full rank, and so the law holds.

line = fit(1.0)
law = (1 - line.history_["t"]) ** 2
off = np.abs(np.array(line.loss_curve_) / line.loss_curve_[0] - law).max()
print(f"rank {line.ntk_rank_} of {len(y)}")
print(f"loss(t) / loss(0) is (1 - t)^2 to within {off:.1e} at all {len(law)} points")

# %%
# Flows with a smaller α learn the large modes of the kernel first, and the small ones late.

figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.8), layout="constrained")
StagesDisplay.from_estimator(line, X, y).plot(left)
points = {"linestyle": "none", "markevery": slice(None, None, 10)}
FlowDisplay.from_estimator(line).plot(right, line_kw=points)
for alpha, color, style in ((0.1, "#31688e", "--"), (0.0, "#b2182b", "-.")):
    curve = {"color": color, "linestyle": style, "marker": ""}
    FlowDisplay.from_estimator(fit(alpha)).plot(right, line_kw=curve)
left.legend(loc="upper left", frameon=False, fontsize="small")
left.set(title=r"a fit unfolding, $\alpha = 1$", xlabel="input", ylim=(-1.8, 2.3))
right.set(title="its loss, known in advance", xlim=(0, 1.02), xticks=(0, 0.5, 1))

# %%
# Run as a script, the picture is saved.

parser = argparse.ArgumentParser()
parser.add_argument("--output", default="law_of_the_line.png", help="where the picture goes")
figure.savefig(parser.parse_args().output, dpi=150)
