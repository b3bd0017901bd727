"""
Collapse of digits
==================

The loss of a classifier has two parts: how far the rows of a class lie from their mean, and how far
that mean lies from its label. Along the adapted flow both fall as :math:`(1 - t)^2` (Corollary 3.2
of the paper). All outputs start at one point here, so that the first part begins at zero, and at
α = 1 next to nothing comes of it; a small α moves some rows of a class long before others.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.plots import CollapseDisplay

X, y = load_digits(n_class=4, return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=160, stratify=y, random_state=0)

# %%
# Both parts, for the standard flow, a flow between, and the adapted one.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", sharey=True)
flows = {}
for ax, alpha in zip(axes, (0.0, 0.1, 1.0), strict=True):
    flow = AdaptedFlowClassifier(
        (64,), alpha=alpha, t_end=0.99, schedule=20, store_path=True, random_state=0
    )
    flows[alpha] = flow.fit(X, y)
    CollapseDisplay.from_estimator(flow).plot(ax)
    ax.set(title=f"$\\alpha$ = {alpha:g}")
    parts = flow.collapse_
    print(
        f"alpha = {alpha:<4g} within {parts.within:.1e}, between {parts.between:.1e}, "
        f"accuracy on new rows {flow.score(X_test, y_test):.3f}"
    )
for ax in axes[1:]:
    ax.set_ylabel("")

# %%
# The class means on their way to the corners of the simplex. At α = 1 they go straight.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for ax, alpha in zip(axes, (0.0, 1.0), strict=True):
    CollapseDisplay.from_estimator(flows[alpha], X, y).plot(ax, kind="means")
    ax.set(title=f"$\\alpha$ = {alpha:g}")
plt.show()
