"""What a step costs: Gram, factorisation, memory, import, and how cost grows with N, width, Q.

Every figure is a median over repetitions in one process, or a ratio of two such medians that
were measured in turns. Run ``python docs/benchmarks/speed.py --help``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import threadpoolctl
import torch
from _machine import header
from sklearn.datasets import make_friedman1
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch.func import functional_call, jacrev, vmap

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.dynamics import Point, Stepper, mean_diagonal
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    LayeredNetwork,
    OutputMap,
    SquaredError,
    Tangent,
    factorize,
)

OUT = Path(__file__).with_suffix(".md")
TITLE = "# What a step costs"
N, SEED = 2000, 0


class Problem:
    """friedman1 with Q standardised targets, and a tanh network of two equal layers."""

    def __init__(self, n: int = N, width: int = 128, n_outputs: int = 1) -> None:
        X, y = make_friedman1(n, n_features=10, noise=1.0, random_state=SEED)
        y = np.stack([np.roll(y, q) for q in range(n_outputs)], axis=1)
        X, y = ((a - a.mean(0)) / a.std(0) for a in (X, y))
        self.X, y = torch.from_numpy(X), torch.from_numpy(y)
        self.network = LayeredNetwork((10, width, width, n_outputs))
        self.theta = self.network.initial(torch.Generator().manual_seed(SEED))
        start = self.network.outputs(self.theta, self.X)
        self.map = OutputMap(self.network, self.X, start)
        self.cost = SquaredError(y.reshape(-1), self.map.total_weight)

    def stepper(self, alpha: float) -> Stepper:
        """Linearise, factorise: all that a step needs."""
        point = Point.at(self.map, self.cost, 0.0, self.theta)
        factor = factorize(point.tangent, point.residual)
        scale = mean_diagonal(point.tangent)
        distance = self.cost.distance(point.outputs)
        limit = self.cost.targets
        return Stepper(point, factor, self.map, self.cost, alpha, scale, limit, distance)


def medians(*works: Callable[[], object], repeats: int = 5) -> list[float]:
    """Median seconds of each, the works taking turns after one run that does not count."""
    times: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, found in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if repeat:
                found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


# -- The figures -------------------------------------------------------------------------------


def gram_against_torch_func() -> Iterator[str]:
    """G by layers, and by contraction of the Jacobian that torch.func makes."""
    problem = Problem(width=256)
    modules: list[torch.nn.Module] = []
    for W, b in problem.network.layers(problem.theta):
        linear = torch.nn.Linear(*W.shape, dtype=torch.float64)
        linear.weight.data.copy_(W.T)
        linear.bias.data.copy_(b)
        modules += [linear, torch.nn.Tanh()]
    module = torch.nn.Sequential(*modules[:-1]).requires_grad_(requires_grad=False)
    parameters = dict(module.named_parameters())

    def row(values: dict, x: torch.Tensor) -> torch.Tensor:
        return functional_call(module, values, (x[None],))[0, 0]

    def contraction() -> torch.Tensor:
        parts = vmap(jacrev(row), in_dims=(None, 0), chunk_size=250)(parameters, problem.X)
        D = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
        return D @ D.mT

    def layered() -> torch.Tensor:
        return problem.map.linearize(problem.theta).gram()

    expected = contraction()
    error = float((layered() - expected).norm() / expected.norm())
    ours, theirs = medians(layered, contraction, repeats=3)
    yield (
        f"| Gram, `torch.func` Jacobian contraction ÷ this package, N = {N:,}, 2×256 | "
        f"{theirs:.3g} s ÷ {ours:.3g} s = **{theirs / ours:.0f}** (agreement {error:.0e}) |"
    )


def share_of_matrix_rate() -> Iterator[str]:
    """Flops of Gram and Cholesky, the symmetric half counted once, against a matrix product."""
    A, B = torch.randn(2, N, N, dtype=torch.float64)
    for width in (128, 256):
        problem = Problem(width=width)

        def linearize(problem: Problem = problem) -> Tangent:
            return problem.map.linearize(problem.theta)

        def work(problem: Problem = problem) -> None:
            factorize(linearize(problem), problem.cost.targets)

        product, whole, forward = medians(lambda: A @ B, work, linearize)
        rate, both = 2 * N**3 / product, whole - forward
        inner = 10 + 4 * width  # inputs of three layers, sensitivities of two
        flops = N * (N + 1) * inner + N**3 / 3
        yield (
            f"| Gram + factorisation, share of the matrix-product rate, N = {N:,}, 2×{width} | "
            f"{flops / both / 1e9:.1f} of {rate / 1e9:.1f} GFlop/s = "
            f"**{flops / both / rate:.2f}** |"
        )


def alpha_step() -> Iterator[str]:
    """One accepted step, Gram and factorisation included, at two α."""
    problem = Problem()

    def one(alpha: float) -> None:
        stepper = problem.stepper(alpha)
        stepper.step(0.05)

    mixed, adapted = medians(lambda: one(0.3), lambda: one(1.0))
    yield (
        f"| one step at α = 0.3 ÷ one at α = 1, N = {N:,} | "
        f"{mixed:.3g} s ÷ {adapted:.3g} s = **{mixed / adapted:.2f}** |"
    )


_PEAK = """
import sys
from sklearn.datasets import make_friedman1
from sklearn_gflow import AdaptedFlowRegressor
X, y = make_friedman1(int(sys.argv[1]), n_features=10, noise=1.0, random_state=0)
X = (X - X.mean(0)) / X.std(0)
model = AdaptedFlowRegressor(
    (128, 128), alpha=float(sys.argv[2]), batch_size=None, max_iter=3, random_state=0
)

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

model.fit(X[:300], y[:300])
before = peak()
model.fit(X, y)
print(peak() - before)
"""


def peak_memory() -> Iterator[str]:
    """Growth of the largest resident set over a fit, in a process of its own (Linux)."""
    n = 4000
    for alpha in (1.0, 0.1):
        command = [sys.executable, "-W", "ignore", "-c", _PEAK, str(n), str(alpha)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield (
            f"| peak memory of a fit over the bytes of one Gram, N = {n:,}, α = {alpha:g} | "
            f"**{int(output) / (8 * n * n):.2f}** |"
        )


def eight_alphas() -> Iterator[str]:
    """Leave-one-out scores of eight α at all times, a fit of the best included, and eight fits."""
    X, y = make_friedman1(N, n_features=10, noise=1.0, random_state=SEED)
    X = (X - X.mean(0)) / X.std(0)
    alphas = [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0]
    options = {"hidden_layer_sizes": (128, 128), "random_state": SEED}

    def fits() -> None:
        for alpha in alphas:
            AdaptedFlowRegressor(alpha=alpha, batch_size=None, **options).fit(X, y)

    one_pass, eight = medians(
        lambda: AdaptedFlowRegressorCV(alphas=alphas, **options).fit(X, y), fits, repeats=1
    )
    yield (
        f"| eight α from one start, N = {N:,}: scores by leave-one-out at 19 times and a fit of "
        f"the best ÷ eight fits | {one_pass:.3g} s ÷ {eight:.3g} s = **{one_pass / eight:.2f}** |"
    )


def import_time() -> Iterator[str]:
    """Seconds after torch; and what asking for an estimator then loads."""
    code = (
        "import time, torch; a = time.perf_counter(); import sklearn_gflow;"
        "b = time.perf_counter(); sklearn_gflow.AdaptedFlowRegressor; c = time.perf_counter();"
        "print(b - a, c - b)"
    )
    known = code.replace("import time, torch;", "import time, torch, sklearn.base, scipy.special;")

    def seconds(text: str) -> np.ndarray:
        runs = [
            subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
            for _ in range(3)
        ]
        return np.median([[float(part) for part in run.stdout.split()] for run in runs], axis=0)

    (package, estimator), (_, own) = seconds(code), seconds(known)
    yield (
        f"| time of `import sklearn_gflow` without torch's own | **{package:.4f} s**; the first "
        f"use of an estimator {estimator:.2g} s, of which beyond scikit-learn and SciPy "
        f"{own:.2g} s |"
    )


def few_rows() -> Iterator[str]:
    """One row to predict, and fits of small tables, against what stands nearby in scikit-learn."""
    X, y = make_friedman1(150, n_features=8, noise=1.0, random_state=SEED)
    labels, one = y > np.median(y), X[:1]
    models = {
        "`predict`": AdaptedFlowRegressor(random_state=SEED).fit(X, y).predict,
        "`predict_proba`": AdaptedFlowClassifier(random_state=SEED).fit(X, labels).predict_proba,
        "`predict` of three members": AdaptedFlowRegressorCV(random_state=SEED).fit(X, y).predict,
        "`MLPClassifier.predict_proba`": MLPClassifier(max_iter=5).fit(X, labels).predict_proba,
    }
    times = medians(*(partial(predict, one) for predict in models.values()), repeats=400)
    told = "; ".join(f"{name} {1e6 * t:.0f}" for name, t in zip(models, times, strict=True))
    yield f"| one row, µs | {told} |"
    for n in (50, 150):
        ours, theirs = (model(random_state=SEED) for model in (AdaptedFlowRegressor, MLPRegressor))
        fits = [partial(model.fit, X[:n], y[:n]) for model in (ours, theirs)]
        flow, network = medians(*fits, repeats=7)
        yield (
            f"| fit of {n} rows at the defaults, `MLPRegressor` ÷ this package | "
            f"{network:.3f} s ÷ {flow:.3f} s = **{network / flow:.1f}** |"
        )


# -- Cost against size -------------------------------------------------------------------------


def exponents(largest: int) -> Iterator[str]:
    """Fit log(time) against log(size) over the upper half of each range."""
    sizes = [n for n in (500, 1000, 2000, 4000, 8000) if n <= largest]
    grids = {
        "N (2×128, Q = 1)": (sizes, lambda n: Problem(n=n)),
        "width (N = 1,000, Q = 1)": ([32, 64, 128, 256, 512, 1024], lambda w: Problem(1000, w)),
        "Q (N = 400, 2×128)": ([1, 2, 5, 10], lambda q: Problem(400, n_outputs=q)),
    }
    theory = {"N": ("2", "3"), "w": ("1, passes 2", "0"), "Q": ("2", "3")}
    yield "| against | sizes | Gram, s | exponent (theory) | Cholesky, s | exponent (theory) |"
    yield "|---|---|---|---|---|---|"
    for name, (values, make) in grids.items():
        grams, factors = [], []
        for value in values:
            problem = make(value)
            linearize = problem.map.linearize
            gram, both = medians(
                lambda p=problem, lin=linearize: lin(p.theta).gram(),
                lambda p=problem, lin=linearize: factorize(lin(p.theta), p.cost.targets),
                repeats=3,
            )
            grams.append(gram)
            factors.append(max(both - gram, 1e-9))
        cells = []
        for times, expected in zip((grams, factors), theory[name[0]], strict=True):
            upper = slice(len(values) // 2 - 1, None)
            slope = np.polyfit(np.log(values[upper]), np.log(times[upper]), 1)[0]
            cells += [", ".join(f"{t:.2g}" for t in times), f"{slope:.2f} ({expected})"]
        yield f"| {name} | {', '.join(map(str, values))} | " + " | ".join(cells) + " |"


def profile() -> Iterator[str]:
    """Where the time of a step goes, at α = 1."""
    problem = Problem()
    tangent = problem.map.linearize(problem.theta)
    stepper = problem.stepper(1.0)
    factor, r = stepper.factor, problem.cost.targets
    (
        linearize, gram, both, lift, outputs, step,
    ) = medians(
        lambda: problem.map.linearize(problem.theta),
        lambda: problem.map.linearize(problem.theta).gram(),
        lambda: factorize(tangent, r),
        lambda: factor.lift(PSEUDOINVERSE, r),
        lambda: problem.map.outputs(problem.theta),
        lambda: problem.stepper(1.0).step(0.05),
    )  # fmt: skip
    yield f"| part of a step, N = {N:,}, 2×128, α = 1 | seconds | share |"
    yield "|---|---|---|"
    parts = {
        "x(θ) and what its derivatives need": linearize,
        "sensitivities and Gram": gram - linearize,
        "Cholesky and estimate of the condition": both - (gram - linearize),
        "D⁺ on a vector, twice (step and chord)": 2 * lift,
        "x(θ) at the two ends": outputs + linearize,
    }
    for name, seconds in parts.items():
        yield f"| {name} | {seconds:.3g} | {seconds / step:.0%} |"
    yield f"| the whole step | {step:.3g} | |"


def main() -> None:
    """Measure, and write the report's tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=8000, help="rows in the fit of exponents")
    parser.add_argument("--threads", type=int, help="of torch and BLAS; default: as they are")
    parser.add_argument("--out", type=Path, default=OUT, help="where the tables go")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        threadpoolctl.threadpool_limits(arguments.threads)
    lines = [TITLE, "", header(), "", "| figure | measured |", "|---|---|"]
    for figure in (gram_against_torch_func, share_of_matrix_rate, alpha_step, peak_memory,
                   eight_alphas, few_rows, import_time):  # fmt: skip
        for line in figure():
            print(line, flush=True)
            lines.append(line)
    for table in (profile(), exponents(arguments.largest)):
        lines.append("")
        for line in table:
            print(line, flush=True)
            lines.append(line)
    arguments.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
