r"""
Steering a path
===============

A network can be led along curves of one's own: prescribe the outputs :math:`x(s)` and find
:math:`\theta(s)` by :math:`\theta' = D^+ x'`. Six inputs with two outputs each are six points in
the plane, which start where a random network puts them. Each shall travel along its own spiral to a
corner of a hexagon. Then two of the inputs are made equal and their curves part halfway: no network
can follow both, and ``follow_path`` says so.
"""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from sklearn_gflow.dynamics import Steering, follow_path
from sklearn_gflow.geometry import LayeredNetwork, OutputMap

N_SAMPLES, N_OUTPUTS = 6, 2
FORK = 0.5
TIMES = np.linspace(0, 1, 101).tolist()
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

# %%
# The curves.


@dataclass(frozen=True)
class Spirals:
    """x(s): every point winds from its start to its goal, for s in [0, 1].

    Points of one group travel together until s = ½ and part there.
    """

    starts: torch.Tensor
    goals: torch.Tensor
    groups: tuple[int, ...]

    def __call__(self, s: float) -> torch.Tensor:
        """x(s) of all points, sample by sample, shape (n_samples·n_outputs,)."""
        alone = self._wind(self.goals, s)
        shared = self._wind(self._centres(), s)
        # Smooth at the fork: what parts the points grows from zero there.
        u = max(0.0, s - FORK) / (1 - FORK)
        parted = u * u * (3 - 2 * u)
        return torch.lerp(shared, alone, parted).reshape(-1)

    def _centres(self) -> torch.Tensor:
        centres = [
            torch.stack([self.goals[j] for j, other in enumerate(self.groups) if other == group])
            for group in self.groups
        ]
        return torch.stack([centre.mean(0) for centre in centres])

    def _wind(self, goals: torch.Tensor, s: float) -> torch.Tensor:
        """Out from the start, on a circle about the origin at the same time."""
        angle = 0.9 * math.pi * (1 - s)
        turn = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]],
            dtype=torch.float64,
        )
        return (1 - s) * self.starts + s * goals @ turn


# %%
# Steering a network along them.


def hexagon() -> torch.Tensor:
    """Goals of the points."""
    angles = torch.arange(N_SAMPLES, dtype=torch.float64) * (2 * math.pi / N_SAMPLES)
    return 2 * torch.stack([angles.cos(), angles.sin()], dim=1)


def steer(X: torch.Tensor, groups: tuple[int, ...], feasibility: float) -> tuple[Spirals, Steering]:
    """A network of 32 tanh units, steered from a random start.

    ``feasibility`` bounds the accepted |P^⊥x'|/|x'|; at 1 nothing is refused, and the part of x'
    that the network can do is followed.
    """
    network = LayeredNetwork((X.shape[1], 32, N_OUTPUTS), "tanh")
    theta = network.initial(torch.Generator().manual_seed(4))
    theta[-33 * N_OUTPUTS :] *= 0.3  # the last layer: starts near the middle
    output_map = OutputMap(network, X)
    path = Spirals(network.outputs(theta, X), hexagon(), groups)
    return path, follow_path(output_map, theta, path, TIMES, feasibility=feasibility)


# %%
# Six inputs, then two of them equal, twice: once only as far as the path can be followed, and once
# by the nearest that the network can do.


def report(title: str, steering: Steering) -> None:
    """One line: how far the network came, and how close to the path."""
    print(
        f"{title:<34} s = {steering.times[-1]:.2f}: {steering.outcome.value}; "
        f"rank {steering.rank[-1]:g} of {N_SAMPLES * N_OUTPUTS}, "
        f"drift {steering.drift[-1]:.1e}, infeasible part {steering.infeasible[-1]:.1e}"
    )


X = torch.randn(N_SAMPLES, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
twins = X.clone()
twins[1] = twins[0]
pairs = (0, 0, 2, 3, 4, 5)

path, free = steer(X, tuple(range(N_SAMPLES)), 1e-3)
forked, stopped = steer(twins, pairs, 1e-3)
_, nearest = steer(twins, pairs, 1.0)
report("six inputs", free)
report("two of them equal", stopped)
report("the same, whatever is feasible", nearest)


# %%
# Prescribed curves, realised ones, and the part of the motion that is out of reach.


def draw_paths(ax: Axes, title: str, path: Spirals, steering: Steering) -> None:
    """Prescribed curves, wide and pale; realised ones, thin, on top."""
    prescribed = torch.stack([path(s).view(N_SAMPLES, N_OUTPUTS) for s in TIMES])
    realised = torch.stack([x.view(N_SAMPLES, N_OUTPUTS) for x in steering.outputs])
    for i, color in enumerate(COLORS):
        ax.plot(*prescribed[:, i].T, color=color, alpha=0.25, linewidth=7, solid_capstyle="round")
        ax.plot(*realised[:, i].T, color=color, linewidth=1.8)
        ax.plot(*realised[0, i], marker="o", color="white", markeredgecolor=color, markersize=6)
        ax.plot(*realised[-1, i], marker="o", color=color, markersize=6)
        ax.plot(*prescribed[-1, i], marker="*", color=color, markersize=13, alpha=0.45)
    ax.set(title=title, xlabel="first output", aspect="equal")
    ax.grid(visible=True, alpha=0.25)


figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.8), layout="constrained")
draw_paths(left, "six inputs: every curve is followed", path, free)
draw_paths(middle, "two equal inputs: followed up to the fork", forked, nearest)
left.set_ylabel("second output")
for ax in (left, middle):
    ax.set(xlim=(-2.4, 2.4), ylim=(-2.2, 2.8))
fork = stopped.outputs[-2].view(N_SAMPLES, N_OUTPUTS)[0]
middle.annotate(
    "here the curves part, but one\ninput cannot have two outputs", fork.tolist(), (0.02, 0.89),
    textcoords="axes fraction", arrowprops={"arrowstyle": "->", "color": "0.3"}, color="0.3",
)  # fmt: skip
left.plot([], [], color="0.4", alpha=0.25, linewidth=7, label="prescribed")
left.plot([], [], color="0.4", linewidth=1.8, label="realised")
left.legend(loc="upper left", ncols=2, framealpha=0.95)
for steering, label, color in (
    (nearest, "two equal inputs", "#d55e00"),
    (free, "six inputs: none", "#0072b2"),
):
    right.plot(
        steering.times[1:],
        np.maximum(steering.infeasible[1:], 1e-16),  # zero has no logarithm
        color=color,
        label=label,
    )
right.axhline(1e-3, color="0.5", linestyle="--", linewidth=1, label="limit of feasibility")
right.axvline(FORK, color="0.5", linestyle=":", linewidth=1, label="the fork")
right.set(
    title=r"infeasible part $|P^\perp x'|\,/\,|x'|$", xlabel="$s$ along the path",
    yscale="log", ylim=(1e-17, 3), xlim=(0, 1),
)  # fmt: skip
right.grid(visible=True, alpha=0.25)
right.legend(loc="center right", framealpha=0.95, fontsize="small")
plt.show()
