r"""
From outputs to probabilities: the Fisher end
=============================================

The adapted flow takes outputs straight to where the loss is least. With the log-loss, outputs are
logits, and the flow that knows the curvature :math:`H` of the loss, generalised Gauss–Newton or
natural gradient, takes probabilities straight to the labels instead. :math:`\beta` is between them:
:math:`\theta' = -(D^\top((1-\beta)1 + \beta H)D)^+\nabla_\theta C`.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.dynamics import Trajectory, fisher, reference_flow
from sklearn_gflow.geometry import OutputMap

X, y = load_wine(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=40, random_state=0, stratify=y)
scaler = StandardScaler().fit(X)
X, X_test = scaler.transform(X), torch.from_numpy(scaler.transform(X_test))

# %%
# ``start_of`` hands out the flow that a fit would follow, and ``fisher`` its map and its cost in
# other coordinates, which every function of ``dynamics`` takes as it takes the first.

model = AdaptedFlowClassifier(
    (32,), loss="log_loss", label_smoothing=0.05, alpha=1.0, scale_inputs=False, random_state=0
)
start = model.start_of(X, y)
times = list(np.linspace(0, 0.95, 20)[1:])


def followed(beta: float) -> Trajectory:
    """The flow between the two ends."""
    return reference_flow(
        *fisher(start.output_map, start.cost, beta), start.theta,
        replace(start.options, store_path=True),
        method="RK45", times=times, t_end=times[-1], rtol=1e-4, atol=1e-6,
    )  # fmt: skip


flows = {beta: followed(beta) for beta in (0.0, 0.5, 1.0)}

# %%
# The probability of the first class in ten of the rows: straight at one end, bent at the other.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
for ax, beta in zip(axes, (0.0, 1.0), strict=True):
    logits = torch.stack([x.view(-1, 3) for x in flows[beta].outputs])
    ax.plot([0, *times], torch.softmax(logits, dim=2)[:, :10, 0], color="black", alpha=0.6)
    ax.set(title=rf"$\beta = {beta:g}$", xlabel="t")
axes[0].set(ylabel="probability of the first class")

# %%
# On rows that were not learnt the log-loss falls sooner where confident rows are followed as fast
# as undecided ones.

test = OutputMap(start.output_map.family, X_test)
first = start.output_map.outputs(start.theta)[:3]  # the same in all rows: the classes' shares
at_start = test.outputs(start.theta).view(-1, 3) - first
figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
for (beta, path), color in zip(flows.items(), ("black", "#31688e", "#b2182b"), strict=True):
    logits = [test.outputs(theta).view(-1, 3) - at_start for theta in path.thetas]
    losses = [torch.nn.functional.cross_entropy(x, torch.from_numpy(y_test)) for x in logits]
    right = np.mean(logits[-1].argmax(1).numpy() == y_test)
    print(f"β = {beta:g}: log-loss {losses[-1]:.3f}, accuracy {right:.3f} at t = {times[-1]:.2f}")
    ax.plot([0, *times], losses, color=color, label=rf"$\beta = {beta:g}$")
ax.set(xlabel="t", ylabel="log-loss on other rows")
ax.legend()
plt.show()
