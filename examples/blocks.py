"""
A large table, by blocks
========================

The full batch costs the cube of the rows. Beyond 2,000 outputs the flow goes over random blocks of
256 or 512 rows in turn, in time linear in the rows. ``partial_fit`` takes a table that comes in
chunks.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.plots import FlowDisplay

X, y = make_friedman1(12_000, n_features=10, noise=1.0, random_state=0)
X, X_test, y, y_test = X[:10_000], X[10_000:], y[:10_000], y[10_000:]

# %%
# Ten thousand rows at the defaults, where a twentieth of them says when three networks end whose
# columns have ramps beside them, and over the six epochs that a stopping time of 0.95 takes. An MLP
# that stops by rows held out stands beside them; noise leaves at most an R² of 0.96.

default = AdaptedFlowRegressor((64, 64), random_state=0).fit(X, y)
short = AdaptedFlowRegressor((64, 64), t_end=0.95, random_state=0).fit(X, y)
mlp = make_pipeline(
    StandardScaler(),
    MLPRegressor(hidden_layer_sizes=(64, 64), early_stopping=True, random_state=0),
).fit(X, y)
for name, model in (("default", default), ("t_end=0.95", short), ("MLP", mlp)):
    print(f"{name:12} R² on new rows {model.score(X_test, y_test):.3f}")
print(f"{default.n_iter_} and {short.n_iter_} epochs over blocks")
print(default.outcome_)

# %%
# The loss after each epoch, against t.

figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
FlowDisplay.from_estimator(default).plot(ax, name="default", law=False, line_kw={"color": "black"})
FlowDisplay.from_estimator(short).plot(ax, name="0.95", law=False, line_kw={"color": "#31688e"})

# %%
# Chunk by chunk: an epoch over the blocks of each chunk, with smaller steps in the last passes.

stream = AdaptedFlowRegressor((64, 64), alpha=1.0, random_state=0)
scores = []
for t_end in (0.95, 0.5, 0.1, 0.02):
    stream.set_params(t_end=t_end)
    for rows in np.array_split(np.arange(len(X)), 5):
        stream.partial_fit(X[rows], y[rows])
    scores.append(stream.score(X_test, y_test))
print("R² after each pass over five chunks:", np.round(scores, 3).tolist())
plt.show()
