"""Does `explain` know what a row is worth, and is `forget` a refit?

*Deletions*: with 150 training rows, the mean over 50 test rows of the rank correlation of
contributions, and of deletions, with refits without each row, from the same start on the same
columns. Refits take the times of the steps of the fit, or ("own") choose theirs, as a new fit does:
the error of a step is then as large as the effect of a row. "error" is |deletions − effects| of
|effects|; "left out" compares residuals of each row without itself with those of refits; prices are
in fits.

*Forgetting*: rows chosen at random are forgotten, and the distance of the predictions for test
rows to those of `fit` without these rows is told in units of the way from the fit that has them.
"closed form" is that of `diagnostics.LeftOutAlong` for the group, "parameters" the network whose θ
is moved by the same, and "chord" that network brought to the outputs of the closed form on the rows
that remain, by chords with the Gram there: all three are held against refits on the same columns
and at the same times, and know nothing of the features that these learn. "effect, of seeds" is the
way to the refit, of the distance to a fit from another start. Times are in refits. Predictions of
classifiers are their outputs.

*Wrong labels*: a tenth of the labels are wrong, and as many rows are forgotten: those whose label
the outputs without them speak against most, by `explain`. "found" is the share of wrong ones among
them. Run ``python docs/benchmarks/forget.py --help``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _collection import HELD_BACK, MAIN, Table
from _machine import header
from _tables import chosen, markdown, offer_tables, parse, table_parser
from scipy.stats import spearmanr
from sklearn.model_selection import train_test_split

from sklearn_gflow import (
    AdaptedFlowClassifier,
    AdaptedFlowClassifierCV,
    AdaptedFlowRegressor,
    AdaptedFlowRegressorCV,
)
from sklearn_gflow.diagnostics import LeftOutAlong
from sklearn_gflow.diagnostics.influence import _Without
from sklearn_gflow.dynamics.step import chord
from sklearn_gflow.estimators._rows import TableRows
from sklearn_gflow.geometry import OutputMap, factorize

OUT = Path(__file__).with_suffix(".md")
TEST_ROWS, LOOKED_AT = 500, 50
SIZES = (1, 5, 20)
WRONG = 0.1
ALONE = {False: AdaptedFlowRegressor, True: AdaptedFlowClassifier}
SEARCH = {False: AdaptedFlowRegressorCV, True: AdaptedFlowClassifierCV}


def parts(table: Table, directory: Path | None, rows: int, seed: int = 0) -> list[Any]:
    """Training and test rows at random."""
    X, y = table.load(directory or Path())
    n_train = min(rows, int(0.7 * len(X)))
    return list(
        train_test_split(
            X, y, train_size=n_train, test_size=min(TEST_ROWS, len(X) - n_train), random_state=seed,
            stratify=y if table.classify else None,
        )
    )  # fmt: skip


def timed(do: Any, *arguments: Any, **named: Any) -> tuple[float, Any]:
    """CPU seconds of a call, and what it returned."""
    start = time.process_time()
    found = do(*arguments, **named)
    return time.process_time() - start, found


def outputs(model: Any, X: Any) -> np.ndarray:
    """Predictions of all outputs, or outputs of a classifier, shape (n_samples, n_outputs)."""
    found: np.ndarray = model._readings(X)
    return found


def on_columns(table: Table, X: Any, y: np.ndarray, *others: Any) -> tuple[Any, ...]:
    """A maker of fits at the steps of the first, and rows as columns of its network."""
    first = ALONE[table.classify](random_state=0).fit(X, y)
    X, *others = (first._inputs.read(first, part) for part in (X, *others))
    given: dict[str, Any] = {"scale_inputs": False, "random_state": 0}
    times = ALONE[table.classify](**given).fit(X, y).history_["t"][1:].tolist()

    def make(X: Any, y: np.ndarray, **changed: Any) -> Any:
        return ALONE[table.classify](**{**given, "schedule": times, **changed}).fit(X, y)

    return make, X, *others


def mean_rank(found: np.ndarray, true: np.ndarray) -> float:
    """Rank correlation over the rows, in the mean over samples and outputs."""
    pairs = zip(found.reshape(true.shape), true, strict=True)
    ranks = [spearmanr(a[:, q], b[:, q]).statistic for a, b in pairs for q in range(true.shape[-1])]
    return float(np.mean(ranks))


def deletions(table: Table, directory: Path | None) -> dict[str, Any]:
    """Readings of `explain` against refits without each row."""
    X, X_test, y, _ = parts(table, directory, 150)
    make, X, X_test = on_columns(table, X, y, X_test[:LOOKED_AT])
    fit, model = timed(make, X, y)
    contributing, contributed = timed(model.explain, X_test)
    deleting, deleted = timed(model.explain, X_test, of="deletions")
    line: dict[str, Any] = {"table": table.name}
    line["contributions"] = np.nan
    for name, changed in (("equal", {}), ("own", {"schedule": "adaptive"})):
        whole, effects, residuals = outputs(model, X_test), [], []
        for i in range(len(y)):
            kept = np.arange(len(y)) != i
            without = make(X[kept], y[kept], **changed)
            effects.append(whole - outputs(without, X_test))
            residuals.append(outputs(without, X[i : i + 1])[0])
        true = np.stack(effects, axis=1)
        if name == "equal":
            line["contributions"] = mean_rank(contributed, true)
            own = np.array(residuals)
        line["deletions" if name == "equal" else "own"] = mean_rank(deleted, true)
        if name == "equal":
            gap = np.linalg.norm(deleted.reshape(true.shape) - true)
            line["error"] = gap / np.linalg.norm(true)
    deleted_here = model.explain(X, of="deletions").reshape(len(y), len(y), -1)
    left_out = outputs(model, X) - np.diagonal(deleted_here).T
    line["left out, correlation"] = np.corrcoef(left_out.ravel(), own.ravel())[0, 1]
    line["contributions, price"] = contributing / fit
    line["deletions, price"] = deleting / fit
    return line


def by_closed_form(model: Any, X_test: Any, group: np.ndarray) -> np.ndarray:
    """What a group does at test rows, in function space."""
    network, kept = model._network, model._kept.data
    samples = OutputMap(network.family(), torch.as_tensor(np.asarray(X_test), dtype=torch.float64))
    along = LeftOutAlong(groups=torch.as_tensor(group)[None])
    along.follow(model._replay._steps(network, kept, "float64"), [samples])
    effect: np.ndarray = along.effects()[..., 0].numpy()
    return getattr(model, "target_scale_", 1.0) * effect


def by_parameters(model: Any, X_test: Any, group: np.ndarray) -> list[np.ndarray]:
    """The same by the θ that the closed form moves, as it is and after chords."""
    network, kept, groups = model._network, model._kept.data, torch.as_tensor(group)[None]
    family, X_test = network.family(), torch.as_tensor(np.asarray(X_test), dtype=torch.float64)
    before, theta = torch.as_tensor(network.theta), torch.as_tensor(network.reference)
    residuals = None
    for step in model._replay._steps(network, kept, "float64"):
        if residuals is None:
            residuals = LeftOutAlong(groups=groups)._at_start(step, ())
        without = _Without(step, groups, residuals)
        dual = step.dual - without.change[:, 0]
        theta, residuals = theta + step.point.tangent.pull(dual), without.residuals()
    stay = np.setdiff1d(np.arange(len(kept.targets)), group)
    shift = kept.start - kept.targets[stay].mean(axis=0)
    left = residuals.view(len(kept.targets), -1)[stay]
    target = torch.as_tensor(kept.targets[stay] + shift) - left
    nearer = with_chords(model, kept.take(stay), theta, target.reshape(-1), step.frozen.ridge)
    effects = []
    for other in (theta, nearer):
        moved = family.outputs(before, X_test) - family.outputs(other, X_test)
        effects.append(getattr(model, "target_scale_", 1.0) * (moved.numpy() + shift))
    return effects


def with_chords(
    model: Any, remaining: Any, theta: torch.Tensor, target: torch.Tensor, ridge: float
) -> torch.Tensor:
    """θ brought to given outputs on the rows that remain."""
    network, reference = model._network, torch.as_tensor(model._network.reference)
    rows = TableRows(network.family(), remaining, reference, "float64", model._replay.loss)
    output_map, _ = rows.block(slice(None))
    tangent = output_map.linearize(theta)
    missed = target - tangent.outputs
    factor = factorize(tangent, missed, solver="cholesky", ridge=ridge)
    for _ in range(3):
        theta, _, _ = chord(output_map, factor, theta, target, float(missed.norm()))
    return theta


def forgetting(table: Table, directory: Path | None, rows: int, draws: int) -> Iterator[dict]:
    """`forget`, and the closed form for the group, against refits."""
    X, X_test, y, _ = parts(table, directory, rows)
    model = ALONE[table.classify](random_state=0).fit(X, y)
    other = ALONE[table.classify](random_state=1).fit(X, y)
    make, columns, columns_test = on_columns(table, X, y, X_test)
    alike = make(columns, y)
    seeds = np.linalg.norm(outputs(model, X_test) - outputs(other, X_test))
    generator = np.random.default_rng(0)
    for size in SIZES:
        for _ in range(draws):
            gone = np.sort(generator.choice(len(y), size, replace=False))
            stay = np.setdiff1d(np.arange(len(y)), gone)
            plain = ALONE[table.classify](random_state=0)
            fit, refit = timed(plain.fit, X.iloc[stay], y[stay])
            price, forgotten = timed(copy.copy(model).forget, gone)
            before, after = outputs(model, X_test), outputs(refit, X_test)
            way = np.linalg.norm(before - after)
            equal = outputs(alike, columns_test) - outputs(
                make(columns[stay], y[stay]), columns_test
            )
            moving, moved = timed(by_parameters, alike, columns_test, gone)
            lengths = [
                np.linalg.norm(found - equal) / np.linalg.norm(equal)
                for found in (by_closed_form(alike, columns_test, gone), *moved)
            ]
            yield {
                "table": table.name,
                "forgotten": size,
                "closed form": lengths[0],
                "parameters": lengths[1],
                "chord": lengths[2],
                "forget": np.linalg.norm(outputs(forgotten, X_test) - after) / way,
                "effect, of seeds": way / seeds,
                "chord, time": moving / fit,
                "forget, time": price / fit,
            }


def suspicion(model: Any, X: Any, y: np.ndarray) -> np.ndarray:
    """How much the outputs without a row speak against its label."""
    deleted = model.explain(X, of="deletions").reshape(len(y), len(y), -1)
    left_out = outputs(model, X) - np.diagonal(deleted).T
    if not hasattr(model, "classes_"):
        return np.abs(y - left_out[:, 0])
    readings = np.hstack([1 - left_out, left_out]) if left_out.shape[1] == 1 else left_out
    own = np.arange(len(model.classes_)) == np.searchsorted(model.classes_, y)[:, None]
    return np.where(own, -np.inf, readings).max(axis=1) - readings[own]


def with_wrong(y: np.ndarray, classify: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a tenth are those of other rows, and which these are."""
    generator = np.random.default_rng(seed)
    wrong = generator.choice(len(y), int(WRONG * len(y)), replace=False)
    found = y.copy()
    for i in wrong:
        others = y[y != y[i]]
        found[i] = generator.choice(others if not classify else np.unique(others))
    return found, np.isin(np.arange(len(y)), wrong)


def wrong_labels(table: Table, directory: Path | None, rows: int, draws: int) -> Iterator[dict]:
    """Scores with wrong labels, without those that were found, and without all."""
    for seed in range(draws):
        X, X_test, y, y_test = parts(table, directory, rows, seed)
        given, wrong = with_wrong(y, table.classify, seed)
        model = ALONE[table.classify](random_state=0).fit(X, given)
        worst = np.argsort(-suspicion(model, X, given))[: int(wrong.sum())]
        before = model.score(X_test, y_test)
        model.forget(worst)
        right = ALONE[table.classify](random_state=0).fit(X[~wrong], y[~wrong])
        yield {
            "table": table.name,
            "found": wrong[worst].mean(),
            "with wrong labels": before,
            "forgotten": model.score(X_test, y_test),
            "without all wrong ones": right.score(X_test, y_test),
        }


def searches(table: Table, directory: Path | None, rows: int) -> dict[str, Any]:
    """What a search takes, and to forget five rows."""
    X, _, y, _ = parts(table, directory, rows)
    search = SEARCH[table.classify](random_state=0)
    fit, _ = timed(search.fit, X, y)
    price, _ = timed(search.forget, np.arange(5))
    return {
        "table": table.name,
        "members": len(search.estimators_),
        "search, seconds": fit,
        "forget, of that": price / fit,
    }


def means(lines: list[dict], *by: str) -> list[str]:
    """Their means as a table."""
    found = pd.DataFrame(lines).groupby(list(by), sort=False).mean(numeric_only=True)
    if len(by) > 1:
        found.index = found.index.map(lambda names: ", ".join(map(str, names)))
    found.index.name = by[0]
    return markdown(found)


def main() -> None:
    """Measure and write the page."""
    parser = table_parser(__doc__, OUT)
    parser.add_argument("--rows", type=int, default=300, help="training rows")
    parser.add_argument("--draws", type=int, default=5)
    offer_tables(parser, (table.name for table in (*MAIN, *HELD_BACK)))
    arguments = parse(parser)
    tables = chosen((*MAIN, *HELD_BACK), arguments)
    deleted, forgotten, searched, labelled = [], [], [], []
    for table in tables:
        deleted.append(deletions(table, arguments.data))
        forgotten += forgetting(table, arguments.data, arguments.rows, arguments.draws)
        labelled += wrong_labels(table, arguments.data, arguments.rows, arguments.draws)
        searched.append(searches(table, arguments.data, arguments.rows))
        print(table.name, f"{time.process_time():.0f} s", flush=True)
    page = [
        "# Deletions, forgetting, wrong labels",
        "",
        *__doc__.splitlines()[2:],
        "",
        header(),
        "",
    ]
    page += ["## Deletions", "", *means(deleted, "table"), ""]
    page += ["## Forgetting", "", *means(forgotten, "table", "forgotten"), ""]
    page += ["## Wrong labels", "", *means(labelled, "table"), ""]
    page += ["## Searches", "", *means(searched, "table"), ""]
    arguments.out.write_text("\n".join(page))


if __name__ == "__main__":
    main()
