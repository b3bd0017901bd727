"""
From a raw frame to a file that predicts
========================================

The estimator takes gaps and categories by itself, so that a model for production is one object:
choose it by cross-validation, look at what it goes by, save it, and load it where it is needed.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.inspection import PartialDependenceDisplay
from sklearn.model_selection import cross_validate, train_test_split

from sklearn_gflow import AdaptedFlowClassifierCV, load, save

# %%
# Customers, generated: some columns have gaps, one is a category, one says nothing.

rng = np.random.default_rng(0)
n = 600
frame = pd.DataFrame(
    {
        "months": rng.integers(1, 72, n).astype(float),
        "bill": rng.gamma(6, 10, n),
        "plan": rng.choice(["basic", "family", "business"], n, p=[0.5, 0.3, 0.2]),
        "calls": rng.poisson(2, n).astype(float),
        "number": rng.integers(0, 1000, n),
    }
)
score = (
    0.04 * (frame["bill"] - 60)
    - 0.05 * (frame["months"] - 20)
    + 0.6 * (frame["calls"] - 2)
    + frame["plan"].map({"basic": 0.5, "family": -0.5, "business": -1.0})
)
leaves = np.where(rng.random(n) < 1 / (1 + np.exp(-score)), "leaves", "stays")
frame.loc[rng.random(n) < 0.1, "calls"] = np.nan
frame.loc[rng.random(n) < 0.1, "plan"] = None
X, X_test, y, y_test = train_test_split(frame, leaves, random_state=0, stratify=leaves)

# %%
# What to expect on new rows, by folds around the whole search.

model = AdaptedFlowClassifierCV((32,), random_state=0)
folds = cross_validate(model, X, y, cv=3, scoring=["roc_auc", "neg_log_loss"])
area, loss = folds["test_roc_auc"].mean(), -folds["test_neg_log_loss"].mean()
print(f"by folds: area under the curve {area:.3f}, log-loss {loss:.3f}")

# %%
# The model, and what it goes by.

model.fit(X, y)
for name, share in zip(X, model.feature_importances_, strict=True):
    print(f"{name:8} {share:.2f}")
figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
PartialDependenceDisplay.from_estimator(
    model, X.dropna(), ["months", "bill", "calls"], grid_resolution=20, ax=ax,
    response_method="predict_proba",
)  # fmt: skip

# %%
# A file of arrays and JSON, and the same predictions from it. It holds no code, and reading it runs
# none, as unpickling would.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "customers.safetensors"
    save(model, path)
    served = load(path)
    print(f"{path.stat().st_size / 1e6:.2f} MB")
assert np.array_equal(served.predict_proba(X_test), model.predict_proba(X_test))

# %%
# The same for onnxruntime, where the extra ``onnx`` is installed: an input for each column, in
# which an empty string is a missing one.

if find_spec("skl2onnx") and find_spec("onnxruntime"):
    import onnxruntime
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    import sklearn_gflow.onnx  # noqa: F401  # registers the converters

    kinds = {
        name: StringTensorType([None, 1]) if name == "plan" else FloatTensorType([None, 1])
        for name in X
    }
    graph = skl2onnx.to_onnx(model, initial_types=list(kinds.items()), options={"zipmap": False})
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    columns = {
        name: X_test[[name]].fillna("").to_numpy(str) if name == "plan"
        else X_test[[name]].to_numpy(np.float32)
        for name in X
    }  # fmt: skip
    _, p = session.run(None, columns)
    print(f"ONNX differs by at most {np.abs(p - model.predict_proba(X_test)).max():.1e}")

# %%
# Rows of production come with gaps, with levels that nobody has seen, one at a time.

row = pd.DataFrame([{"months": 3, "bill": 95.0, "plan": "student", "calls": np.nan, "number": 7}])
chances = served.predict_proba(row)[0].round(3).tolist()
print(dict(zip(served.classes_.tolist(), chances, strict=True)))
plt.show()
