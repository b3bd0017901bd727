"""
Encodings: functions that bend sharply in one column
====================================================

Counts of riders rise and fall with the hour of the day, twice on working days and once on the
others. From a small start a network is smooth and learns such bends late; ramps or cosines beside
the column give them to it at once. The table is generated, in the likeness of such counts.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowRegressor, PeriodicEncoder, PiecewiseLinearEncoder

# %%
# The rows: an hour, whether people work, a temperature, and two columns that say nothing.

rng = np.random.default_rng(0)
n = 1000
table = pd.DataFrame(
    {
        "hour": rng.integers(0, 24, n).astype(float),
        "working": rng.random(n) < 0.7,
        "temperature": rng.normal(15, 8, n),
        "wind": rng.gamma(3, 4, n),
        "humidity": rng.uniform(20, 100, n),
    }
)


def riders(table: pd.DataFrame) -> np.ndarray:
    """Expected counts of the rows."""
    hour = table["hour"].to_numpy()
    commute = np.exp(-((hour - 8) ** 2) / 2) + np.exp(-((hour - 17.5) ** 2) / 3)
    leisure = 0.7 * np.exp(-((hour - 14) ** 2) / 18)
    shape = np.where(table["working"], commute + 0.15 * leisure, leisure)
    return 300 * shape * (0.4 + 0.6 / (1 + np.exp(-(table["temperature"] - 12) / 4)))


counts = rng.poisson(riders(table))
X, X_test, y, y_test = train_test_split(table, counts, train_size=500, random_state=0)

# %%
# The same network with four ways to show it the columns.

encodings = {
    "plain": None,
    "ramps over 6 bins": "piecewise",
    "ramps over 24 bins": PiecewiseLinearEncoder(n_bins=24),
    "cosines": PeriodicEncoder(scale=1.0, random_state=0),
}
fits = {}
for name, encoding in encodings.items():
    fits[name] = AdaptedFlowRegressor((64, 64), encoding=encoding, random_state=0).fit(X, y)
    print(f"{name:20} R² on new rows {fits[name].score(X_test, y_test):.3f}")

# %%
# A working day of 15 °C, hour by hour, as each of them sees it.

day = pd.DataFrame(
    {
        "hour": np.linspace(0, 23, 200),
        "working": True,
        "temperature": 15.0,
        "wind": 12.0,
        "humidity": 60.0,
    }
)
figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained", sharey=True)
for ax, (name, flow) in zip(axes, fits.items(), strict=True):
    ax.plot(day["hour"], riders(day), color="0.6", label="expected count")
    ax.plot(day["hour"], flow.predict(day), color="#31688e", label="network")
    ax.set(title=name, xlabel="hour", xticks=(0, 8, 17))
axes[0].set(ylim=(-40, 330))
axes[0].legend(loc="upper left", fontsize="small", frameon=False)
plt.show()
