"""Writes the files of this folder: python -m tests.persistence.format_1.

They are those of version 0.1.0; once it is released they are not made again.
"""

from pathlib import Path

import numpy as np

from sklearn_gflow import AdaptedFlowClassifierCV, AdaptedFlowRegressor, archive, save

FOLDER = Path(__file__).parent

rng = np.random.default_rng(0)
X = rng.normal(size=(16, 2)).round(2)
y = (np.sin(X[:, 0]) + X[:, 1]).round(3)
labels = np.where(y > 0, "yes", "no")

regressor = AdaptedFlowRegressor(
    (3,), encoding="piecewise", rescalings=1, schedule=3, random_state=0
).fit(X, y)
search = AdaptedFlowClassifierCV(
    (2,), alphas=[0.5], encodings=[None, "periodic"], t_ends=[0.5, 0.9], random_state=0
).fit(X, labels)

save(regressor, FOLDER / "regressor.safetensors")
save(search, FOLDER / "search.safetensors")
mean, std = regressor.predict(X, return_std=True)
arrays = {"X": X, "mean": mean, "std": std, "proba": search.predict_proba(X)}
archive.write(FOLDER / "expected.safetensors", arrays, {"labels": search.predict(X).tolist()})
