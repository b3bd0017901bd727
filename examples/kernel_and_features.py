r"""
Kernel against features, and when to stop
=========================================

A flow whose kernel stays as it was is a kernel method; where the kernel turns towards the targets,
features are learnt. The centred alignment :math:`\langle HGH, yy^\top\rangle / (|HGH|\,|y|^2)`
says how far, and the effective rank :math:`(\mathrm{tr}\,HGH)^2/|HGH|^2` in how many modes. Both
are columns of a flow that one asks for, at every :math:`\alpha`.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.diagnostics import KernelAlignment, KernelDrift, stopping_time
from sklearn_gflow.dynamics import Adaptive, LossReached, Trajectory, flow

X, y = load_diabetes(return_X_y=True)
rng = np.random.default_rng(0)
Z = rng.normal(size=(200, 10))
tables = {
    "diabetes": (X[:200], y[:200], 0.45),
    "a wave along one direction": (Z, np.sin(Z @ np.full(10, 0.4)), 0.1),
}
alphas = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

# %%
# ``start_of`` hands out the flow that ``fit`` would follow: the outputs as a function of θ, the
# cost, θ at the start and the constants. ``stopping_time`` says from the spectrum of the start when
# the loss will have fallen to a share of what it was. The kernel of the start is pessimistic where
# features are learnt.


def followed(X: np.ndarray, y: np.ndarray, share: float, alpha: float) -> tuple[float, Trajectory]:
    """The forecast, and the flow up to the same loss with the columns that are asked for."""
    model = AdaptedFlowRegressor((64,), alpha=alpha, damping=0.0, random_state=0)
    start = model.start_of(X, y)
    eps = share * start.cost.value(start.output_map.outputs(start.theta))
    forecast = stopping_time(eps, *start)
    columns = [KernelAlignment(start.cost.targets), KernelDrift()]
    marks = list(np.geomspace(1e-2, 100, 40))
    schedule = Adaptive(100.0, marks=marks)
    return forecast.tau, flow(*start[:3], schedule, start.options, [LossReached(eps), *columns])


flows = {name: [followed(*table, alpha) for alpha in alphas] for name, table in tables.items()}
for name, paths in flows.items():
    print(f"{name}\nalpha  τ forecast    τ taken  alignment        effective rank   drift")
    for alpha, (forecast, path) in zip(alphas, paths, strict=True):
        aligned, rank = path.extra["kernel_alignment"], path.extra["effective_rank"]
        print(
            f"{alpha:5.1f}{forecast:12.2f}{path.tau[-1]:11.2f}  {aligned[0]:.3f} →"
            f" {aligned[-1]:.3f}{rank[0]:9.2f} → {rank[-1]:.2f}{path.extra['ntk_drift'][-1]:8.2f}"
        )

# %%
# At the same loss: the alignment at the start and at the end, against α.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, (name, paths) in zip(axes, flows.items(), strict=True):
    for column, color in (("kernel_alignment", "black"), ("ntk_drift", "#b2182b")):
        ends = [path.extra[column][-1] for _, path in paths]
        ax.plot(alphas, ends, "o-", color=color, label=column.replace("_", " ") + ", at the end")
    starts = [path.extra["kernel_alignment"][0] for _, path in paths]
    ax.plot(alphas, starts, ":", color="black", label="kernel alignment, at the start")
    ax.set(title=name, xlabel=r"$\alpha$", ylim=(0, None))
axes[0].legend(fontsize="small")

# %%
# Along the way, for both ends of the family.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, (name, paths) in zip(axes, flows.items(), strict=True):
    for k, color in ((0, "#31688e"), (-1, "#b2182b")):
        path = paths[k][1]
        loss = np.array(path.loss) / path.loss[0]
        label = rf"$\alpha = {alphas[k]:g}$"
        ax.plot(loss, path.extra["kernel_alignment"], ".-", color=color, label=label)
    ax.set(title=name, xlabel="loss, of that at the start", xlim=(1, 0), ylabel="alignment")
axes[0].legend(fontsize="small")
plt.show()
