r"""
The tangent kernel of a fit
===========================

A trained network has a kernel, :math:`\Theta(x, x') = Df(x)\,Df(x')^\top`, which says how far a
step that teaches it one row moves its output on another. It is a fitted attribute here, and a
function of any two sets of rows.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.plots import KernelDisplay, SpectrumDisplay

X, y = make_moons(400, noise=0.2, random_state=0)
X, X_test, y, y_test = train_test_split(X, y, train_size=100, stratify=y, random_state=0)
flow = AdaptedFlowClassifier((32, 32), alpha=0.1, t_end=0.999, schedule=30, random_state=0).fit(
    X, y
)
print(f"rank {flow.ntk_rank_} of {len(y)}, condition {flow.ntk_condition_:.1e}")

# %%
# Sorted by class, at the start and at the solution: what was learnt shows in the kernel.

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
KernelDisplay.from_data(flow.ntk(X, at="start"), y).plot(axes[0], colorbar=False)
KernelDisplay.from_estimator(flow, y=y).plot(axes[1])
axes[0].set(title="at the start")
axes[1].set(title="at the solution")

# %%
# Its spectrum at both ends of the path, and how far it moves on the way, relative to its start.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
SpectrumDisplay.from_estimator(flow, X).plot(left)
right.plot(flow.history_["t"], flow.history_["ntk_drift"], color="black", marker=".")
right.set(xlabel="time $t$ of the flow", ylabel=r"$|G(t) - G(0)|\,/\,|G(0)|$")
right.grid(visible=True, alpha=0.25)

# %%
# ``ntk(X, Y)`` is an ordinary kernel matrix, and any kernel method takes it. One that knows the
# kernel of the solution does better than one that knows the start.

for at in ("start", "solution"):
    machine = SVC(kernel="precomputed").fit(flow.ntk(X, at=at), y)
    score = machine.score(flow.ntk(X_test, X, at=at), y_test)
    print(f"support vectors with the kernel at the {at}: {score:.3f}")
print(f"the network itself: {flow.score(X_test, y_test):.3f}")
plt.show()
