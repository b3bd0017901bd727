"""How many epochs a flow over blocks without a given end may take, alone or as one of several.

Rows held out end most flows before (`_stopping`). Notation: docs/notation.md.
"""

from __future__ import annotations

__all__ = ["affordable_epochs", "least_wait", "most_epochs", "share_of_epochs"]

# On 14 tables the best of 40 epochs was the 3rd to the 40th.
_MOST_EPOCHS = 40
# Of large tables as many epochs as make so many blocks, but these at least.
_MOST_BLOCKS, _LEAST_EPOCHS = 30_000, 6
# Several networks share so many epochs, each has these at least, and of few rows as many as bring
# it so many rows, up to two thirds of what a network alone may take: with 1,000 to 3,000 rows eight
# epochs were too few to learn from (docs/benchmarks/blocks_trials.md).
_SHARED_EPOCHS, _LEAST_SHARE, _ROWS_OF_A_SHARE = 24, 8, 40_000
# Rows held out are waited for as long as it takes to see so many rows, within these epochs: of 18
# flows of 3,000 to 5,000 rows, waiting for five in place of three spared one four fifths of its
# error and one 4 %, and cost one 1 % (docs/benchmarks/blocks_trials.md).
_ROWS_OF_A_WAIT, _SHORTEST_WAIT, _LONGEST_WAIT = 25_000, 3, 5


def affordable_epochs(n_samples: int, batch_rows: int) -> int:
    """How many make no more blocks than the largest tables take."""
    return _MOST_BLOCKS * batch_rows // n_samples


def share_of_epochs(n_samples: int, n_members: int) -> int:
    """How many are the share of each of several networks."""
    few_rows = min(_ROWS_OF_A_SHARE // n_samples, 2 * _MOST_EPOCHS // 3)
    return max(_SHARED_EPOCHS // n_members, _LEAST_SHARE, few_rows)


def most_epochs(n_samples: int, batch_rows: int, n_members: int) -> int:
    """How many a flow may take while rows held out gain."""
    most = min(max(affordable_epochs(n_samples, batch_rows), _LEAST_EPOCHS), _MOST_EPOCHS)
    if n_members == 1:
        return most
    return min(most, max(_MOST_EPOCHS // n_members, share_of_epochs(n_samples, n_members)))


def least_wait(n_samples: int) -> int:
    """For how many epochs rows held out are waited for, at least, in the flow of one network."""
    return min(max(_ROWS_OF_A_WAIT // n_samples, _SHORTEST_WAIT), _LONGEST_WAIT)
