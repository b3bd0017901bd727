"""Contributions of training rows against predictions, and rows left out against refits."""

import numpy as np
import pytest
import torch

from sklearn_gflow.diagnostics import LeaveOneOut, LeftOutAlong, contributions, mean_kernel
from sklearn_gflow.dynamics import Fixed, FlowOptions, Point, dual_steps, flow
from sklearn_gflow.geometry import OutputMap
from tests import oracles
from tests.dynamics.dual import network, problem, table

TAUS = [0.3, 0.8, 1.5]
WAYS = {
    "adapted, with a ridge": {"alpha": 1.0, "damping": 0.1},
    "between, with a ridge": {"alpha": 0.5, "damping": 0.1},
    "between": {"alpha": 0.5},
    "standard": {"alpha": 0.0},
}


def steps_of(options, taus=TAUS, **of_problem):
    output_map, cost, theta = problem(**of_problem)
    taus = flow(output_map, cost, theta, Fixed(taus), options).step_taus
    return list(dual_steps(output_map, cost, theta, taus, options))


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_contributions_add_up(way, weighted):
    steps = steps_of(FlowOptions(**WAYS[way]), n_outputs=2, weighted=weighted)
    family, theta = network(2)
    X = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = contributions(steps, OutputMap(family, X))
    moved = family.outputs(steps[-1].end.theta, X) - family.outputs(theta, X)
    assert found.shape == (6, 2, 30)
    assert (found.sum(-1) - moved).abs().max() < 1e-6 * moved.abs().max()


def test_short_steps_add_up_to_rounding():
    steps = steps_of(FlowOptions(alpha=0.5, damping=0.1), taus=list(np.linspace(0.1, 1.5, 15)))
    family, theta = network()
    X = table()[0][:5]
    found = contributions(steps, OutputMap(family, X)).sum(-1)
    moved = family.outputs(steps[-1].end.theta, X) - family.outputs(theta, X)
    assert (found - moved).abs().max() < 1e-12


def test_a_flow_that_did_not_move_has_no_contributions():
    family, _ = network()
    with pytest.raises(ValueError, match="a flow of no step has no contributions"):
        contributions([], OutputMap(family, table()[0]))


def test_mean_kernel_is_symmetric_where_nothing_moves():
    (step,) = steps_of(FlowOptions(alpha=0.5, damping=0.1), taus=[1e-9])
    kernel = mean_kernel(step, step.point.tangent.output_map)
    assert torch.allclose(kernel, step.point.tangent.gram(), rtol=1e-6)


def refitted(options, i, **of_problem):
    """The residual at row i of a flow on the others, at the same times."""
    output_map, cost, theta = problem(**of_problem, without=i)
    solution = flow(output_map, cost, theta, Fixed(TAUS), options).theta
    whole, _, _ = problem(**of_problem)
    X, y = table(n_outputs=of_problem.get("n_outputs", 1))
    start = output_map.unweigh(output_map.outputs(theta))[0]
    family = whole.family
    return (
        y[i]
        - start
        - (family.outputs(solution, X[i : i + 1]) - family.outputs(theta, X[i : i + 1]))[0]
    )


# Correlation with refits and error of the length. Without a ridge small modes take part, which a
# row that is left out changes the most.
LEFT_OUT = {
    "adapted, with a ridge": (0.98, 0.08),
    "between, with a ridge": (0.999, 0.03),
    "between": (0.9, 0.25),
    "standard": (0.999, 0.03),
}


@pytest.mark.slow
@pytest.mark.parametrize(("n_outputs", "weighted"), [(1, False), (1, True), (2, False)])
@pytest.mark.parametrize("way", WAYS)
def test_rows_left_out_along_the_path(way, n_outputs, weighted):
    options = FlowOptions(**WAYS[way])
    about = {"n_outputs": n_outputs, "weighted": weighted}
    found = LeftOutAlong().follow(steps_of(options, **about)).residuals().numpy()
    true = np.stack([refitted(options, i, **about).numpy() for i in range(30)])
    least, off = LEFT_OUT[way]
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > least
    assert abs(np.linalg.norm(found) / np.linalg.norm(true) - 1) < off


@pytest.mark.slow
def test_the_path_sees_features_that_the_kernel_of_the_start_does_not():
    options = FlowOptions(alpha=0.5, damping=0.1)
    steps = steps_of(options)
    along = LeftOutAlong().follow(steps).residuals().numpy()
    start = LeaveOneOut.at(steps[0].point)
    frozen = start.residuals(0.5, TAUS[-1], steps[0].frozen.scale, steps[0].frozen.ridge).numpy()
    true = np.stack([refitted(options, i).numpy() for i in range(30)])
    assert np.linalg.norm(along - true) < 0.2 * np.linalg.norm(frozen - true)


def test_one_short_step_is_the_frozen_flow():
    options = FlowOptions(alpha=1.0, damping=0.1)
    steps = steps_of(options, taus=[1e-4])
    found = LeftOutAlong().follow(steps).residuals()
    start = LeaveOneOut.at(Point.at(*problem()[:2], 0.0, problem()[2]))
    expected = start.residuals(1.0, 1e-4, steps[0].frozen.scale, steps[0].frozen.ridge)
    assert torch.allclose(found, expected, atol=1e-7)


def linear_model(n_outputs, *, weighted):
    """Steps of a linear model, whose D is the same everywhere, and its D on rows and samples."""
    options = FlowOptions(alpha=0.5, damping=0.1)
    about = {"n_outputs": n_outputs, "weighted": weighted, "hidden": ()}
    X_new = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    X, y = (part.numpy() for part in table(n_outputs=n_outputs))
    D, D_new = (
        np.kron(np.hstack([one, np.ones((len(one), 1))]), np.eye(n_outputs))
        for one in (X, X_new.numpy())
    )
    weights = 1.0 + np.arange(30) % 3 if weighted else np.ones(30)
    return steps_of(options, **about), X_new, y, D, D_new, weights


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize(("n_outputs", "weighted"), [(1, False), (2, True)])
def test_groups_left_out_of_a_linear_model(n_outputs, weighted, size):
    steps, X_new, y, D, D_new, weights = linear_model(n_outputs, weighted=weighted)
    constants = {"alpha": 0.5, "c": steps[0].frozen.scale, "ridge": steps[0].frozen.ridge}
    groups = torch.tensor([range(size), range(12, 12 + size)])
    family, _ = network(n_outputs, ())
    along = LeftOutAlong(groups=groups).follow(steps, [OutputMap(family, X_new)])

    def predicted(rows, D_at):
        mean = np.average(y[rows], axis=0, weights=weights[rows])
        root = np.repeat(np.sqrt(weights[rows]), n_outputs)
        D_rows = root[:, None] * D.reshape(30, n_outputs, -1)[rows].reshape(len(root), -1)
        r = root * (y[rows] - mean).reshape(-1)
        _, moved = oracles.damped_flow(D_rows @ D_rows.T, D_at @ D_rows.T, r, TAUS, **constants)
        return mean + moved.reshape(-1, n_outputs)

    whole = predicted(np.arange(30), D_new)
    for k, group in enumerate(groups.numpy()):
        kept = np.setdiff1d(np.arange(30), group)
        effect = along.effects()[..., k]
        np.testing.assert_allclose(effect, whole - predicted(kept, D_new), atol=1e-7)
        left_out = along.residuals().view(len(groups), size, -1)[k]
        expected = y[group] - predicted(kept, D).reshape(30, n_outputs)[group]
        np.testing.assert_allclose(left_out.view(size, n_outputs), expected, atol=1e-7)


# Correlation with refits and relative error: what the change of features without the rows adds.
DELETED = {
    "adapted, with a ridge": (0.85, 0.6),
    "between, with a ridge": (0.98, 0.2),
    "standard": (0.98, 0.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("way", DELETED)
def test_effects_of_deletions_along_the_path(way, size):
    options = FlowOptions(**WAYS[way])
    groups = torch.arange(28).view(-1, size)
    family, start = network()
    X = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    along = LeftOutAlong(groups=groups).follow(steps_of(options), [OutputMap(family, X)])

    def predicted(without):
        output_map, cost, theta = problem(without=without)
        mean = output_map.outputs(theta)[0]
        solution = flow(output_map, cost, theta, Fixed(TAUS), options).theta
        return mean + (family.outputs(solution, X) - family.outputs(start, X))[:, 0]

    whole = predicted([])
    true = torch.stack([whole - predicted(group) for group in groups], dim=1)
    found = along.effects()[:, 0]
    least, off = DELETED[way]
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > least
    assert (found - true).norm() < off * true.norm()


def test_a_group_of_one_is_a_row():
    steps = steps_of(FlowOptions(alpha=0.5, damping=0.1), n_outputs=2)
    by_itself = LeftOutAlong().follow(steps).residuals()
    grouped = LeftOutAlong(groups=torch.tensor([[4], [2]])).follow(steps).residuals()
    assert torch.allclose(grouped, by_itself[[4, 2]], atol=1e-9)
