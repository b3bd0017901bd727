"""
Rank loss: where the line is out of reach
=========================================

Where the derivative D of the outputs has less than full rank, the outputs cannot move straight to
the labels: P⊥, the projector on what D does not reach, keeps a part of them where they are. How far
a flow ends from the line is known from the ranges of D alone (Proposition 2.5 of the paper).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.plots import FlowDisplay, SpectrumDisplay

X, y = load_diabetes(return_X_y=True)
X, y = X[:200], y[:200]


def fit(X: np.ndarray, y: np.ndarray, width: int) -> AdaptedFlowRegressor:
    """One hidden layer, along the adapted flow."""
    flow = AdaptedFlowRegressor((width,), alpha=1.0, t_end=0.9, schedule=30, random_state=0)
    return flow.fit(X, y)


# %%
# Three ways to be: wide enough; too narrow, with 25 parameters for 200 outputs; and wide, but
# with fifty rows that stand in the table twice and have two labels each.

twice = np.r_[:150, :50]
flows = {
    "64 units": fit(X, y, 64),
    "2 units": fit(X, y, 2),
    "64 units, 50 rows twice": fit(X[twice], y, 64),
}
print(f"{'':26}{'rank':>8}{'deviation':>12}{'predicted':>12}")
for name, flow in flows.items():
    rank = f"{flow.ntk_rank_}/{len(y)}"
    print(f"{name:26}{rank:>8}{flow.deviation_:12.2e}{flow.predicted_deviation_:12.2e}")

# %%
# The loss keeps to the law as long as nothing is out of reach, and bends away from it otherwise.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for (name, flow), color in zip(flows.items(), ("black", "#b2182b", "#31688e"), strict=True):
    style = {"color": color, "markevery": 3}
    law = name == "64 units"
    FlowDisplay.from_estimator(flow).plot(left, name=name, law=law, line_kw=style)
    eigenvalues = SpectrumDisplay.from_estimator(flow)
    counted = eigenvalues.eigenvalues[: eigenvalues.rank]
    right.semilogy(np.arange(1, len(counted) + 1), counted, color=color, label=name)
left.set(title="training loss")
right.set(title="eigenvalues that count", xlabel="mode", ylabel="eigenvalue of G")
right.grid(visible=True, alpha=0.25)

# %%
# The deviation along the path, measured and predicted. Where the range of D stays the same, as it
# does where rows are equal, it is :math:`t\,P^\perp(x_0 - y)`.

figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
for name, color in (("2 units", "#b2182b"), ("64 units, 50 rows twice", "#31688e")):
    history = flows[name].history_
    ax.plot(history["t"], history["predicted_deviation"], color=color, label=f"{name}, predicted")
    ax.plot(history["t"], history["deviation"], "o", color=color, markevery=3, label="measured")
ax.set(xlabel="t", ylabel="distance from the line")
ax.legend(fontsize="small")
plt.show()
