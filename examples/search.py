"""
Searching over α and the stopping time
======================================

A grid of scikit-learn fits every pair of α and ``t_end`` anew on every fold. The searches of this
package score a whole path at each fit, so that the times cost nothing, and choose the encoding and
a small ensemble as well.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, train_test_split

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV
from sklearn_gflow.plots import SearchDisplay

X, y = load_diabetes(return_X_y=True, scaled=False)
X, X_test, y, y_test = train_test_split(X, y, random_state=0)

# %%
# The grid: 3 α × 6 times × 3 folds are 54 fits, and one more on all rows.

alphas, times = [0.0, 0.1, 0.5], [0.3, 0.5, 0.7, 0.9, 0.95, 0.99]
flow = AdaptedFlowRegressor((64, 64), random_state=0)
grid = GridSearchCV(flow, {"alpha": alphas, "t_end": times}, cv=3).fit(X, y)
print(f"grid: {grid.best_params_}, R² on new rows {grid.score(X_test, y_test):.3f}")

# %%
# The search over the same α and times makes one path for each α and fold: 9 fits, and one more.

same = AdaptedFlowRegressorCV(
    (64, 64), alphas=alphas, t_ends=times, encodings=[None], cv=3, ensemble=False, random_state=0
).fit(X, y)
print(f"search: alpha={same.alpha_}, t={same.t_end_:.2f}, R² {same.score(X_test, y_test):.3f}")

# %%
# Left to itself it looks at encodings too, and lets others join the best.

free = AdaptedFlowRegressorCV((64, 64), random_state=0).fit(X, y)
print(f"search, left to itself: R² {free.score(X_test, y_test):.3f}, made of")
for member, weight in zip(free.estimators_, free.ensemble_weights_, strict=True):
    chosen = f"encoding={member.encoding}, alpha={member.alpha:g}, t_end={member.t_end:.3f}"
    print(f"  {weight:.2f} × {chosen}")

# %%
# Both in pictures: score against the stopping time, a line for each α, the chosen pair starred.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
SearchDisplay.from_estimator(grid).plot(axes[0])
SearchDisplay.from_estimator(same).plot(axes[1])
axes[0].set(title="GridSearchCV, 54 fits")
axes[1].set(title="AdaptedFlowRegressorCV, 9 fits")

# %%
# The free search, with a panel for each encoding; it is empty where leave-one-out did not shortlist
# the encoding.

SearchDisplay.from_estimator(free).plot()
plt.show()
