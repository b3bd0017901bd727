"""
Why a prediction is what it is
==============================

Along a flow each training row moves the outputs by a known amount. ``explain`` adds these up, so
that a prediction is the mean of the targets and a sum over the training rows. ``gradient`` has the
partial derivatives of the prediction in the columns.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes

from sklearn_gflow import AdaptedFlowClassifier, AdaptedFlowRegressor
from sklearn_gflow.plots import ExplanationDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
train, row = slice(0, 300), slice(320, 321)
model = AdaptedFlowRegressor(random_state=0).fit(X[train], y[train])
print(f"predicted {model.predict(X[row])[0]:.0f}, observed {y[row].iloc[0]:.0f}")

# %%
# The rows that speak most for a high value and most against it, and all rows over their targets:
# those above the mean speak for it, as far as the kernel sees them near the row.

display = ExplanationDisplay.from_estimator(model, X[row], y[train])
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
display.plot(axes[0])
display.plot(axes[1], kind="targets")

# %%
# In the columns: by how much the prediction would change by a standard deviation of each.

slopes = model.gradient(X[row])[0] * X[train].std()
order = slopes.abs().argsort()
figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
ax.barh(X.columns[order], slopes.iloc[order], color="#31688e")
ax.axvline(0, color="0.5", linewidth=0.8)
ax.set(xlabel="derivative times a standard deviation")

# %%
# A row with a wrong label has a large part in the output at itself, where all others contradict it:
# the rows to look at first, when labels are not to be trusted.

X, y = load_breast_cancer(return_X_y=True)
X, wrong = X[:300], np.random.default_rng(0).choice(300, 15, replace=False)
given = y[:300].copy()
given[wrong] = 1 - given[wrong]
doubtful = AdaptedFlowClassifier(random_state=0).fit(X, given)
own = np.abs(np.diag(doubtful.explain(X)))
first = np.argsort(-own)
found = np.isin(first, wrong).cumsum()
for n in (15, 30):
    print(f"of {len(wrong)} wrong labels {found[n - 1]} are among the first {n} rows")

figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
ax.plot(np.arange(1, 301), found, color="black", label="by the part in one's own output")
ax.plot([0, 300], [0, 15], color="0.5", linestyle=":", label="in any order")
ax.set(xlabel="rows looked at", ylabel="wrong labels found")
ax.legend()
plt.show()
