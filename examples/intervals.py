"""
How sure a prediction is
========================

``predict(X, return_std=True)`` gives the standard deviation of a new observation, noise included:
that of the Gaussian process whose covariance is the tangent kernel at the start.
``predict_interval`` gives intervals of a coverage, whatever the distribution, from what each row
would have been predicted without itself; their width is one for all inputs. Two quantile fits give
an interval whose width may follow the inputs.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_gflow import AdaptedFlowRegressor

# %%
# A wave with a gap in it, and noise of one size.

rng = np.random.default_rng(0)


def table(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows left and right of a gap."""
    X = np.r_[rng.uniform(-3, -0.7, n // 2), rng.uniform(0.9, 3, n - n // 2)]
    return X[:, None], np.sin(2 * X) + 0.15 * rng.normal(size=n)


X, y = table(60)
X_test, y_test = table(2000)
x = np.linspace(-3.5, 3.5, 300)[:, None]

# %%
# One column that bends four times wants a start that is less smooth than the default, and less
# damping; where targets are few and noisy the defaults are the better choice.

bent = {"init_scale": 2.0, "damping": 1e-4, "t_end": 0.99, "random_state": 0}
flow = AdaptedFlowRegressor((128,), **bent).fit(X, y)
mean, std = flow.predict(x, return_std=True)
at_test, std_test = flow.predict(X_test, return_std=True)
inside = np.abs(y_test - at_test) < 1.645 * std_test
print(f"intervals of 90 % hold {inside.mean():.1%} of {len(y_test)} new rows")
print(f"mean deviation at them {std_test.mean():.3f}; in the gap it rises to {std.max():.3f}")

# %%
# Intervals of the coverage that is asked for, without a refit.

ends = flow.predict_interval(X_test, coverage=0.9)
held = (ends[:, 0] < y_test) & (y_test < ends[:, 1])
print(f"predict_interval holds {held.mean():.1%} of them, {np.ptp(ends, axis=1).mean():.3f} wide")

# %%
# Quantiles at 5 and 95 %, by two fits with another loss.

low, high = (
    AdaptedFlowRegressor((128,), loss="quantile", quantile=level, **bent).fit(X, y)
    for level in (0.05, 0.95)
)
between = (low.predict(X_test) < y_test) & (y_test < high.predict(X_test))
print(f"quantiles of 5 and 95 % have {between.mean():.1%} of them between")

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", sharey=True)
axes[0].fill_between(x[:, 0], mean - 1.645 * std, mean + 1.645 * std, color="#31688e", alpha=0.3)
axes[0].plot(x, mean, color="#31688e")
axes[0].set(title="return_std, 90 %", xlabel="input")
axes[1].fill_between(x[:, 0], *flow.predict_interval(x).T, color="#31688e", alpha=0.3)
axes[1].set(title="predict_interval, 90 %", xlabel="input")
axes[2].fill_between(x[:, 0], low.predict(x), high.predict(x), color="#b2182b", alpha=0.25)
axes[2].set(title="two quantiles", xlabel="input")
for ax in axes:
    ax.plot(X, y, ".", color="black")
    ax.plot(x, np.sin(2 * x), color="0.5", linestyle=":")
plt.show()
