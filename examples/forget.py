"""
Wrong labels, found and forgotten
=================================

``explain(X, of="deletions")`` says what a prediction would be without each training row, in closed
form along the path of the fit. At the training rows it says what the others make of a row, and so
which labels they speak against. ``forget(rows)`` leaves such rows out: the model is then the one
that was never shown them.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowClassifier

# %%
# Threes and eights in coarse pictures. One label in ten is the wrong one.

digits, labels = load_digits(return_X_y=True)
some = np.isin(labels, [3, 8])
X, X_test, y, y_test = train_test_split(digits[some], labels[some], train_size=150, random_state=0)
wrong = np.random.default_rng(0).choice(150, 15, replace=False)
given = y.copy()
given[wrong] = 11 - y[wrong]

model = AdaptedFlowClassifier(random_state=0).fit(X, given)
before = model.score(X_test, y_test)

# %%
# The output for each row under a fit without that row: the output, less what the row does to it.
# Its distance from the label is large where the others disagree.

own = np.diagonal(model.explain(X, of="deletions"))
left_out = model.decision_function(X) + 0.5 - own
suspicion = np.abs((given == model.classes_[1]) - left_out)
order = np.argsort(-suspicion)
print(f"among the 15 rows most suspected, {np.isin(order[:15], wrong).sum()} labels are wrong")

# %%
# What speaks for one of the predictions: the rows without which it would change the most.

effects = model.explain(X_test[:1], of="deletions")[0]
strongest = np.argsort(-np.abs(effects))[:3]
print(f"a {y_test[0]}: the strongest rows have the labels {given[strongest]}")

# %%
# Those that are suspected are forgotten. Nothing of them stays: the flow starts anew from the same
# network, and scales and frequencies are those of the rows that remain.

model.forget(order[:15])
print(f"accuracy {before:.3f} with them, {model.score(X_test, y_test):.3f} without")
print(model.forgotten_)

# %%
# The rows most suspected. Under a red label the others are right.

figure, axes = plt.subplots(2, 8, figsize=(10, 3), layout="constrained")
for ax, i in zip(axes.flat, order, strict=False):
    ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"“{given[i]}”", color="#b2182b" if i in wrong else "black")
    ax.set_axis_off()
figure.suptitle("rows whose labels the others speak against")
plt.show()
