"""From a trained flow to fitted attributes: each function reads one thing and returns a dict.

Nothing here touches an estimator. What the attributes mean is told in `_attributes`.
Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sklearn_gflow.diagnostics import Collapse, collapse, neural_collapse
from sklearn_gflow.estimators._coding import CodedLabels
from sklearn_gflow.estimators._problem import Ended, Problem
from sklearn_gflow.estimators._tensors import to_numpy
from sklearn_gflow.estimators._training import COLUMNS, TrainedFlow, Training, is_small_gram
from sklearn_gflow.geometry import tangent_spectrum
from sklearn_gflow.geometry.vectors import norm

__all__ = ["class_attributes", "fitted_attributes", "joined", "predicting"]

# Rows over which squared gradients are averaged.
_GRADIENT_ROWS = 256

# -- every flow --------------------------------------------------------------------------------


def _known_before(ended: Ended) -> dict[str, Any]:
    """What describes X and y."""
    problem = ended.problem
    return {
        **problem.described,
        **problem.coding.attributes(),
        "_inputs": problem.inputs,
        "rescalings_": problem.rescalings,
    }


def _left_out(ended: Ended) -> dict[str, Any]:
    return {} if ended.left_out is None else ended.left_out.attributes()


def _path(ended: Ended) -> dict[str, Any]:
    """The record of the flow, and what it says of the solution."""
    trajectory = ended.trained.trajectory
    solution = trajectory.solution
    missing = {name: np.full(len(trajectory.tau), np.nan) for name in COLUMNS}
    history = {**missing, **trajectory.history()}
    curve = history["loss"].tolist()
    attributes = {
        "history_": history,
        "deviation_": float(history["deviation"][solution]),
        "predicted_deviation_": float(history["predicted_deviation"][solution]),
        "loss_curve_": curve,
        "loss_": curve[solution],
        "best_loss_": min(curve),
        "n_iter_": trajectory.n_steps,
        "t_": float(trajectory.t[solution]),
        "solver_": trajectory.solver,
        "outcome_": trajectory.outcome.value,
        "_metric_scale": trajectory.scale,
        "_solution": solution,
    }
    if trajectory.detail:
        attributes["outcome_"] += f" ({trajectory.detail})"
    if "validation_score" in history:
        attributes["validation_scores_"] = history["validation_score"]
        attributes["best_validation_score_"] = float(history["validation_score"][solution])
    return attributes


def _network(ended: Ended) -> dict[str, Any]:
    """θ of the solution, by the names that its family gives the parts."""
    training, trajectory = ended.training, ended.trained.trajectory
    thetas = trajectory.thetas
    kept = training.settings.options.store_path
    network = training.network.ended(
        training.family,
        trajectory.theta,
        np.stack([to_numpy(theta) for theta in thetas]) if kept else None,
    )
    parts = network.parts(training.family)
    n_members = network.architecture.n_members
    return {
        "_network": network, "n_outputs_": network.n_outputs, "n_members_": n_members, **parts
    }  # fmt: skip


def _kernel(ended: Ended) -> dict[str, Any]:
    """The Gram on the training rows, its spectrum and rank, at the solution."""
    settings, trained = ended.training.settings, ended.trained
    linearization = trained.linearize()
    outputs = linearization.outputs
    stored = settings.given["store_gram"]
    if isinstance(stored, str):
        stored = is_small_gram(outputs.numel(), outputs.element_size())
    gram = linearization.gram() if stored else None
    spectrum = tangent_spectrum(linearization, gram=gram, rcond=settings.options.rcond)
    return {
        "kernel_rows_": trained.rows[trained.kernel_rows],
        "ntk_gram_": None if gram is None else to_numpy(gram),
        "ntk_eigenvalues_": to_numpy(spectrum.eigenvalues),
        "ntk_rank_": spectrum.rank,
        "ntk_condition_": spectrum.condition,
    }


def _importances(ended: Ended) -> dict[str, Any]:
    """What each column of X contributes to the slope of the network."""
    problem, training = ended.problem, ended.training
    squares, variances = training.squared_gradients(ended.trained.trajectory.theta, _GRADIENT_ROWS)
    n_features = problem.described["n_features_in_"]
    origins, slopes = problem.inputs.origins(n_features, len(squares)), squares * variances
    known = origins >= 0
    if slopes[~known].any():
        return {"feature_importances_": np.full(n_features, np.nan)}
    shares = np.bincount(origins[known], weights=slopes[known], minlength=n_features)
    total = shares.sum()
    return {"feature_importances_": shares / total if total > 0 else shares}


def _carried(ended: Ended) -> dict[str, Any]:
    """What blocks leave to a fit that goes on; the last step belongs to the last point."""
    trajectory = ended.trained.trajectory
    state, step = trajectory.carried or (None, None)
    if trajectory.solution < trajectory.n_steps:
        step = None
    return {
        "_block_state": None if state is None else to_numpy(state),
        "_last_step": None if step is None else to_numpy(step),
    }


READERS: tuple[Callable[[Ended], dict[str, Any]], ...] = (
    _known_before,
    _network,
    _path,
    _carried,
    _kernel,
    _left_out,
    _importances,
)
"""What every estimator exposes."""


def fitted_attributes(ended: Ended) -> dict[str, Any]:
    """Fitted attributes of a training that ended."""
    attributes: dict[str, Any] = {}
    for read in READERS:
        attributes |= read(ended)
    history, solution = attributes["history_"], ended.trained.trajectory.solution
    history["rank"][solution] = attributes["ntk_rank_"]
    history["condition"][solution] = attributes["ntk_condition_"]
    return attributes


def predicting(problem: Problem, training: Training, theta: torch.Tensor) -> dict[str, Any]:
    """What an estimator needs to predict as the flow does at θ, while it is still on its way."""
    network = training.network.ended(training.family, theta)
    return {
        **problem.described,
        **problem.coding.attributes(),
        "_inputs": problem.inputs,
        "_network": network,
        "n_outputs_": network.n_outputs,
        "n_iter_": 0,
    }


# -- labels ------------------------------------------------------------------------------------


def class_attributes(ended: Ended, history: dict[str, np.ndarray]) -> dict[str, Any]:
    """Within and between classes along the path; neural collapse and the limit at its end.

    Rows that have several labels have no classes to collapse.
    """
    problem, trained = ended.problem, ended.trained
    coding, weights = problem.coding, problem.data.weights
    named: dict[str, Any] = {"loss_name_": "squared_error" if problem.loss.squared else "log_loss"}
    if problem.index is None:
        history["within_class"] = history["between_class"] = np.full(len(history["t"]), np.nan)
        limit_distance = _limit_distance(ended)
        named |= {"collapse_": None, "neural_collapse_": {}, "limit_distance_": limit_distance}
        return named
    assert isinstance(coding, CodedLabels)
    index = problem.index[trained.rows]
    weights = None if weights is None else weights[trained.rows]
    trajectory, unweigh = trained.trajectory, trained.output_map.unweigh

    def split(outputs: np.ndarray) -> Collapse:
        return collapse(coding.loss.points(outputs), index, coding.codes, weights)

    # One point after the other: of many classes the outputs of a whole path are large.
    splits = (split(to_numpy(unweigh(x))) for x in trajectory.outputs)
    parts = np.array([(one.within, one.between) for one in splits])
    history["within_class"], history["between_class"] = parts.T
    outputs = to_numpy(unweigh(trajectory.outputs[trajectory.solution]))
    return {
        **named,
        "collapse_": split(outputs),
        "neural_collapse_": _layers_of_collapse(coding, index, weights, outputs, trained),
        "limit_distance_": _limit_distance(ended),
    }


def _layers_of_collapse(
    coding: CodedLabels,
    index: np.ndarray,
    weights: np.ndarray | None,
    outputs: np.ndarray,
    trained: TrainedFlow,
) -> dict[str, Any]:
    if len(np.unique(index)) < len(coding.classes):  # as in a chunk that lacks a class
        return {}
    layers: dict[str, tuple[np.ndarray, np.ndarray | None]] = {"outputs": (outputs, None)}
    hidden = trained.output_map.hidden(trained.trajectory.theta)
    if hidden is not None:
        layers["hidden"] = to_numpy(hidden[0]), to_numpy(hidden[1])
    predicted = coding.loss.decided(coding.loss.scores(outputs))
    return {
        name: neural_collapse(
            features, index, sample_weight=weights, weights=W, predicted=predicted
        )
        for name, (features, W) in layers.items()
    }


def _limit_distance(ended: Ended) -> float:
    training, trained = ended.training, ended.trained
    if not trained.cost.attained:
        return np.nan
    outputs = trained.trajectory.outputs
    first, last = outputs[0], outputs[trained.trajectory.solution]
    if training.before is not None:  # the way is that from the start of the first fit
        theta = torch.from_numpy(training.network.reference).to(training.start)
        first = trained.output_map.outputs(theta).to(last)
    limit = trained.cost.minimizer(first)
    way = norm(limit - first)
    return norm(limit - last) / way if way else np.nan


# -- fits that go on ---------------------------------------------------------------------------


def joined(before: Mapping[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a fit that went on, with its path behind the path up to where it began.

    That is the solution of the fit before, beyond which its path may go.
    """
    n_kept = before["_solution"] + 1
    earlier = {name: column[:n_kept] for name, column in before["history_"].items()}
    history = dict(later["history_"])
    history["s"] = earlier["s"][-1] + history["s"]
    history["t"] = 1 - (1 - earlier["t"][-1]) * (1 - history["t"])  # τ adds up, t = 1 − e^{−τ}
    first, second = (np.full(len(path["t"]), np.nan) for path in (earlier, history))
    history = {
        name: np.concatenate([earlier.get(name, first), history.get(name, second)[1:]])
        for name in {**earlier, **history}
    }
    curve = history["loss"].tolist()
    network, paths = later["_network"], (before["_network"].path, later["_network"].path)
    if paths[0] is not None and paths[1] is not None:
        network = replace(network, path=np.concatenate([paths[0][:n_kept], paths[1][1:]]))
    solution = n_kept - 1 + later["_solution"]
    validated = {"validation_scores_": history.get("validation_score")}
    return {
        **later,
        **{name: value for name, value in validated.items() if name in later},
        "_network": network,
        "history_": history,
        "loss_curve_": curve,
        "best_loss_": min(curve),
        "n_iter_": len(curve) - 1,
        "t_": float(history["t"][solution]),
        "_solution": solution,
    }
