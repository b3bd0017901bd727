"""The law of the line: at alpha = 1 all predictions move straight to their targets, at one rate.

Thirteen points in one dimension. On the left the fit at five times t of the flow: at each point it
has gone the share t of its way from the mean to the target. On the right the training loss of that
flow, which is known in advance, and those of others. Saves one picture. Runs in seconds.
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure

from sklearn_gflow import AdaptedFlowRegressor
from sklearn_gflow.plots import FlowDisplay, StagesDisplay

SCHEDULE = 100
MARKED = slice(None, None, 10)
OTHERS = {0.1: ("#31688e", "--"), 0.0: ("#b2182b", "-.")}


def data() -> tuple[np.ndarray, np.ndarray]:
    """Points of a wave with some noise."""
    X = np.linspace(-3, 3, 13)[:, None]
    noise = np.random.default_rng(1).normal(scale=0.3, size=13)
    return X, np.sin(1.5 * X[:, 0]) + 0.3 * X[:, 0] + noise


def fit(alpha: float, X: np.ndarray, y: np.ndarray) -> AdaptedFlowRegressor:
    """One layer of 256, followed closely."""
    flow = AdaptedFlowRegressor(
        (256,), alpha=alpha, t_end=0.98, schedule=SCHEDULE, store_path=True, init_scale=1.0,
        random_state=0,
    )  # fmt: skip
    return flow.fit(X, y)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="law_of_the_line.png", help="where the picture goes")
    run(parser.parse_args().output)


def run(output: str) -> None:
    """Fit, print how closely the law holds, and save the picture into the file ``output``."""
    X, y = data()
    line = fit(1.0, X, y)
    law = (1 - line.history_["t"]) ** 2
    worst = np.abs(np.array(line.loss_curve_) / line.loss_curve_[0] / law - 1).max()
    print(f"loss(t) / loss(0) = (1 - t)^2 to a relative {worst:.1e} at all {len(law)} points")

    figure = Figure(figsize=(6, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    StagesDisplay.from_estimator(line, X, y).plot(left)
    FlowDisplay.from_estimator(line).plot(right, line_kw={"linestyle": "none", "markevery": MARKED})
    for alpha, (color, style) in OTHERS.items():
        FlowDisplay.from_estimator(fit(alpha, X, y)).plot(
            right, line_kw={"color": color, "linestyle": style, "marker": ""}
        )
    left.legend(loc="upper left", frameon=False, fontsize="small")
    left.set(title=r"a fit unfolding, $\alpha = 1$", xlabel="input", ylim=(-1.8, 2.3))
    right.set(title="its loss, known in advance", xlim=(0, 1.02), xticks=(0, 0.5, 1))
    figure.savefig(output, dpi=150)
    print(f"The fit at five times, and the loss against time: {output}")


if __name__ == "__main__":
    main()
