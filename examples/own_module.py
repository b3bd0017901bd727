"""
A network of your own
=====================

Any ``torch.nn.Module`` in which each row has its own output can be trained along the flow in place
of the layered network. This one is a small convolution over the pixels of digits.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_gflow import AdaptedFlowClassifier
from sklearn_gflow.plots import KernelDisplay

# %%
# A callable of the numbers of features and outputs makes the module.


class Convolution(torch.nn.Module):
    """Six maps of 3 × 3 over 8 × 8 pixels, halved, then a linear layer."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.maps = torch.nn.Conv2d(1, 6, 3, padding=1)
        self.last = torch.nn.Linear(6 * 4 * 4, n_outputs)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """One row of outputs for each row of pixels."""
        maps = torch.tanh(self.maps(X.reshape(-1, 1, 8, 8)))
        return self.last(torch.nn.functional.avg_pool2d(maps, 2).flatten(1))


# %%
# Columns are not scaled for a module: it sees the pixels as they are handed over.

X, y = load_digits(n_class=4, return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, train_size=150, stratify=y, random_state=0)
flow = AdaptedFlowClassifier(module=Convolution, random_state=0).fit(X, y)
plain = AdaptedFlowClassifier((64,), random_state=0).fit(X, y)
print(f"convolution: {flow.score(X_test, y_test):.3f}, rank {flow.ntk_rank_} of {4 * len(y)}")
print(f"layers:      {plain.score(X_test, y_test):.3f}, rank {plain.ntk_rank_} of {4 * len(y)}")
print("parameters:", {name: value.shape for name, value in flow.parameters_.items()})

# %%
# Everything else is as with layers, the tangent kernel included.

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
KernelDisplay.from_estimator(plain, y=y).plot(axes[0], colorbar=False)
KernelDisplay.from_estimator(flow, y=y).plot(axes[1])
axes[0].set(title="kernel of the layers")
axes[1].set(title="kernel of the convolution")
plt.show()
