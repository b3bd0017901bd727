"""What columns become where the user leaves it to us: encoded, and stretched how often.

Both depend on whether a flow without a given end is followed, which goes over many rows in blocks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sklearn_gflow.estimators._coding import CodedNumbers
from sklearn_gflow.estimators._encodings import AUTOMATIC
from sklearn_gflow.estimators._problem import Problem
from sklearn_gflow.estimators._rescaling import OF_OPEN_FLOWS

__all__ = ["DefaultColumns"]


class DefaultColumns:
    """How an estimator reads ``encoding="auto"`` and ``rescalings="auto"``."""

    def _encoded(self, problem: Problem) -> Problem:
        """The problem with functions of its columns beside them."""
        this: Any = self
        # Letters and the census lose by ramps what numbers gain (docs/benchmarks/blocks_trials.md).
        automatic = isinstance(this.encoding, str) and this.encoding == AUTOMATIC
        ramps = automatic and isinstance(problem.coding, CodedNumbers) and self._may_change(problem)
        if ramps:  # how often columns are stretched need not ask again
            problem = replace(problem, open_ended=this._open_ended(problem))
            ramps = bool(problem.open_ended)
        return problem.encoded(this.encoding, this._inputs_seed(), ramps=ramps)

    def _n_rescalings(self, problem: Problem) -> int:
        """How often columns are stretched."""
        this: Any = self
        if not isinstance(this.rescalings, str):
            return int(this.rescalings)
        usual = self._may_change(problem) and this._open_ended(problem)
        return OF_OPEN_FLOWS if usual else 0

    def _may_change(self, problem: Problem) -> bool:
        """Whether columns may become others by default.

        Not of a module, whose columns may be anything, nor of a network that is linear in them.
        """
        this: Any = self
        return this.module is None and this._is_bent() and not problem.chunk
