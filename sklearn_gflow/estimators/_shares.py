"""The rows of a fit that ranks share: what all of them know, and what each keeps for itself.

All ranks know a sample of the rows, which up to 50,000 of them is all. Units, scales, encodings and
classes are learnt from it, rows to stop by are drawn from it, and what a fit shows of its rows is
shown of it. So every rank learns the same, and with all rows the same as one process does. The flow
itself goes over the rows that each rank was handed: by its Gram over all, which each rank has then,
otherwise each over its own. Notation: docs/notation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier

from sklearn_gflow.dynamics import BlockOptions, FlowOptions, Trajectory
from sklearn_gflow.estimators._blocks_of_ranks import BlocksOfRanks
from sklearn_gflow.estimators._checkpoint import FlowKeeper
from sklearn_gflow.estimators._checkpoint_of_ranks import KeeperOfRanks
from sklearn_gflow.estimators._group import agreed, by_all, ranks_of
from sklearn_gflow.estimators._plain import digest
from sklearn_gflow.estimators._reading import in_partitions, read
from sklearn_gflow.estimators._rows import Rows, TableRows, TrainingData, few
from sklearn_gflow.estimators._sparse import SparseRows
from sklearn_gflow.estimators._tensors import to_numpy
from sklearn_gflow.estimators._validation import hold_out
from sklearn_gflow.geometry import (
    Cost,
    DividedMap,
    OutputMap,
    Ranks,
    ShardedCost,
    ShardedMap,
    solver_for,
)

__all__ = ["OwnRows", "SharedRows", "validated"]

# So many rows of all ranks are known to each of them, and so many bytes.
_KNOWN_ROWS, _KNOWN_BYTES = 50_000, 2**28


@dataclass(frozen=True)
class SharedRows:
    """What ranks have of a problem, whose ``data`` are the known rows to train on.

    Attributes
    ----------
    ranks : Ranks
        Who takes part.
    rows : Rows
        The rows of this rank, as they were handed over.
    known : ndarray of int
        Which of these are among the known rows to train on.
    at : ndarray of int
        Where they are among those.
    held_out : ndarray of int
        Which are rows to stop by.
    n_samples : int
        Rows to train on, of all ranks.
    complete : bool
        Whether all rows are known.
    """

    ranks: Ranks
    rows: Rows
    known: np.ndarray
    at: np.ndarray
    held_out: np.ndarray
    n_samples: int
    complete: bool

    def own(self, problem: Any) -> OwnRows:
        """The rows of this rank that a training on the problem goes over."""
        data: TrainingData = problem.data
        if self.complete:
            return OwnRows(
                self, data.take(self.at), np.arange(len(self.at)), np.arange(len(self.at))
            )
        rows = replace(self.rows, X=problem.inputs.of_rows(self.rows.X))
        weights = rows.weights
        if problem.index is not None and data.weights is not None:
            weights = self._emphasis(problem)[problem.coding.index(rows.y)]
            weights = weights if rows.weights is None else weights * rows.weights
        own = TrainingData(rows.X, problem.coding.targets(rows.y), weights, data.start)
        trained = np.setdiff1d(np.arange(len(rows.y)), self.held_out)
        return OwnRows(self, own, trained, self.known)

    def _emphasis(self, problem: Any) -> np.ndarray:
        """What the weight of each class multiplies those of its rows by."""
        factors = np.zeros(len(problem.coding.classes))
        given = self.sampled_weights(problem.data)
        factors[problem.index] = problem.data.weights / given
        return factors

    def sampled_weights(self, data: TrainingData) -> np.ndarray:
        """The weights of the known rows as they were handed over."""
        found = np.zeros(len(data.X))
        found[self.at] = 1.0 if self.rows.weights is None else self.rows.weights[self.known]
        return self.ranks.sum(torch.from_numpy(found)).numpy()

    def told(self) -> dict[str, str]:
        """Digests by which a checkpoint knows the rows of all ranks."""
        rows = self.rows
        own = digest(np.asarray(read(rows.X, slice(None))), rows.y, rows.weights)
        return {"ranks": digest(*self.ranks.objects(own))}


@dataclass(frozen=True)
class OwnRows:
    """The rows of one rank, ready to be trained on.

    Attributes
    ----------
    shared : SharedRows
        Of the problem.
    data : TrainingData
        The rows of this rank.
    trained : ndarray of int
        Which of these are trained on.
    known : ndarray of int
        Which are those at ``shared.at`` of the known rows.
    """

    shared: SharedRows
    data: TrainingData
    trained: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, problem: Any) -> OwnRows | None:
        """Those of a problem, if ranks share it."""
        return None if problem.shared is None else problem.shared.own(problem)

    @property
    def n_samples(self) -> int:
        """Rows to train on, of all ranks."""
        return self.shared.n_samples

    def ended(self, trajectory: Trajectory) -> None:
        """Hold a flow to be the same on all ranks, whose back ends may have fallen back.

        Raises
        ------
        RuntimeError
            If it is not, as on processors that round otherwise.
        """
        ranks, own = self.shared.ranks, digest(to_numpy(trajectory.theta))
        if len(set(ranks.objects(own))) > 1:
            raise RuntimeError(
                "the ranks of the process group ended at different parameters: their processors "
                "round differently; take machines of one kind, with one version of torch"
            )
        trajectory.solvers[:] = ranks.shared(list(dict.fromkeys(trajectory.solvers)))

    def whole(
        self,
        whole: Callable[[TrainingData], tuple[OutputMap, Cost]],
        known: tuple[OutputMap, Cost],
        options: FlowOptions,
        keeper: FlowKeeper | None,
    ) -> tuple[Any, Any, FlowOptions, Any]:
        """Output map, cost, options and keeper of the full batch of a training.

        ``whole`` makes map and cost of rows, and ``known`` are those of the known rows.

        Raises
        ------
        ValueError
            If a Gram is asked for of more rows than are known.
        """
        shared, solver = self.shared, solver_for(options.solver, known[0].n_outputs)
        self._alike("the full batch")
        if solver.matrix_free:
            own, cost = whole(self.data.take(self.trained))
            output_map = ShardedMap.of(own, shared.ranks)
            sharded = ShardedCost(cost, output_map.space, output_map.total_weight)
            of_ranks = None if keeper is None else KeeperOfRanks(keeper, output_map.space)
            # No matrix is made, however much memory there is.
            return output_map, sharded, replace(options, solver=solver.within(0)), of_ranks
        if not shared.complete:
            raise ValueError(
                "batch_size=None asks every rank for the Gram of all rows, and there are more than "
                f"{_KNOWN_ROWS} rows, or than {_KNOWN_BYTES} bytes of them; set batch_size='auto', "
                "or solver='krylov'"
            )
        return DividedMap.of(known[0], shared.ranks), known[1], options, keeper

    def _alike(self, way: str) -> None:
        """Hold all ranks to one way, which "auto" may choose by the memory of each.

        Raises
        ------
        ValueError
            If they differ.
        """
        ways = self.shared.ranks.objects(way)
        if len(set(ways)) > 1:
            told = " and in ".join(sorted(set(ways)))
            raise ValueError(
                f"the ranks of the process group would train in {told}, since some have more "
                "memory than others; set batch_size to None or a number"
            )

    def shown(
        self, trajectory: Trajectory, output_map: Any, known: tuple[OutputMap, Cost]
    ) -> tuple[Any, Cost]:
        """Map and cost of what is shown of a flow of the full batch that ended.

        Of vectors over ranks the record keeps the known rows, which all ranks then have.
        """
        self.ended(trajectory)
        if not isinstance(output_map, ShardedMap):
            return output_map, known[1]
        places, outputs = np.searchsorted(self.trained, self.known), trajectory.outputs
        for k, x in enumerate(outputs):
            values = output_map.unweigh(x)
            found = values.new_zeros((known[0].n_samples, known[0].n_outputs))
            found[self.shared.at] = values[places]
            outputs[k] = known[0].weigh(self.shared.ranks.sum(found))
        trajectory.end = None
        return known

    def in_blocks(
        self, table: TableRows, options: FlowOptions, blocks: BlockOptions
    ) -> tuple[BlocksOfRanks, FlowOptions, BlockOptions]:
        """The blocks of all ranks, and the options of a flow over them.

        The table has the rows of this rank.
        Of known rows that are kept apart each rank keeps those apart that it has.
        """
        self._alike("blocks")
        own = np.zeros(0, int)
        if blocks.apart is not None:
            own = np.sort(self.known[np.isin(self.shared.at, blocks.apart.numpy())])
        trained = np.setdiff1d(self.trained, own)
        source = BlocksOfRanks(table, self.shared.ranks, own, trained)
        return source, *source.options(options, blocks)


def validated(estimator: Any, *given: Any) -> tuple[Any, Any]:
    """The estimator, and the problem of a fit, to which ranks of a group bring rows of their own.

    The first is another where all ranks take the seed of one.
    """
    ranks = ranks_of(estimator)
    if ranks is None:
        return estimator, estimator._validate(*given)
    estimator = by_all(ranks, lambda: agreed(estimator, ranks))
    return estimator, joint_problem(estimator, ranks, *given)


# -- from the rows of each rank to a problem that all know -----------------------------------------


def joint_problem(estimator: Any, ranks: Ranks, X: Any, y: Any, weights: Any, *val: Any) -> Any:
    """The problem of a fit to which each rank brings rows.

    Raises
    ------
    ValueError
        If rows are not to be had on one of the ranks, or of a kind that no group can share.
    """
    rows, described = by_all(ranks, lambda: _checked(estimator, X, y, weights))
    rows = _weighed(rows, ranks)
    counts = ranks.counts(len(rows.y))
    rows_of_all = max(1, min(_KNOWN_ROWS, _KNOWN_BYTES // max(1, _bytes_of_a_row(rows))))
    complete = sum(counts) <= ranks.shared(rows_of_all)
    sampled = _sampled(rows, counts, ranks, rows_of_all, complete=complete)
    parts = ranks.objects((sampled, rows.take(sampled)))
    known = _joined([part for _, part in parts])
    if not complete and np.asarray(ranks.objects(bool(_has_gaps(known)))).any():
        raise ValueError(
            "X has gaps or categories, which over several ranks are read of all rows together, and "
            f"there are more than {rows_of_all}; encode X with a TableEncoder before"
        )
    return by_all(
        ranks,
        lambda: _told(estimator, ranks, rows, described, known, parts, val, sum(counts), complete),
    )


def _told(
    estimator: Any, ranks: Ranks, rows: Rows, described: dict[str, Any], known: Rows,
    parts: list[Any], val: tuple[Any, ...], total: int, complete: bool,
) -> Any:  # fmt: skip
    """The problem on the known rows, with what this rank has of it."""
    problem = estimator._validate(known.X, known.y, known.weights, *val)
    kept, held = np.arange(len(known.y)), np.zeros(0, int)
    if estimator.early_stopping and val[0] is None:
        labels = known.y if is_classifier(estimator) and known.y.ndim == 1 else None
        # The same call as that of the estimator, which draws the same rows.
        kept, held = hold_out(
            len(known.y), estimator.validation_fraction, estimator.random_state, labels
        )
    start = sum(len(part) for part, _ in parts[: ranks.rank])
    sampled = parts[ranks.rank][0]

    def own(places: np.ndarray) -> np.ndarray:
        """Which of some known rows are here."""
        return (places >= start) & (places < start + len(sampled))

    at = np.flatnonzero(own(kept))
    shared = SharedRows(
        ranks, rows, sampled[kept[at] - start], at, np.sort(sampled[held[own(held)] - start]),
        total - len(held), complete,
    )  # fmt: skip
    return replace(problem, described=described, shared=shared)


def _checked(estimator: Any, X: Any, y: Any, weights: Any) -> tuple[Rows, dict[str, Any]]:
    rows, described = estimator._checked(X, y, weights)
    if isinstance(rows.X, SparseRows):
        raise ValueError(
            "X is sparse, and ranks of a process group share dense rows; hand over X.toarray(), or "
            "set distributed=None"
        )
    if in_partitions(rows.X) is not None:
        raise ValueError(
            "X lies in partitions, which one process reads; hand each rank an array of its own, or "
            "set distributed=None"
        )
    if not isinstance(rows.X, np.ndarray):
        # Frames of one rank are not put below those of another: arrays are.
        array = np.asarray(rows.X)
        rows = replace(rows, X=array if array.dtype.kind not in "iub" else array.astype(float))
    given = None if weights is None else np.asarray(weights, dtype=np.float64)
    return replace(rows, weights=None if given is None else given[given > 0]), described


def _weighed(rows: Rows, ranks: Ranks) -> Rows:
    """Weights as `Rows.counted` makes them, of the rows of all ranks."""
    if ranks.all(rows.weights is None):
        return rows
    weights = np.ones(len(rows.y)) if rows.weights is None else rows.weights
    total, count = ranks.sums(float(weights.sum()), float(len(weights)))
    if total < count:
        shares = weights / ranks.largest(float(weights.max()))[0]
        weights = shares / (ranks.sums(float(shares.sum()))[0] / count)
    return replace(rows, weights=weights)


def _bytes_of_a_row(rows: Rows) -> int:
    return int(rows.X.shape[1] * rows.X.dtype.itemsize)


def _sampled(
    rows: Rows, counts: tuple[int, ...], ranks: Ranks, size: int, *, complete: bool
) -> np.ndarray:
    """Which rows of this rank all ranks know: all, or some from the first to the last.

    Those of a classifier have a row of each label that is here.
    """
    if complete:
        return np.arange(len(rows.y))
    found = few(len(rows.y), max(2, size * len(rows.y) // sum(counts)))
    if rows.y.ndim == 1 and rows.y.dtype.kind not in "fc":
        found = np.union1d(found, np.unique(rows.y, return_index=True)[1])
    return found


def _joined(parts: list[Rows]) -> Rows:
    weights = [part.weights for part in parts]
    return Rows(
        np.concatenate([part.X for part in parts]),
        np.concatenate([part.y for part in parts]),
        None if weights[0] is None else np.concatenate([w for w in weights if w is not None]),
        parts[0].sparse_labels,
    )


def _has_gaps(rows: Rows) -> bool:
    return rows.X.dtype.kind not in "f" or bool(np.isnan(rows.X).any())
