"""
Several networks
================

Another start is another network, and the mean of several is usually better than one of them. The
ensembles of scikit-learn make it; a search makes a small one of unlike members by itself.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV

X, y = load_diabetes(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=200, random_state=0)

# %%
# Ten starts, each stopped by leave-one-out in closed form, and their mean. All see all rows.

single = AdaptedFlowRegressor((64, 64), early_stopping="loo")
ten = BaggingRegressor(single, 10, max_samples=1.0, bootstrap=False, random_state=0).fit(X, y)
alone = np.array([one.score(X_test, y_test) for one in ten.estimators_])
outputs = np.array([one.predict(X_test) for one in ten.estimators_])
grown = [
    1 - ((y_test - outputs[:k].mean(0)) ** 2).sum() / ((y_test - y_test.mean()) ** 2).sum()
    for k in range(1, 11)
]
print(f"ten networks alone: {alone.mean():.3f} on average, {alone.min():.3f} to {alone.max():.3f}")
print(f"their mean: {ten.score(X_test, y_test):.3f}")

# %%
# The members of a search differ in encoding, α and time, and have weights.

search = AdaptedFlowRegressorCV((64, 64), random_state=0).fit(X, y)
print(f"search: {search.score(X_test, y_test):.3f}, weights {search.ensemble_weights_.round(2)}")

figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
ax.plot(range(1, 11), alone, "o", color="0.6", label="each start alone")
ax.plot(range(1, 11), grown, color="#31688e", label="mean of the first k")
ax.axhline(search.score(X_test, y_test), color="#b2182b", linestyle="--", label="search")
ax.set(xlabel="k", ylabel="R² on new rows")
ax.legend(fontsize="small")
plt.show()
