"""Maps over ranks: nothing that they say depends on how many ranks there are."""

import math
from itertools import pairwise

import pytest
import torch

from sklearn_gflow.dynamics import Adaptive, FlowOptions, flow
from sklearn_gflow.geometry import (
    PSEUDOINVERSE,
    SOLVERS,
    CombinedSolver,
    DividedMap,
    GramFunction,
    LayeredNetwork,
    OutputMap,
    Ranks,
    Request,
    Sharded,
    ShardedCost,
    ShardedMap,
    factorize,
    joined_ways,
)
from sklearn_gflow.geometry.losses import Huber, LogLoss, SquaredLoss
from sklearn_gflow.geometry.solvers import combined as combined_solver
from sklearn_gflow.geometry.vectors import norm
from tests.ranks import Group

pytestmark = pytest.mark.slow

SIZES = (1, 2, 4)


@pytest.fixture(scope="module")
def groups():
    found = {size: Group(size) for size in SIZES}
    yield found
    for group in found.values():
        group.close()


def problem(n_outputs=2, weighted=True, n=23):
    """A family, θ, inputs, targets, weights: the same in every process."""
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    family = LayeredNetwork((3, 12, 12, n_outputs))
    theta, X = family.initial(generator), drawn(n, 3)
    y = torch.softmax(drawn(n, n_outputs), dim=1)
    return family, theta, X, y, drawn(n).exp() if weighted else None


def whole(loss, *given):
    family, _, X, y, weights = given
    return OutputMap(family, X, None, weights), loss.cost(y, weights)


def shares(n, size):
    """Where the rows of each rank begin and end: unequal on purpose."""
    edges = [round(n * (k / size) ** 1.3) for k in range(size + 1)]
    return list(pairwise(edges))


def sharded(loss, ranks, *given):
    family, _, X, y, weights = given
    rows = slice(*shares(len(X), ranks.size)[ranks.rank])
    own_weights = None if weights is None else weights[rows]
    own = OutputMap(family, X[rows], None, own_weights)
    output_map = ShardedMap.of(own, ranks)
    cost = ShardedCost(loss.cost(y[rows], own_weights), output_map.space, output_map.total_weight)
    return output_map, cost


def close(found, expected, tolerance=1e-12):
    size = float(torch.as_tensor(expected).abs().max()) or 1.0
    difference = torch.as_tensor(found) - torch.as_tensor(expected)
    assert float(difference.abs().max()) <= tolerance * size


# -- loss, gradient and products, first of all ---------------------------------------------------


def said(output_map, cost, theta, u, v):
    """What a map and a cost say at θ, of vectors u and v."""
    tangent = output_map.linearize(theta)
    x = tangent.outputs
    u = u if isinstance(x, torch.Tensor) else u.to(x)
    columns = torch.stack([u, x], dim=1)
    vectors = {
        "x": x,
        "Dv": tangent.push(v),
        "Gu": tangent.push(tangent.pull(u)),
        "G of columns": tangent.gram_times(columns),
        "diagonal": tangent.gram_diagonal(),
        "residual": cost.residual(x),
        "gradient": cost.gradient(x),
        "minimizer": cost.minimizer(x),
        "columns": tangent.columns(torch.tensor([17, 0, 5])),
        "parabola": cost.parabola(x).targets,
    }
    numbers = {
        "loss": cost.value(x),
        "least": cost.least(x),
        "curvature": cost.curvature(x),
        "distance": cost.distance(x),
        "trace": tangent.trace(),
        "N": tangent.total_weight,
        "N of the cost": cost.total_weight,
        "norm": norm(x),
        "inner": float(x @ u),
        "parabola": cost.parabola(x).value(x),
        "attained": float(cost.attained),
    }
    shape = {"QN": len(x), "n": tangent.n_samples, "Q": tangent.n_outputs, "K": tangent.n_params}
    parameters = {"Dᵀu": tangent.pull(u), "∇C": tangent.pull(cost.gradient(x))}
    together = {k: v if isinstance(v, torch.Tensor) else v.whole() for k, v in vectors.items()}
    return {**together, **numbers, **shape, **parameters}


def compared(loss, n_outputs, weighted):
    given = problem(n_outputs, weighted)
    theta, v = given[1], torch.cos(torch.arange(len(given[1])).double())
    u = torch.sin(torch.arange(23 * n_outputs).double())
    return (
        said(*whole(loss, *given), theta, u, v),
        said(*sharded(loss, Ranks(), *given), theta, u, v),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("loss", "n_outputs", "weighted"),
    [(SquaredLoss(), 1, False), (SquaredLoss(), 2, True), (Huber(), 1, True), (LogLoss(), 3, True)],
)
def test_nothing_depends_on_the_number_of_ranks(groups, size, loss, n_outputs, weighted):
    for expected, found in groups[size].run(compared, loss, n_outputs, weighted):
        for name, value in expected.items():
            close(found[name], value)


def test_a_rank_without_rows_adds_nothing(groups):
    for expected, found in groups[2].run(one_sided):
        for name, value in expected.items():
            close(found[name], value)


def one_sided():
    family, theta, X, y, weights = problem()
    ranks, loss = Ranks(), SquaredLoss()
    rows = slice(0, 23) if ranks.rank else slice(0, 0)
    output_map = ShardedMap.of(OutputMap(family, X[rows], None, weights[rows]), ranks)
    cost = ShardedCost(loss.cost(y[rows], weights[rows]), output_map.space, output_map.total_weight)
    u, v = torch.ones(46).double(), torch.ones(len(theta)).double()
    return said(*whole(loss, family, theta, X, y, weights), theta, u, v), said(
        output_map, cost, theta, u, v
    )


# -- Grams and flows -----------------------------------------------------------------------------


def divided(weighted):
    given = problem(2, weighted)
    plain, _ = whole(SquaredLoss(), *given)
    tangents = plain.linearize(given[1]), DividedMap.of(plain, Ranks()).linearize(given[1])
    held = tangents[1]
    held.hold_gram()
    return *(tangent.gram() for tangent in tangents), tangents[1].gram()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gram_is_made_together(groups, size, weighted):
    results = groups[size].run(divided, weighted)
    for expected, held, made in results:
        close(held, expected)
        close(made, made.mT)
        assert torch.equal(made, results[0][2])


def test_a_frozen_flow_is_integrated_over_ranks(groups):
    results = groups[2].run(followed, "krylov", 0.5, 0.05, LogLoss(), 0.1)
    theta, *_ = results[0][1]
    for (found, *_), *_ in results:
        close(found, theta, 1e-9)


def followed(solver, alpha, damping, loss, tau=2.0):
    """θ, x, losses and back end of a flow over ranks, and on the first of them of one process."""
    given = problem(2)
    options = FlowOptions(alpha=alpha, solver=solver, damping=damping, tol=1e-8)
    plain, cost = whole(loss, *given)
    if SOLVERS[solver].matrix_free:
        maps = [sharded(loss, Ranks(), *given)]
    else:
        maps = [(DividedMap.of(plain, Ranks()), cost)]
    if Ranks().rank == 0:
        maps.append((plain, cost))
    flows = [flow(m, c, given[1], Adaptive(tau), options) for m, c in maps]
    return [(f.theta, plain.outputs(f.theta), torch.tensor(f.loss), f.solver) for f in flows]


@pytest.mark.parametrize(
    ("size", "solver", "alpha", "damping", "loss"),
    [
        (1, "cholesky", 1.0, 0.0, SquaredLoss()),
        (2, "cholesky", 1.0, 0.0, SquaredLoss()),
        (4, "cholesky", 1.0, 0.0, SquaredLoss()),
        (2, "auto", 0.5, 0.08, SquaredLoss()),
        (2, "shared", 0.5, 0.08, SquaredLoss()),
        (2, "eigh", 0.5, 0.01, LogLoss()),
        (1, "krylov", 1.0, 0.001, SquaredLoss()),
        (2, "krylov", 1.0, 0.001, SquaredLoss()),
        (2, "krylov", 0.5, 0.08, SquaredLoss()),
        (4, "krylov", 0.5, 0.2, SquaredLoss()),
    ],
)
def test_exact_flows_are_those_of_one_process(groups, size, solver, alpha, damping, loss):
    results = groups[size].run(followed, solver, alpha, damping, loss)
    theta, x, losses, name = results[0][1]
    for (found, found_x, found_losses, found_name), *_ in results:
        close(found, theta, 1e-10)
        close(found_x, x, 1e-10)
        close(found_losses, losses, 1e-10)
        assert found_name == name
        assert torch.equal(found, results[0][0][0])  # on every rank, bit for bit


# -- steps of blocks -----------------------------------------------------------------------------


def combined(solver, enough):
    """A step of the union of blocks, what each block does alone, and the factor of this rank."""
    combined_solver._ENOUGH = enough
    family, theta, X, y, weights = problem(2)
    ranks = Ranks()
    rows = slice(0, 10) if ranks.rank == 0 else slice(10, 23)
    own = OutputMap(family, X[rows], None, weights[rows])
    output_map = ShardedMap.of(own, ranks)
    tangent = output_map.linearize(theta)
    r = output_map.vector(own.weigh(y[rows]))
    f, ridge = GramFunction(0.7, lambda lam: 0.2 / (1 + lam)), 0.3
    request = Request(once=True, ridge=ridge)
    step = CombinedSolver(SOLVERS[solver]).factorize(tangent, r, request).lift(f, r)
    alone = factorize(tangent.own, r.own, solver=solver, once=True, ridge=ridge)
    inverse = [alone.apply(PSEUDOINVERSE, unit) for unit in torch.eye(len(r.own)).double()]
    return step, alone.lift_with_dual((f, r.own))[1], torch.stack(inverse, 1)


@pytest.mark.parametrize("solver", ["auto", "shared", "eigh", "svd"])
def test_a_combined_step_is_the_best_of_two_directions(groups, solver):
    family, theta, X, _, weights = problem(2)
    D, ridge = OutputMap(family, X, None, weights).linearize(theta).jacobian(), 0.3
    (step, u1, inverse1), (again, u2, inverse2) = groups[2].run(combined, solver, math.inf)
    A, u, inverse = (
        D @ D.mT + ridge * torch.eye(len(D)).double(),
        torch.cat([u1, u2]),
        torch.block_diag(inverse1, inverse2),
    )
    blocks = torch.block_diag(torch.ones(20, 20), torch.ones(26, 26)).double()
    t = (A * blocks) @ u
    gain = (t @ u) / (u @ A @ u)
    z = inverse @ (t - gain * (A @ u))
    V = torch.stack([u, z], dim=1)
    close(step, D.mT @ V @ torch.linalg.solve(V.mT @ A @ V, V.mT @ t), 1e-9)
    assert torch.equal(step, again)
    assert gain >= 0.5
    (step, *_), _ = groups[2].run(combined, solver, 0.5)
    close(step, gain * (D.mT @ u), 1e-9)


def test_one_block_is_combined_as_it_is(groups):
    ((step, u, _),) = groups[1].run(combined_alone)
    close(step, u)


def combined_alone():
    family, theta, X, y, _ = problem(2)
    output_map = ShardedMap.of(OutputMap(family, X), Ranks())
    tangent, r = output_map.linearize(theta), output_map.vector(y.reshape(-1))
    f = GramFunction(0.7, lambda lam: 0.2 / (1 + lam))
    found = [
        solver.factorize(at, of, Request(once=True, ridge=0.3)).lift(f, of)
        for solver, at, of in (
            (CombinedSolver(SOLVERS["auto"]), tangent, r),
            (SOLVERS["auto"], tangent.own, r.own),
        )
    ]
    return *found, None


def test_copies_of_a_block_without_a_ridge_step_as_one(groups):
    (step, d1, *_), _ = groups[2].run(combined_undamped)
    close(step, d1, 1e-8)


def combined_undamped():
    family, theta, X, y, _ = problem(2)
    output_map = ShardedMap.of(OutputMap(family, X[:10]), Ranks())
    tangent, r = output_map.linearize(theta), output_map.vector(y[:10].reshape(-1))
    factor = CombinedSolver(SOLVERS["auto"]).factorize(tangent, r, Request())
    alone = factorize(tangent.own, r.own)
    return factor.lift(PSEUDOINVERSE, r), alone.lift(PSEUDOINVERSE, r.own)


def combined_opposed():
    """Steps of ranks that hold the same rows, in another order, and opposed targets."""
    family, theta, X, y, _ = problem(2)
    rows, sign = (torch.arange(10), 1) if Ranks().rank == 0 else (torch.arange(10).flip(0), -1)
    output_map = ShardedMap.of(OutputMap(family, X[rows]), Ranks())
    tangent = output_map.linearize(theta)
    r = output_map.vector(sign * y[rows].reshape(-1))
    factor = CombinedSolver(SOLVERS["auto"]).factorize(tangent, r, Request())
    alone = factorize(tangent.own, r.own).lift(PSEUDOINVERSE, r.own)
    return factor.lift(PSEUDOINVERSE, r), alone, None


def test_steps_that_cancel_are_none(groups):
    (step, d1, *_), (_, d2, *_) = groups[2].run(combined_opposed)
    assert (d1 + d2).norm() > 0  # rounding, of which the best multiple would be as long as a step
    assert float(step.norm()) < 1e-6 * float(d1.norm())


def combined_with_none():
    """A step of which one rank has all rows."""
    family, theta, X, y, _ = problem(2)
    rows = slice(0, 10) if Ranks().rank else slice(0, 0)
    output_map = ShardedMap.of(OutputMap(family, X[rows]), Ranks())
    tangent, r = output_map.linearize(theta), output_map.vector(y[rows].reshape(-1))
    f, request = GramFunction(0.7, lambda lam: 0.2 / (1 + lam)), Request(once=True, ridge=0.3)
    factor = CombinedSolver(SOLVERS["auto"]).factorize(tangent, r, request)
    plain = OutputMap(family, X[:10]).linearize(theta)
    whole = factorize(plain, y[:10].reshape(-1), once=True, ridge=0.3)
    return factor.lift(f, r), whole.lift(f, y[:10].reshape(-1))


def test_a_rank_without_rows_adds_nothing_to_a_step(groups):
    for step, expected in groups[2].run(combined_with_none):
        close(step, expected, 1e-9)


# -- what is refused -----------------------------------------------------------------------------


def refused():
    output_map, _ = sharded(SquaredLoss(), Ranks(), *problem())
    tangent = output_map.linearize(problem()[1])
    x, told = tangent.outputs, []
    rows, columns = torch.stack([x, x]), torch.stack([x] * len(x.own), dim=1)
    attempts = [
        tangent.gram, lambda: torch.sin(x), lambda: x[:3], lambda: x + torch.ones(46),
        lambda: x @ torch.ones(46), lambda: x.view(2, -1), lambda: list(x), lambda: x.sum(1),
        lambda: columns * x, lambda: x > torch.ones(len(x.own)), lambda: torch.stack([x, x], -1),
        lambda: torch.cat([rows, rows], -1), lambda: rows[:, torch.tensor([0])],
        lambda: rows.__setitem__((slice(None), 0), x), lambda: torch.stack([rows, rows]),
        lambda: x.__setitem__(torch.arange(len(x)), torch.ones(len(x))),
    ]  # fmt: skip
    for attempt in attempts:
        try:
            attempt()
        except NotImplementedError as error:
            told.append(str(error))
    return told, isinstance(x, Sharded)


def test_no_operation_silently_sees_one_rank(groups):
    for told, _ in groups[2].run(refused):
        assert len(told) == 16
        assert "no Gram is formed" in told[0]
        assert "torch's sin is not defined for vectors over ranks" in told[1]


def lost(rank):
    """A step where the block of one rank holds numbers that are not finite."""
    family, theta, X, y, _ = problem(2)
    X = X[:10].clone()
    if Ranks().rank == rank:
        X[0] = torch.nan
    output_map = ShardedMap.of(OutputMap(family, X), Ranks())
    tangent, r = output_map.linearize(theta), output_map.vector(y[:10].reshape(-1))
    return CombinedSolver(SOLVERS["auto"]).factorize(tangent, r, Request()).lift(PSEUDOINVERSE, r)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_block_that_cannot_be_factorised_loses_the_step_of_all(groups, rank):
    for step in groups[2].run(lost, rank):
        assert bool(step.isnan().any())


# -- ways that each went alone -------------------------------------------------------------------


def joined(kind):
    """What is made of two ways: at right angles, the same, opposed, of no length, or lost."""
    rank = Ranks().rank
    ways = {
        "at right angles": ([1.0, 0.0, 0.0], [0.0, 2.0, 0.0]),
        "the same": ([1.0, 2.0, 0.0], [1.0, 2.0, 0.0]),
        "opposed": ([1.0, 0.0, 0.0], [-0.5, 0.0, 0.0]),
        "none": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        "lost": ([math.nan, 0.0, 0.0], [1.0, 0.0, 0.0]),
    }
    return joined_ways(Ranks(), torch.tensor(ways[kind][rank]), 1.0 + rank)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("at right angles", [1.0, 2.0, 0.0]),
        ("the same", [1.0, 2.0, 0.0]),
        ("opposed", [0.5, 0.0, 0.0]),
        ("none", [0.0, 0.0, 0.0]),
        ("lost", [math.nan] * 3),
    ],
)
def test_ways_are_joined_so_that_none_goes_too_far(groups, kind, expected):
    for way, number in groups[2].run(joined, kind):
        torch.testing.assert_close(way, torch.tensor(expected), equal_nan=True)
        assert number == 3.0
