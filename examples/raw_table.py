"""
A raw table, as it comes
========================

Numbers with gaps, categories, strings and columns that say nothing. Rents are made up: they rise
with the size, jump from district to district, swing with the day of the year, and are higher where
the year of building was not recorded. Half of the columns do not matter.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowRegressor, AdaptedFlowRegressorCV

# %%
# Flats and their rents.

DISTRICTS = {"harbour": 3.0, "mill": 1.0, "old town": 5.0, "station": 0.0, "woods": 2.0}
N_TRAIN, N_TEST = 400, 1000

rng = np.random.default_rng(0)
n = N_TRAIN + N_TEST
built = rng.integers(1900, 2020, n).astype(float)
built[rng.random(n) < 0.15] = np.nan
frame = pd.DataFrame(
    {
        "size": rng.lognormal(4.2, 0.4, n),
        "district": pd.Categorical(rng.choice(list(DISTRICTS), n)),
        "built": built,
        "day": rng.integers(1, 366, n),
        "balcony": rng.random(n) < 0.5,
        "agent": rng.choice(["Ada", "Bo", "Cy", None], n),
        "floor": rng.integers(0, 9, n),
        "number": rng.integers(1, 300, n),
    }
)
rent = (
    0.12 * frame["size"]
    + frame["district"].map(DISTRICTS).astype(float)
    + 1.5 * np.sin(2 * np.pi * frame["day"] / 122)
    + 2.0 * frame["built"].isna()
    + frame["balcony"]
    + 0.5 * rng.normal(size=n)
)
X, X_test, y, y_test = train_test_split(frame, rent, train_size=N_TRAIN, random_state=0)
X.head()

# %%
# One network and a search on the frame itself, and gradient boosting beside them, which takes such
# frames too.

search = AdaptedFlowRegressorCV(random_state=0)
models = {
    "one network": AdaptedFlowRegressor(random_state=0),
    "search": search,
    "gradient boosting": HistGradientBoostingRegressor(
        categorical_features=["district", "agent"], random_state=0
    ),
}
for name, model in models.items():
    print(f"{name:18} R² on new rows {model.fit(X, y).score(X_test, y_test):.3f}")
print(f"expected of the search by rows held out: {search.best_score_:.3f}")

# %%
# What the search chose.

for member, weight in zip(search.estimators_, search.ensemble_weights_, strict=True):
    chosen = f"encoding={member.encoding}, rescalings={member.rescalings}"
    print(f"weight {weight:.2f}: {chosen}, alpha={member.alpha}, t_end={member.t_end:.4f}")

# %%
# And what it goes by: the share of each column.

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
order = np.argsort(search.feature_importances_)
ax.barh(X.columns[order], search.feature_importances_[order], color="#31688e")
ax.set(xlabel="feature_importances_")
plt.show()
